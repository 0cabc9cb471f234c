"""How an exercise is judged."""

import numpy as np
import pytest

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, cases, ids, normal, shapes
from scratchlm.lessons.exercise import difference
from scratchlm.lessons.inputs import sample


def exercise(reference, inputs, mistakes=(), **options):
    return Exercise(reference.__name__, reference, inputs, mistakes, ("a", "b", "c"), **options)


TANH = exercise(ops.tanh, cases(normal(shapes(1, 2, 3))))


def tanh(change=lambda x, y, dy, dx: dx):
    def wrong(x):
        y, vjp = ops.tanh(x)
        return y, lambda dy: change(x, y, dy, vjp(dy))

    return wrong


def scaled_in_place(x, y, dy, dx):
    dy *= 2
    return dx


def other_when_called_again():
    def op(x):
        y, vjp = ops.tanh(x)
        calls = []

        def once(dy):
            calls.append(dy)
            return vjp(dy) * len(calls)

        return y, once

    return op


@pytest.mark.parametrize(
    ("function", "label"),
    [
        (lambda x: ops.exp(x), "out is not right"),
        (tanh(lambda x, y, dy, dx: dx * 1.000001), "the gradient of x is not right"),
        (tanh(lambda x, y, dy, dx: 0 * dx), "the gradient of x is not right"),
        (tanh(lambda x, y, dy, dx: dx[None]), "the gradient of x is not right"),
        (tanh(lambda x, y, dy, dx: x.__setitem__(..., 0) or dx), "x after the call"),
        (tanh(scaled_in_place), "the cotangent after vjp"),
        (other_when_called_again(), "vjp called a second time"),
        (tanh(lambda x, y, dy, dx: dx.astype(np.float64)), "dtype of the gradient of x"),
        (lambda x: ops.tanh(x.astype(np.float64)), "dtype of out"),
        (lambda x: ops.tanh(x)[0], "stops with an error"),
        (lambda x: (ops.tanh(x)[0], lambda dy: None), "stops with an error"),
        (lambda x: (None, None), "stops with an error"),
    ],
)
def test_what_is_seen_of_an_op(function, label):
    fault = TANH.check(function).fault
    assert fault is not None
    assert label in fault.what
    assert fault.where
    assert fault.hint


def test_the_reference_passes_with_a_gradient_check():
    result = TANH.check(ops.tanh)
    assert result.passed
    assert "of central differences" in result.gradient


def test_an_elementwise_function_is_told_where_it_is_wrong():
    def product(a, b):
        y, vjp = ops.mul(a, b)
        return np.where(y > 50, 0, y), vjp

    def sums(a, b):
        y, vjp = ops.mul(a, b)
        return y, lambda dy: (vjp(dy)[0], np.where(b > 6, 0, vjp(dy)[1]))

    square = Case(np.array([[1.0, 20.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 1.0]]))
    row = Case(np.ones((2, 2)), np.array([5.0, 60.0]))
    mul = exercise(ops.mul, [square, row], elementwise=True)
    assert "at [0, 1]: yours is 0, it should be 120" in (where := mul.check(product).fault.where)
    assert ", where a is 20 and b is 6\nin the call" in where
    assert ", where a is 3 and b is 7\nin the call" in mul.check(sums).fault.where
    # the gradient of a broadcast input is a sum over several places: there is nothing to show
    mul = exercise(ops.mul, [row], elementwise=True)
    assert ", where" not in mul.check(sums).fault.where
    assert ", where" not in mul.check(lambda a, b: ops.mul(a, b)[0]).fault.where
    assert ", where" not in mul.check(lambda a, b: (np.ones(3), None)).fault.where
    plain = exercise(ops.mul, [square])
    assert ", where" not in plain.check(product).fault.where


def test_the_memory_of_a_gradient_must_not_be_an_inputs():
    def nothing(x):
        return x * 0, lambda dy: dy * 0

    def alias(x):
        x[...] = 0
        return x * 0, lambda dy: x

    zeros = exercise(nothing, [Case(np.zeros(3))])
    assert zeros.check(nothing).passed
    fault = zeros.check(alias).fault
    assert "the memory of the gradients" in fault.what
    assert "shared" in fault.where


def test_integer_inputs_have_no_gradient():
    embedding = exercise(ops.embedding, cases(ids(4, (3,)), normal((4, 2))))
    assert embedding.check(ops.embedding).passed

    def overwrites(i, weight):
        def vjp(dy):
            dweight = np.zeros_like(weight)
            dweight[i] = dy
            return None, dweight

        return weight[i], vjp

    assert "the gradient of weight" in embedding.check(overwrites).fault.what


def test_gradients_of_broadcasting_ops_may_be_summed_or_not():
    mul = exercise(ops.mul, [Case(np.ones((2, 3)), np.arange(3.0))])

    def summed(a, b):
        return a * b, lambda dy: (dy * b, (dy * a).sum(0))

    def unsummed(a, b):
        return a * b, lambda dy: (dy * b, dy * a)

    assert mul.check(summed).passed
    assert mul.check(unsummed).passed


def test_a_gradient_left_out_of_a_broadcasting_op_is_told_and_recognised():
    forgets = Mistake("none", lambda a, b: (a * b, lambda dy: (dy * b, None)), "left out", "two")
    other = Mistake("sum", lambda a, b: (a * b, lambda dy: (dy, dy)), "of a sum", "product")
    made = exercise(ops.mul, cases(normal((2, 3)), normal((2, 3))), [forgets])
    assert made.check(forgets.function).fault.mistake == "none"
    assert made.check(lambda a, b: (a * b, lambda dy: dy * b)).fault.where.startswith("vjp must")
    assert made.check(other.function).fault.what == "mul: the gradient of a is not right"


