"""The checker checked: right gradients pass, and each wrong one gets its own diagnosis.

A wrong vjp is the right one with one realistic mistake in it, and the diagnosis has to be that
mistake and no other.
"""

from __future__ import annotations

import functools
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.gradcheck import RELATIONS, assert_gradients, error_by_step, gradcheck
from scratchlm.registry import get_op
from scratchlm.tensor import Tensor

RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.standard_normal(shape)


X = normal(3, 4)
SQUARE = normal(4, 4)
W = normal(5, 4)
B = normal(5)
IDS = np.array([[1, 2, 1], [3, 1, 2]])


# -- right ops, by hand: what a student would write ------------------------------------------------


def linear(x, w, b):
    def vjp(dy):
        rows = dy.reshape(-1, dy.shape[-1])
        return dy @ w, rows.T @ x.reshape(-1, x.shape[-1]), rows.sum(axis=0)

    return x @ w.T + b, vjp


def matmul(a, b):
    return a @ b, lambda dy: (dy @ b.T, a.T @ dy)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, lambda dy: y * (dy - (dy * y).sum(axis=-1, keepdims=True))


def log_softmax(x):
    y = x - x.max(axis=-1, keepdims=True)
    y = y - np.log(np.exp(y).sum(axis=-1, keepdims=True))
    return y, lambda dy: dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)


def layer_norm(x, w, b, eps=1e-5):
    centered = x - x.mean(axis=-1, keepdims=True)
    rstd = 1 / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + eps)
    y = centered * rstd

    def vjp(dy):
        g = dy * w
        dx = g - g.mean(axis=-1, keepdims=True) - y * (g * y).mean(axis=-1, keepdims=True)
        return dx * rstd, (dy * y).sum(axis=0), dy.sum(axis=0)

    return y * w + b, vjp


def rms_norm(x):
    r = 1 / np.sqrt((x**2).mean(axis=-1, keepdims=True))
    y = x * r
    return y, lambda dy: r * (dy - y * (dy * y).mean(axis=-1, keepdims=True))


def mse(pred, target):
    n = pred.size
    gap = pred - target
    return np.asarray((gap**2).mean()), lambda dy: (dy * 2 * gap / n, -dy * 2 * gap / n)


def scores(q, k):
    scale = 1 / math.sqrt(q.shape[-1])
    return q @ k.T * scale, lambda dy: (dy @ k * scale, dy.T @ q * scale)


def attention(q, k, v):
    return ops.attention(q, k, v, causal=True)


def from_last_query(g, dy, q, k, v):
    last = np.zeros_like(dy)
    last[..., -1, :] = dy[..., -1, :]
    return attention(q, k, v)[1](last)[2]


def embedding(ids, weight):
    def vjp(dy):
        dw = np.zeros_like(weight)
        np.add.at(dw, ids, dy)
        return None, dw

    return weight[ids], vjp


def relu(x):
    return np.maximum(x, 0), lambda dy: dy * (x > 0)


def tanh(x):
    y = np.tanh(x)
    return y, lambda dy: dy * (1 - y * y)


def variance(x):
    gap = x - x.mean(axis=-1, keepdims=True)
    n = x.shape[-1]
    return (gap**2).sum(axis=-1) / (n - 1), lambda dy: dy[..., None] * 2 * gap / (n - 1)


def unroll(x, w):
    """Three steps with one shared matrix: outputs (3, ...) from the same input."""
    hs = [x @ w, (2 * x) @ w, (3 * x) @ w]

    def vjp(dy):
        dx = sum((k + 1) * dy[k] @ w.T for k in range(3))
        dw = sum((k + 1) * x.T @ dy[k] for k in range(3))
        return dx, dw

    return np.stack(hs), vjp


def cumsum(x):
    return np.cumsum(x, axis=-1), lambda dy: np.flip(np.cumsum(np.flip(dy, -1), axis=-1), -1)


