import numpy as np
import pytest

from scratchlm.text import CharVocab


@pytest.mark.parametrize(
    "text", ["hello, world", "注意力 is all 你需要", "a\n\tb\0c", "\U0001f600é", "x", "\ud800 lone"]
)
def test_round_trip(text):
    vocabulary = CharVocab(text)
    ids = vocabulary.encode(text)
    assert ids.shape == (len(text),)
    assert ids.dtype == np.int64
    assert len(vocabulary) == len(set(text))
    assert ids.max() == len(vocabulary) - 1
    assert vocabulary.decode(ids) == text
    assert vocabulary.decode(ids.tolist()) == text


def test_ids_follow_the_code_points():
    vocabulary = CharVocab("cab文")
    assert vocabulary.characters == "abc文"
    np.testing.assert_array_equal(vocabulary.encode("文ab"), [3, 0, 1])
    assert "文" in vocabulary
    assert "d" not in vocabulary


def test_empty_text_is_no_ids():
    vocabulary = CharVocab("ab")
    assert vocabulary.encode("").shape == (0,)
    assert vocabulary.decode([]) == ""


@pytest.mark.parametrize(("text", "place"), [("abz", 2), ("!ab", 0), ("ab文a", 2), ("aZb", 1)])
def test_an_unknown_character_is_named(text, place):
    with pytest.raises(ValueError, match=f"character '{text[place]}' .* at index {place} is not"):
        CharVocab("abc").encode(text)


@pytest.mark.parametrize("ids", [[0, 3], [-1], np.array([7])])
def test_an_id_out_of_range(ids):
    with pytest.raises(IndexError, match=r"outside \[0, 3\)"):
        CharVocab("abc").decode(ids)


def test_ids_are_integers():
    with pytest.raises(TypeError, match="ids must be integers"):
        CharVocab("abc").decode(np.array([0.5]))


def test_saved_and_loaded(tmp_path):
    vocabulary = CharVocab("注意力 \n\"'\\")
    vocabulary.save(tmp_path / "vocabulary.json")
    assert CharVocab.load(tmp_path / "vocabulary.json").characters == vocabulary.characters


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": "bytes"}', '{"kind": "characters"}'])
def test_a_file_that_holds_no_vocabulary(tmp_path, content):
    (tmp_path / "v.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"v\.json holds no character vocabulary"):
        CharVocab.load(tmp_path / "v.json")


def test_no_text():
    with pytest.raises(ValueError, match="empty"):
        CharVocab("")
    with pytest.raises(TypeError, match="got bytes"):
        CharVocab(b"abc")
