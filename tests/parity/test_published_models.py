"""Llama, BERT and T5 beside transformers': the same random weights give the same logits, loss and
gradients. (GPT-2: test_gpt2.py.)

The comparison is proved by planted faults: a model that is wrong in one known way must fail it.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

import scratchlm
from scratchlm import models, ops
from scratchlm.models import checkpoints, from_hf_state, load_pretrained, save_pretrained
from scratchlm.models.pretrained import PUBLISHED

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

# Largest difference, relative to the largest value of each tensor (or to 1). What float64 rounding
# leaves here is at most 1e-14; the faintest of the faults below is 4e-8.
TOLERANCE = 1e-12

LLAMA = {
    "one head, one layer": {"num_attention_heads": 1, "num_hidden_layers": 1, "hidden_size": 6},
    "three heads for each key": {"num_attention_heads": 6, "num_key_value_heads": 2},
    "one key for all": {"num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 30},
    "wide heads": {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 14},
    "tied, other base": {"tie_word_embeddings": True, "rope_parameters": {"rope_theta": 100.0}},
    "biases": {"attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-3},
    # of three pairs, the first keeps its frequency, the second gets a mixture, the third an eighth
    "scaled frequencies": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 30.0,
            "factor": 8.0,
            "low_freq_factor": 0.5,
            "high_freq_factor": 1.5,
            "original_max_position_embeddings": 16,
        }
    },
}
BERT = {
    "one head, one layer": {"num_attention_heads": 1, "num_hidden_layers": 1, "hidden_size": 5},
    "three heads": {"num_attention_heads": 3, "hidden_size": 30, "intermediate_size": 17},
    "three types, tanh gelu": {"type_vocab_size": 3, "hidden_act": "gelu_new"},
    "relu, large eps": {"hidden_act": "relu", "layer_norm_eps": 1e-3, "num_labels": 5},
}
T5 = {
    "one head, one layer": {"num_heads": 1, "num_layers": 1, "d_model": 5, "d_kv": 3},
    "heads narrower than the model": {"num_heads": 3, "d_model": 20, "d_kv": 4},
    "heads wider": {"num_heads": 2, "d_model": 6, "d_kv": 11, "num_decoder_layers": 1},
    "few buckets": {"relative_attention_num_buckets": 6, "relative_attention_max_distance": 5},
    "gated": {"feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-3},
    "gated, untied": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "gated, relu": {"feed_forward_proj": "gated-relu", "num_decoder_layers": 3},
}
CASES = [
    *(("LlamaForCausalLM", name) for name in LLAMA),
    *(("BertForMaskedLM", name) for name in BERT),
    *(("BertForSequenceClassification", name) for name in BERT),
    *(("BertForTokenClassification", name) for name in BERT),
    *(("T5ForConditionalGeneration", name) for name in T5),
]
each_case = pytest.mark.parametrize(("architecture", "name"), CASES)
# one of each kind, where more would prove nothing more
KINDS = [
    ("LlamaForCausalLM", "three heads for each key"),
    ("LlamaForCausalLM", "scaled frequencies"),
    ("BertForMaskedLM", "three heads"),
    ("BertForSequenceClassification", "three heads"),
    ("BertForTokenClassification", "relu, large eps"),
    ("T5ForConditionalGeneration", "heads wider"),
    ("T5ForConditionalGeneration", "gated, untied"),
]
each_kind = pytest.mark.parametrize(("architecture", "name"), KINDS)


class ExactRotary(torch.nn.Module):
    """The angles of Llama in float64. transformers' are computed in float32, whatever the model."""

    def __init__(self, config) -> None:
        super().__init__()
        d, rope = config.head_dim, config.rope_parameters
        theta = rope["rope_theta"] ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
        if rope["rope_type"] == "llama3":
            low, high = rope["low_freq_factor"], rope["high_freq_factor"]
            turns = theta * rope["original_max_position_embeddings"] / (2 * torch.pi)
            mixed = theta * (((turns - low) + (high - turns) / rope["factor"]) / (high - low))
            theta = torch.where(
                turns > high, theta, torch.where(turns < low, theta / rope["factor"], mixed)
            )
        self.theta = theta

    def forward(self, x, position_ids):
        angle = position_ids[..., None].double() * self.theta
        angle = torch.cat([angle, angle], dim=-1)
        return angle.cos().to(x.dtype), angle.sin().to(x.dtype)


