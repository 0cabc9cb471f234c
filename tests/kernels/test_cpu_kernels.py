"""Every CPU kernel gives what the composed op gives: result and all gradients, on every case of
that op, in float64 to 1e-12 and in float32 to its rounding."""

from __future__ import annotations

import copy
import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernels.compare import agrees, compare, differences, with_fault
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
    scale = 10 if case.op in ("layer_norm", "rms_norm") else 1
    agrees(case.op, arrays, options, seed, scale=scale)


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
def test_a_batch_of_nothing(name: str) -> None:
    """Batch 0 gives what the composed op gives, gradients of the weights too."""
    arrays, options = CALLS[name]
    batch = 1 if name in RECURRENT else 0  # the axis; those arrays that have it
    with_batch = {"attention": 3, "swiglu": 2, "cross_entropy": 2, "lstm": 3, "gru": 2, "rnn": 2}
    count = with_batch.get(name, 1)
    empty = [np.take(x, [], axis=batch if i == 0 else 0) for i, x in enumerate(arrays[:count])]
    agrees(name, [*empty, *arrays[count:]], options)


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
    # more rows than go unpacked, and where both ways meet
    shapes += [(257, 17, 33), (320, 513, 65), (256, 40, 513)]
    for rows, ins, outs in shapes:
        arrays = [normal(*s, dtype=dtype) for s in ((rows, ins), (outs, ins), (outs,))]
        agrees("linear", arrays, {}, scale=4)  # sums of up to a thousand terms
        agrees("linear", (*arrays[:2], None), {}, scale=4)


@DTYPES
@pytest.mark.parametrize("outs", [1, 3, 4, 5, 16, 17, 130, 513])
def test_linear_of_few_rows(outs: int, dtype: str) -> None:
    """Each number of rows taken at a time, and rows of the weight that are left over."""
    for rows in (1, 2, 3, 4, 5, 7):
        for ins in (1, 7, 16, 31, 64):
            arrays = [normal(*s, dtype=dtype) for s in ((rows, ins), (outs, ins), (outs,))]
            agrees("linear", arrays, {})


@DTYPES
def test_a_row_is_the_same_alone_and_among_few_others(dtype: str) -> None:
    """The order of a sum does not hang on what else is computed: a text written alone is the text
    written in a batch."""
    x, weight, bias = (normal(*s, dtype=dtype) for s in ((7, 75), (90, 75), (90,)))
    linear = get_op("linear").implementations["numba"].function
    together, _ = linear(x, weight, bias)
    for i in range(7):
        np.testing.assert_array_equal(linear(x[i : i + 1], weight, bias)[0][0], together[i])


@DTYPES
@given(data=st.data(), seed=seeds)
def test_rope_of_any_positions(data: st.DataObject, dtype: str, seed: int) -> None:
    """Positions that broadcast along any axes, offsets, views, features left as they are."""
    batch, heads, length, half = (data.draw(st.integers(1, 3)) for _ in range(4))
    x = normal(batch, length, heads, 2 * half + 1, dtype=dtype, seed=seed).swapaxes(1, 2)
    ndim = data.draw(st.integers(2, 4))
    x = x[(0,) * (4 - ndim)]
    rows = x.shape[:-1][data.draw(st.integers(0, ndim - 2)) :]
    shape = [data.draw(st.sampled_from((1, side))) for side in rows]
    positions = np.random.default_rng(seed).integers(-3, 9000, shape)
    options: dict[str, Any] = {"positions": positions.astype(data.draw(st.sampled_from("iq")))}
    options |= {"rotary_dim": 2 * half, "offset": data.draw(st.integers(-2, 5))}
    options["interleaved"] = data.draw(st.booleans())
    if data.draw(st.booleans()):
        options["frequencies"] = [0.3 / (i + 1) for i in range(half)]
    agrees("rope", [x], options, seed)


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
@pytest.mark.parametrize("shape", [(1, 1), (63, 7), (64, 16), (65, 33), (3, 50, 100), (2000, 384)])
def test_rms_norm_of_every_size(shape: tuple[int, ...], dtype: str) -> None:
    x, weight = normal(*shape, dtype=dtype) + 3, normal(shape[-1], dtype=dtype, seed=1)
    for arrays in ((x, weight), (x, None), (x.T.copy().T, weight[::-1])):
        agrees("rms_norm", arrays, {}, scale=100)  # the weights' gradient adds up over all rows
    agrees("rms_norm", (np.zeros_like(x), weight), {}, scale=100)


