"""What the neural-network ops promise beyond their derivatives: extreme inputs, masks, errors.

Warnings are errors here as in every test, so an overflow on the way to a right result fails too.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import standin
from ops.cases_nn import splitmix

from scratchlm import Tensor, ops
from scratchlm import functional as F
from scratchlm.ops import special
from scratchlm.ops.special import erf
from scratchlm.ops.splitmix import keep_mask

RNG = np.random.default_rng(0)
START = RNG.bit_generator.state
EXTREME = np.array([-1e4, -100.0, 0.0, 100.0, 1e4], np.float32)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Each test sees the same numbers, whichever ran before it."""
    RNG.bit_generator.state = START


def normal(*shape: int, dtype: Any = np.float64) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


# -- erf -------------------------------------------------------------------------------------------


def erf_errors(dtype: Any) -> float:
    """The worst relative error beside ``math.erf``, in units of rounding."""
    x = np.concatenate(
        [
            RNG.uniform(-7, 7, 20_000),
            RNG.uniform(-1e-3, 1e-3, 2_000),
            np.linspace(0.46, 0.48, 101),  # where one rational function hands over to the next,
            np.linspace(3.99, 4.01, 101),  # and there again
            [0.0, 1e-300 if dtype is np.float64 else 1e-30, 1e4, -1e4, math.inf, -math.inf],
        ]
    ).astype(dtype)
    expected = np.array([math.erf(value) for value in x])
    found = erf(x)
    assert found.dtype == dtype
    error = np.abs(found - expected) / np.where(expected == 0, 1, np.abs(expected))
    return float(error.max() / np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_is_good_to_the_last_places(dtype: Any) -> None:
    # 1 - erfc rounds three times at the size of 1/2: two units of 2^-52 relative to erf's 1/2
    assert erf_errors(dtype) <= 2.5


@pytest.mark.parametrize("part", ["_SMALL", "_MIDDLE", "_LARGE"])
def test_a_misprinted_erf_coefficient_is_noticed(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, *others), denominator = getattr(special, part)
    # beyond 4 erfc is below 1.6e-8 of erf, so its coefficients matter only that much less
    change = 1e-3 if part == "_LARGE" else 1e-9
    numerator = (first, *others[:-1], others[-1] * (1 + change))
    monkeypatch.setattr(special, part, (numerator, denominator))
    assert erf_errors(np.float64) > 2.5


def test_erf_passes_nan_on_and_is_odd() -> None:
    x = normal(100)
    np.testing.assert_array_equal(erf(-x), -erf(x))
    assert math.isnan(erf(np.array([math.nan]))[0])


# -- extreme inputs --------------------------------------------------------------------------------

LIMITS: dict[str, tuple[list[float], list[float]]] = {
    # values and derivatives at -1e4, -100, 0, 100, 1e4, rounded to float32
    "sigmoid": ([0, 3.7835e-44, 0.5, 1, 1], [0, 3.7835e-44, 0.25, 0, 0]),
    "tanh": ([-1, -1, 0, 1, 1], [0, 0, 1, 0, 0]),
    "relu": ([0, 0, 0, 100, 1e4], [0, 0, 0, 1, 1]),
    "silu": ([0, -3.7835e-42, 0, 100, 1e4], [0, -3.7457e-42, 0.5, 1, 1]),
    "softplus": ([0, 3.7835e-44, math.log(2), 100, 1e4], [0, 3.7835e-44, 0.5, 1, 1]),
    "gelu": ([0, 0, 0, 100, 1e4], [0, 0, 0.5, 1, 1]),
}


def assert_right_at_extremes(name: str, function: Callable[..., Any], **options: Any) -> None:
    value, slope = LIMITS[name]
    y, vjp = function(EXTREME, **options)
    np.testing.assert_allclose(y, np.float32(value), rtol=1e-6, atol=1e-43)
    np.testing.assert_allclose(vjp(np.ones_like(EXTREME)), np.float32(slope), rtol=1e-6, atol=1e-43)


@pytest.mark.parametrize("name", LIMITS)
def test_activations_at_extremes(name: str) -> None:
    assert_right_at_extremes(name, getattr(ops, name))


def test_gelu_tanh_at_extremes() -> None:
    assert_right_at_extremes("gelu", ops.gelu, approximate="tanh")


def test_swiglu_of_ones_is_silu_at_extremes() -> None:
    def silu(x: Any) -> Any:
        y, vjp = ops.swiglu(x, np.ones_like(x))
        np.testing.assert_array_equal(vjp(np.ones_like(x))[1], y)  # dy silu(a): b does not enter
        return y, lambda dy: vjp(dy)[0]

    assert_right_at_extremes("silu", silu)


def test_the_printed_forms_fail_at_extremes() -> None:
    def printed_sigmoid(x: Any) -> Any:
        y = 1 / (1 + np.exp(-x))
        return y, lambda dy: dy * y * (1 - y)

    def printed_tanh(x: Any) -> Any:
        y = (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1)
        return y, lambda dy: dy * (1 - y * y)

    for name, function in {"sigmoid": printed_sigmoid, "tanh": printed_tanh}.items():
        with pytest.raises(RuntimeWarning, match="overflow"):
            assert_right_at_extremes(name, function)
    with np.errstate(all="ignore"):
        assert np.isnan(printed_tanh(EXTREME)[0][-1])


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_softmax_at_extremes(name: str) -> None:
    y, vjp = getattr(ops, name)(EXTREME)
    dx = vjp(np.ones_like(y))
    expected = {
        "softmax": ([0, 0, 0, 0, 1], [0] * 5),
        "log_softmax": (EXTREME - 1e4, [1, 1, 1, 1, -4]),
        "logsumexp": (1e4, [0, 0, 0, 0, 1]),
    }[name]
    np.testing.assert_array_equal(y, np.float32(expected[0]))
    np.testing.assert_array_equal(dx, np.float32(expected[1]))


def test_norms_at_extremes() -> None:
    """A large common offset is subtracted before squaring: E[x²] - E[x]² would lose all digits."""
    x = normal(3, 64)
    far = (x + 1e4).astype(np.float32)
    y, vjp = ops.layer_norm(far, None, None)
    expected, vjp_expected = ops.layer_norm(far.astype(np.float64), None, None)
    # the mean is a float32 near 1e4, and these are 1e-3 apart
    np.testing.assert_allclose(y, expected, atol=1e-3)
    dy = normal(3, 64)
    np.testing.assert_allclose(vjp(dy.astype("f"))[0], vjp_expected(dy)[0], atol=1e-3)
    big = 1e4 * x.astype(np.float32)
    np.testing.assert_allclose(ops.rms_norm(big)[0], ops.rms_norm(x)[0], rtol=1e-4, atol=1e-4)

    mean = far.mean(axis=-1, keepdims=True)
    naive = (far * far).mean(axis=-1, keepdims=True) - mean**2
    wrong = (far - mean) / np.sqrt(np.abs(naive) + 1e-5)
    assert np.abs(wrong - expected).max() > 1e-3, "the check would not notice E[x²] - E[x]²"


# -- losses ----------------------------------------------------------------------------------------


def test_cross_entropy_at_extremes() -> None:
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], np.float32)
    loss, vjp = ops.cross_entropy(logits, np.array([1, 1]), reduction="none")
    np.testing.assert_array_equal(loss, np.float32([2e4, 0]))
    dx, _ = vjp(np.ones(2, np.float32))
    np.testing.assert_array_equal(dx, np.float32([[1, -1, 0], [0, 0, 0]]))


