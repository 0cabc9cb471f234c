"""The attention kernel where its tiles, tails and masks end, beside the composed op."""

from __future__ import annotations

import importlib
import itertools
import multiprocessing
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernels.compare import agrees, compare, differences

import scratchlm
from scratchlm import Tensor
from scratchlm import functional as F
from scratchlm.registry import get_op

pytest.importorskip("numba")

from scratchlm_kernels.cpu import threads

LENGTHS = (1, 2, 3, 5, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 129, 200, 255, 256, 257)
HEAD_SIZES = (8, 16, 40, 64, 80, 128, 256)
DTYPES = ("float64", "float32")


def inputs(
    n: int,
    m: int | None = None,
    d: int = 16,
    e: int | None = None,
    batch: int = 1,
    heads: int = 2,
    groups: int = 1,
    dtype: str = "float64",
    size: float = 1.0,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng((seed, n, d))
    m, e = m or n, e or d
    shapes = (batch, heads * groups, n, d), (batch, heads, m, d), (batch, heads, m, e)
    q, k, v = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    q *= size
    return q, k, v


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
def test_every_length(dtype: str, causal: bool) -> None:
    for n in LENGTHS:
        agrees("attention", inputs(n, dtype=dtype), {"causal": causal})


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
def test_really_every_length(dtype: str, causal: bool) -> None:
    for n in (*range(1, 258), 1000):
        agrees("attention", inputs(n, d=8, heads=1, dtype=dtype), {"causal": causal})


@pytest.mark.slow
def test_length_4096() -> None:
    agrees("attention", inputs(4096, d=16, heads=1, dtype="float32"), {"causal": True})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [*HEAD_SIZES, 1, 3, 17, 255])
def test_every_head_size(d: int, dtype: str) -> None:
    for n in (5, 130):
        agrees("attention", inputs(n, d=d, dtype=dtype), {"causal": True})
    agrees("attention", inputs(70, d=d, e=24, dtype=dtype), {})
    agrees("attention", inputs(70, d=24, e=d, dtype=dtype), {"scale": 0.3})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
def test_queries_and_keys_of_different_lengths(dtype: str, causal: bool) -> None:
    """Causal with more queries than keys: the first ones see nothing."""
    sides = (1, 7, 64, 129, 200)
    for n, m in itertools.permutations(sides, 2):
        agrees("attention", inputs(n, m, dtype=dtype), {"causal": causal})


