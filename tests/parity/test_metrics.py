"""Metrics equal those of scikit-learn, sacrebleu, rouge-score and seqeval to 1e-9."""

import importlib
import logging
import math
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scratchlm import metrics
from scratchlm.metrics.translation import WESTERN

pytestmark = [
    pytest.mark.parity,
    # the referees warn where there is nothing to divide by
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
EXACT = 1e-9  # of scores up to 100, whose last digit is at 1e-14
many = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def same(mine, theirs):
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=EXACT)


# ---------------------------------------------------------------- classes

TAGS_OF_CLASSES = st.one_of(st.integers(0, 4), st.integers(0, 1))
pairs = st.lists(st.tuples(TAGS_OF_CLASSES, TAGS_OF_CLASSES), min_size=1, max_size=40)


CLASSES = (pairs, st.sampled_from([0.0, 1.0, math.nan]), st.booleans())


@many
@given(*CLASSES)
def test_classes(drawn, zero_division, names):
    sklearn = pytest.importorskip("sklearn.metrics")
    true, pred = (np.array(each) for each in zip(*drawn, strict=True))
    if names:
        true, pred = (np.array(["ant", "bee", "cat", "dog", "猫"])[each] for each in (true, pred))
    same(metrics.accuracy(true, pred), sklearn.accuracy_score(true, pred))
    same(metrics.confusion_matrix(true, pred), sklearn.confusion_matrix(true, pred))
    for average in (None, "micro", "macro", "weighted"):
        for labels in (None, [true[0]]):
            mine = metrics.precision_recall_f1(
                true, pred, average=average, labels=labels, zero_division=zero_division
            )
            theirs = sklearn.precision_recall_fscore_support(
                true, pred, average=average, labels=labels, zero_division=zero_division
            )
            same(mine[:3], theirs[:3])
            if average is None:
                same(mine.support, theirs[3])


@many
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1), st.integers(0, 1))
def test_two_classes(drawn, positive):
    sklearn = pytest.importorskip("sklearn.metrics")
    true, pred = zip(*drawn, strict=True)
    if positive not in {*true, *pred}:
        return  # scikit-learn refuses it
    options = {"average": "binary", "zero_division": 0.0}
    mine = metrics.precision_recall_f1(true, pred, positive=positive, **options)
    theirs = sklearn.precision_recall_fscore_support(true, pred, pos_label=positive, **options)
    same(mine[:3], theirs[:3])


# ---------------------------------------------------------------- texts

SENTENCE = """the cat The mat's sat, on 3.14 1,000 U.S. (well-known) e.g. don't - 4-5 "so" $5
50% &amp; &quot;x&quot; <skipped> a/b x_y running runs summaries generously . , ; :"""
ENGLISH = st.sampled_from(SENTENCE.split())
CHINESE = st.sampled_from(
    list("我们今天去看猫，。！？「」…—“”３Ａ々〇㊀𠀀") + ["天气", "语言模型", "3个"]
)
OTHER = st.sampled_from(
    ["🙂", "👍🏽", "👨‍👩‍👧", "é", "naïve", "¿qué?", "«a»", "½", "№5", "€3.50", "x²", "\u00a0", "ﬁ"]
)
ANY = st.text(st.characters(codec="utf-8", exclude_categories=["Cn", "Co"]), max_size=6)
words = st.one_of(ENGLISH, ENGLISH, CHINESE, OTHER, ANY)


@st.composite
def texts(draw):
    """A text: some words, often repeated, glued by spaces, nothing, or the ends of lines."""
    pieces = draw(st.lists(words, max_size=12))
    if pieces and draw(st.booleans()):
        pieces = [*pieces, *pieces[: draw(st.integers(1, 4))] * draw(st.integers(1, 3))]
    glue = st.sampled_from([" ", " ", " ", "", "  ", "\n", "-\n", "\t"])
    return "".join(piece + draw(glue) for piece in pieces)


@st.composite
def related(draw):
    """Two texts that share words, as a translation and its reference do."""
    text = draw(texts())
    other = draw(texts())
    if draw(st.booleans()):
        cut = draw(st.integers(0, len(text)))
        other = text[:cut] + other
    return text, other


SMOOTHING = st.sampled_from(
    [("exp", None), ("none", None), ("floor", None), ("floor", 0.3), ("add-k", None), ("add-k", 2)]
)


TRANSLATIONS = (
    st.lists(related(), min_size=1, max_size=4),
    st.sampled_from(["13a", "zh", "intl", "char", "none"]),
    SMOOTHING,
    st.sampled_from([4, 1, 2, 6]),
    st.booleans(),
    st.booleans(),
)


@settings(many, max_examples=500)
@given(*TRANSLATIONS)
def test_bleu(drawn, tokenize, smoothing, order, lowercase, effective):
    sacrebleu = pytest.importorskip("sacrebleu.metrics")
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    smooth, value = smoothing
    hypotheses, references = map(list, zip(*drawn, strict=True))
    second = references[1:] + references[:1]
    theirs = sacrebleu.BLEU(
        tokenize=tokenize,
        lowercase=lowercase,
        smooth_method=smooth,
        smooth_value=value,
        max_ngram_order=order,
        effective_order=effective,
    )
    options = {
        "tokenize": tokenize,
        "lowercase": lowercase,
        "smooth": smooth,
        "smooth_value": value,
        "max_order": order,
        "effective_order": effective,
    }
    one = metrics.bleu(hypotheses, references, **options)
    compare(one, theirs.corpus_score(hypotheses, [references]), smooth)
    both = metrics.bleu(hypotheses, list(zip(references, second, strict=True)), **options)
    compare(both, theirs.corpus_score(hypotheses, [references, second]), smooth)
    sentence = metrics.sentence_bleu(hypotheses[0], references[0], **options)
    compare(sentence, theirs.sentence_score(hypotheses[0], [references[0]]), smooth)


