import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.text import WordVocab, load_tokenizer, normalize, split_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ａ１ ﬁn ２⁵", "A1 fin 25"),
        ("cafe\u0301", "café"),
        ("a\u3000 b\t\tc \r\n\r\n d ", "a b c\nd"),
        ("a\x00b\x1b\x85c\x7f", "abc"),
        ("", ""),
    ],
)
def test_normalize(text, expected):
    assert normalize(text) == expected


def test_what_is_normalised_can_be_chosen():
    assert normalize("ﬁ  É", "NFC", blanks=False) == "ﬁ  É"
    assert normalize("É", "NFD", lowercase=True) == "e\u0301"
    with pytest.raises(ValueError, match="no form 'NFX'"):
        normalize("a", "NFX")
    with pytest.raises(TypeError, match="got bytes"):
        normalize(b"a")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_normalising_again_changes_nothing(text, lowercase):
    once = normalize(text, lowercase=lowercase)
    assert normalize(once, lowercase=lowercase) == once
    assert unicodedata.is_normalized("NFKC", once)


def test_words_of_a_text():
    assert split_words("I'll pay $12,  你好。\n") == [
        "I",
        "'ll",
        "pay",
        "$",
        "12",
        ",",
        "你好",
        "。",
    ]


def test_the_frequent_words_have_ids():
    vocabulary = WordVocab(split_words("b a c a b d a"), size=4)
    assert vocabulary.words == ["<unk>", "a", "b", "c"]  # c and d occur once; c comes first
    ids = vocabulary.encode("a d b")
    np.testing.assert_array_equal(ids, [1, 0, 2])
    assert ids.dtype == np.int64
    assert vocabulary.decode(ids) == "a <unk> b"
    assert vocabulary.token(2) == "b"
    assert "d" not in vocabulary
    assert len(WordVocab(["bacabda"])) == 2
    assert WordVocab(list("bacabda"), min_frequency=2).words == ["<unk>", "a", "b"]
    assert WordVocab(["<unk>", "a"]).words == ["<unk>", "a"]
    assert vocabulary.encode(["c", "a"]).tolist() == [3, 1]
    assert vocabulary.decode([]) == ""


def test_saved_and_loaded(tmp_path):
    vocabulary = WordVocab(["你好", "a", "a"])
    vocabulary.save(tmp_path / "v.json")
    assert WordVocab.load(tmp_path / "v.json").words == vocabulary.words
    again = load_tokenizer(tmp_path / "v.json")
    assert isinstance(again, WordVocab)
    assert again.unknown == "<unk>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kind": "words", "words": []}, "not empty"),
        ({"kind": "words", "words": [1]}, "must be strings"),
        ({"kind": "words", "words": ["a", "a"]}, "a word twice"),
        ({"kind": "words"}, "has no 'words'"),
        ({"kind": "letters"}, "kind = 'letters'"),
    ],
)
def test_files_that_hold_something_else(tmp_path, content, message):
    (tmp_path / "v.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        WordVocab.load(tmp_path / "v.json")


def test_errors():
    with pytest.raises(TypeError, match="split_words"):
        WordVocab("a text")
    with pytest.raises(ValueError, match="no words"):
        WordVocab([])
    with pytest.raises(ValueError, match="size=0"):
        WordVocab(["a"], size=0)
    with pytest.raises(IndexError, match="outside"):
        WordVocab(["a"]).decode([2])