def test_a_class_ruled_out_by_minus_infinity_gets_no_gradient() -> None:
    logits = np.array([[0.5, -math.inf, 1.0]])
    loss, vjp = ops.cross_entropy(logits, np.array([0]))
    assert loss == pytest.approx(math.log(1 + math.exp(0.5)))
    assert vjp(np.array(1.0))[0][0, 1] == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    ("target", "weight"),
    [
        ([[-100, -100], [-100, -100]], None),  # everything is padding
        ([[-100, -100], [-100, -100]], [1.0, 2.0, 3.0]),
        ([[1, -100], [1, 1]], [1.0, 0.0, 3.0]),  # what is left weighs nothing
    ],
)
def test_mean_over_nothing_is_zero(target: Any, weight: Any, smoothing: float) -> None:
    loss, vjp = ops.cross_entropy(
        normal(2, 2, 3),
        np.array(target),
        weight=None if weight is None else np.array(weight),
        label_smoothing=smoothing,
    )
    assert loss == 0
    np.testing.assert_array_equal(vjp(np.array(1.0))[0], np.zeros((2, 2, 3)))


def test_losses_of_an_empty_batch_are_zero() -> None:
    loss, vjp = ops.cross_entropy(np.zeros((0, 3)), np.zeros(0, int))
    assert loss == 0
    assert vjp(np.array(1.0))[0].shape == (0, 3)
    for name in ("mse", "binary_cross_entropy_with_logits"):
        loss, vjp = getattr(ops, name)(np.zeros((0, 3)), np.zeros((0, 3)))
        assert loss == 0
        assert vjp(np.array(1.0))[0].shape == (0, 3)


def test_skipgram_loss_far_out_and_of_nothing() -> None:
    v, u, noise = np.array([[40.0]]), np.array([[-30.0]]), np.array([[[30.0], [-30.0]]])
    loss, vjp = ops.skipgram_loss(v, u, noise)
    assert loss == 2400  # -ln σ(-1200) - ln σ(-1200) - ln σ(1200)
    for got, wanted in zip(
        vjp(np.array(1.0)), ([[60.0]], [[-40.0]], [[[40.0], [0.0]]]), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)
    loss, vjp = ops.skipgram_loss(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 2, 3)))
    assert loss == 0
    assert [g.shape for g in vjp(np.array(1.0))] == [(0, 3), (0, 3), (0, 2, 3)]


