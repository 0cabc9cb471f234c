"""Llama, BERT and T5 by themselves, and what is said of input, options and files that do not fit.
(Beside transformers': tests/parity/test_published_models.py.)
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest

import scratchlm
from scratchlm import models
from scratchlm.models import (
    BERT,
    GPT,
    T5,
    BERTConfig,
    BERTForMaskedLM,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    GPTConfig,
    Llama,
    LlamaConfig,
    T5Config,
    load_pretrained,
    save_pretrained,
)
from scratchlm.models.bert import Head
from scratchlm.models.gguf import in_halves

LLAMA = LlamaConfig(
    vocab_size=11, block_size=7, n_layer=2, n_head=4, n_kv_head=2, n_embd=8, n_inner=10
)
ENCODER = BERTConfig(
    vocab_size=11, block_size=7, n_layer=2, n_head=2, n_embd=6, n_inner=10, num_labels=3
)
TEXT = T5Config(vocab_size=11, n_layer=2, n_head=3, n_embd=8, head_dim=2, n_inner=10)
HEADS = [BERTForMaskedLM, BERTForSequenceClassification, BERTForTokenClassification]


def ids_of(*shape: int, seed: int = 0, size: int = 11) -> np.ndarray:
    return np.random.default_rng(seed).integers(size, size=shape)


# -- configurations --------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [LLAMA, ENCODER, TEXT], ids=lambda c: type(c).__name__)
def test_a_configuration_survives_json(config):
    again = type(config).from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.n_layer = 5
    name = type(config).__name__
    with pytest.raises(ValueError, match=f"{name} has no 'n_layers', 'width'; it has vocab_size"):
        type(config).from_dict({"n_layers": 3, "width": 3})


def test_a_wrong_configuration_names_every_reason():
    with pytest.raises(ValueError, match="n_layer=0 is below 1; n_head=0 is below 1; eps=0 is n"):
        LlamaConfig(n_layer=0, n_head=0, eps=0)
    with pytest.raises(ValueError, match="n_embd=10 does not split evenly into n_head=4 heads; h"):
        LlamaConfig(n_embd=10, n_head=4, n_kv_head=2)
    with pytest.raises(ValueError, match="n_head=4 can not share n_kv_head=3"):
        LlamaConfig(n_embd=8, n_head=4, n_kv_head=3)
    with pytest.raises(ValueError, match=r"low \(4\) must be below high \(2\)"):
        LlamaConfig(rope_scaling=(8, 4, 2, 100))
    with pytest.raises(ValueError, match="head_dim=3 is odd, and rotations turn pairs"):
        LlamaConfig(n_embd=12, n_head=4, n_kv_head=4)
    with pytest.raises(ValueError, match=r"activation='swish' is none of .*; dropout=1 lies outsi"):
        BERTConfig(activation="swish", dropout=1)
    with pytest.raises(ValueError, match="n_embd=768 does not split evenly into n_head=7 heads"):
        BERTConfig(n_head=7)
    with pytest.raises(ValueError, match="feed_forward='gelu' is none of relu, gated-gelu, "):
        T5Config(feed_forward="gelu")
    with pytest.raises(ValueError, match="pad_id=-1 is no id, from 0 to 32127"):
        T5Config(pad_id=-1)
    for kind in (LlamaConfig, BERTConfig, T5Config):
        for wrong in (1.5, "12", True, None):
            with pytest.raises(TypeError, match="n_layer is an integer, not"):
                kind(n_layer=wrong)
            with pytest.raises(TypeError, match="n_head is an integer, not"):
                kind(n_head=wrong)


def test_the_published_sizes():
    """The numbers of parameters that are published, from the shapes alone."""

    def count(V, L, C, inner, heads, kv_heads):
        kv = C * kv_heads // heads
        return V * C + L * (2 * C * C + 2 * C * kv + 3 * C * inner + 2 * C) + C

    assert count(49152, 30, 576, 1536, 9, 3) == 134_515_008  # SmolLM2-135M
    tiny = Llama(LLAMA, rng=0).num_parameters()
    assert tiny == count(11, 2, 8, 10, 4, 2)
    defaults = dataclasses.asdict(LlamaConfig())
    sizes = ("vocab_size", "n_layer", "n_embd", "n_inner", "n_head", "n_kv_head")
    assert count(*(defaults[name] for name in sizes)) == 134_515_008


# -- input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "named"),
    [(Llama(LLAMA, rng=0), "Llama"), (BERT(ENCODER, rng=0), "BERT")],
    ids=["llama", "bert"],
)
def test_bad_ids_are_named(model, named):
    with pytest.raises(ValueError, match=rf"{named}: ids .* hold 8 tokens, .* 1 to 7 \(block_size"):
        model(ids_of(2, 8))
    with pytest.raises(ValueError, match=rf"{named}: ids of shape \(2, 0\) hold no token"):
        model(np.zeros((2, 0), int))
    with pytest.raises(ValueError, match=rf"{named}: ids have shape \(1, 2, 3\); give \(T,\) or"):
        model(ids_of(1, 2, 3))
    with pytest.raises(IndexError, match=r"id 11 at index \(0,\) is outside \[0, 11\)"):
        model([11])
    with pytest.raises(IndexError, match="id -1"):
        model([-1])
    with pytest.raises(TypeError, match="ids must be integers"):
        model([0.5])


def test_bad_masks_and_types_are_named():
    model, ids = BERT(ENCODER, rng=0), ids_of(2, 5)
    with pytest.raises(ValueError, match=r"attention_mask has shape \(5,\), ids \(2, 5\): it says"):
        model(ids, attention_mask=np.ones(5, bool))
    with pytest.raises(TypeError, match="attention_mask is float64; it is boolean, or 1 and 0"):
        model(ids, attention_mask=np.ones((2, 5)))
    with pytest.raises(ValueError, match=r"token_types have shape \(2, 4\), ids \(2, 5\): each"):
        model(ids, token_types=np.zeros((2, 4), int))
    with pytest.raises(IndexError, match=r"id 2 at index \(0, 0\) is outside \[0, 2\)"):
        model(ids, token_types=np.full((2, 5), 2))


def test_what_t5_can_not_read_is_named():
    model = T5(TEXT, rng=0)
    with pytest.raises(ValueError, match=r"nothing for the decoder to read; give decoder_ids \(be"):
        model(ids_of(2, 5))
    with pytest.raises(ValueError, match=r"decoder_ids have shape \(3, 4\), the source became \(2"):
        model(ids_of(2, 5), ids_of(3, 4))
    with pytest.raises(ValueError, match=r"T5: decoder_ids: ids of shape .* hold no token"):
        model(ids_of(5), [])
    with pytest.raises(ValueError, match=r"attention_mask has shape \(2, 4\), ids \(2, 5\)"):
        model(ids_of(2, 5), ids_of(2, 4), attention_mask=np.ones((2, 4), int))
    with pytest.raises(IndexError, match="id 11"):
        model(ids_of(2, 5), [[11], [0]])


def test_one_sequence_equals_a_batch_of_one():
    ids, mask = ids_of(5), np.array([1, 1, 1, 0, 0])
    for model in (Llama(LLAMA, rng=0), BERT(ENCODER, rng=0).eval()):
        assert np.array_equal(model(ids).data, model(ids[None]).data[0])
        assert np.array_equal(model(ids.tolist()).data, model(ids).data)
    model = BERTForSequenceClassification(ENCODER, rng=0).eval()
    one = model(ids, attention_mask=mask).data
    assert one.shape == (3,)
    assert np.array_equal(one, model(ids[None], attention_mask=mask[None]).data[0])
    model = T5(TEXT, rng=0).eval()
    one = model(ids, ids_of(4), attention_mask=mask).data
    assert one.shape == (4, 11)
    assert np.array_equal(one, model(ids[None], ids_of(4)[None], attention_mask=[mask]).data[0])


def test_logits_of_some_places_are_those_of_all():
    """The places that are asked, and the loss and gradients of the whole."""
    rng = np.random.default_rng(0)
    ids, at = ids_of(3, 7), rng.random((3, 7)) < 0.3
    assert 0 < at.sum() < at.size
    targets = np.where(at, rng.integers(0, ENCODER.vocab_size, at.shape), -100)
    model = BERTForMaskedLM(ENCODER, rng=0, dtype=np.float64, std=0.3).eval()
    logits, loss = model(ids, targets)
    loss.backward()
    whole = {name: p.grad.data.copy() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    some, same = model(ids, targets[at], at=at)
    same.backward()
    assert some.shape == (at.sum(), ENCODER.vocab_size)
    # the same numbers up to the order in which products are summed
    np.testing.assert_allclose(some.data, logits.data[at], rtol=1e-12, atol=1e-13)
    assert same.item() == pytest.approx(loss.item(), rel=1e-13)
    for name, p in model.named_parameters():
        if name in whole:
            np.testing.assert_allclose(p.grad.data, whole[name], rtol=1e-9, atol=1e-12)
    other, _ = model(ids, targets[at], at=np.roll(at, 1, axis=1))
    assert not np.allclose(other.data, some.data)


def test_a_text_may_be_the_mean_of_its_tokens():
    sizes = dataclasses.replace(ENCODER, pooling="mean", num_labels=3)
    model = BERTForSequenceClassification(sizes, rng=0, dtype=np.float64, std=0.3).eval()
    ids, mask = ids_of(2, 6), np.array([[1, 1, 1, 1, 0, 0], [1] * 6])
    x = model.bert(ids, attention_mask=mask).data
    mean = np.stack([x[0, :4].mean(axis=0), x[1].mean(axis=0)])
    dense = model.bert.pooler.dense
    expected = np.tanh(mean @ dense.weight.data.T + dense.bias.data)
    expected = expected @ model.classifier.weight.data.T + model.classifier.bias.data
    logits = model(ids, attention_mask=mask).data
    np.testing.assert_allclose(logits, expected, rtol=1e-12)
    alone = model(ids[:1, :4]).data  # padding changes nothing
    np.testing.assert_allclose(logits[:1], alone, rtol=1e-12)
    first = BERTForSequenceClassification(
        dataclasses.replace(sizes, pooling="cls"), rng=0, dtype=np.float64, std=0.3
    ).eval()
    assert not np.allclose(first(ids, attention_mask=mask).data, logits)
    with pytest.raises(ValueError, match="pooling='max' is none of cls, mean"):
        BERTConfig(pooling="max")


# -- where training starts -------------------------------------------------------------------------


def test_the_first_loss_is_that_of_guessing():
    """ln V, or ln of the number of labels, within 2%: at the start nothing is likelier."""
    ids, targets = ids_of(4, 64, size=65), ids_of(4, 64, seed=1, size=65)
    sizes = {"vocab_size": 65, "n_layer": 4, "n_head": 4, "n_embd": 128, "n_inner": 256}
    llama = Llama(LlamaConfig(**sizes, n_kv_head=2, block_size=64), rng=0)
    assert llama(ids, targets)[1].item() == pytest.approx(math.log(65), rel=0.02)
    config = BERTConfig(**sizes, block_size=64, num_labels=5)
    loss = BERTForMaskedLM(config, rng=0)(ids, targets)[1].item()
    assert loss == pytest.approx(math.log(65), rel=0.02)
    loss = BERTForTokenClassification(config, rng=0)(ids, targets % 5)[1].item()
    assert loss == pytest.approx(math.log(5), rel=0.02)
    labels = np.arange(4)  # few texts, so each label counts: their mean is what is known
    loss = BERTForSequenceClassification(config, rng=0)(ids, labels)[1].item()
    assert loss == pytest.approx(math.log(5), rel=0.1)
    for options in ({}, {"tie_weights": False, "feed_forward": "gated-gelu"}):
        t5 = T5(T5Config(**sizes, head_dim=32, **options), rng=0)
        loss = t5(ids, targets=targets)[1].item()
        assert loss == pytest.approx(math.log(65), rel=0.02), options


def test_the_published_table_of_a_tied_t5_starts_far_from_guessing():
    sizes = {"vocab_size": 65, "n_layer": 4, "n_head": 4, "n_embd": 128, "n_inner": 256}
    t5 = T5(T5Config(**sizes, head_dim=32), rng=0, std=1.0)
    ids, targets = ids_of(4, 64, size=65), ids_of(4, 64, seed=1, size=65)
    assert t5(ids, targets=targets)[1].item() > math.log(65) + 0.5


# -- what they compute -----------------------------------------------------------------------------


def test_no_position_of_llama_sees_a_later_one():
    model, ids = Llama(LLAMA, rng=0, dtype=np.float64, std=0.5), ids_of(7)
    before = model(ids).data
    for t in range(7):
        changed = ids.copy()
        changed[t] = (ids[t] + 1) % 11
        after = model(changed).data
        assert np.array_equal(after[:t], before[:t])
        assert np.all(np.any(after[t:] != before[t:], axis=-1))


def test_bert_reads_both_sides_but_no_padding():
    model, ids = BERT(ENCODER, rng=0, dtype=np.float64, std=0.5).eval(), ids_of(7)
    mask = np.arange(7) < 5
    before = model(ids, attention_mask=mask).data
    for t in range(7):
        changed = ids.copy()
        changed[t] = (ids[t] + 1) % 11
        after = model(changed, attention_mask=mask).data
        assert np.any(after[:5] != before[:5], axis=-1).all() == (t < 5)
        assert np.array_equal(after[:5], before[:5]) == (t >= 5)
    # 4 sums in another order, at most
    assert np.allclose(before[:5], model(ids[:5]).data, rtol=0, atol=1e-13)


def test_the_decoder_of_t5_sees_the_source_and_what_it_wrote():
    model = T5(TEXT, rng=0, dtype=np.float64).eval()
    source, target = ids_of(6), ids_of(5, seed=1)
    mask = np.arange(6) < 4
    before = model(source, target, attention_mask=mask).data
    for t in range(5):
        changed = target.copy()
        changed[t] = (target[t] + 1) % 11
        after = model(source, changed, attention_mask=mask).data
        assert np.array_equal(after[:t], before[:t])
        assert np.all(np.any(after[t:] != before[t:], axis=-1))
    for s in range(6):
        changed = source.copy()
        changed[s] = (source[s] + 1) % 11
        after = model(changed, target, attention_mask=mask).data
        assert np.any(after != before, axis=-1).all() == (s < 4)
        assert np.array_equal(after, before) == (s >= 4)


def test_t5_reads_its_targets_shifted():
    model = T5(dataclasses.replace(TEXT, start_id=4, pad_id=9), rng=0).eval()
    targets = np.array([[3, 1, -100], [5, -100, -100]])
    shifted = model.shift_right(targets)
    assert shifted.tolist() == [[4, 3, 1], [4, 5, 9]]
    logits, loss = model(ids_of(2, 5), targets=targets)
    assert np.array_equal(logits.data, model(ids_of(2, 5), shifted).data)
    assert loss.item() == model(ids_of(2, 5), shifted, targets)[1].item()


def test_gradients_of_whole_models():
    """Every parameter against central differences, through the loss, at random weights."""
    ids, targets = ids_of(2, 5), ids_of(2, 5, seed=1)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    small = dataclasses.replace(LLAMA, n_layer=1)
    encoder = dataclasses.replace(ENCODER, n_layer=1, dropout=0.0, attention_dropout=0.0)
    gated = dataclasses.replace(TEXT, n_layer=1, dropout=0.0, feed_forward="gated-gelu")
    cases = [
        (Llama(small, rng=0, dtype=np.float64), {"ids": ids, "targets": targets}),
        (
            BERTForMaskedLM(encoder, rng=0, dtype=np.float64),
            {"ids": ids, "targets": targets, "attention_mask": mask},
        ),
        (
            T5(gated, rng=0, dtype=np.float64),
            {"ids": ids, "targets": targets, "attention_mask": mask},
        ),
    ]
    rng = np.random.default_rng(2)
    for model, arguments in cases:
        names = [name for name, _ in model.named_parameters()]
        values = [p.data + 0.3 * rng.standard_normal(p.shape) for p in model.parameters()]

        def loss(*tensors, model=model, names=names, arguments=arguments):
            tensors = dict(zip(names, tensors, strict=True))
            return scratchlm.nn.functional_call(model, tensors, **arguments)[1]

        scratchlm.assert_gradients(loss, *values, names=names)


def test_dropout_acts_in_training_only():
    ids = ids_of(2, 5)
    for model, arguments in [
        (Llama(dataclasses.replace(LLAMA, dropout=0.5), rng=0, std=0.5), {}),
        (BERT(ENCODER, rng=0), {}),
        (T5(TEXT, rng=0), {"decoder_ids": ids}),
    ]:
        assert not np.array_equal(model(ids, **arguments).data, model(ids, **arguments).data)
        model.eval()
        assert np.array_equal(model(ids, **arguments).data, model(ids, **arguments).data)
        assert len(model.rng_state()) == 1  # one generator, shared by all


def test_a_sentence_embedding_is_the_mean_of_its_tokens():
    model = BERT(ENCODER, rng=0, dtype=np.float64).eval()
    ids, mask = ids_of(3, 7), np.array([[1] * 7, [1] * 4 + [0] * 3, [0] * 7])
    x = model(ids, attention_mask=mask).data
    got = model.sentence_embeddings(ids, attention_mask=mask).data
    for i, n in enumerate((7, 4)):
        want = x[i, :n].mean(0)
        assert np.allclose(got[i], want / np.linalg.norm(want), rtol=0, atol=1e-15)
    assert not got[2].any()  # no token, no direction
    alone = model.sentence_embeddings(ids[1, :4]).data
    assert np.allclose(alone, got[1], rtol=0, atol=1e-14)


def test_a_cache_of_keys_and_values_changes_nothing():
    """In pieces of any size, alone and in a batch with padding on the left."""
    model, ids = Llama(LLAMA, rng=0, dtype=np.float64, std=0.5), ids_of(2, 7)
    want = model(ids).data
    with scratchlm.no_grad():
        for pieces in ([7], [1] * 7, [3, 1, 2, 1]):
            cache = scratchlm.nn.KVCache()
            parts = np.split(ids, np.cumsum(pieces)[:-1], axis=1)
            found = [model(part, cache=cache).data for part in parts]
            # the same sums, blocked differently by the matrix product
            assert np.allclose(np.concatenate(found, axis=1), want, rtol=0, atol=1e-13)
        cache = scratchlm.nn.KVCache([0, 3])
        shifted = np.stack([ids[0], np.concatenate([[5, 5, 5], ids[1, :4]])])
        model(shifted[:, :5], cache=cache)
        last = model(shifted[:, 5:], cache=cache, last_only=True).data
        assert last.shape == (2, 1, 11)
        assert np.allclose(last[:, 0], [want[0, 6], want[1, 3]], rtol=0, atol=1e-13)
        with pytest.raises(ValueError, match="1 tokens more than the 7 in the cache, and"):
            model([[1], [1]], cache=cache)


@pytest.mark.parametrize("cache", [True, False])
def test_llama_writes_with_generate(cache):
    """Beyond the longest sequence, too."""
    model = Llama(LLAMA, rng=0, std=0.5)
    ids = scratchlm.generate.generate(model, [1, 2], 9, greedy=True, cache=cache)
    assert ids.shape == (11,)
    for t in range(2, 11):
        assert ids[t] == model(ids[max(0, t - 7) : t]).data[-1].argmax()


# -- folders ---------------------------------------------------------------------------------------

MODELS = [
    GPT(GPTConfig(vocab_size=11, block_size=7, n_layer=2, n_head=2, n_embd=6), rng=0),
    Llama(LLAMA, rng=0),
    Llama(dataclasses.replace(LLAMA, tie_weights=False, bias=True, head_dim=6), rng=0),
    Llama(dataclasses.replace(LLAMA, rope_scaling=(8.0, 1.0, 4.0, 8192)), rng=0),
    BERT(ENCODER, rng=0),
    *(head(ENCODER, rng=0) for head in HEADS),
    T5(TEXT, rng=0),
    T5(dataclasses.replace(TEXT, tie_weights=False, feed_forward="gated-gelu"), rng=0),
]


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("safetensors")
    return save_pretrained(Llama(LLAMA, rng=0), tmp_path / "llama")


def configured(folder, **changes) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values = {k: v for k, v in {**values, **changes}.items() if v is not ...}
    path.write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_there_and_back(model, tmp_path):
    pytest.importorskip("safetensors")
    again = load_pretrained(save_pretrained(model, tmp_path / "deep" / "folder"))
    assert type(again) is type(model)
    assert again.config == model.config
    assert not again.training
    state, expected = again.state_dict(), model.state_dict()
    assert state.keys() == expected.keys()
    assert all(np.array_equal(state[name], expected[name]) for name in state)
    assert sorted(p.name for p in (tmp_path / "deep" / "folder").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_scratchlm_load_pretrained(folder):
    assert scratchlm.load_pretrained is load_pretrained
    assert type(scratchlm.load_pretrained(str(folder), dtype=np.float64)) is Llama


def test_older_names(folder):
    """Norms with gamma and beta, names without the family's prefix, tables that were never read."""
    safetensors = pytest.importorskip("safetensors.numpy")

    def renamed(model, change, **extra):
        save_pretrained(model, folder)
        path = folder / "model.safetensors"
        state = {change(n): v for n, v in safetensors.load(path.read_bytes()).items()}
        path.write_bytes(safetensors.save({**state, **extra}))
        again = load_pretrained(folder).state_dict()
        assert all(np.array_equal(again[n], v) for n, v in model.state_dict().items())

    def old(name):
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return name.replace("LayerNorm.bias", "LayerNorm.beta")

    heads = {
        "bert.pooler.dense.weight": np.ones((6, 6), np.float32),
        "cls.seq_relationship.weight": np.ones((2, 6), np.float32),
        "bert.embeddings.position_ids": np.arange(7)[None],
    }
    renamed(BERTForMaskedLM(ENCODER, rng=0), old, **heads)
    renamed(BERT(ENCODER, rng=0), lambda name: "bert." + name)
    renamed(
        Llama(LLAMA, rng=0),
        lambda name: name.removeprefix("model."),
        **{"layers.0.self_attn.rotary_emb.inv_freq": np.ones(1, np.float32)},
    )
    never = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    renamed(T5(TEXT, rng=0), str, **{never: np.ones((32, 3), np.float32)})


