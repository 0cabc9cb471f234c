"""n-gram models against dictionaries and loops, written from the formulas alone."""

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm import metrics
from scratchlm.models import NGram, bigram_loss

EXACT = {"rtol": 1e-12, "atol": 1e-15}  # sums of at most n terms, each below 1
KINDS = [
    {"smoothing": "mle"},
    {"smoothing": "add-k"},
    {"smoothing": "add-k", "k": 2.5},
    {},
    {"discount": 0.75},
    {"discount": 1},
    {"discount": "modified"},
]
few = settings(max_examples=60, deadline=None)


def grams(text, m):
    return [tuple(text[i : i + m]) for i in range(len(text) - m + 1)]


def slow_counts(text, n, m, smoothing):
    """How often each m-gram occurs; or, for Kneser–Ney and m < n, after how many tokens."""
    count = defaultdict(int)
    if smoothing == "kneser-ney" and m < n:
        before = defaultdict(set)
        for gram in grams(text, m + 1):
            before[gram[1:]].add(gram[0])
        for gram, tokens in before.items():
            count[gram] = len(tokens)
    else:
        for gram in grams(text, m):
            count[gram] += 1
    return count


def slow_discount(count, discount):
    """A function of a count."""
    if isinstance(discount, (int, float)):
        return lambda c: discount if c else 0
    n = [sum(c == j for c in count.values()) for j in range(5)]
    if discount is None:
        d = n[1] / (n[1] + 2 * n[2]) if n[1] and n[2] else 0.5
        return lambda c: d if c else 0
    ds = [0.0, 0.5, 1.0, 1.5]
    if all(n[1:]):
        y = n[1] / (n[1] + 2 * n[2])
        found = [0.0] + [j - (j + 1) * y * n[j + 1] / n[j] for j in (1, 2, 3)]
        if all(0 <= d <= j for j, d in enumerate(found)):
            ds = found
    return lambda c: ds[min(c, 3)]


def slow(text, n, V, context, *, smoothing="kneser-ney", k=0.1, discount=None):
    """``[p(w | context) for w in range(V)]``."""
    context = tuple(context)[max(0, len(context) - n + 1) :]
    m = len(context) + 1
    count = slow_counts(text, n, m, smoothing)
    total = sum(c for gram, c in count.items() if gram[:-1] == context)
    if smoothing == "add-k":
        return [(count.get((*context, w), 0) + k) / (total + k * V) for w in range(V)]
    options = {"smoothing": smoothing, "discount": discount}
    shorter = slow(text, n, V, context[1:], **options) if context else [1 / V] * V
    if total == 0:
        return shorter
    if smoothing == "mle":
        return [count.get((*context, w), 0) / total for w in range(V)]
    d = slow_discount(count, discount)
    left = sum(d(c) for gram, c in count.items() if gram[:-1] == context) / total
    return [
        (count.get((*context, w), 0) - d(count.get((*context, w), 0))) / total + left * shorter[w]
        for w in range(V)
    ]


@st.composite
def texts(draw):
    V = draw(st.integers(1, 5))
    n = draw(st.integers(1, 5))
    ids = st.integers(0, V - 1)
    text = draw(st.lists(ids, min_size=n, max_size=40))
    other = draw(st.lists(ids, min_size=n, max_size=12))
    return V, n, text, other


@few
@given(texts(), st.sampled_from(KINDS))
def test_probabilities_equal_the_loops_and_sum_to_one(drawn, kind):
    V, n, text, other = drawn
    model = NGram(text, n, V, **kind)
    for end in range(len(other)):
        p = model.next_token_probabilities(other[:end])
        np.testing.assert_allclose(p, slow(text, n, V, other[:end], **kind), **EXACT)
        assert p.sum() == pytest.approx(1, rel=1e-12)
        assert (p >= 0).all()
        if kind.get("smoothing") == "add-k":
            assert (p > 0).all()


