"""Check 09: convolution with stride and padding, and what is often done instead."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal


@st.composite
def inputs(draw):
    kh, kw = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    H, W = kh + draw(st.integers(1, 4)), kw + draw(st.integers(1, 4))
    B, C, O = (draw(st.integers(1, 3)) for _ in range(3))
    return Case(
        draw(normal((B, C, H, W))),
        draw(normal((O, C, kh, kw))),
        draw(normal((O,))),
        stride=stride,
        padding=padding,
    )


def made(seed, x, weight, **options):
    rng = np.random.default_rng(seed)
    return Case(*(rng.standard_normal(s) for s in (x, weight, weight[:1])), **options)


ALSO = [
    Case(
        np.array([[[[1.0, 2.0, 0.0], [3.0, 1.0, 2.0]]]]),
        np.array([[[[1.0, 0.0], [-1.0, 2.0]]]]),
        np.array([1.0]),
    ),
    made(0, (2, 3, 5, 6), (4, 3, 3, 2)),
    made(1, (2, 2, 7, 5), (3, 2, 3, 3), padding=1),
    made(2, (2, 2, 8, 7), (3, 2, 3, 2), stride=2),
    made(3, (2, 3, 6, 9), (2, 3, 2, 3), stride=3, padding=2),
    made(4, (2, 1, 4, 4), (1, 1, 4, 4)),
    made(5, (1, 2, 4, 6), (5, 2, 2, 2), stride=2),
    made(6, (2, 3, 4, 5), (2, 3, 1, 1), padding=1),
    made(7, (1, 2, 2, 3), (2, 2, 3, 2), padding=3),
]


# ------------------------------------------------ the right steps, each of which a mistake replaces


def with_zeros(x, p):
    return np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))


def cut_off(dpadded, p, H, W):
    return dpadded[..., p : p + H, p : p + W]


def window(i, j, rows, columns, s):
    return (..., slice(i, i + s * rows, s), slice(j, j + s * columns, s))


def patch_rows(patches):  # [B, C, k, H', W'] -> [places, C k]
    B, C, k, rows, columns = patches.shape
    return patches.transpose(0, 3, 4, 1, 2).reshape(B * rows * columns, C * k)


def row_patches(dX, shape):  # back again
    B, C, k, rows, columns = shape
    return dX.reshape(B, rows, columns, C, k).transpose(0, 3, 4, 1, 2)


def as_maps(Y, B, rows, columns):  # [places, O] -> [B, O, H', W']
    return Y.reshape(B, rows, columns, -1).transpose(0, 3, 1, 2)


def as_rows(dy):  # [B, O, H', W'] -> [places, O]
    return dy.transpose(0, 2, 3, 1).reshape(-1, dy.shape[1])


def add(target, where, values):
    target[where] += values


def overwrite(target, where, values):
    target[where] = values


def wrong(
    *,
    places=lambda size, k, s: (size - k) // s + 1,
    border=with_zeros,
    filters=lambda weight: weight,
    filters_back=lambda weight: weight,
    rows_of=patch_rows,
    patches_of=row_patches,
    maps_of=as_maps,
    plus=lambda y, bias: y + bias[:, None, None],
    rows_back=as_rows,
    window_back=window,
    put=add,
    cut=cut_off,
    dbias=lambda dy: dy.sum(axis=(0, 2, 3)),
    dweight=lambda dF, dY: dF,
):
    """A convolution with one of its steps replaced."""

    def conv2d(x, weight, bias, *, stride=1, padding=0):
        B, C, H, W = x.shape
        O, _, kh, kw = weight.shape
        padded = border(x, padding)
        rows = places(padded.shape[2], kh, stride)
        columns = places(padded.shape[3], kw, stride)
        offsets = list(np.ndindex(kh, kw))
        where = [window(i, j, rows, columns, stride) for i, j in offsets]
        X = rows_of(np.stack([padded[w] for w in where], axis=2))
        F = filters(weight).reshape(O, C * kh * kw)
        y = plus(maps_of(X @ F.T, B, rows, columns), bias)

        def vjp(dy):
            dY = rows_back(dy)
            G = filters_back(filters(weight)).reshape(O, C * kh * kw)
            dpatches = patches_of(dY @ G, (B, C, kh * kw, rows, columns))
            dpadded = np.zeros_like(padded)
            for k, (i, j) in enumerate(offsets):
                put(dpadded, window_back(i, j, rows, columns, stride), dpatches[:, :, k])
            dF = dweight(dY.T @ X, dY).reshape(weight.shape)
            return cut(dpadded, padding, H, W), filters(dF), dbias(dy)

        return y, vjp

    return conv2d


def turned(weight):
    return weight[:, :, ::-1, ::-1]


def pixels_first(patches):  # the pixels of a patch before its channels
    B, C, k, rows, columns = patches.shape
    return patches.transpose(0, 3, 4, 2, 1).reshape(B * rows * columns, k * C)


def pixels_first_back(dX, shape):
    B, C, k, rows, columns = shape
    return dX.reshape(B, rows, columns, k, C).transpose(0, 4, 3, 1, 2)


def zeros_of_float64(x, p):
    padded = np.zeros((*x.shape[:2], x.shape[2] + 2 * p, x.shape[3] + 2 * p))
    padded[..., p : p + x.shape[2], p : p + x.shape[3]] = x
    return padded


def edge_repeated(x, p):
    return np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), mode="edge")


MISTAKES = [
    Mistake(
        "filter turned",
        wrong(filters=turned),
        "the filter goes over the picture turned by half a circle: the textbook's convolution",
        "look at the signs of i and j in the formula: they are added to the place, not subtracted",
    ),
    Mistake(
        "patch in another order",
        wrong(rows_of=pixels_first, patches_of=pixels_first_back),
        "a row of patches lists its pixels first and then the channels; the filters do the reverse",
        "weight.reshape keeps the order C, kh, kw: which order has one row of your patches?",
    ),
    Mistake(
        "channels by reshape",
        wrong(
            maps_of=lambda Y, B, rows, columns: Y.reshape(B, -1, rows, columns),
            rows_back=lambda dy: dy.reshape(-1, dy.shape[1]),
        ),
        "the shape is right, but the numbers still stand in the order of places, then filters",
        "reshape never moves an axis: in which order do the four stand after the product?",
    ),
    Mistake(
        "cotangent by reshape",
        wrong(rows_back=lambda dy: dy.reshape(-1, dy.shape[1])),
        "dy goes into the products without its axes moved: a row is no longer one place",
        "forward ended with a transpose; backward must begin with the opposite one",
    ),
    Mistake(
        "bias along the width",
        wrong(plus=lambda y, bias: y + bias),
        "bias is added along the last axis, the width; it belongs to the filters, axis 1",
        "an array of one axis is laid along the last one: which axis of y are the filters?",
    ),
    Mistake(
        "one place too few",
        wrong(places=lambda size, k, s: (size - k) // s),
        "the last place of the filter is left out: a row or a column of the result is missing",
        "a filter as large as the picture fits in once, not never: count the places for size = k",
    ),
    Mistake(
        "border repeated",
        wrong(border=edge_repeated),
        "the padding repeats the pixels of the edge; it should be zeros",
        "print the padded picture of a single pixel",
    ),
    Mistake(
        "float64 zeros",
        wrong(border=zeros_of_float64),
        "float32 goes in, float64 comes out: np.zeros makes float64 if it is not told otherwise",
        "which argument of np.zeros says what the numbers are stored in?",
    ),
    Mistake(
        "overlaps overwritten",
        wrong(put=overwrite),
        "where windows overlap, dx keeps what the last of them sent instead of the sum",
        "a pixel is in several patches: by the chain rule, what all of them send back adds up",
    ),
    Mistake(
        "filter turned in backward",
        wrong(filters_back=turned),
        "dx is made with the filter turned, but a patch gets back what its own pixels were worth",
        "dX = dY F, with F as in forward; adding the windows up does the turning by itself",
    ),
    Mistake(
        "stride forgotten in dx",
        wrong(window_back=lambda i, j, rows, columns, s: window(i, j, rows, columns, 1)),
        "backward puts the patches side by side, but forward has taken them a stride apart",
        "use the same slices in both directions: reading in forward, adding in backward",
    ),
    Mistake(
        "cut at the corner",
        wrong(cut=lambda dpadded, p, H, W: dpadded[..., :H, :W]),
        "dx is cut out at the upper left corner of the padded picture, where the zeros are",
        "where does x lie in the padded picture?",
    ),
    Mistake(
        "border left on",
        wrong(cut=lambda dpadded, p, H, W: dpadded),
        "dx still has the border of zeros around it, so it is larger than x",
        "the zeros are no inputs: cut their gradients off",
    ),
    Mistake(
        "bias gradient not summed over places",
        wrong(dbias=lambda dy: dy.sum(axis=0)),
        "dbias is a whole picture: it is summed over the batch only",
        "one number is added at every place of every picture: how many paths lead back to it?",
    ),
    Mistake(
        "bias gradient averaged",
        wrong(dbias=lambda dy: dy.mean(axis=(0, 2, 3))),
        "dbias is a mean over the places, where it should be the sum",
        "the chain rule adds up paths; if the loss is a mean, dy knows that already",
    ),
    Mistake(
        "weight gradient averaged",
        wrong(dweight=lambda dF, dY: dF / len(dY)),
        "dweight is divided by the number of places",
        "a filter is used at every place, and the chain rule adds; it divides nothing",
    ),
]

HINTS = (
    """Think of the picture as a pile of patches. At each place the filter sees one patch of C·kh·kw
numbers, and the result there is a dot product. Lay all patches out as the rows of one matrix, and
lesson 04 has the rest.""",
    """Pixel (i, j) of the filter meets x̄[..., i::stride, j::stride] (cut to the number of places).
Stack these kh·kw slices, move the axes, reshape: that is X [places, C·kh·kw]. Then Y = X Fᵀ + bias,
and Y's axes go to [B, O, H', W']. Backward goes the same way from end to start.""",
    """dY: move the filters' axis of dy last and flatten the rest. dbias = sum of dY over places,
dF = dYᵀ X, dX = dY F. Reshape dX to the shape that the patches had before their axes were moved,
and for each (i, j) do dpadded[slice of (i, j)] += its part. Return dpadded without the border.""",
)

EXERCISES = [
    Exercise(
        name="conv2d",
        reference=ops.conv2d,
        inputs=inputs(),
        also=ALSO,
        mistakes=MISTAKES,
        hints=HINTS,
    ),
]
