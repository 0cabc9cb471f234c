"""Check 27: attention to a memory, and what is taken from the wrong side."""

import math

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake


def made(seed, *texts, T, S, C=3, D=None, E=2, factor=1.0, **options):
    """x, memory and the four weights at random; D is C, as in a transformer, unless given."""
    rng = np.random.default_rng(seed)
    D = C if D is None else D
    x, memory = rng.standard_normal((*texts, T, C)), rng.standard_normal((*texts, S, D))
    weights = [rng.standard_normal(shape) for shape in ((E, C), (E, D), (E, D), (C, E))]
    return Case(factor * x, memory, *weights, **options)


@st.composite
def inputs(draw):
    texts = draw(st.sampled_from([(), (1,), (2,), (2, 2)]))
    T, C, E = draw(st.integers(1, 4)), draw(st.integers(2, 4)), draw(st.integers(1, 4))
    S = draw(st.sampled_from([T + 1, 2, 3, 4]))  # one key alone has the weight 1, always
    D, seed = draw(st.sampled_from([C, C, 3])), draw(st.integers(0, 2**32 - 1))
    options = {}
    if draw(st.booleans()):
        options["padding"] = np.random.default_rng(seed).random((*texts, S)) < 0.4
    return made(seed, *texts, T=T, S=S, C=C, D=D, E=E, **options)


LAST = np.array([False, False, False, True])
LENGTHS = np.array([[False, False, False, True], [False, True, True, True]])
ALSO = [
    made(0, T=4, S=4, E=4),  # a square of everything that can be taken for something else
    made(1, T=2, S=4),
    made(2, T=5, S=3, C=4, D=2, E=3),
    made(3, 2, T=3, S=4, C=4, E=3),
    made(4, T=4, S=4, C=4, E=4, padding=LAST),
    made(5, T=3, S=4, padding=LAST),
    made(6, 2, T=4, S=4, padding=LENGTHS),
    made(7, 2, T=2, S=4, C=2, D=3, E=4, padding=LENGTHS),
    made(8, 2, T=3, S=3, padding=np.array([[False, False, True], [True, True, True]])),
    made(9, T=3, S=4, factor=1e4, padding=np.array([False, True, False, True])),
    made(10, 2, 3, T=2, S=3, E=3),
]


# ------------------------------------------------ the right steps, each of which a mistake replaces


def turned(a):
    return a.swapaxes(-2, -1)


def outer(dy, x):
    return dy.reshape(-1, dy.shape[-1]).T @ x.reshape(-1, x.shape[-1])


def mended(a, wrong, right):
    return np.where(a == wrong, a.dtype.type(right), a)


def softmax(scores, hidden, axis=-1):
    exps = np.exp(scores - mended(scores.max(axis=axis, keepdims=True), -np.inf, 0))
    return exps / mended(exps.sum(axis=axis, keepdims=True), 0, 1)


def through_softmax(A, dA, hidden, scores=None):
    return A * (dA - (dA * A).sum(axis=-1, keepdims=True))


def below_every_query(padding, T):
    return padding[..., None, :]


def to_minus_infinity(scores, hidden):
    return np.where(hidden, -np.inf, scores)


