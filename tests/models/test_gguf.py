"""Llama from GGUF files, small ones written here. (Real: tests/parity/test_real_weights.py.)"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scratchlm.models import Llama, LlamaConfig, load_pretrained
from scratchlm.nn import Parameter, layers

gguf = pytest.importorskip("gguf")

CONFIG = LlamaConfig(
    vocab_size=64, block_size=9, n_layer=2, n_head=4, n_kv_head=2, n_embd=32, n_inner=96
)
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def random_model(config=CONFIG) -> Llama:
    model = Llama(config, rng=0, std=0.5)
    rng = np.random.default_rng(1)
    state = {n: rng.standard_normal(v.shape) for n, v in model.state_dict().items()}
    model.load_state_dict(state)
    return model


def stored(model: Llama) -> dict[str, np.ndarray]:
    """Names and order of rows as llama.cpp writes them."""
    arrays = {}
    for name, value in model.state_dict().items():
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            part, _, kind = rest.rpartition(".")
            heads = {"attn_q": 4, "attn_k": 2}.get(NAMES[part])
            if heads is not None:  # the halves of each head, one row from each in turn
                d = len(value) // heads
                value = np.concatenate(
                    [
                        np.stack([head[: d // 2], head[d // 2 :]], axis=1).reshape(head.shape)
                        for head in np.split(value, heads)
                    ]
                )
            arrays[f"blk.{layer}.{NAMES[part]}.{kind}"] = value
        else:
            short = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
            arrays[f"{short[name.split('.')[-2]]}.weight"] = value
    return arrays


def write(path, arrays, *, architecture="llama", quantized=None, leave_out=(), **extra):
    writer = gguf.GGUFWriter(path, architecture)
    about = {
        "context_length": 9, "block_count": 2, "attention.head_count": 4,
        "attention.head_count_kv": 2, "embedding_length": 32, "feed_forward_length": 96,
    }  # fmt: skip
    for name, value in about.items():
        if name not in leave_out:
            writer.add_uint32(f"{architecture}.{name}", value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32(f"{architecture}.rope.freq_base", 100000.0)
    for name, value in extra.items():
        writer.add_string(f"{architecture}.{name.replace('__', '.')}", value)
    for name, value in arrays.items():
        if quantized is not None and value.ndim > 1:
            raw = gguf.quants.quantize(value, quantized)
            writer.add_tensor(name, raw, raw_dtype=quantized)
        else:
            writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    "options", [{}, {"tie_weights": False}, {"bias": True}], ids=["tied", "untied", "biases"]
)
def test_weights_come_back_in_their_places(options, tmp_path):
    model = random_model(dataclasses.replace(CONFIG, **options))
    again = load_pretrained(write(tmp_path / "model.gguf", stored(model)))
    assert dataclasses.replace(again.config, eps=1e-5) == model.config
    assert again.config.eps == np.float32(1e-5)  # as stored
    state = again.state_dict()
    for name, value in model.state_dict().items():
        assert np.array_equal(state[name], value), name
    assert not again.training


def test_no_weight_is_drawn_first(tmp_path, monkeypatch):
    model = random_model()
    path = write(tmp_path / "model.gguf", stored(model))

    def nowhere(shape, dtype):
        return Parameter(np.full(shape, np.nan, dtype))

    monkeypatch.setattr(layers, "_undrawn", nowhere)
    monkeypatch.delattr(layers, "_draw")
    state = load_pretrained(path).state_dict()
    assert all(np.array_equal(state[name], value) for name, value in model.state_dict().items())


def test_weights_of_eight_bits(tmp_path):
    model = random_model()
    path = write(tmp_path / "model.gguf", stored(model), quantized=gguf.GGMLQuantizationType.Q8_0)
    state = load_pretrained(path, dtype=np.float64).state_dict()
    for name, value in model.state_dict().items():
        assert state[name].dtype == np.float64
        step = np.abs(value).max() / 127 if value.ndim > 1 else 0  # and its scale in 16 bits
        assert np.abs(state[name] - value).max() <= 0.6 * step, name


def test_what_is_no_llama_is_named(tmp_path):
    arrays = stored(random_model())

    def refused(message, arrays=arrays, **options):
        with pytest.raises(ValueError, match=message):
            load_pretrained(write(tmp_path / "model.gguf", arrays, **options))

    refused("a model of type 'mamba'; from GGUF files, only 'llama'", architecture="mamba")
    refused("has no context_length", leave_out=["context_length"])
    refused(r"scaled rotary frequencies \(yarn\)", rope__scaling__type="yarn")
    refused(
        r"layers\.1\.mlp\.up_proj\.weight is missing",
        {n: v for n, v in arrays.items() if n != "blk.1.ffn_up.weight"},
    )
    refused(r"blk\.0\.more\.weight is unknown", {**arrays, "blk.0.more.weight": np.ones(3, "f4")})
    short = {**arrays, "blk.0.attn_q.weight": arrays["blk.0.attn_q.weight"][:-8]}
    refused(r"q_proj\.weight: the module has shape \(32, 32\), the state \(24, 32\)", short)


def test_damaged_files_are_named(tmp_path):
    path = write(tmp_path / "model.gguf", stored(random_model()))
    good = path.read_bytes()
    for raw in (b"", b"GGUF", good[:100], good[:-100], b"\0" * 100, good[:16] + b"\xff" * 100):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=r"model\.gguf is no GGUF file"):
            load_pretrained(path)
