"""Segmentation is jieba's, word for word; stems are snowballstemmer's."""

import random
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm.data import load, locate, segmented_sentences
from scratchlm.metrics import word_scores
from scratchlm.text import Lexicon, split_words, stem

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def jieba():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its patterns are no raw strings, it asks pkg_resources
        jieba = pytest.importorskip("jieba")
    jieba.setLogLevel("WARNING")
    jieba.initialize()
    return jieba


@pytest.fixture(scope="module")
def lexicon(jieba):
    return Lexicon.jieba()


def same(lexicon, jieba, text):
    assert lexicon.cut(text) == list(jieba.cut(text, HMM=False))


def test_the_dictionary(lexicon, jieba):
    assert lexicon.total == jieba.dt.total
    assert lexicon.counts == {word: n for word, n in jieba.dt.FREQ.items() if n}


@pytest.mark.parametrize("text", [
    "南京市长江大桥", "研究生命起源", "结婚的和尚未结婚的", "他说的确实在理", "乒乓球拍卖完了",
    "GPT-4 有 1.8 万亿参数？\r\n AT&T和B超，c++100%\t　a_b", "㐀𠀀鿕鿖〇々", "", " ", "aaa111你",
    "e\u0301 Ａ１ ﬁ", "了" * 300,
])  # fmt: skip
def test_texts(lexicon, jieba, text):
    same(lexicon, jieba, text)


def test_hsk(lexicon, jieba):
    try:
        sentences = segmented_sentences()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    for words in sentences:
        same(lexicon, jieba, "".join(words))
    found = word_scores(sentences, [lexicon.cut("".join(words)) for words in sentences])
    assert found.f1 == pytest.approx(0.8783, abs=5e-5)


# what is likely in Chinese, so that words are found, and the edges of jieba's patterns
characters = st.sampled_from(
    "的一是不了人我在有他这中大来上国学生研究生命起源北京市长江大桥中国人民银行"
)
marks = st.sampled_from("aZ9+#&._%- \r\n\t\u3000\x85\x1c，。鿕鿖㐀")


@settings(max_examples=2000)
@given(
    st.text(characters | marks, max_size=40)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF))
)
def test_any_text(lexicon, jieba, text):
    same(lexicon, jieba, text)


@settings(max_examples=500)
@given(
    st.text("abc", max_size=20),
    st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(0, 9), min_size=1),
)
def test_any_dictionary(jieba, text, counts):
    """Ties, words of no count, prefixes that are no words."""
    if not any(counts.values()):
        counts["a"] = 1
    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ = {word[:n]: 0 for word in counts for n in range(1, len(word))} | counts
    tokenizer.total, tokenizer.initialized = sum(counts.values()), True
    # its own letters are put together again: ask for the path
    graph, route = tokenizer.get_DAG(text), {}
    tokenizer.calc(text, graph, route)
    ours, log_p = Lexicon(counts).best_path(text)
    place, theirs = 0, []
    while place < len(text):
        theirs.append(text[place : route[place][1] + 1])
        place = route[place][1] + 1
    assert ours == theirs
    assert log_p == route[0][0]


# ------------------------------------------------------------------ stems


@pytest.fixture(scope="module")
def porter():
    return pytest.importorskip("snowballstemmer").stemmer("porter")


def test_stems_of_a_text(porter):
    words = {word for word in split_words(load("topics").lower()) if word.isalpha()}
    assert len(words) > 2000
    for word in words:
        assert stem(word) == porter.stemWord(word)


def test_stems_of_a_dictionary(porter):
    try:
        path = locate("cmudict") / "cmudict.dict"
    except FileNotFoundError as error:
        pytest.skip(str(error))
    words = {line.split()[0] for line in path.read_text(encoding="utf-8").splitlines()}
    words = {word for word in words if word.isascii() and word.isalpha()}
    assert len(words) > 100_000
    assert [w for w in words if stem(w) != porter.stemWord(w)] == []


def test_stems_of_no_words(porter):
    draw = random.Random(0)
    endings = ("", "ed", "ing", "eed", "s", "ies", "y", "ly", "e", "ll", "ational", "ion", "ement")
    for _ in range(20_000):
        word = "".join(draw.choices("aeioybsltzngdmkv", k=draw.randrange(1, 9)))
        word += draw.choice(endings)
        assert stem(word) == porter.stemWord(word)
