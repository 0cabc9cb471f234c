"""Check 05: softmax along any axis, cross-entropy of any batch, and what is often done instead."""

import math

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, ids, normal, shapes


@st.composite
def softmax_inputs(draw):
    shape = draw(shapes(1, 3))
    return Case(draw(normal(shape, 2.0)), axis=draw(st.integers(-len(shape), len(shape) - 1)))


@st.composite
def loss_inputs(draw):
    rows = draw(st.sampled_from([(3,), (4,), (2, 3), (3, 4)]))
    classes = draw(st.integers(2, 6))
    return Case(draw(normal((*rows, classes), 2.0)), draw(ids(classes, rows)))


FAR = np.array([[1e4, 0.0, -1e4], [0.0, 1.0, 2.0]])
APART = np.array([[900.0, 901.0, 899.0], [-900.0, -902.0, -901.0]])  # no two rows of one size
SQUARE = np.array([[0.5, -1.0, 2.0], [0.0, 3.0, -2.0], [1.5, 1.0, -0.5]])


# ------------------------------------------------------- softmax: one step wrong, the others right


def exp_below_one(x, axis):
    return np.exp(x - x.max(axis=axis, keepdims=True))


def shared_out(e, axis):
    return e / e.sum(axis=axis, keepdims=True)


def through(y, dy, axis):
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def soft(*, axes=lambda axis: (axis, axis), exp=exp_below_one, share=shared_out, back=through):
    """Softmax with one of its steps replaced; ``axes`` gives those of forward and of backward."""

    def softmax(x, *, axis=-1):
        forward, backward = axes(axis)
        y = share(exp(x, forward), forward)
        return y, lambda dy: back(y, dy, backward)

    return softmax


def in_place(x, axis):
    x -= x.max(axis=axis, keepdims=True)
    return np.exp(x)


SOFTMAX_MISTAKES = [
    Mistake(
        "no maximum",
        soft(exp=lambda x, axis: np.exp(x)),
        "exp overflows on large logits, and inf / inf is NaN",
        "a number taken off a whole row changes no ratio: which one keeps every exponent at 0 or "
        "below?",
    ),
    Mistake(
        "one maximum for all",
        soft(exp=lambda x, axis: np.exp(x - x.max())),
        "the maximum is that of the whole array: a row far below it underflows to 0 / 0",
        "each row needs its own maximum, along the axis that the sum runs over",
    ),
    Mistake(
        "axis ignored",
        soft(axes=lambda axis: (-1, -1)),
        "it always works along the last axis, whatever axis says",
        "count where the word axis stands in your code: the maximum, the sum, and the sum in vjp",
    ),
    Mistake(
        "backward along another axis",
        soft(axes=lambda axis: (axis, -1)),
        "forward runs along axis, but the sum in backward along the last axis",
        "an entry competes with the entries it was normalized with: the same axis in both",
    ),
    Mistake(
        "whole array",
        soft(axes=lambda axis: (None, None)),
        "the whole array sums to 1: the rows compete with each other",
        "what should y.sum(axis=axis) be? Print it",
    ),
    Mistake(
        "keepdims left out",
        soft(share=lambda e, axis: e / e.sum(axis=axis)),
        "the sum has lost its axis, so it lines up with the wrong one (or with none)",
        "print the shapes of the two sides of the division, for x of shape (2, 3)",
    ),
    Mistake(
        "diagonal Jacobian",
        soft(back=lambda y, dy, axis: dy * y * (1 - y)),
        "only the diagonal of the Jacobian is used, y (1 - y): what one logit does to the other "
        "probabilities is missing",
        "raise one logit: all other probabilities fall. Add up these paths too",
    ),
    Mistake(
        "sum left out",
        soft(back=lambda y, dy, axis: dy * y),
        "dx is y * dy, without what the denominator gives",
        "add one number to all logits of a row: nothing changes, so dx must sum to 0 in a row",
    ),
    Mistake(
        "sum without y",
        soft(back=lambda y, dy, axis: y * (dy - dy.sum(axis=axis, keepdims=True))),
        "what is subtracted is the plain sum of dy; each term needs its own weight",
        "write the Jacobian element [i = j] y_j - y_i y_j, and sum it with dy_i over i",
    ),
    Mistake(
        "sign of the Jacobian",
        soft(back=lambda y, dy, axis: -through(y, dy, axis)),
        "the gradient has the opposite sign",
        "a logit raises its own probability: the diagonal of the Jacobian is positive",
    ),
    Mistake(
        "changes its input",
        soft(exp=in_place),
        "x -= ... writes into the caller's array: the logits are not what they were",
        "make a new array: z = x - ...",
    ),
]