def exact_norm(norm):
    """PyTorch's own norm, of the dtype of x. transformers' goes through float32."""
    return lambda x: torch.nn.functional.rms_norm(
        x, norm.weight.shape, norm.weight, norm.variance_epsilon
    )


def published(architecture: str, name: str, seed: int = 0, exact: bool = True):
    """transformers' model in float64, every parameter at random (its own start has zero biases and
    unit gains, which would hide a lost one). ``exact``: float64 all the way."""
    quiet = {"bos_token_id": None, "eos_token_id": None}
    # the attention of transformers itself ("eager") goes through float32 in Llama
    if architecture.startswith("Llama"):
        sizes = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2}
        sizes |= {"vocab_size": 31, "max_position_embeddings": 19, "intermediate_size": 22}
        config = transformers.LlamaConfig(**{**sizes, **quiet, **LLAMA[name]})
    elif architecture.startswith("Bert"):
        sizes = {"hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2}
        sizes |= {"vocab_size": 31, "max_position_embeddings": 19, "intermediate_size": 22}
        config = transformers.BertConfig(**{**sizes, **quiet, **BERT[name]})
    else:
        sizes = {"vocab_size": 31, "d_model": 12, "d_kv": 4, "d_ff": 14, "num_heads": 3}
        options = {"num_layers": 2, "decoder_start_token_id": 2, "pad_token_id": 1}
        config = transformers.T5Config(**{**sizes, **options, **quiet, **T5[name]})
    theirs = getattr(transformers, architecture)(config).double().eval()
    if architecture.startswith("T5") and not config.scale_decoder_outputs:  # as version 1.1 is
        theirs.lm_head.weight = torch.nn.Parameter(theirs.lm_head.weight.detach().clone())
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.from_numpy(0.4 * rng.standard_normal(tuple(parameter.shape))))
    return made_exact(theirs) if exact else theirs


def made_exact(theirs):
    for module in theirs.modules():
        if type(module).__name__ in ("LlamaRMSNorm", "T5LayerNorm"):
            module.forward = exact_norm(module)
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None  # else the row of the padding token gets no gradient
    if type(theirs).__name__.startswith("Llama"):
        theirs.model.rotary_emb = ExactRotary(theirs.config)
    return theirs


def kind_of(theirs):
    return next(each for each in PUBLISHED if each.architecture == type(theirs).__name__)


def ours_of(theirs, **changes):
    kind = kind_of(theirs)
    values = {**theirs.config.to_dict(), **changes}
    model = kind.model(checkpoints.config_from_hf(values, kind.layout), rng=0, dtype=np.float64)
    model.load_state_dict(from_hf_state(theirs.state_dict(), kind.layout))
    return model.eval()


def batch(theirs, seed: int = 1) -> tuple[dict, dict]:
    """Arguments of ours, and of theirs: sequences of odd lengths, with padding where it is known,
    and targets that do not count."""
    rng = np.random.default_rng(seed)
    V, T, S = theirs.config.vocab_size, 17, 11
    ids, targets = rng.integers(V, size=(2, 3, T))
    mask = np.arange(T) < np.array([[T], [5], [1]])
    targets[0, 1] = -100
    architecture = type(theirs).__name__
    if architecture.startswith("Llama"):
        return {"ids": ids, "targets": targets}, {"input_ids": ids}
    if architecture.startswith("T5"):
        targets = np.ascontiguousarray(targets[:, :S])
        common = {"attention_mask": mask}
        return {"ids": ids, "targets": targets, **common}, {
            "input_ids": ids, "labels": targets, **common,
        }  # fmt: skip
    types = rng.integers(theirs.config.type_vocab_size, size=(3, T))
    if architecture == "BertForSequenceClassification":
        targets = rng.integers(theirs.config.num_labels, size=3)
    elif architecture == "BertForTokenClassification":
        targets = np.where(targets >= 0, targets % theirs.config.num_labels, -100)
    ours = {"ids": ids, "targets": targets, "token_types": types, "attention_mask": mask}
    return ours, {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}


def outputs(ours, theirs):
    """Logits and loss of both."""
    arguments, arguments_ = batch(theirs)
    logits, loss = ours(**arguments)
    logits_ = theirs(**{k: torch.from_numpy(v) for k, v in arguments_.items()}).logits
    loss_ = torch.nn.functional.cross_entropy(
        logits_.reshape(-1, logits_.shape[-1]), torch.from_numpy(arguments["targets"]).reshape(-1)
    )
    return logits, loss, logits_, loss_


