"""Recurrent cells and layers beside torch.nn: with the same weights, the same results, states and
gradients, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from scratchlm import Tensor, nn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

# float64 rounding is 1e-16; through three layers of some ten steps, with weights of size one and
# hundreds of terms in a sum, it grows to some 1e-13
TOLERANCE = 1e-9
RNG = np.random.default_rng
KINDS = ["RNN", "LSTM", "GRU"]


def pair(kind, *sizes, seed=0, cell=False, **options):
    """Ours and theirs, with random weights that went over by ``state_dict``."""
    name = kind + "Cell" if cell else kind
    ours = getattr(nn, name)(*sizes, dtype=np.float64, **options)
    rng = RNG(seed)
    values = {n: rng.uniform(-0.7, 0.7, v.shape) for n, v in ours.state_dict().items()}
    ours.load_state_dict(values)
    theirs = getattr(torch.nn, name)(*sizes, dtype=torch.float64, **options)
    theirs.load_state_dict({n: torch.from_numpy(v) for n, v in ours.state_dict().items()})
    assert list(ours.state_dict()) == list(theirs.state_dict())
    return ours, theirs


def both(value):
    return Tensor(value, requires_grad=True), torch.tensor(value, requires_grad=True)


def states(kind, rng, *shape):
    """Two of the same: ``hx`` for ours and for theirs, and their parts."""
    parts = [both(rng.standard_normal(shape)) for _ in range(2 if kind == "LSTM" else 1)]
    ours, theirs = zip(*parts, strict=True)
    return (ours, theirs) if kind == "LSTM" else (ours[0], theirs[0])


def flat(*results):
    out = []
    for each in results:
        out += flat(*each) if isinstance(each, tuple | list) else [each]
    return [each for each in out if each is not None]


def assert_close(got, want, what):
    want = want.detach().numpy()
    assert got.shape == want.shape, what
    error = np.abs(got.data - want).max(initial=0.0)
    assert error <= TOLERANCE * max(1, np.abs(want).max(initial=0.0)), f"{what}: {error:.1e}"


def compare(ours, theirs, results, results_, inputs, inputs_, seed=5):
    """Results, then the gradients of inputs, states and weights under random cotangents."""
    rng = RNG(seed)
    got, want = flat(results), flat(results_)
    assert len(got) == len(want)
    total, total_ = 0.0, 0.0
    for i, (y, y_) in enumerate(zip(got, want, strict=True)):
        assert_close(y, y_, f"result {i}")
        cotangent = rng.standard_normal(y.shape)
        total, total_ = (
            total + (y * cotangent).sum(),
            total_ + (y_ * torch.from_numpy(cotangent)).sum(),
        )
    total.backward()
    total_.backward()
    for i, (x, x_) in enumerate(zip(flat(inputs), flat(inputs_), strict=True)):
        assert_close(x.grad, x_.grad, f"gradient of input {i}")
    theirs_of = dict(theirs.named_parameters())
    mine = dict(ours.named_parameters())
    assert sorted(mine) == sorted(theirs_of)
    for name, parameter in mine.items():
        assert_close(parameter.grad, theirs_of[name].grad, f"gradient of {name}")


@pytest.mark.parametrize("kind", [*KINDS, "relu"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("batch", [(5,), (1,), ()])
def test_cells(kind, bias, initial, batch):
    options = {"nonlinearity": "relu"} if kind == "relu" else {}
    kind = "RNN" if kind == "relu" else kind
    ours, theirs = pair(kind, 3, 7, cell=True, bias=bias, **options)
    rng = RNG(1)
    x, x_ = both(rng.standard_normal((*batch, 3)))
    hx, hx_ = states(kind, rng, *batch, 7) if initial else (None, None)
    compare(ours, theirs, ours(x, hx), theirs(x_, hx_), (x, hx), (x_, hx_))


def packed(theirs, x, hx, lengths, batch_first):
    """PyTorch's way with lengths: pack, run, pad."""
    rnn = torch.nn.utils.rnn
    given = rnn.pack_padded_sequence(
        x, torch.from_numpy(lengths), batch_first=batch_first, enforce_sorted=False
    )
    y, last = theirs(given, hx)
    y, _ = rnn.pad_packed_sequence(
        y, batch_first=batch_first, total_length=x.shape[1 if batch_first else 0]
    )
    return y, last


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [None, [4, 11, 1, 7, 11], [3, 2, 5, 1, 1]])
@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_layers(kind, layers, bidirectional, lengths, initial, bias):
    """11 times, a batch of 5, 3 features to 7; ``batch_first`` where the number of cases is odd."""
    batch_first = bool((layers == 3) ^ bidirectional ^ initial)
    options = {"bias": bias, "bidirectional": bidirectional, "batch_first": batch_first}
    ours, theirs = pair(kind, 3, 7, layers, **options)
    rng = RNG(2)
    x, x_ = both(rng.standard_normal((5, 11, 3) if batch_first else (11, 5, 3)))
    hx, hx_ = states(kind, rng, layers * (1 + bidirectional), 5, 7) if initial else (None, None)
    if lengths is None:
        results_ = theirs(x_, hx_)
    else:
        lengths = np.array(lengths)
        results_ = packed(theirs, x_, hx_, lengths, batch_first)
    results = ours(x, hx, lengths=lengths)
    compare(ours, theirs, results, results_, (x, hx), (x_, hx_))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("time", "batch", "ins", "size"), [(1, 1, 1, 1), (2, 3, 1, 5), (9, 1, 6, 2)]
)
def test_odd_shapes(kind, time, batch, ins, size):
    ours, theirs = pair(kind, ins, size, 2, bidirectional=True)
    rng = RNG(3)
    x, x_ = both(rng.standard_normal((time, batch, ins)))
    hx, hx_ = states(kind, rng, 4, batch, size)
    compare(ours, theirs, ours(x, hx), theirs(x_, hx_), (x, hx), (x_, hx_))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("initial", [False, True])
