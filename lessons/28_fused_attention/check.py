"""Check 28: the softmax in one pass, attention in tiles, and what goes wrong at their borders."""

import math
import tracemalloc

import numpy as np
from hypothesis import strategies as st

from scratchlm.lessons import Case, Exercise, Mistake, normal

NOTHING = -np.inf


def origin(m):
    """What to subtract in a row: its maximum, or 0 if it has seen nothing."""
    return np.where(m == NOTHING, 0.0, m)


# ---------------------------------------------------------------- one step of the softmax


def fold(update, *blocks):
    """Give the blocks to ``update`` one after the other, and look at every state."""
    m, l = np.full(blocks[0].shape[:-1], NOTHING), np.zeros(blocks[0].shape[:-1])
    seen = {}
    for number, x in enumerate(blocks, 1):
        given = m.copy(), l.copy(), x.copy()
        m_new, l_new = update(*given)
        seen[f"m after block {number}"] = np.asarray(m_new)
        seen[f"l after block {number}"] = np.asarray(l_new)
        same = all(np.array_equal(a, b) for a, b in zip(given, (m, l, x), strict=True))
        seen[f"m, l and x after call {number}"] = "as they were" if same else "changed"
        m, l = np.array(m_new), np.array(l_new)
    return seen


def step(
    *,
    top=lambda m, x: np.maximum(m, x.max(axis=-1)),
    base=origin,
    total=lambda m, l, x, base: l * np.exp(m - base) + np.exp(x - base[..., None]).sum(axis=-1),
):
    """One step with a part of it replaced."""

    def online_softmax(m, l, x):
        m_new = top(m, x)
        return m_new, total(m, l, x, base(m_new))

    return online_softmax


def block_after_block(block_1, block_2, block_3, block_4=None):
    """The reference, its arguments called as in a message: ``fold`` gives it m, l and x."""
    return step()(block_1, block_2, block_3)


def block_sum(x, base):
    return np.exp(x - base[..., None]).sum(axis=-1)


@st.composite
def blocks(draw):
    rows = draw(st.sampled_from([(2,), (3,), (2, 3)]))
    widths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    return Case(*(draw(normal((*rows, width), 3.0)) for width in widths))


BY_HAND = np.array([[1.0, 2, 3], [2, 0, 1]])
BLOCKS = [
    Case(BY_HAND[:, :2], BY_HAND[:, 2:]),
    Case(np.array([[1.0, 5], [4, 2]]), np.array([[9.0, 0], [1, 3]]), np.array([[2.0], [8]])),
    Case(np.full((2, 2), NOTHING), np.array([[NOTHING, 1.0], [NOTHING, NOTHING]])),
    Case(np.array([[1e4, 0.0], [-1e4, -2e4]]), np.array([[2e4], [-3e4]])),
    Case(np.sin(np.arange(24.0)).reshape(2, 4, 3), np.cos(np.arange(16.0)).reshape(2, 4, 2)),
]

