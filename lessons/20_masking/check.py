"""Check 20: attention under masks of every shape, and what is often done instead."""

import math

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal


@st.composite
def masks(draw, batch, n, m):
    """None, or a mask of one of the shapes that broadcast to [*batch, n, m]."""
    shapes = [None, (m,), (1, m), (n, 1), (n, m)]
    if batch:
        shapes += [(*batch, n, m), (batch[0], *(1 for _ in batch[1:]), 1, m)]
    shape = draw(st.sampled_from(shapes))
    if shape is None:
        return None
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.random(shape) < 0.65


@st.composite
def inputs(draw):
    batch = draw(st.sampled_from([(), (), (6,), (2, 3)]))
    n, d, e = (draw(st.integers(1, 5)) for _ in range(3))
    m = draw(st.integers(2, 5))  # one visible key alone has the weight 1, whatever the scores
    mask = draw(masks(batch, n, m))
    q, k, v = (draw(normal((*batch, *shape))) for shape in [(n, d), (m, d), (m, e)])
    return Case(q, k, v, mask=mask, causal=draw(st.booleans()))


def made(seed, *shapes, factor=1.0, **options):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal(shape) for shape in shapes)
    return Case(factor * q, k, v, **options)


PADDED = np.array([True, True, True, False])
TEXTS = np.array([[True, True, True, False], [True, True, False, False]])[:, None, None, :]
HOLES = np.array([[True, False, True], [False, True, True], [True, True, False]])
UNSEEN = np.array([[True, False, True], [False, False, False], [True, True, False]])
# the hidden key has by far the largest score: 20,000 above the visible ones
TEMPTING = Case(
    np.array([[100.0, 0.0], [0.0, 100.0]]),
    np.array([[1.0, 1.0], [0.5, 2.0], [300.0, 300.0]]),
    np.array([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]),
    mask=np.array([True, True, False]),
)
FAR = np.array([[100.0, 0.0], [0.0, -100.0], [70.0, 70.0]])
LARGE = Case(np.array([[-100.0, 0.0], [0.01, 0.02], [100.0, 0.0]]), FAR, FAR, causal=True)
ALSO = [
    made(0, (3, 4), (3, 4), (3, 2)),
    made(1, (3, 4), (3, 4), (3, 2), causal=True),
    made(2, (3, 4), (3, 4), (3, 2), mask=HOLES),
    made(3, (3, 4), (4, 4), (4, 2), mask=PADDED),
    made(4, (2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 3), mask=TEXTS, causal=True),
    made(5, (2, 4), (5, 4), (5, 2), causal=True),  # two new queries, three keys in the cache
    made(6, (1, 4), (5, 4), (5, 2), causal=True),
    made(7, (4, 2), (2, 2), (2, 3), causal=True),  # the first two queries see nothing
    made(8, (3, 4), (3, 4), (3, 2), mask=UNSEEN),
    made(9, (3, 3), (3, 3), (3, 3), mask=HOLES, causal=True),
    TEMPTING,
    LARGE,  # and rows of very different scores
]


# ------------------------------------------------ the right steps, each of which a mistake replaces


def turned(x):
    return x.swapaxes(-1, -2)


def triangle(n, m):
    return np.tri(n, m, m - n, dtype=bool)


def both(mask, causal, n, m):
    visible = np.ones((n, m), dtype=bool)
    if mask is not None:
        visible = visible & mask
    if causal:
        visible = visible & triangle(n, m)
    return visible


def to_minus_infinity(S, visible):
    return np.where(visible, S, -np.inf)


def softmax(S, visible=None):
    top = S.max(axis=-1, keepdims=True)
    E = np.exp(S - np.where(top == -np.inf, 0, top))
    total = E.sum(axis=-1, keepdims=True)
    return E / np.where(total == 0, 1, total)


def through_softmax(A, dA, S=None, visible=None):
    return A * (dA - (dA * A).sum(axis=-1, keepdims=True))


def wrong(
    *,
    see=both,
    hide=to_minus_infinity,
    weigh=softmax,
    dS=through_softmax,
    values=lambda v, mask: v,
):
    """Attention under a mask with one of its steps replaced."""

    def attention(q, k, v, *, mask=None, causal=False):
        s = 1 / math.sqrt(q.shape[-1])
        S = s * (q @ turned(k))
        visible = see(mask, causal, *S.shape[-2:])
        A = weigh(hide(S, visible), visible)
        used = values(v, mask)
        y = A @ used

        def vjp(dy):
            g = dS(A, dy @ turned(used), S, visible)
            return s * (g @ k), s * (turned(g) @ q), values(turned(A) @ dy, mask)

        return y, vjp

    return attention


def causal_by(shape):
    """See as ``both`` does, with another triangle."""

    def see(mask, causal, n, m):
        visible = both(mask, False, n, m)
        return visible & shape(n, m) if causal else visible

    return see