def test_a_mistake_is_recognised_only_if_it_fits_every_input():
    def overflows(x):
        with np.errstate(all="ignore"):
            y = np.exp(x) / np.sum(np.exp(x), -1, keepdims=True)
        return y, ops.softmax(x)[1]

    known = Mistake("no maximum", overflows, "exp overflows", "subtract the maximum")
    softmax = exercise(
        ops.softmax, cases(normal((3,))), [known], also=[Case(np.array([1e4, 0.0, -1e4]))]
    )
    assert softmax.check(overflows).fault.mistake == "no maximum"

    def overflows_and_more(x):
        y, vjp = overflows(x)
        return y, lambda dy: 2 * vjp(dy)

    def other_values(x):
        y, vjp = overflows(x)
        return y * 1.001, vjp

    # of two mistakes the first is told by name, and the other once that one is mended
    fault = softmax.check(overflows_and_more).fault
    assert fault.mistake == "no maximum"
    assert fault.what == "softmax: out is not right"
    fault = softmax.check(other_values).fault
    assert fault.mistake == ""
    assert fault.looks_like == ""


def test_of_two_mistakes_the_one_is_named_that_shows_first():
    def double(x):
        y, vjp = ops.tanh(x)
        return 2 * y, lambda dy: 2 * vjp(dy)

    def flipped(x):
        y, vjp = ops.tanh(x)
        return y, lambda dy: -vjp(dy)

    def flipped_and_wide(x):
        y, vjp = flipped(x)
        return y, lambda dy: vjp(dy).astype(np.float64)

    def double_and_flipped(x):
        return double(x)[0], flipped(x)[1]

    known = [Mistake("double", double, "twice", "half"), Mistake("flip", flipped, "sign", "minus")]
    made = exercise(ops.tanh, cases(normal((2, 3))), known)
    assert made.check(flipped_and_wide).fault.mistake == "flip"
    assert made.check(double_and_flipped).fault.mistake == "double"
    assert made.check(lambda x: (3 * ops.tanh(x)[0], flipped(x)[1])).fault.mistake == ""


def test_a_refusal_is_part_of_the_contract():
    def root(x):
        if x < 0:
            raise ValueError("negative")
        return x**0.5

    one = exercise(root, [Case(4.0), Case(-1.0)], contract="function")
    assert one.check(root).passed
    fault = one.check(lambda x: abs(x) ** 0.5).fault
    assert "accepts what it should refuse" in fault.what
    assert "ValueError: negative" in fault.where


def test_steps_feed_back():
    def decay(x, g, *, t, rate):
        return x * rate**t - g

    def forgets_t(x, g, *, t, rate):
        return x * rate - g

    step = exercise(decay, [Case(np.ones(2), np.ones((3, 2)), rate=0.5)], contract="step")
    assert step.check(decay).passed
    fault = step.check(forgets_t).fault
    assert "x after step 2" in fault.what  # step 1 is right

    def in_place(x, g, *, t, rate):
        x *= rate**t
        x -= g
        return x

    assert step.check(in_place).fault is not None


def test_inputs_are_the_same_each_time_and_small_first():
    strategy = cases(normal(shapes(1, 3, 4)))
    first, second = sample(strategy, 20), sample(strategy, 20)
    assert [c.arguments[0].tolist() for c in first] == [c.arguments[0].tolist() for c in second]
    assert [c.size for c in first] == sorted(c.size for c in first)
    assert len({c.arguments[0].shape for c in first}) > 5


@pytest.mark.parametrize(
    ("mine", "right", "words"),
    [
        (1.0, 2.0, "yours is 1, it should be 2"),
        (np.ones(2), np.ones(3), "yours has shape (2,), it should be (3,)"),
        (np.array([1.0, np.nan]), np.ones(2), "at [1]: yours is nan, it should be 1"),
        (np.array([[1.0, 5.0]]), np.ones((1, 2)), "at [0, 1]: yours is 5"),
        ([1, "a"], [1, "b"], "at [1]: yours is 'a', it should be 'b'"),
        ({"a": 1}, {"a": 2}, "at ['a']: yours is 1, it should be 2"),
        ({"a": 1}, {"b": 1}, "yours has the keys ['a'], they should be ['b']"),
        ([1, 2, "x"], [1, "x"], "yours has 3 items, there should be 2"),
        (None, 1.0, "yours is None, it should be 1"),
        (True, 1.0, "yours is True"),
        ("1", 1.0, "yours is '1'"),
        (1, True, "yours is 1, it should be True"),
        (np.float64(np.inf), 1.0, "yours is inf"),
        (1.0 + 1e-6, 1.0, "yours is 1.000001"),
    ],
)
def test_differences_in_words(mine, right, words):
    assert words in difference(mine, right)


@pytest.mark.parametrize(
    ("mine", "right"),
    [
        (1.0 + 1e-12, 1.0),
        (np.nan, np.nan),
        (np.array([np.inf]), [np.inf]),
        (2, 2.0),
        ((1, [2, {"a": "b"}]), (1, [2, {"a": "b"}])),
        (np.zeros((0, 3)), np.zeros((0, 3))),
    ],
)
def test_what_is_equal(mine, right):
    assert difference(mine, right) is None
