"""Recurrent layers: padding, modes, errors, gradients. (Equality with PyTorch: tests/parity.)"""

from __future__ import annotations

import re

import numpy as np
import pytest

import scratchlm.functional as F
from scratchlm import Tensor, assert_gradients, gradcheck, nn, ops, use
from scratchlm.nn import recurrent

RNG = np.random.default_rng
KINDS = ["RNN", "LSTM", "GRU"]


def made(kind, *sizes, **options):
    return getattr(nn, kind)(*sizes, rng=1, dtype=np.float64, **options)


def values(*shape, seed=0):
    return RNG(seed).standard_normal(shape)


@pytest.mark.parametrize("kind", [*KINDS, "published GRU"])
def test_gradients_of_input_and_of_every_parameter(kind):
    options = {"reset_after": False} if kind == "published GRU" else {}
    layer = made(kind.split()[-1], 2, 3, 2, bidirectional=True, **options)
    names = [n for n, _ in layer.named_parameters()]

    def call(x, *parameters):
        tensors = dict(zip(names, parameters, strict=True))
        y, last = nn.functional_call(layer, tensors, x, lengths=[3, 1])
        return (y, *last) if isinstance(last, tuple) else (y, last)

    arrays = [values(*p.shape, seed=i) * 0.7 for i, p in enumerate(layer.parameters())]
    assert_gradients(call, values(3, 2, 2), *arrays)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_its_cell_again_and_again(kind):
    layer, cell = made(kind, 3, 4), made(kind + "Cell", 3, 4)
    cell.load_state_dict({n.removesuffix("_l0"): v for n, v in layer.state_dict().items()})
    x = values(5, 2, 3)
    y, last = layer(x)
    state = None
    for t in range(5):
        state = cell(Tensor(x[t]), state)
        h = state[0] if kind == "LSTM" else state
        # the layer projects all inputs in one product, which may sum in another order
        assert np.allclose(y[t].data, h.data, rtol=0, atol=1e-14)
    for ours, theirs in zip(*((last, state) if kind == "LSTM" else ([last], [state])), strict=True):
        assert np.allclose(ours[0].data, theirs.data, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_neither_read_nor_given_a_gradient(kind):
    """Each sequence alone, cut to its length, has the same results; NaN in padding is no harm."""
    layer = made(kind, 3, 4, 2, bidirectional=True, batch_first=True)
    lengths = np.array([2, 5, 1])
    x = Tensor(values(3, 5, 3), requires_grad=True)
    for b, n in enumerate(lengths):
        x.data[b, n:] = np.nan
    y, last = layer(x, lengths=lengths)
    h = last[0] if kind == "LSTM" else last
    for b, n in enumerate(lengths):
        alone, last_alone = layer(x.data[b : b + 1, :n])
        h_alone = last_alone[0] if kind == "LSTM" else last_alone
        assert np.allclose(y.data[b, :n], alone.data[0], rtol=0, atol=1e-14)
        assert np.allclose(h.data[:, b], h_alone.data[:, 0], rtol=0, atol=1e-14)
        assert not y.data[b, n:].any()
    y.backward(values(*y.shape, seed=1))
    for b, n in enumerate(lengths):
        assert not x.grad.data[b, n:].any()
        assert x.grad.data[b, :n].all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_in_two_halves(kind):
    """The last states of one call are the first ones of the next."""
    layer = made(kind, 3, 4, 2)
    x = values(6, 2, 3)
    whole, end = layer(x)
    first, middle = layer(x[:4])
    second, end_ = layer(x[4:], middle)
    assert np.allclose(whole.data, np.concatenate([first.data, second.data]), rtol=0, atol=1e-14)
    pairs = zip(end, end_, strict=True) if kind == "LSTM" else [(end, end_)]
    assert all(np.allclose(a.data, b.data, rtol=0, atol=1e-14) for a, b in pairs)


def test_the_two_places_of_the_reset_gate_differ_and_agree_where_it_is_one():
    after, before = made("GRU", 3, 4), made("GRU", 3, 4, reset_after=False)
    x = values(5, 2, 3)
    assert np.array_equal(after.weight_hh_l0.data, before.weight_hh_l0.data)
    assert np.abs(after(x)[0].data - before(x)[0].data).max() > 1e-3
    for layer in (after, before):
        layer.bias_ih_l0.data[:4] = 50.0  # σ(50) = 1 in float64
    assert np.allclose(after(x)[0].data, before(x)[0].data, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_stays_float32_and_is_the_default(kind):
    layer = getattr(nn, kind)(3, 4, 2, bidirectional=True, rng=0)
    x = Tensor(values(5, 2, 3).astype(np.float32), requires_grad=True)
    y, _ = layer(x, lengths=[5, 2])
    y.backward(np.ones(y.shape, np.float32))
    dtypes = {y.dtype, x.grad.dtype, *(p.grad.dtype for p in layer.parameters())}
    assert dtypes == {np.dtype(np.float32)}
    again = getattr(nn, kind)(3, 4, 2, bidirectional=True, rng=0)(x, lengths=[5, 2])[0]
    assert np.array_equal(y.data, again.data)


@pytest.mark.parametrize("kind", KINDS)
def test_saturated_gates_overflow_nothing(kind):
    layer = made(kind, 3, 4)
    with np.errstate(all="raise", under="ignore"):
        x = Tensor(values(5, 2, 3) * 1e4, requires_grad=True)
        y, _ = layer(x)
        y.backward(np.ones(y.shape))
    assert np.isfinite(y.data).all()
    assert np.isfinite(x.grad.data).all()


def test_dropout_acts_between_layers_in_training_only():
    def make():
        return made("LSTM", 3, 4, 2, dropout=0.5)

    x = values(5, 2, 3)
    plain = made("LSTM", 3, 4, 2)
    layer = make()
    assert np.array_equal(layer(x)[0].data, make()(x)[0].data)
    assert not np.array_equal(layer(x)[0].data, plain(x)[0].data)
    assert np.array_equal(layer.eval()(x)[0].data, plain(x)[0].data)
    # the first layer's last state is taken before the dropout
    assert np.array_equal(layer.train()(x)[1][0].data[0], plain(x)[1][0].data[0])


def test_students_cell_takes_the_place_of_the_librarys():
    calls = []

    def mine(x, h, weight_ih, weight_hh, bias_ih=None, bias_hh=None):
        calls.append(x.shape)
        return ops.rnn_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh)

    with use(rnn_cell=mine):
        made("RNNCell", 3, 4)(values(2, 3))
    assert calls == [(2, 3)]


def test_a_planted_fault_in_backpropagation_through_time_is_caught(monkeypatch):
    """The way back of one step, without the path to the state before."""
    right = recurrent.F.gru

    def forgetful(a, states, weight_hh, bias_hh, *, reset_after):
        new, operands, back = step(a, states, weight_hh, bias_hh, reset_after=reset_after)

        def wrong(dy):
            da, db, (dh,) = back(dy)
            return da, db, (0.0 * dh,)

        return new, operands, wrong

    step = ops.recurrent.gru_step
    weights = [values(6, 3), values(6, 2), values(6), values(6)]
    arrays = (values(4, 2, 3), values(2, 2), *weights)
    assert gradcheck(right, *arrays)
    monkeypatch.setattr(ops.recurrent, "gru_step", forgetful)
    report = gradcheck(right, *arrays)
    assert not report
    assert "h" in report.diagnosis


# -- errors ----------------------------------------------------------------------------------------

W1, W2 = np.zeros((8, 3)), np.zeros((8, 2))  # an LSTM of 3 features and 2 units
OP_ERRORS = {
    "x": (
        lambda: F.lstm_cell(values(5), None, None, W1, W2),
        "weight_ih has shape (8, 3); it must be (8, 5)",
    ),
    "0-d x": (lambda: F.lstm_cell(np.array(1.0), None, None, W1, W2), "x is 0-d"),
    "h": (
        lambda: F.lstm_cell(values(4, 3), values(4, 3), None, W1, W2),
        "h has shape (4, 3); it must be (4, 2)",
    ),
    "c": (
        lambda: F.lstm_cell(values(4, 3), None, values(5, 2), W1, W2),
        "c has shape (5, 2); it must be (4, 2)",
    ),
    "weight_hh": (
        lambda: F.lstm_cell(values(4, 3), None, None, W1, np.zeros((6, 2))),
        "weight_hh has shape (6, 2); it must be (8, 2), 4 parts of the hidden size 2",
    ),
    "weight_hh as a vector": (
        lambda: F.gru_cell(values(4, 3), None, W1, np.zeros(8)),
        "gru_cell: weight_hh has shape (8,); it must be (3 hidden, hidden)",
    ),
    "bias_ih": (
        lambda: F.lstm_cell(values(4, 3), None, None, W1, W2, np.zeros(2)),
        "bias_ih has shape (2,); it must be (8,)",
    ),
    "bias_hh": (
        lambda: F.lstm_cell(values(4, 3), None, None, W1, W2, None, np.zeros((1, 8))),
        "bias_hh has shape (1, 8); it must be (8,)",
    ),
    "nonlinearity": (
        lambda: F.rnn_cell(values(4, 3), None, W1[:2], W2[:2], nonlinearity="sigmoid"),
        "rnn_cell: nonlinearity is 'sigmoid'; it may be 'tanh' or 'relu'",
    ),
    "a sequence without a batch": (
        lambda: F.lstm(values(4, 3), None, None, W1, W2),
        "lstm: x has shape (4, 3); it must be (time, batch, features)",
    ),
    "no time": (lambda: F.rnn(values(0, 4, 3), None, W1[:2], W2[:2]), "with one time or more"),
    "too long": (
        lambda: F.lstm(values(5, 2, 3), None, None, W1, W2, lengths=[6, 1]),
        "lengths lie between 1 and 6; each must be from 1 to 5",
    ),
    "length 0": (
        lambda: F.lstm(values(5, 2, 3), None, None, W1, W2, lengths=[0, 1]),
        "lengths lie between 0 and 1",
    ),
    "lengths of another batch": (
        lambda: F.lstm(values(5, 2, 3), None, None, W1, W2, lengths=[5, 1, 1]),
        "lengths has shape (3,); it must be (2,)",
    ),
    "layer, features": (
        lambda: nn.LSTM(3, 2, batch_first=True)(values(4, 5, 2).astype(np.float32)),
        "LSTM: x has shape (4, 5, 2); it must be (batch, time, 3), or (time, 3) for one sequence",
    ),
    "layer, state": (
        lambda: made("GRU", 3, 2, 2, bidirectional=True)(values(4, 5, 3), values(2, 5, 2)),
        "GRU: h has shape (2, 5, 2); it must be (4, 5, 2), for num_layers=2, bidirectional=True",
    ),
    "layer, state without a batch": (
        lambda: made("GRU", 3, 2)(values(4, 3), values(1, 1, 2)),
        "GRU: h has shape (1, 1, 2); it must be (1, 2)",
    ),
    "layer, no layer": (lambda: nn.GRU(3, 2, 0), "GRU: num_layers=0 must be 1 or more"),
    "layer, dropout of one": (lambda: nn.GRU(3, 2, dropout=0.5), "acts between layers"),
    "layer, dropout of all": (lambda: nn.GRU(3, 2, 2, dropout=1.0), "GRU: dropout is the share"),
    "layer, sizes": (lambda: nn.GRU(3, 0), "hidden_size=0 must be 1 or more"),
    "layer, nonlinearity": (
        lambda: nn.RNN(3, 2, nonlinearity="gelu"),
        "RNN: nonlinearity is 'gelu'; it may be 'tanh' or 'relu'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OP_ERRORS)
def test_wrong_shapes_say_what_is_expected(name):
    call, message = OP_ERRORS[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.lstm(values(5, 2, 3), None, None, W1, W2, lengths=[1.0, 2.0]), "integers"),
        (lambda: made("LSTM", 3, 2)(values(5, 2, 3), values(1, 2, 2)), "LSTM has two states"),
        (lambda: made("GRU", 3, 2)(values(5, 2, 3), (values(1, 2, 2),)), "GRU has one state"),
        (lambda: F.gru(values(5, 2, 3), None, W1, W2, lenghts=[1]), "did you mean 'lengths'"),
    ],
)
def test_wrong_kinds_say_what_is_expected(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_the_repr_tells_sizes_and_options():
    layer = nn.GRU(3, 4, 2, bidirectional=True, rng=0)
    assert repr(layer) == "GRU(3, 4, reset_after=True, num_layers=2, bidirectional=True)"
    assert repr(nn.LSTMCell(3, 4, rng=0)) == "LSTMCell(3, 4)"