def test_older_configurations(folder):
    configured(folder, rope_parameters=..., rope_theta=77.0, head_dim=..., architectures=...)
    assert load_pretrained(folder).config == dataclasses.replace(LLAMA, rope_base=77.0)
    configured(folder, rope_scaling=None)
    load_pretrained(folder)


def test_what_does_not_fit_is_named(folder):
    configured(folder, num_hidden_layers=3)
    with pytest.raises(ValueError, match=r"layers\.2\.input_layernorm\.weight is missing"):
        load_pretrained(folder)
    configured(folder, num_hidden_layers=1)
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.up_proj\.weight is unknown"):
        load_pretrained(folder)
    configured(folder, num_hidden_layers=2, vocab_size=12)
    with pytest.raises(ValueError, match=r"shape \(12, 8\), the state \(11, 8\)"):
        load_pretrained(folder)
    configured(folder, vocab_size=11, hidden_act="gelu")
    with pytest.raises(ValueError, match="checkpoint has hidden_act='gelu', and Llama here has 's"):
        load_pretrained(folder)
    configured(folder, hidden_act=..., rope_scaling={"rope_type": "llama3", "factor": 8.0})
    configured(folder, rope_parameters=...)
    with pytest.raises(ValueError, match=r"rope_scaling=\(8.0, None, None, None\) is not four pos"):
        load_pretrained(folder)
    configured(folder, rope_scaling={"type": "yarn", "factor": 8.0})
    with pytest.raises(
        ValueError, match="has rope_type='yarn', and Llama here has 'default' or 'l"
    ):
        load_pretrained(folder)
    configured(folder, rope_scaling=..., sliding_window=4)
    with pytest.warns(UserWarning, match="has 'sliding_window', which nothing here reads"):
        load_pretrained(folder)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_sizes_beyond_the_file_take_no_memory(model, tmp_path):
    """Each size a trillion times too large: said, before an array of it is made."""
    pytest.importorskip("safetensors")
    save_pretrained(model, tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    # heads and positions that no array holds make a model no larger; other options are no sizes
    free = {"num_key_value_heads", "decoder_start_token_id", "pad_token_id"}
    free |= {"relative_attention_max_distance"}
    free |= {"max_position_embeddings"} if isinstance(model, Llama) else set()
    free |= {"n_head", "num_attention_heads"} if isinstance(model, GPT | BERT | Head) else set()
    sizes = [k for k, v in values.items() if type(v) is int and k not in free]
    assert len(sizes) >= 4
    for name in sizes:
        path.write_text(json.dumps({**values, name: values[name] * 10**12}), encoding="utf-8")
        with pytest.raises(ValueError, match=r"000 numbers, the weights are [\d,]+ in all"):
            load_pretrained(tmp_path)


def test_what_is_no_model_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder or file nowhere, and nothing that can"):
        load_pretrained("nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no config\.json; a model's folder holds con"):
        load_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is a file; give the folder"):
        load_pretrained(folder / "config.json")
    shutil.copytree(folder, tmp_path / "other")
    configured(tmp_path / "other", model_type="mamba")
    with pytest.raises(ValueError, match="type 'mamba'; models here are of gpt2, bert, t5, llama"):
        load_pretrained(tmp_path / "other")
    configured(folder, architectures=["LlamaForSequenceClassification"])
    with pytest.raises(ValueError, match="holds a LlamaForSequenceClassification; of 'llama' ther"):
        load_pretrained(folder)


def test_damaged_files_are_named(folder):
    weights, config = folder / "model.safetensors", folder / "config.json"
    good = weights.read_bytes()
    for raw in (b"", good[:-7], b"\xff" * 100, good[:50]):
        weights.write_bytes(raw)
        with pytest.raises(ValueError, match=r"model\.safetensors is no safetensors file"):
            load_pretrained(folder)
    weights.write_bytes(good)
    for text in ("", "{", "[" * 100_000):
        config.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"config\.json (is no JSON|has lists in lists)"):
            load_pretrained(folder)
    config.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="holds a list, not names"):
        load_pretrained(folder)


