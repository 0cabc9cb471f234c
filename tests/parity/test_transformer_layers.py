"""Encoder, decoder and transformer beside torch.nn: the same weights, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest

from scratchlm import Tensor, nn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

# Float64 rounding is 1e-16, and some thousand terms are added up. Relative to the largest of a
# gradient, down to 1e-3: that of a key's bias is 0 but for rounding, since softmax does not see it.
TOLERANCE = 1e-9
RNG = np.random.default_rng
F64 = np.float64

# Our name of a part: PyTorch's. The three projections are stacked there (in_proj).
NAMES = {
    "cross_attn": "multihead_attn",
    "feed_forward.fc1": "linear1",
    "feed_forward.fc2": "linear2",
}


def as_torch(state):
    """A state (name → array) with PyTorch's names and layout."""
    result = {}
    for name, value in state.items():
        for ours, theirs in NAMES.items():
            name = name.replace(ours, theirs)
        head, _, kind = name.rpartition(".")
        if head.endswith("q_proj"):
            parts = [state[_ours(name).replace("q_proj", f"{p}_proj")] for p in "qkv"]
            result[head.removesuffix("q_proj") + f"in_proj_{kind}"] = np.concatenate(parts)
        elif not head.endswith(("k_proj", "v_proj")):
            result[name] = value
    return result


def _ours(name):
    for ours, theirs in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def randomised(layer, seed=0):
    rng = RNG(seed)
    state = layer.state_dict()
    layer.load_state_dict({n: 0.5 * rng.standard_normal(v.shape) for n, v in state.items()})
    return layer


def assert_close(got, want, what):
    got, want = np.asarray(got.data if isinstance(got, Tensor) else got), want.detach().numpy()
    assert got.shape == want.shape, what
    assert np.isfinite(want).all(), f"{what}: the referee itself is not finite"
    worst = np.abs(got - want).max(initial=0)
    assert worst <= TOLERANCE * max(1e-3, np.abs(want).max(initial=0)), f"{what}: {worst}"


def compare(ours, theirs, shapes, masks, masks_, seed=5):
    """Result, gradients of all inputs and of all weights."""
    rng = RNG(seed)
    theirs.load_state_dict({n: torch.from_numpy(v) for n, v in as_torch(ours.state_dict()).items()})
    values = [rng.standard_normal(shape) for shape in shapes]
    inputs = [Tensor(v, requires_grad=True) for v in values]
    inputs_ = [torch.tensor(v, requires_grad=True) for v in values]
    y, y_ = ours(*inputs, **masks), theirs(*inputs_, **masks_)
    assert_close(y, y_, "y")
    cotangent = rng.standard_normal(y.shape)
    y.backward(cotangent)
    y_.backward(torch.from_numpy(cotangent))
    for i, (x, x_) in enumerate(zip(inputs, inputs_, strict=True)):
        assert np.abs(x.grad.data).max() > 1e-4, "a gradient that vanishes compares nothing"
        assert_close(x.grad, x_.grad, f"the gradient of input {i}")
    grads = as_torch({name: p.grad.data for name, p in ours.named_parameters()})
    grads_ = dict(theirs.named_parameters())
    assert grads.keys() == grads_.keys()
    for name, grad in grads.items():
        assert_close(grad, grads_[name].grad, name)


def options(theirs, **both):
    """Keywords for ours, or for PyTorch's."""
    both |= {"dropout": 0.0}
    return (
        {**both, "batch_first": True, "dtype": torch.float64} if theirs else both | {"dtype": F64}
    )


def allowed(seed, n, m):
    """At random, but every query may see one key: PyTorch's answer to none is NaN."""
    rng = RNG(seed)
    return (rng.random((n, m)) < 0.6) | (np.arange(m) == rng.integers(m, size=(n, 1)))


def padding(lengths, longest):
    return np.arange(longest) >= np.array(lengths)[:, None]


def inverted(mask):
    """PyTorch's layers: boolean True forbids."""
    return torch.from_numpy(~mask if mask.dtype == bool else mask)


SELF_MASKS = {
    "none": lambda n: {},
    "boolean": lambda n: {"mask": allowed(1, n, n)},
    "additive": lambda n: {"mask": RNG(2).standard_normal((n, n))},
    "padding": lambda n: {"padding": padding([n, 3], n)},
    "boolean and padding": lambda n: {
        "mask": allowed(1, n, n) | (np.arange(n) == 0),
        "padding": padding([n, 3], n),
    },
}


def both_masks(given, prefix):
    ours, theirs = {}, {}
    if "mask" in given:
        ours[f"{prefix}_mask"] = given["mask"]
        theirs[f"{prefix}_mask"] = inverted(given["mask"])
    if "padding" in given:
        ours[f"{prefix}_key_padding_mask"] = given["padding"]
        theirs[f"{prefix}_key_padding_mask"] = torch.from_numpy(given["padding"])
    return ours, theirs


def causal(n):
    return torch.ones(n, n, dtype=torch.bool).triu(1)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("mask", SELF_MASKS)
@pytest.mark.parametrize(
    ("heads", "activation", "bias"), [(3, "relu", True), (1, "gelu", False), (5, "gelu", True)]
)
def test_encoder_layer(norm_first, mask, heads, activation, bias):
    kind = {"norm_first": norm_first, "activation": activation, "bias": bias}
    kind["layer_norm_eps"] = 1e-3
    ours = randomised(nn.TransformerEncoderLayer(15, heads, 7, **options(False, **kind)))
    theirs = torch.nn.TransformerEncoderLayer(15, heads, 7, **options(True, **kind))
    masks, masks_ = both_masks(SELF_MASKS[mask](5), "src")
    compare(ours, theirs, [(2, 5, 15)], masks, masks_)


