"""The checker that students use, on every op of the library: right ones pass, faults do not.

(The ops' own tests measure with another formula, so that checker and ops can't be wrong together.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ops.cases import Case, all_cases
from ops.harness import FAULTS, as_tuple, call, plant

from scratchlm.gradcheck import gradcheck
from scratchlm.registry import get_op

CASES = all_cases()
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def check(case: Case, function: Any, arrays: Any, options: Any) -> Any:
    names = [get_op(case.op).input_name(k) for k in range(len(arrays))]
    return gradcheck(
        lambda *inputs: call(function, inputs, options),
        *arrays,
        names=names,
        broadcasts=get_op(case.op).broadcasts,
    )


def drawn(case: Case, data: st.DataObject) -> Any:
    arrays, options = data.draw(case.inputs)
    assume(any(a is not None and a.dtype.kind == "f" and a.size for a in arrays))
    outs = as_tuple(call(get_op(case.op).reference, arrays, options)[0])
    assume(all(np.size(out) for out in outs))
    return arrays, options


@every_case
@given(data=st.data())
@settings(max_examples=10)
def test_right_ops_pass_without_a_diagnosis(case: Case, data: st.DataObject) -> None:
    arrays, options = drawn(case, data)
    report = check(case, get_op(case.op).reference, arrays, options)
    assert report, str(report)
    assert report.diagnosis == {}


@every_case
@pytest.mark.parametrize("fault", FAULTS)
@given(data=st.data())
@settings(max_examples=6)
def test_planted_faults_fail(case: Case, fault: str, data: st.DataObject) -> None:
    arrays, options = drawn(case, data)
    op = get_op(case.op)
    right = check(case, op.reference, arrays, options)
    for index, array in enumerate(arrays):
        name = op.input_name(index)
        if array is None or array.dtype.kind != "f" or not array.size:
            continue
        if right[name].power < 1e4:  # the report says itself that it proves little here
            assert right[name].power > 1e3 or right[name].note
            continue
        if fault == "transposed" and not (array.ndim >= 2 and math.prod(array.shape[-2:]) > 1):
            continue
        try:
            report = check(case, plant(op.reference, index, FAULTS[fault]), arrays, options)
        except np.exceptions.AxisError:
            continue  # a broadcast gradient has no two axes to swap
        if fault == "transposed":
            if array.shape[-1] == array.shape[-2] or op.broadcasts:
                continue  # may be symmetric; see below
            assert not report
            assert report.diagnosis[name] in ("transposed", "inputs swapped")
        else:
            assert not report, str(report)
            expected = {"zero": "zero", "0.1% wrong": "constant factor"}[fault]
            if report[name].wrong == right[name].checked > 1:
                assert report.diagnosis == {name: expected}, str(report)
