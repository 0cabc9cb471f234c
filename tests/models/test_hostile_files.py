"""Files of models that were damaged, by chance or on purpose: a clear error, or a model; never a
crash, never more memory than the file can fill.
"""

from __future__ import annotations

import json
import random
import re
import tracemalloc
import warnings

import numpy as np
import pytest

from scratchlm.arrays import check_head
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


# ---------------------------------------------------------------- heads that are all there is


def listed(head: bytes) -> bytes:
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head


MANY = 2**19
TENSOR = b'"%x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
HEADS = {
    "tensors": b"{" + b",".join(TENSOR % i for i in range(MANY // 57)) + b"}",
    "metadata": b'{"__metadata__":{' + b",".join(b'"%x":""' % i for i in range(MANY // 9)) + b"}}",
    "axes": b'{"a":{"dtype":"U8","shape":[' + b"1," * (MANY // 2) + b'0],"data_offsets":[0,0]}}',
    "lists": b"[" * MANY,
}


def peak_of(source) -> int:
    """What is taken until the file is refused."""
    assert refusal(source).startswith(f"load_pretrained: {source}")
    tracemalloc.start()
    try:
        assert refusal(source)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", HEADS)
def test_the_head_of_a_safetensors_file(folder, kind):
    """It is refused before the package reads it, which takes 11 to 33 times as much."""
    raw = listed(HEADS[kind])
    (folder / "model.safetensors").write_bytes(raw)
    assert peak_of(folder) < 2 * len(raw) + 5e6


def test_thousands_of_small_tensors_can_be_read_again(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "many.safetensors"
    many = {f"transformer.layers.{i}.some.long.name.weight": np.ones(1) for i in range(3500)}
    safetensors.save_file(many, path)
    check_head(path)


def test_a_configuration_may_name_many_labels(folder):
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["id2label"] = {str(i): f"LABEL_{i}" for i in range(40_000)}
    values["label2id"] = {label: int(i) for i, label in values["id2label"].items()}
    path.write_text(json.dumps(values), encoding="utf-8")
    assert refusal(folder) is None


def test_a_configuration_that_fills_memory(folder):
    raw = b'{"a":[' + b"[]," * MANY + b"0]}"
    (folder / "config.json").write_bytes(raw)
    assert peak_of(folder) < 2 * len(raw) + 5e6


def text(content: bytes) -> bytes:
    return len(content).to_bytes(8, "little") + content


def number(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "little")


def gguf_file(tensors: int, values: int, rest: bytes) -> bytes:
    return b"GGUF" + number(3) + number(tensors, 8) + number(values, 8) + rest


def of_numbers(count: int, there: int) -> bytes:
    return gguf_file(0, 1, text(b"a") + number(9) + number(0) + number(count, 8) + b"\0" * there)


def one_in_another(times: int) -> bytes:
    tensors = (
        text(b"%d" % i) + number(1) + number(1000, 8) + number(0) + number(0, 8)
        for i in range(times)
    )
    return gguf_file(times, 0, b"".join(tensors) + b"\0" * 4032)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (of_numbers(2**60, 9), "more than it has bytes for"),
        (of_numbers(MANY, MANY), "of type None"),
        (
            gguf_file(
                0, 1, text(b"a") + number(9) + number(8) + number(10**5, 8) + text(b"ab") * 10**5
            ),
            "of type None",
        ),
        (
            gguf_file(0, 1, text(b"a") + number(9) + number(8) + number(2**60, 8)),
            "more than it has bytes for",
        ),
        (gguf_file(0, 2**60, text(b"a")), "at most 10000"),
        (gguf_file(10**9, 0, text(b"a")), "at most 10000"),
        (gguf_file(0, 1, text(b"a") + number(9) + number(9) + number(1, 8)), "a list of a kind 9"),
        (gguf_file(1, 0, text(b"a") + number(2**31) + b"\0" * 99), "axes"),
        (
            gguf_file(1, 0, text(b"a") + number(1) + number(2**63, 8) + b"\0" * 99),
            "more than it has bytes for",
        ),
        (one_in_another(50), "in one another"),
    ],
    ids=[
        "endless", "numbers", "texts", "endless texts", "values", "tensors", "lists", "axes",
        "large", "overlapping",
    ],
)  # fmt: skip
def test_the_head_of_a_gguf_file(tmp_path, raw, why):
    """Numbers stay in the file, of each text in a list are kept two; an endless list ends."""
    pytest.importorskip("gguf")
    path = tmp_path / "model.gguf"
    path.write_bytes(raw)
    assert peak_of(path) < 2 * len(raw) + 1e6
    assert re.search(why, refusal(path))
