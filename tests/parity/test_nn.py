"""Layers beside torch.nn: with the same weights, the same values and gradients, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from scratchlm import Tensor, nn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

TOLERANCE = 1e-10  # float64 rounding is 1e-16; sums here have at most some hundred terms
RNG = np.random.default_rng


def randomised(layer, seed=0):
    """Every parameter at random, so that no bias is 0 and no gain is 1."""
    rng = RNG(seed)
    state = layer.state_dict()
    layer.load_state_dict({name: rng.standard_normal(v.shape) for name, v in state.items()})
    return layer


def copied(theirs, ours):
    """``theirs`` with the weights of ``ours``; the names agree."""
    state = {name: torch.from_numpy(value) for name, value in ours.state_dict().items()}
    theirs.load_state_dict(state)
    return theirs


def assert_close(got, want, what):
    want = want.detach().numpy()
    assert got.shape == want.shape, what
    assert np.abs(got.data - want).max() <= TOLERANCE * max(1, np.abs(want).max()), what


def compare(ours, theirs, shape, seed=5):
    rng = RNG(seed)
    value = rng.standard_normal(shape)
    x, x_ = Tensor(value, requires_grad=True), torch.tensor(value, requires_grad=True)
    y, y_ = ours(x), theirs(x_)
    assert_close(y, y_, "y")
    cotangent = rng.standard_normal(y.shape)
    y.backward(cotangent)
    y_.backward(torch.from_numpy(cotangent))
    assert_close(x.grad, x_.grad, "dx")
    theirs_of = dict(theirs.named_parameters())
    names = [name for name, _ in ours.named_parameters()]
    assert sorted(names) == sorted(theirs_of)
    for name, parameter in ours.named_parameters():
        assert_close(parameter.grad, theirs_of[name].grad, name)


@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 3, 5), (0, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape, bias):
    ours = randomised(nn.Linear(5, 3, bias, dtype=np.float64))
    theirs = copied(torch.nn.Linear(5, 3, bias, dtype=torch.float64), ours)
    if 0 in shape:
        assert ours(Tensor(np.zeros(shape))).shape == (0, 3)
    else:
        compare(ours, theirs, shape)


@pytest.mark.parametrize("shape", [(11,), (4, 11), (2, 3, 11)])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm(shape, bias):
    ours = randomised(nn.LayerNorm(11, eps=1e-3, bias=bias, dtype=np.float64))
    theirs = copied(torch.nn.LayerNorm(11, eps=1e-3, bias=bias, dtype=torch.float64), ours)
    compare(ours, theirs, shape)


@pytest.mark.parametrize("shape", [(11,), (4, 11), (2, 3, 11)])
def test_rms_norm(shape):
    ours = randomised(nn.RMSNorm(11, eps=1e-3, dtype=np.float64))
    theirs = copied(torch.nn.RMSNorm(11, eps=1e-3, dtype=torch.float64), ours)
    compare(ours, theirs, shape)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 4, 5, 5), {}),
        ((3, 4, 7, 9), {"stride": 2, "padding": 1}),
        ((2, 4, 9, 11), {"stride": (3, 1), "padding": (2, 0), "dilation": (2, 3), "groups": 2}),
        ((2, 4, 8, 5), {"stride": (2, 3), "dilation": 2, "padding": (0, 1), "groups": 4}),
    ],
)
def test_conv2d(shape, options, bias):
    ours = randomised(nn.Conv2d(4, 8, (3, 2), bias=bias, dtype=np.float64, **options))
    theirs = torch.nn.Conv2d(4, 8, (3, 2), bias=bias, dtype=torch.float64, **options)
    compare(ours, copied(theirs, ours), shape)


@pytest.mark.parametrize("eps", ["LayerNorm", "GPTConfig"])
def test_the_default_eps_is_pytorchs(eps):
    from scratchlm.models import GPTConfig

    ours = nn.LayerNorm(3).eps if eps == "LayerNorm" else GPTConfig().eps
    assert ours == torch.nn.LayerNorm(3).eps


@pytest.mark.parametrize("shape", [(9,), (2, 5), (1, 1, 3)])
def test_embedding(shape):
    ours = randomised(nn.Embedding(4, 3, dtype=np.float64))
    theirs = copied(torch.nn.Embedding(4, 3, dtype=torch.float64), ours)
    ids = RNG(1).integers(4, size=shape)  # few rows, so that ids repeat
    y, y_ = ours(ids), theirs(torch.from_numpy(ids))
    assert_close(y, y_, "y")
    cotangent = RNG(2).standard_normal(y.shape)
    y.backward(cotangent)
    y_.backward(torch.from_numpy(cotangent))
    assert_close(ours.weight.grad, theirs.weight.grad, "weight")


MASKS = {
    "none": lambda rng: None,
    "boolean": lambda rng: (rng.random((5, 7)) < 0.7) | (np.arange(7) == 2),
    "additive": lambda rng: rng.standard_normal((5, 7)),
}


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mask", MASKS)
def test_multi_head_attention(heads, bias, mask):
    """Cross-attention; PyTorch stacks the three projections into one matrix, and its boolean masks
    say what is forbidden."""
    rng = RNG(3)
    ours = randomised(nn.MultiHeadAttention(12, heads, bias=bias, dtype=np.float64))
    theirs = torch.nn.MultiheadAttention(
        12, heads, bias=bias, batch_first=True, dtype=torch.float64
    )
    state = ours.state_dict()
    kinds = ["weight", "bias"] if bias else ["weight"]
    stacked = {
        f"in_proj_{kind}": np.concatenate([state.pop(f"{p}_proj.{kind}") for p in "qkv"])
        for kind in kinds
    }
    theirs.load_state_dict({n: torch.from_numpy(v) for n, v in {**state, **stacked}.items()})

    values = [rng.standard_normal((2, n, 12)) for n in (5, 7, 7)]
    allowed = MASKS[mask](rng)
    inputs = [Tensor(value, requires_grad=True) for value in values]
    inputs_ = [torch.tensor(value, requires_grad=True) for value in values]
    mask_ = None
    if allowed is not None:
        mask_ = torch.from_numpy(~allowed if allowed.dtype == bool else allowed)
    y = ours(*inputs, mask=allowed)
    y_, weights_ = theirs(*inputs_, attn_mask=mask_, average_attn_weights=False)
    assert_close(y, y_, "y")

    cotangent = rng.standard_normal(y.shape)
    y.backward(cotangent)
    y_.backward(torch.from_numpy(cotangent))
    for name, x, x_ in zip(("query", "key", "value"), inputs, inputs_, strict=True):
        assert_close(x.grad, x_.grad, name)
    grads = {name: parameter.grad.data for name, parameter in ours.named_parameters()}
    for kind in kinds:
        got = np.concatenate([grads.pop(f"{p}_proj.{kind}") for p in "qkv"])
        assert_close(Tensor(got), getattr(theirs, f"in_proj_{kind}").grad, kind)
        got = grads.pop(f"out_proj.{kind}")
        assert_close(Tensor(got), getattr(theirs.out_proj, kind).grad, f"out_proj.{kind}")
    assert not grads

    ours.attend.recorded = []
    ours(*inputs, mask=allowed)
    assert_close(Tensor(ours.attend.recorded[0]), weights_, "weights")


@pytest.mark.parametrize(
    ("make", "make_"),
    [
        (lambda: nn.Linear(20, 30, rng=0), lambda: torch.nn.Linear(20, 30)),
        (lambda: nn.Embedding(20, 30, rng=0), lambda: torch.nn.Embedding(20, 30)),
        (
            lambda: nn.Conv2d(10, 20, (3, 2), groups=2, rng=0),
            lambda: torch.nn.Conv2d(10, 20, (3, 2), groups=2),
        ),
    ],
)
def test_initial_values_are_drawn_alike(make, make_):
    """The two samples may come from one distribution."""
    torch.manual_seed(0)
    ours, theirs = make().weight.data.ravel(), make_().weight.detach().numpy().ravel()
    ours, theirs = np.sort(ours), np.sort(theirs)
    # Kolmogorov-Smirnov: the greatest distance of the two distribution functions of 600 draws each;
    # above 1.95 sqrt(2 / 600) = 0.11 one in a thousand times if they agree
    both = np.concatenate([ours, theirs])
    distance = np.abs(
        np.searchsorted(ours, both, "right") - np.searchsorted(theirs, both, "right")
    ).max()
    assert distance / 600 < 0.11