def inverted(mask, causal, n, m):
    return both(None if mask is None else ~mask, causal, n, m)


def along_queries(mask, causal, n, m):
    if mask is not None:
        mask = mask[:, None] if mask.ndim == 1 else turned(mask)
    return both(mask, causal, n, m)


def one_of_them(mask, causal, n, m):
    return triangle(n, m) if causal else both(mask, False, n, m)


def either(mask, causal, n, m):
    if mask is None or not causal:
        return both(mask, causal, n, m)
    return mask | triangle(n, m)


def finite(S, visible, number):
    return np.where(visible, S.dtype.type(0), S.dtype.type(number))


def struck_out(S, visible):
    return softmax(S) * visible


def struck_out_and_shared(S, visible):
    A = softmax(S) * visible
    total = A.sum(axis=-1, keepdims=True)
    return A / np.where(total == 0, 1, total)


def unguarded(S, visible):
    E = np.exp(S - S.max(axis=-1, keepdims=True))
    return E / E.sum(axis=-1, keepdims=True)


def exp_of_everything(S, visible):
    E = np.exp(S)
    total = E.sum(axis=-1, keepdims=True)
    return E / np.where(total == 0, 1, total)


def values_struck_out(v, mask):
    """The values of keys that nobody may see are 0."""
    if mask is None:
        return v
    seen = mask if mask.ndim == 1 else mask.any(axis=-2)
    return v * seen[..., None]


def struck_out_back(A, dA, S, visible):
    """The derivative of softmax(S) * visible."""
    return through_softmax(softmax(S), dA * visible)


def times_zero_back(A, dA, S, visible):
    """The derivative of softmax(S * visible)."""
    return through_softmax(A, dA) * visible


def backward_without_mask(A, dA, S, visible):
    return through_softmax(softmax(S), dA)


def mask_as_scores_gradient(A, dA, S, visible):
    """The masked score was S * visible, was it not?"""
    return through_softmax(A, dA) + 0 * to_minus_infinity(S, visible)


