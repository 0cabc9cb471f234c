"""The CUDA kernels: on a CPU through the emulator and, where there is a GPU, on it (``-m gpu``)."""

from __future__ import annotations

import emulator
import numpy as np
import pytest
import standin
from kernels.cuda_cases import differences
from kernels.emulated import emulated

import scratchlm
from kernels import cuda_cases
from scratchlm.registry import get_op

needs_emulator = pytest.mark.skipif(emulator.why_not() is not None, reason=str(emulator.why_not()))


@pytest.fixture(
    params=[
        pytest.param("emulator", marks=needs_emulator),
        pytest.param("gpu", marks=pytest.mark.gpu),
    ]
)
def to(request):
    """How an array gets to the device that the kernels run on."""
    if request.param == "gpu":
        cupy = pytest.importorskip("cupy")
        if not cupy.cuda.is_available():
            pytest.skip("CuPy finds no GPU")
        yield cupy.asarray
        return
    with emulated() as device:
        yield standin.asarray
        assert device.launches


@pytest.mark.parametrize("case", cuda_cases.all_few(), ids=str)
def test_a_kernel_equals_the_composed_op(case, to):
    assert not differences(case, to)


@pytest.mark.slow
@pytest.mark.parametrize("op", sorted({case.op for case in cuda_cases.everything()}))
def test_every_kernel_equals_the_composed_op_on_the_whole_grid(op, to):
    cases = [case for case in cuda_cases.everything() if case.op == op]
    said = {str(case): wrong for case in cases if (wrong := differences(case, to))}
    assert not said


@pytest.mark.parametrize("case", [cuda_cases.attention(33, mask="boolean")], ids=str)
def test_arrays_that_are_not_contiguous_are_made_so(case, to):
    def move(x):
        whole = to(np.repeat(x[..., None], 2, axis=-1))
        return whole[..., 0]

    assert not differences(case, move)


@needs_emulator
def test_vjp_twice_gives_fresh_and_equal_gradients():
    with emulated():
        case = cuda_cases.attention(33, causal=True)
        arrays = [standin.asarray(a) for a in case.arrays]
        before = [a.get() for a in arrays]
        y, vjp = get_op("attention").implementations["cuda"].function(*arrays, causal=True)
        dy = standin.asarray(np.ones(y.shape, np.float32))
        first, second = vjp(dy), vjp(dy)
        for a, b in zip(first, second, strict=True):
            assert not np.may_share_memory(a._x, b._x)
            np.testing.assert_array_equal(a.get(), b.get())
        for a, b in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(a.get(), b)


@needs_emulator
def test_nothing_goes_to_the_host():
    with emulated(), standin.counting() as seen:
        q = standin.asarray(np.ones((2, 5, 16), np.float32))
        y, vjp = get_op("attention").implementations["cuda"].function(q, q, q)
        vjp(y)
    assert seen == {"to device": 1}


Q = np.ones((2, 5, 16), np.float32)
LEFT_TO_THE_COMPOSED_OP = {
    "float64": ((Q.astype(np.float64),) * 3, {}),
    "a wide head": ((np.ones((2, 5, 129), np.float32),) * 3, {}),
    "dropout": ((Q,) * 3, {"dropout_p": 0.5, "rng": np.random.default_rng(0)}),
    "weights": ((Q,) * 3, {"return_weights": True}),
    "no queries": ((Q[:, :0], Q, Q), {}),
}


@needs_emulator
@pytest.mark.parametrize("call", LEFT_TO_THE_COMPOSED_OP)
def test_what_a_kernel_cannot_take_the_composed_op_computes(call):
    arrays, options = LEFT_TO_THE_COMPOSED_OP[call]
    with emulated() as device:
        kernel = get_op("attention").implementations["cuda"]
        there = [standin.asarray(a) for a in arrays]
        assert not kernel.supports(*there, **options)
        out, _ = kernel.function(*there, **options)
        assert not device.launches
    y = out[0] if isinstance(out, tuple) else out
    assert y.shape == (*arrays[0].shape[:-1], arrays[2].shape[-1])


@needs_emulator
def test_wrong_calls_are_told_as_the_composed_op_tells_them():
    with emulated():
        kernel = get_op("attention").implementations["cuda"].function
        q = standin.asarray(Q)
        for options, error in (
            ({"mask": standin.asarray(np.ones((3, 3), bool))}, ValueError),
            ({"mask": standin.asarray(np.ones((5, 5), int))}, TypeError),
            ({"dropout_p": 2.0}, ValueError),
        ):
            with pytest.raises(error, match="attention: "):
                kernel(q, q, q, **options)


def test_arrays_of_the_host_are_none_of_the_kernels_business():
    ops = {case.op: case for case in cuda_cases.all_few() if case.op != "adam_step"}
    for name, case in ops.items():
        kernel = get_op(name).implementations["cuda"]
        assert kernel.priority > 0
        assert not kernel.supports(*case.arrays, **case.options)
    for version in ("cuda-v1", "cuda-v2"):
        assert get_op("attention").implementations[version].priority < 0


def test_asked_for_by_name_without_a_gpu_it_says_what_is_missing():
    from scratchlm_kernels import cuda

    reason = cuda.unavailable()
    if reason is None:
        pytest.skip("CuPy and a driver are here")
    with pytest.raises(
        RuntimeError, match=r"'cuda' cannot run here: .*(pip install|NVIDIA driver)"
    ):
        scratchlm.use(attention="cuda")


@needs_emulator
def test_too_long_for_a_grid_is_told():
    with emulated():
        q = standin.asarray(np.ones((65536, 16), np.float32))
        k = standin.asarray(np.ones((1, 16), np.float32))
        with pytest.raises(ValueError, match="needs 65536 blocks where a grid has at most 65535"):
            get_op("attention").implementations["cuda-v1"].function(q, k, k)


@needs_emulator
def test_shared_memory_above_48_kib_is_asked_for():
    with emulated() as device:
        assert not differences(cuda_cases.attention(20, d=128, batch=(1,), heads=1))
        assert max(each.shared_mem for each in device.launches) > 48 * 1024
