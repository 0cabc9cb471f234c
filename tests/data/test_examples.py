"""No example is lost, none is read twice, and no text stands in two parts."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.data import Epochs, buckets, mask_tokens, pad, split_examples

# -- padding and buckets -----------------------------------------------------------------------


def test_pad():
    rows = [np.array([1, 2, 3]), np.array([], int), np.array([4])]
    np.testing.assert_array_equal(pad(rows, 9), [[1, 2, 3], [9, 9, 9], [4, 9, 9]])
    with pytest.raises(ValueError, match="there are no rows"):
        pad([], 0)
    with pytest.raises(ValueError, match=r"rows are 1-D, one has shape \(1, 2\)"):
        pad([np.array([1]), np.array([[1, 2]])], 0)


LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=70)


@given(LENGTHS, st.integers(1, 9), st.integers(1, 6), st.integers(0, 5))
def test_an_epoch_has_each_example_once(lengths, batch_size, pool, seed):
    found = buckets(lengths, batch_size, np.random.default_rng(seed), pool=pool)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    assert len(found) == -(-len(lengths) // batch_size)
    assert sum(len(b) < batch_size for b in found) <= 1
    again = buckets(lengths, batch_size, np.random.default_rng(seed), pool=pool)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def padding(lengths, batches):
    return sum(max(lengths[b]) * len(b) for b in batches) / lengths.sum() - 1


def test_sorting_saves_padding_and_mixes_anew():
    rng = np.random.default_rng(0)
    lengths = rng.geometric(0.05, 2000)
    plain = padding(lengths, buckets(lengths, 16, rng, pool=1))
    sorted_ = padding(lengths, buckets(lengths, 16, rng, pool=50))
    assert plain > 1
    assert sorted_ < 0.1
    a, b = (
        {frozenset(x.tolist()) for x in buckets(lengths, 16, np.random.default_rng(s))}
        for s in (1, 2)
    )
    assert len(a & b) < 3  # the same company in two epochs hardly ever
    lots = [lengths[x].mean() for x in buckets(lengths, 16, rng)]
    assert abs(np.corrcoef(lots[1:], lots[:-1])[0, 1]) < 0.3  # no march from short to long


@pytest.mark.parametrize("options", [([], 2, 1), ([1], 0, 1), ([1], 1, 0)])
def test_buckets_of_nothing(options):
    lengths, batch_size, pool = options
    with pytest.raises(ValueError, match="must be at least 1"):
        buckets(lengths, batch_size, np.random.default_rng(0), pool=pool)


@given(LENGTHS, st.integers(1, 9), st.integers(0, 30))
def test_epochs_go_on_from_any_place(lengths, batch_size, stop):
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    straight, broken = Epochs(lengths, pool=2), Epochs(lengths, pool=2)
    for _ in range(stop):
        broken.take(batch_size, other)
    resumed = Epochs(lengths, pool=2)
    resumed.load_state_dict(broken.state_dict())
    for _ in range(stop):
        straight.take(batch_size, rng)
    seen = Counter()
    for _ in range(2 * -(-len(lengths) // batch_size)):
        a, b = straight.take(batch_size, rng), resumed.take(batch_size, other)
        assert np.array_equal(a, b)
        seen.update(a.tolist())
    # any two epochs' worth of batches in a row, cut where you like, hold each once to three times
    assert straight.state_dict() == resumed.state_dict()
    if stop == 0:
        assert set(seen.values()) == {2}
        assert len(seen) == len(lengths)


def test_another_batch_size_begins_an_epoch():
    rng, epochs = np.random.default_rng(0), Epochs(range(1, 11))
    epochs.take(4, rng)
    found = [epochs.take(3, rng) for _ in range(4)]
    assert sorted(np.concatenate(found).tolist()) == list(range(10))
    assert epochs.epoch == 1


@pytest.mark.parametrize(
    "wrong",
    [{"position": 4}, {"position": -1}, {"epoch": "1"}, {"batch_size": True}, {"key": 0.5}],
)
def test_states_that_do_not_fit(wrong):
    epochs = Epochs([1] * 10)
    epochs.take(4, np.random.default_rng(0))
    with pytest.raises(ValueError, match="Epochs: "):
        Epochs([1] * 10).load_state_dict({**epochs.state_dict(), **wrong})


# -- masking -----------------------------------------------------------------------------------

SPECIAL = {"mask_id": 4, "special_ids": (0, 1, 2, 3), "vocab_size": 30}


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 9), st.sampled_from([0.15, 0.5, 1.0]))
def test_what_is_masked(rows, length, seed, share):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 30, size=(rows, length))
    inputs, targets = mask_tokens(ids, rng, share=share, **SPECIAL)
    special = ids < 5
    chosen = targets != -100
    assert not (chosen & special).any()
    np.testing.assert_array_equal(targets[chosen], ids[chosen])
    np.testing.assert_array_equal(inputs[~chosen], ids[~chosen])
    ordinary = (~special).sum(-1)
    expected = np.minimum(np.maximum(1, np.rint(share * ordinary)), ordinary)
    np.testing.assert_array_equal(chosen.sum(-1), expected)
    drawn = inputs[chosen & (inputs != 4)]
    assert (drawn >= 5).all()  # a random word is never special


def test_the_shares_of_devlin():
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 30, size=(200, 1000))
    inputs, targets = mask_tokens(ids, rng, **SPECIAL)
    chosen = targets != -100
    assert chosen.sum() == 30_000
    # 25 words: a random one is the true one in a 25th of all cases
    n = 30_000
    for share, found in {
        0.8: (inputs == 4)[chosen].sum(),
        0.1 * 24 / 25: ((inputs != 4) & (inputs != ids))[chosen].sum(),
        0.1 + 0.1 / 25: (inputs == ids)[chosen].sum(),
    }.items():
        assert abs(found - share * n) < 5 * np.sqrt(n * share * (1 - share))
    # each place, and each word, is as likely as any other
    places = chosen.sum(0)
    assert abs(places - 30).max() < 5 * np.sqrt(30)
    words = np.bincount(inputs[chosen & (inputs != 4) & (inputs != ids)], minlength=30)[5:]
    assert abs(words - words.mean()).max() < 5 * np.sqrt(words.mean())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share": 1.5}, "share=1.5 must lie between 0 and 1"),
        ({"random_share": -0.1}, "random_share=-0.1"),
        ({"mask_share": 0.8, "random_share": 0.3}, "are more than all"),
        ({"vocab_size": 5}, "all of the 5 ids are special"),
    ],
)
def test_bad_masking(options, words):
    with pytest.raises(ValueError, match=words):
        mask_tokens(np.ones((2, 3), int), np.random.default_rng(0), **{**SPECIAL, **options})


# -- splitting ---------------------------------------------------------------------------------


def test_split_by_label():
    examples = [(f"text {i}", "abc"[0 if i % 10 < 6 else 1 + i % 2]) for i in range(500)]
    found = split_examples(examples, validation=0.2, test=0.1, seed=3)
    assert [len(part) for part in found[:3]] == [350, 100, 50]
    assert sorted(e for part in found[:3] for e in part) == sorted(examples)
    whole = Counter(label for _, label in examples)
    for part, share in zip(found[:3], (0.7, 0.2, 0.1), strict=True):
        for label, count in Counter(label for _, label in part).items():
            assert abs(count - share * whole[label]) <= 1
        names = [label for _, label in part]
        assert names != sorted(names)  # shuffled
    assert found == split_examples(examples, validation=0.2, test=0.1, seed=3)
    assert found.train != split_examples(examples, validation=0.2, test=0.1, seed=4).train


@given(
    st.lists(st.tuples(st.sampled_from("aAbBcdefgh "), st.sampled_from([0, 1])), min_size=1),
    st.integers(0, 4),
)
def test_no_text_is_in_two_parts(examples, seed):
    examples += [(f"more {i}", i % 2) for i in range(8)]  # or a label may have too few
    found = split_examples(examples, validation=0.25, test=0.25, seed=seed)
    texts = [text.strip().lower() for part in found[:3] for text, _ in part]
    assert len(set(texts)) == len(texts)
    assert len(texts) + found.duplicates + found.contradictions == len(examples)


def test_what_counts_as_the_same_text():
    same = ["Ａ１ good\tfilm", "a1  GOOD film", " a1 good film\n"]
    found = split_examples(
        [*((t, 1) for t in same), ("bad", 0), ("Bad", 0), ("so so", 0), ("So So", 1), ("so so", 0)],
        validation=0,
        test=0,
    )
    assert sorted(found.train) == [("bad", 0), (same[0], 1)]
    assert (found.duplicates, found.contradictions) == (3, 3)
    pairs = split_examples([(("a", "b"), 1), (("a", "c"), 1), (("A", "B "), 1)], test=0.3)
    assert pairs.duplicates == 1


def test_splits_that_can_not_be():
    with pytest.raises(ValueError, match="leave something for training"):
        split_examples([("a", 0)], validation=0.5, test=0.5)
    with pytest.raises(ValueError, match="label 'rare' has 1 different examples"):
        split_examples([("x", "rare")], validation=1 - 1e-9, test=0)
    with pytest.raises(TypeError, match="the text of example 1 is a int"):
        split_examples([("x", 1), (3, 1)])
    plain = split_examples(["a", "b", "c"], text=lambda e: e, label=None, validation=1 / 3, test=0)
    assert len(plain.train) == 2