# ------------------------------------------------------- cross-entropy: one step wrong


def log_softmax(x):
    z = x - x.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def log_of_softmax(x):
    return np.log(shared_out(exp_below_one(x, -1), -1))


def no_maximum(x):
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def one_maximum(x):
    z = x - x.max()
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def over_rows(x):
    z = x - x.max(axis=0, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=0, keepdims=True))


def loss_with(
    *,
    log_p=log_softmax,
    pick=lambda log_p, row, t: log_p[row, t],
    value=lambda loss, size: loss / size[0],
    back=lambda p, row, t: p - np.eye(p.shape[1], dtype=p.dtype)[t],
    rows=lambda shape: math.prod(shape[:-1]),
    scale=lambda dy, n: dy / n,
):
    """Cross-entropy with one of its steps replaced."""

    def cross_entropy(logits, target):
        C = logits.shape[-1]
        x, t = logits.reshape(-1, C), target.reshape(-1)
        row = np.arange(len(t))
        lp = log_p(x)
        n = rows(logits.shape)
        loss = value(-pick(lp, row, t).sum(), (n, C))

        def vjp(dy):
            dx = back(np.exp(lp), row, t) * scale(dy, n)
            return dx.reshape(logits.shape), None

        return loss, vjp

    return cross_entropy


def twice(logits, target):
    p, through_softmax = soft()(logits)
    loss, through_loss = loss_with()(p, target)
    return loss, lambda dy: (through_softmax(through_loss(dy)[0]), None)


def axis_one(logits, target):
    """Right for [N, C]; for [B, T, C] the positions compete, and not the classes."""
    if logits.ndim == 2:
        return loss_with()(logits, target)
    z = logits - logits.max(axis=1, keepdims=True)
    lp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    at = np.expand_dims(target, -1)
    one = np.eye(logits.shape[-1], dtype=logits.dtype)[target]

    def vjp(dy):
        return (np.exp(lp) - one) * (dy / target.size), None

    return -np.take_along_axis(lp, at, axis=-1).mean(), vjp


def writes_into_saved(logits, target):
    C = logits.shape[-1]
    x, t = logits.reshape(-1, C), target.reshape(-1)
    row = np.arange(len(t))
    lp = log_softmax(x)
    p = np.exp(lp)

    def vjp(dy):
        p[row, t] -= 1
        return p.reshape(logits.shape) * (dy / len(t)), None

    return -lp[row, t].mean(), vjp


def writes_into_logits(logits, target):
    logits -= logits.max(axis=-1, keepdims=True)
    return loss_with()(logits, target)


def crossed(p, row, t):
    """Every row is told every target."""
    dx = p.copy()
    dx[:, t] -= 1
    return dx


def float64_one_hot(p, row, t):
    return p - np.eye(p.shape[1])[t]


def shifted_one_hot(p, row, t):
    return p - np.eye(p.shape[1], dtype=p.dtype)[t - 1]


