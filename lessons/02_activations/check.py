"""Check 02: sigmoid, tanh and relu at all sizes of x, and what is often done instead."""

import numpy as np

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, cases, normal, shapes

HAND = np.array([[0.0, 1.0, -1.0], [2.0, -3.0, 0.5]])
# Each number here separates right from nearly right; see the mistakes.
SIGMOID_FAR = np.array([[-1e4, -720.0, -40.0], [0.0, 800.0, 1e4]])
TANH_FAR = np.array([[-400.0, -1e-12, 0.0], [1e-12, 1e-5, 400.0]])
RELU_FAR = np.array([[-np.inf, -1e4, 0.0], [1e4, np.inf, 1.0]])


# ------------------------------------------------------- the right steps, of which one is replaced


def right_sigmoid(x):
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


def right_tanh(x):
    m = np.expm1(-2 * np.abs(x))
    return np.copysign(m / (m + 2), x)


def right_relu(x):
    return np.maximum(x, 0)


def op(value, back):
    """An op out of ``y = value(x)`` and ``dx = back(x, y, dy)``."""

    def wrong(x):
        y = value(x)
        return y, lambda dy: back(x, y, dy)

    return wrong


def sigmoid_with(value=right_sigmoid, back=lambda x, y, dy: dy * y * (1 - y)):
    return op(value, back)


def tanh_with(value=right_tanh, back=lambda x, y, dy: dy * (1 - y * y)):
    return op(value, back)


def relu_with(value=right_relu, back=lambda x, y, dy: dy * (x > 0)):
    return op(value, back)


# ------------------------------------------------------- what takes more than a line


def filled_float64(x):
    """Two branches written into an array that np.zeros has made float64."""
    y = np.zeros(x.shape)
    y[x >= 0] = 1 / (1 + np.exp(-x[x >= 0]))
    y[x < 0] = np.exp(x[x < 0]) / (1 + np.exp(x[x < 0]))
    return y


def negated_in_place(x):
    y = right_sigmoid(x)
    np.negative(x, out=x)
    return y


def doubled_in_place(x):
    y = right_tanh(x)
    x *= 2
    return y


def zeroed_in_place(x):
    x[x < 0] = 0
    return x


def from_size(x):
    t = np.exp(-2 * np.abs(x))
    return (1 - t) / (1 + t)


def quotient_rule(x, y, dy):
    e = np.exp(-x)
    return dy * e / (1 + e) ** 2


def activated_again(x, y, dy):
    s = right_sigmoid(y)
    return dy * s * (1 - s)


def inner_left_out(x, y, dy):
    s = right_sigmoid(2 * x)
    return dy * 2 * s * (1 - s)


def written_into_y(x, y, dy):
    y *= y
    return dy * (1 - y)


def written_into_dy(x, y, dy):
    dy[x <= 0] = 0
    return dy


# ------------------------------------------------------- the mistakes