def test_ignored_rows_change_nothing() -> None:
    logits, target = normal(6, 4), np.array([1, -100, 3, 0, -100, 2])
    kept = target != -100
    for options in ({}, {"weight": np.array([0.5, 1, 2, 3])}, {"label_smoothing": 0.2}):
        loss, vjp = ops.cross_entropy(logits, target, **options)
        alone, vjp_alone = ops.cross_entropy(logits[kept], target[kept], **options)
        assert loss == pytest.approx(alone, rel=1e-14)
        dx = vjp(np.array(1.0))[0]
        np.testing.assert_array_equal(dx[~kept], 0)
        np.testing.assert_allclose(dx[kept], vjp_alone(np.array(1.0))[0], rtol=1e-13, atol=1e-16)
        impossible = logits.copy()
        impossible[~kept, 0] = -np.inf  # -ln 0 in a row that does not count
        again, vjp = ops.cross_entropy(impossible, target, **options)
        assert again == loss
        np.testing.assert_array_equal(vjp(np.array(1.0))[0], dx)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_ids_of_every_integer_dtype(dtype: Any) -> None:
    ids, logits = np.array([2, 0, 2], dtype), normal(3, 3)
    loss, vjp = ops.cross_entropy(logits, ids)
    expected, vjp_expected = ops.cross_entropy(logits, ids.astype(int))
    assert loss == expected
    np.testing.assert_array_equal(vjp(np.array(1.0))[0], vjp_expected(np.array(1.0))[0])
    y, vjp = ops.embedding(ids, logits)
    np.testing.assert_array_equal(y, logits[[2, 0, 2]])
    np.testing.assert_array_equal(vjp(np.ones((3, 3)))[1], [[1] * 3, [0] * 3, [2] * 3])


def test_untrained_cross_entropy_is_ln_of_the_number_of_classes() -> None:
    loss, _ = ops.cross_entropy(np.zeros((5, 65), np.float32), RNG.integers(0, 65, 5))
    assert loss == pytest.approx(math.log(65), rel=1e-6)


def test_float64_class_weights_do_not_widen_float32() -> None:
    logits, target = normal(4, 3, dtype=np.float32), np.array([0, 1, 2, 2])
    for smoothing in (0.0, 0.1):
        loss, vjp = ops.cross_entropy(
            logits, target, weight=np.array([1.0, 2.0, 3.0]), label_smoothing=smoothing
        )
        assert loss.dtype == np.float32
        assert vjp(np.float32(1))[0].dtype == np.float32
    loss, vjp = ops.binary_cross_entropy_with_logits(
        logits, np.abs(logits), pos_weight=np.array([1.0, 2.0, 3.0])
    )
    assert loss.dtype == np.float32
    assert all(g.dtype == np.float32 for g in vjp(np.float32(1)))


def test_binary_cross_entropy_at_extremes() -> None:
    x = np.array([1e4, 1e4, -1e4, -1e4], np.float32)
    t = np.array([1, 0, 1, 0], np.float32)
    for pos_weight, value, slope in (
        (None, [0, 1e4, 1e4, 0], [0, 1, -1, 0]),
        (3.0, [0, 1e4, 3e4, 0], [0, 1, -3, 0]),
    ):
        loss, vjp = ops.binary_cross_entropy_with_logits(
            x, t, reduction="none", pos_weight=pos_weight
        )
        np.testing.assert_array_equal(loss, np.float32(value))
        np.testing.assert_array_equal(vjp(np.ones_like(x))[0], np.float32(slope))


def test_binary_cross_entropy_of_a_sure_answer_keeps_its_digits() -> None:
    """Of ``(1 - t) x + softplus(-x)``, with t = 0 and x = -20, float32 keeps nothing."""
    x, t = np.array([-20, 20], np.float32), np.array([0, 1], np.float32)
    loss, _ = ops.binary_cross_entropy_with_logits(x, t, reduction="none")
    np.testing.assert_allclose(loss, math.log1p(math.exp(-20)), rtol=1e-6)
    assert x[0] + ops.softplus(-x)[0][0] == 0


# -- norms -----------------------------------------------------------------------------------------


def test_layer_norm_of_a_constant_row_is_the_bias() -> None:
    x, weight, bias = np.full((2, 4), 7.0), normal(4), normal(4)
    y, vjp = ops.layer_norm(x, weight, bias)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (2, 4)))
    assert np.isfinite(vjp(normal(2, 4))[0]).all()


def test_epsilon_is_inside_the_root() -> None:
    x = np.array([[1.0, -1.0]])  # variance 1, mean square 1
    for name in ("layer_norm", "rms_norm"):
        y, _ = getattr(ops, name)(x, None, eps=3.0)
        np.testing.assert_allclose(y, x / 2, rtol=1e-15)  # outside: 1 / (1 + 3)


def test_layer_norm_passes_no_gradient_along_shift_and_stretch() -> None:
    x, dy = normal(5, 16), normal(5, 16)
    y, vjp = ops.layer_norm(x, None, None, eps=0.0)
    dx = vjp(dy)[0]
    np.testing.assert_allclose(dx.sum(axis=-1), 0, atol=1e-14)
    np.testing.assert_allclose((dx * y).sum(axis=-1), 0, atol=1e-13)


# -- embedding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("shape", [(7, 11), (41, 31)])  # few and many are added in different ways
def test_duplicate_ids_add(shape: tuple[int, int], size: int, dtype: Any) -> None:
    ids = RNG.integers(0, size, shape)
    dy = RNG.integers(-9, 9, (*shape, 5)).astype(dtype)  # integers: every order of adding is exact
    ids[0, 0], dy[0, 0] = ids[-1, -1], 1
    weight = normal(size, 5, dtype=dtype)
    y, vjp = ops.embedding(ids, weight)
    np.testing.assert_array_equal(y, weight[ids])
    expected = np.zeros_like(weight)
    for row, gradient in zip(ids.reshape(-1), dy.reshape(-1, 5), strict=True):
        expected[row] += gradient
    np.testing.assert_array_equal(vjp(dy)[1], expected)
    overwritten = np.zeros_like(weight)
    overwritten[ids] = dy
    assert not np.array_equal(overwritten, expected)