LOSS_MISTAKES = [
    Mistake(
        "no maximum",
        loss_with(log_p=no_maximum),
        "exp overflows on large logits, so the loss is infinite or NaN",
        "take the maximum off each row first: ln softmax does not change by it",
    ),
    Mistake(
        "one maximum for all",
        loss_with(log_p=one_maximum),
        "one maximum is taken off all rows: a row far below it sums to 0, and ln 0 is -inf",
        "each row has a maximum of its own",
    ),
    Mistake(
        "log of softmax",
        loss_with(log_p=log_of_softmax),
        "the softmax underflows to 0 and ln 0 is -inf: the loss is infinite where it should be "
        "large",
        "cancel ln against exp on paper: ln(exp(z) / sum) = z - ln(sum), and z is still there",
    ),
    Mistake(
        "softmax twice",
        twice,
        "softmax is applied to probabilities: the loss already contains one, and expects logits",
        "give the bare scores to the loss; which line makes them probabilities before it?",
    ),
    Mistake(
        "over the rows",
        loss_with(log_p=over_rows),
        "the softmax runs over the rows: examples compete, where classes should",
        "which axis has C entries? The probabilities of each row must sum to 1",
    ),
    Mistake(
        "axis 1 of three",
        axis_one,
        "axis 1 is the classes for [N, C], but the positions for [B, T, C]",
        "count from the end, or reshape to [N, C] first",
    ),
    Mistake(
        "sum instead of mean",
        loss_with(value=lambda loss, size: loss, scale=lambda dy, n: dy),
        "the losses of the rows are added up and not divided by their number: loss and gradient "
        "grow with the batch",
        "which number should the loss of ten equal rows be?",
    ),
    Mistake(
        "no 1/N in backward",
        loss_with(scale=lambda dy, n: dy),
        "the loss is a mean, but the gradient is that of the sum: too large by the number of rows",
        "a row enters the mean with the factor 1/N; the chain rule keeps it",
    ),
    Mistake(
        "1/N twice",
        loss_with(scale=lambda dy, n: dy / n / n),
        "the gradient is divided by the number of rows twice",
        "one mean, one 1/N: where does the other come from?",
    ),
    Mistake(
        "divided by N·C",
        loss_with(
            value=lambda loss, size: loss / (size[0] * size[1]),
            back=lambda p, row, t: (p - np.eye(p.shape[1], dtype=p.dtype)[t]) / p.shape[1],
        ),
        "the mean runs over all N·C entries, of which only N are not zero: loss and gradient are "
        "too small by the number of classes",
        "what is the loss of equal logits? It should be ln C",
    ),
    Mistake(
        "divided by the first axis",
        loss_with(rows=lambda shape: shape[0]),
        "the mean counts the sequences, but every position of them is a row of its own",
        "for logits [B, T, C], how many predictions are there?",
    ),
    Mistake(
        "onehot minus softmax",
        loss_with(back=lambda p, row, t: np.eye(p.shape[1], dtype=p.dtype)[t] - p),
        "the gradient has the opposite sign: descending along it raises the loss",
        "raise the right logit: does the loss rise or fall? Its derivative has that sign",
    ),
    Mistake(
        "minus left out",
        loss_with(
            pick=lambda log_p, row, t: -log_p[row, t],
            back=lambda p, row, t: np.eye(p.shape[1], dtype=p.dtype)[t] - p,
        ),
        "the loss is the mean of ln p, a negative number that is best when it is worst",
        "a loss falls towards 0 when the prediction gets right; look at the sign",
    ),
    Mistake(
        "onehot left out",
        loss_with(back=lambda p, row, t: p),
        "the gradient is the softmax alone: the target does not appear in it",
        "the loss has two terms, -x_t and the log of the sum; differentiate both",
    ),
    Mistake(
        "onehot added",
        loss_with(back=lambda p, row, t: p + np.eye(p.shape[1], dtype=p.dtype)[t]),
        "the one-hot is added to the softmax: the right logit is pushed down, like the wrong ones",
        "the first term of the loss is -x_t; which sign has its derivative?",
    ),
    Mistake(
        "dy ignored",
        loss_with(scale=lambda dy, n: 1 / n),
        "the gradient takes no notice of dy: right only while the loss is the last step",
        "what if someone minimizes half this loss? vjp gets dy = 0.5 then",
    ),
    Mistake(
        "bits",
        loss_with(value=lambda loss, size: loss / size[0] / math.log(2)),
        "the loss is in bits (log2), but its gradient is that of the natural logarithm",
        "np.log is the natural one; what is the loss of equal logits? It should be ln C",
    ),
    Mistake(
        "neighboring class",
        loss_with(pick=lambda log_p, row, t: log_p[row, t - 1], back=shifted_one_hot),
        "it picks the class before the target: class 0 becomes the last one",
        "are the classes numbered from 0 or from 1? Print the smallest target",
    ),
    Mistake(
        "every target in every row",
        loss_with(
            pick=lambda log_p, row, t: log_p[:, t] / len(t),
            back=crossed,
        ),
        "log_p[:, t] picks all N targets in each of the N rows: it has shape [N, N]",
        "print the shape of what you pick; it should be [N]. Index the rows as well",
    ),
    Mistake(
        "float64 onehot",
        loss_with(back=float64_one_hot),
        "float32 logits get a float64 gradient: np.eye and np.zeros make float64",
        "give it the dtype of the logits, or subtract 1 in place from a copy of the softmax",
    ),
    Mistake(
        "vjp writes into what it saved",
        writes_into_saved,
        "vjp subtracts 1 from the saved softmax itself, so a second call subtracts it again",
        "copy before you write: what forward has saved stays as it is",
    ),
    Mistake(
        "changes its input",
        writes_into_logits,
        "logits -= ... writes into the caller's array: the model's output is not what it was",
        "make a new array: z = x - ...",
    ),
]