SIGMOID_MISTAKES = [
    Mistake(
        "as printed",
        sigmoid_with(lambda x: 1 / (1 + np.exp(-x))),
        "exp(-x) overflows to infinity for x below -709.8 (float32: -88.7), and 1 / inf is 0 where "
        "sigmoid is still a number",
        "which factor, above and below the bar, turns exp(-x) into exp(x)? For which x is it safe?",
    ),
    Mistake(
        "exp over itself",
        sigmoid_with(lambda x: np.exp(x) / (1 + np.exp(x))),
        "exp(x) overflows for large x, and inf / inf is NaN",
        "this form is the safe one for negative x only; which is safe for positive x?",
    ),
    Mistake(
        "through tanh",
        sigmoid_with(lambda x: (1 + np.tanh(x / 2)) / 2),
        "1 + tanh(x/2) cancels for negative x: at -40 all digits are gone and it is 0",
        "the identity is right on paper; in floating point, 1 plus almost -1 keeps no digits. "
        "Start from an exponential that is itself small",
    ),
    Mistake(
        "minus left out",
        sigmoid_with(lambda x: right_sigmoid(-x)),
        "it falls where sigmoid rises: this is sigmoid(-x)",
        "what should a large x give, 0 or 1? Look at the sign in the exponent",
    ),
    Mistake(
        "input for output",
        sigmoid_with(back=lambda x, y, dy: dy * x * (1 - x)),
        "the derivative is x (1 - x), with the input where the output belongs",
        "the derivative was expressed by y: which of the two does forward have to keep?",
    ),
    Mistake(
        "sigmoid of the output",
        sigmoid_with(back=activated_again),
        "sigmoid is applied to y once more before the derivative is taken",
        "y is a sigmoid already: y (1 - y) needs no other",
    ),
    Mistake(
        "dy for y",
        sigmoid_with(back=lambda x, y, dy: dy * (1 - dy)),
        "the derivative is taken at dy, the number from above, in place of y",
        "name the two apart: y is what forward returned, dy what comes back",
    ),
    Mistake(
        "dy forgotten",
        sigmoid_with(back=lambda x, y, dy: y * (1 - y)),
        "vjp returns the bare derivative: what comes from above is not in it",
        "the chain rule multiplies; if the loss were doubled, would your gradient be?",
    ),
    Mistake(
        "y (1 + y)",
        sigmoid_with(back=lambda x, y, dy: dy * y * (1 + y)),
        "the derivative is y (1 + y): it does not vanish where sigmoid is flat at 1",
        "how steep is sigmoid far to the right? Put y = 1 into your derivative",
    ),
    Mistake(
        "1 - y left out",
        sigmoid_with(back=lambda x, y, dy: dy * y),
        "the derivative is y alone: that is what exp has",
        "carry the quotient rule to its end: one factor is y, what is the other?",
    ),
    Mistake(
        "that of tanh",
        sigmoid_with(back=lambda x, y, dy: dy * (1 - y * y)),
        "1 - y² is the derivative of tanh",
        "at x = 0 sigmoid is 1/2: how steep is it there, measured?",
    ),
    Mistake(
        "sign",
        sigmoid_with(back=lambda x, y, dy: -dy * y * (1 - y)),
        "the gradient has the opposite sign",
        "sigmoid rises everywhere; there are two minus signs in its derivation",
    ),
    Mistake(
        "quotient rule as it stands",
        sigmoid_with(back=quotient_rule),
        "the derivative computes exp(-x) again, and for very negative x it is inf / inf, NaN",
        "forward has already found a safe y; write the derivative with y alone",
    ),
    Mistake(
        "float64 zeros",
        sigmoid_with(filled_float64),
        "float32 comes out as float64: np.zeros(shape) makes float64",
        "np.zeros_like(x) has the dtype of x; or do without a prepared array",
    ),
    Mistake(
        "changes its input",
        sigmoid_with(negated_in_place),
        "the caller's array is not what it was: x has changed its sign in place",
        "-x makes a new array; out=x and x *= -1 write into the old one",
    ),
]