STEP_MISTAKES = [
    Mistake(
        "sum not rescaled",
        step(total=lambda m, l, x, base: l + block_sum(x, base)),
        "the old l was counted from the old maximum, and it is added as if that had not risen",
        "write exp(s - m_old) as exp(s - m_new) times something: that something is what l lacks",
    ),
    Mistake(
        "wrong sign",
        step(total=lambda m, l, x, base: l * np.exp(base - m) + block_sum(x, base)),
        "the factor for the old sum is above 1: it grows when the maximum rises",
        "seen from a higher maximum every old term is smaller; which sign makes it so?",
    ),
    Mistake(
        "new block from the old maximum",
        step(total=lambda m, l, x, base: l * np.exp(m - base) + block_sum(x, origin(m))),
        "the new block is measured from the old maximum, so its exp may be far above 1",
        "first find the new maximum, then measure everything from it, old and new",
    ),
    Mistake(
        "block's own maximum",
        step(top=lambda m, x: x.max(axis=-1)),
        "m is the maximum of the last block alone: an earlier, larger score is forgotten",
        "compare the block's maximum with the m that came in",
    ),
    Mistake(
        "new block rescaled too",
        step(total=lambda m, l, x, base: (l + block_sum(x, base)) * np.exp(m - base)),
        "old sum and new block both get the factor, but the block is measured from the new maximum",
        "the factor is for what was measured from the old maximum, and for nothing else",
    ),
    Mistake(
        "one maximum for all rows",
        step(top=lambda m, x: np.maximum(m, x.max())),
        "all rows get the same maximum: each row is a softmax of its own",
        "along which axis do the scores of one row lie?",
    ),
    Mistake(
        "minus infinity from itself",
        step(base=lambda m: m),
        "a row that has seen only -inf gives -inf - -inf, which is NaN and never goes away",
        "where the maximum is -inf, subtract 0 in its place: exp(-inf - 0) is the 0 you want",
    ),
    Mistake(
        "old sum dropped",
        step(total=lambda m, l, x, base: block_sum(x, base)),
        "l is the sum over the last block alone",
        "what came in as l belongs to the sum; by which factor?",
    ),
]

STEP_HINTS = (
    """Find the new maximum first. Then ask of each old term exp(s - m_old): what must it be
multiplied by to become exp(s - m_new)?""",
    """The factor is the same for all old terms of a row, so it can be applied to their sum.
The block's own terms are measured from the new maximum at once. Try a row of -inf last.""",
    """l_new = l * exp(m - m_new) + sum of exp(x - m_new), with m_new = maximum(m, max of x). Where
m_new is -inf, use 0 in its place inside both exponentials.""",
)


# ---------------------------------------------------------------- attention in tiles


def visible(i, j, N, M):
    """The last query stands at the last key."""
    return j <= i + (M - N)


def in_one_piece(q, k, v, *, block, causal=False):
    """The reference: all scores at once, as the formula has them."""
    N, M = q.shape[-2], k.shape[-2]
    s = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    if causal:
        s = np.where(visible(np.arange(N)[:, None], np.arange(M), N, M), s, NOTHING)
    m = s.max(axis=-1)
    p = np.exp(s - origin(m)[..., None])
    l = p.sum(axis=-1)
    total = np.where(l > 0, l, 1.0)
    return p @ v / total[..., None], m + np.log(total)


def tiles(
    *,
    scale=lambda d: 1 / math.sqrt(d),
    start=NOTHING,
    last=lambda M, block: M,
    end=lambda q1, N, M: q1 + M - N,
    sees=visible,
    top=np.maximum,
    base=origin,
    shrink_sum=lambda m, base: np.exp(m - base),
    shrink_acc=None,
    each_tile=lambda acc, l: (acc, l),
    finish=lambda acc, l: acc / l[..., None],
    lse=lambda m, l: m + np.log(l),
):
    """Attention in tiles with a part of it replaced."""

    def flash_forward(q, k, v, *, block, causal=False):
        N, M, factor = q.shape[-2], k.shape[-2], scale(q.shape[-1])
        outs, sums = [], []
        for q0 in range(0, N, block):
            q1 = min(q0 + block, N)
            m = np.full((*q.shape[:-2], q1 - q0), start)
            l, acc = np.zeros_like(m), np.zeros((*m.shape, v.shape[-1]))
            stop = last(M, block)
            if causal:
                stop = min(stop, end(q1, N, M))
            for k0 in range(0, stop, block):
                k1 = min(k0 + block, M)
                s = factor * (q[..., q0:q1, :] @ k[..., k0:k1, :].swapaxes(-1, -2))
                if causal:
                    i, j = np.arange(q0, q1)[:, None], np.arange(k0, k1)
                    s = np.where(sees(i, j, N, M), s, NOTHING)
                m_new = top(m, s.max(axis=-1))
                zero = base(m_new)
                p = np.exp(s - zero[..., None])
                l = l * shrink_sum(m, zero) + p.sum(axis=-1)
                acc = acc * (shrink_acc or shrink_sum)(m, zero)[..., None]
                acc, l = each_tile(acc + p @ v[..., k0:k1, :], l)
                m = m_new
            total = np.where(l == 0, 1.0, l)
            outs.append(finish(acc, total))
            sums.append(lse(m, total))
        return np.concatenate(outs, axis=-2), np.concatenate(sums, axis=-1)

    return flash_forward