def worst_difference(ours, theirs, gradients: str = "loss") -> float:
    """Over logits, loss, and the gradient of every parameter; from the loss, or from a random
    cotangent of the logits, which no symmetry of the loss can hide from."""
    theirs.zero_grad()
    ours.zero_grad()
    logits, loss, logits_, loss_ = outputs(ours, theirs)
    if gradients == "loss":
        loss.backward()
        loss_.backward()
    else:
        cotangent = np.random.default_rng(2).standard_normal(logits.shape)
        logits.backward(cotangent)
        logits_.backward(torch.from_numpy(cotangent))
    want = from_hf_state(
        {n: p.grad.numpy() for n, p in theirs.named_parameters()}, kind_of(theirs).layout
    )
    got = {name: p.grad.data for name, p in ours.named_parameters()}
    assert got.keys() >= want.keys()
    pairs = [(logits.data, logits_.detach().numpy()), (loss.data, loss_.detach().numpy())]
    pairs += [(got[name], want[name]) for name in want]
    return max(np.abs(a - b).max() / max(1.0, np.abs(b).max()) for a, b in pairs)


@pytest.mark.parametrize("gradients", ["loss", "random cotangent"])
@each_case
def test_logits_loss_and_every_gradient(architecture, name, gradients):
    theirs = published(architecture, name)
    ours = ours_of(theirs)
    assert ours.num_parameters() == theirs.num_parameters()
    assert worst_difference(ours, theirs, gradients) <= TOLERANCE


@each_kind
def test_what_was_made_exact_is_the_same_model(architecture, name):
    """transformers as it is, with its float32 norms and angles: as near as float32 is."""
    theirs = published(architecture, name, exact=False)
    for module in theirs.modules():
        if isinstance(module, torch.nn.Embedding):
            module.padding_idx = None
    assert worst_difference(ours_of(theirs), theirs) < 1e-5


@each_kind
def test_float32_agrees_to_rounding(architecture, name):
    """The same weights in float32 on both sides: rounding of 6e-8 per operation, a few layers, sums
    of up to 30 terms. Ours lies as near the float64 values as PyTorch's does."""
    theirs = published(architecture, name)
    ours = ours_of(theirs)
    exact = outputs(ours, theirs)[2].detach().numpy()
    logits, _, logits_, _ = outputs(ours.astype(np.float32), theirs.float())
    assert logits.dtype == np.float32
    scale = np.abs(exact).max()
    assert np.abs(logits_.detach().numpy() - exact).max() / scale < 1e-5
    assert np.abs(logits.data - exact).max() / scale < 1e-5


# -- folders, both ways ----------------------------------------------------------------------------


@each_kind
def test_a_folder_that_transformers_wrote(architecture, name, tmp_path):
    theirs = published(architecture, name)
    theirs.save_pretrained(tmp_path)
    ours = load_pretrained(tmp_path, dtype=np.float64)
    assert type(ours) is kind_of(theirs).model
    assert not ours.training
    assert worst_difference(ours, theirs) <= TOLERANCE


@each_kind
def test_a_folder_that_transformers_reads(architecture, name, tmp_path):
    theirs = published(architecture, name)
    save_pretrained(ours_of(theirs), tmp_path / "saved")
    there, report = type(theirs).from_pretrained(
        tmp_path / "saved", dtype=torch.float64, output_loading_info=True
    )
    assert not any(report.values())
    for name_, value in theirs.state_dict().items():
        assert torch.equal(there.state_dict()[name_], value), name_
    assert worst_difference(ours_of(theirs), made_exact(there.eval())) <= TOLERANCE
    again = load_pretrained(tmp_path / "saved", dtype=np.float64)
    assert again.config == ours_of(theirs).config
    assert worst_difference(again, theirs) <= TOLERANCE


