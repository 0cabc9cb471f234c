"""Every CPU kernel gives what the composed op gives: result and all gradients, on every case of
that op, in float64 to 1e-12 and in float32 to its rounding."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernels.compare import agrees, differences
from ops.cases import Case, all_cases
from ops.harness import as_tuple, call, gradients, is_float, random_cotangents

import scratchlm
from scratchlm.registry import all_ops, get_op

pytest.importorskip("numba")

OPS = sorted(name for name, op in all_ops().items() if "numba" in op.implementations)
CASES = [case for case in all_cases() if case.op in OPS]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
seeds = st.integers(0, 2**32 - 1)


def kernel_of(case: Case) -> Any:
    return get_op(case.op).implementations["numba"].function


def _cast(x: Any, dtype: str) -> Any:
    return x.astype(dtype) if is_float(x) else x


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@every_case
@given(data=st.data(), seed=seeds)
def test_equals_the_composed_op(case: Case, dtype: str, data: st.DataObject, seed: int) -> None:
    arrays, options = data.draw(case.inputs)
    arrays = [_cast(x, dtype) for x in arrays]
    options = {name: _cast(value, dtype) for name, value in options.items()}
    # the gradient of a norm has the factor 1 / σ, and so has what rounding leaves of it
    agrees(case.op, arrays, options, seed, scale=10 if case.op == "layer_norm" else 1)


@every_case
@given(data=st.data(), seed=seeds)
def test_arrays_are_left_alone(case: Case, data: st.DataObject, seed: int) -> None:
    """Read-only arrays will do, no gradient is memory of an input or of the result, and backward
    can run twice, even after someone has overwritten the first gradients and run other kernels."""
    function = kernel_of(case)
    arrays, options = data.draw(case.inputs)
    for x in (*arrays, *options.values()):
        if isinstance(x, np.ndarray):
            x.flags.writeable = False
    out, vjp = call(function, arrays, options)
    outs = [np.array(y) for y in as_tuple(out)]
    cotangents = random_cotangents(out, np.random.default_rng(seed))
    for dy in cotangents:
        if dy is not None:
            dy.flags.writeable = False
    first = as_tuple(vjp(*cotangents))
    for y, before in zip(as_tuple(out), outs, strict=True):
        np.testing.assert_array_equal(y, before)
    for dx in first:
        for x in (*arrays, *as_tuple(out)):
            if isinstance(dx, np.ndarray) and isinstance(x, np.ndarray):
                assert not np.shares_memory(dx, x)
    kept = copy.deepcopy(first)
    for dx in first:
        if isinstance(dx, np.ndarray) and dx.flags.writeable:
            dx[...] = np.nan
    gradients(function, [np.ones_like(x) if is_float(x) else x for x in arrays], options,
              cotangents, get_op(case.op).broadcasts)  # fmt: skip
    for dx, before in zip(as_tuple(vjp(*cotangents)), kept, strict=True):
        if before is None:
            assert dx is None
        else:
            np.testing.assert_array_equal(dx, before)


@pytest.mark.parametrize("name", OPS)
def test_asked_for_by_name(name: str) -> None:
    with scratchlm.use(**{name: "numba"}):
        assert get_op(name).run is get_op(name).implementations["numba"].function


def test_planted_faults_are_seen() -> None:
    """The comparison itself: results off by a little more than rounding differ."""
    x = np.linspace(-2, 2, 12).reshape(3, 4)
    for dtype, little in (("float64", 1e-11), ("float32", 1e-4)):
        a = x.astype(dtype)
        assert not differences([a], [a.copy()])
        assert differences([a], [a * (1 + little)])
        assert differences([a], [a.T])
        assert differences([a], [np.where(a == a[1, 1], np.nan, a)])
        assert differences([a], [None])
        assert differences([a], [a.astype("float32" if dtype == "float64" else "float64")])


# -- where blocks and chunks end -------------------------------------------------------------------

DTYPES = pytest.mark.parametrize("dtype", ["float64", "float32"])


def normal(*shape: int, dtype: str = "float64", seed: int = 0, size: float = 1.0) -> np.ndarray:
    return (size * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


@DTYPES
def test_linear_of_every_size(dtype: str) -> None:
    """Around the sizes of tiles (64 x 512), of chunks of the sum (512) and of vectors."""
    shapes = [(n, i, o) for n in (1, 63, 65, 130) for i in (1, 17, 513) for o in (1, 31, 65)]
    shapes += [(3, 1030, 5), (66, 512, 512), (5, 64, 1025), (64, 511, 513), (200, 96, 40)]
    for rows, ins, outs in shapes:
        arrays = [normal(*s, dtype=dtype) for s in ((rows, ins), (outs, ins), (outs,))]
        agrees("linear", arrays, {}, scale=4)  # sums of up to a thousand terms
        agrees("linear", (*arrays[:2], None), {}, scale=4)


@DTYPES
def test_linear_of_any_layout(dtype: str) -> None:
    x, w, b = normal(2, 70, 3, 40, dtype=dtype), normal(40, 50, dtype=dtype).T, normal(50)
    b = np.broadcast_to(b[:1].astype(dtype), (50,))
    agrees("linear", (x.swapaxes(1, 2), w, b), {})
    agrees("linear", (x[..., ::-1], w[::-1], b), {})
    agrees("linear", (x[0, 0, 0], w, b), {})


@DTYPES
@pytest.mark.parametrize("size", [1, 15, (1 << 14) - 1, (1 << 14) + 1, 3 << 14, 300_001])
def test_gelu_of_every_size(size: int, dtype: str) -> None:
    agrees("gelu", [normal(size, dtype=dtype, size=3.0)], {"approximate": "tanh"})


@DTYPES
def test_gelu_far_out(dtype: str) -> None:
    x = np.array([-1e4, -88.0, -30.0, -1e-30, 0.0, 1e-30, 30.0, 88.0, 1e4], dtype)
    agrees("gelu", [x], {"approximate": "tanh"})
    kernel = get_op("gelu").implementations["numba"].function
    y, vjp = kernel(np.array([np.nan, 1.0], dtype), approximate="tanh")
    assert np.isnan(y[0])
    assert np.isnan(vjp(np.ones(2, dtype))[0])


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1), (63, 7), (64, 16), (65, 33), (3, 50, 100), (2000, 384)])
def test_layer_norm_of_every_size(shape: tuple[int, ...], dtype: str) -> None:
    x = normal(*shape, dtype=dtype) + 3
    weight, bias = normal(shape[-1], dtype=dtype), normal(shape[-1], dtype=dtype, seed=1)
    # the gradients of weight and bias add up over all rows
    for arrays in ((x, weight, bias), (x, weight, None), (x, None, bias), (x, None, None)):
        agrees("layer_norm", arrays, {}, scale=100)
    agrees("layer_norm", (x.T.copy().T, weight[::-1], bias), {}, scale=100)


@DTYPES
@pytest.mark.parametrize("classes", [1, 2, 65, 1000, 8193])
def test_cross_entropy_of_every_size(classes: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    for rows in (1, 7, 8, 9, 40):
        x = normal(rows, classes, dtype=dtype, size=4.0)
        target = rng.integers(classes, size=rows)
        for reduction in ("mean", "sum", "none"):
            agrees("cross_entropy", (x, target), {"reduction": reduction})
            agrees(
                "cross_entropy",
                (x, (target % min(classes, 200)).astype("uint8")),
                {"ignore_index": 0},
            )


@DTYPES
def test_cross_entropy_of_large_logits(dtype: str) -> None:
    x = np.round(normal(9, 100, dtype=dtype, size=1e4))
    target = np.arange(9)
    agrees("cross_entropy", (x, target), {})
    x[:, 3:20] = -np.inf  # forbidden classes, not those of the targets
    agrees("cross_entropy", (x, np.full(9, 2)), {})


def test_wrong_targets_are_refused_in_the_same_words() -> None:
    x = normal(9, 5)
    for target in (np.full(9, 5), np.full(9, -1), np.zeros(9), np.zeros(8, int)):
        with pytest.raises((IndexError, TypeError, ValueError)) as expected:
            get_op("cross_entropy").reference(x, target)
        with pytest.raises(expected.type) as found:
            get_op("cross_entropy").implementations["numba"].function(x, target)
        assert str(found.value) == str(expected.value)


@DTYPES
def test_adam_equals_the_composed_update(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from scratchlm import Tensor
    from scratchlm.optim import Adam, AdamW
    from scratchlm.registry import fused_updates

    calls = []
    kernel = fused_updates["adam_step"]

    def counted(*arrays: Any, **options: Any) -> bool:
        done = kernel(*arrays, **options)
        calls.append(done)
        return done

    def run(shape: tuple[int, ...], fused: bool) -> list[np.ndarray]:
        monkeypatch.setattr(
            "scratchlm.optim.optimizers.fused_updates", {"adam_step": counted} if fused else {}
        )
        p = Tensor(normal(*shape, dtype=dtype), requires_grad=True)
        optimizers = AdamW([p], lr=0.1, weight_decay=0.2), Adam([p], lr=0.1, eps=1e-3)
        for t in range(1, 6):
            g = normal(*shape, dtype=dtype, seed=t)
            g.flags.writeable = False
            for optimizer, gradient in zip(optimizers, (g, g.copy(order="F")), strict=True):
                p.grad = Tensor(gradient)
                optimizer.step()
        states = [optimizer.state[p] for optimizer in optimizers]
        return [p.data, *(state[name] for state in states for name in ("exp_avg", "exp_avg_sq"))]

    for shape in ((64, 65), (300, 1001)):
        assert not differences(run(shape, fused=False), run(shape, fused=True))
    assert calls == [True] * 20
    calls.clear()
    run((3, 5), fused=True)
    assert calls == [False] * 10  # too small to be worth it


@pytest.mark.parametrize("name", OPS)
def test_threads_change_nothing(name: str) -> None:
    """Not even rounding, in arrays large enough to be shared out."""
    from scratchlm_kernels.cpu import threads

    calls: dict[str, tuple[list[np.ndarray], dict[str, Any]]] = {
        "attention": ([normal(1, 9, 130, 16, seed=i) for i in range(3)], {"causal": True}),
        "linear": ([normal(300, 300), normal(400, 300), normal(400)], {}),
        "gelu": ([normal(700, 400)], {"approximate": "tanh"}),
        "layer_norm": ([normal(700, 400), normal(400), normal(400)], {}),
        "cross_entropy": ([normal(700, 400), np.arange(700) % 400], {}),
    }
    arrays, options = calls[name]
    op = get_op(name)
    former = threads.threads()
    results = []
    try:
        for count in (1, 2, 3):
            threads.set_threads(count)
            out, vjp = op.implementations["numba"].function(*arrays, **options)
            results.append([out, *as_tuple(vjp(np.ones_like(out)))])
    finally:
        threads.set_threads(former)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            if a is not None:
                np.testing.assert_array_equal(a, b)
