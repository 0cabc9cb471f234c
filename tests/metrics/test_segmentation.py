import pytest

from scratchlm.data import segmented_sentences
from scratchlm.metrics import word_scores


def test_words_are_right_if_both_ends_are():
    true = [["研究", "生命", "起源"], ["好"]]
    pred = [["研究生", "命", "起源"], ["好"]]
    assert word_scores(true, pred) == (0.5, 0.5, 0.5, 4)
    assert word_scores([["a", "b", "c"]], [["a", "bc"]]) == (0.5, pytest.approx(1 / 3), 0.4, 3)
    assert word_scores(true, true).f1 == 1
    assert word_scores([[]], [[]], zero_division=1).f1 == 1


def test_the_same_word_at_another_place_does_not_count():
    assert word_scores([["a", "aa"]], [["aa", "a"]]).f1 == 0


def test_errors():
    with pytest.raises(ValueError, match="1 true and 2 segmented"):
        word_scores([["a"]], [["a"], ["b"]])
    with pytest.raises(ValueError, match="no sentence"):
        word_scores([], [])
    with pytest.raises(ValueError, match="sentence 0 is 'ab' and 'ac'"):
        word_scores([["a", "b"]], [["a", "c"]])
    with pytest.raises(TypeError, match="sentence 0 is a string"):
        word_scores([["a"]], ["a"])


def test_the_segmented_corpus():
    try:
        sentences = segmented_sentences()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert len(sentences) == 4354
    assert sentences[100] == ["图书馆", "在", "学校", "里边", "。"]
    assert sum(map(len, sentences)) == 27986