def test_gpt2_in_folders_both_ways(tmp_path):
    config = transformers.GPT2Config(
        vocab_size=31, n_positions=19, n_layer=2, n_head=3, n_embd=12,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_pretrained(tmp_path / "theirs")
    ids = np.random.default_rng(0).integers(31, size=(2, 19))
    want = theirs(torch.from_numpy(ids)).logits.detach().numpy()
    assert np.abs(ours(ids).data - want).max() < 1e-6  # logits below 1, in float32
    save_pretrained(ours, tmp_path / "ours")
    back = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours").eval()
    assert torch.equal(back(torch.from_numpy(ids)).logits, theirs(torch.from_numpy(ids)).logits)
    assert back.config.resid_pdrop == back.config.embd_pdrop == 0.1


def test_the_encoder_of_a_model_with_a_head(tmp_path):
    """BertModel alone, and cut out of a model with a head, whose names begin with "bert."."""
    theirs = published("BertForSequenceClassification", "three heads")
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, "architectures": ["BertModel"]}), encoding="utf-8")
    ours = load_pretrained(tmp_path, dtype=np.float64)
    assert type(ours) is models.BERT
    (tmp_path / "alone").mkdir()
    theirs.bert.save_pretrained(tmp_path / "alone")
    alone = load_pretrained(tmp_path / "alone", dtype=np.float64)
    _, arguments = batch(theirs)
    ids, types, mask = arguments.values()
    want = theirs.bert(**{k: torch.from_numpy(v) for k, v in arguments.items()})
    for model in (ours, alone):
        x = model(ids, token_types=types, attention_mask=mask)
        assert np.abs(x.data - want.last_hidden_state.detach().numpy()).max() < 1e-12
        pooled = want.pooler_output.detach().numpy()
        assert np.abs(model.pooler(x).data - pooled).max() < 1e-12
    save_pretrained(ours, tmp_path / "saved")
    back = transformers.BertModel.from_pretrained(tmp_path / "saved", dtype=torch.float64).eval()
    again = back(**{k: torch.from_numpy(v) for k, v in arguments.items()})
    assert (again.last_hidden_state - want.last_hidden_state).abs().max() < 1e-12


def test_bfloat16_and_several_files(tmp_path):
    """As large models are published: two bytes a number, and an index of the files."""
    theirs = published("LlamaForCausalLM", "three heads for each key").to(torch.bfloat16)
    theirs.save_pretrained(tmp_path, max_shard_size="5KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours = load_pretrained(tmp_path)
    for name, value in theirs.state_dict().items():
        assert np.array_equal(ours.state_dict()[name], value.float().numpy()), name


# -- where training starts -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "name"), [*KINDS, ("T5ForConditionalGeneration", "gated")]
)
def test_the_initial_distribution(architecture, name):
    """Mean and standard deviation of each weight as transformers starts it, within four times what
    so many draws leave open. (T5's table and output differ, and T5 says why.)"""
    torch.manual_seed(0)
    theirs = published(architecture, name)
    kind = kind_of(theirs)
    fresh = type(theirs)(theirs.config)
    want = from_hf_state(fresh.state_dict(), kind.layout)
    ours = kind.model(checkpoints.config_from_hf(theirs.config.to_dict(), kind.layout), rng=0)
    for weight, value in ours.state_dict().items():
        if architecture.startswith("T5") and weight in ("shared.weight", "lm_head.weight"):
            continue
        a, b = value.ravel(), want[weight].ravel()
        if not b.std():
            assert np.array_equal(a, b), weight
            continue
        n = len(a)
        assert abs(a.mean() - b.mean()) < 4 * b.std() * np.sqrt(2 / n), weight
        assert abs(np.log(a.std() / b.std())) < 4 * np.sqrt(1 / n), weight


# -- planted faults --------------------------------------------------------------------------------


def neighbors_turned(x, **options):
    return ops.rope(x, **{**options, "interleaved": True})


def turned_the_other_way(x, *, positions=None, **options):
    return ops.rope(x, **options, positions=-np.arange(x.shape[-2]))


def scaled_attention(q, k, v, *bias, **options):
    return ops.attention(q, k, v, *bias, **{**options, "scale": q.shape[-1] ** -0.5})


def attention_without_a_mask(q, k, v, *bias, **options):
    return ops.attention(q, k, v, *bias, **{**options, "mask": None})


def attention_that_sees_ahead(q, k, v, *bias, **options):
    return ops.attention(q, k, v, *bias, **{**options, "causal": False})


def attention_without_the_bias(q, k, v, *bias, **options):
    y, vjp = ops.attention(q, k, v, **options)
    return y, lambda dy: (*vjp(dy), *(np.zeros_like(b) for b in bias))


def norm_with_a_mean(x, weight, *, eps=1e-6):
    y, vjp = ops.layer_norm(x, weight, np.zeros_like(weight), eps=eps)
    return y, lambda dy: vjp(dy)[:2]


def other_gelu(x, *, approximate="none"):
    return ops.gelu(x, approximate="tanh" if approximate == "none" else "none")