RIGHT = {
    "linear": (linear, X, W, B),
    "linear_batch": (linear, normal(2, 3, 4), W, B),
    "matmul": (matmul, X, SQUARE),
    "softmax": (softmax, X),
    "log_softmax": (log_softmax, X),
    "layer_norm": (layer_norm, X, normal(4), normal(4)),
    "rms_norm": (rms_norm, X),
    "mse": (mse, X, normal(3, 4)),
    "scores": (scores, X, W),
    "attention": (attention, normal(2, 3, 4), normal(2, 3, 4), normal(2, 3, 5)),
    "embedding": (embedding, IDS, normal(5, 4)),
    "relu": (relu, X),
    "tanh": (tanh, X),
    "variance": (variance, X),
    "unroll": (unroll, X, SQUARE),
    "cumsum": (cumsum, X),
}


def with_vjp(f, change):
    """``f`` whose vjp is ``change(right gradients, dy, *inputs)``."""

    @functools.wraps(f)
    def wrong(*inputs):
        out, vjp = f(*inputs)
        return out, lambda dy: change(vjp(dy), dy, *inputs)

    return wrong


def nth(n, change):
    """Change one of several gradients."""

    def changed(gradients, dy, *inputs):
        gradients = list(gradients)
        gradients[n] = change(gradients[n], dy, *inputs)
        return tuple(gradients)

    return changed


def scaled(c):
    return lambda g, *_: c * g


def last_wins(ids, weight):
    def vjp(dy):
        dw = np.zeros_like(weight)
        dw[ids] += dy
        return None, dw

    return weight[ids], vjp


def only_last_id(g, dy, ids, weight):
    dw = np.zeros_like(weight)
    dw[ids[-1, -1]] = dy[-1, -1]
    return dw


def norm_without(mean=True, variance=True):
    def vjp_of(gradients, dy, x, w, b):
        centered = x - x.mean(axis=-1, keepdims=True)
        rstd = 1 / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-5)
        y, g = centered * rstd, dy * w
        dx = g
        if mean:
            dx = dx - g.mean(axis=-1, keepdims=True)
        if variance:
            dx = dx - y * (g * y).mean(axis=-1, keepdims=True)
        return dx * rstd, *gradients[1:]

    return vjp_of


def rms_without_factor(g, dy, x):
    return g * np.sqrt((x**2).mean(axis=-1, keepdims=True))


