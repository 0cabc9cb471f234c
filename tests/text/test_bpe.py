import string
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.text import BPE, load_tokenizer
from scratchlm.text.bpe import byte_alphabet, merge
from scratchlm.text.pretokens import pretokens

TEXT = (
    "low low low low low lower lower newest newest newest newest newest newest widest widest widest"
)


@pytest.fixture(scope="module")
def small():
    text = TEXT + " 你好，世界！你好 for x in range(10): print(x) 👩‍👧 don't" * 3
    return BPE.train(text, 330, special_tokens=["<|endoftext|>", "<|end|>"])


def test_merges_by_hand():
    # es 9 and st 9, e is the lower id; then es-t 9, lo 7, lo-w 7; then 6 each: ew, n-ew, Ġ-low …
    bpe = BPE.train(TEXT, 256 + 6)
    made = [a + b for a, b in bpe.merges]
    assert made == ["es", "est", "lo", "low", "ew", "new"]
    assert [bpe.vocabulary[token] for token in made] == list(range(256, 262))


def test_ties_go_to_the_lower_ids():
    # "ab" and "cd" and "bc" twice each: ab first, then cd; bc is gone
    bpe = BPE.train("abcd abcd", 258, min_frequency=2)
    assert bpe.merges == [("a", "b"), ("c", "d")]
    # the order of the texts does not matter
    assert BPE.train(["cdxy", "ab", "cdxy", "ab"], 258).merges == [("a", "b"), ("c", "d")]


def test_overlapping_pairs_merge_from_the_left():
    bpe = BPE.train("aaaaa aaaaa", 257)
    assert bpe.merges == [("a", "a")]
    assert [bpe.token(i) for i in bpe.encode("aaaaa")] == [b"aa", b"aa", b"a"]
    # aa-a-b, where a-b has the lower ids; from the right it would be a-aa-b
    assert BPE.train("aaab aaab", 258).merges == [("a", "a"), ("a", "b")]


def test_a_rare_pair_is_not_merged():
    assert len(BPE.train("abab cd", 300, min_frequency=3)) == 256
    assert len(BPE.train("ab ab cd", 300, min_frequency=2)) == 257
    assert len(BPE.train("", 300)) == 256


def test_lowest_rank_first_then_leftmost():
    merges = {(1, 2): (0, 12), (2, 1): (1, 21), (12, 12): (2, 1212), (0, 12): (3, 99)}
    assert merge([2, 1, 2, 1], merges) == [2, 12, 1]  # (1, 2) wins over both (2, 1)
    assert merge([0, 1, 2, 1, 2, 1, 2], merges) == [0, 1212, 12]
    assert merge([5], merges) == [5]
    assert merge([], merges) == []


@given(st.lists(st.integers(0, 3), max_size=40), st.randoms(use_true_random=False))
def test_the_heap_does_what_the_definition_says(ids, random):
    pairs = [(a, b) for a in range(7) for b in range(7)]
    chosen = random.sample(pairs, 40)
    merges = {pair: (rank, random.randrange(4, 7)) for rank, pair in enumerate(chosen)}
    plain = list(ids)
    for _ in range(100):  # a merge that makes a known symbol again still shortens the word
        known = [(merges[p][0], i) for i, p in enumerate(pairwise(plain)) if p in merges]
        if not known:
            break
        _, place = min(known)
        plain[place : place + 2] = [merges[plain[place], plain[place + 1]][1]]
    assert merge(ids, merges) == plain


@given(st.text(max_size=60))
def test_nothing_is_lost(small, text):
    ids = small.encode(text)
    assert ids.dtype == np.int64
    assert small.decode(ids) == text
    assert small.decode(small.encode(text, special_tokens=False)) == text
    assert "".join(pretokens(text)) == text


@given(st.binary(max_size=60))
def test_broken_utf8(small, raw):
    text = raw.decode("utf-8", "replace")
    assert small.decode(small.encode(text)) == text
    # ids of bytes that are no text: as Python decodes them
    ids = [small.vocabulary[byte_alphabet()[byte]] for byte in raw]
    assert small.decode(ids) == text
    assert "".join(small.stream(ids)) == text


def test_a_stream_waits_for_whole_characters(small):
    ids = [small.vocabulary[byte_alphabet()[byte]] for byte in "é好!".encode()]
    assert list(small.stream(ids)) == ["", "é", "", "", "好", "!"]
    assert list(small.stream(ids[:-2])) == ["", "é", "", "", "�"]
    assert [small.token(i) for i in ids[:2]] == [b"\xc3", b"\xa9"]


def test_which_tokens_there_are(small):
    assert "Ġlow" in small
    assert "<|end|>" in small
    assert " low" not in small  # the space is written Ġ


def test_special_tokens(small):
    ids = small.encode("low<|end|>low <|endoftext|>")
    assert ids.tolist().count(0) == 1  # <|endoftext|>
    assert ids.tolist().count(1) == 1
    assert small.decode(ids, special_tokens=False) == "lowlow "
    plain = small.encode("low<|end|>", special_tokens=False)
    assert plain.min() > 1
    assert small.decode(plain) == "low<|end|>"


def test_the_longest_special_token_wins_and_takes_white_space_along():
    from scratchlm.text.added import AddedTokens

    added = AddedTokens({"<a>": 0, "<a><b>": 1, "<m>": 2}, lstrip=["<m>"], rstrip=["<m>"])
    assert list(added.split("x<a><b>y <m>\n z<a>")) == ["x", 1, "y", 2, "z", 0]
    assert list(added.split("")) == []
    later = AddedTokens({"ab": 0, "<a": 1}, later=["ab"])
    assert list(later.split("<ab")) == [1, "b"]