@DTYPES
@pytest.mark.parametrize("size", [1, 15, (1 << 14) - 1, (1 << 14) + 1, 3 << 14, 300_001])
def test_swiglu_of_every_size(size: int, dtype: str) -> None:
    agrees("swiglu", [normal(size, dtype=dtype, seed=i, size=3.0) for i in range(2)], {})


@DTYPES
def test_swiglu_of_any_layout_and_far_out(dtype: str) -> None:
    a, b = normal(30, 40, dtype=dtype), normal(40, 30, dtype=dtype, seed=1).T
    agrees("swiglu", (a[:, ::2], b[:, ::-2]), {})
    agrees("swiglu", (a, b[:1]), {})  # broadcasts: left to the composed op
    far = np.array([-1e4, -88.0, -30.0, -1e-30, 0.0, 1e-30, 30.0, 88.0, 1e4], dtype)
    agrees("swiglu", (far, far[::-1]), {})
    kernel = get_op("swiglu").implementations["numba"].function
    for a, b in ((np.nan, 1), (1, np.nan), (np.inf, 1)):
        y, vjp = kernel(np.array([a, 1.0], dtype), np.array([b, 1.0], dtype))
        assert not np.isfinite(y[0])
        assert not np.isfinite([dx[0] for dx in vjp(np.ones(2, dtype))]).all()


@DTYPES
@pytest.mark.parametrize("width", [1, 7, 64, 257, 1000, 4096, 8193])
def test_softmax_of_every_size(width: int, dtype: str) -> None:
    for rows in (1, 3, 65):
        x = normal(rows, width, dtype=dtype, size=4.0)
        agrees("softmax", [x], {})
        agrees("softmax", [x[::-1, ::-1]], {"axis": 1})
    agrees("softmax", [x.reshape(5, 13, width)], {"axis": 2})
    agrees("softmax", [x], {"axis": 0})  # another axis: left to the composed op


@DTYPES
def test_softmax_of_large_logits_and_of_nothing(dtype: str) -> None:
    x = np.round(normal(9, 100, dtype=dtype, size=1e4))
    agrees("softmax", [x], {})
    x[:, 3:20] = -np.inf
    x[4] = -np.inf
    agrees("softmax", [x], {})
    kernel = get_op("softmax").implementations["numba"].function
    for value in (np.nan, np.inf):
        x[2, 5] = value
        y, vjp = kernel(x)
        assert np.isnan(y[2, 5])
        assert np.isfinite(y[[0, 1, *range(3, 9)]]).all()
        assert np.isnan(vjp(np.ones_like(x))[2, 5])


@DTYPES
@pytest.mark.parametrize("width", [1, 63, 64, 65, 200])
def test_embedding_of_every_size(width: int, dtype: str) -> None:
    """Many ids, or one, for a row; few rows and more than there are ids."""
    rng = np.random.default_rng(width)
    for rows, shape in ((1, (300,)), (65, (12, 64)), (5000, (3, 40, 50)), (9, ()), (9, (1,))):
        ids, table = rng.integers(rows, size=shape), normal(rows, width, dtype=dtype)
        # a row of the gradient is a sum of up to 300
        agrees("embedding", (ids, table), {}, scale=10)
        agrees("embedding", (ids.astype("uint16").T, table[::-1]), {}, scale=10)
    agrees("embedding", (np.zeros((0, 3), int), table), {})


def test_wrong_ids_are_refused_in_the_same_words() -> None:
    table = normal(9, 5)
    wrong = ((np.full(300, 9), table), (np.full(9, -1), table), (np.zeros(9), table),
             (np.zeros(9, int), table[0]))  # fmt: skip
    for arrays in wrong:
        with pytest.raises((IndexError, TypeError, ValueError)) as expected:
            get_op("embedding").reference(*arrays)
        with pytest.raises(expected.type) as found:
            get_op("embedding").implementations["numba"].function(*arrays)
        assert str(found.value) == str(expected.value)


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


RECURRENT = {"rnn": (1, 1), "lstm": (4, 2), "gru": (3, 1)}  # parts of a weight, states