# (the mistake's name, words that must be said, the op, its inputs, what the vjp does)
MISTAKES = {
    "zero": ("zero", "zero everywhere", "softmax", lambda g, *_: g * 0),
    "sign: softmax": ("sign flipped", "minus", "softmax", scaled(-1)),
    "sign: scores": ("sign flipped", "minus", "scores", nth(1, scaled(-1))),
    "2: mse": ("constant factor", "1/2 times", "mse", nth(0, scaled(0.5))),
    "2": ("constant factor", "2 times", "tanh", scaled(2)),
    "N: mean of 12 elements": ("constant factor", "N = 12 (elements of pred", "mse",
        nth(0, scaled(12))),
    "1/N: mean, not sum, over rows": (
        "constant factor", "1/N = 1/3 (length of axis 0 of x", "linear", nth(2, scaled(1 / 3))),
    "1/N: rows of a batch": (
        "constant factor", "1/N = 1/6 (rows of x", "linear_batch", nth(1, scaled(1 / 6))),
    "sqrt(d)": ("constant factor", "sqrt(d) = sqrt(5)", "scores", nth(0, scaled(math.sqrt(5)))),
    "1/sqrt(d)": ("constant factor", "1/sqrt(d) = 1/sqrt(3)", "linear", nth(0, scaled(3**-0.5))),
    "scale forgotten, d = 4": ("constant factor", "sqrt(d) = sqrt(4)", "scores", nth(0, scaled(2))),
    "scale twice, d = 4": (
        "constant factor", "1/sqrt(d) = 1/sqrt(4)", "scores", nth(1, scaled(0.5))),
    "-1/N": (
        "constant factor", "-0.0833333 times the gradient; perhaps 1/N = 1/12", "mse",
        nth(0, scaled(-1 / 12))),
    "N - 1": ("constant factor", "(N-1)/N = 3/4", "variance", scaled(3 / 4)),
    "any number": ("constant factor", "0.37 times", "softmax", scaled(0.37)),
    "0.1% too large": ("constant factor", "1.001 times", "layer_norm", nth(0, scaled(1.001))),
    "swapped": ("inputs swapped", "gradient of b", "matmul_square", lambda g, *_: (g[1], g[0])),
    "transposed weight": ("transposed", "(1, 0)", "linear", nth(1, lambda g, *_: g.T)),
    "transposed, square": ("transposed", "(1, 0)", "matmul", nth(1, lambda g, *_: g.T)),
    "factor not transposed": (
        "transposed", "J dy", "matmul", nth(0, lambda g, dy, a, b: dy @ b)),
    "cumsum not reversed": ("transposed", "J dy", "cumsum", lambda g, dy, x: np.cumsum(dy, -1)),
    "reshape for transpose": (
        "reshaped", "wrong places", "linear", nth(1, lambda g, *_: g.T.reshape(g.shape))),
    "flattened": ("reshaped", "in shape (20,)", "linear", nth(1, lambda g, *_: g.ravel())),
    "bias not summed": ("missing sum", "axis 0", "linear", nth(2, lambda g, dy, *_: dy)),
    "bias not summed, batch": (
        "missing sum", "axes 0, 1", "linear_batch", nth(2, lambda g, dy, *_: dy)),
    "bias: last row only": ("missing sum", "the last", "linear", nth(2, lambda g, dy, *_: dy[-1])),
    "bias: first row only": ("missing sum", "the first", "linear", nth(2, lambda g, dy, *_: dy[0])),
    "gain not summed": (
        "missing sum", "axis 0", "layer_norm",
        nth(1, lambda g, dy, x, w, b: dy * layer_norm(x, np.ones(4), np.zeros(4))[0])),
    "weight: = in a loop over rows": (
        "overwritten", "the last of 3 slices", "linear",
        nth(1, lambda g, dy, x, w, b: np.outer(dy[-1], x[-1]))),
    "weight: loop left at once": (
        "overwritten", "the first of 3 slices", "linear",
        nth(1, lambda g, dy, x, w, b: np.outer(dy[0], x[0]))),
    "time: = in a loop over steps": (
        "overwritten", "the last of 3 slices along axis 0", "unroll",
        lambda g, dy, x, w: (3 * dy[2] @ w.T, 3 * x.T @ dy[2])),
    "embedding: last id of all": (
        "overwritten", "last", "embedding_column", nth(1, only_last_id)),
    "embedding: first wins": (
        "duplicates lost", "first contribution", "embedding",
        nth(1, lambda g, dy, ids, w: last_wins(ids[::-1, ::-1], w)[1](dy[::-1, ::-1])[1])),
    "embedding: last wins": (
        "duplicates lost", "last contribution", "embedding",
        nth(1, lambda g, dy, ids, w: last_wins(ids, w)[1](dy)[1])),
    "attention: scale forgotten": (
        "constant factor", "sqrt(d) = sqrt(4)", "attention", nth(1, scaled(2))),
    "attention: dk transposed": (
        "transposed", "(0, 2, 1)", "attention", nth(1, lambda g, *_: np.swapaxes(g, 1, 2))),
    "attention: q and k swapped": (
        "inputs swapped", "gradient of k", "attention", lambda g, *_: (g[1], g[0], g[2])),
    "attention: = in a loop over queries": (
        "overwritten", "the last of 3 slices along axis 1", "attention", nth(2, from_last_query)),
    "attention: = in a loop over heads": (
        "overwritten", "the last of 2 slices along axis 0", "attention",
        nth(0, lambda g, *_: g * np.array([0, 1]).reshape(2, 1, 1))),
    "softmax diagonal": (
        "diagonal only", "diagonal", "softmax",
        lambda g, dy, x: dy * softmax(x)[0] * (1 - softmax(x)[0])),
    "dy ignored": (
        "cotangent misused", "does not use dy", "tanh", lambda g, dy, x: 1 - np.tanh(x) ** 2),
    "dy ignored in a loss": (
        "cotangent misused", "does not use dy", "mse", lambda g, dy, *_: (g[0] / dy, g[1] / dy)),
    "dy twice": ("cotangent misused", "squared", "tanh", lambda g, dy, x: g * dy),
    "straight through": ("wrong derivative", "dy itself", "tanh", lambda g, dy, x: dy * 1),
    "dy times output": (
        "wrong derivative", "dy times the output", "tanh", lambda g, dy, x: dy * np.tanh(x)),
    "norm without mean": ("path missing", "the mean", "layer_norm", norm_without(mean=False)),
    "norm without variance": (
        "path missing", "the variance", "layer_norm", norm_without(variance=False)),
    "norm as a constant": (
        "path missing", "the mean, and that through the variance", "layer_norm",
        norm_without(False, False)),
    "rms without norm": (
        "path missing", "norm", "rms_norm",
        lambda g, dy, x: dy / np.sqrt((x**2).mean(axis=-1, keepdims=True))),
    "softmax without its sum": (
        "path missing", "multiple of y", "softmax", lambda g, dy, x: dy * softmax(x)[0]),
    "log-softmax without its sum": (
        "path missing", "exp(y)", "log_softmax", lambda g, dy, x: dy * 1),
    "1/std forgotten": ("row factor", "each row", "rms_norm", rms_without_factor),
    "NaN": ("NaN", "first at [1, 2]", "softmax",
            lambda g, *_: np.where(np.arange(12).reshape(3, 4) == 6, np.nan, g)),
    "None": ("none returned", "None", "linear", nth(1, lambda *_: None)),
    "float32": ("dtype", "float32", "softmax", lambda g, *_: g.astype(np.float32)),
    "shape": ("wrong shape", "(2, 2)", "softmax", lambda g, *_: g[:2, :2]),
    "one element": (None, "no known mistake", "softmax",
                    lambda g, *_: g + 0.1 * (np.arange(12).reshape(3, 4) == 6)),
    "noise": (None, "no known mistake", "softmax",
              lambda g, *_: g * np.linspace(0.5, 1.5, 12).reshape(3, 4) ** 2),
}  # fmt: skip
RIGHT_TOO = {
    "matmul_square": (matmul, normal(4, 4), normal(4, 4)),
    "embedding_column": (embedding, np.array([[1, 2, 1]]), normal(5, 4)),
}


