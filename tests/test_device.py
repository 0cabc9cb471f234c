"""The device path, on the strict stand-in (and on a GPU, with ``-m gpu``, where there is one)."""

from __future__ import annotations

import array_api_compat
import numpy as np
import pytest
import standin
from hypothesis import given
from hypothesis import strategies as st
from ops.cases import all_cases
from ops.harness import as_tuple, call, random_cotangents

from scratchlm import Tensor, backend, debug, detect_anomaly, no_grad, ops, use
from scratchlm import functional as F
from scratchlm.backend import check_ids, random_uniform, to_host
from scratchlm.registry import REFERENCE, all_ops, get_op


@pytest.fixture(autouse=True)
def device(monkeypatch):
    monkeypatch.setitem(backend.devices, "standin", lambda x, _: standin.asarray(x))


def on(x):
    """``x`` with every host array in it on the device; lists and tuples too."""
    if isinstance(x, (list, tuple)):
        return type(x)(on(each) for each in x)
    return standin.asarray(x) if isinstance(x, np.ndarray) else x


def leaf(*shape, seed=0):
    values = np.random.default_rng(seed).standard_normal(shape)
    return Tensor(standin.asarray(values), requires_grad=True)


# -- the stand-in refuses what a GPU's arrays refuse -----------------------------------------------

X = standin.asarray(np.arange(6.0).reshape(2, 3))
HOST = np.ones((2, 3))

