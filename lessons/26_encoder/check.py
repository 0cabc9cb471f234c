"""Check 26: the mean without padding, the stack of layers, and where padding leaks in."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake

# ------------------------------------------------ masked_mean


def lengths_to_padding(lengths, longest):
    return np.arange(longest) >= np.asarray(lengths)[..., None]


@st.composite
def padded_texts(draw):
    leading = draw(st.sampled_from([(), (2,), (3,), (2, 2)]))
    N, C = draw(st.integers(2, 5)), draw(st.integers(3, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    padding = lengths_to_padding(rng.integers(1, N + 1, leading), N)
    return Case(rng.standard_normal((*leading, N, C)), padding=padding)


def texts(seed, *shape, lengths, garbage=None):
    rng = np.random.default_rng(seed)
    x, padding = rng.standard_normal(shape), lengths_to_padding(lengths, shape[-2])
    if garbage is not None:
        x[padding] = garbage
    return Case(x, padding=padding)


rows_apart = np.array([[False, True, False, True], [True, False, False, False]])
TEXTS = [
    texts(0, 3, 4, 3, lengths=[4, 2, 1]),
    texts(1, 4, 3, lengths=2),
    texts(2, 2, 3, 3, lengths=[0, 2]),
    texts(3, 2, 3, 2, lengths=[1, 3], garbage=np.nan),
    texts(4, 3, 3, 2, lengths=[1, 3, 2], garbage=np.inf),
    Case(np.random.default_rng(5).standard_normal((2, 4, 5)), padding=rows_apart),
    texts(6, 2, 1, 3, lengths=[1, 1]),
]


def mean_of(*, summed=None, count=None, back=None, dtype=None, empty=1):
    """The reference, or it with one of its steps replaced; `real` is [..., N, 1]."""

    def masked_mean(x, *, padding):
        real = ~padding[..., None]
        kept = np.where(real, x, 0) if summed is None else summed(x, real)
        n = real.sum(axis=-2) if count is None else count(real)
        n = np.maximum(n, empty).astype(dtype or x.dtype)
        y = kept.sum(axis=-2) / n

        def vjp(dy):
            share = (dy / n)[..., None, :]
            if back is not None:
                return back(dy[..., None, :], real, n[..., None, :], x)
            if summed is not None:
                return summed(share + 0 * np.zeros_like(x), real)
            return np.where(real, share, 0)

        return y, vjp

    return masked_mean


masked_mean = mean_of()


def everything(x, real):
    return x


def only_padding(x, real):
    return np.where(real, 0, x)


def all_positions(real):
    return np.full_like(real.sum(axis=-2), real.shape[-2])


def mean_of_the_padding(x, *, padding):
    return masked_mean(x, padding=~padding)


def of_axis_0(x, *, padding):
    real = ~padding[..., None]
    n = np.maximum(real.sum(axis=0), 1).astype(x.dtype)
    return np.where(real, x, 0).sum(axis=0) / n, lambda dy: np.where(real, dy / n, 0)


def times_zero(x, real):
    return x * real


def no_text_no_number(x, *, padding):
    with np.errstate(all="ignore"):
        y, vjp = mean_of(empty=0)(x, padding=padding)

    def quiet(dy):
        with np.errstate(all="ignore"):
            return vjp(dy)

    return y, quiet


def in_float64(x, *, padding):
    y, vjp = masked_mean(x.astype(float), padding=padding)
    return y, lambda dy: vjp(dy.astype(float))


POOLING = [
    Mistake(
        "mean over all",
        mean_of(summed=everything, count=all_positions),
        "padding is averaged like any word: a mean over all N positions",
        "add three rows of padding to a text by hand: may y change?",
    ),
    Mistake(
        "padding counted",
        mean_of(count=all_positions),
        "padding is left out of the sum, but the sum is divided by N",
        "how many summands are there? Each text has its own number of them",
    ),
    Mistake(
        "padding summed",
        mean_of(summed=everything),
        "the divisor is the number of real positions, but padding is in the sum",
        "put a 1000 into a row of padding, and look at y",
    ),
    Mistake(
        "padding inverted",
        mean_of_the_padding,
        "this is the mean of the padding: True means that there is no word",
        "padding is True where there is padding; the sum runs over the other rows",
    ),
    Mistake(
        "one count for the batch",
        mean_of(count=lambda real: np.full_like(real.sum(axis=-2), real.sum())),
        "the divisor is the number of words in the whole batch",
        "count along one axis only, and keep the axes of the batch",
    ),
    Mistake(
        "mean over axis 0",
        of_axis_0,
        "the mean runs over axis 0, which is the batch as soon as there is one",
        "positions are the axis before the last, however many stand before it: axis=-2",
    ),
    Mistake(
        "zero times garbage",
        mean_of(summed=times_zero, back=lambda dy, real, n, x: np.where(real, dy / n, 0)),
        "padding is multiplied by 0, and 0 times NaN or infinity is NaN",
        "how can a row be left out of a sum without being multiplied by anything?",
    ),
    Mistake(
        "no words, no number",
        no_text_no_number,
        "a text of padding alone is 0/0",
        "by which number do you divide there? Which one would do no harm?",
    ),
    Mistake(
        "gradient for padding",
        mean_of(back=lambda dy, real, n, x: dy / n + np.zeros_like(real, x.dtype)),
        "rows of padding get a gradient, though forward does not read them",
        "move a number at padding a little: how much does y move?",
    ),
    Mistake(
        "gradient not divided",
        mean_of(back=lambda dy, real, n, x: np.where(real, dy, 0)),
        "each row gets the whole dy; forward divides by the number of words",
        "a row has the factor 1/n in y: which factor has its gradient?",
    ),
    Mistake(
        "gradient divided by N",
        mean_of(back=lambda dy, real, n, x: np.where(real, dy / x.dtype.type(x.shape[-2]), 0)),
        "backward divides by the number of positions, forward by that of words",
        "compare the two divisors",
    ),
    Mistake(
        "float64 results",
        in_float64,
        "float32 goes in and float64 comes out",
        "a count is an int64 array, and float32 divided by that is float64: "
        "give the count the dtype of x",
    ),
]


# ------------------------------------------------ encoder

EACH = 12  # weights of a layer


def weights(rng, C, D):
    square = [0.6 * rng.standard_normal((C, C)) for _ in range(4)]
    feed = [0.6 * rng.standard_normal(shape) for shape in ((D, C), (D,), (C, D), (C,))]
    return [*square, *feed, *(rng.standard_normal(C) for _ in range(4))]


def stacked(seed, *shape, layers, heads, D=5, lengths=None):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    all_weights = [w for _ in range(layers) for w in weights(rng, shape[-1], D)]
    padding = None if lengths is None else lengths_to_padding(lengths, shape[-2])
    return Case(x, *all_weights, heads=heads, padding=padding)


@st.composite
def stacks(draw):
    leading = draw(st.sampled_from([(), (2,), (3,)]))
    N, heads, layers = (
        draw(st.integers(2, 4)),
        draw(st.sampled_from([1, 2])),
        draw(st.integers(1, 3)),
    )
    seed = draw(st.integers(0, 2**32 - 1))
    lengths = np.random.default_rng(seed).integers(1, N + 1, leading)
    padded = draw(st.booleans())
    return stacked(
        seed, *leading, N, 4, layers=layers, heads=heads, lengths=lengths if padded else None
    )


STACKS = [
    stacked(0, 4, 6, layers=2, heads=2, D=3, lengths=3),
    stacked(1, 2, 3, 6, layers=3, heads=3, lengths=[3, 1]),
    stacked(2, 2, 3, 4, layers=2, heads=2, lengths=[1, 2]),
    stacked(3, 3, 3, 4, layers=2, heads=2, lengths=[1, 3, 2]),
    stacked(4, 2, 3, 4, layers=1, heads=1),
    stacked(5, 2, 1, 3, 4, layers=2, heads=2, lengths=[[2], [3]]),
    stacked(6, 2, 3, 4, layers=2, heads=2, lengths=[0, 2]),
]


def layer(x, wq, wk, wv, wo, w1, b1, w2, b2, gain1, shift1, gain2, shift2, *, heads, mask=None):
    def split(u):
        return u.reshape(*u.shape[:-1], heads, -1).swapaxes(-2, -3)

    def merge(u):
        return u.swapaxes(-2, -3).reshape(x.shape)

    projections = [ops.linear(x, w) for w in (wq, wk, wv)]
    o, vjp_o = ops.attention(*(split(p) for p, _ in projections), mask=mask)
    a, vjp_a = ops.linear(merge(o), wo)
    h, vjp_h = ops.layer_norm(x + a, gain1, shift1)
    u, vjp_u = ops.linear(h, w1, b1)
    r, vjp_r = ops.relu(u)
    f, vjp_f = ops.linear(r, w2, b2)
    y, vjp_y = ops.layer_norm(h + f, gain2, shift2)

    def vjp(dy):
        dt, *norm2 = vjp_y(dy)
        dr, *second = vjp_f(dt)
        dh, *first = vjp_u(vjp_r(dr))
        ds, *norm1 = vjp_h(dt + dh)
        do, dwo = vjp_a(ds)[:2]
        dx, dws = ds, []
        for d, (_, back) in zip(vjp_o(split(do)), projections, strict=True):
            du, dw = back(merge(d))[:2]
            dx = dx + du
            dws.append(dw)
        return dx, *dws, dwo, *first, *second, *norm1, *norm2

    return y, vjp


def keys(padding):
    return ~padding[..., None, None, :]


def all_layers_backward(vjps, dy):
    grads = []
    for back in reversed(vjps):
        dy, *dweights = back(dy)
        grads = dweights + grads
    return dy, *grads


def stack_of(
    *,
    mask=keys,
    masks=lambda mask, number: mask,
    heads_of=lambda heads: heads,
    blank=lambda x, padding: x,
    backward=all_layers_backward,
):
    """The encoder, or it with one of its steps replaced."""

    def encoder(x, *weights, heads, padding=None):
        seen = None if padding is None else mask(padding)
        h, vjps = x if padding is None else blank(x, padding), []
        for number in range(len(weights) // EACH):
            own = weights[EACH * number : EACH * (number + 1)]
            h, back = layer(h, *own, heads=heads_of(heads), mask=masks(seen, number))
            vjps.append(back)

        def vjp(dy):
            dx, *grads = backward(vjps, dy)
            return (dx if padding is None else blank(dx, padding)), *grads

        return h, vjp

    return encoder


encoder = stack_of()


def last_for_all(vjps, dy):
    """Each layer's backward looks up a name that the loop has left at the last layer."""
    return all_layers_backward([vjps[-1]] * len(vjps), dy)