@pytest.mark.parametrize("name", [*RIGHT, *RIGHT_TOO])
def test_right_gradients_pass_without_diagnosis(name):
    report = gradcheck(*(RIGHT | RIGHT_TOO)[name])
    assert report, str(report)
    assert report.diagnosis == {}
    assert not str(report.diagnosis)
    # the differences' own error is about 1e-10; a hundred times that is still a strict check
    assert report.error < 1e-7
    assert all(entry.power > 1e3 and entry.note is None for entry in report.inputs)


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_gets_its_own_diagnosis(name):
    expected, words, op, change = MISTAKES[name]
    f, *inputs = (RIGHT | RIGHT_TOO)[op]
    report = gradcheck(with_vjp(f, change), *inputs)
    assert not report
    assert set(report.diagnosis.values()) == {expected}, str(report)
    text = " ".join(str(report).split())
    assert words in text, text
    with pytest.raises(AssertionError, match="is WRONG"):
        assert_gradients(with_vjp(f, change), *inputs)


@pytest.mark.parametrize("name", MISTAKES)
def test_the_diagnosis_does_not_hang_on_the_seed(name):
    expected, _, op, change = MISTAKES[name]
    f, *inputs = (RIGHT | RIGHT_TOO)[op]
    for seed in (1, 2, 3):
        found = gradcheck(with_vjp(f, change), *inputs, seed=seed).diagnosis
        assert set(found.values()) == {expected}


def test_every_relation_is_planted_somewhere():
    assert {r.name for r in RELATIONS} <= {m[0] for m in MISTAKES.values()} | {
        "kink",
        "output ignored",
    }


def test_only_the_wrong_input_is_blamed():
    report = gradcheck(with_vjp(linear, nth(1, scaled(-1))), X, W, B)
    assert report["x"].ok
    assert report["b"].ok
    assert report.diagnosis == {"w": "sign flipped"}


# -- kinks -----------------------------------------------------------------------------------------


def test_a_kink_is_named_and_not_blamed_on_the_vjp():
    report = gradcheck(relu, np.array([-1.0, 0.0, 2.0, 0.0]))
    assert report.diagnosis == {"x": "kink"}
    assert report["x"].wrong == 2
    assert report["x"].index in {(1,), (3,)}


def test_all_inputs_on_the_kink():
    assert gradcheck(relu, np.zeros(4)).diagnosis == {"x": "kink"}


