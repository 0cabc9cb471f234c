"""Damaged and malicious ``tokenizer.json`` files: a clear error, or a tokenizer that works."""

import copy
import json
import tracemalloc

import numpy as np
import pytest

from scratchlm.text import BPE, WordPiece, jsonfile, load_tokenizer

TEXT = "Ten low newest 12 <|end|> [MASK] 你好\n\ud7ff" + "aé" * 50
MUTANTS = 200

PAIRS = ["##e", "##w", "low", "new", "est", "ten", "1", "2", "你", "<", ">", "|", "a", "##é"]
KINDS = {
    "bpe": BPE.train("low lower newest widest 你好 " * 9, 290, special_tokens=["<|end|>"]),
    "wordpiece": WordPiece({t: i for i, t in enumerate(["[PAD]", "[UNK]", "[MASK]", *PAIRS])}),
}
EVIL = [
    None, True, -1, 0, 1, 2**31, 10**30, 0.5, 1e308, "", "a", "\ud800", "x" * 10_000, "(a+)+$", [],
    [[]], [["a", "b"]] * 1000, {}, {"a": 1}, {"type": "Sequence", "pretokenizers": []}, "BPE",
]  # fmt: skip


def mutants(tokenizer, count, seed):
    """JSON values exchanged, dropped and doubled; bytes changed, cut off and repeated."""
    rng = np.random.default_rng(seed)
    whole = tokenizer.as_dict()
    raw = json.dumps(whole).encode()
    for number in range(count):
        if number % 4:
            content = copy.deepcopy(whole)
            place: list = [None, content]
            while isinstance(place[-1], dict | list) and place[-1] and rng.random() < 0.85:
                holder = place[-1]
                keys = list(holder) if isinstance(holder, dict) else range(len(holder))
                key = keys[rng.integers(len(keys))]
                place = [holder, key, holder[key]]
            if len(place) == 3:
                if rng.random() < 0.2:
                    del place[0][place[1]]
                else:
                    place[0][place[1]] = EVIL[rng.integers(len(EVIL))]
            yield json.dumps(content).encode()
        else:
            damaged = bytearray(raw)
            if number % 8:
                damaged = damaged[: rng.integers(len(raw))]
            else:
                for place in rng.integers(len(raw), size=3):
                    damaged[place] = rng.integers(256)
            yield bytes(damaged)


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files(tmp_path, kind):
    path = tmp_path / "tokenizer.json"
    refused: list[str] = []
    for content in mutants(KINDS[kind], MUTANTS, seed=5):
        path.write_bytes(content)
        tracemalloc.start()
        try:
            tokenizer = load_tokenizer(path)
        except ValueError as error:
            refused.append(str(error))
        else:
            try:
                ids = tokenizer.encode(TEXT)
            except ValueError as error:  # a byte was taken out of the vocabulary
                assert "no token for the byte" in str(error)  # noqa: PT017
            else:
                assert isinstance(tokenizer.decode(ids), str)
                assert len(tokenizer) < 4 * len(KINDS[kind]) + 4
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        # the tables of code points take 1 MB each, once; Python's objects 10 times the JSON
        assert peak < 8 * 2**20 + 20 * len(content)
    assert len(refused) > MUTANTS // 4  # or they do no harm, and show nothing
    for message in refused:
        assert str(path) in message
        assert len(message) < len(str(path)) + 300


def broken(kind, *way, value):
    content = copy.deepcopy(KINDS[kind].as_dict())
    holder = content
    for key in way[:-1]:
        holder = holder[key]
    holder[way[-1]] = value
    return content


@pytest.mark.parametrize(
    ("kind", "way", "value", "message"),
    [
        ("bpe", ("model", "type"), "Unigram", "is 'Unigram'; supported are BPE"),
        ("bpe", ("model", "vocab"), {}, "vocab is empty"),
        ("bpe", ("model", "vocab", "a"), 10**12, "but has 290 tokens|the id 1000000000000"),
        ("bpe", ("model", "vocab", "a"), True, "no integer"),
        ("bpe", ("model", "vocab", "a"), 3, "two tokens the same id"),
        ("bpe", ("model", "merges", 0), "a", "merges 0 is no pair"),
        ("bpe", ("model", "merges", 0), ["a", "zz"], "needs the token 'zz'"),
        ("bpe", ("model", "dropout"), 0.1, "dropout = 0.1, which is not supported"),
        ("bpe", ("model", "byte_fallback"), True, "byte_fallback = True"),
        ("bpe", ("pre_tokenizer",), None, "must be dict, not NoneType"),
        ("bpe", ("pre_tokenizer", "type"), "Whitespace", "only byte-level BPE"),
        ("bpe", ("normalizer",), {"type": "Lowercase"}, "type = 'Lowercase'"),
        ("bpe", ("added_tokens", 0, "content"), "", "is empty"),
        ("bpe", ("added_tokens", 0, "id"), 10**12, "can't be"),
        ("bpe", ("added_tokens", 0, "content"), "<|other|>", "the id of another token"),
        ("bpe", ("added_tokens", 0, "single_word"), True, "single_word = True"),
        ("bpe", ("added_tokens",), {}, "must be list, not dict"),
        ("wordpiece", ("model", "max_input_chars_per_word"), 10**9, "outside 1 to 256"),
        ("wordpiece", ("model", "unk_token"), "gone", "no such piece"),
        ("wordpiece", ("model", "vocab", "low"), [], "no integer"),
        ("wordpiece", ("normalizer", "lowercase"), "yes", "lowercase = 'yes'"),
        ("wordpiece", ("pre_tokenizer", "type"), "Whitespace", "type = 'Whitespace'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, kind, way, value, message):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(broken(kind, *way, value=value)), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        load_tokenizer(path)
    assert str(path) in str(caught.value)


def test_a_pattern_out_of_a_file_is_not_run(tmp_path):
    # this one takes Python's `re` 2^50 steps on TEXT
    split = {"type": "Split", "pattern": {"Regex": "(a|a|aé)*$!"}, "behavior": "Isolated"}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    steps = {"type": "Sequence", "pretokenizers": [split, level]}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(broken("bpe", "pre_tokenizer", value=steps)), encoding="utf-8")
    with pytest.raises(ValueError, match="a pattern that is not known here"):
        load_tokenizer(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON"),
        (b"\xff\xfe{}", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "must be dict, not list"),
        (b"{}", "has no 'model'"),
        (b'{"model": 1}', "must be dict, not int"),
        (b'{"model": {"type": ["BPE"]}}', "supported are BPE"),
        (b'{"model": {"vocab": {"a": ' + b"9" * 5000 + b"}}}", "is no JSON"),
    ],
)  # fmt: skip
def test_no_tokenizer_at_all(tmp_path, content, message):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_tokenizer(path)


def test_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonfile, "LARGEST", 2**20)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b" " * 2**20 + b"{}")
    with pytest.raises(ValueError, match="is larger than 1 MB"):
        load_tokenizer(path)


def test_too_many_added_tokens(tmp_path):
    listed = [{"id": 290 + i, "content": f"<{i}>"} for i in range(10_001)]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(broken("bpe", "added_tokens", value=listed)), encoding="utf-8")
    with pytest.raises(ValueError, match="at most 10000"):
        load_tokenizer(path)
