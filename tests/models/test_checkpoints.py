"""The layout of published checkpoints."""

from __future__ import annotations

import numpy as np
import pytest

from scratchlm import Tensor
from scratchlm.models import GPT, GPTConfig, from_hf_state, gpt_config_from_hf, to_hf_state

CONFIG = GPTConfig(vocab_size=11, block_size=7, n_layer=2, n_head=2, n_embd=6)


def test_there_and_back():
    state = GPT(CONFIG, rng=0).state_dict()
    published = to_hf_state(state)
    assert published["transformer.h.0.attn.c_attn.weight"].shape == (6, 18)
    assert published["transformer.h.1.mlp.c_proj.weight"].shape == (24, 6)
    assert published["transformer.wte.weight"].shape == (11, 6)
    back = from_hf_state(published)
    assert back.keys() == state.keys()
    for name, value in state.items():
        assert np.array_equal(back[name], value), name


def test_a_square_weight_is_transposed_too():
    state = GPT(CONFIG, rng=0).state_dict()
    name = "transformer.h.0.attn.c_proj.weight"
    published = to_hf_state(state)
    assert np.array_equal(published[name], state[name].T)
    assert published[name].flags.c_contiguous  # safetensors would write a view in the wrong order


def test_files_without_the_prefix_and_with_mask_buffers():
    """The files as OpenAI first published them: no "transformer.", and each layer's causal mask."""
    state = GPT(CONFIG, rng=0).state_dict()
    published = {
        name.removeprefix("transformer."): Tensor(value)
        for name, value in to_hf_state(state).items()
    }
    published["h.0.attn.bias"] = np.tril(np.ones((1, 1, 7, 7)))
    published["h.0.attn.masked_bias"] = np.array(-1e4)
    model = GPT(CONFIG, rng=1)
    model.load_state_dict(from_hf_state(published))
    ids = np.arange(7)
    assert np.array_equal(model(ids).data, GPT(CONFIG, rng=0)(ids).data)


def test_sizes_and_options_of_a_config():
    values = {"vocab_size": 11, "n_positions": 7, "n_layer": 2, "n_head": 2, "n_embd": 6}
    assert gpt_config_from_hf({**values, "model_type": "gpt2"}) == CONFIG
    changed = gpt_config_from_hf({**values, "resid_pdrop": 0.1, "tie_word_embeddings": False})
    assert changed.dropout == 0.1
    assert changed.tie_weights is False
    with pytest.raises(ValueError, match="has activation_function='relu', and GPT here has 'gelu_"):
        gpt_config_from_hf({**values, "activation_function": "relu"})