FAULTS = {
    "asarray": lambda: np.asarray(X),
    "asarray of a list": lambda: np.asarray([X, X]),
    "array": lambda: np.array(X, dtype=np.float32),
    "a NumPy function": lambda: np.exp(X),
    "a NumPy reduction": lambda: np.sum(X),
    "buffer": lambda: memoryview(X),
    "iteration": lambda: list(X),
    "unpacking": lambda: (lambda a, b: None)(*X),
    "host + device": lambda: HOST + X,
    "device + host": lambda: X + HOST,
    "device * host": lambda: X * HOST,
    "host @ device": lambda: HOST.T @ X,
    "device += host": lambda: X.__iadd__(HOST),
    "compare": lambda: HOST < X,
    "where": lambda: standin.namespace.where(X > 0, X, HOST),
    "concat": lambda: standin.namespace.concat([X, HOST]),
    "assign a host array": lambda: X.__setitem__(0, HOST[0]),
    "index by a host array": lambda: X[np.array([0, 1])],
    "index by a list": lambda: X[[0, 1]],
    "host index by device": lambda: HOST[standin.asarray([0, 1])],
    "add.at of host values": lambda: standin.namespace.add.at(X, standin.asarray([0]), HOST[:1]),
    "a list of device arrays": lambda: standin.asarray([X, X]),
    "outside the standard": lambda: standin.namespace.einsum("ij->ji", X),
    "transposing as NumPy does": lambda: standin.namespace.transpose(X),
    "truth of many": lambda: bool(X),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_stand_in_refuses(fault):
    with pytest.raises((TypeError, AttributeError, IndexError)):
        FAULTS[fault]()


def test_the_stand_in_counts_every_way_to_and_from_the_host():
    with standin.counting() as seen:
        x = standin.asarray([1.0, 2.0])
        x.get()
        float(x[0])
        bool(x[0] < x[1])
        _ = x + 1.0
        _ = x * np.float64(2)
    assert seen == {"to device": 1, "to host": 1, "scalar": 2}


def test_the_stand_in_shares_views_and_wraps_ids_as_a_gpu_does():
    x = standin.asarray(np.arange(6.0).reshape(2, 3))
    row = x[0]
    row += 1.0
    assert x.get().tolist() == [[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]
    assert row.base is x
    assert x[0][1:].base is x
    assert x[standin.asarray([5])].get().tolist() == [[3.0, 4.0, 5.0]]
    assert array_api_compat.device(x) is standin.DEVICE


# -- ops -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_every_op_equals_numpy_without_a_silent_conversion(case, data, seed):
    """The stand-in computes with NumPy, on contiguous copies: where the host's arrays are strided,
    NumPy's loops may differ in the last bit, and sums of these in a few more."""
    op = get_op(case.op).reference
    arrays, options = data.draw(case.inputs)
    out, vjp = call(op, arrays, options)
    cotangents = random_cotangents(out, np.random.default_rng(seed))
    moved = {name: on(value) for name, value in options.items()}
    device_arrays, device_cotangents = on(tuple(arrays)), on(cotangents)
    with standin.counting() as seen:
        device_out, device_vjp = call(op, device_arrays, moved)
        device_gradients = as_tuple(device_vjp(*device_cotangents))
    assert not seen["to host"]
    size = max(
        float(np.max(np.abs(a), initial=1.0)) for a in (*arrays, *cotangents) if a is not None
    )
    for host, there in zip(
        [*as_tuple(out), *as_tuple(vjp(*cotangents))],
        [*as_tuple(device_out), *device_gradients],
        strict=True,
    ):
        if host is None:
            assert there is None
            continue
        assert isinstance(there, standin.Array)
        assert there.dtype == host.dtype
        np.testing.assert_allclose(there.get(), host, rtol=1e-14, atol=1e-14 * size)


def test_helpers_stay_on_the_device():
    like = standin.asarray(np.ones(1))
    there = random_uniform(np.random.default_rng(0), (3,), like)
    assert isinstance(there, standin.Array)
    here = random_uniform(np.random.default_rng(0), (3,), np.ones(1))
    np.testing.assert_array_equal(there.get(), here)
    with standin.counting() as seen:
        check_ids(standin.asarray([0, 2]), 3, what="embedding")
    assert not seen["to host"]
    with pytest.raises(IndexError, match=r"id 5 at index \(1,\)"):
        check_ids(standin.asarray([0, 5]), 3, what="embedding")


def test_host_and_device_do_not_mix():
    for mix in (lambda: ops.softmax(HOST)[1](X), lambda: backend.array_namespace(X, HOST)):
        with pytest.raises(TypeError):
            mix()
    x = leaf(2, 3)
    for f in (lambda: x + HOST, lambda: HOST + x, lambda: x * Tensor(HOST), lambda: x @ HOST.T):
        with pytest.raises(TypeError):
            f()
    with pytest.raises(TypeError, match="different libraries or devices"):
        (x * 2.0).backward(HOST)


# -- the engine ------------------------------------------------------------------------------------


def program(x, w):
    h = x * w + 1.0
    rows = (h @ w.T).split((1, 1))
    return ((rows[0] - rows[1]).softmax() ** 2 / (1.0 + w[0, :2].exp())).sum() + h.mean()


def test_the_engine_on_the_device_equals_numpy():
    results = []
    for kind in (np.asarray, standin.asarray):
        rng = np.random.default_rng(0)
        x, w = (Tensor(kind(rng.standard_normal((2, 3))), requires_grad=True) for _ in range(2))
        with standin.counting() as seen:
            y = program(x, w)
            y.retain_grad()
            y.backward()
            y.backward()
        assert not seen["to host"]
        results.append([to_host(t.data) for t in (y, y.grad, x.grad, w.grad)])
    for here, there in zip(*results, strict=True):
        np.testing.assert_array_equal(here, there)


def test_the_modes_on_the_device():
    x = leaf(2, 3)
    with debug(), detect_anomaly(), np.errstate(divide="ignore"):
        y = program(x, x)
        y.backward()
        with pytest.raises(FloatingPointError, match=r"div made inf at index \(0, 0\)"):
            1.0 / (x - x)
    assert y._node.values[0] is y.data


def test_changes_in_place_are_noticed_on_the_device():
    x = leaf(2, 3)
    y = x * x
    with no_grad():
        x[0].zero_()
    with pytest.raises(RuntimeError, match="mul: input 'a' was changed in place"):
        y.backward(standin.asarray(np.ones((2, 3))))
    assert to_host(x.data)[0].tolist() == [0.0, 0.0, 0.0]


def test_numbers_lists_and_conversions():
    x = leaf(3)
    with standin.counting() as seen:
        y = (x + 1) * [1.0, 2.0, 3.0]
    assert seen["to host"] == 0
    assert isinstance(y.data, standin.Array)
    assert y.dtype == np.float64
    assert y.device is standin.DEVICE
    y.backward([1.0, 1.0, 1.0])
    assert x.grad.tolist() == [1.0, 2.0, 3.0]
    assert (x > 0).tolist() == (x.numpy() > 0).tolist()
    assert "Tensor([" in repr(x)
    assert isinstance(x.sum().item(), float)
    with pytest.raises(TypeError, match=r"not converted silently; use \.numpy\(\)"):
        np.asarray(x)


def test_moving_between_devices():
    x = Tensor(np.ones(2), requires_grad=True, name="w")
    there = x.to("standin")
    assert isinstance(there.data, standin.Array)
    assert (there.requires_grad, there.is_leaf, there.name) == (True, True, "w")
    assert there.to("standin") is there
    assert there.to("cpu").tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="result of mul would lose its gradient"):
        (x * 2.0).to("standin")
    (x * 2.0).detach().to("standin")
    with no_grad():
        (x * 2.0).to("standin")


# -- a model ---------------------------------------------------------------------------------------


def training_step(kind):
    """One step of a small GPT on fixed data: loss, gradients and new parameters, on the host; and
    what went between host and device."""
    from scratchlm import nn, optim
    from scratchlm.models.gpt import GPT, GPTConfig

    config = GPTConfig(vocab_size=11, block_size=6, n_layer=2, n_head=2, n_embd=8, dropout=0.1)
    model = GPT(config, rng=np.random.default_rng(0))
    assert isinstance(model, nn.Module)
    if kind == "standin":
        model.to("standin")
    ids = np.random.default_rng(1).integers(0, 11, (3, 7))
    ids = ids if kind == "cpu" else standin.asarray(ids)
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    with standin.counting() as seen:
        loss = F.cross_entropy(model(Tensor(ids[:, :-1])), ids[:, 1:])
        loss.backward()
    optim.clip_grad_norm(model.parameters(), 1.0)  # reads the norms of the gradients, explicitly
    with standin.counting() as seen_in_step:
        optimizer.step()
    parameters = dict(model.named_parameters())
    if kind == "standin":
        assert all(isinstance(p.data, standin.Array) for p in parameters.values())
        assert all(isinstance(p.grad.data, standin.Array) for p in parameters.values())
    values = {name: (to_host(p.data), to_host(p.grad.data)) for name, p in parameters.items()}
    return loss.item(), values, seen + seen_in_step


def test_one_training_step_equals_numpy_without_a_silent_conversion():
    composed = {n: REFERENCE for n, op in all_ops().items() if len(op.implementations) > 1}
    with use(**composed):  # kernels add in another order
        loss, here, _ = training_step("cpu")
    device_loss, there, seen = training_step("standin")
    assert device_loss == loss
    assert here.keys() == there.keys()
    for name in here:
        for a, b in zip(here[name], there[name], strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)
    assert not seen["to host"]


def test_a_training_step_in_debug_and_anomaly_mode_is_the_same_and_leaves_nothing_locked():
    plain_loss, plain, _ = training_step("cpu")
    with debug(), detect_anomaly():
        loss, values, _ = training_step("cpu")
    assert loss == plain_loss
    for name, (value, gradient) in values.items():
        np.testing.assert_array_equal(value, plain[name][0], err_msg=name)
        assert value.flags.writeable
        assert gradient.flags.writeable


@pytest.mark.gpu
def test_the_engine_on_a_gpu_equals_numpy():
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("no GPU")
    x = np.random.default_rng(0).standard_normal((2, 3))
    here, there = (Tensor(x, requires_grad=True).to(d) for d in ("cpu", "cuda"))
    for t in (here, there):
        program(t, t).backward()
    # float64 on both; only the order of sums differs
    np.testing.assert_allclose(there.grad.numpy(), here.grad.numpy(), rtol=1e-12, atol=1e-14)