@few
@given(texts(), st.sampled_from(KINDS))
def test_loss_is_that_of_the_probabilities(drawn, kind):
    V, n, text, other = drawn
    model = NGram(text, n, V, **kind)
    each = model.token_losses(other)
    p = [model.next_token_probabilities(other[:t])[other[t]] for t in range(n - 1, len(other))]
    np.testing.assert_allclose(np.exp(-each), p, **EXACT)
    assert model.loss(other) == each.mean()
    assert model.perplexity(other) == metrics.perplexity(each.mean())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_text_with_many_counts(kind):
    """400 tokens of 6: all discounts are estimated, and none is a stand-in."""
    rng = np.random.default_rng(0)
    text = rng.choice(6, 400, p=[0.4, 0.3, 0.15, 0.1, 0.04, 0.01]).astype(np.uint8)
    model = NGram(text, 4, 6, **kind)
    for context in ([], [5], [5, 5], [5, 5, 5], [0, 1, 2], [0, 0, 0], [4, 1, 3, 0, 1]):
        expected = slow(text.tolist(), 4, 6, context, **kind)
        np.testing.assert_allclose(model.next_token_probabilities(context), expected, **EXACT)
    if kind.get("discount") == "modified":
        assert model.discounts[-1] != (0.5, 1.0, 1.5)
    assert model.sizes == tuple(len(set(grams(text.tolist(), m))) for m in (1, 2, 3, 4))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_vocabulary_to_the_power_of_n_is_beyond_64_bits(kind):
    rng = np.random.default_rng(1)
    words = rng.integers(0, 2**31 - 1, 7)
    text = words[rng.integers(0, 7, 300)]
    V, n = 2**31, 9
    model = NGram(text, n, V, **kind)
    small = np.searchsorted(np.sort(words), text).tolist()
    # the same with 7 tokens, but for what V itself is worth: 1 / V each
    if kind.get("smoothing") == "mle":
        np.testing.assert_array_equal(
            model.token_losses(text[:40]), NGram(small, n, 7, **kind).token_losses(small[:40])
        )
    assert model.sizes == NGram(small, n, 7, **kind).sizes
    assert np.isfinite(model.loss(text))


def test_perplexity_of_a_coin_and_of_a_clock():
    rng = np.random.default_rng(2)
    coin = rng.integers(0, 2, 4000)
    for n in (1, 2, 3):
        # 2^(n-1) contexts, each coin estimated within 1 / sqrt(4000 / 2^(n-1)) or so
        assert NGram(coin[:2000], n, 2).perplexity(coin[2000:]) == pytest.approx(2, rel=0.01)
    clock = np.arange(1000) % 12
    model = NGram(clock, 2, 12, smoothing="mle")
    assert model.perplexity(clock) == 1
    assert model.loss([0, 2]) == math.inf
    assert NGram(clock, 1, 12, smoothing="mle").perplexity(np.arange(12)) == pytest.approx(
        12, rel=0.01
    )


def test_the_last_token_is_a_context_that_nothing_follows():
    text = [0, 1, 0, 1, 0, 2]  # 2 occurs, but is followed by nothing
    for kind in KINDS:
        model = NGram(text, 2, 3, **kind)
        after = model.next_token_probabilities([2])
        if kind.get("smoothing") == "add-k":
            np.testing.assert_allclose(after, [1 / 3] * 3, **EXACT)
        else:
            np.testing.assert_allclose(after, model.next_token_probabilities([]), **EXACT)


def test_san_francisco():
    """A token that occurs often, but after one token only, is not expected after any other."""
    text = [0, 1] * 20 + [2, 3, 4, 3, 5, 3, 6, 3, 2] * 2  # 1 comes after 0 only, 3 after four
    often = NGram(text, 2, 8, smoothing="add-k", k=1e-9).next_token_probabilities([])
    kept = NGram(text, 2, 8).next_token_probabilities([])
    assert often[1] > 2 * often[3]
    assert kept[3] > 2 * kept[1]
    assert kept[7] > 0


def test_a_sample_follows_the_probabilities():
    text = np.random.default_rng(3).choice(4, 200, p=[0.5, 0.3, 0.2, 0])
    model = NGram(text, 2, 4, discount=0.75)
    drawn = model.sample(4000, rng=5)
    pairs = np.zeros((4, 4))
    np.add.at(pairs, (drawn[:-1], drawn[1:]), 1)
    for token in (0, 1, 2):
        n = pairs[token].sum()
        p = model.next_token_probabilities([token])
        # five standard deviations of a count, and one of it
        assert (np.abs(pairs[token] - n * p) < 5 * np.sqrt(n * p * (1 - p)) + 1).all()
    again = model.sample(5, rng=np.random.default_rng(5), context=[1, 2])
    assert again.tolist() == model.sample(5, rng=5, context=[2]).tolist()  # one token of context
    assert model.sample(0, rng=0).shape == (0,)
    assert NGram([0, 1, 2] * 9, 3, 3, smoothing="mle").sample(
        6, rng=0, context=[0, 1]
    ).tolist() == [2, 0, 1, 2, 0, 1]


