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
    agrees(case.op, arrays, options, seed)


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