def test_a_wrong_vjp_is_not_excused_by_a_kink_elsewhere():
    wrong = with_vjp(relu, lambda g, dy, x: -g)
    assert gradcheck(wrong, np.array([-1.0, 0.0, 2.0, 3.0])).diagnosis != {"x": "kink"}


def test_a_kink_nearer_than_the_step_is_stepped_around():
    assert gradcheck(relu, np.array([1e-6, -1e-6, 0.5]))


def test_curvature_is_no_kink():
    square = lambda x: (x * x, lambda dy: dy * 0)
    assert gradcheck(square, np.array([0.0, 1.0, -2.0])).diagnosis == {"x": "zero"}


# -- what makes the check strong -------------------------------------------------------------------


def test_ones_would_have_missed_what_random_cotangents_find():
    y, vjp = softmax(X)
    assert np.abs(vjp(np.ones_like(y))).max() < 1e-15  # zero is right for dy = 1
    assert gradcheck(with_vjp(softmax, lambda g, *_: g * 0), X).diagnosis == {"x": "zero"}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_one_permille_is_found_at_every_scale(scale):
    f = lambda x: (scale * np.sin(x), lambda dy: 1.001 * scale * dy * np.cos(x))
    assert gradcheck(f, X).diagnosis == {"x": "constant factor"}


def test_a_gradient_of_zero_is_said_to_prove_little():
    report = gradcheck(lambda x: (softmax(x)[0].sum(axis=-1), lambda dy: x * 0), X)
    assert report
    assert report["x"].power <= 1
    assert "proves little" in str(report)


def test_large_inputs_are_sampled_and_it_is_said():
    x = normal(40, 40)
    report = gradcheck(tanh, x)
    assert report
    assert report["x"].checked == 1000
    assert "1000 of 1600" in str(report)
    assert gradcheck(with_vjp(tanh, scaled(-1)), x).diagnosis == {"x": "sign flipped"}
    assert gradcheck(with_vjp(tanh, lambda g, dy, _: g * dy), x).diagnosis == {
        "x": "cotangent misused"
    }