TANH_MISTAKES = [
    Mistake(
        "as printed",
        tanh_with(lambda x: (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1)),
        "exp(2x) overflows for x above 354.9 (float32: 44.4), and inf / inf is NaN. Near 0, "
        "exp(2x) - 1 cancels",
        "multiply above and below by exp(-2x): which x are safe then? For x near 0, look up "
        "np.expm1",
    ),
    Mistake(
        "expm1 of 2x",
        tanh_with(lambda x: np.expm1(2 * x) / (np.expm1(2 * x) + 2)),
        "right near 0, but expm1(2x) overflows for large x, and inf / inf is NaN",
        "tanh is odd: find its size from -2|x|, whose exponential is at most 1, then the sign",
    ),
    Mistake(
        "cancels near 0",
        tanh_with(lambda x: np.sign(x) * from_size(x)),
        "1 - exp(-2|x|) cancels near 0: of tanh(1e-12) four digits are left",
        "np.expm1(z) is exp(z) - 1 without the loss; write both sums with it",
    ),
    Mistake(
        "through sigmoid",
        tanh_with(lambda x: 2 * right_sigmoid(2 * x) - 1),
        "2 sigmoid(2x) - 1 takes two nearly equal numbers from each other near x = 0",
        "the identity is right on paper. Put the fraction in, bring it on one denominator, and "
        "look for exp(z) - 1",
    ),
    Mistake(
        "sign lost",
        tanh_with(lambda x: np.abs(right_tanh(x))),
        "it is never negative: tanh(-x) must be -tanh(x)",
        "the size came from |x|; where does the sign come back? np.copysign",
    ),
    Mistake(
        "exponent halved",
        tanh_with(lambda x: right_tanh(x / 2)),
        "this is tanh(x/2): exp(x) stands where exp(2x) should",
        "tanh = (exp(x) - exp(-x)) / (exp(x) + exp(-x)); multiply by exp(x) and count",
    ),
    Mistake(
        "no square",
        tanh_with(back=lambda x, y, dy: dy * (1 - y)),
        "the derivative is 1 - y: the square is missing",
        "tanh is as steep at -x as at x. Is 1 - y?",
    ),
    Mistake(
        "input for output",
        tanh_with(back=lambda x, y, dy: dy * (1 - x * x)),
        "the derivative is 1 - x², with the input where the output belongs",
        "put x = 3 in: can the slope of a rising function be -8?",
    ),
    Mistake(
        "that of sigmoid",
        tanh_with(back=lambda x, y, dy: dy * y * (1 - y)),
        "y (1 - y) is the derivative of sigmoid",
        "at x = 0 it would be 0: is tanh flat there?",
    ),
    Mistake(
        "dy for y",
        tanh_with(back=lambda x, y, dy: 1 - dy * dy),
        "the derivative is taken at dy, and y does not occur in it",
        "name the two apart: y is what forward returned, dy what comes back",
    ),
    Mistake(
        "dy forgotten",
        tanh_with(back=lambda x, y, dy: 1 - y * y),
        "vjp returns the bare derivative: what comes from above is not in it",
        "the chain rule multiplies; if the loss were doubled, would your gradient be?",
    ),
    Mistake(
        "sign",
        tanh_with(back=lambda x, y, dy: dy * (y * y - 1)),
        "the gradient has the opposite sign: y² - 1 is never positive",
        "tanh rises everywhere",
    ),
    Mistake(
        "inner 2 left out",
        tanh_with(back=inner_left_out),
        "tanh is 2 sigmoid(2x) - 1: one factor 2 is there, that of the inner 2x is not, so the "
        "gradient is half of what it should be",
        "the chain rule has a factor for the inside as well; at x = 0 the slope must be 1",
    ),
    Mistake(
        "float64 ones",
        tanh_with(back=lambda x, y, dy: dy * (np.ones(y.shape) - y * y)),
        "float32 inputs get a float64 gradient: np.ones(shape) makes float64",
        "a plain 1 takes the dtype of the array beside it",
    ),
    Mistake(
        "vjp writes into what it saved",
        tanh_with(back=written_into_y),
        "vjp squares the saved y in place: a second call squares it again, and the output that "
        "was handed out changes too",
        "y * y makes a new array; y *= y and y **= 2 write into the old one",
    ),
    Mistake(
        "changes its input",
        tanh_with(doubled_in_place),
        "the caller's array is not what it was: x has been doubled in place",
        "2 * x makes a new array; x *= 2 writes into the old one",
    ),
]

RELU_MISTAKES = [
    Mistake(
        "built-in max",
        relu_with(lambda x: max(0, x)),
        "Python's max compares whole things and can't say which of 0 and an array is larger",
        "which NumPy function takes the larger of two numbers, element by element?",
    ),
    Mistake(
        "maximum of all",
        relu_with(lambda x: np.full_like(x, max(x.max(), 0))),
        "np.max looks for the largest element of the whole array; every element gets it",
        "np.max and np.maximum are two functions: one reduces, one compares pairs",
    ),
    Mistake(
        "minimum",
        relu_with(lambda x: np.minimum(x, 0)),
        "it keeps what is negative and cuts what is positive",
        "what should relu(3) be?",
    ),
    Mistake(
        "times the mask",
        relu_with(lambda x: x * (x > 0)),
        "x * (x > 0) is NaN at minus infinity: 0 times infinity is not 0",
        "choose between x and 0, and multiply nothing",
    ),
    Mistake(
        "absolute value",
        relu_with(lambda x: np.abs(x)),
        "negative numbers are mirrored, not cut",
        "what should relu(-3) be?",
    ),
    Mistake(
        "leaky",
        relu_with(lambda x: np.where(x > 0, x, 0.01 * x), lambda x, y, dy: dy * (x > 0)),
        "on the left it has a slope of 0.01, which is another function, leaky relu; and its "
        "gradient does not know of it",
        "what should relu(-3) be?",
    ),
    Mistake(
        "in place",
        relu_with(zeroed_in_place),
        "x[x < 0] = 0 writes into the caller's array, and y is that very array",
        "make a new array: np.maximum returns one",
    ),
    Mistake(
        "slope 1 at 0",
        relu_with(back=lambda x, y, dy: dy * (x >= 0)),
        "at x = 0 it passes the gradient on; the custom is 0 there (y >= 0 would be worse: it is "
        "always true)",
        "a unit whose input is exactly 0, as after a zero start, should count as off",
    ),
    Mistake(
        "slope 1/2 at 0",
        relu_with(back=lambda x, y, dy: dy * np.heaviside(x, np.asarray(0.5, x.dtype))),
        "at x = 0 it takes the mean of both slopes, as central differences do; the custom is 0",
        "there is no derivative at the kink, so all libraries agreed on one: strictly greater",
    ),
    Mistake(
        "slope 1 everywhere",
        relu_with(back=lambda x, y, dy: dy * np.ones_like(x)),
        "the gradient passes where relu has cut as well (or it asks y >= 0, which is always true)",
        "where y is 0 and stays 0, does x matter?",
    ),
    Mistake(
        "output for slope",
        relu_with(back=lambda x, y, dy: dy * y),
        "dy is multiplied by y; the slope of a line through 0 is 1, not its height",
        "relu(3) = 3 and relu(4) = 4: how steep is it between?",
    ),
    Mistake(
        "dy for x",
        relu_with(back=lambda x, y, dy: dy * (dy > 0)),
        "the mask asks for the sign of dy: negative gradients are cut, and the input is not asked",
        "forward decided by x which elements pass; backward passes the same ones",
    ),
    Mistake(
        "dy forgotten",
        relu_with(back=lambda x, y, dy: (x > 0).astype(x.dtype)),
        "vjp returns the bare slope, 0 or 1: what comes from above is not in it",
        "the chain rule multiplies; if the loss were doubled, would your gradient be?",
    ),
    Mistake(
        "mask turned round",
        relu_with(back=lambda x, y, dy: dy * (x <= 0)),
        "the gradient passes exactly where relu has cut",
        "which x can move y?",
    ),
    Mistake(
        "sign",
        relu_with(back=lambda x, y, dy: -dy * (x > 0)),
        "the gradient has the opposite sign",
        "relu never falls",
    ),
    Mistake(
        "float64 mask",
        relu_with(back=lambda x, y, dy: dy * np.where(x > 0, 1.0, 0.0)),
        "float32 inputs get a float64 gradient: np.where(mask, 1.0, 0.0) makes float64",
        "a mask of True and False takes the dtype of what it is multiplied with",
    ),
    Mistake(
        "writes into dy",
        relu_with(back=written_into_dy),
        "dy[x <= 0] = 0 writes into the array that came from above; others may need it still",
        "make a new array: a product does",
    ),
]