def test_a_pickle_is_not_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin is a pickle, which could run"):
        load_pretrained(folder)


def test_an_index_leads_nowhere_else(folder, tmp_path):
    (folder / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    for name in ("../elsewhere.safetensors", str(tmp_path / "elsewhere.safetensors"), 3):
        index = {"weight_map": {"model.norm.weight": name}}
        path = folder / "model.safetensors.index.json"
        path.write_text(json.dumps(index), encoding="utf-8")
        with pytest.raises(ValueError, match="names no files in this folder"):
            load_pretrained(folder)


def test_what_can_not_be_said_in_a_config(tmp_path):
    pytest.importorskip("safetensors")
    gpt = GPT(GPTConfig(11, 7, 1, 1, 4, bias=False), rng=0)
    with pytest.raises(ValueError, match=r"bias=False can't be said in a config\.json of gpt2"):
        save_pretrained(gpt, tmp_path)
    bert = BERT(dataclasses.replace(ENCODER, activation="softplus"), rng=0)
    with pytest.raises(ValueError, match="activation='softplus' can't be said"):
        save_pretrained(bert, tmp_path)
    with pytest.raises(TypeError, match="G2P has no published form; these have: GPT, BERT"):
        save_pretrained(models.G2P(4, 4, rng=0), tmp_path)
    assert not list(tmp_path.iterdir())


def test_rows_of_neighbors_become_rows_in_halves():
    """A rotation of neighbors on the stored rows is one of halves on the rows brought back."""
    rng = np.random.default_rng(0)
    heads, d, C, T = 3, 6, 5, 4
    stored, x = rng.standard_normal((heads * d, C)), rng.standard_normal((T, C))

    def turned(rows, interleaved):
        q = (x @ rows.T).reshape(T, heads, d).swapaxes(0, 1)
        return scratchlm.ops.rope(q, interleaved=interleaved)[0]

    back = in_halves(stored, heads)
    assert sorted(map(tuple, back)) == sorted(map(tuple, stored))
    want, got = turned(stored, True), turned(back, False)
    # the same scores, from features in another order
    assert np.allclose(want @ want.swapaxes(1, 2), got @ got.swapaxes(1, 2), rtol=0, atol=1e-13)
    assert np.array_equal(got, np.concatenate([want[..., ::2], want[..., 1::2]], axis=-1))