def first_layer_first(vjps, dy):
    grads = []
    for back in vjps:
        dy, *dweights = back(dy)
        grads += dweights
    return dy, *grads


def last_layer_in_front(vjps, dy):
    grads = []
    for back in reversed(vjps):
        dy, *dweights = back(dy)
        grads += dweights
    return dy, *grads


def dy_for_all(vjps, dy):
    found = [back(dy) for back in vjps]
    return found[0][0], *(g for grads in found for g in grads[1:])


def emptied(vjps, dy):
    grads = []
    while vjps:
        dy, *dweights = vjps.pop()(dy)
        grads = dweights + grads
    return dy, *grads


def shared_weights(x, *weights, heads, padding=None):
    """Every layer has the weights of the first."""
    layers = len(weights) // EACH
    y, vjp = encoder(x, *(weights[:EACH] * layers), heads=heads, padding=padding)

    def back(dy):
        dx, *grads = vjp(dy)
        first = [sum(grads[i::EACH]) for i in range(EACH)]
        return dx, *first, *(np.zeros_like(w) for w in weights[EACH:])

    return y, back


def last_layer_only(x, *weights, heads, padding=None):
    """Each layer reads x, so only the last one counts."""
    y, vjp = encoder(x, *weights[-EACH:], heads=heads, padding=padding)

    def back(dy):
        dx, *grads = vjp(dy)
        return dx, *(np.zeros_like(w) for w in weights[:-EACH]), *grads

    return y, back