def test_large_logits_and_small_arguments_of_log():
    assert gradcheck(softmax, np.array([1e4, -1e4, 1e4 + 1.0, 1e4 - 0.5]))
    log = lambda x: (np.log(x), lambda dy: dy / x)
    assert gradcheck(log, np.array([1e-3, 1e-2, 1.0, 1e4]))  # the first needs the shorter step


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
    name=st.sampled_from(["softmax", "log_softmax", "tanh", "rms_norm", "cumsum"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_right_ops_pass_on_any_shape(shape, name, seed):
    x = np.random.default_rng(seed).standard_normal(shape)
    report = gradcheck(RIGHT[name][0], np.sign(x) * (np.abs(x) + 0.1), seed=seed)
    assert report, str(report)


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    seed=st.integers(0, 2**32 - 1),
    c=st.sampled_from([0.999, 1.001, -1.0, 2.0, 0.0]),
)
@settings(max_examples=40, deadline=None)
def test_wrong_ops_fail_on_any_shape(shape, seed, c):
    x = np.random.default_rng(seed).standard_normal(shape)
    assert not gradcheck(with_vjp(tanh, scaled(c)), np.clip(x, -2, 2), seed=seed)


# -- what may be checked ---------------------------------------------------------------------------


def test_registered_ops_with_options_bound():
    assert gradcheck(functools.partial(ops.softmax, axis=0), X)
    assert gradcheck(get_op("softmax"), X)
    assert gradcheck(lambda x: ops.pow_scalar(x, exponent=3.0), X)


def test_broadcasting_ops_may_leave_the_sum_to_the_engine():
    assert gradcheck(ops.mul, X, normal(4))
    assert gradcheck(ops.mul, normal(3, 1), normal(4))
    mul = lambda a, b: ops.mul(a, b)
    assert gradcheck(mul, X, normal(4)).diagnosis == {"b": "missing sum"}
    assert gradcheck(mul, X, normal(4), broadcasts=True)


def test_functions_of_tensors():
    assert gradcheck(lambda x: x.softmax(axis=0) * x, X)
    assert gradcheck(lambda x, w: x @ w, Tensor(X), Tensor(SQUARE))
    assert gradcheck(lambda x, y: (x * y, x.exp()), X, normal(3, 4))
    report = gradcheck(lambda x, y: x * y.detach(), X, normal(3, 4))
    assert report.diagnosis == {"y": "none returned"}


def test_several_outputs():
    def two(x):
        return (np.sin(x), x**2), lambda a, b: a * np.cos(x) + b * 2 * x

    assert gradcheck(two, X)
    lost = lambda x: (two(x)[0], lambda a, b: a * np.cos(x))
    report = gradcheck(lost, X)
    assert report.diagnosis == {"x": "output ignored"}
    assert "output 0" in str(report)


def test_integer_outputs_get_no_cotangent():
    def top(x):
        at = x.argmax(axis=-1)

        def vjp(dy, none):
            assert none is None
            dx = np.zeros_like(x)
            dx[np.arange(len(x)), at] = dy
            return dx

        return (x.max(axis=-1), at), vjp

    assert gradcheck(top, X)


def test_lists_scalars_empty_and_none():
    assert gradcheck(tanh, [[0.5, -1.0], [2.0, 0.1]])
    assert gradcheck(tanh, 0.3)
    assert gradcheck(tanh, np.zeros((0, 3)))["x"].note == "empty: nothing to check"
    assert gradcheck(lambda x, b: (np.tanh(x), lambda dy: (dy / np.cosh(x) ** 2, None)), X, None)


def test_wrt_picks_inputs():
    wrong = with_vjp(mse, nth(1, scaled(3)))
    assert gradcheck(wrong, X, normal(3, 4), wrt=[0])
    assert not gradcheck(wrong, X, normal(3, 4))
    with pytest.raises(ValueError, match="input 0 is none of the floating inputs"):
        gradcheck(embedding, IDS, normal(5, 4), wrt=[0])


def test_names():
    assert list(gradcheck(linear, X, W, B, names=["in", "weight", "bias"]).as_dict()["inputs"][0])
    assert [e.name for e in gradcheck(linear, X, W, B).inputs] == ["x", "w", "b"]
    join = lambda *xs: (np.concatenate(xs), lambda dy: (dy[:2], dy[2:]))
    assert [e.name for e in gradcheck(join, normal(2), normal(3)).inputs] == ["xs[0]", "xs[1]"]


# -- misuse ----------------------------------------------------------------------------------------


def test_float32_is_refused_with_the_reason():
    with pytest.raises(TypeError, match=r"'x' is float32.*three or four digits"):
        gradcheck(softmax, X.astype(np.float32))


def test_float32_results_are_refused():
    with pytest.raises(TypeError, match="output is float32 though"):
        gradcheck(lambda x: (x.astype(np.float32), lambda dy: dy), X)


def test_a_changed_input_is_noticed():
    def shift(x):
        x -= x.max()
        return np.exp(x), lambda dy: dy * np.exp(x)

    with pytest.raises(RuntimeError, match="shift changes its input 'x' in place"):
        gradcheck(shift, X)


def test_dropout_without_a_fixed_generator_is_noticed():
    rng = np.random.default_rng(0)

    def dropout(x):
        mask = rng.random(x.shape) < 0.5
        return x * mask, lambda dy: dy * mask

    with pytest.raises(RuntimeError, match=r"another result.*Dropout\?"):
        gradcheck(dropout, X)


def test_nan_in_the_output_is_placed():
    log = lambda x: (np.log(x), lambda dy: dy / x)
    with (
        pytest.raises(ValueError, match=r"NaN or infinity in 1 of 2 elements, first at \[1\]"),
        np.errstate(all="ignore"),
    ):
        gradcheck(log, np.array([1.0, 0.0]))
    with (
        pytest.raises(ValueError, match=r"x\[1\] = 1e-09 moves by -6.0e-06"),
        np.errstate(all="ignore"),
    ):
        gradcheck(lambda x: log(x), np.array([1.0, 1e-9]))


def test_what_is_no_op():
    with pytest.raises(TypeError, match=r"returned ndarray; an op returns the pair \(out, vjp\)"):
        gradcheck(lambda x: np.asarray(x) * 2, X)
    with pytest.raises(TypeError, match="no floating input"):
        gradcheck(embedding, IDS)
    with pytest.raises(ValueError, match=r"vjp returned 1 gradient\(s\) for 3 inputs \(x, w, b\)"):
        gradcheck(with_vjp(linear, lambda g, *_: g[0]), X, W, B)
    with pytest.raises(ValueError, match="vjp returned a list"):
        gradcheck(with_vjp(matmul, lambda g, *_: list(g)), X, SQUARE)
    with pytest.raises(TypeError, match="not an array of numbers"):
        gradcheck(softmax, "x")


def test_the_error_of_the_function_itself_comes_through():
    def unfinished(x):
        raise NotImplementedError("write me")

    with pytest.raises(NotImplementedError, match="write me"):
        gradcheck(unfinished, X)
    with pytest.raises(ValueError, match="mine"):
        gradcheck(lambda x: _raise(ValueError("mine")), X)


def _raise(error):
    raise error


def test_a_vjp_with_side_effects_fails():
    def in_place(x):
        def vjp(dy):
            dy *= 2
            return dy

        return 2 * x, vjp

    def buffered(x):
        buffer = np.empty_like(x)

        def vjp(dy):
            buffer[...] = 2 * dy
            return buffer

        return 2 * x, vjp

    def summing(x):
        total = np.zeros_like(x)

        def vjp(dy):
            nonlocal total
            total = total + 2 * dy
            return total

        return 2 * x, vjp

    assert gradcheck(in_place, X).diagnosis == {"x": "changed in place"}
    assert gradcheck(buffered, X).diagnosis in ({"x": "array reused"}, {"x": "not repeatable"})
    assert gradcheck(summing, X).diagnosis == {"x": "not repeatable"}


# -- the report ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MISTAKES)
def test_as_dict_is_json(name):
    *_, op, change = MISTAKES[name]
    f, *inputs = (RIGHT | RIGHT_TOO)[op]
    report = gradcheck(with_vjp(f, change), *inputs)
    again = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert again == report.as_dict()
    assert again["ok"] is False


@pytest.mark.parametrize("name", MISTAKES)
def test_a_report_fits_on_the_screen_in_its_order(name):
    *_, op, change = MISTAKES[name]
    f, *inputs = (RIGHT | RIGHT_TOO)[op]
    report = gradcheck(with_vjp(f, change), *inputs)
    text = str(report)
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) <= 24
    assert text.index("looks like: ") < text.index("try: ")
    if "where: " in text:
        assert text.index("where: ") < text.index("looks like: ")