def test_bigram_loss_by_hand():
    train = np.array(
        [0, 1, 0, 1, 0, 0]
    )  # 01 10 01 10 00: after 0: 0 once, 1 twice; after 1: 0 twice
    loss = bigram_loss(train, np.array([0, 1, 1, 0]), 2, smoothing=1)
    expected = -(np.log(3 / 5) + np.log(1 / 4) + np.log(3 / 4)) / 3
    assert loss == pytest.approx(expected, rel=1e-14)
    with pytest.raises(ValueError, match="smoothing=0"):
        bigram_loss(train, train, 2, smoothing=0)
    with pytest.raises(IndexError, match="id 2"):
        bigram_loss(train, np.array([2, 0]), 2)


def test_bigram_loss_is_one_of_these():
    text = np.random.default_rng(4).integers(0, 5, 300)
    counts = np.zeros((5, 5)) + 0.1
    np.add.at(counts, (text[:200][:-1], text[:200][1:]), 1)
    log_p = np.log(counts / counts.sum(axis=1, keepdims=True))
    expected = -log_p[text[200:-1], text[201:]].mean()
    assert bigram_loss(text[:200], text[200:], 5) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: NGram([0, 1], 0, 2), ValueError, "n=0"),
        (lambda: NGram([0, 1], -3, 2), ValueError, "n=-3"),
        (lambda: NGram([0, 1], 1.5, 2), TypeError, "integer"),
        (lambda: NGram([0, 1], 1, 0), ValueError, "vocab_size=0"),
        (lambda: NGram([0, 1], 3, 2), ValueError, "2 ids are fewer than n=3"),
        (lambda: NGram([], 1, 2), ValueError, "0 ids"),
        (lambda: NGram([0, 2], 1, 2), IndexError, r"id 2 at index \(1,\)"),
        (lambda: NGram([0, -1], 1, 2), IndexError, "id -1"),
        (lambda: NGram([0.0, 1.0], 1, 2), TypeError, "integers"),
        (lambda: NGram([[0, 1]], 1, 2), ValueError, "1-D"),
        (lambda: NGram([0, 1], 1, 2, smoothing="laplace"), ValueError, "'laplace' is none of"),
        (lambda: NGram([0, 1], 1, 2, smoothing="add-k", k=0), ValueError, "k=0 must be positive"),
        (lambda: NGram([0, 1], 1, 2, smoothing="add-k", k=math.nan), ValueError, "k=nan"),
        (lambda: NGram([0, 1], 1, 2, k=1), ValueError, "k belongs to add-k, not to kneser-ney"),
        (lambda: NGram([0, 1], 1, 2, smoothing="mle", discount=0.5), ValueError, "discount belong"),
        (lambda: NGram([0, 1], 1, 2, discount=0), ValueError, "discount=0 must be"),
        (lambda: NGram([0, 1], 1, 2, discount=1.1), ValueError, "discount=1.1 must be"),
        (lambda: NGram([0, 1], 1, 2, discount="three"), ValueError, "'three' must be"),
        (lambda: NGram([0, 1], 2, 2).loss([1]), ValueError, "1 ids are fewer than n=2"),
        (lambda: NGram([0, 1], 2, 2).loss([1, 2]), IndexError, "id 2"),
        (lambda: NGram([0, 1], 2, 2).next_token_probabilities([2]), IndexError, "id 2"),
        (lambda: NGram([0, 1], 2, 2).sample(-1, rng=0), ValueError, "length=-1"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_what_is_given_is_not_changed_and_kept_apart():
    text = np.array([0, 1, 2, 1, 0, 2, 1])
    before = text.copy()
    model = NGram(text, 3, 3)
    p = model.next_token_probabilities([0, 1])
    np.testing.assert_array_equal(text, before)
    p[:] = text[:] = 0
    assert model.next_token_probabilities([0, 1]).sum() == pytest.approx(1, rel=1e-12)
    assert repr(model) == (
        "NGram(n=3, vocab_size=3, smoothing='kneser-ney': 3, 5, 5 different n-grams)"
    )
