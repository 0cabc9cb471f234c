"""Check 19: attention, on matrices and on batches of heads, and what is often done instead."""

import math

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal


@st.composite
def inputs(draw):
    batch = draw(st.sampled_from([(), (), (6,), (2, 3)]))  # none that q @ k.T fits by chance
    n, d, e = (draw(st.integers(1, 5)) for _ in range(3))
    m = draw(st.integers(2, 5))  # with one key alone its weight is 1, whatever the scores
    causal = draw(st.booleans())
    n = m if causal else n
    q, k, v = (draw(normal((*batch, *shape))) for shape in [(n, d), (m, d), (m, e)])
    return Case(q, k, v, causal=causal)


def made(seed, *shapes, **options):
    rng = np.random.default_rng(seed)
    return Case(*(rng.standard_normal(shape) for shape in shapes), **options)


HELLO_WORLD = np.array([[2.0, 1.0], [1.0, -1.0]])
FAR = np.array([[100.0, 0.0], [0.0, -100.0], [70.0, 70.0]])  # scores up to 7,000
ALSO = [
    Case(HELLO_WORLD, HELLO_WORLD, HELLO_WORLD),
    made(0, (2, 4), (3, 4), (3, 2)),
    made(1, (3, 3), (3, 3), (3, 3)),
    made(2, (3, 2), (3, 2), (3, 4), causal=True),
    made(3, (2, 3, 4, 5), (2, 3, 4, 5), (2, 3, 4, 5), causal=True),
    made(4, (2, 3, 4, 5), (2, 3, 2, 5), (2, 3, 2, 3)),
    made(5, (3, 2), (1, 2), (1, 2)),
    Case(FAR, FAR, FAR),
    Case(np.array([[100.0, 0.0], [0.01, 0.02]]), FAR, FAR),  # one row's scores dwarf the other's
]


# ------------------------------------------------ the right steps, each of which a mistake replaces


def transposed(x):
    return x.swapaxes(-1, -2)


def future_hidden(S):
    return np.where(np.tri(S.shape[-2], dtype=bool), S, -np.inf)


def softmax(S, axis=-1):
    E = np.exp(S - S.max(axis=axis, keepdims=True))
    return E / E.sum(axis=axis, keepdims=True)


def through_softmax(A, dA, axis=-1):
    return A * (dA - (dA * A).sum(axis=axis, keepdims=True))


def wrong(
    *,
    scale=lambda q, k: 1 / math.sqrt(q.shape[-1]),
    product=lambda q, k: q @ transposed(k),
    hide=future_hidden,
    weigh=softmax,
    hide_weights=lambda A: A,
    dv=lambda A, dy: transposed(A) @ dy,
    dS=through_softmax,
    dk=lambda dS, q: transposed(dS) @ q,
    scale_back=(True, True),
    order=lambda dq, dk, dv: (dq, dk, dv),
):
    """Attention with one of its steps replaced."""

    def attention(q, k, v, *, causal=False):
        s = scale(q, k)
        S = s * product(q, k)
        A = weigh(hide(S) if causal else S)
        if causal:
            A = hide_weights(A)
        y = A @ v

        def vjp(dy):
            g = dS(A, dy @ transposed(v))
            to_q, to_k = (s if wanted else 1 for wanted in scale_back)
            return order(to_q * (g @ k), to_k * dk(g, q), dv(A, dy))

        return y, vjp

    return attention


def exp_of_everything(S):
    E = np.exp(S)
    return E / E.sum(axis=-1, keepdims=True)


def hidden_by_product(A):
    return A * np.tri(A.shape[-2], dtype=A.dtype)


