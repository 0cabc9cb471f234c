"""GPT beside transformers' GPT-2: the same random weights give the same logits, loss, gradients.

The comparison is proved by planted faults: a model that is wrong in one known way must fail it.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import scratchlm
from scratchlm import Tensor, ops
from scratchlm.models import GPT, GPTConfig, from_hf_state, gpt_config_from_hf, to_hf_state

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

# Largest difference, relative to the largest value of each tensor (or to 1). What float64 rounding
# leaves here is 2e-15; the faintest of the faults below is 2e-7.
TOLERANCE = 1e-12

SIZES = [  # V prime, T odd, widths that are no powers of two
    {"vocab_size": 7, "n_positions": 5, "n_layer": 1, "n_head": 1, "n_embd": 12},
    {"vocab_size": 13, "n_positions": 9, "n_layer": 2, "n_head": 2, "n_embd": 30},
    {"vocab_size": 67, "n_positions": 11, "n_layer": 3, "n_head": 3, "n_embd": 48},
    {"vocab_size": 31, "n_positions": 1, "n_layer": 4, "n_head": 3, "n_embd": 12},
    {"vocab_size": 11, "n_positions": 17, "n_layer": 4, "n_head": 2, "n_embd": 48},
]
# no warning about special tokens outside these small vocabularies
QUIET = {"bos_token_id": None, "eos_token_id": None, "attn_implementation": "eager"}


def published(seed: int = 0, **sizes):
    """transformers' GPT-2 in float64, without dropout, every parameter at random (its own start has
    zero biases and unit gains, which would hide a lost one)."""
    config = transformers.GPT2Config(
        **sizes, **QUIET, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    model = transformers.GPT2LMHeadModel(config).double().eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(0.3 * rng.standard_normal(tuple(parameter.shape))))
    return model


def ours_of(theirs, **changes) -> GPT:
    config = gpt_config_from_hf({**theirs.config.to_dict(), **changes})
    model = GPT(config, dtype=np.float64)
    model.load_state_dict(from_hf_state(theirs.state_dict()))
    return model


def batch(theirs, seed: int = 1):
    rng = np.random.default_rng(seed)
    size, T = theirs.config.vocab_size, theirs.config.n_positions
    ids, targets = rng.integers(size, size=(2, 3, T))
    targets[0, 0] = -100  # does not count
    return ids, targets


def worst_difference(ours: GPT, theirs, gradients: str = "loss") -> float:
    """Over logits, loss, and the gradient of every parameter; from the loss, or from a random
    cotangent of the logits, which no symmetry of the loss can hide from."""
    ids, targets = batch(theirs)
    theirs.zero_grad()
    logits, loss = ours(ids, targets)
    logits_ = theirs(torch.from_numpy(ids)).logits
    loss_ = torch.nn.functional.cross_entropy(
        logits_.reshape(-1, logits_.shape[-1]), torch.from_numpy(targets).reshape(-1)
    )
    if gradients == "loss":
        loss.backward()
        loss_.backward()
    else:
        cotangent = np.random.default_rng(2).standard_normal(logits.shape)
        logits.backward(cotangent)
        logits_.backward(torch.from_numpy(cotangent))
    state = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    want = from_hf_state(state)
    got = {name: p.grad.data for name, p in ours.named_parameters()}
    assert got.keys() >= want.keys()
    pairs = [(logits.data, logits_.detach().numpy()), (loss.data, loss_.detach().numpy())]
    pairs += [(got[name], want[name]) for name in want]
    return max(np.abs(a - b).max() / max(1.0, np.abs(b).max()) for a, b in pairs)


@pytest.mark.parametrize("gradients", ["loss", "random cotangent"])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda s: "-".join(map(str, s.values())))
def test_logits_loss_and_every_gradient(sizes, gradients):
    theirs = published(**sizes)
    ours = ours_of(theirs)
    assert len(list(ours.parameters())) == len(list(theirs.parameters()))
    assert ours.num_parameters() == theirs.num_parameters()
    assert worst_difference(ours, theirs, gradients) <= TOLERANCE


def test_shorter_sequences_and_one_without_a_batch():
    theirs = published(**SIZES[1])
    ours = ours_of(theirs)
    ids = np.array([3, 1, 12, 0])
    want = theirs(torch.from_numpy(ids[None])).logits.detach().numpy()[0]
    assert np.abs(ours(ids).data - want).max() <= TOLERANCE * np.abs(want).max()


def test_float32_agrees_to_rounding():
    """The same weights in float32, on both sides: rounding of 6e-8 per operation, through three
    layers and 144 terms a sum; each lies at most as far from the float64 values."""
    theirs = published(**SIZES[2])
    ids, _ = batch(theirs)
    exact = theirs(torch.from_numpy(ids)).logits.detach().numpy()
    ours = ours_of(theirs).astype(np.float32)(ids).data
    single = theirs.float()(torch.from_numpy(ids)).logits.detach().numpy()
    assert ours.dtype == np.float32
    scale = np.abs(exact).max()
    assert np.abs(single - exact).max() / scale < 1e-5  # as far as PyTorch itself is
    assert np.abs(ours - exact).max() / scale < 1e-5


def test_an_untied_output_layer():
    theirs = published(**SIZES[0], tie_word_embeddings=False)
    ours = ours_of(theirs)
    assert ours.lm_head.weight is not ours.transformer.wte.weight
    assert worst_difference(ours, theirs, "random cotangent") <= TOLERANCE


def test_the_way_back_loads_in_transformers():
    theirs, other = published(seed=0, **SIZES[1]), published(seed=1, **SIZES[1])
    state = to_hf_state(ours_of(theirs).state_dict())
    missing, unexpected = other.load_state_dict(
        {name: torch.from_numpy(value) for name, value in state.items()}, strict=False
    )
    assert missing in ([], ["lm_head.weight"])  # tied to wte
    assert unexpected == []
    for name, value in theirs.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_the_initial_distribution_is_gpt2s():
    """Standard deviation of each weight as transformers starts it, within what 900 draws or more
    can tell (4 / sqrt(2 × 900) = 9%)."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=101, n_positions=64, n_layer=3, n_head=3, n_embd=30)
    theirs = from_hf_state(transformers.GPT2LMHeadModel(config).state_dict())
    ours = GPT(gpt_config_from_hf(config.to_dict()), rng=0).state_dict()
    for name, value in ours.items():
        assert value.mean() == pytest.approx(theirs[name].mean(), abs=0.004), name
        assert value.std() == pytest.approx(theirs[name].std(), rel=0.14), name