def wrong(
    *,
    sides="xmm",  # where queries, keys and values come from: x or the memory
    hidden=below_every_query,
    hide=to_minus_infinity,
    weigh=softmax,
    dscores=through_softmax,
    scale=lambda wq: 1 / math.sqrt(len(wq)),
    scale_back=None,
    both=lambda by_keys, by_values: by_keys + by_values,
    weight=outer,
    exchange=False,  # of wk and wv
    order=lambda *gradients: gradients,
    finish=lambda y, x: y,
    finish_back=lambda dx, dy: dx,
):
    """Cross-attention with one of its steps replaced."""

    def cross_attention(x, memory, wq, wk, wv, wo, *, padding=None):
        if exchange:
            wk, wv = wv, wk
        s, places = scale(wq), {"x": x, "m": memory}
        q, k, v = (places[at] @ w.T for at, w in zip(sides, (wq, wk, wv), strict=True))
        scores = s * (q @ turned(k))
        out = np.zeros(scores.shape, dtype=bool)
        if padding is not None:
            out = out | hidden(padding, scores.shape[-2])
        scores = hide(scores, out)
        A = weigh(scores, out)
        o = A @ v
        y = finish(o @ wo.T, x)

        def vjp(dy):
            do = dy @ wo
            g = dscores(A, do @ turned(v), out, scores)
            b = s if scale_back is None else scale_back(wq)
            dq, dk, dv = b * (g @ k), b * (turned(g) @ q), turned(A) @ do
            back = {"x": [], "m": []}
            for at, d, w in zip(sides, (dq, dk, dv), (wq, wk, wv), strict=True):
                back[at].append(d @ w)
            dx = sum(back["x"][1:], back["x"][0]) if back["x"] else np.zeros_like(x)
            if not back["m"]:
                dmemory = np.zeros_like(memory)
            else:
                dmemory = both(*back["m"]) if len(back["m"]) == 2 else back["m"][0]
            three = [weight(d, places[at]) for at, d in zip(sides, (dq, dk, dv), strict=True)]
            if exchange:
                three = [three[0], three[2], three[1]]
            return order(finish_back(dx, dy), dmemory, *three, weight(dy, o))

        return y, vjp

    return cross_attention


def cross_attention(x, memory, wq, wk, wv, wo, *, padding=None):
    """The reference: the parts that the library has."""
    q, vjp_q = ops.linear(x, wq)
    k, vjp_k = ops.linear(memory, wk)
    v, vjp_v = ops.linear(memory, wv)
    mask = None if padding is None else ~padding[..., None, None, :]  # an axis for heads, too
    heads = (a[..., None, :, :] for a in (q, k, v))
    o, vjp_o = ops.attention(*heads, mask=mask)
    y, vjp_y = ops.linear(o[..., 0, :, :], wo)

    def vjp(dy):
        do, dwo = vjp_y(dy)[:2]
        dq, dk, dv = (d[..., 0, :, :] for d in vjp_o(do[..., None, :, :]))
        (dx, dwq), (by_keys, dwk), (by_values, dwv) = (
            back(d)[:2] for back, d in ((vjp_q, dq), (vjp_k, dk), (vjp_v, dv))
        )
        return dx, by_keys + by_values, dwq, dwk, dwv, dwo

    return y, vjp


def future_hidden(scores, hidden):
    past = np.tri(*scores.shape[-2:], dtype=bool)
    return np.where(hidden | ~past, -np.inf, scores)


def struck_out(scores, hidden):
    return softmax(scores, hidden) * ~hidden


def struck_out_back(A, dA, hidden, scores):
    return through_softmax(softmax(scores, hidden), dA * ~hidden, hidden)


def unguarded(scores, hidden):
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)


def no_maximum(scores, hidden):
    exps = np.exp(scores)
    return exps / mended(exps.sum(axis=-1, keepdims=True), 0, 1)


def over_queries(scores, hidden):
    return softmax(scores, hidden, axis=-2)


def over_queries_back(A, dA, hidden, scores):
    return A * (dA - (dA * A).sum(axis=-2, keepdims=True))


def rows_of_the_memory_zeroed(x, memory, *weights, padding=None):
    """Padding set to 0 in the memory, and no mask."""
    if padding is None:
        return right(x, memory, *weights)
    keep = ~padding[..., None]
    y, vjp = right(x, memory * keep, *weights)

    def back(dy):
        dx, dmemory, *rest = vjp(dy)
        return dx, dmemory * keep, *rest

    return y, back


def memory_in_place(x, memory, *weights, padding=None):
    if padding is not None:
        memory[padding] = 0
    return right(x, memory, *weights, padding=padding)


def in_float64(x, memory, *weights, padding=None):
    y, vjp = right(*(a.astype(float) for a in (x, memory, *weights)), padding=padding)
    return y, lambda dy: vjp(dy.astype(float))


right = wrong()