def test_one_sequence_without_a_batch_axis(kind, initial):
    ours, theirs = pair(kind, 3, 4, 2, bidirectional=True, batch_first=True)
    rng = RNG(4)
    x, x_ = both(rng.standard_normal((6, 3)))
    hx, hx_ = states(kind, rng, 4, 4) if initial else (None, None)
    compare(ours, theirs, ours(x, hx), theirs(x_, hx_), (x, hx), (x_, hx_))


def test_relu_layers():
    ours, theirs = pair("RNN", 3, 7, 2, nonlinearity="relu", bidirectional=True)
    x, x_ = both(RNG(5).standard_normal((6, 5, 3)))
    compare(ours, theirs, ours(x), theirs(x_), x, x_)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_last_state_is_used(kind):
    """Then y has no cotangent at all, as in a classifier that reads to the end."""
    ours, theirs = pair(kind, 3, 4)
    x, x_ = both(RNG(6).standard_normal((6, 2, 3)))
    _, last = ours(x)
    _, last_ = theirs(x_)
    compare(ours, theirs, last, last_, x, x_)


@pytest.mark.parametrize("kind", KINDS)
def test_initial_values_are_drawn_alike(kind):
    """The two samples may come from one distribution (see test_nn)."""
    torch.manual_seed(0)
    ours, theirs = getattr(nn, kind)(5, 20, rng=0), getattr(torch.nn, kind)(5, 20)
    for name, value in ours.state_dict().items():
        here, there = (
            np.sort(value.ravel()),
            np.sort(dict(theirs.state_dict())[name].numpy().ravel()),
        )
        both_ = np.concatenate([here, there])
        distance = np.abs(
            np.searchsorted(here, both_, "right") - np.searchsorted(there, both_, "right")
        ).max()
        assert distance / len(here) < 1.95 * np.sqrt(2 / len(here)), name
        assert np.abs(value).max() <= 1 / np.sqrt(20)