def sequence(
    kind: str, time: int, batch: int, ins: int, size: int, dtype: str = "float64"
) -> list[np.ndarray]:
    parts, states = RECURRENT[kind]
    shapes = [(time, batch, ins), *[(batch, size)] * states, (parts * size, ins)]
    shapes += [(parts * size, size), (parts * size,), (parts * size,)]
    scale = [1.0, *[1.0] * states, *[ins**-0.5, size**-0.5, 1.0, 1.0]]
    return [normal(*shape, dtype=dtype, seed=i, size=f)
            for i, (shape, f) in enumerate(zip(shapes, scale, strict=True))]  # fmt: skip


@DTYPES
@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (5, 3, 2, 7), (4, 9, 17, 33), (3, 70, 64, 130)])
def test_recurrent_of_every_size(kind: str, shape: tuple[int, ...], dtype: str) -> None:
    x, *rest = sequence(kind, *shape, dtype=dtype)
    lengths = np.random.default_rng(0).integers(1, shape[0] + 1, shape[1])
    for options in ({}, {"reverse": True}, {"lengths": lengths, "reverse": True}):
        # gradients of the weights add up over all times and sequences
        agrees(kind, (x, *rest), options, scale=10)
    agrees(kind, (x[:, ::-1], *rest[:-2], None, rest[-1]), {}, scale=10)
    agrees(kind, (x, *[None] * RECURRENT[kind][1], *(w.T.copy().T for w in rest[-4:-2])), {},
           scale=10)  # fmt: skip
    other = {"gru": {"reset_after": False}, "rnn": {"nonlinearity": "relu"}, "lstm": {}}
    agrees(kind, (x, *rest), other[kind], scale=10)
    agrees(kind, (x[:, :0], *(h[:0] for h in rest[:-4]), *rest[-4:]), {})  # batch 0
    agrees(kind, (1e4 * x, *rest), {}, scale=1e3)  # as large as the inputs are the weights' sums


@pytest.mark.parametrize("kind", RECURRENT)
def test_wrong_recurrent_calls_are_refused_in_the_same_words(kind: str) -> None:
    x, *rest = sequence(kind, 3, 4, 5, 6)
    wrong: list[Any] = [((x[0], *rest), {}), ((x, *rest[:-1], rest[-1][1:]), {}),
                        ((x[..., 1:], *rest), {}), ((x, *rest), {"lengths": [0, 1, 2, 3]}),
                        ((x, *rest), {"lengths": [1.0, 1, 2, 3]})]  # fmt: skip
    for arrays, options in wrong:
        with pytest.raises((TypeError, ValueError)) as expected:
            get_op(kind).reference(*arrays, **options)
        with pytest.raises(expected.type) as found:
            get_op(kind).implementations["numba"].function(*arrays, **options)
        assert str(found.value) == str(expected.value)


# -- who runs them ---------------------------------------------------------------------------------

CALLS: dict[str, tuple[list[np.ndarray], dict[str, Any]]] = {
    "attention": ([normal(1, 9, 130, 16, seed=i) for i in range(3)], {"causal": True}),
    "linear": ([normal(300, 300), normal(400, 300), normal(400)], {}),
    "gelu": ([normal(700, 400)], {"approximate": "tanh"}),
    "swiglu": ([normal(700, 400), normal(700, 400, seed=1)], {}),
    "layer_norm": ([normal(700, 400), normal(400), normal(400)], {}),
    "rms_norm": ([normal(700, 400), normal(400)], {}),
    "rope": ([normal(4, 9, 130, 16)], {}),
    "softmax": ([normal(700, 400)], {}),
    "cross_entropy": ([normal(700, 400), np.arange(700) % 400], {}),
    "embedding": ([np.arange(2000) ** 2 % 701, normal(701, 200)], {}),
    **{kind: (sequence(kind, 2, 700, 30, 400), {}) for kind in RECURRENT},
}  # large enough to be shared out


def results(name: str) -> list[np.ndarray]:
    """What the kernel and its backward make of the call above."""
    arrays, options = CALLS[name]
    out, vjp = get_op(name).implementations["numba"].function(*arrays, **options)
    outs = as_tuple(out)
    gradients = as_tuple(vjp(*map(np.ones_like, outs)))
    return [x for x in (*outs, *gradients) if x is not None]