def compare(mine, theirs, smooth):
    same(mine.score, theirs.score)
    same(mine.precisions, theirs.precisions)
    same(mine.brevity_penalty, theirs.bp)
    assert (mine.hypothesis_length, mine.reference_length) == (theirs.sys_len, theirs.ref_len)
    if smooth != "add-k":  # there sacrebleu counts the added ones too
        assert list(mine.hits) == list(theirs.counts)
        assert list(mine.totals) == list(theirs.totals)


SUMMARIES = (related(), st.booleans(), st.lists(texts(), max_size=2))


@many
@given(*SUMMARIES)
def test_rouge(drawn, stemming, more):
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
    porter = pytest.importorskip("nltk.stem.porter")
    prediction, target = drawn
    kinds = ["rouge1", "rouge2", "rouge3", "rougeL", "rougeLsum"]
    referee = rouge_scorer.RougeScorer(kinds, use_stemmer=stemming)
    stem = porter.PorterStemmer().stem if stemming else None
    mine = metrics.rouge(prediction, target, kinds=kinds, stem=stem)
    theirs = referee.score(target, prediction)
    for kind in kinds:
        same(mine[kind][:3], theirs[kind])
    several = metrics.rouge(prediction, [target, *more], kinds=kinds, stem=stem)
    best = referee.score_multi([target, *more], prediction)
    for kind in kinds:
        same(several[kind].f1, best[kind].fmeasure)


# ---------------------------------------------------------------- entities

LENIENT = [
    "O",
    "B-PER",
    "I-PER",
    "B-LOC",
    "I-LOC",
    "E-PER",
    "S-LOC",
    "I",
    "B",
    "B-a-b",
    "I-a-b",
    "I-a",
]
STRICT = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "I", "B"]


def sentences(tags):
    tag = st.sampled_from(tags)
    return st.lists(st.lists(st.tuples(tag, tag), min_size=1, max_size=8), min_size=1, max_size=4)


TAGGED = (sentences(LENIENT), sentences(STRICT), st.sampled_from([0, 1]), st.booleans())


@many
@given(*TAGGED)
def test_entities(lenient, strict, zero_division, alike):
    seqeval = pytest.importorskip("seqeval.metrics")
    scheme = pytest.importorskip("seqeval.scheme")
    for drawn, how in (
        (lenient, {}),
        (strict, {}),
        (strict, {"mode": "strict", "scheme": scheme.IOB2}),
    ):
        true = [[pair[0] for pair in sentence] for sentence in drawn]
        pred = [[pair[i % 3 == 0 or not alike] for i, pair in enumerate(s)] for s in drawn]
        for average in ("micro", "macro", "weighted", None):
            theirs = seqeval_scores(seqeval, true, pred, average, zero_division, how)
            mine = metrics.entity_scores(
                true, pred, average=average, strict="mode" in how, zero_division=zero_division
            )
            if average is None:
                assert list(mine) == sorted(mine)
                assert len(mine) == len(theirs[0])
                if not mine:
                    continue
                mine = list(zip(*mine.values(), strict=True))[:3]
            elif np.isnan(theirs).any():
                continue  # no entity at all, and seqeval takes the mean of nothing
            same(np.asarray(mine[:3]), np.asarray(theirs)[: len(mine[:3])])


def seqeval_scores(seqeval, true, pred, average, zero_division, how):
    functions = (seqeval.precision_score, seqeval.recall_score, seqeval.f1_score)
    return [f(true, pred, average=average, zero_division=zero_division, **how) for f in functions]


# ---------------------------------------------------------------- each comparison finds faults


INPUTS = {
    test_classes: CLASSES,
    test_bleu: TRANSLATIONS,
    test_rouge: SUMMARIES,
    test_entities: TAGGED,
}
FAULTS = {
    "no dash rule": (test_bleu, "translation.TOKENIZERS", {"13a": lambda text: text.split()}),
    "ideographs alone": (test_bleu, "translation.CHINESE", re.compile("([\u4e00-\u9fa5])")),
    "apostrophe is a word": (
        test_bleu, "translation.WESTERN", (*WESTERN, (re.compile("(')"), r" \1 ")),
    ),
    "halves are not halved again": (
        test_bleu, "translation._precisions",
        lambda hits, totals, smooth, k: (
            [100 * (h or 0.5) / (t or 1) for h, t in zip(hits, totals, strict=True)], len(hits),
        ),
    ),
    "letters of all scripts": (
        test_rouge, "summary._words", lambda text, stem: re.findall(r"\w+", text.lower()),
    ),
    "the other path through the table": (
        test_rouge, "summary.common_places", lambda a, b: {i for i, w in enumerate(a) if w in b},
    ),
    "a dash ends the type": (
        test_entities, "tagging._parse",
        lambda tag, place, strict: (tag[0], tag[2:].split("-")[0] or "_" if tag != "O" else ""),
    ),
    "no F1 is undefined": (
        test_classes, "classification._divide",
        lambda a, b, zero_division: np.where(b == 0, 0.0, a / np.where(b == 0, 1, b)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_found(fault, monkeypatch):
    test, place, wrong = FAULTS[fault]
    module, name = place.split(".")
    module = importlib.import_module(f"scratchlm.metrics.{module}")
    wrong = {**getattr(module, name), **wrong} if isinstance(wrong, dict) else wrong
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(AssertionError):
        once(test)()


def once(test):
    """The same drawn inputs, but the first failure is enough: it is not made smaller."""
    quick = settings(many, max_examples=500, phases=[Phase.generate], database=None)
    return quick(given(*INPUTS[test])(test.hypothesis.inner_test))
