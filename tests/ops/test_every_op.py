"""What every op must do, on every case in ``cases_general`` and ``cases_nn``."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import Case, all_cases
from ops.harness import (
    FAULTS,
    as_tuple,
    call,
    gradients,
    is_float,
    numerical_gradient,
    plant,
    random_cotangents,
)

import scratchlm
from scratchlm import Tensor
from scratchlm.registry import all_ops, get_op
from scratchlm.tensor import apply

CASES = all_cases()
TOLERANCE = 1e-6  # the numerical gradient itself is good to 1e-8 of its floor

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
seeds = st.integers(0, 2**32 - 1)


def library_ops() -> set[str]:
    return {
        name for name, op in all_ops().items() if op.reference.__module__.startswith("scratchlm.")
    }


def test_every_op_has_a_case() -> None:
    tried = {case.op for case in CASES}
    assert not library_ops() - tried, "ops without a case"
    assert not tried - library_ops(), "cases without an op"


def test_a_forgotten_op_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgotten(x: Any) -> Any:
        return x, lambda dy: dy

    forgotten.__module__ = "scratchlm.ops.forgotten"
    registry = {**all_ops(), "forgotten": type(get_op("neg"))(forgotten, "x", False)}
    monkeypatch.setattr("scratchlm.registry._ops", registry)
    assert "forgotten" in library_ops()


def test_case_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))


def test_every_op_is_exported_and_works_on_tensors() -> None:
    for name in library_ops():
        assert getattr(scratchlm.ops, name) is get_op(name).reference
        assert name in scratchlm.ops.__all__
        assert callable(getattr(scratchlm.functional, name))


@every_case
@given(data=st.data(), seed=seeds)
def test_gradient_equals_central_differences(case: Case, data: st.DataObject, seed: int) -> None:
    op = get_op(case.op)
    arrays, options = data.draw(case.inputs)
    out, _ = call(op.reference, arrays, options)
    cotangents = random_cotangents(out, np.random.default_rng(seed), drop=True)
    found = gradients(op.reference, arrays, options, cotangents, op.broadcasts)
    for index, dx in enumerate(found):
        if dx is not None:
            expected = numerical_gradient(op.reference, arrays, options, cotangents, index)
            error = expected.error(dx)
            assert error <= TOLERANCE, f"{op.input_name(index)}: {error:.2e}"


@every_case
@given(data=st.data(), seed=seeds)
def test_arrays_are_left_alone(case: Case, data: st.DataObject, seed: int) -> None:
    """No input or cotangent is changed, no gradient is memory of an input or of the result, and
    backward can run twice, even after someone has overwritten the first gradients."""
    function = get_op(case.op).reference
    arrays, options = data.draw(case.inputs)
    before = copy.deepcopy((arrays, options))
    out, vjp = call(function, arrays, options)
    outs = [np.array(y) for y in as_tuple(out)]
    cotangents = random_cotangents(out, np.random.default_rng(seed))

    given_cotangents = copy.deepcopy(cotangents)
    first = as_tuple(vjp(*given_cotangents))
    _assert_same(given_cotangents, cotangents, "cotangent changed")
    _assert_same(arrays, before[0], "input changed")
    for name, value in before[1].items():
        if isinstance(value, np.ndarray):
            _assert_same([options[name]], [value], f"option {name} changed")
    _assert_same(as_tuple(out), outs, "result changed")
    for dx in first:
        for x in (*arrays, *as_tuple(out)):
            if isinstance(dx, np.ndarray) and isinstance(x, np.ndarray):
                assert not np.shares_memory(dx, x), "a gradient is memory of an input or the result"

    kept = copy.deepcopy(first)
    for dx in first:
        if isinstance(dx, np.ndarray) and dx.flags.writeable:
            dx[...] = np.nan
    _assert_same(as_tuple(vjp(*copy.deepcopy(cotangents))), kept, "the second backward differs")


def _assert_same(found: Any, expected: Any, message: str) -> None:
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None), message
        if a is not None:
            np.testing.assert_array_equal(a, b, err_msg=message)


def _float32(x: Any) -> Any:
    return x.astype(np.float32) if is_float(x) else x


@every_case
@given(data=st.data(), seed=seeds)
def test_float32_stays_float32(case: Case, data: st.DataObject, seed: int) -> None:
    if not case.keeps_dtype:
        pytest.skip("this op is for changing the dtype")
    function = get_op(case.op).reference
    arrays, options = data.draw(case.inputs)
    arrays = [_float32(x) for x in arrays]
    options = {name: _float32(value) for name, value in options.items()}
    out, vjp = call(function, arrays, options)
    cotangents = random_cotangents(out, np.random.default_rng(seed))
    for y in as_tuple(out):
        assert y.dtype == np.float32
    for x, dx in zip(arrays, as_tuple(vjp(*cotangents)), strict=True):
        assert not is_float(x) or dx.dtype == x.dtype


@every_case
@given(data=st.data(), seed=seeds)
def test_tensors_agree_with_the_op(case: Case, data: st.DataObject, seed: int) -> None:
    """``apply`` and ``backward()`` give what the op and its vjp give, broadcast inputs summed."""
    op = get_op(case.op)
    arrays, options = data.draw(case.inputs)
    out, _ = call(op.reference, arrays, options)
    cotangents = random_cotangents(out, np.random.default_rng(seed))
    expected = gradients(op.reference, arrays, options, cotangents, op.broadcasts)

    tensors = [None if x is None else Tensor(x, requires_grad=is_float(x)) for x in arrays]
    results = call(lambda *inputs, **opts: apply(op, *inputs, **opts), tensors, options)
    for y, result, dy in zip(as_tuple(out), as_tuple(results), cotangents, strict=True):
        np.testing.assert_array_equal(result.data, y)
        assert result.dtype == y.dtype
        if dy is not None:
            result.backward(dy)
    for tensor, dx in zip(tensors, expected, strict=True):
        if dx is not None:
            # several outputs arrive one after the other: sums in another order
            np.testing.assert_allclose(tensor.grad.data, dx, rtol=1e-12, atol=1e-12)
            assert tensor.grad.dtype == tensor.dtype


# -- planted faults: would the check above notice? -------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
@every_case
def test_planted_fault_is_caught(case: Case, fault: str) -> None:
    """A wrong gradient is noticed wherever it differs from the right one, and it does somewhere."""
    op = get_op(case.op)
    seen: set[int] = set()
    possible: set[int] = set()

    @given(data=st.data(), seed=seeds)
    @settings(database=None)
    def try_inputs(data: st.DataObject, seed: int) -> None:
        arrays, options = data.draw(case.inputs)
        out, _ = call(op.reference, arrays, options)
        cotangents = random_cotangents(out, np.random.default_rng(seed))
        right = gradients(op.reference, arrays, options, cotangents, op.broadcasts)
        for index, dx in enumerate(right):
            if dx is None or not dx.size:
                continue
            if fault == "transposed" and (dx.ndim < 2 or dx.shape[-1] == dx.shape[-2] == 1):
                continue
            possible.add(index)
            planted = plant(op.reference, index, FAULTS[fault])
            try:
                wrong = gradients(planted, arrays, options, cotangents, op.broadcasts)[index]
            except (AssertionError, np.exceptions.AxisError):
                seen.add(index)  # its shape gave it away
                continue
            expected = numerical_gradient(op.reference, arrays, options, cotangents, index)
            assert wrong is not None
            size = max(float(np.abs(dx).max()), expected.floor)
            if float(np.abs(wrong - dx).max()) > 1e-4 * size:
                seen.add(index)
                assert expected.error(wrong) > TOLERANCE

    try_inputs()
    assert seen == possible, f"the fault never showed in inputs {possible - seen}"
    assert seen or fault == "transposed"


# -- PyTorch as referee ----------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@every_case
@given(data=st.data(), seed=seeds)
def test_equals_pytorch(case: Case, dtype: str, data: st.DataObject, seed: int) -> None:
    """Forward and every gradient: to 1e-10 in float64; in float32 to its rounding, beside PyTorch's
    float64 result for the same (rounded) inputs."""
    torch = pytest.importorskip("torch")
    if case.torch is None:
        pytest.skip("PyTorch has no such op")
    op = get_op(case.op)
    arrays, options = data.draw(case.inputs)
    if dtype == "float32":
        arrays = [_float32(x) for x in arrays]
        options = {name: _float32(value) for name, value in options.items()}
    out, _ = call(op.reference, arrays, options)
    cotangents = random_cotangents(out, np.random.default_rng(seed))
    found = gradients(op.reference, arrays, options, cotangents, op.broadcasts)

    def to_torch(x: Any) -> Any:
        if not isinstance(x, np.ndarray):
            return x
        x = x.astype(np.float64) if is_float(x) else x
        return torch.from_numpy(np.array(x, order="C"))

    inputs = [to_torch(x) for x in arrays]
    for x in inputs:
        if x is not None and x.is_floating_point():
            x.requires_grad_()
    torch_options = {name: to_torch(value) for name, value in options.items()}
    expected = call(lambda *xs, **opts: case.torch(torch, *xs, **opts), inputs, torch_options)
    expected = tuple(expected) if isinstance(expected, (tuple, list)) else (expected,)

    eps = 1e-10 if dtype == "float64" else case.float32_ulps * 2.0**-23
    total = 0.0
    for y, t, dy in zip(as_tuple(out), expected, cotangents, strict=True):
        _assert_close(y, t.detach().numpy(), eps, "result")
        if dy is not None:
            total = total + (t * torch.from_numpy(np.array(dy, np.float64))).sum()
    if isinstance(total, torch.Tensor) and total.requires_grad:
        total.backward()
    for index, (x, dx) in enumerate(zip(inputs, found, strict=True)):
        if dx is not None:
            grad = np.zeros(dx.shape) if x.grad is None else x.grad.numpy()
            _assert_close(dx, grad, eps, f"gradient of {op.input_name(index)}")


def _assert_close(found: Any, expected: np.ndarray, eps: float, what: str) -> None:
    assert found.shape == expected.shape, f"{what}: shape {found.shape} for {expected.shape}"
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(1.0, float(finite.max(initial=0.0)))
    np.testing.assert_allclose(found, expected, rtol=eps, atol=eps * scale, err_msg=what)