MISTAKES = [
    Mistake(
        "self-attention",
        wrong(sides="xxx"),
        "queries, keys and values all come from x: the memory is never read",
        "change the memory and keep x: y has to change",
    ),
    Mistake(
        "queries and keys swapped",
        wrong(sides="mxx"),
        "the memory asks and x answers: y has one row for each position of the memory",
        "who wants to know something, the decoder or the encoder? y has one row for each question",
    ),
    Mistake(
        "keys from the decoder's side",
        wrong(sides="xxm"),
        "the keys come from x, so the scores compare the decoder with itself; the values come from "
        "the memory",
        "a key is the address of a value: both belong to one position of one sequence",
    ),
    Mistake(
        "values from the decoder's side",
        wrong(sides="xmx"),
        "the decoder looks at the memory, and then takes values from x",
        "a key is the address of a value: both belong to one position of one sequence",
    ),
    Mistake(
        "keys and values exchanged",
        wrong(exchange=True),
        "wk makes the values and wv the keys",
        "go through the arguments one by one: which weight makes what?",
    ),
    Mistake(
        "padding ignored",
        wrong(hidden=lambda padding, T: np.False_),
        "padding of the memory keeps its weight: what is written depends on how far the text was "
        "filled up",
        "print A for padding = [False, True]: what must stand in column 1?",
    ),
    Mistake(
        "padding inverted",
        wrong(hidden=lambda padding, T: ~padding[..., None, :]),
        "only the padding is seen: True is read as a word",
        "here True means padding. In the mask of lesson 20 it meant the opposite",
    ),
    Mistake(
        "padding along the queries",
        wrong(hidden=lambda padding, T: padding[..., :, None]),
        "padding is laid along the queries; it tells which rows of the memory count, and they are "
        "the last axis of the scores",
        "scores are [..., T, S] and padding is [..., S]: where does the new axis go?",
    ),
    Mistake(
        "padding without an axis for the queries",
        wrong(hidden=lambda padding, T: padding),
        "padding [texts, S] is laid over scores [texts, T, S] without an axis of its own for T: "
        "the texts are taken for queries",
        "right-align both shapes, [..., T, S] and [..., S]: what stands below T?",
    ),
    Mistake(
        "padded rows of the memory set to 0",
        rows_of_the_memory_zeroed,
        "padding is set to 0 in the memory, but its score is then 0, not minus infinity: it keeps "
        "a share",
        "which score gives exp(score) = 0?",
    ),
    Mistake(
        "padding after the softmax",
        wrong(hide=lambda scores, hidden: scores, weigh=struck_out, dscores=struck_out_back),
        "padding is struck out after the softmax: the weights of the words sum to less than 1",
        "hide before the softmax, so that the whole 1 is shared among words",
    ),
    Mistake(
        "NaN for padding alone",
        wrong(weigh=unguarded),
        "a text of padding alone gives NaN: its maximum is -inf, and -inf - (-inf) has no value",
        "two steps of the softmax break there; replace the maximum, and the sum (lesson 20)",
    ),
    Mistake(
        "no maximum",
        wrong(weigh=no_maximum),
        "exp overflows on large scores: the maximum of the row is not taken off",
        "an equal amount taken off a whole row changes no weight (lesson 05)",
    ),
    Mistake(
        "the future of the source hidden",
        wrong(hide=future_hidden),
        "position t of the decoder sees the memory only up to position t",
        "the source is all there before the first word is written: does it have a future?",
    ),
    Mistake(
        "softmax over the queries",
        wrong(weigh=over_queries, dscores=over_queries_back),
        "the softmax runs down the columns: each word of the memory shares itself out among "
        "queries",
        "which sum must be 1? A query shares itself out among keys",
    ),
    Mistake(
        "not scaled",
        wrong(scale=lambda wq: 1.0),
        "the scores are not divided by the root of E",
        "look at the formula between q kᵀ and the softmax",
    ),
    Mistake(
        "scaled by the width of x",
        wrong(scale=lambda wq: 1 / math.sqrt(wq.shape[1])),
        "the scores are divided by the root of C; a dot product of queries and keys has E summands",
        "how long is one query after its projection?",
    ),
    Mistake(
        "scale forgotten in backward",
        wrong(scale_back=lambda wq: 1.0),
        "forward divides the scores by the root of E; backward does not",
        "scores = scale q kᵀ: which factor stands before k in the derivative by q?",
    ),
    Mistake(
        "memory by its values only",
        wrong(both=lambda by_keys, by_values: by_values),
        "the memory gets its gradient through the values, and none through the keys",
        "count the lines of forward in which memory stands",
    ),
    Mistake(
        "memory by its keys only",
        wrong(both=lambda by_keys, by_values: by_keys),
        "the memory gets its gradient through the keys, and none through the values",
        "count the lines of forward in which memory stands",
    ),
    Mistake(
        "softmax as if elementwise",
        wrong(dscores=lambda A, dA, hidden, scores: A * dA),
        "backward through the softmax lacks its sum: raising one weight lowers the others",
        "rows of dscores must sum to 0, for an equal amount on a whole row changes nothing",
    ),
    Mistake(
        "gradient of x with the residual",
        wrong(finish_back=lambda dx, dy: dx + dy),
        "dx has dy added to it, as if x had been added to y",
        "the residual belongs to the layer around this; forward here has none",
    ),
    Mistake(
        "residual inside",
        wrong(finish=lambda y, x: y + x, finish_back=lambda dx, dy: dx + dy),
        "x is added to the result: that is the residual, and it belongs to the layer around this",
        "with wo = 0, what should y be?",
    ),
    Mistake(
        "gradients of x and memory exchanged",
        wrong(order=lambda dx, dmemory, *weights: (dmemory, dx, *weights)),
        "the gradients of x and of the memory come back in each other's place",
        "write the names of the arguments below each other, and the gradient beside each",
    ),
    Mistake(
        "weights' gradients transposed",
        wrong(weight=lambda dy, x: outer(x, dy)),
        "the gradients of the weights lie on their side",
        "in y = x wᵀ the rows of w are outputs; what has dw's shape, dyᵀ x or xᵀ dy?",
    ),
    Mistake(
        "weights' gradients of each text",
        wrong(weight=lambda dy, x: turned(dy) @ x),
        "each text has a gradient of its own for the weights; they share one weight, so they "
        "add up",
        "two texts, one weight: fan-out (lesson 01)",
    ),
    Mistake(
        "memory changed in place",
        memory_in_place,
        "the padded rows of the memory are overwritten, and every layer of the decoder reads the "
        "same memory",
        "hide scores instead: memory[padding] = 0 writes into the caller's array",
    ),
    Mistake(
        "float64 results",
        in_float64,
        "float32 goes in and float64 comes out",
        "np.sqrt(2) is a float64 number and makes others so; math.sqrt(2) does not",
    ),
]

EXERCISES = [
    Exercise(
        name="cross_attention",
        reference=cross_attention,
        inputs=inputs(),
        also=ALSO,
        mistakes=MISTAKES,
        hints=(
            (
                "Begin with the attention of lessons 19 and 20, and ask of each of q, k and v "
                "which of the two sequences it comes from. The scores have one row for each "
                "position of the decoder, one column for each of the memory. Write the shapes "
                "beside every line."
            ),
            (
                "padding[..., None, :] puts padding below every query; np.where hides those "
                "scores. A text of padding alone has the maximum -inf and the sum 0: replace both "
                "before you use them. Backward is forward read from below. The memory stands in "
                "two lines of forward, so its gradient is a sum of two."
            ),
            (
                "do = dy wo; dA = do vᵀ, dv = Aᵀ do; dscores = A * (dA - sum over keys of dA * A); "
                "dq = scale dscores k, dk = scale dscoresᵀ q; dx = dq wq, dmemory = dk wk + dv wv. "
                "The gradient of a weight in a = b wᵀ is daᵀ b, with all positions of all texts "
                "one below the other."
            ),
        ),
    ),
]
