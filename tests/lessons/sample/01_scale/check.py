import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal

SHARED = ("a nudge about $x^2$", "the idea", "nearly the answer")


@st.composite
def layers(draw):
    n, d, m = (draw(st.integers(1, 4)) for _ in range(3))
    return Case(draw(normal((n, d))), draw(normal((m, d))), draw(normal((m,))))


def like_linear(forward=lambda y, b: y, backward=lambda dx, dw, db: (dx, dw, db)):
    def wrong(x, weight, bias=None):
        y, vjp = ops.linear(x, weight, bias)
        return forward(y, bias), lambda dy: backward(*vjp(dy))

    return wrong


def bias_not_summed(x, weight, bias=None):
    y, vjp = ops.linear(x, weight, bias)
    rows = lambda dy: None if bias is None else dy.reshape(-1, dy.shape[-1])
    return y, lambda dy: (*vjp(dy)[:2], rows(dy))


def changes_input(x, weight, bias=None):
    y, vjp = ops.linear(x, weight, bias)
    x *= 2
    return y, vjp


def to_float64(x, weight, bias=None):
    y, vjp = ops.linear(x, weight, bias)
    return y * np.float64(1), vjp


def real_mean(values):
    return sum(values) / len(values)


def right_descend(theta, gradient, *, t, lr):
    return theta - lr / np.sqrt(t) * gradient


class Total:
    def __init__(self):
        self.sum = 0

    def add(self, x):
        self.sum += x


class Forgetful(Total):
    def add(self, x):
        self.sum = x


def observe(kind, numbers):
    made = kind()
    for number in numbers:
        made.add(number)
    return {"the sum after adding all": made.sum}


EXERCISES = [
    Exercise(
        "linear",
        ops.linear,
        layers(),
        [
            Mistake(
                "no bias", like_linear(lambda y, b: y if b is None else y - b),
                "the bias is not added", "add it to every row",
            ),
            Mistake(
                "bias not summed", bias_not_summed,
                "the bias gradient is not summed over the batch",
                "sum dy over all axes but the last",
            ),
            Mistake(
                "weight gradient doubled",
                like_linear(backward=lambda dx, dw, db: (dx, 2 * dw, db)),
                "the weight gradient is twice too large", "where does the 2 come from?",
            ),
            Mistake(
                "changes its input", changes_input,
                "x itself is changed", "make a new array: x = x * 2",
            ),
            Mistake(
                "float64", to_float64,
                "float32 inputs come out as float64", "np.float64 numbers widen; use Python floats",
            ),
        ],
        SHARED,
        also=[
            Case(np.ones((2, 3)), np.ones((2, 3))),
            Case(np.arange(24.0).reshape(2, 4, 3), np.eye(5, 3), np.arange(5.0)),
        ],
    ),
    Exercise(
        "mean",
        real_mean,
        [Case([1.0, 2.0]), Case([4.0])],
        [Mistake("sum", sum, "the sum is not divided", "divide by how many there are")],
        SHARED,
        contract="function",
    ),
    Exercise(
        "descend",
        right_descend,
        [Case(np.ones(2), np.arange(6.0).reshape(3, 2), lr=0.1)],
        [
            Mistake(
                "climbs", lambda theta, gradient, *, t, lr: theta + lr / np.sqrt(t) * gradient,
                "it climbs", "the gradient points uphill",
            ),
        ],
        SHARED,
        contract="step",
    ),
    Exercise(
        "total",
        Total,
        [Case([1, 2, 3])],
        [Mistake("forgets", Forgetful, "what was there is overwritten", "+= instead of =")],
        SHARED,
        contract=observe,
    ),
]  # fmt: skip
