"""Files of models that were damaged, by chance or on purpose: a clear error, or a model; never a
crash, never more memory than the file can fill.
"""

from __future__ import annotations

import json
import random
import tracemalloc
import warnings

import pytest

from scratchlm.models import Llama, LlamaConfig, load_pretrained, save_pretrained

CONFIG = LlamaConfig(
    vocab_size=99, block_size=9, n_layer=2, n_head=4, n_kv_head=2, n_embd=32, n_inner=96
)
HEAD = 2500  # where names, sizes and places are, which say how the rest is read


def damaged(good: bytes, rng: random.Random) -> bytes:
    """Cut off, some bytes changed, eight set to extremes, some taken out or put in."""
    raw, place = bytearray(good), rng.randrange(min(len(good), HEAD))
    way = rng.randrange(5)
    if way == 0:
        return good[: rng.randrange(len(good))]
    if way == 1:
        for _ in range(rng.randint(1, 5)):
            raw[rng.randrange(min(len(good), HEAD))] = rng.randrange(256)
    elif way == 2:
        raw[place : place + 8] = bytes(rng.choice((0, 127, 128, 255)) for _ in range(8))
    elif way == 3:
        del raw[place : place + rng.randint(1, 40)]
    else:
        raw[place:place] = rng.randbytes(rng.randint(1, 30))
    return bytes(raw)


def refusal(source) -> str | None:
    """What is said of it, None if it was loaded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of options that are not known
            model = load_pretrained(source)
    except ValueError as error:
        return str(error)
    assert isinstance(model, Llama)
    return None


def refusals(path, source, times: int, seed: int) -> int:
    """How many of the damaged versions of the file at ``path`` are refused."""
    good = path.read_bytes()
    size = max(len(good), 4 * Llama(CONFIG, rng=0).num_parameters())
    rng = random.Random(seed)
    load_pretrained(source)  # what it imports is no part of the count
    refused = 0
    try:
        for _ in range(times):
            path.write_bytes(damaged(good, rng))
            tracemalloc.start()
            try:
                said = refusal(source)
            finally:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            assert said is None or said.startswith(f"load_pretrained: {source}")
            refused += said is not None
            assert peak < 2 * size + 1e6  # the weights as read, and in their places; and objects
    finally:
        path.write_bytes(good)
    return refused


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("safetensors")
    return save_pretrained(Llama(CONFIG, rng=0), tmp_path / "model")


def test_damaged_safetensors(folder):
    assert refusals(folder / "model.safetensors", folder, 200, seed=0) > 150


def test_damaged_configurations(folder):
    assert refusals(folder / "config.json", folder, 150, seed=1) > 100


def test_damaged_gguf(tmp_path):
    gguf = pytest.importorskip("gguf")
    model, path = Llama(CONFIG, rng=0), tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(9)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(96)
    names = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "mlp.up_proj": "ffn_up",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "mlp.gate_proj": "ffn_gate",
        "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
        "mlp.down_proj": "ffn_down", "model.layers": "blk", "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
    }  # fmt: skip
    for name, value in model.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert refusals(path, path, 200, seed=2) > 150


def test_extremes_in_a_configuration(folder):
    """Each value replaced by each of those that nobody would write."""
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    odd = [-1, 0, 10**30, 0.5, 1e308, float("nan"), float("inf"), "x", [], {}, None, True]
    refused = 0
    for name in values:
        for value in odd:
            path.write_text(json.dumps({**values, name: value}), encoding="utf-8")
            said = refusal(folder)
            assert said is None or said.startswith(f"load_pretrained: {folder}"), (name, value)
            refused += said is not None
    assert refused > len(values) * 4