# -- planted faults --------------------------------------------------------------------------------


def exact_gelu(x, *, approximate="none"):
    return ops.gelu(x, approximate="none")


def unscaled_attention(q, k, v, **options):
    return ops.attention(q, k, v, **{**options, "scale": 1.0})


def attention_that_sees_ahead(q, k, v, **options):
    return ops.attention(q, k, v, **{**options, "causal": False})


def slightly_other_eps(x, weight, bias, *, eps=1e-5):
    return ops.layer_norm(x, weight, bias, eps=eps * x.shape[-1] / (x.shape[-1] - 1))


def wrong_gelu_gradient(x, **options):
    y, vjp = ops.gelu(x, **options)
    return y, lambda dy: vjp(dy) * 1.001


FAULTS = {
    "gelu in its exact form": {"gelu": exact_gelu},
    "no 1/sqrt(d)": {"attention": unscaled_attention},
    "no causal mask": {"attention": attention_that_sees_ahead},
    "eps off by d/(d-1)": {"layer_norm": slightly_other_eps},
    "a gradient wrong by 0.1%": {"gelu": wrong_gelu_gradient},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_op_is_caught(fault):
    theirs = published(**SIZES[2])
    ours = ours_of(theirs)
    with scratchlm.use(**FAULTS[fault]):
        assert worst_difference(ours, theirs) > 1e4 * TOLERANCE
    assert worst_difference(ours_of(theirs), theirs) <= TOLERANCE


@pytest.mark.parametrize("change", [{"layer_norm_epsilon": 1e-6}, {"tie_word_embeddings": False}])
def test_a_wrong_configuration_is_caught(change):
    theirs = published(**SIZES[2])
    ours = ours_of(theirs, **change)
    assert worst_difference(ours, theirs) > 1e4 * TOLERANCE


@pytest.mark.parametrize("name", ["h.1.attn.c_proj.weight", "h.0.ln_2.bias", "wpe.weight"])
def test_a_weight_lost_or_transposed_is_caught(name):
    theirs = published(**SIZES[1])
    ours = ours_of(theirs)
    weight = dict(ours.named_parameters())[f"transformer.{name}"]
    with scratchlm.no_grad():
        weight.copy_(weight.data.T.copy() if "c_proj" in name else np.zeros(weight.shape))
    assert worst_difference(ours, theirs) > 1e4 * TOLERANCE


def test_a_student_op_in_place_of_the_librarys_agrees_too():
    def attention(q, k, v, *, causal=False):
        """Written out with one matrix for each step, as an exercise would have it."""
        d, n = q.shape[-1], q.shape[-2]
        scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(d)
        if causal:
            scores = np.where(np.tril(np.ones((n, n), bool)), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)

        def vjp(dy):
            dweights = dy @ np.swapaxes(v, -1, -2)
            dscores = weights * (dweights - (dweights * weights).sum(-1, keepdims=True))
            dscores /= math.sqrt(d)
            return dscores @ k, np.swapaxes(dscores, -1, -2) @ q, np.swapaxes(weights, -1, -2) @ dy

        return weights @ v, vjp

    theirs = published(**SIZES[2])
    ours = ours_of(theirs)
    with scratchlm.use(attention=attention):
        assert worst_difference(ours, theirs) <= TOLERANCE


def test_the_configuration_of_a_checkpoint():
    values = transformers.GPT2Config().to_dict()
    assert gpt_config_from_hf(values) == GPTConfig(dropout=0.1)
    for name, value in {"activation_function": "relu", "n_inner": 100}.items():
        with pytest.raises(ValueError, match=f"the checkpoint has {name}={value!r}"):
            gpt_config_from_hf({**values, name: value})


def test_ids_as_a_tensor():
    theirs = published(**SIZES[0])
    ids, _ = batch(theirs)
    assert np.array_equal(ours_of(theirs)(Tensor(ids)).data, ours_of(theirs)(ids).data)