# -- dropout ---------------------------------------------------------------------------------------


def same_mask(dropout: Callable[..., Any]) -> bool:
    """Whether backward drops what forward dropped, and scales it alike."""
    x, dy = normal(50, 40), normal(50, 40)
    y, vjp = dropout(x, p=0.3, rng=np.random.default_rng(1))
    return np.allclose(y / x, vjp(dy) / dy, rtol=1e-14, atol=0)


def test_backward_uses_the_mask_of_forward() -> None:
    def redrawn(x: Any, *, p: float, rng: Any) -> Any:
        return ops.dropout(x, p=p, rng=rng)[0], lambda dy: ops.dropout(dy, p=p, rng=rng)[0]

    def unscaled(x: Any, *, p: float, rng: Any) -> Any:
        y, vjp = ops.dropout(x, p=p, rng=rng)
        return y, lambda dy: vjp(dy) * (1 - p)

    assert same_mask(ops.dropout)
    assert not same_mask(redrawn)
    assert not same_mask(unscaled)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_the_share_p_and_keeps_the_mean(p: float) -> None:
    n = 200_000
    y, _ = ops.dropout(np.ones(n, np.float32), p=p, rng=np.random.default_rng(2))
    assert y.dtype == np.float32
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - p)], rtol=1e-6)
    # five standard deviations of a binomial count; the seed is fixed
    spread = 5 * math.sqrt(p * (1 - p) / n)
    assert abs(float((y == 0).mean()) - p) < spread
    assert abs(float(y.mean()) - 1) < spread / (1 - p)


def test_dropout_is_reproducible_and_draws_anew() -> None:
    x = np.ones((20, 20))
    rng = np.random.default_rng(3)
    first, _ = ops.dropout(x, rng=rng)
    second, _ = ops.dropout(x, rng=rng)
    again, _ = ops.dropout(x, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()


def test_dropout_switched_off_draws_nothing() -> None:
    rng = np.random.default_rng(4)
    before = copy.deepcopy(rng.bit_generator.state)
    x = normal(3, 4)
    for options in ({"training": False}, {"p": 0.0}, {"p": 0.0, "training": False}):
        y, vjp = ops.dropout(x, rng=rng, **options)
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(vjp(x), x)
    assert rng.bit_generator.state == before


# -- attention -------------------------------------------------------------------------------------


def heads(*, n: int = 5, m: int = 5, h: int = 4, hkv: int = 4, d: int = 8, e: int = 6) -> Any:
    return normal(2, h, n, d), normal(2, hkv, m, d), normal(2, hkv, m, e)


def test_weights_of_a_query_add_up_to_one() -> None:
    q, k, v = heads(n=3)
    (y, weights), _ = ops.attention(q, k, v, causal=True, return_weights=True)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-14)
    np.testing.assert_allclose(weights @ v, y, rtol=1e-13, atol=1e-14)


def looks_ahead(attention: Callable[..., Any]) -> bool:
    """Whether some output depends on a later position, or the gradient of one reaches back."""
    q, k, v = heads()
    y, vjp = attention(q, k, v)
    for now in range(4):
        later = [x.copy() for x in (q, k, v)]
        for x in later:
            x[..., now + 1 :, :] = normal(*x[..., now + 1 :, :].shape)
        if not np.array_equal(attention(*later)[0][..., : now + 1, :], y[..., : now + 1, :]):
            return True
        dy = np.zeros_like(y)
        dy[..., : now + 1, :] = normal(*dy[..., : now + 1, :].shape)
        if any(np.any(gradient[..., now + 1 :, :]) for gradient in vjp(dy)):
            return True
    return False


def test_causal_attention_does_not_see_the_future() -> None:
    triangle = np.tril(np.ones((5, 5), bool))
    assert not looks_ahead(lambda *x: ops.attention(*x, causal=True))
    assert not looks_ahead(lambda *x: ops.attention(*x, mask=triangle))
    # planted: no mask; one key too many; scores of the future multiplied by 0 and not forbidden
    assert looks_ahead(ops.attention)
    assert looks_ahead(lambda *x: ops.attention(*x, mask=np.tril(triangle | True, k=1)))
    assert looks_ahead(lambda *x: ops.attention(*x, mask=np.where(triangle, 0.0, -3.0)))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_causal_aligns_the_last_query_with_the_last_key(n: int) -> None:
    """New queries beside cached keys give what the whole sequence gives in its last rows."""
    q, k, v = heads(n=5)
    whole, _ = ops.attention(q, k, v, causal=True)
    last, _ = ops.attention(q[..., 5 - n :, :], k, v, causal=True)
    np.testing.assert_allclose(last, whole[..., 5 - n :, :], rtol=1e-13, atol=1e-15)


