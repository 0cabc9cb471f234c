"""Damaged and malicious ``tokenizer.json`` files: a clear error, or a tokenizer that works."""

import copy
import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from scratchlm.text import BPE, WordPiece, WordVocab, jsonfile, load_tokenizer
from scratchlm.text.jsonfile import ROOM, Unread, read_json, read_tokenizer

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
        # the tables of code points take 1 MB each, once
        assert peak < 4 * 2**20 + 2 * len(content) + ROOM
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
        (b"[" * 100_000, "lists in lists, 32 deep"),
        (b"[" * 9, "is no JSON"),
        (b'{"model": {}} {}', "is no JSON"),
        (b"[]", "must be dict, not list"),
        (b"{}", "has no 'model'"),
        (b'{"model": 1}', "must be dict, not int"),
        (b'{"model": {"type": ["BPE"]}}', "supported are BPE"),
        (b'{"model": {"vocab": {"a": ' + b"9" * 5000 + b"}}}", "a thousand digits"),
        (b'{"model": 1e' + b"9" * 30 + b"}", "is no JSON"),
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
    path.write_bytes(b"[" + b" " * 2**20 + b"]")
    with pytest.raises(ValueError, match="is larger than 1 MB"):
        load_tokenizer(path)


def test_too_many_added_tokens(tmp_path):
    listed = [{"id": 290 + i, "content": f"<{i}>"} for i in range(10_001)]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(broken("bpe", "added_tokens", value=listed)), encoding="utf-8")
    with pytest.raises(ValueError, match="at most 10000"):
        load_tokenizer(path)


# ---------------------------------------------------------------- memory

SIZE = 2**20


def repeated(before: bytes, item: bytes, after: bytes) -> bytes:
    return before + b",".join([item] * (SIZE // (len(item) + 1))) + after


def numbered(before: bytes, item: bytes, after: bytes) -> bytes:
    many = SIZE // (len(item) + 6)
    return before + b",".join(item % (i, i) for i in range(many)) + after


EVERYWHERE = {
    "open": b"[" * SIZE,
    "digits": b"9" * SIZE * 2,
    "blanks": b" " * SIZE * 2,
    "one text": b'["' + b"a" * SIZE * 2 + b'"]',
    "one wide text": ('["' + "a" * SIZE * 2 + '😀"]').encode(),
    "quotes": b'["' + b'\\"' * SIZE + b'"]',
    "zeros": repeated(b"[", b"0", b"]"),
    "lists": repeated(b"[", b"[]", b"]"),
    "objects": repeated(b"[", b"{}", b"]"),
    "full objects": repeated(b"[", b'{"a":{}}', b"]"),
    "floats": repeated(b"[", b"1e9", b"]"),
    "texts": repeated(b"[", b'"ab"', b"]"),
    "deep": repeated(b"[", b"[" * 30 + b"]" * 30, b"]"),
    "keys": numbered(b"{", b'"%x":%d', b"}"),
    "no merges": repeated(b'{"model":{"vocab":{"a":0,"b":1},"merges":[', b'["a","b"]', b"]}}"),
    "repeated tokens": repeated(b'{"model":{"vocab":{', b'"":0', b"}}}"),
    "lists for ids": repeated(b'{"model":{"vocab":{', b'"":[]', b"}}}"),
    "a wide vocabulary": b'{"model":{"vocab":{'
    + b",".join(b'"%s%d\xf0\x9f\x98\x80":%d' % (b"a" * 999, i, i) for i in range(SIZE // 1010))
    + b"}}}",
}


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_memory_of_what_is_no_tokenizer(tmp_path, kind):
    """Never more than twice the file and ``ROOM``; ijson's own 0.5 MB are in the last term."""
    path = tmp_path / "tokenizer.json"
    path.write_bytes(EVERYWHERE[kind])
    load = load_tokenizer
    with pytest.raises(ValueError):
        load(path)  # what it imports is no part of the count
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:
            load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(EVERYWHERE[kind]) + ROOM + 2**20
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["lists", "full objects"])
def test_it_is_the_count_that_keeps_memory_low(tmp_path, kind, monkeypatch):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(EVERYWHERE[kind])
    monkeypatch.setattr(jsonfile._Reading, "_take", lambda self, size: None)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError):
            load_tokenizer(path)
        assert tracemalloc.get_traced_memory()[1] > 15 * SIZE
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="the module resource is POSIX's")
def test_resident_memory(tmp_path):
    """What the process takes, Python's objects or not."""
    path, raw = tmp_path / "tokenizer.json", repeated(b"[", b"[]", b"]") * 8
    path.write_bytes(raw[: 6 * SIZE])
    script = """if True:
        import sys, ijson
        from resource import RUSAGE_SELF, getrusage
        from scratchlm.text import load_tokenizer
        before = getrusage(RUSAGE_SELF).ru_maxrss
        try:
            load_tokenizer(sys.argv[1])
        except ValueError:
            unit = 1 if sys.platform == "darwin" else 1024
            print(unit * (getrusage(RUSAGE_SELF).ru_maxrss - before))
    """
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 2 * 6 * SIZE + ROOM + 2 * 2**20


def vocabulary(size: int) -> dict:
    """Of pairs and more of letters, each made by one merge."""
    alphabet = sorted(KINDS["bpe"].vocabulary, key=len)[:256]
    tokens, merges = list(alphabet), []
    for token in tokens:
        if len(tokens) >= size:
            break
        for letter in alphabet[60:120][: size - len(tokens)]:
            tokens.append(token + letter)
            merges.append([token, letter])
    content = broken("bpe", "model", "vocab", value={t: i for i, t in enumerate(tokens)})
    content["model"]["merges"], content["added_tokens"] = merges, []
    return content


@pytest.mark.parametrize("way", ["pairs", "texts", "sorted"])
def test_memory_of_a_genuine_vocabulary(tmp_path, way):
    """As read, 256 bytes a token; the merges are not in memory, whatever their form."""
    content = vocabulary(20_000)
    merges = content["model"]["merges"]
    if way == "texts":
        content["model"]["merges"] = [" ".join(pair) for pair in merges]
    path = tmp_path / "tokenizer.json"
    # sorted: the merges come before the vocabulary
    path.write_text(json.dumps(content, sort_keys=way == "sorted"), encoding="utf-8")
    load_tokenizer(path)
    tracemalloc.start()
    try:
        read = read_tokenizer(path)
        assert tracemalloc.get_traced_memory()[1] < 256 * 20_000
    finally:
        tracemalloc.stop()
    assert isinstance(read["model"]["merges"], Unread)
    assert read["model"]["vocab"] == content["model"]["vocab"]
    assert load_tokenizer(path).merges == [tuple(pair) for pair in merges]


def test_many_added_tokens_can_be_read_again(tmp_path):
    plain = KINDS["bpe"]
    many = {f"<{i:04}>": 290 + i for i in range(9_999)}
    BPE(plain.vocabulary, plain.merges, special_tokens=many).save(tmp_path / "t.json")
    assert load_tokenizer(tmp_path / "t.json").added.ids == many


def test_many_words_can_be_read_again(tmp_path):
    words = [f"{i:05x}" for i in range(40_000)]
    WordVocab(words).save(tmp_path / "words.json")
    assert load_tokenizer(tmp_path / "words.json").words[1:] == words


@pytest.mark.parametrize(
    "content",
    [{}, [], "a", 1, 0.5, None, True, {"a": [{"b": "é\n\ud83d\ude00"}, [[]], -1, 1e300, 2**70]}],
)
def test_json_is_read_as_json_reads_it(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_json(path) == json.loads(path.read_text(encoding="utf-8"))