def test_an_encoder_layer_that_is_causal():
    ours = randomised(nn.TransformerEncoderLayer(6, 2, causal=True, **options(False)))
    theirs = torch.nn.TransformerEncoderLayer(6, 2, 24, **options(True))
    compare(ours, theirs, [(7, 6)], {}, {"src_mask": causal(7)})


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("mask", SELF_MASKS)
@pytest.mark.parametrize(("heads", "bias"), [(2, True), (3, False)])
def test_decoder_layer(norm_first, mask, heads, bias):
    """Source and target of different lengths; the mask in hand is the memory's."""
    T, S = 4, 5
    kind = {"norm_first": norm_first, "activation": "gelu", "bias": bias}
    ours = randomised(nn.TransformerDecoderLayer(12, heads, 7, **options(False, **kind)))
    theirs = torch.nn.TransformerDecoderLayer(12, heads, 7, **options(True, **kind))
    given = SELF_MASKS[mask](S)
    if "mask" in given:
        given["mask"] = given["mask"][:T]
    masks, masks_ = both_masks(given, "memory")
    compare(ours, theirs, [(2, T, 12), (2, S, 12)], masks, masks_ | {"tgt_mask": causal(T)})


@pytest.mark.parametrize("is_causal", [False, True])
def test_decoder_layer_with_masks_of_the_target(is_causal):
    T, S = 6, 3
    ours = nn.TransformerDecoderLayer(12, 4, 7, causal=is_causal, **options(False))
    theirs = torch.nn.TransformerDecoderLayer(12, 4, 7, **options(True))
    mask = allowed(3, T, T) | np.eye(T, dtype=bool)
    mask[:, 0] = True
    masks = {"tgt_mask": mask, "tgt_key_padding_mask": padding([T, 4], T)}
    masks_ = {
        "tgt_mask": inverted(np.tril(mask) if is_causal else mask),
        "tgt_key_padding_mask": torch.from_numpy(padding([T, 4], T)),
    }
    compare(randomised(ours), theirs, [(2, T, 12), (2, S, 12)], masks, masks_)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("final_norm", [False, True])
@pytest.mark.parametrize("depth", [1, 3])
def test_encoder(norm_first, final_norm, depth):
    kind = {"norm_first": norm_first}
    ours = nn.TransformerEncoder(6, 3, depth, final_norm=final_norm, **options(False, **kind))
    theirs = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(6, 3, 24, **options(True, **kind)),
        depth,
        torch.nn.LayerNorm(6, dtype=torch.float64) if final_norm else None,
        enable_nested_tensor=False,
    )
    masks, masks_ = both_masks({"padding": padding([5, 2], 5)}, "src")
    compare(randomised(ours), theirs, [(2, 5, 6)], masks, masks_)


@pytest.mark.parametrize("norm_first", [False, True])
def test_decoder(norm_first):
    kind = {"norm_first": norm_first}
    ours = nn.TransformerDecoder(6, 3, 2, **options(False, **kind))
    theirs = torch.nn.TransformerDecoder(
        torch.nn.TransformerDecoderLayer(6, 3, 24, **options(True, **kind)),
        2,
        torch.nn.LayerNorm(6, dtype=torch.float64) if norm_first else None,
    )
    compare(randomised(ours), theirs, [(4, 6), (7, 6)], {}, {"tgt_mask": causal(4)})


@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")  # a shortcut PyTorch drops
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize(("batch", "S", "T"), [((2,), 5, 3), ((2,), 1, 4), ((), 3, 1)])
def test_transformer(norm_first, batch, S, T):
    """PyTorch's has a norm behind either stack, pre-norm or not."""
    kind = {"norm_first": norm_first, "dim_feedforward": 9, "activation": "gelu"}
    ours = nn.Transformer(8, 2, 2, 3, final_norm=True, **options(False, **kind))
    theirs = torch.nn.Transformer(8, 2, 2, 3, **options(True, **kind))
    masks, masks_ = {}, {"tgt_mask": causal(T)}
    if batch:
        pad = padding([S, max(1, S - 2)], S)
        masks = {"src_key_padding_mask": pad}
        masks_ |= {f"{n}_key_padding_mask": torch.from_numpy(pad) for n in ("src", "memory")}
    compare(randomised(ours), theirs, [(*batch, S, 8), (*batch, T, 8)], masks, masks_)


@pytest.mark.parametrize("fault", ["post-norm for pre-norm", "relu for gelu", "no causal mask"])
def test_a_fault_is_seen(fault):
    """The comparison fails where the two differ in one thing."""
    kind = {"norm_first": True, "activation": "gelu"}
    wrong = dict(kind)
    if fault == "post-norm for pre-norm":
        wrong["norm_first"] = False
    if fault == "relu for gelu":
        wrong["activation"] = "relu"
    ours = randomised(nn.TransformerDecoderLayer(6, 3, **options(False, **wrong)))
    theirs = torch.nn.TransformerDecoderLayer(6, 3, 24, **options(True, **kind))
    masks_ = {} if fault == "no causal mask" else {"tgt_mask": causal(4)}
    with pytest.raises(AssertionError, match="y:"):
        compare(ours, theirs, [(2, 4, 6), (2, 5, 6)], {}, masks_)