EXERCISES = [
    Exercise(
        name="sigmoid",
        reference=ops.sigmoid,
        elementwise=True,
        inputs=cases(normal(shapes(1, 3), 2.0)),
        also=[Case(HAND), Case(SIGMOID_FAR)],
        atol=0.0,  # the smallest values are meant
        mistakes=SIGMOID_MISTAKES,
        hints=(
            (
                "As printed it is one line. Which x make its exponential infinite? For these, "
                "multiply the fraction above and below by something."
            ),
            (
                "For $x \\ge 0$ use $1/(1 + e^{-x})$, for $x < 0$ use $e^x/(1 + e^x)$. Both have "
                "the same denominator, $1 + e^{-|x|}$. Backward, write the derivative with y alone."
            ),
            (
                "y = np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))), and vjp returns "
                "dy * y * (1 - y)."
            ),
        ),
    ),
    Exercise(
        name="tanh",
        reference=ops.tanh,
        elementwise=True,
        inputs=cases(normal(shapes(1, 3), 2.0)),
        also=[Case(HAND), Case(TANH_FAR)],
        atol=1e-30,  # far below 1e-12, far above the slope at 400
        mistakes=TANH_MISTAKES,
        hints=(
            (
                "tanh(-x) = -tanh(x), so it is enough to be right for $x \\ge 0$. Which factor, "
                "above and below, makes the exponent negative there?"
            ),
            (
                "$\\tanh|x| = (1 - t)/(1 + t)$ with $t = e^{-2|x|}$. Near 0 the numerator cancels; "
                "np.expm1 gives m = t - 1 with all its digits. Backward, differentiate and look "
                "for y²."
            ),
            (
                "m = np.expm1(-2 * np.abs(x)); y = np.copysign(m / (m + 2), x); vjp returns "
                "dy * (1 - y * y)."
            ),
        ),
    ),
    Exercise(
        name="relu",
        reference=ops.relu,
        elementwise=True,
        inputs=cases(normal(shapes(1, 3), 2.0)),
        also=[Case(HAND), Case(RELU_FAR)],
        mistakes=RELU_MISTAKES,
        hints=(
            (
                "Forward chooses, for each element, between x and 0. Backward, which elements of x "
                "can move y at all?"
            ),
            (
                "np.maximum compares element by element. The slope is 1 where x > 0, else 0; "
                "multiply dy by it, in a new array."
            ),
            "y = np.maximum(x, 0), and vjp returns dy * (x > 0).",
        ),
    ),
]
