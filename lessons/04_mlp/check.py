"""Check 04: the linear layer on rows, batches and batches of sequences, and its usual mistakes."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal


@st.composite
def inputs(draw):
    leading = draw(st.sampled_from([(), (3,), (4,), (2, 3), (3, 2), (2, 2, 2)]))
    n_in, n_out = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    x, weight = draw(normal((*leading, n_in))), draw(normal((n_out, n_in)))
    return Case(x, weight, draw(normal((n_out,)))) if draw(st.booleans()) else Case(x, weight)


def made(seed, *shapes):
    rng = np.random.default_rng(seed)
    return Case(*(rng.standard_normal(shape) for shape in shapes))


ALSO = [
    Case(
        np.array([[1.0, 2.0, -1.0], [0.0, 1.0, 3.0]]),
        np.array([[1.0, 0.0, 2.0], [-1.0, 1.0, 1.0]]),
        np.array([1.0, -2.0]),
    ),
    made(0, (4, 3), (2, 3), (2,)),
    made(1, (3, 3), (3, 3), (3,)),  # square: a transpose too many still runs
    made(2, (4, 3), (2, 3)),
    made(3, (2, 4, 3), (5, 3), (5,)),
    made(4, (3, 3, 3), (3, 3), (3,)),  # everything square
    made(5, (3,), (2, 3), (2,)),
]


# ------------------------------------------------ the right steps, each of which a mistake replaces


def product(rows, weight):
    return rows @ weight.T


def shifted(y, bias):
    return y + bias


def to_x(dy, weight):
    return dy @ weight


def to_weight(dy, rows):
    return dy.T @ rows


def to_bias(dy):
    return dy.sum(axis=0)


def layer(
    *,
    forward=product,
    add=shifted,
    dx=to_x,
    dweight=to_weight,
    dbias=to_bias,
    flat_y=False,
    flat_dx=False,
):
    """The linear layer with one of its steps replaced; flat: the leading axes are not restored."""

    def linear(x, weight, bias=None):
        n_out, n_in = weight.shape
        rows = x.reshape(-1, n_in)
        y = forward(rows, weight)
        if bias is not None:
            y = add(y, bias)

        def vjp(dy):
            dy = dy.reshape(-1, n_out)
            back = dx(dy, weight)
            return (
                back if flat_dx else back.reshape(x.shape),
                dweight(dy, rows),
                None if bias is None else dbias(dy),
            )

        return y if flat_y else y.reshape(*x.shape[:-1], n_out), vjp

    return linear


# ------------------------------------------------ versions that forget what x may look like


def with_axes(*, dweight=None, dbias=None):
    """The layer with a gradient that is computed without reshape, on all the axes that x has."""

    def linear(x, weight, bias=None):
        y, right = layer()(x, weight, bias)

        def vjp(dy):
            dx, dw, db = right(dy)
            if dweight is not None:
                dw = dweight(dy, x)
            if dbias is not None and bias is not None:
                db = dbias(dy)
            return dx, dw, db

        return y, vjp

    return linear


def last_sequence(dy, x):
    """Right for a matrix; of a batch of them only the last one counts."""
    while dy.ndim > 2:
        dy, x = dy[-1], x[-1]
    return np.atleast_2d(dy).T @ np.atleast_2d(x)


def one_for_each_sequence(dy, x):
    return dy.swapaxes(-1, -2) @ x


def as_for_a_matrix(dy, x):
    return dy.T @ x


def first_axis(dy):
    return dy.sum(axis=0)


# ------------------------------------------------ further ones


def bias_always(x, weight, bias=None):
    y, _ = layer()(x, weight)
    return y + bias, layer()(x, weight, bias)[1]


def writes_into_x(x, weight, bias=None):
    _, vjp = layer()(x.copy(), weight, bias)
    y = x
    y[...] = x @ weight.T
    if bias is not None:
        y += bias
    return y, vjp


def adds_up(x, weight, bias=None):
    y, right = layer()(x, weight, bias)
    dweight = np.zeros_like(weight)
    dbias = np.zeros_like(bias) if bias is not None else None

    def vjp(dy):
        nonlocal dweight, dbias
        dx, dw, db = right(dy)
        dweight = dweight + dw
        if dbias is not None:
            dbias = dbias + db
        return dx, dweight, dbias

    return y, vjp


def in_float64(dy, rows):
    total = np.zeros((dy.shape[1], rows.shape[1]))
    for n in range(len(rows)):
        total += np.outer(dy[n], rows[n])
    return total


MISTAKES = [
    Mistake(
        "bias gradient not summed",
        with_axes(dbias=lambda dy: dy.copy()),
        "the bias gradient is dy itself: it has a row for each example, the bias has one for all",
        "one bias number is added to every row, so every row has its say: combine what they say, "
        "until the shape is that of bias",
    ),
    Mistake(
        "bias gradient of the first row",
        layer(dbias=lambda dy: dy[0].copy()),
        "the shape of the bias gradient is right, but it hears the first row only",
        "the same bias moved the outputs of all the rows; what about the others?",
    ),
    Mistake(
        "bias gradient of the last row",
        layer(dbias=lambda dy: dy[-1].copy()),
        "the bias gradient is that of the last row: in a loop, an = where += belongs",
        "the same bias moved the outputs of all the rows; what about the others?",
    ),
    Mistake(
        "mean for sum",
        layer(dbias=lambda dy: dy.mean(axis=0)),
        "the bias gradient is the mean over the rows: too small by their number",
        "the chain rule adds paths up. If the loss is a mean, its 1/N is already inside dy",
    ),
    Mistake(
        "divided by the number of rows",
        layer(
            dweight=lambda dy, rows: dy.T @ rows / len(rows),
            dbias=lambda dy: dy.sum(axis=0) / len(dy),
        ),
        "the gradients of weight and bias are divided by the number of rows",
        "the layer has no mean in it. If the loss is a mean, its 1/N is already inside dy",
    ),
    Mistake(
        "bias summed over the last axis",
        layer(dbias=lambda dy: dy.sum(axis=-1)),
        "the bias gradient adds up the outputs of each row, where it should add up the rows of "
        "each output",
        "which axis of dy has one entry for each bias? That one must stay",
    ),
    Mistake(
        "bias summed over the first axis only",
        with_axes(dbias=first_axis),
        "the bias gradient is summed over the first axis; for x of shape [B, T, in] the second is "
        "left",
        "all axes but the last are rows: how would you make them one axis?",
    ),
    Mistake(
        "bias gradient keeps an axis",
        layer(dbias=lambda dy: dy.sum(axis=0, keepdims=True)),
        "the bias gradient has shape (1, out), the bias (out,)",
        "look what keepdims does to the shape",
    ),
    Mistake(
        "bias gradient without dy",
        layer(dbias=lambda dy: np.full_like(dy[0], len(dy))),
        "the bias gradient takes no notice of dy: it is the number of rows",
        "y moves one to one with the bias, yes. How much does the loss move with y?",
    ),
    Mistake(
        "bias gradient missing",
        layer(dbias=lambda dy: None),
        "there is no gradient for the bias, so it stays at its first value for good",
        "the vjp returns three things where a bias was given",
    ),
    Mistake(
        "bias left out",
        layer(add=lambda y, bias: y),
        "the bias is not added: at x = 0 the output is 0",
        "the formula has two terms",
    ),
    Mistake(
        "None not expected",
        bias_always,
        "it adds bias without asking whether there is one: bias may be None",
        "an `if bias is not None` in forward, and its counterpart in vjp",
    ),
    Mistake(
        "dW transposed",
        layer(dweight=lambda dy, rows: rows.T @ dy),
        "dW is transposed: [in, out], while weight is [out, in]",
        "write dW with its two indices, o first. Which of the two factors carries o?",
    ),
    Mistake(
        "dW of the last sequence only",
        with_axes(dweight=last_sequence),
        "dW hears only the last sequence of the batch",
        "the same weight worked on all B sequences: a sum over B is missing (or an = for a +=)",
    ),
    Mistake(
        "dW for each sequence",
        with_axes(dweight=one_for_each_sequence),
        "dW has one matrix for each sequence of the batch; they are not added up",
        "matmul sums over one axis and carries the leading ones along. Make them one axis first",
    ),
    Mistake(
        "all axes reversed",
        with_axes(dweight=as_for_a_matrix),
        ".T reverses all axes of [B, T, out], not the last two: dW is right only for a matrix",
        "make the leading axes one, with reshape, then transpose",
    ),
    Mistake(
        "written for a matrix",
        with_axes(dweight=as_for_a_matrix, dbias=first_axis),
        "dy.T @ x and dy.sum(axis=0) are right for x of shape [N, in], and for no other",
        "make the leading axes one, with reshape, before the formulas of the matrix",
    ),
    Mistake(
        "dx with W transposed",
        layer(dx=lambda dy, weight: dy @ weight.T),
        "dx is dy Wᵀ: the shapes fit only when W is square, and the numbers are wrong then too",
        "write dx with its index i and look over which index of W the sum runs",
    ),
    Mistake(
        "dx without dy",
        layer(dx=lambda dy, weight: np.ones_like(dy) @ weight),
        "dx takes no notice of dy: it is the sum of the rows of W",
        "the derivative of y by x is W; the chain rule multiplies it with what came from above",
    ),
    Mistake(
        "W for its transpose",
        layer(forward=lambda rows, weight: rows @ weight),
        "forward multiplies by W, not by its transpose: it runs only when W is square",
        "y[n, o] sums over i. Which axis of weight is i?",
    ),
    Mistake(
        "reshape for transpose",
        layer(forward=lambda rows, weight: rows @ weight.reshape(weight.shape[::-1])),
        "weight.reshape(in, out) has the shape of the transpose, but not its numbers in place",
        "reshape keeps the order of the numbers in memory; .T swaps the two axes",
    ),
    Mistake(
        "y stays a matrix",
        layer(flat_y=True),
        "y has come out as [N, out]: the leading axes of x are not put back",
        "x of shape [B, T, in] gives y of shape [B, T, out]",
    ),
    Mistake(
        "dx stays a matrix",
        layer(flat_dx=True),
        "dx has come out as [N, in]: the leading axes of x are not put back",
        "a gradient has the shape of its input, always",
    ),
    Mistake(
        "writes into x",
        writes_into_x,
        "y is another name of x, and what is written to it is written into the caller's x",
        "make a new array: y = x @ ..., and no = or += into x",
    ),
    Mistake(
        "adds to the last call",
        adds_up,
        "vjp adds to what its last call has left: called a second time, it answers double",
        "adding up over several uses is the tape's work; a vjp starts from nothing each time",
    ),
    Mistake(
        "float64 dW",
        layer(dweight=in_float64),
        "float32 inputs get a float64 dW: np.zeros makes float64",
        "np.zeros_like(weight) keeps the dtype, and so does a matrix product",
    ),
]

EXERCISES = [
    Exercise(
        name="linear",
        reference=ops.linear,
        inputs=inputs(),
        also=ALSO,
        mistakes=MISTAKES,
        hints=(
            (
                "Make x a matrix first: all axes but the last are rows, whatever they mean. Then "
                "write the shape of every array beside its line; most of the work is done by that."
            ),
            (
                "With y[n, o] = sum_i x[n, i] W[o, i] + b[o], ask for each input: which outputs "
                "does one entry of it touch? Sum over those. W[o, i] and b[o] are used in every "
                "row n; x[n, i] is used by every output o."
            ),
            (
                "With dy as [N, out] and x as [N, in]: dx = dy @ weight, reshaped to x.shape; "
                "dweight = dy.T @ x; dbias = dy.sum(axis=0). Without a bias the third is None."
            ),
        ),
    ),
]