def test_attention_is_equivariant_under_permutations() -> None:
    """It knows no order: shuffled queries give shuffled rows, shuffled keys and values the same."""
    q, k, v = heads(n=6, m=7)
    y, _ = ops.attention(q, k, v)
    new, other = RNG.permutation(6), RNG.permutation(7)
    np.testing.assert_array_equal(ops.attention(q[..., new, :], k, v)[0], y[..., new, :])
    shuffled, _ = ops.attention(q, k[..., other, :], v[..., other, :])
    np.testing.assert_allclose(shuffled, y, rtol=1e-12, atol=1e-14)
    # planted: with an order it is not so, nor with values left in their old places
    ordered, _ = ops.attention(q, k[..., other, :], v[..., other, :], causal=True)
    assert not np.allclose(ordered, ops.attention(q, k, v, causal=True)[0])
    assert not np.allclose(ops.attention(q, k[..., other, :], v)[0], y)


@pytest.mark.parametrize("hkv", [1, 2])
def test_grouped_queries_equal_repeated_keys(hkv: int) -> None:
    q, k, v = heads(n=3, h=4, hkv=hkv)
    dy = normal(2, 4, 3, 6)
    y, vjp = ops.attention(q, k, v, causal=True)
    dq, dk, dv = vjp(dy)
    repeated, vjp = ops.attention(
        q, np.repeat(k, 4 // hkv, axis=1), np.repeat(v, 4 // hkv, axis=1), causal=True
    )
    np.testing.assert_allclose(y, repeated, rtol=1e-12, atol=1e-14)
    dq2, dk2, dv2 = vjp(dy)
    np.testing.assert_allclose(dq, dq2, rtol=1e-12, atol=1e-14)
    for found, each in ((dk, dk2), (dv, dv2)):
        summed = each.reshape(2, hkv, 4 // hkv, *each.shape[2:]).sum(axis=2)
        np.testing.assert_allclose(found, summed, rtol=1e-12, atol=1e-14)


BLIND = {
    "boolean mask": (5, {"mask": np.zeros((5, 5), bool)}),
    "additive mask": (5, {"mask": np.full((1, 5), -math.inf)}),
    "mask and causal": (5, {"mask": np.triu(np.ones((5, 5), bool), k=1), "causal": True}),
    "causal, too few keys": (2, {"causal": True}),
    "no keys": (0, {}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", BLIND)
def test_a_query_with_nothing_to_attend_to_gives_zeros(kind: str, dtype: Any) -> None:
    m, options = BLIND[kind]
    q, k, v = (x.astype(dtype) for x in heads(m=m, hkv=2))
    (y, weights), vjp = ops.attention(q, k, v, return_weights=True, **options)
    blind = slice(None, 3) if kind == "causal, too few keys" else slice(None)
    np.testing.assert_array_equal(y[..., blind, :], 0)
    np.testing.assert_array_equal(weights[..., blind, :], 0)
    dq, dk, dv = vjp(normal(*y.shape).astype(dtype), normal(*weights.shape).astype(dtype))
    np.testing.assert_array_equal(dq[..., blind, :], 0)
    assert all(np.isfinite(x).all() for x in (dk, dv))
    if blind == slice(None):
        assert not dk.any()
        assert not dv.any()
    assert y.dtype == weights.dtype == dq.dtype == dk.dtype == dv.dtype == dtype


def test_a_plain_softmax_of_a_blind_row_is_not_zero() -> None:
    """What the test above would catch: exp(-inf - max(-inf)) is NaN."""
    row = np.full((1, 3), -math.inf)
    with np.errstate(invalid="ignore"):
        e = np.exp(row - row.max())
    assert np.isnan(e).all()


def test_attention_at_extremes() -> None:
    """Scores of ±1e4: the largest takes all, exactly, and gradients of q and k vanish."""
    q = np.array([[100.0], [-100.0]], np.float32)
    k = np.array([[100.0], [-100.0], [0.0]], np.float32)
    v = normal(3, 2, dtype=np.float32)
    y, vjp = ops.attention(q, k, v)
    np.testing.assert_array_equal(y, v[:2])
    dq, dk, dv = vjp(np.ones((2, 2), np.float32))
    np.testing.assert_array_equal(dq, 0)
    np.testing.assert_array_equal(dk, 0)
    np.testing.assert_array_equal(dv, np.float32([[1, 1], [1, 1], [0, 0]]))


def test_large_negative_numbers_in_a_mask_stay_numbers() -> None:
    """-1e9 forbids beside a 0; where it is all there is, its row is an ordinary softmax."""
    q, k, v = (x.astype(np.float32) for x in heads())
    mask = np.where(np.arange(5) < 2, 0.0, -1e9)
    narrow, _ = ops.attention(q, k[..., :2, :], v[..., :2, :])
    np.testing.assert_allclose(ops.attention(q, k, v, mask=mask)[0], narrow, rtol=1e-5, atol=1e-6)
    y, _ = ops.attention(q, k, v, mask=np.full((5, 5), -1e9))
    assert np.isfinite(y).all()


def test_attention_dropout_draws_once_and_keeps_the_mean() -> None:
    q, k, v = heads(n=40, m=40)
    plain, _ = ops.attention(q, k, v)
    total = np.zeros_like(plain)
    rng = np.random.default_rng(5)
    for _ in range(300):
        total += ops.attention(q, k, v, dropout_p=0.2, rng=rng)[0]
    # the mean of 300 draws of each element, each with a spread of about sqrt(p / (1 - p) Σ P² v²)
    spread = np.sqrt(0.25 * np.square(ops.attention(q, k, v, return_weights=True)[0][1]) @ v**2)
    assert (np.abs(total / 300 - plain) < 6 * spread / math.sqrt(300)).all()

    rng = np.random.default_rng(6)
    (_, weights), vjp = ops.attention(
        q, k, np.broadcast_to(np.eye(40), (2, 4, 40, 40)), dropout_p=0.2, rng=rng,
        return_weights=True,
    )  # fmt: skip
    before = copy.deepcopy(rng.bit_generator.state)
    first = vjp(np.ones((2, 4, 40, 40)), None)
    for a, b in zip(first, vjp(np.ones((2, 4, 40, 40)), None), strict=True):
        np.testing.assert_array_equal(a, b)
    assert rng.bit_generator.state == before, "backward drew random numbers"
    np.testing.assert_allclose(weights.sum(axis=-1), 1)  # the weights returned are undropped


def test_numbers_without_a_state() -> None:
    """Those of the generator that has one, whose first numbers for this seed are well known."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix(1234567, 4) == known
    for p in (0.0, 0.2, 0.5, 0.999):
        for seed in (0, 1234567, 2**64 - 1):
            like = np.zeros((3, 4, 5), np.float32)
            kept = np.array([z >= p * 2**64 for z in splitmix(seed, like.size)])
            mask = keep_mask(seed, p, like)
            assert mask.dtype == np.float32
            expected = kept.reshape(like.shape) / (1 - p)
            np.testing.assert_allclose(mask, expected, rtol=1e-6)
    there = keep_mask(7, 0.5, standin.asarray(np.zeros((6, 7))))
    np.testing.assert_array_equal(there.get(), keep_mask(7, 0.5, np.zeros((6, 7))))
    assert keep_mask(7, 0.5, np.zeros((0, 3))).shape == (0, 3)


# -- on tensors ------------------------------------------------------------------------------------


def test_optional_inputs_may_be_left_out() -> None:
    x, w, dy = normal(3, 4), normal(4), normal(3, 4)
    square = normal(4, 4)
    for call in (lambda x: F.linear(x, square), lambda x: F.linear(x, square, None)):
        t = Tensor(x, requires_grad=True)
        call(t).backward(dy)
        np.testing.assert_allclose(t.grad.data, dy @ square)
    for call in (
        lambda x: F.layer_norm(x),
        lambda x: F.layer_norm(x, w),
        lambda x: F.layer_norm(x, None, w),
        lambda x: F.rms_norm(x),
    ):
        t = Tensor(x, requires_grad=True)
        call(t).backward(dy)
        assert t.grad.shape == x.shape


def test_losses_are_tensors_without_axes() -> None:
    logits = Tensor(normal(3, 4, dtype=np.float32), requires_grad=True)
    loss = F.cross_entropy(logits, np.array([1, 0, 3]))
    assert isinstance(loss.data, np.ndarray)
    assert (loss.shape, loss.dtype) == ((), np.float32)
    loss.backward()
    assert logits.grad.dtype == np.float32


# -- convolution -----------------------------------------------------------------------------------


def test_convolution_is_the_sum_that_it_says() -> None:
    """The formula of the docstring, in loops."""
    x, w, b = normal(2, 4, 7, 6), normal(6, 2, 3, 2), normal(6)
    y, _ = ops.conv2d(x, w, b, stride=(2, 1), padding=(1, 2), dilation=(1, 3), groups=2)
    assert y.shape == (2, 6, 4, 7)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (2, 2)))
    for n, o, p, q in np.ndindex(*y.shape):
        first = 0 if o < 3 else 2  # filters 0 to 2 see channels 0 and 1
        patch = padded[n, first : first + 2, 2 * p : 2 * p + 3, q : q + 4 : 3]
        # twelve products of numbers of the size of 1
        assert y[n, o, p, q] == pytest.approx(b[o] + np.sum(patch * w[o]), abs=1e-13)


def test_a_shifted_picture_gives_a_shifted_map() -> None:
    x, w = np.zeros((1, 1, 9, 9)), normal(2, 1, 3, 3)
    x[..., 3:5, 3:5] = normal(2, 2)
    y = ops.conv2d(x, w, padding=1)[0]
    moved = ops.conv2d(np.roll(x, (1, -2), (2, 3)), w, padding=1)[0]
    np.testing.assert_array_equal(moved, np.roll(y, (1, -2), (2, 3)))


def test_the_gradient_of_a_convolution_is_a_convolution_with_the_filter_turned() -> None:
    x, w = normal(2, 3, 6, 5), normal(4, 3, 3, 2)
    y, vjp = ops.conv2d(x, w, dilation=(2, 1))
    dy = normal(*y.shape)
    turned = w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    expected, _ = ops.conv2d(dy, turned, dilation=(2, 1), padding=(4, 1))
    # sums of 4 * 6 products of numbers of the size of 1, in another order
    np.testing.assert_allclose(vjp(dy)[0], expected, rtol=1e-13, atol=1e-13)


def test_a_stride_as_large_as_the_filter_is_a_linear_layer_on_patches() -> None:
    x, w, b = normal(2, 3, 8, 12), normal(5, 3, 4, 4), normal(5)
    y, _ = ops.conv2d(x, w, b, stride=4)
    patches = x.reshape(2, 3, 2, 4, 3, 4).transpose(0, 2, 4, 1, 3, 5).reshape(2, 6, 48)
    tokens, _ = ops.linear(patches, w.reshape(5, 48), b)
    np.testing.assert_allclose(y.reshape(2, 5, 6).transpose(0, 2, 1), tokens, atol=1e-13)


# -- errors ----------------------------------------------------------------------------------------

Z = np.zeros
Errors = list[tuple[Callable[[], Any], type[Exception], str]]


def attend(q: Any, k: Any, v: Any, **options: Any) -> Callable[[], Any]:
    return lambda: ops.attention(Z(q), Z(k), Z(v), **options)


def convolve(x: Any, w: Any, **options: Any) -> Callable[[], Any]:
    bias = options.pop("bias", None)
    return lambda: ops.conv2d(Z(x), Z(w), bias, **options)


ERRORS: Errors = [
    (lambda: ops.gelu(Z(3), approximate="erf"), ValueError, "gelu: approximate is 'erf'"),
    (lambda: ops.linear(Z((2, 3)), Z((3, 4))), ValueError, r"linear: x \(2, 3\) and weight"),
    (lambda: ops.linear(Z((2, 3)), Z(3)), ValueError, r"\(out, in\)"),
    (lambda: ops.linear(Z(()), Z((3, 3))), ValueError, "linear: x"),
    (lambda: ops.linear(Z((2, 3)), Z((4, 3)), Z(3)), ValueError, r"bias must be \(4,\)"),
    (lambda: ops.layer_norm(Z((2, 3)), Z(2), Z(3)), ValueError, r"weight must be \(3,\)"),
    (lambda: ops.layer_norm(Z((2, 3)), Z(3), Z(1)), ValueError, r"bias must be \(3,\)"),
    (lambda: ops.layer_norm(Z((2, 0))), ValueError, "no last axis"),
    (lambda: ops.rms_norm(Z(())), ValueError, "rms_norm: .* no last axis"),
    (lambda: ops.rms_norm(Z((2, 3)), Z((1, 3))), ValueError, r"weight must be \(3,\)"),
    (lambda: ops.embedding(np.array([0.0]), Z((2, 3))), TypeError, "ids must be integers"),
    (lambda: ops.embedding(np.array([[0, 2]]), Z((2, 3))), IndexError, r"id 2 at index \(0, 1\)"),
    (lambda: ops.embedding(np.array([-1]), Z((2, 3))), IndexError, "negative ids do not wrap"),
    (lambda: ops.embedding(np.array([0]), Z(3)), ValueError, r"it must be \(V, d\)"),
    (lambda: ops.dropout(Z(3), p=1.0, rng=RNG), ValueError, "dropout: p is 1.0"),
    (lambda: ops.dropout(Z(3), p=-0.1, rng=RNG), ValueError, r"must be in \[0, 1\)"),
    (lambda: ops.dropout(Z(3), p=math.nan, rng=RNG), ValueError, "dropout: p is nan"),
    (lambda: ops.dropout(Z(3), p=0.5), ValueError, "rng is missing"),
    (lambda: ops.dropout(Z(3), rng=42), TypeError, "not int"),
    (lambda: ops.cross_entropy(Z((2, 3)), Z((2, 3))), ValueError, r"of shape \(2,\)"),
    (lambda: ops.cross_entropy(Z((2, 3)), Z(2)), TypeError, "integer class ids, got float64"),
    (lambda: ops.cross_entropy(Z((2, 3)), np.array([0, 3])), IndexError, "id 3 at index"),
    (lambda: ops.cross_entropy(Z((2, 3)), np.array([0, -1])), IndexError, "id -1 at index"),
    (lambda: ops.cross_entropy(Z(()), np.array(0)), ValueError, "cross_entropy: logits"),
    (
        lambda: ops.cross_entropy(Z((2, 3)), np.array([0, 1]), weight=Z(2)),
        ValueError,
        r"it must be \(3,\)",
    ),
    (
        lambda: ops.cross_entropy(Z((2, 3)), np.array([0, 1]), label_smoothing=1.5),
        ValueError,
        "label_smoothing is 1.5",
    ),
    (
        lambda: ops.cross_entropy(Z((2, 3)), np.array([0, 1]), reduction="avg"),
        ValueError,
        "'mean', 'sum' or 'none'",
    ),
    (lambda: ops.mse(Z((3, 1)), Z(3)), ValueError, r"mse: .*\(3, 1\), the target \(3,\)"),
    (lambda: ops.mse(Z(3), Z(3), reduction=None), ValueError, "reduction is None"),
    (
        lambda: ops.skipgram_loss(Z((4, 3)), Z(3), Z((4, 2, 3))),
        ValueError,
        r"center has shape \(4, 3\), context \(3,\)",
    ),
    (
        lambda: ops.skipgram_loss(Z((4, 3)), Z((4, 3)), Z((2, 3))),
        ValueError,
        r"they must be \(4, K, 3\)",
    ),
    (
        lambda: ops.skipgram_loss(Z((4, 3)), Z((4, 3)), Z((4, 3))),
        ValueError,
        r"negatives have shape \(4, 3\)",
    ),
    (lambda: ops.skipgram_loss(Z(()), Z(()), Z((1,))), ValueError, "a vector for each word"),
    (
        lambda: ops.skipgram_loss(Z(3), Z(3), Z((2, 3)), reduction=1),
        ValueError,
        "reduction is 1",
    ),
    (
        lambda: ops.binary_cross_entropy_with_logits(Z(3), np.array([0, 1, 1])),
        TypeError,
        "target is int64",
    ),
    (
        lambda: ops.binary_cross_entropy_with_logits(Z((2, 3)), Z((2, 3)), pos_weight=Z(2)),
        ValueError,
        r"pos_weight has shape \(2,\)",
    ),
    (lambda: ops.binary_cross_entropy_with_logits(Z(3), Z((3, 1))), ValueError, "must be equal"),
    (convolve((1, 5, 5), (1, 1, 3, 3)), ValueError, r"a single picture needs a batch axis"),
    (convolve((1, 1, 5, 5), (1, 3, 3)), ValueError, r"conv2d: x \(1, 1, 5, 5\), weight \(1, 3, 3"),
    (convolve((1, 3, 5, 5), (4, 1, 3, 3)), ValueError, "each filter sees 3 channels of x"),
    (
        convolve((1, 4, 5, 5), (4, 4, 3, 3), groups=2),
        ValueError,
        r"2 channels of x \(4 in 2 groups",
    ),
    (convolve((1, 3, 5, 5), (4, 3, 3, 3), groups=2), ValueError, "groups=2 must divide"),
    (convolve((1, 0, 5, 5), (4, 0, 3, 3)), ValueError, "the channels of x, 0"),
    (convolve((1, 1, 5, 5), (4, 1, 3, 3), bias=Z(3)), ValueError, r"bias must be \(4,\)"),
    (convolve((1, 1, 5, 2), (1, 1, 3, 3)), ValueError, "the width the filter spans 3 .* picture 2"),
    (convolve((1, 1, 5, 9), (1, 1, 3, 3), dilation=3), ValueError, "the height .* 7 .* 5: it must"),
    (convolve((1, 1, 5, 5), (1, 1, 0, 3)), ValueError, "must have a pixel"),
    (convolve((1, 1, 5, 5), (1, 1, 3, 3), stride=0), ValueError, "stride=0; .* at least 1"),
    (convolve((1, 1, 5, 5), (1, 1, 3, 3), padding=(0, -1)), ValueError, r"padding=\(0, -1\)"),
    (convolve((1, 1, 5, 5), (1, 1, 3, 3), dilation=(1, 1, 1)), ValueError, r"or \(down, right\)"),
    (convolve((1, 1, 5, 5), (1, 1, 3, 3), groups=(1, 1)), ValueError, "groups=.* one integer, of"),
    (convolve((1, 1, 5, 5), (1, 1, 3, 3), padding="same"), TypeError, "padding must be an integer"),
    (attend((2, 5, 8), (2, 5, 7), (2, 5, 8)), ValueError, "last axes of q and k must agree"),
    (attend((2, 5, 0), (2, 5, 0), (2, 5, 8)), ValueError, "not be 0"),
    (attend((2, 5, 8), (2, 6, 8), (2, 5, 8)), ValueError, "k and v must agree in every axis but"),
    (attend((2, 5, 8), (2, 6, 8), (1, 6, 8)), ValueError, "k and v must agree"),
    (attend((3, 2, 5, 8), (4, 2, 5, 8), (4, 2, 5, 8)), ValueError, "axes before the heads"),
    (attend((3, 4, 5, 8), (3, 3, 5, 8), (3, 3, 5, 8)), ValueError, "q has 4 heads, k and v 3"),
    (attend((3, 4, 5, 8), (4, 5, 8), (4, 5, 8)), ValueError, "same number of axes"),
    (attend((8,), (8,), (8,)), ValueError, "same number of axes"),
    (
        attend((2, 5, 8), (2, 5, 8), (2, 5, 8), mask=np.ones((4, 5), bool)),
        ValueError,
        r"mask has shape \(4, 5\), the weights \(2, 5, 5\)",
    ),
    (
        attend((2, 5, 8), (2, 5, 8), (2, 5, 8), mask=np.ones((1, 1, 5, 5), bool)),
        ValueError,
        "without adding axes",
    ),
    (
        attend((2, 5, 8), (2, 5, 8), (2, 5, 8), mask=np.ones((5, 5), int)),
        TypeError,
        "use a boolean mask",
    ),
    (attend((2, 5, 8), (2, 5, 8), (2, 5, 8), dropout_p=0.1), ValueError, "rng is missing"),
    (attend((2, 5, 8), (2, 5, 8), (2, 5, 8), dropout_p=1.0), ValueError, "dropout_p is 1.0"),
    (attend((2, 5, 8), (2, 5, 8), (2, 5, 8), dropout_p=0.1, rng=7), TypeError, "rng must be"),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[e[2] for e in ERRORS])
def test_bad_input_is_refused(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
