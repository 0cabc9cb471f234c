"""Check 03: the mean squared error of any shape, steps of descent, and what is often done."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal, shapes


@st.composite
def pairs(draw):
    shape = draw(shapes(1, 3))
    return Case(draw(normal(shape, 2.0)), draw(normal(shape, 2.0)))


def examples(seed, n, d, lr=0.1):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return Case(rng.standard_normal(d), X, 3 * rng.standard_normal(n), lr=lr)


@st.composite
def regressions(draw):
    n, d = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    return examples(draw(st.integers(0, 2**32 - 1)), n, d, draw(st.sampled_from([0.01, 0.1, 0.5])))


def descent_step(theta, X, y, *, lr):
    """One step, put together from the library's ops."""
    pred, through_product = ops.matmul(X, theta)
    _, through_loss = ops.mse(pred, y)
    dpred, _ = through_loss(np.ones(()))
    _, dtheta = through_product(dpred)
    return theta - lr * dtheta


# ------------------------------------------------------- mse: one step wrong, the others right


def refuse(pred, target):
    if pred.shape != target.shape:
        raise ValueError(f"mse: pred {pred.shape}, target {target.shape}")


def accept(pred, target):
    """No look at the shapes."""


def loss_with(
    *,
    value=lambda r, n: (r * r).sum() / n,
    slope=lambda r, n: 2 * r / n,
    count=lambda r: r.size,
    targets=lambda dpred: -dpred,
    scale=lambda slope, dy: slope * dy,
    check=refuse,
):
    """The mean squared error with one of its steps replaced."""

    def mse(pred, target):
        check(pred, target)
        r = pred - target
        n = count(r)

        def vjp(dy):
            dpred = scale(slope(r, n), dy)
            return dpred, targets(dpred)

        return value(r, n), vjp

    return mse


def root(pred, target):
    refuse(pred, target)
    r = pred - target
    loss = np.sqrt((r * r).mean())
    return loss, lambda dy: (dy * r / (loss * r.size), -dy * r / (loss * r.size))


def changes_its_input(pred, target):
    refuse(pred, target)
    pred -= target
    r = pred.copy()
    return (r * r).mean(), lambda dy: (2 * dy * r / r.size, -2 * dy * r / r.size)


def rows(r):
    return r.shape[0]


def in_float64(r, n):
    gradient = np.zeros(r.shape)
    for place in np.ndindex(*r.shape):
        gradient[place] = 2 * r[place] / n
    return gradient


MSE_FAULTS = [
    (
        "sign",
        {"slope": lambda r, n: -2 * r / n},
        "both gradients have the opposite sign: the -1 of (target - pred) was lost on the way",
        "raise a prediction that is too high already: does the loss rise or fall?",
    ),
    (
        "no 2",
        {"slope": lambda r, n: r / n},
        "the gradient is half of what it should be: the 2 of the square is missing",
        "what is the derivative of r² at r = 3? Compare 3.001² with 3²",
    ),
    (
        "no 1/n in backward",
        {"slope": lambda r, n: 2 * r},
        "the loss is a mean, but the gradient is that of the sum: n times too large",
        "one prediction of ten moves: by how much does the mean of ten squares follow?",
    ),
    (
        "sum for mean",
        {"value": lambda r, n: (r * r).sum(), "slope": lambda r, n: 2 * r},
        "the squares are added up and not divided: loss and gradient grow with the data",
        "which loss should ten equal errors have, and which twenty?",
    ),
    (
        "divided by the rows",
        {"count": rows},
        "the sum of all elements is divided by the number of rows only",
        "print pred.size and len(pred) for an array of shape (2, 3)",
    ),
    (
        "rows in backward only",
        {"value": lambda r, n: (r * r).mean(), "count": rows},
        "the loss divides by all elements, but its gradient by the rows only",
        "the n of the gradient is the n of the mean: use one name for both",
    ),
    (
        "mean over the first axis",
        {"value": lambda r, n: (r * r).mean(axis=0), "count": rows},
        "the mean runs over the first axis only, so the loss of a matrix is a row of numbers",
        "print loss.shape: it should be ()",
    ),
    (
        "absolute error",
        {"value": lambda r, n: np.abs(r).sum() / n, "slope": lambda r, n: np.sign(r) / n},
        "this is the mean of |pred - target|: no square, and the same slope for every error",
        "which errors should count most? Square them, and differentiate the square",
    ),
    (
        "not squared",
        {"value": lambda r, n: r.sum() / n, "slope": lambda r, n: np.ones_like(r) / n},
        "the errors are averaged without a square, so +1 and -1 cancel and the best loss is -inf",
        "what is the loss of a line that is 1 too high here and 1 too low there?",
    ),
    (
        "half",
        {"value": lambda r, n: (r * r).sum() / (2 * n), "slope": lambda r, n: r / n},
        "this is half the mean squared error: some books put a 1/2 in front, to lose the 2",
        "both forms are used; the formula of this lesson has no 1/2",
    ),
    (
        "gradient of the target left out",
        {"targets": lambda dpred: None},
        "the target has no gradient; but both inputs are floating and may both carry one",
        "what happens to the loss if the target moves by a little? By how much does r move?",
    ),
    (
        "target with the sign of pred",
        {"targets": lambda dpred: dpred.copy()},
        "both gradients have the same sign, although one input is subtracted from the other",
        "raise both by the same amount: nothing changes, so the two gradients must cancel",
    ),
    (
        "dy ignored",
        {"scale": lambda slope, dy: slope},
        "the gradient takes no notice of dy: right only while the loss is the last step",
        "what if someone minimizes a tenth of this loss? vjp gets dy = 0.1 then",
    ),
    (
        "float64 gradient",
        {"slope": in_float64, "scale": lambda slope, dy: slope * float(dy)},
        "float32 inputs get a float64 gradient: np.zeros makes float64",
        "np.zeros_like keeps the dtype; or multiply the residual itself",
    ),
]