def test_the_table():
    console = pytest.importorskip("rich.console")
    screen = console.Console(width=100, record=True, file=io.StringIO())
    screen.print(gradcheck(with_vjp(linear, nth(1, scaled(-1))), X, W, B))
    text = screen.export_text()
    assert "WRONG: sign flipped" in text
    assert text.count("right") == 2


def test_unknown_input_of_a_report():
    with pytest.raises(KeyError, match=r"no input 'z' was checked; checked: \['x'\]"):
        gradcheck(softmax, X)["z"]


# -- the V-curve -----------------------------------------------------------------------------------


def test_the_curve_is_a_v():
    steps = np.array([1e-1, 1e-2, 1e-3, 1e-5, 1e-9, 1e-11])
    central = error_by_step(tanh, X, steps=steps).errors
    assert 50 < central[0] / central[1] < 200  # h²
    assert 50 < central[1] / central[2] < 200
    assert central[3] < 1e-9
    assert central[5] > central[4] > central[3]  # rounding
    forward = error_by_step(tanh, X, steps=steps, method="forward").errors
    assert 5 < forward[1] / forward[2] < 20  # h
    assert (forward[:3] > central[:3]).all()
    both = error_by_step(tanh, X, steps=steps, method=("forward", "central")).errors
    assert (both == [forward, central]).all()


def test_the_curve_refuses_nonsense():
    with pytest.raises(ValueError, match="'central' or 'forward'"):
        error_by_step(tanh, X, method="backward")
    with pytest.raises(ValueError, match="method 'backward'"):
        error_by_step(tanh, X, method=("central", "backward"))
    with pytest.raises(ValueError, match=r"has shape \(3, 5\), the input \(5,\)"):
        error_by_step(with_vjp(linear, nth(2, lambda g, dy, *_: dy)), X, W, B)
