"""Attention maps: a distribution for each position, over itself and what came before."""

from __future__ import annotations

import numpy as np
import pytest

import scratchlm
from scratchlm import is_grad_enabled, nn
from scratchlm.interpret import attention_maps, record_attention
from scratchlm.models import GPT, GPTConfig

CONFIG = GPTConfig(vocab_size=11, block_size=9, n_layer=3, n_head=2, n_embd=6, dropout=0.5)


def model_of(std: float = 0.5) -> GPT:
    return GPT(CONFIG, rng=0, dtype=np.float64, std=std)


@pytest.mark.parametrize("shape", [(), (4,)])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_rows_are_distributions_over_the_past(shape, length):
    ids = np.random.default_rng(1).integers(11, size=(*shape, length))
    maps = attention_maps(model_of(), ids)
    assert len(maps) == 3
    above = np.triu(np.ones((length, length), bool), k=1)
    for weights in maps:
        assert weights.shape == (*shape, 2, length, length)
        assert np.all(weights >= 0)
        assert not weights[..., above].any()
        assert np.allclose(weights.sum(-1), 1, rtol=0, atol=1e-14)
        assert length == 1 or weights.std() > 0.01


def test_they_are_the_weights_of_the_model():
    """Layer 1, written out from the weights."""
    model, ids = model_of(), np.arange(9)
    t = model.transformer
    x = t.wte.weight.data[ids] + t.wpe.weight.data
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    c_attn = t.h[0].attn.c_attn
    q, k, _ = np.split(x @ c_attn.weight.data.T + c_attn.bias.data, 3, axis=-1)
    for head, weights in enumerate(attention_maps(model, ids)[0]):
        part = slice(3 * head, 3 * head + 3)
        scores = q[:, part] @ k[:, part].T / np.sqrt(3)
        scores[np.triu_indices(9, 1)] = -np.inf
        want = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        assert np.allclose(weights, want, rtol=0, atol=1e-14)


def test_the_model_is_left_as_it_was():
    model = model_of()
    model.transformer.h[1].eval()
    modes = [module.training for module in model.modules()]
    rng = model.rng_state()
    attention_maps(model, np.arange(5))
    assert [module.training for module in model.modules()] == modes
    assert model.rng_state() == rng  # evaluation draws no random numbers
    assert is_grad_enabled()
    attends = [m for m in model.modules() if isinstance(m, nn.Attention)]
    assert [m.recorded for m in attends] == [None] * 3


def test_it_is_left_as_it_was_after_an_error_too():
    model = model_of()
    with pytest.raises(ValueError, match="block_size"):
        attention_maps(model, np.zeros(10, int))
    assert model.training
    assert model.transformer.h[0].attn.attend.recorded is None


def test_recording_follows_every_call_by_name():
    model = model_of()
    with record_attention(model) as maps:
        model(np.arange(5))
        model(np.arange(7))
        with record_attention(model) as inner:
            model(np.arange(3))
    assert list(maps) == [f"transformer.h.{i}.attn.attend" for i in range(3)]
    for calls in maps.values():
        assert [weights.shape for weights in calls] == [(2, 5, 5), (2, 7, 7)]
        # before dropout, so that rows sum to 1 in training mode too
        assert np.allclose(calls[0].sum(-1), 1, rtol=0, atol=1e-14)
    assert [len(calls) for calls in inner.values()] == [1, 1, 1]


def test_recording_changes_no_logit_and_no_gradient():
    model, twin = model_of(), model_of()
    ids, targets = np.arange(7), np.arange(7) + 1
    with record_attention(model):
        logits, loss = model(ids, targets)
        loss.backward()
    logits_, loss_ = twin(ids, targets)
    loss_.backward()
    assert np.array_equal(logits.data, logits_.data)
    for p, p_ in zip(model.parameters(), twin.parameters(), strict=True):
        assert np.array_equal(p.grad.data, p_.grad.data)


def test_a_model_without_attention_is_refused():
    with pytest.raises(ValueError, match=r"Linear holds no nn.Attention to record"):
        attention_maps(nn.Linear(2, 2), np.zeros((1, 2)))


def test_an_attention_without_weights_to_return_says_what_to_add():
    def students(q, k, v, *, causal=False):
        return scratchlm.ops.attention(q, k, v, causal=causal)

    model = model_of().eval()
    with scratchlm.use(attention=students):
        model(np.arange(5))
        with pytest.raises(TypeError, match="return_weights=True, but students takes no option"):
            attention_maps(model, np.arange(5))
    assert model.transformer.h[0].attn.attend.recorded is None


def test_maps_are_copies():
    model = model_of()
    first = attention_maps(model, np.arange(5))
    kept = [weights.copy() for weights in first]
    attention_maps(model, np.arange(5)[::-1].copy())
    assert all(np.array_equal(a, b) for a, b in zip(first, kept, strict=True))
