"""Check 21: splitting into heads, attention with several heads, and what is often done instead."""

import math

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal

# ------------------------------------------------ split_heads


def split_heads(x, *, heads):
    *texts, N, E = x.shape
    y, vjp = ops.reshape(x, shape=(*texts, N, heads, E // heads))
    front = tuple(range(len(texts)))
    y, back = ops.permute(y, axes=(*front, len(front) + 1, len(front), len(front) + 2))
    return y, lambda dy: vjp(back(dy))


def merge(y):
    *texts, H, N, d = y.shape
    return y.swapaxes(-3, -2).reshape(*texts, N, H * d)


@st.composite
def texts_and_heads(draw):
    texts = draw(st.sampled_from([(), (2,), (3,), (2, 3)]))
    heads, d = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return texts, draw(st.integers(1, 5)), heads, d


@st.composite
def wide(draw):
    texts, n, heads, d = draw(texts_and_heads())
    return Case(draw(normal((*texts, n, heads * d))), heads=heads)


def reshaped_only(x, *, heads):
    *texts, N, E = x.shape
    return x.reshape(*texts, heads, N, E // heads), lambda dy: dy.reshape(x.shape).copy()


def interleaved(x, *, heads):
    *texts, N, E = x.shape
    y = np.moveaxis(x.reshape(*texts, N, E // heads, heads), -1, -3)
    return y, lambda dy: np.moveaxis(dy, -3, -1).reshape(x.shape)


def along_the_text(x, *, heads):
    share = x.shape[-2] // heads
    parts = [x[..., h * share : (h + 1) * share, :] for h in range(heads)]

    def vjp(dy):
        dx = np.zeros_like(x)
        for h in range(heads):
            dx[..., h * share : (h + 1) * share, :] = dy[..., h, :, :]
        return dx

    return np.stack(parts, axis=-3), vjp


def the_same_part(x, *, heads):
    d = x.shape[-1] // heads

    def vjp(dy):
        dx = np.zeros_like(x)
        dx[..., :d] = dy.sum(axis=-3)
        return dx

    return np.stack([x[..., :d]] * heads, axis=-3), vjp


def not_exchanged(x, *, heads):
    y = x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)
    return y, lambda dy: dy.reshape(x.shape).copy()


def from_the_front(x, *, heads):
    y = x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).swapaxes(0, 1)
    return y, lambda dy: dy.swapaxes(0, 1).reshape(x.shape)


def reshaped_back(x, *, heads):
    y, _ = split_heads(x, heads=heads)
    return y, lambda dy: dy.reshape(x.shape).copy()


def not_merged(x, *, heads):
    y, _ = split_heads(x, heads=heads)
    return y, lambda dy: dy.swapaxes(-3, -2).copy()


SPLIT_MISTAKES = [
    Mistake(
        "reshaped only",
        reshaped_only,
        "the shape is right, but reshape moves no number: a head holds pieces of several words",
        "write 10 n + column for x[n, column], two words of four columns: what should head 1 hold?",
    ),
    Mistake(
        "interleaved",
        interleaved,
        "head h has columns h, h + H, h + 2H, ...: the heads share out the columns one by one",
        "head 0 has the first d columns: which of heads and d comes first when the axis is cut?",
    ),
    Mistake(
        "cut along the text",
        along_the_text,
        "the words are shared out among the heads, as D2 §3.5 does, instead of the columns",
        "each head sees every word; what it sees of a word is a part of its columns",
    ),
    Mistake(
        "the same part for all",
        the_same_part,
        "every head has the first d columns: the number of the head is not in the slice",
        "head h begins at column h d",
    ),
    Mistake(
        "axes not exchanged",
        not_exchanged,
        "the heads stand behind the words: [..., N, H, d]",
        "a product of matrices works on the last two axes, so these must be the words and d",
    ),
    Mistake(
        "axes counted from the front",
        from_the_front,
        "axes 0 and 1 are exchanged; with texts in front, these are the texts and the words",
        "count the axes from the end, where words and columns always stand",
    ),
    Mistake(
        "reshaped back only",
        reshaped_back,
        "backward reshapes without exchanging the axes first, so numbers come back to other words",
        "undo forward's steps in the opposite order: first the exchange, then the cut",
    ),
    Mistake(
        "not merged in backward",
        not_merged,
        "dx still has an axis of heads; it should have the shape of x",
        "forward cut one axis into two: backward joins these two again",
    ),
]

SPLIT_HINTS = (
    """Write down the shape after each step. There are two: cut one axis into two, and bring the
heads in front of the words.""",
    """reshape to [..., N, H, d] puts neighboring columns into one head. swapaxes(-3, -2) exchanges
words and heads. Backward does the opposite steps in the opposite order.""",
    """y = x.reshape(*texts, N, heads, E // heads).swapaxes(-3, -2), and
dx = dy.swapaxes(-3, -2).reshape(x.shape).""",
)

# ------------------------------------------------ multi_head


def rows(a):
    return a.reshape(-1, a.shape[-1])


def reference(x, wq, wk, wv, wo, *, heads, causal=False):
    """Made of the library's ops."""
    (q, to_q), (k, to_k), (v, to_v) = (ops.linear(x, w) for w in (wq, wk, wv))
    split = [split_heads(a, heads=heads) for a in (q, k, v)]
    Y, attention_vjp = ops.attention(*(y for y, _ in split), causal=causal)
    y, to_out = ops.linear(merge(Y), wo)

    def vjp(dy):
        dM, dwo, _ = to_out(dy)
        d = attention_vjp(split_heads(dM, heads=heads)[0])
        d = [back(g) for (_, back), g in zip(split, d, strict=True)]
        (dxq, dwq, _), (dxk, dwk, _), (dxv, dwv, _) = (
            f(g) for f, g in zip((to_q, to_k, to_v), d, strict=True)
        )
        return dxq + dxk + dxv, dwq, dwk, dwv, dwo

    return y, vjp


@st.composite
def inputs(draw):
    texts, n, heads, d = draw(texts_and_heads())
    c, out = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    e = heads * d
    shapes = [(*texts, n, c), (e, c), (e, c), (e, c), (out, e)]
    return Case(*(draw(normal(s)) for s in shapes), heads=heads, causal=draw(st.booleans()))


def made(seed, *shapes, **options):
    rng = np.random.default_rng(seed)
    return Case(*(rng.standard_normal(shape) for shape in shapes), **options)


WORDS = np.array([[2.0, 1.0], [1.0, -1.0]])
FAR = np.array([[100.0, 0.0], [0.0, -100.0], [70.0, 70.0]])  # scores up to 10,000
ALSO = [
    Case(WORDS, np.eye(2), np.eye(2), np.eye(2), np.eye(2), heads=2),
    made(0, (3, 4), (6, 4), (6, 4), (6, 4), (5, 6), heads=2),
    made(1, (2, 4, 6), (6, 6), (6, 6), (6, 6), (6, 6), heads=3),
    made(2, (2, 3, 4), (6, 4), (6, 4), (6, 4), (4, 6), heads=2, causal=True),
    made(3, (2, 2, 3, 4), (8, 4), (8, 4), (8, 4), (3, 8), heads=4, causal=True),
    made(4, (3, 4), (4, 4), (4, 4), (4, 4), (4, 4), heads=2),
    Case(FAR, np.eye(2), np.eye(2), np.eye(2), np.eye(2), heads=2),
]


def softmax(S, axis=-1):
    E = np.exp(S - S.max(axis=axis, keepdims=True))
    return E / E.sum(axis=axis, keepdims=True)


def through(A, dA, axis=-1):
    return A * (dA - (dA * A).sum(axis=axis, keepdims=True))


def flat_products(d, x):
    return rows(d).T @ rows(x)


def wrong(
    *,
    split=split_heads,
    join=merge,
    split_back=split_heads,
    join_back=merge,
    scale=lambda q, heads: 1 / math.sqrt(q.shape[-1]),
    weigh=softmax,
    hide=True,
    weights=lambda wq, wk, wv: (wq, wk, wv),
    project=lambda M, wo: M @ wo.T,
    out_back=lambda dy, wo: dy @ wo,
    product=flat_products,
    to_x=lambda dq, dk, dv, wq, wk, wv: dq @ wq + dk @ wk + dv @ wv,
    axis=-1,
    dwo=True,
):
    """Multi-head attention with one of its steps replaced."""

    def multi_head(x, wq, wk, wv, wo, *, heads, causal=False):
        q, k, v = (split(x @ w.T, heads=heads)[0] for w in weights(wq, wk, wv))
        s = scale(q, heads)
        S = s * (q @ k.swapaxes(-2, -1))
        if causal and hide:
            S = np.where(np.tri(x.shape[-2], dtype=bool), S, -np.inf)
        A = weigh(S, axis=axis)
        M = join(A @ v)
        y = project(M, wo)

        def vjp(dy):
            dY, _ = split_back(out_back(dy, wo), heads=heads)
            dS = through(A, dY @ v.swapaxes(-2, -1), axis=axis)
            dq = join_back(s * (dS @ k))
            dk = join_back(s * (dS.swapaxes(-2, -1) @ q))
            dv = join_back(A.swapaxes(-2, -1) @ dY)
            used = weights(wq, wk, wv)
            dw = weights(*(product(d, x) for d in weights(dq, dk, dv)))
            dx = to_x(*(d for d in (dq, dk, dv)), *used)
            return dx, *dw, product(dy, M) if dwo else np.zeros_like(wo)

        return y, vjp

    return multi_head


def no_maximum(S, axis):
    E = np.exp(S)
    return E / E.sum(axis=axis, keepdims=True)


def side_by_side_reshaped(y):
    *texts, H, N, d = y.shape
    return y.reshape(*texts, N, H * d)


def first_part(x, *, heads):
    return the_same_part(x, heads=heads)


def first_part_back(y):
    *texts, H, N, d = y.shape
    out = np.zeros((*texts, N, H * d), y.dtype)
    out[..., :d] = y.sum(axis=-3)
    return out


def per_text(d, x):
    return d.swapaxes(-2, -1) @ x


MISTAKES = [
    Mistake(
        "scale of the whole width",
        wrong(scale=lambda q, heads: 1 / math.sqrt(q.shape[-1] * heads)),
        "the scores are divided by √E, the root of all columns; a head's dot product has d terms",
        "take the scale from the shape of q after it was split",
    ),
    Mistake(
        "no scale",
        wrong(scale=lambda q, heads: 1.0),
        "the scores are bare dot products: the 1/√d of lesson 19 is missing, as in D2 §3.5",
        "each head is an attention of lesson 19, its scale included",
    ),
    Mistake(
        "split by reshape",
        wrong(
            split=lambda x, *, heads: reshaped_only(x, heads=heads),
            join_back=side_by_side_reshaped,
        ),
        "q, k and v are reshaped into heads without an exchange of axes: words are mixed up",
        "use your split_heads",
    ),
    Mistake(
        "merged by reshape",
        wrong(
            join=side_by_side_reshaped,
            split_back=lambda x, *, heads: reshaped_only(x, heads=heads),
        ),
        "the heads are joined by a reshape alone, so a row of the result holds several words",
        "first bring the words in front of the heads again, then join heads and columns",
    ),
    Mistake(
        "every head sees the first part",
        wrong(split=first_part, join_back=first_part_back),
        "all heads have the same q, k and v, those of the first part (D2 §3.5 cuts so)",
        "print q[0] and q[1]: they should differ",
    ),
    Mistake(
        "softmax over the heads",
        wrong(axis=-3),
        "for each pair of words the weights of all heads sum to 1; each head should sum to 1 alone",
        "a head shares itself out among the words it looks at: which axis are they?",
    ),
    Mistake(
        "softmax over the queries",
        wrong(axis=-2),
        "the columns of the weights sum to 1; a word should share itself out among the others",
        "the softmax goes along the keys, the last axis of S",
    ),
    Mistake(
        "no maximum",
        wrong(weigh=no_maximum),
        "exp overflows on large scores, and inf / inf is NaN",
        "what may be taken off a whole row without changing its softmax (lesson 05)?",
    ),
    Mistake(
        "causal ignored",
        wrong(hide=False),
        "with causal=True the words still see what comes after them",
        "every head needs the mask of lesson 20; it broadcasts over heads and texts",
    ),
    Mistake(
        "keys and values exchanged",
        wrong(weights=lambda wq, wk, wv: (wq, wv, wk)),
        "wk makes the values and wv the keys",
        "look at the order of the arguments: wq, wk, wv",
    ),
    Mistake(
        "output projection forgotten",
        wrong(project=lambda M, wo: M.copy(), out_back=lambda dy, wo: dy, dwo=False),
        "the heads are put side by side, and wo is not used: no head hears of another",
        "one line is missing after the heads are joined",
    ),
    Mistake(
        "output projection skipped in backward",
        wrong(out_back=lambda dy, wo: dy),
        "dy goes to the heads as if wo did not stand between",
        "the last line of forward is the first of backward: y = M woᵀ gives dM = dy wo",
    ),
    Mistake(
        "only the queries reach x",
        wrong(to_x=lambda dq, dk, dv, wq, wk, wv: dq @ wq),
        "dx is what comes back through the queries; x has made keys and values too",
        "x is used three times in forward: add up three gradients",
    ),
    Mistake(
        "weight gradients transposed",
        wrong(product=lambda d, x: rows(x).T @ rows(d)),
        "the gradients of the weights are [C, E]; the weights are [E, C]",
        "write dw[e, c] as a sum over words, and look which factor has the index e",
    ),
    Mistake(
        "weight gradients text by text",
        wrong(product=per_text),
        "with several texts the gradients of the weights have an axis of texts left",
        "all words of all texts use the same weights: over what must their gradient be added up?",
    ),
    Mistake(
        "gradients merged by reshape",
        wrong(join_back=side_by_side_reshaped),
        "forward is right; backward joins the heads of dq, dk, dv without exchanging axes",
        "backward of split_heads is its vjp: exchange the axes, then reshape",
    ),
]

HINTS = (
    """Three linear layers of lesson 04, split_heads three times, lesson 19 as it stands (`...` for
texts and heads), then join the heads, and one more linear layer.""",
    """Split q, k and v to [..., H, N, d]; attention with swapaxes(-2, -1) and axis=-1 then does all
heads at once. Joining is split_heads backward. In vjp: dM = dy wo, split dM into heads, go through
the attention, join dq, dk, dv, and each goes on to x and to its own weight.""",
    """dx = dq wq + dk wk + dv wv. For the weights flatten all words into rows with
rows(a) = a.reshape(-1, a.shape[-1]): dwq = rows(dq)ᵀ rows(x), and dwo = rows(dy)ᵀ rows(M). The
scale is 1 / math.sqrt(q.shape[-1]) after the split, and a factor of dq and dk too.""",
)

EXERCISES = [
    Exercise(
        name="split_heads",
        reference=split_heads,
        inputs=wide(),
        also=[
            made(0, (3, 4), heads=2),
            made(1, (2, 3, 6), heads=3),
            made(2, (2, 4, 4), heads=2),
            made(3, (6, 6), heads=3),
            made(4, (2, 2, 3, 6), heads=2),
        ],
        mistakes=SPLIT_MISTAKES,
        hints=SPLIT_HINTS,
    ),
    Exercise(
        name="multi_head",
        reference=reference,
        inputs=inputs(),
        also=ALSO,
        examples=25,
        mistakes=MISTAKES,
        hints=HINTS,
    ),
]