def same(expected: list[np.ndarray], found: list[np.ndarray]) -> None:
    """Not even rounding may differ: who does a piece of the work does not change the work."""
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def _threads_restored() -> Any:
    former = threads().threads()
    yield
    threads().set_threads(former)


def threads() -> Any:
    from scratchlm_kernels.cpu import threads

    return threads


@pytest.mark.parametrize("name", OPS)
@pytest.mark.usefixtures("_threads_restored")
def test_threads_change_nothing(name: str) -> None:
    threads().set_threads(1)
    expected = results(name)
    for count in (2, 3):
        threads().set_threads(count)
        same(expected, results(name))


@pytest.mark.usefixtures("_threads_restored")
def test_from_two_python_threads() -> None:
    threads().set_threads(2)
    expected = {name: results(name) for name in OPS}
    wrong: list[BaseException] = []

    def repeat(names: list[str]) -> None:
        try:
            for name in names * 3:
                same(expected[name], results(name))
        except BaseException as error:
            wrong.append(error)

    running = [threading.Thread(target=repeat, args=(names,)) for names in (OPS, OPS[::-1])]
    for each in running:
        each.start()
    for each in running:
        each.join(60)
    assert not wrong
    assert not any(each.is_alive() for each in running)


def _in_child(queue: Any) -> None:
    queue.put({name: results(name) for name in OPS if name != "attention"})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("_threads_restored")
def test_after_a_fork() -> None:
    threads().set_threads(2)
    expected = {name: results(name) for name in OPS}
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    try:
        for name, found in queue.get(timeout=60).items():
            same(expected[name], found)
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()


# -- planted faults: would these tests notice? -----------------------------------------------------

FAULTS = {  # module, op, what its source says, what it says with the fault
    "a row's scale forgotten": (
        "norm", "rms_norm", "out[j] = row[j] * r * weight[j]", "out[j] = row[j] * weight[j]"
    ),
    "no part along the row": (
        "norm", "rms_norm", "drow[j] * weight[j] - n * sum_gn)", "drow[j] * weight[j])"
    ),
    "rows do not add up": ("norm", "rms_norm", "dw[j] += drow[j] * n", "dw[j] = drow[j] * n"),
    "the gate's slope": ("activations", "swiglu", "(one + a_[i] * (one - s))", "(one + a_[i] * s)"),
    "turned the other way": ("positions", "rope", "x2 * (s[i] * sign)", "x2 * (s[i] * -sign)"),
    "one angle for all": ("positions", "rope", "head_step + n * step", "head_step"),
    "features beyond are lost": ("positions", "rope", "range(2 * half, d)", "range(d, d)"),
    "the last of a chunk": ("activations", "swiglu", "range(out.size)", "range(out.size - 1)"),
    "maximum not taken off": ("softmax", "softmax", "exp(row[j] - m)", "exp(row[j])"),
    "blind rows": ("softmax", "softmax", "if m == nothing:", "if False:"),
    "row sum forgotten": ("softmax", "softmax", "(drow[j] - total)", "drow[j]"),
    "a duplicate overwrites": ("embedding", "embedding", "total[j] += row[j]", "total[j] = row[j]"),
    "the cell forgets": ("recurrent", "lstm", "dc_[j] *= f[j]", "dc_[j] *= 1"),
    "two gates exchanged": ("recurrent", "lstm", "i, f, g, o = z[:n]", "f, i, g, o = z[:n]"),
    "the reset gate's product": ("recurrent", "gru", "dm[j] = dnew[j] * r[j]", "dm[j] = dnew[j]"),
    "the wrong slope": ("recurrent", "rnn", "(one - y_[j] * y_[j])", "(one - y_[j])"),
    "the last strip": ("embedding", "embedding", "-(-width // strip)", "width // strip"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_caught(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel's source with one line wrong: the comparison must say so."""
    module, op, right, wrong = FAULTS[fault]
    kernel = getattr(with_fault(module, right, wrong, tmp_path, monkeypatch), op)
    arrays, options = CALLS[op]
    arrays = [_cast(x, "float32") for x in arrays]
    if op == "softmax":
        arrays[0] = arrays[0] * 1e3
        arrays[0][5] = -np.inf
    if op == "rope":
        options = {"rotary_dim": 14}
    assert compare(op, arrays, options, kernel=kernel, scale=100)