def causal_too(x, *weights, heads, padding=None):
    past = np.tri(x.shape[-2], dtype=bool)
    forward_only = stack_of(
        mask=lambda p: keys(p) & past, masks=lambda m, _: past if m is None else m
    )
    return forward_only(x, *weights, heads=heads, padding=padding)


STACKING = [
    Mistake(
        "padding not masked",
        stack_of(mask=lambda padding: None),
        "words attend to padding: the mask does not reach attention",
        "change a row of padding: may a row of a word change?",
    ),
    Mistake(
        "mask inverted",
        stack_of(mask=lambda padding: padding[..., None, None, :]),
        "queries see the padding and nothing else",
        "padding is True where there is no word; mask is True where a query may look",
    ),
    Mistake(
        "queries masked",
        stack_of(mask=lambda padding: ~padding[..., None, :, None]),
        "the mask lies along the queries: padding looks at nothing, words still look at padding",
        "scores are [query, key]: which of the two last axes must the padding lie on?",
    ),
    Mistake(
        "no axis for the heads",
        stack_of(mask=lambda padding: ~padding[..., None, :]),
        "the batch axis of the padding has come to lie on the heads",
        "a mask is aligned from behind with [..., heads, query, key]: which axes must be put in?",
    ),
    Mistake(
        "first layer masked only",
        stack_of(masks=lambda mask, number: mask if number == 0 else None),
        "from the second layer on, padding is seen",
        "rows at padding are computed as all others; every layer must leave them out",
    ),
    Mistake(
        "padding set to zero",
        stack_of(
            mask=lambda padding: None,
            blank=lambda x, padding: np.where(padding[..., None], 0, x),
        ),
        "rows at padding are set to 0, but a row of zeros has a score of 0, and e⁰ is 1",
        "what weight has a key of zeros in a softmax? Only the mask makes it 0",
    ),
    Mistake(
        "causal",
        causal_too,
        "words do not see what comes after them; an encoder reads in both directions",
        "a causal mask is for those who write. Which mask is left here?",
    ),
    Mistake(
        "one head",
        stack_of(heads_of=lambda heads: 1),
        "there is one head only: heads does not reach the layers",
        "who gets the argument heads in your code, and who needs it?",
    ),
    Mistake(
        "same weights in all layers",
        shared_weights,
        "every layer computes with the first 12 weights",
        "where does the slice of a layer's weights begin?",
    ),
    Mistake(
        "layers not chained",
        last_layer_only,
        "each layer reads x, and the result of the one before it is lost",
        "what does layer l read: x or h?",
    ),
    Mistake(
        "last layer's vjp for all",
        stack_of(backward=last_for_all),
        "every layer goes backward with the vjp of the last one",
        "the name of a loop's variable holds what it held at the end; keep each vjp in a list",
    ),
    Mistake(
        "backward in the order of forward",
        stack_of(backward=first_layer_first),
        "backward begins with the first layer",
        "dy belongs to the result of the last layer: who has to see it first?",
    ),
    Mistake(
        "gradients last layer first",
        stack_of(backward=last_layer_in_front),
        "the gradients come in the order in which backward meets them, the last layer's in front",
        "backward meets the layers from behind, but the arguments begin with the first",
    ),
    Mistake(
        "dy for all layers",
        stack_of(backward=dy_for_all),
        "every layer gets dy, as if it were the last",
        "what a layer's vjp gives first is the cotangent of what it read. Who wrote that?",
    ),
    Mistake(
        "vjp used up",
        stack_of(backward=emptied),
        "the second call of vjp finds an empty list",
        "pop takes away; reversed only looks",
    ),
]