def masks(rng: np.random.Generator, n: int, m: int, heads: int) -> dict[str, np.ndarray]:
    blind = rng.random((n, m)) < 0.6
    blind[n // 2] = False  # a query with nothing to attend to
    padding = np.ones((2, 1, 1, m), bool)
    padding[1, ..., m // 3 :] = False
    bias = rng.standard_normal((heads, n, m))
    partly = np.where(rng.random((n, m)) < 0.5, -np.inf, bias[0])
    partly[0] = -np.inf
    late = np.zeros((n, m), bool)
    late[:, -1] = True  # nothing is seen until the last block of keys
    return {
        "boolean": blind,
        "padding": padding,
        "nothing": np.zeros((1, 1), bool),
        "by head": rng.random((heads, 1, m)) < 0.5,
        "additive": bias,
        "partly -inf": partly,
        "lowest number": np.where(blind, 0.0, np.finfo(np.float32).min),
        "only the last key": late,
        "by query": rng.random((n, 1)) < 0.5,
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n", [3, 64, 150])
def test_every_mask(n: int, causal: bool, dtype: str) -> None:
    for groups in (1, 3):
        q, k, v = inputs(n, n + 9, batch=2, groups=groups, dtype=dtype)
        for name, mask in masks(np.random.default_rng(n), n, n + 9, q.shape[1]).items():
            if mask.dtype != bool:
                mask = mask.astype(dtype)
            found = compare("attention", (q, k, v), {"mask": mask, "causal": causal})
            assert not found, f"{name}: {found}"


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("batch", [1, 3])
def test_groups_batches_and_axes(batch: int, groups: int) -> None:
    q, k, v = inputs(70, 90, batch=batch, groups=groups)
    agrees("attention", (q, k, v), {"causal": True})
    agrees("attention", (q[0], k[0], v[0]), {"causal": True})
    several = [np.stack([x, -x, 2 * x]) for x in (q, k, v)]
    agrees("attention", several, {"causal": True})
    mask = np.random.default_rng(0).random((batch, q.shape[1], 70, 90)) < 0.5
    agrees("attention", several, {"mask": mask})
    agrees("attention", several, {"mask": np.stack([mask, ~mask, mask])})
    agrees("attention", (q[0, 0], k[0, 0], v[0, 0]), {"mask": mask[0, 0]})


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_scores(dtype: str) -> None:
    """Scores of ±1e4: nearly all weight is on one key. What the rounding of such a score does to
    its exponential, 1e4 times the unit, is in the composed op as in the kernel."""
    q, k, v = inputs(100, d=16, dtype=dtype, size=1e4)
    for causal in (False, True):
        agrees("attention", (q, k, v), {"causal": causal}, scale=1e4)
    # whole numbers have no rounding in their products, so the result has nothing to allow for; but
    # dk is a sum of dS times such a q, so what rounding leaves of dS = 0 grows with it
    q, k = np.round(q * 0.1) * 8, np.sign(k)
    assert np.abs(q @ k.swapaxes(-1, -2)).max() > 1e4
    op = get_op("attention")
    results = [
        run(q, k, v, scale=0.5)[0] for run in (op.reference, op.implementations["numba"].function)
    ]
    assert not differences(results[:1], results[1:])
    agrees("attention", (q, k, v), {"scale": 0.5}, scale=1e3)


def test_any_memory_layout() -> None:
    q, k, v = inputs(150, 130)
    views = (q[..., ::2], q[:, :, ::-1], q[:, ::-1], q.swapaxes(-1, -2).copy().swapaxes(-1, -2))
    for view in views:
        d = view.shape[-1]
        agrees("attention", (view, k[..., :d], v), {"causal": True})
    heads = np.random.default_rng(0).standard_normal((2, 100, 3, 4, 16))  # as a model splits them
    q, k, v = (heads[:, :, i].swapaxes(1, 2) for i in range(3))
    agrees("attention", (q, k, v), {"causal": True})
    same = np.broadcast_to(k[:, :1], k.shape)
    agrees("attention", (q, same, same), {"causal": True})


def test_a_broadcast_cotangent() -> None:
    """What the gradient of a sum is: one number, seen everywhere."""
    arrays = inputs(70)
    for name in ("reference", "numba"):
        tensors = [Tensor(x, requires_grad=True) for x in arrays]
        with scratchlm.use(attention=name):
            F.attention(*tensors).sum().backward()
        if name == "reference":
            expected = [t.grad.data for t in tensors]
    for t, dx in zip(tensors, expected, strict=True):
        np.testing.assert_allclose(t.grad.data, dx, rtol=1e-12, atol=1e-12)


def test_nan_and_infinity_are_not_hidden() -> None:
    kernel = get_op("attention").implementations["numba"].function
    for value in (np.nan, np.inf):
        for which in range(3):
            arrays = [x.copy() for x in inputs(70, dtype="float32")]
            arrays[which][0, 1, 40, 3] = value
            y, vjp = kernel(*arrays, causal=True)
            assert not np.isfinite(y[0, 1, 40]).all()
            assert np.isfinite(y[0, 0]).all()
            assert any(not np.isfinite(dx).all() for dx in vjp(np.ones_like(y)))


def test_what_it_does_not_do_is_left_to_the_composed_op() -> None:
    q, k, v = inputs(40)
    op = get_op("attention")
    rng = np.random.default_rng
    for options in (
        {"return_weights": True},
        {"dropout_p": 0.3, "rng": rng(0)},
    ):
        assert op.select(q, k, v, **options).name == "reference"
        agrees("attention", (q, k, v), options)
    half = [x.astype("float16") for x in (q, k, v)]
    assert op.select(*half).name == "reference"
    assert op.select(q[:, :, :0], k, v).name == "reference"
    agrees("attention", [x[:0] for x in (q, k, v)], {"causal": True})  # batch 0
    agrees("attention", (q[:, :, :0], k, v), {})
    agrees("attention", (q, k[:, :, :0], v[:, :, :0]), {})
    wide = inputs(4, d=300)
    agrees("attention", wide, {})


def test_wrong_calls_are_refused_in_the_same_words() -> None:
    q, k, v = inputs(40)
    wrong: list[tuple[Any, dict[str, Any]]] = [
        ((q, k[..., :3], v), {}),
        ((q, k, v[:, :, :3]), {}),
        ((q, k, v), {"mask": np.ones((3, 3), bool)}),
        ((q, k, v), {"mask": np.ones((40, 40), int)}),
        ((q, k, v), {"dropout_p": 1.5}),
        ((q, k, v), {"rng": 3}),
    ]
    op = get_op("attention")
    for arrays, options in wrong:
        with pytest.raises((ValueError, TypeError)) as expected:
            op.reference(*arrays, **options)
        for run in (op.implementations["numba"].function, op.run):
            with pytest.raises(expected.type) as found:
                run(*arrays, **options)
            assert str(found.value) == str(expected.value)


def test_the_default_takes_the_kernel_where_it_pays() -> None:
    op = get_op("attention")
    long = inputs(256, dtype="float32")
    assert op.select(*long, causal=True).name == "numba"
    assert op.select(*inputs(4)).name == "reference"
    assert op.select(long[0][:, :, -1:], long[1], long[2]).name == "reference"


@pytest.fixture
def _two_threads() -> Any:
    former = threads.threads()
    yield
    threads.set_threads(former)


@pytest.mark.usefixtures("_two_threads")
def test_the_number_of_threads_changes_nothing() -> None:
    """Not even rounding: who does a piece of the work does not change the work."""
    kernel = get_op("attention").implementations["numba"].function
    arrays = inputs(300, d=64, heads=3, groups=2, dtype="float32")
    results = []
    for count in (1, 2, 5):
        threads.set_threads(count)
        assert threads.threads() == count
        y, vjp = kernel(*arrays, causal=True)
        results.append((y, *vjp(np.ones_like(y))))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("_two_threads")
def test_from_two_python_threads() -> None:
    threads.set_threads(2)
    kernel = get_op("attention").implementations["numba"].function
    arrays = [inputs(200 + 50 * i, d=64, heads=6, dtype="float32", seed=i) for i in range(2)]

    def work(index: int) -> list[np.ndarray]:
        y, vjp = kernel(*arrays[index], causal=True)
        return [y, *vjp(np.ones_like(y))]

    expected = [work(0), work(1)]
    wrong: list[Any] = []

    def repeat(index: int) -> None:
        try:
            for _ in range(10):
                for a, b in zip(work(index), expected[index], strict=True):
                    np.testing.assert_array_equal(a, b)
        except BaseException as error:
            wrong.append(error)

    running = [threading.Thread(target=repeat, args=(i,)) for i in range(2)]
    for each in running:
        each.start()
    for each in running:
        each.join(60)
    assert not wrong
    assert not any(each.is_alive() for each in running)


def _in_child(queue: Any) -> None:
    kernel = get_op("attention").implementations["numba"].function
    y, vjp = kernel(*inputs(300, d=64, heads=6, dtype="float32"), causal=True)
    queue.put(float(vjp(np.ones_like(y))[0].sum()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("_two_threads")
def test_after_a_fork() -> None:
    threads.set_threads(2)
    kernel = get_op("attention").implementations["numba"].function
    y, vjp = kernel(*inputs(300, d=64, heads=6, dtype="float32"), causal=True)
    expected = float(vjp(np.ones_like(y))[0].sum())
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    try:
        assert queue.get(timeout=60) == expected
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()


@pytest.mark.slow
def test_memory_grows_linearly() -> None:
    """What a call allocates beyond its results, at twice the length, is twice as much."""
    import tracemalloc

    from scratchlm_kernels.cpu.scratch import release

    kernel = get_op("attention").implementations["numba"].function
    peaks = []
    for n in (1024, 2048, 4096):
        arrays = inputs(n, d=64, dtype="float32")
        release()
        tracemalloc.start()
        y, vjp = kernel(*arrays, causal=True)
        vjp(np.ones_like(y))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        release()
    assert peaks[1] < 2.1 * peaks[0]
    assert peaks[2] < 2.1 * peaks[1]
    assert peaks[2] < 4 * 4096 * 4096  # the weights of one of the two heads


# -- planted faults: would these tests notice? -----------------------------------------------------

FAULTS = {
    "causal bound one too far": ("q0 + i + shift + 1 - k0", "q0 + i + shift + 2 - k0"),
    "causal bound one too near": ("q0 + i + shift + 1 - k0", "q0 + i + shift - k0"),
    "tail not masked": ("if has_mask or causal or here < columns:", "if has_mask or causal:"),
    "old result not shrunk": ("row[j] *= shrink", "row[j] *= 1"),
    "mask of the wrong block": ("row = mask[b, h, i_mask, k0:]", "row = mask[b, h, i_mask]"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's source with one line wrong: the comparison above must say so."""
    from scratchlm_kernels.cpu import compiling

    monkeypatch.setattr(compiling, "cache_folder", lambda: tmp_path)
    real = importlib.import_module("scratchlm_kernels.cpu.attention")
    right, wrong = FAULTS[fault]
    source = Path(real.__file__).read_text(encoding="utf-8")
    assert right in source
    path = tmp_path / "faulty.py"
    path.write_text(source.replace(right, wrong), encoding="utf-8")
    name = "scratchlm_kernels.cpu.faulty"
    spec = importlib.util.spec_from_file_location(name, path)
    faulty = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, faulty)
    spec.loader.exec_module(faulty)

    q, k, v = inputs(150, dtype="float32")
    mask = np.random.default_rng(0).random((150, 150)) < 0.5
    found = [
        each
        for options in ({}, {"causal": True}, {"mask": mask})
        for each in compare("attention", (q, k, v), options, kernel=faulty.attention)
    ]
    assert found