def gate_on_the_other_side(a, b):
    y, vjp = ops.swiglu(b, a)
    return y, lambda dy: vjp(dy)[::-1]


LLAMA_, SCALED_, BERT_, T5_, GATED_ = (KINDS[i] for i in (0, 1, 2, 5, 6))
FAULTS = {
    "llama: pairs of neighbors": (LLAMA_, {"rope": neighbors_turned}),
    "llama: the gate on the other side": (LLAMA_, {"swiglu": gate_on_the_other_side}),
    "llama: no causal mask": (LLAMA_, {"attention": attention_that_sees_ahead}),
    "llama: a norm with a mean": (LLAMA_, {"rms_norm": norm_with_a_mean}),
    "bert: padding is read": (BERT_, {"attention": attention_without_a_mask}),
    "bert: the other gelu": (BERT_, {"gelu": other_gelu}),
    "t5: scaled scores": (T5_, {"attention": scaled_attention}),
    "t5: no relative bias": (T5_, {"attention": attention_without_the_bias}),
    "t5: padding is read": (T5_, {"attention": attention_without_a_mask}),
    "t5: a norm with a mean": (T5_, {"rms_norm": norm_with_a_mean}),
    "t5: the other gelu": (GATED_, {"gelu": other_gelu}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_op_is_caught(fault):
    kind, instead = FAULTS[fault]
    theirs = published(*kind)
    ours = ours_of(theirs)
    assert worst_difference(ours, theirs) <= TOLERANCE
    with scratchlm.use(**instead):
        assert worst_difference(ours, theirs) > 1e4 * TOLERANCE


def test_a_rotation_the_other_way_is_not_seen():
    """What no comparison of attention can tell: only the difference of two positions counts, and
    turned backwards it has the other sign, so this one must be seen."""
    theirs = published(*LLAMA_)
    with scratchlm.use(rope=turned_the_other_way):
        assert worst_difference(ours_of(theirs), theirs) > 1e4 * TOLERANCE


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (LLAMA_, {"rms_norm_eps": 1e-5}),
        (LLAMA_, {"rope_parameters": {"rope_theta": 10001.0}}),
        (BERT_, {"layer_norm_eps": 1e-7}),
        (T5_, {"layer_norm_epsilon": 1e-5}),
        (T5_, {"relative_attention_max_distance": 20}),
        (T5_, {"decoder_start_token_id": 3}),
        (GATED_, {"feed_forward_proj": "gated-silu"}),
        (SCALED_, {"rope_parameters": {"rope_type": "default", "rope_theta": 30.0}}),
    ],
)
def test_a_wrong_configuration_is_caught(kind, change):
    theirs = published(*kind)
    assert worst_difference(ours_of(theirs, **change), theirs) > 1e4 * TOLERANCE


def test_a_weight_of_another_place_is_caught():
    theirs = published(*LLAMA_)
    ours = ours_of(theirs)
    first, second = (ours.model.layers[i].mlp.up_proj.weight for i in (0, 1))
    with scratchlm.no_grad():
        first.copy_(second.data)
    assert worst_difference(ours, theirs) > 1e4 * TOLERANCE


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", T5)
def test_t5_writes_what_transformers_writes(name, beams):
    source = np.random.default_rng(3).integers(3, 31, (4, 7))
    source[1, 5:] = source[2, 3:] = 1  # padding
    tokens = set()
    for seed in range(3):
        theirs = published("T5ForConditionalGeneration", name, seed)
        with torch.no_grad():
            wanted = theirs.generate(
                torch.from_numpy(source), attention_mask=torch.from_numpy(source != 1),
                max_new_tokens=6, do_sample=False, num_beams=beams, eos_token_id=5,
                use_cache=False,  # their cache counts the layers of the encoder
            ).numpy()[:, 1:]  # fmt: skip
        write = ours_of(theirs).greedy if beams == 1 else ours_of(theirs).beam
        options = {} if beams == 1 else {"beams": beams}
        found = write(source, start_id=2, max_new_tokens=6, end_id=5, **options)
        for mine, other in zip(found, wanted, strict=True):
            n = list(mine).index(5) + 1 if 5 in mine else len(mine)
            assert mine[:n].tolist() == other[:n].tolist()
            assert (mine[n:] == 5).all()  # the end again; theirs fill up with padding
            assert (other[n:] == 1).all()
        tokens |= set(wanted.ravel())
    assert len(tokens) > 2