EXERCISES = [
    Exercise(
        name="masked_mean",
        reference=masked_mean,
        inputs=padded_texts(),
        also=TEXTS,
        mistakes=POOLING,
        hints=(
            "A sum over some rows, divided by how many these are. Both differ from text to text.",
            (
                "padding[..., None] has an axis for the features and lies beside x: [..., N, 1]. "
                "np.where chooses between a row and 0. In backward dy has lost the axis of the "
                "positions: dy[..., None, :] has it back."
            ),
            (
                "real = ~padding[..., None]; n = real.sum(axis=-2), at least 1, with the dtype of "
                "x; y = np.where(real, x, 0).sum(axis=-2) / n. Backward: dy / n, for the real rows."
            ),
        ),
    ),
    Exercise(
        name="encoder",
        reference=encoder,
        inputs=stacks(),
        also=STACKS,
        mistakes=STACKING,
        hints=(
            (
                "Forward is a loop over the layers. What must it leave behind, so that backward "
                "can be a loop, too?"
            ),
            (
                "Keep the vjp of each layer in a list. The weights of layer l are weights[12 l : "
                "12 l + 12]. The mask is True where a key is a word, and must broadcast to [..., "
                "heads, N, N] with the padding on the last axis."
            ),
            (
                "mask = ~padding[..., None, None, :]. Backward: for each vjp of reversed(list), "
                "dh, *dweights = vjp(dh), and dweights go in front of what has been found so far. "
                "Return dh and all of them."
            ),
        ),
    ),
]