MISTAKES = [
    Mistake(
        "no scale",
        wrong(scale=lambda q, k: 1.0),
        "the scores are the bare dot products: nothing makes up for the length d of the sums",
        "what is the variance of a sum of d products? Divide by its square root",
    ),
    Mistake(
        "divided by d",
        wrong(scale=lambda q, k: 1 / q.shape[-1]),
        "the scores are divided by d itself: the longer q and k are, the flatter the weights",
        "variances add, so the standard deviation of the score is what has to go",
    ),
    Mistake(
        "root of the number of keys",
        wrong(scale=lambda q, k: 1 / math.sqrt(k.shape[-2])),
        "the scale is taken from how many keys there are; it belongs to how long one key is",
        "print q.shape and k.shape: which axis does the dot product sum over?",
    ),
    Mistake(
        "float64 scale",
        wrong(scale=lambda q, k: np.float64(1 / math.sqrt(q.shape[-1]))),
        "float32 goes in, float64 comes out: np.sqrt gives a float64 scalar, and NumPy keeps it",
        "take the root with math.sqrt: a Python float leaves the dtype of an array alone",
    ),
    Mistake(
        "k not transposed",
        wrong(product=lambda q, k: q @ k),
        "q @ k mixes the features of a key with its number; it runs only when there are d keys",
        "score [n, m] is row n of q times row m of k: which axis must the product sum over?",
    ),
    Mistake(
        "all axes turned",
        wrong(product=lambda q, k: q @ k.T),
        ".T reverses all axes, the batch and the heads too; it is right for plain matrices only",
        "exchange the last two axes and leave the leading ones where they are",
    ),
    Mistake(
        "softmax over the queries",
        wrong(
            weigh=lambda S: softmax(S, axis=-2),
            dS=lambda A, dA: through_softmax(A, dA, axis=-2),
        ),
        "each column sums to 1: the queries share out a key; a query should share out its keys",
        "print the weights' row sums; which of n and m does one query choose among?",
    ),
    Mistake(
        "axis counted from the front",
        wrong(
            weigh=lambda S: softmax(S, axis=1),
            dS=lambda A, dA: through_softmax(A, dA, axis=1),
        ),
        "axis 1 is the keys in a plain matrix, but not any more with batch and heads in front",
        "count from the end, where the keys always stand",
    ),
    Mistake(
        "no maximum",
        wrong(weigh=exp_of_everything),
        "exp overflows on large scores, and inf / inf is NaN",
        "a number taken off a whole row changes no weight: which one keeps exp at 1 or below?",
    ),
    Mistake(
        "causal ignored",
        wrong(hide=lambda S: S),
        "with causal=True the positions still see what comes after them",
        "look at row 0 of the weights: which entries may differ from 0?",
    ),
    Mistake(
        "future set to zero",
        wrong(hide=lambda S: S * np.tri(S.shape[-2], dtype=S.dtype)),
        "a score of 0 is no ban: exp(0) is 1, so the future still gets its share",
        "which score gives exp(score) = 0?",
    ),
    Mistake(
        "mask after softmax",
        wrong(hide=lambda S: S, hide_weights=hidden_by_product),
        "the future is struck out after the softmax: the rows no longer sum to 1",
        "hide the scores before the softmax, so that it shares out the whole 1 among the rest",
    ),
    Mistake(
        "weights not transposed in dv",
        wrong(dv=lambda A, dy: A @ dy),
        "dv collects by query where it should collect by key: value m is used by every query n",
        "write dv[m] as a sum over n, then look for the matrix product that sums over n",
    ),
    Mistake(
        "diagonal Jacobian",
        wrong(dS=lambda A, dA: dA * A * (1 - A)),
        "only the diagonal of the softmax's Jacobian is used, but a score moves other weights too",
        "each score of a row moves every weight of it; add up all these paths",
    ),
    Mistake(
        "row sum left out",
        wrong(dS=lambda A, dA: dA * A),
        "dS is A * dA without what the denominator of the softmax gives",
        "add the same number to all scores of a row: nothing changes, so dS must sum to 0 in a row",
    ),
    Mistake(
        "softmax skipped",
        wrong(dS=lambda A, dA: dA),
        "dA goes on to q and k as if the softmax were not there",
        "between the weights and the scores stands a function: it has a Jacobian",
    ),
    Mistake(
        "sum over the queries",
        wrong(dS=lambda A, dA: through_softmax(A, dA, axis=-2)),
        "backward sums over the queries, but the softmax has normalized over the keys",
        "the sum in backward runs over the same axis as the sum in forward",
    ),
    Mistake(
        "no scale in backward",
        wrong(scale_back=(False, False)),
        "dq and dk are both too large by √d: forward scales the product, backward does not",
        "S = scale · q kᵀ: the scale is a factor of both derivatives",
    ),
    Mistake(
        "no scale in dk",
        wrong(scale_back=(True, False)),
        "dq is right, dk is too large by √d",
        "q and k enter the product alike, so their gradients have the same factor",
    ),
    Mistake(
        "dS not transposed in dk",
        wrong(dk=lambda dS, q: dS @ q),
        "dk collects by query where it should collect by key",
        "write dk[m] as a sum over n: dS[n, m] is summed over its first index",
    ),
    Mistake(
        "dq and dk exchanged",
        wrong(order=lambda dq, dk, dv: (dk, dq, dv)),
        "the gradients come back in the wrong order: q gets what belongs to k",
        "vjp returns its gradients in the order of the arguments",
    ),
]

HINTS = (
    """Three lines go forward: scores, weights, output. Write down the shape of each, with the
leading axes as `...`. Then write one line of backward for each, from the last to the first.""",
    """Backward, y = A v gives two products, one of them with A transposed. The softmax sends each
row of dA to a row of dS, which sums to 0. S = scale · q kᵀ gives two products again. For causal,
set the scores of the future to -inf before the softmax.""",
    """dA = dy vᵀ, dv = Aᵀ dy, dS = A * (dA - sum over keys of dA * A), dq = scale · dS k,
dk = scale · dSᵀ q. Transpose with swapaxes(-1, -2), sum with axis=-1 and keepdims=True, take the
scale from math.sqrt.""",
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