MSE_MISTAKES = [
    Mistake(
        "root",
        root,
        "this is the root of the mean squared error, with the gradient of the root",
        "the root is good for reports, in the unit of y; leave it out here",
    ),
    Mistake(
        "changes its input",
        changes_its_input,
        "pred -= target writes into the caller's array: the predictions are not what they were",
        "make a new array: r = pred - target",
    ),
    Mistake(
        "shapes not compared",
        loss_with(check=accept),
        "two shapes are accepted if NumPy can stretch one: [n, 1] minus [n] becomes [n, n], and "
        "every prediction is compared with every target",
        "compare pred.shape with target.shape first, and raise ValueError if they differ",
    ),
    *(Mistake(name, loss_with(**wrong), told, hint) for name, wrong, told, hint in MSE_FAULTS),
    *(  # the same by someone who has not thought of the shapes yet
        Mistake(
            f"{name}, shapes not compared",
            loss_with(**wrong, check=accept),
            f"{told} (and the shapes are not compared)",
            hint,
        )
        for name, wrong, told, hint in MSE_FAULTS
    ),
]


# ------------------------------------------------------- descent_step: one step wrong


def step_with(
    *,
    residual=lambda X, theta, y: X @ theta - y,
    back=lambda X, r, theta: X.T @ r,
    factor=lambda X: 2 / X.shape[0],
    move=lambda theta, lr, g: theta - lr * g,
):
    """A descent step with one of its lines replaced."""

    def descent_step(theta, X, y, *, lr):
        return move(theta, lr, factor(X) * back(X, residual(X, theta, y), theta))

    return descent_step


def in_place(theta, lr, g):
    theta -= lr * g
    return theta


def one_parameter_at_a_time(theta, X, y, *, lr):
    theta = theta.copy()
    for j in range(len(theta)):
        theta[j] -= lr * 2 / len(y) * (X @ theta - y) @ X[:, j]  # the others have moved already
    return theta


def one_example_at_a_time(theta, X, y, *, lr):
    theta = theta.copy()
    for i in range(len(y)):
        theta -= lr * 2 / len(y) * (X[i] @ theta - y[i]) * X[i]
    return theta


