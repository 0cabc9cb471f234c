"""The attention kernel where its tiles, tails and masks end, beside the composed op."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernels.compare import agrees, compare, differences, with_fault

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
@pytest.mark.parametrize("dtype", DTYPES)
def test_length_4096(dtype: str) -> None:
    arrays = inputs(4096, d=16, heads=1, dtype=dtype)
    agrees("attention", arrays, {"causal": True})
    agrees("attention", arrays, {"mask": np.random.default_rng(0).random((4096, 4096)) < 0.5})


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_few_queries_beside_a_cache(n: int, dtype: str) -> None:
    """Keys and values are rows of a larger buffer; heads share them; the last axes are whole
    vectors, or not; masks of every kind; more queries than keys."""
    rng = np.random.default_rng(n)
    for m, d, e, heads, groups in (
        (1, 16, 32, 1, 1), (2, 64, 64, 2, 3), (7, 16, 16, 3, 1), (40, 17, 16, 1, 2),
        (131, 32, 24, 2, 2), (600, 64, 16, 1, 9),
    ):  # fmt: skip
        q, k, v = inputs(n, m + 20, d, e, batch=2, heads=heads, groups=groups, dtype=dtype)
        k, v = k[:, :, 3 : m + 3], v[:, :, :m]
        scores = (2, heads * groups, n, m)
        allowed = rng.random((*scores[:2], n, m)) < 0.6
        allowed[0, 0, -1] = False  # nothing to attend to
        padding = np.ones((2, 1, 1, m), bool)
        padding[1, ..., : m // 2] = False
        added = np.where(allowed, rng.standard_normal(scores), -np.inf).astype(dtype)
        for mask in (None, allowed, padding, added, allowed[..., :1], added[:1, :, :1]):
            for causal in (False, True):
                options = {"mask": mask, "causal": causal, "scale": 0.3}
                agrees("attention", (q, k, v), options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_query_is_the_same_alone_and_among_few_others(dtype: str) -> None:
    """With a cache, whether tokens are read one by one or together, they see the same."""
    q, k, v = inputs(4, 50, 32, groups=3, batch=3, dtype=dtype)
    together, _ = kernel()(q, k, v, causal=True)
    for b in range(3):
        for n in range(4):
            here = slice(n, n + 1), slice(47 + n)
            one, _ = kernel()(q[b : b + 1, :, here[0]], k[b : b + 1, :, here[1]],
                              v[b : b + 1, :, here[1]], causal=True)  # fmt: skip
            np.testing.assert_allclose(one[0, :, 0], together[b, :, n], rtol=1e-6, atol=1e-6)


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


@pytest.mark.parametrize("dtype", DTYPES)
def test_masks_of_any_layout(dtype: str) -> None:
    """Read where they are: strides of 0, of less than 0, of more than one number."""
    rng = np.random.default_rng(5)
    n, m = 140, 150
    q, k, v = inputs(n, m, batch=2, heads=3, dtype=dtype)
    allowed = rng.random((2, 3, n, 2 * m)) < 0.4
    for full in (allowed, np.where(allowed, rng.standard_normal(allowed.shape), -np.inf)):
        mask = full if full.dtype == bool else full.astype(dtype)
        views = [
            mask[..., :m],
            mask[..., ::2],
            mask[:, ::-1, ::-1, :m],
            mask[..., :n].swapaxes(-1, -2)[..., :1],
            mask[:1, :, :1, 1::2],
            mask[:, :1, :, :1],
            mask[0, 0, :, m:],
            np.broadcast_to(mask[:, :1, :1, :m], (2, 3, n, m)),
            mask[..., :m].copy(order="F"),
        ]
        for view in views:
            before = view.copy()
            agrees("attention", (q, k, v), {"mask": view, "causal": True})
            np.testing.assert_array_equal(view, before)
    triangle = np.tri(n, m, m - n, dtype=bool)
    y, vjp = kernel()(q, k, v, mask=triangle)
    z, other = kernel()(q, k, v, causal=True)
    np.testing.assert_array_equal(y, z)  # the same tiles, visited or not
    for a, b in zip(vjp(np.ones_like(y)), other(np.ones_like(y)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_boolean_mask_is_not_copied() -> None:
    import tracemalloc

    from scratchlm_kernels.cpu.attention import _flat_mask

    mask = np.ones((4, 1, 512, 512), bool)
    tracemalloc.start()
    try:
        _, _, allowed, *_ = _flat_mask(mask, np.dtype("float32"), (4, 8, 512, 512))
        assert np.shares_memory(allowed, mask)
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()


# -- dropout ---------------------------------------------------------------------------------------


def kernel() -> Any:
    return get_op("attention").implementations["numba"].function


def dropout(p: float = 0.3, seed: int = 0) -> dict[str, Any]:
    return {"dropout_p": p, "rng": np.random.default_rng(seed)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
def test_dropout_drops_what_the_composed_op_drops(causal: bool, dtype: str) -> None:
    assert get_op("attention").select(*inputs(256, dtype=dtype), **dropout()).name == "numba"
    for n in (1, 3, 17, 64, 65, 127, 129, 257):
        for p in (0.01, 0.3, 0.97):
            agrees("attention", inputs(n, dtype=dtype), {"causal": causal, **dropout(p, n)})
    for n, m in itertools.permutations((1, 63, 130, 200), 2):
        # with one key dk is 0, and what is compared is the rounding of a sum over all queries
        options = {"causal": causal, **dropout()}
        agrees("attention", inputs(n, m, dtype=dtype), options, scale=4 if m == 1 else 1)
    for d in HEAD_SIZES:
        agrees("attention", inputs(70, d=d, dtype=dtype), {"causal": causal, **dropout()})


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_with_everything(dtype: str) -> None:
    for groups in (1, 3):
        q, k, v = inputs(100, 109, batch=2, groups=groups, dtype=dtype)
        for mask in masks(np.random.default_rng(0), 100, 109, q.shape[1]).values():
            mask = mask if mask.dtype == bool else mask.astype(dtype)
            agrees("attention", (q, k, v), {"mask": mask, "causal": True, **dropout()})
    several = [np.stack([x, -x, 2 * x]) for x in (q, k, v)]
    agrees("attention", several, dropout())
    agrees("attention", (q[0, 0], k[0, 0], v[0, 0]), dropout())
    agrees("attention", (q[:, ::-1, ::-1], k[..., ::-1], v[:, :, ::-1]), dropout())
    large = inputs(100, dtype=dtype, size=1e4)
    agrees("attention", large, {"causal": True, **dropout()}, scale=1e4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_of_long_sequences(dtype: str) -> None:
    agrees("attention", inputs(1000, heads=1, dtype=dtype), {"causal": True, **dropout()})
    if dtype == "float32":
        agrees("attention", inputs(4096, heads=1, dtype=dtype), dropout(0.1))


def test_one_seed_is_drawn() -> None:
    """The same one as by the composed op, which leaves the generator in the same state."""
    states = []
    for name in ("reference", "numba"):
        rng = np.random.default_rng(3)
        run = get_op("attention").implementations[name].function
        y, vjp = run(*inputs(70), dropout_p=0.5, rng=rng)
        states.append(rng.bit_generator.state)
        first = vjp(np.ones_like(y))
        for a, b in zip(first, vjp(np.ones_like(y)), strict=True):
            np.testing.assert_array_equal(a, b)
        assert rng.bit_generator.state == states[-1]
        again = run(*inputs(70), dropout_p=0.5, rng=rng)[0]
        assert not np.array_equal(y, again)
    rng = np.random.default_rng(3)
    rng.integers(2**64, dtype=np.uint64)
    assert states == [rng.bit_generator.state] * 2


def kept(p: float, rng: np.random.Generator, heads: int = 16, n: int = 256) -> np.ndarray:
    """Which weights the kernel keeps, ``[heads, n, n]``: all weights are 1/n, and v is a unit
    matrix."""
    q, v = np.zeros((heads, n, 8), np.float32), np.eye(n, dtype=np.float32)
    y, _ = kernel()(q, q, np.broadcast_to(v, (heads, n, n)), dropout_p=p, rng=rng)
    np.testing.assert_allclose(y[y > 0], 1 / n / (1 - p), rtol=1e-5)
    return y > 0


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_dropout_is_random(p: float) -> None:
    """Bounds of five standard deviations; of what is the largest of many, of six."""
    rng = np.random.default_rng(int(1000 * p))
    mask = kept(p, rng)
    sigma = np.sqrt(p * (1 - p))
    z = (mask - (1 - p)) / sigma  # mean 0, variance 1
    assert abs(z.sum()) < 5 * np.sqrt(z.size)
    for axes in ((1, 2), (0, 2), (0, 1), 0, 1, 2):
        sums = z.sum(axis=axes)
        terms = z.size / sums.size
        # for p far from 1/2 a sum of few terms is skewed: only sums of many are normal
        if terms * min(p, 1 - p) > 20:
            assert np.abs(sums).max() < 6 * np.sqrt(terms)
        spread = np.square(sums).mean() / terms  # 1 if they are independent
        kurtosis = 2 + (1 / (p * (1 - p)) - 6) / terms
        assert abs(spread - 1) < 5 * np.sqrt(kurtosis / sums.size)
    other = (kept(p, rng) - (1 - p)) / sigma  # the next call
    pairs = [(z[..., s:], z[..., :-s]) for s in (1, 2, 8, 64, 128)]
    pairs += [(z[:, s:], z[:, :-s]) for s in (1, 2, 64)]
    pairs += [(z[s:], z[:-s]) for s in (1, 2)] + [(z, other), (z, z.swapaxes(1, 2))]
    for a, b in pairs[:-1]:
        assert abs((a * b).sum()) < 5 * np.sqrt(a.size)
    upper = np.triu_indices(256, 1)
    a, b = z[:, upper[0], upper[1]], z[:, upper[1], upper[0]]
    assert abs((a * b).sum()) < 5 * np.sqrt(a.size)


def test_gradients_through_dropout() -> None:
    from scratchlm.gradcheck import gradcheck

    with scratchlm.use(attention="numba"):
        for options in ({"causal": True}, {"mask": np.random.default_rng(0).random((9, 9)) < 0.7}):
            report = gradcheck(
                lambda q, k, v: F.attention(q, k, v, **dropout(0.4, 7), **options),  # noqa: B023
                *inputs(9, d=4),
            )
            assert report, report.diagnosis


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
    options = {"return_weights": True, "dropout_p": 0.3, "rng": np.random.default_rng(0)}
    assert op.select(q, k, v, **options).name == "reference"
    agrees("attention", (q, k, v), options)
    bias = np.random.default_rng(1).standard_normal((2, 40, 40))
    assert op.select(q, k, v, bias).name == "reference"
    agrees("attention", (q, k, v, bias), {})
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
        ((q, k, v), {"dropout_p": -0.1, "rng": np.random.default_rng(0)}),
        ((q, k, v), {"dropout_p": 0.5}),
        ((q, k, v), {"dropout_p": 0.5, "rng": 3}),
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
    assert op.select(*inputs(7)).name == "reference"
    assert op.select(long[0][:, :, -1:], long[1], long[2]).name == "numba"


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
        for options in ({"causal": True}, dropout()):
            y, vjp = kernel(*arrays, **options)
            results.append((y, *vjp(np.ones_like(y))))
    for first, *others in (results[::2], results[1::2]):
        for other in others:
            for a, b in zip(first, other, strict=True):
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
@pytest.mark.parametrize("p", [0.0, 0.1])
def test_memory_grows_linearly(p: float) -> None:
    """What a call allocates beyond its results, at twice the length, is twice as much."""
    import tracemalloc

    from scratchlm_kernels.cpu.scratch import release

    kernel = get_op("attention").implementations["numba"].function
    peaks = []
    for n in (1024, 2048, 4096):
        arrays = inputs(n, d=64, dtype="float32")
        release()
        tracemalloc.start()
        y, vjp = kernel(*arrays, causal=True, **dropout(p))
        vjp(np.ones_like(y))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        release()
    assert peaks[1] < 2.1 * peaks[0]
    assert peaks[2] < 2.1 * peaks[1]
    assert peaks[2] < 4 * 4096 * 4096  # the weights of one of the two heads


# -- planted faults: would these tests notice? -----------------------------------------------------

FAULTS = {
    "causal bound one too far": ("min(keys, seen + i)", "min(keys, seen + i + 1)"),
    "causal bound one too near": ("min(keys, seen + i)", "min(keys, seen + i - 1)"),
    "tail not masked": ("if kind or causal or here < columns:", "if kind or causal:"),
    "old result not shrunk": ("row[j] *= shrink", "row[j] *= 1"),
    "mask of the wrong block": ("+ q0 * down + k0 * across", "+ q0 * down"),
    "mask of the wrong head": ("+ h * head_step + q0", "+ q0"),
    "a tile too many not visited": ("for i in range(rows if down else 1):", "for i in range(1):"),
    "dropped from the sum too": ("total += p\n", "total += p * (p > 0.01)\n"),
    "backward drops others": ("(b * dq.shape[1] + q_head) * n", "(b * dq.shape[1] + q_head) * 7"),
    "dP not dropped": ("dline[j] * keep[j] - row_delta", "dline[j] - row_delta"),
    "dropout one place off": ("np.uint64(first + 1)", "np.uint64(first)"),
}
FEW_FAULTS = {
    "few: keys of another head": ("+ h * k.strides[1]", "+ 0 * k.strides[1]"),
    "few: values of another sequence": ("(b * v.strides[0] + h", "(0 * v.strides[0] + h"),
    "few: heads of a group mixed up": ("acc[own * n + i], y[b", "acc[own + i], y[b"),
    "few: the mask of another head": ("(h * group + own) * head_step", "h * head_step"),
    "few: causal forgotten": ("if kind or (causal and n > 1):", "if kind:"),
    "few: not divided by the sum": ("line[j] *= part", "line[j] *= one"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FEW_FAULTS)
def test_planted_fault_with_few_queries_is_caught(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = with_fault("attention", *FEW_FAULTS[fault], tmp_path, monkeypatch)
    q, k, v = inputs(3, 40, batch=2, groups=2, dtype="float32")
    mask = np.random.default_rng(0).random((2, 4, 3, 40)) < 0.5
    found = [
        each
        for options in ({}, {"causal": True}, {"mask": mask})
        for each in compare("attention", (q, k, v), options, kernel=faulty.attention)
    ]
    assert found


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's source with one line wrong: the comparison above must say so."""
    faulty = with_fault("attention", *FAULTS[fault], tmp_path, monkeypatch)
    q, k, v = inputs(150, dtype="float32")
    mask = np.random.default_rng(0).random((2, 150, 150)) < 0.5
    late = np.tri(150, k=-1, dtype=bool)  # of some tile the first row sees nothing
    dropout = {"dropout_p": 0.3, "rng": np.random.default_rng(0)}
    found = [
        each
        for options in ({}, {"causal": True}, {"mask": mask}, {"mask": late}, dropout)
        for each in compare("attention", (q, k, v), options, kernel=faulty.attention)
    ]
    assert found