MISTAKES = [
    Mistake(
        "mask ignored",
        wrong(see=lambda mask, causal, n, m: both(None, causal, n, m)),
        "mask changes nothing: the keys that it forbids keep their weights",
        "print the weights for mask = [True, False]: what must stand in column 1?",
    ),
    Mistake(
        "causal ignored",
        wrong(see=lambda mask, causal, n, m: both(mask, False, n, m)),
        "with causal=True the queries still see what comes after them",
        "the mask by hand for three queries and three keys: which six of the nine are allowed?",
    ),
    Mistake(
        "mask inverted",
        wrong(see=inverted),
        "True is read as forbidden: the queries see just the keys that they must not see",
        "here True means may see; np.where(condition, a, b) takes a where the condition is True",
    ),
    Mistake(
        "diagonal hidden",
        wrong(see=causal_by(lambda n, m: np.tri(n, m, m - n - 1, dtype=bool))),
        "the triangle is one too small: a query does not see its own position, and the first of "
        "them sees nothing",
        "what is known at position n is the token at n itself: is m = n allowed?",
    ),
    Mistake(
        "one key of the future",
        wrong(see=causal_by(lambda n, m: np.tri(n, m, m - n + 1, dtype=bool))),
        "the triangle is one too large: each query sees the key after it, which is the answer",
        "the output at n is to guess token n + 1: is m = n + 1 allowed?",
    ),
    Mistake(
        "upper triangle",
        wrong(see=causal_by(lambda n, m: ~np.tri(n, m, m - n - 1, dtype=bool))),
        "the triangle lies on the wrong side: each query sees itself and the future, not the past",
        "print the mask; row 0 is the first query, and it may see the least",
    ),
    Mistake(
        "aligned at the first",
        wrong(see=causal_by(lambda n, m: np.tri(n, m, dtype=bool))),
        "with fewer queries than keys the triangle hangs in the wrong corner: the first query is "
        "taken for the first position",
        "a new token beside a cache of past keys is one query: how many keys should it see?",
    ),
    Mistake(
        "mask along the queries",
        wrong(see=along_queries),
        "the mask is laid along the queries; it says which keys may be seen, and they are the last "
        "axis",
        "a mask [M] already broadcasts to [N, M]: nothing has to be turned",
    ),
    Mistake(
        "causal replaces mask",
        wrong(see=one_of_them),
        "with causal=True the mask is forgotten: padding in the past is seen again",
        "both conditions must hold: hide what one forbids, then what the other forbids",
    ),
    Mistake(
        "either allows",
        wrong(see=either),
        "a key is seen if the mask or the triangle allows it; it takes both",
        "hidden by one is hidden: which of `&` and `|` says that of what is allowed?",
    ),
    Mistake(
        "scores times zero",
        wrong(hide=lambda S, visible: S * visible, dS=times_zero_back),
        "a hidden score becomes 0, and exp(0) is 1: the hidden keys get a share, often a large one",
        "which score gives exp(score) = 0?",
    ),
    Mistake(
        "mask added as a number",
        wrong(hide=lambda S, visible: S + visible),
        "True is added to the score as 1: hidden keys only get e times less weight than they would",
        "what has to be added is 0 where a key may be seen; and what where it may not?",
    ),
    Mistake(
        "infinity times zero",
        wrong(hide=lambda S, visible: S + (1 - visible) * -np.inf),
        "0 * -inf is NaN: the visible places of the mask become NaN, and with them everything",
        "choose with np.where instead of calculating with infinity",
    ),
    Mistake(
        "-10000 added",
        wrong(hide=lambda S, visible: S + finite(S, visible, -1e4)),
        "-10000 is not minus infinity: a hidden score that is larger still is seen, and a row with "
        "nothing to see attends as if there were no mask",
        "a row of equal amounts changes no softmax; which number is lower than every other?",
    ),
    Mistake(
        "-1e9 added",
        wrong(hide=lambda S, visible: S + finite(S, visible, -1e9)),
        "in a row with nothing to see the same -1e9 is added to every score: that changes no "
        "weight, so it attends as if there were no mask",
        "with -inf such a row cannot be overlooked; decide what it should be, and make it so",
    ),
    Mistake(
        "finite instead of the score",
        wrong(hide=lambda S, visible: np.where(visible, S, -1e9)),
        "a row with nothing to see gets equal weights over keys that it must not see: all its "
        "scores are one and the same finite number",
        "hide with -np.inf, and then take care of the row whose maximum is -inf",
    ),
    Mistake(
        "NaN for nothing to see",
        wrong(weigh=unguarded),
        "a row with nothing to see is NaN: its maximum is -inf, and -inf - (-inf) has no value",
        "two steps of the softmax break in such a row; replace the maximum there, and the sum",
    ),
    Mistake(
        "mask after softmax",
        wrong(hide=lambda S, visible: S, weigh=struck_out, dS=struck_out_back),
        "the weights are struck out after the softmax: the rows sum to less than 1, and how much "
        "less tells what was hidden",
        "hide before the softmax, so that the whole 1 is shared among the visible keys",
    ),
    Mistake(
        "mask after softmax, forgotten in backward",
        wrong(hide=lambda S, visible: S, weigh=struck_out),
        "the weights are struck out after the softmax, so the rows sum to less than 1; and "
        "backward takes what is left of them for a softmax",
        "mend forward first: hide before the softmax, and the backward that you have is right",
    ),
    Mistake(
        "no maximum",
        wrong(weigh=exp_of_everything),
        "exp overflows on large scores, and inf / inf is NaN",
        "a number taken off a whole row changes no weight: take the maximum of the visible keys",
    ),
    Mistake(
        "shared out again after the softmax",
        wrong(hide=lambda S, visible: S, weigh=struck_out_and_shared),
        "striking out and dividing again is right on paper only: where a hidden score is far above "
        "the others, the visible weights have become 0 before they are divided",
        "the maximum that is taken off must be that of the visible keys: hide first",
    ),
    Mistake(
        "mask on the values",
        wrong(
            see=lambda mask, causal, n, m: both(None, causal, n, m),
            values=values_struck_out,
        ),
        "the mask sets values to 0, but the hidden keys are still weighed: what they would have "
        "got is lost, and the visible ones get too little",
        "a hidden key must get no share at all: where are the shares decided?",
    ),
    Mistake(
        "backward without the mask",
        wrong(dS=backward_without_mask),
        "forward is right, but backward uses weights that were computed without the mask",
        "the vjp needs the weights that forward has used: they are 0 where a key is hidden",
    ),
    Mistake(
        "minus infinity in backward",
        wrong(dS=mask_as_scores_gradient),
        "backward multiplies the masked scores, and 0 * -inf is NaN",
        "the gradient of the scores needs the weights A alone, in which nothing is infinite",
    ),
]

HINTS = (
    """Begin with the attention of lesson 19. One thing changes in forward, between the scores and
the softmax. Write down the mask for three queries and five keys with causal=True before you
write the code: which row sees every key?""",
    """np.where(allowed, S, -np.inf) hides, once for mask and once for causal; np.tri(N, M, k)
makes the triangle. A row with nothing to see has the maximum -inf and the sum 0: replace
both before they are used, by numbers that make the row 0. Backward needs no line for the mask.""",
    """The triangle is np.tri(N, M, M - N, dtype=bool). Then top = S.max(axis=-1, keepdims=True),
E = exp(S - where(top == -inf, 0, top)), total = E.sum(...), A = E / where(total == 0, 1, total),
and dS = A * (dA - sum over keys of dA * A), as in lesson 19.""",
)

EXERCISES = [
    Exercise(
        name="attention",
        reference=ops.attention,
        inputs=inputs(),
        also=ALSO,
        mistakes=MISTAKES,
        hints=HINTS,
    ),
]
