import pytest

from scratchlm.text import STOP_WORDS, remove_stop_words, split_words


def test_function_words_go_and_negations_stay():
    words = split_words("The film was not as good as it should be, and I've said so.")
    assert remove_stop_words(words) == ["film", "not", "good", ",", "said", "."]
    assert remove_stop_words(["这", "部", "电影", "不", "好", "看", "的"], "chinese") == [
        "部", "电影", "不", "好", "看",
    ]  # fmt: skip


def test_the_lists():
    for words in STOP_WORDS.values():
        assert len(words) > 100
        assert all(word == word.lower() == word.strip() for word in words)
    assert not STOP_WORDS["english"] & {"not", "no", "nor", "never", "n't", "without hope"}
    assert not STOP_WORDS["chinese"] & {"不", "没", "没有", "别"}
    assert all(0x4E00 <= ord(c) <= 0x9FFF for word in STOP_WORDS["chinese"] for c in word)


def test_errors():
    with pytest.raises(TypeError, match="needs a list of words"):
        remove_stop_words("the film")
    with pytest.raises(ValueError, match="no list for 'klingon'"):
        remove_stop_words([], "klingon")
