"""Every path is tried where a sentence is short enough: the best one must be the best."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.text import Lexicon, maximum_match

WORDS = {"研究": 5, "研究生": 3, "生命": 4, "命": 1, "起源": 2, "生": 2, "的": 9}
SENTENCE = "研究生命起源"


def every_path(text):
    if not text:
        yield []
    for stop in range(1, len(text) + 1):
        yield from ([text[:stop], *rest] for rest in every_path(text[stop:]))


def test_longest_match_from_both_ends():
    assert maximum_match(SENTENCE, WORDS) == ["研究生", "命", "起源"]
    assert maximum_match(SENTENCE, WORDS, direction="backward") == ["研究", "生命", "起源"]
    assert maximum_match(SENTENCE, WORDS, direction="both") == ["研究", "生命", "起源"]
    assert maximum_match("的x研究", set(WORDS), longest=1) == list("的x研究")
    assert maximum_match("", WORDS) == []
    with pytest.raises(ValueError, match="'sideways'"):
        maximum_match("a", WORDS, direction="sideways")


def test_both_prefers_fewer_words_then_fewer_single_ones_then_backward():
    assert maximum_match("abcd", {"abc", "bcd", "ab"}, direction="both") == ["a", "bcd"]
    # two words each: abc def has no single one, a bcdef has
    assert maximum_match("abcdef", {"abc", "def", "bcdef"}, direction="both") == ["abc", "def"]
    # a b and the rest, from both ends: ab cde, abc de
    assert maximum_match("abcde", {"abc", "de", "cde", "ab"}, direction="both") == ["ab", "cde"]


def test_the_graph():
    lexicon = Lexicon(WORDS)
    assert lexicon.edges(SENTENCE) == [[2, 3], [2], [3, 4], [4], [6], [6]]
    assert lexicon.edges("xy") == [[1], [2]]
    # as in jieba: where only longer words begin, the single character is no edge
    assert Lexicon({"abc": 1}).edges("abcab") == [[3], [2], [3], [4], [5]]


def test_the_best_path():
    lexicon = Lexicon(WORDS)
    words, log_p = lexicon.best_path(SENTENCE)
    assert words == ["研究", "生命", "起源"]
    assert log_p == pytest.approx(math.log(5 / 26) + math.log(4 / 26) + math.log(2 / 26))
    assert lexicon.best_path("") == ([], 0.0)
    assert lexicon.log_probability("源") == -math.log(26)  # no word: counts once
    # equally probable: the longer first word
    assert Lexicon({"ab": 2, "c": 2, "a": 2, "bc": 2}).best_path("abc")[0] == ["ab", "c"]


@given(
    st.text("abc", max_size=8),
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 50), min_size=1),
)
def test_no_path_is_better(text, counts):
    lexicon = Lexicon(counts)
    words, log_p = lexicon.best_path(text)
    assert "".join(words) == text
    edges = lexicon.edges(text)
    scores = []
    for path in every_path(text):
        place, allowed = 0, True
        for word in path:
            allowed &= place + len(word) in edges[place]
            place += len(word)
        if allowed:
            scores.append(math.fsum(map(lexicon.log_probability, path)))
    assert log_p == pytest.approx(max(scores), abs=1e-12)
    assert math.fsum(map(lexicon.log_probability, words)) == pytest.approx(log_p, abs=1e-12)


@given(
    st.text("abc d", max_size=30),
    st.sets(st.text("abc", min_size=1, max_size=4), min_size=1),
    st.sampled_from(["forward", "backward", "both"]),
)
def test_longest_match_of_any_text(text, words, direction):
    found = maximum_match(text, words, direction=direction)
    assert "".join(found) == text
    assert all(word in words or len(word) == 1 for word in found)


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text("研究生命起源a1+.\r\n 　，"))
def test_any_text_is_cut_without_a_loss(text):
    assert "".join(Lexicon(WORDS).cut(text)) == text


def test_what_is_no_chinese():
    lexicon = Lexicon(WORDS)
    assert lexicon.cut("GPT4研究，的\r\n 3.5!") == [
        "GPT4", "研究", "，", "的", "\r\n", " ", "3", ".", "5", "!",
    ]  # fmt: skip


def test_dictionaries(tmp_path):
    lexicon = Lexicon.from_words(["我", "研究", "研究", "生命"])
    assert (lexicon.counts["研究"], lexicon.total, len(lexicon), lexicon.longest) == (2, 4, 3, 2)
    assert "研究" in lexicon
    assert "研" not in lexicon
    assert maximum_match("我研究", lexicon) == ["我", "研究"]
    path = tmp_path / "dict.txt"
    path.write_text("研究 5 v\nAT&T 3\n研究 7 n\n废 0\n\n", encoding="utf-8")
    lexicon = Lexicon.from_file(path)
    assert lexicon.counts == {"研究": 7, "AT&T": 3}
    assert lexicon.total == 15  # as jieba counts: the last line of a word, the sum of all
    path.write_text("研究 5\n研究\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2: '研究' is no word and count"):
        Lexicon.from_file(path)
    for counts, about in (({}, "no words"), ({"": 1}, "''"), ({"a": -1}, "-1 times")):
        with pytest.raises(ValueError, match=about):
            Lexicon(counts)
    with pytest.raises(ValueError, match="total=2 is below"):
        Lexicon({"a": 3}, total=2)
    with pytest.raises(TypeError, match="segmented text"):
        Lexicon.from_words("研究")


def test_jieba_is_asked_for_by_name(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"scratchlm\[chinese\]"):
        Lexicon.jieba()
