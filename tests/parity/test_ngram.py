"""n-gram models equal nltk.lm's, where the two define the same thing."""

import numpy as np
import pytest

from scratchlm.models import NGram

pytestmark = pytest.mark.parity

V = 6  # the last one is nltk's <UNK>, which it counts as one of the vocabulary
EXACT = {"rtol": 1e-12, "atol": 1e-15}


def fitted(model, text, n):
    """A model of nltk, counted on all n-grams of the text, with no padding at its ends."""
    util = pytest.importorskip("nltk.util")
    model.fit([util.everygrams([str(t) for t in text], max_len=n)], [str(w) for w in range(V - 1)])
    assert len(model.vocab) == V
    return model


def theirs(model, context):
    context = tuple(map(str, context))
    return [model.unmasked_score(str(w), context) for w in range(V - 1)] + [
        model.unmasked_score("<UNK>", context)
    ]


def contexts(n):
    rng = np.random.default_rng(n)
    return [rng.integers(0, V - 1, n - 1).tolist() for _ in range(60)]


@pytest.fixture
def text():
    return np.random.default_rng(0).choice(V - 1, 150, p=[0.5, 0.3, 0.1, 0.08, 0.02])


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_relative_frequencies(text, n):
    lm = pytest.importorskip("nltk.lm")
    model, other = NGram(text, n, V, smoothing="mle"), fitted(lm.MLE(n), text, n)
    seen = 0
    for context in contexts(n):
        if other.context_counts(tuple(map(str, context))).N():
            seen += 1
            mine = model.next_token_probabilities(context)
            np.testing.assert_allclose(mine, theirs(other, context), **EXACT)
        else:  # nltk says 0 for every word; here the shorter context takes over
            assert not any(theirs(other, context))
    assert seen > 10


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("k", [0.1, 1, 3])
def test_lidstone(text, n, k):
    lm = pytest.importorskip("nltk.lm")
    model, other = NGram(text, n, V, smoothing="add-k", k=k), fitted(lm.Lidstone(k, n), text, n)
    for context in contexts(n):
        mine = model.next_token_probabilities(context)
        np.testing.assert_allclose(mine, theirs(other, context), **EXACT)


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("discount", [0.1, 0.75, 1.0])
def test_kneser_ney(text, n, discount):
    """The two differ in two places, which are made equal here.

    nltk ends the recursion with undiscounted unigrams, so that a token that never occurred has
    probability 0; here, as in Chen & Goodman 1998, the uniform distribution stands below them. And
    where nltk takes the number of different tokens after a context, it also counts one that stood
    there at the beginning of the text only, before which there is no token: the text ends as it
    begins.
    """
    lm = pytest.importorskip("nltk.lm")
    text = np.concatenate([text, text[: n - 1]])
    other = fitted(lm.KneserNeyInterpolated(n, discount=discount), text, n)
    estimator = other.estimator

    def above_uniform(word):
        seen, total = estimator._continuation_counts(word)
        kinds = len({w for context in other.counts[2].values() for w in context})
        return max(seen - discount, 0) / total + discount * kinds / total / V

    plain = theirs(other, contexts(n)[0])
    assert plain[-1] == 0
    estimator.unigram_score = above_uniform
    model = NGram(text, n, V, discount=discount)
    for context in contexts(n):
        mine = model.next_token_probabilities(context)
        np.testing.assert_allclose(mine, theirs(other, context), **EXACT)
    assert mine[-1] > 0
