"""What the array API standard leaves out, and how arrays move."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from scratchlm import backend
from scratchlm.backend import (
    array_namespace,
    asarray_like,
    check_ids,
    is_floating,
    random_uniform,
    scatter_add,
    to_device,
    to_host,
)


def test_the_namespace_skips_none_and_refuses_mixtures():
    xp = array_namespace(np.ones(2), None)
    assert hasattr(xp, "permute_dims")
    assert array_namespace(np.float64(1)) is not None

    class Foreign:
        def __array_namespace__(self, api_version=None):
            return types.ModuleType("foreign")

    with pytest.raises(TypeError, match=r"different libraries or devices.*Foreign.*\.to\(device\)"):
        array_namespace(np.ones(2), Foreign())


def test_scatter_add_counts_duplicates():
    target = np.zeros((3, 2))
    scatter_add(target, np.array([0, 2, 0]), np.ones((3, 2)))
    assert target.tolist() == [[2.0, 2.0], [0.0, 0.0], [1.0, 1.0]]


@pytest.mark.parametrize("negative", [False, True])
def test_scatter_add_of_many_rows_counts_duplicates(negative):
    """Many rows go another way than few; -1 and the last index are one row."""
    rng = np.random.default_rng(0)
    index = rng.integers(-50 if negative else 0, 50, 300)
    values = rng.integers(-9, 9, (300, 3, 5)).astype(float)  # integers add up exactly in any order
    target = np.ones((50, 3, 5))
    expected = target.copy()
    for i, row in zip(index, values, strict=True):
        expected[i] += row
    scatter_add(target, index, values)
    np.testing.assert_array_equal(target, expected)


def test_random_numbers_depend_on_the_seed_alone():
    like = np.ones(1)
    one = random_uniform(np.random.default_rng(3), (4, 5), like)
    again = random_uniform(np.random.default_rng(3), (4, 5), like)
    np.testing.assert_array_equal(one, again)
    assert one.dtype == np.float32
    assert one.shape == (4, 5)
    assert ((one >= 0) & (one < 1)).all()


def test_ids_in_range_pass():
    check_ids(np.array([[0, 2], [1, 1]]), 3, what="embedding")
    check_ids(np.array([], dtype=np.int64), 0, what="embedding")
    check_ids(np.array(2, dtype=np.uint8), 3, what="embedding")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[0, 1], [3, 2]], r"id 3 at index \(1, 0\) is outside \[0, 3\)"),
        ([0, -1], r"id -1 at index \(1,\).*negative ids do not wrap"),
        (5, r"id 5 at index \(\)"),
    ],
)
def test_ids_out_of_range_are_named(ids, message):
    with pytest.raises(IndexError, match=f"embedding: {message}"):
        check_ids(np.array(ids), 3, what="embedding")


@pytest.mark.parametrize("dtype", [np.float64, bool])
def test_ids_must_be_integers(dtype):
    with pytest.raises(TypeError, match=r"embedding: ids must be integers, got .*astype"):
        check_ids(np.zeros(2, dtype), 3, what="embedding")


def test_small_conversions():
    x = np.ones(2)
    assert to_host(x) is x
    assert asarray_like([1, 2], x).tolist() == [1, 2]
    assert is_floating(x)
    assert is_floating(np.float32(1))
    assert not is_floating(np.array([1]))


def test_cpu_is_always_there_and_unknown_devices_are_named():
    x = np.ones(2)
    assert to_device(x, "cpu") is x
    for device in ("gpu", "cuda:x", "", None):
        with pytest.raises(ValueError, match=r"unknown device .*known are 'cpu', 'cuda'"):
            to_device(x, device)


def test_cuda_without_cupy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"needs CuPy: pip install 'scratchlm\[cuda12\]'"):
        to_device(np.ones(2), "cuda")


class FakeCupy(types.ModuleType):
    """As much of CuPy as choosing a device touches."""

    def __init__(self, count):
        super().__init__("cupy")

        class CUDARuntimeError(RuntimeError):
            pass

        def get_device_count():
            if count is None:
                raise CUDARuntimeError("no driver")
            return count

        runtime = types.SimpleNamespace(
            getDeviceCount=get_device_count, CUDARuntimeError=CUDARuntimeError
        )
        self.entered = []
        module = self

        class Device:
            def __init__(self, number):
                self.number = number

            def __enter__(self):
                module.entered.append(self.number)

            def __exit__(self, *_):
                pass

        self.cuda = types.SimpleNamespace(runtime=runtime, Device=Device)
        self.asarray = lambda x: ("on the gpu", x)


def test_cuda_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy(None))
    with pytest.raises(RuntimeError, match=r"finds no GPU \(no driver\)"):
        to_device(np.ones(2), "cuda")
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy(1))
    with pytest.raises(RuntimeError, match="'cuda:1': CuPy finds 1 GPU"):
        to_device(np.ones(2), "cuda:1")


def test_cuda_numbers_choose_the_gpu(monkeypatch):
    cupy = FakeCupy(2)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    x = np.ones(2)
    assert to_device(x, "cuda")[1] is x
    to_device(x, "cuda:1")
    assert cupy.entered == [0, 1]


def test_devices_can_be_added(monkeypatch):
    monkeypatch.setitem(backend.devices, "mine", lambda x, number: (x, number))
    x = np.ones(2)
    assert to_device(x, "mine:3") == (x, 3)