EXERCISES = [
    Exercise(
        name="softmax",
        reference=ops.softmax,
        inputs=softmax_inputs(),
        also=[
            Case(np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 3.0]])),
            Case(FAR),
            Case(APART),
            Case(SQUARE),
            Case(SQUARE, axis=0),
            Case(SQUARE[0]),
            Case(np.stack([SQUARE, SQUARE[::-1]])),  # here the last axis is not axis 1
            Case(APART.T, axis=0),
        ],
        mistakes=SOFTMAX_MISTAKES,
        hints=(
            (
                "Two lines go forward, exponentials and a division by their sum. What happens at a "
                "logit of 1000, and which number can you take off a whole row without changing y?"
            ),
            (
                "Take off the maximum along axis, with keepdims=True. Backward, a logit moves "
                "every probability of its row: $\\partial y_i/\\partial x_j = y_i([i = j] - y_j)$. "
                "Multiply by dy_i and sum over i."
            ),
            (
                "dx = y * (dy - s), where s is the sum of dy * y along the same axis, with "
                "keepdims=True. y is what forward has computed; nothing else need be kept."
            ),
        ),
    ),
    Exercise(
        name="cross_entropy",
        reference=ops.cross_entropy,
        inputs=loss_inputs(),
        also=[
            Case(np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 3.0]]), np.array([0, 1])),
            Case(FAR, np.array([2, 2])),
            Case(APART, np.array([2, 1])),
            Case(SQUARE, np.array([1, 1, 0])),
            Case(np.stack([SQUARE, SQUARE[::-1]]), np.array([[0, 2, 2], [1, 0, 2]])),
        ],
        mistakes=LOSS_MISTAKES,
        hints=(
            (
                "Make it a matrix first: logits.reshape(-1, C), one row for each target. Then take "
                "the logarithm of the softmax on paper, and look what cancels."
            ),
            (
                "log_p = z - ln(sum(exp(z))), with z = x minus the maximum of its row. Pick one "
                "entry in each row with two index arrays, row numbers and targets. Backward, "
                "$-x_t + \\ln \\sum_k e^{x_k}$ has two terms, and the second gives the softmax."
            ),
            (
                "loss = -log_p[np.arange(N), t].mean(). dx = np.exp(log_p), a new array; subtract "
                "1 at [np.arange(N), t]; multiply by dy / N; reshape to logits.shape; return it, "
                "and None for the target."
            ),
        ),
    ),
]