DESCENT_MISTAKES = [
    Mistake(
        "climbs",
        step_with(move=lambda theta, lr, g: theta + lr * g),
        "the step goes uphill: the loss grows, and faster at every step",
        "two signs meet here, that of the residual and that of the step; one of them is wrong",
    ),
    Mistake(
        "as printed",
        step_with(residual=lambda X, theta, y: y - X @ theta, factor=lambda X: 1),
        "this is the program of D2 §4.4: it subtracts y - prediction, and a sum where a mean "
        "should be",
        "differentiate (y - p)² by p: the inner derivative is -1. Then count the examples",
    ),
    Mistake(
        "no 2",
        step_with(factor=lambda X: 1 / X.shape[0]),
        "the step is half as long as it should be: the 2 of the square is missing",
        "take dpred from your mse; its gradient check has approved it",
    ),
    Mistake(
        "sum for mean",
        step_with(factor=lambda X: 2),
        "the gradients of the examples are added and not averaged: the step is n times too long",
        "double the data by repeating it: the step should stay as it was",
    ),
    Mistake(
        "no 2 and no 1/n",
        step_with(factor=lambda X: 1),
        "the gradient is X.T @ residual without its factor",
        "the factor is the one of the mean squared error: which two numbers does it hold?",
    ),
    Mistake(
        "divided by the parameters",
        step_with(factor=lambda X: 2 / X.shape[1]),
        "it is divided by the number of parameters; the mean runs over the examples",
        "which axis of X has one entry for each square in the loss?",
    ),
    Mistake(
        "divided by all of X",
        step_with(factor=lambda X: 2 / X.size),
        "it is divided by X.size, which is examples times parameters",
        "how many squares does the loss average? Print len(y)",
    ),
    Mistake(
        "residual times theta",
        step_with(back=lambda X, r, theta: r.sum() * theta),
        "the residual is multiplied by theta; but the slope of X @ theta by theta is X",
        "p = x · θ: how much does p move if θ moves by 1? By x, wherever θ is",
    ),
    Mistake(
        "X left out",
        step_with(back=lambda X, r, theta: r.sum() * np.ones_like(theta)),
        "every parameter gets the mean of the residuals, as only the intercept should",
        "the chain rule has one more factor: what does parameter j multiply in example i?",
    ),
    Mistake(
        "product of the means",
        step_with(back=lambda X, r, theta: r.sum() * X.mean(axis=0)),
        "the mean residual is multiplied by the mean of X: the mean of products is something else",
        "multiply within each example first, then add: that is X.T @ r",
    ),
    Mistake(
        "only the last example",
        step_with(back=lambda X, r, theta: r[-1] * X[-1]),
        "only the last example is in the gradient: each pass of the loop overwrites it",
        "= or +=? Each example adds its part",
    ),
    Mistake(
        "absolute error",
        step_with(
            residual=lambda X, theta, y: np.sign(X @ theta - y),
            factor=lambda X: 1 / X.shape[0],
        ),
        "each example pushes equally hard: that is the gradient of the absolute error",
        "a residual twice as large should push twice as hard",
    ),
    Mistake(
        "one parameter at a time",
        one_parameter_at_a_time,
        "the second parameter is updated with a prediction that the first has changed already",
        "compute the whole gradient first, then move all parameters at once",
    ),
    Mistake(
        "one example at a time",
        one_example_at_a_time,
        "theta moves inside the loop over the examples, so each sees another theta",
        "add up over all examples first; one step, one new theta",
    ),
    Mistake(
        "returns the gradient",
        step_with(move=lambda theta, lr, g: g),
        "what comes back is the gradient; it should be the theta after the step",
        "one subtraction is left to do",
    ),
    Mistake(
        "lr left out",
        step_with(move=lambda theta, lr, g: theta - g),
        "the whole gradient is subtracted, whatever lr says",
        "lr says which share of the gradient to go",
    ),
    Mistake(
        "theta changed in place",
        step_with(move=in_place),
        "theta is right, but it is the caller's array that was changed, by -=",
        "theta = theta - ... makes a new array; theta -= ... writes into the old one",
    ),
]

HAND = np.array([[2.0, 1.0, 0.0], [1.0, 3.0, 2.0]]), np.array([[1.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
LINE = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), np.array([1.0, 3.0, 4.0])

EXERCISES = [
    Exercise(
        name="mse",
        reference=ops.mse,
        inputs=pairs(),
        also=[
            Case(*HAND),
            Case(np.array([3.0]), np.array([1.0])),
            Case(*(each[0] for each in HAND)),
            Case(np.array([[1e4, -1e4], [0.5, 2.0]]), np.array([[-1e4, 1e4], [1.0, -3.0]])),
            Case(np.array([[1.0], [2.0], [4.0]]), np.array([3.0])),
        ],
        mistakes=MSE_MISTAKES,
        hints=(
            (
                "Two lines go forward: a difference, and the mean of its squares. Give the "
                "difference a name, you need it again. What is the derivative of r² by r?"
            ),
            (
                "One square has the slope 2r. It enters the mean with 1/n, n being the number "
                "of all elements. pred enters r with +1, target with -1, and dy multiplies "
                "everything."
            ),
            (
                "r = pred - target; loss = (r * r).sum() / r.size; dpred = 2 / r.size * dy * r, "
                "and -dpred for the target. Before all that: if pred.shape != target.shape, "
                "ValueError."
            ),
        ),
    ),
    Exercise(
        name="descent_step",
        reference=descent_step,
        inputs=regressions(),
        also=[
            Case(np.zeros(2), *LINE, lr=0.1),
            Case(np.array([0.5, -1.0]), *LINE, lr=0.25),
            examples(0, 5, 3),
            examples(1, 3, 5),
        ],
        contract="function",
        mistakes=DESCENT_MISTAKES,
        hints=(
            (
                "Write the two lines that go forward, prediction and loss, and walk back over "
                "them. Your mse brings you to the prediction already."
            ),
            (
                "dpred has one entry for each example. theta_j touches all of them, example i "
                "with the factor X[i, j]: sum over i. Which matrix product sums over the rows "
                "of X?"
            ),
            (
                "dpred, _ = vjp(1.0), where vjp is that of mse(X @ theta, y). dtheta = X.T @ "
                "dpred. Return theta - lr * dtheta, a new array."
            ),
        ),
    ),
]