def ones(m, base):
    return np.ones_like(m)


def growing(m, base):
    return np.where(m == NOTHING, 1.0, np.exp(base - m))


def padded_keys_counted(q, k, v, *, block, causal=False):
    """Keys and values filled up with zeros to whole tiles, and none of them hidden."""
    more = -k.shape[-2] % block
    if causal:  # there the zeros lie in the future, and are hidden by chance
        return in_one_piece(q, k, v, block=block, causal=causal)
    room = [(0, 0)] * (k.ndim - 2) + [(0, more), (0, 0)]
    return in_one_piece(q, np.pad(k, room), np.pad(v, room), block=block)


def divided_each_time(q, k, v, *, block, causal=False):
    return tiles(
        each_tile=lambda acc, l: (acc / np.where(l > 0, l, 1.0)[..., None], l),
        finish=lambda acc, l: acc,
    )(q, k, v, block=block, causal=causal)


def diagonal_skipped(q, k, v, *, block, causal=False):
    """The loop over keys stops before the first tile that holds a hidden key."""

    def whole_tiles(q1, N, M):
        first = (q1 - 1) // block * block + M - N  # the last key that the tile's first row sees
        return max(0, (first + 1) // block * block)

    if not causal:
        return tiles()(q, k, v, block=block)
    return tiles(end=whole_tiles)(q, k, v, block=block, causal=True)


def observe(f, q, k, v, **options):
    """out, lse, the inputs afterwards; and for long inputs, how much memory it took."""
    room = 8 * q.shape[-2] * k.shape[-2] // 2  # bytes: half of the N x M scores
    long = room >= 2**20
    given = [x.copy() for x in (q, k, v)]
    if long:
        already = tracemalloc.is_tracing()
        if not already:
            tracemalloc.start()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
    try:
        out, lse = f(*given, **options)
        if long:
            peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        if long and not already:
            tracemalloc.stop()
    seen = {"out": np.asarray(out), "lse": np.asarray(lse)}
    same = all(np.array_equal(a, b) for a, b in zip(given, (q, k, v), strict=True))
    seen["q, k and v after the call"] = "as they were" if same else "changed"
    if long:
        seen["the scores held at once"] = "a part" if peak < room else "as many as N x M"
    return seen


def reference(q, k, v, *, block, causal=False):
    return tiles()(q, k, v, block=block, causal=causal)


@st.composite
def inputs(draw):
    batch = draw(st.sampled_from([(), (), (2,), (2, 3)]))
    n, m, d, e = (draw(st.integers(1, 9)), *(draw(st.integers(1, high)) for high in (9, 4, 3)))
    q, k, v = (draw(normal((*batch, *shape), 1.5)) for shape in [(n, d), (m, d), (m, e)])
    return Case(q, k, v, block=draw(st.integers(1, 4)), causal=draw(st.booleans()))


def made(seed, *shapes, factor=1.0, **options):
    rng = np.random.default_rng(seed)
    return Case(*(factor * rng.standard_normal(shape) for shape in shapes), **options)


def far_below(causal):
    """Every score is -2,000 or less."""
    q, k = np.full((5, 4), 40.0), np.full((5, 4), -25.0) - np.arange(5)[:, None] / 10
    return Case(q, k, np.arange(10.0).reshape(5, 2), block=2, causal=causal)


ALSO = [
    made(0, (4, 4), (4, 4), (4, 2), block=2),
    made(1, (5, 4), (7, 4), (7, 3), block=3),
    made(2, (6, 3), (6, 3), (6, 2), block=2, causal=True),
    made(3, (7, 3), (7, 3), (7, 2), block=3, causal=True),
    made(4, (3, 2), (8, 2), (8, 2), block=3, causal=True),  # new queries beside a cache
    made(5, (8, 2), (3, 2), (3, 2), block=2, causal=True),  # the first queries see nothing
    made(9, (3, 2), (3, 2), (3, 2), block=1, causal=True),
    made(6, (2, 3, 5, 4), (2, 3, 5, 4), (2, 3, 5, 2), block=2, causal=True),
    made(7, (5, 4), (6, 4), (6, 2), factor=40.0, block=2),
    far_below(False),
    far_below(True),
    made(8, (512, 4), (512, 4), (512, 3), block=32),
]

TILE_MISTAKES = [
    Mistake(
        "sum not rescaled",
        tiles(shrink_sum=ones, shrink_acc=lambda m, base: np.exp(m - base)),
        "the maximum rises and the accumulator follows it, but the sum l does not",
        "l and the accumulator are sums of the same exponentials: what one gets, the other needs",
    ),
    Mistake(
        "accumulator not rescaled",
        tiles(shrink_acc=ones),
        "the maximum rises and l follows it, but the accumulated values do not (lse is right)",
        "the accumulator is a sum of exp(s - m) v: it was measured from the old m, like l",
    ),
    Mistake(
        "neither rescaled",
        tiles(shrink_sum=ones),
        "when a later tile raises the maximum, what was summed before keeps its old measure",
        "multiply the old sum and the old accumulator by exp(m_old - m_new)",
    ),
    Mistake(
        "wrong sign",
        tiles(shrink_sum=growing),
        "the old sums are multiplied by exp(m_new - m_old), which is above 1: they should shrink",
        "exp(s - m_new) = exp(s - m_old) · exp(?)",
    ),
    Mistake(
        "maximum starts at 0",
        tiles(start=0.0),
        "m starts at 0, so it is never below 0: where all scores are far below, all exp are 0",
        "which number is smaller than every score?",
    ),
    Mistake(
        "minus infinity from itself",
        tiles(base=lambda m: m),
        "a query that has seen no key yet has -inf - -inf in its exponent, which is NaN",
        "where the maximum is still -inf, subtract 0 in its place",
    ),
    Mistake(
        "maximum of the tile alone",
        tiles(top=lambda m, high: high),
        "m is the last tile's maximum; an earlier one may be higher, and then exp can overflow",
        "take the larger of the old m and the tile's",
    ),
    Mistake(
        "last tile forgotten",
        tiles(last=lambda M, block: M // block * block),
        "the keys after the last whole tile are never looked at",
        "count the tiles of 7 keys at block=3, then print k0 in your loop",
    ),
    Mistake(
        "padded keys counted",
        padded_keys_counted,
        "the zeros that fill up the last tile count as keys: their score is 0, but exp(0) is 1",
        "set the scores beyond the last key to -inf, or cut the last tile short",
    ),
    Mistake(
        "lse is l",
        tiles(lse=lambda m, l: l),
        "lse is the bare sum l: without m nobody knows what it was measured from",
        "ln of a sum of exp(s), where you have the sum of exp(s - m): what is missing?",
    ),
    Mistake(
        "lse without the maximum",
        tiles(lse=lambda m, l: np.log(l)),
        "lse is ln l: the maximum that was taken off the scores is not added again",
        "sum of exp(s) = exp(m) · l; now take the logarithm",
    ),
    Mistake(
        "lse in base 2",
        tiles(lse=lambda m, l: m + np.log2(l)),
        "the logarithm is to base 2, but backward will take exp of it",
        "np.log is the natural one",
    ),
    Mistake(
        "own key not seen",
        tiles(sees=lambda i, j, N, M: j < i + (M - N)),
        "with causal=True a query does not see the key at its own place",
        "which key may the first of several queries see?",
    ),
    Mistake(
        "one key of the future",
        tiles(sees=lambda i, j, N, M: j <= i + 1 + (M - N), end=lambda q1, N, M: q1 + 1 + M - N),
        "with causal=True a query sees the next key too",
        "write down i and the last j it may see, for i = 0 and N = M",
    ),
    Mistake(
        "loop ends one key early",
        tiles(end=lambda q1, N, M: q1 - 1 + M - N),
        "the loop over keys stops at the last query's own key; the end of a range is not in it",
        "with block=1, which tiles does range(0, q1 - 1, 1) visit for the first query?",
    ),
    Mistake(
        "diagonal tile skipped",
        diagonal_skipped,
        "only tiles that lie wholly in the past are looked at: queries miss their nearest keys",
        "a tile on the border is computed too, with a mask; skip it only if no row sees any of it",
    ),
    Mistake(
        "first keys aligned",
        tiles(sees=lambda i, j, N, M: j <= i, end=lambda q1, N, M: q1),
        "query i sees keys up to i; but the last query should stand at the last key",
        "with 3 queries and 8 keys, which key is the last query's own?",
    ),
    Mistake(
        "causal ignored",
        tiles(sees=lambda i, j, N, M: j <= j, end=lambda q1, N, M: M),
        "with causal=True the queries still see all that comes after them",
        "inside a tile, i and j must be counted from the start of the text, not of the tile",
    ),
    Mistake(
        "places counted inside the tile",
        tiles(sees=lambda i, j, N, M: (j - j[0]) <= (i - i[0])),
        "i and j are counted inside the tile: every tile gets a triangle, not only the diagonal",
        "add the tile's start to the index of row and column",
    ),
    Mistake(
        "no scale",
        tiles(scale=lambda d: 1.0),
        "the scores are the bare dot products",
        "divide by the root of the length of a query (lesson 19)",
    ),
    Mistake(
        "divided at every tile",
        divided_each_time,
        "the accumulator is divided by l after each tile, so earlier tiles are divided many times",
        "keep it unnormalised until the last tile; or undo the former division first",
    ),
    Mistake(
        "never divided",
        tiles(finish=lambda acc, l: acc),
        "out is the sum of exp(s - m) v; nothing has made the weights sum to 1",
        "what is l for?",
    ),
    Mistake(
        "all scores at once",
        in_one_piece,
        "the values are right, but an array of all N x M scores is made: that is lesson 19 again",
        "loop over tiles of keys, and keep m, l and the accumulator from one to the next",
    ),
]

TILE_HINTS = (
    """Two loops: over tiles of queries, and inside over tiles of keys. Three things live from one
tile of keys to the next. Two of them you know from online_softmax.""",
    """The third is acc, the sum of exp(s - m) v, shaped [..., rows, e]. It shrinks by the same
factor as l. Divide it by l after the last tile. For causal, compare j <= i + (M - N) with places
counted from the start of the text.""",
    """For each tile: s = scale · q_tile k_tileᵀ, hide, m_new = maximum(m, max s),
shrink = exp(m - m_new), p = exp(s - m_new), l = shrink l + sum p, acc = shrink acc + p v_tile.
At the end out = acc / l and lse = m + ln l. Use 0 for an m_new of -inf, and 1 for an l of 0.""",
)

EXERCISES = [
    Exercise(
        name="online_softmax",
        reference=block_after_block,
        inputs=blocks(),
        also=BLOCKS,
        contract=fold,
        mistakes=STEP_MISTAKES,
        hints=STEP_HINTS,
    ),
    Exercise(
        name="flash_forward",
        reference=reference,
        inputs=inputs(),
        also=ALSO,
        contract=observe,
        mistakes=TILE_MISTAKES,
        hints=TILE_HINTS,
    ),
]