@pytest.mark.parametrize(
    ("text", "pattern", "pieces"),
    [
        ("I'll pay $12.5, no  ３４!", "gpt2",
         ["I", "'ll", " pay", " $", "12", ".", "5", ",", " no", " ", " ３４", "!"]),
        ("a  \n b", "gpt2", ["a", "  \n", " b"]),
        ("你好 été", "gpt2", ["你好", " été"]),
        ("a  12 b", "digit", ["a", "  ", "1", "2", " b"]),
        ("a 12 b", "digits", ["a", " ", "12", " b"]),
        ("it'S 1234\r\n x", "llama3", ["it", "'S", " ", "123", "4", "\r\n", " x"]),
        ("it'ſo 12", "qwen2", ["it", "'ſ", "o", " ", "1", "2"]),
        ("a \u3000b", "gpt2", ["a", " ", "\u3000", "b"]),  # another white space
        ("a\x1c b\x85c", "gpt2", ["a", "\x1c", " b", "\x85", "c"]),  # U+001C is no white space
    ],
)  # fmt: skip
def test_words(text, pattern, pieces):
    assert pretokens(text, pattern) == pieces


def test_letters_do_not_depend_on_the_version_of_python():
    # an ideograph of Unicode 15 and a digit of Unicode 16
    assert pretokens("a\U00031350b 1\U00010d45") == ["a\U00031350b", " 1\U00010d45"]


def test_long_words_cost_no_square():
    # quadratic merging would take 10^10 steps, and training 10^9
    word = "ab" * 50_000
    bpe = BPE.train(word, 256 + 16)
    ids = bpe.encode(word)
    assert len(ids) < 10
    assert bpe.decode(ids) == word


def test_a_space_before_the_text():
    bpe = BPE.train("a low a low a low", 262, special_tokens=["<s>"])
    spaced = BPE(bpe.vocabulary, bpe.merges, special_tokens={"<s>": 0}, add_prefix_space=True)
    np.testing.assert_array_equal(spaced.encode("low<s>low"), bpe.encode(" low<s> low"))
    np.testing.assert_array_equal(spaced.encode(" low"), bpe.encode(" low"))


def test_a_normal_form():
    bpe = BPE.train("é", 256)
    composed = BPE(bpe.vocabulary, [], form="NFC")
    assert composed.decode(composed.encode("e\u0301")) == "é"
    with pytest.raises(ValueError, match="no form 'NFX'"):
        BPE(bpe.vocabulary, [], form="NFX")


@pytest.mark.parametrize("pattern", ["gpt2", "digit", "digits", "llama3", "qwen2"])
def test_saved_and_loaded(tmp_path, pattern):
    text = "I'll pay 1234 coins, 你好！<|x|> ok\n\n" + string.printable
    bpe = BPE.train(text * 2, 300, special_tokens=["<|x|>"], pattern=pattern)
    (tmp_path / "t.json").write_text("what was there before")
    bpe.save(tmp_path / "t.json")
    for again in (BPE.load(tmp_path / "t.json"), load_tokenizer(tmp_path / "t.json")):
        assert again.as_dict() == bpe.as_dict()
        np.testing.assert_array_equal(again.encode(text), bpe.encode(text))
        assert again.decode(again.encode("a<|x|>b"), special_tokens=False) == "ab"
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]


def test_a_save_that_fails_leaves_the_file_before(tmp_path, small, monkeypatch):
    import json

    path = tmp_path / "t.json"
    small.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(json, "dump", lambda content, file, **_: file.write("{") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        small.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]


def test_errors(small):
    with pytest.raises(TypeError, match=r"needs a text \(str\), got bytes"):
        small.encode(b"low")
    with pytest.raises(ValueError, match=r"half a surrogate pair \(U\+D800\)"):
        small.encode("low \ud800")
    with pytest.raises(IndexError, match=r"outside \[0, "):
        small.decode([len(small)])
    with pytest.raises(TypeError, match="integers"):
        small.decode([0.5])
    with pytest.raises(IndexError, match="no token has the id -1"):
        small.token(-1)
    with pytest.raises(ValueError, match="no room for the 256 bytes"):
        BPE.train("low", 255)
    with pytest.raises(ValueError, match="no room"):
        BPE.train("low", 256, special_tokens=["<s>"])
    with pytest.raises(ValueError, match="twice"):
        BPE.train("low", 300, special_tokens=["<s>", "<s>"])
    with pytest.raises(TypeError, match="must be str, not bytes"):
        BPE.train([b"low"], 300)
    with pytest.raises(ValueError, match="no pattern 'gpt9'"):
        BPE.train("low", 300, pattern="gpt9")
    with pytest.raises(ValueError, match="no token for the byte 0x62"):
        BPE({"a": 0}, []).encode("ab")
    with pytest.raises(ValueError, match="stands for no byte"):
        BPE({"▁a": 0}, [])
    with pytest.raises(ValueError, match="merge 0 needs the token 'ab'"):
        BPE({"a": 0, "b": 1}, [("a", "b")])
    with pytest.raises(IndexError, match="no token has the id 1"):
        BPE({"a": 0, "b": 2}, []).decode([1])


def test_words_that_are_tokens_whatever_the_merges_say():
    base = BPE.train("x", 256).vocabulary
    vocabulary = base | {"ab": 256, "abc": 257}
    assert BPE(vocabulary, [("a", "b")]).encode("abc").tolist() == [256, base["c"]]
    assert BPE(vocabulary, [("a", "b")], whole_words=True).encode("abc").tolist() == [257]
