"""Word2vec: what is drawn, what one step does, what is learned, and the file."""

import contextlib
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scratchlm
from scratchlm import ops
from scratchlm.models import Word2Vec
from scratchlm.models.word2vec import KIND, hash_ngram, word_ngrams
from scratchlm.models.word_vectors import write_arrays

# Two worlds that never meet, and "the" in both.
DAY = ["the", "sun", "shone", "and", "the", "bright", "sky", "was", "blue"]
SEA = ["the", "fish", "swam", "where", "the", "deep", "salt", "water", "ran"]


def text(lines=400, seed=0):
    rng = np.random.default_rng(seed)
    return [str(w) for i in range(lines) for w in rng.permutation(DAY if i % 8 < 4 else SEA)]


def small(**options):
    return Word2Vec(text(20), 6, **{"min_frequency": 1, "dtype": np.float64, **options})


# -- subwords --------------------------------------------------------------------------------------


def test_ngrams():
    """Bojanowski et al. 2017, §3.2: *where*, in n-grams of 3."""
    assert word_ngrams("where", 3, 3) == ["<wh", "whe", "her", "ere", "re>"]
    assert word_ngrams("is") == ["<is", "<is>", "is>"]
    assert word_ngrams("a", 1, 3) == ["<a", "<a>", "a", "a>"]  # no "<" or ">" alone
    assert word_ngrams("你好", 1, 2) == ["<你", "你", "你好", "好", "好>"]
    assert word_ngrams("", 3, 6) == []


# FNV-1a's own test vectors; then what gensim 4.4.0's ft_hash_bytes gives, a port of fastText's
# Dictionary::hash. The last six have bytes from 0x80 on, where a plain FNV-1a differs.
HASHES = {
    "": 0x811C9DC5, "a": 0xE40C292C, "foobar": 0xBF9CF968, "<wo": 1031390033, "é": 1023043777,
    "<ü": 990811388, "你好": 718964643, "日本>": 778196157, "𝄞x": 2314243264,
    "<naïve>": 476539069,
}  # fmt: skip


@pytest.mark.parametrize("ngram", HASHES)
def test_hashes_are_fasttexts(ngram):
    assert hash_ngram(ngram) == HASHES[ngram]


@given(st.text(max_size=8))
def test_bytes_are_signed_as_in_c(ngram):
    h = np.array([2166136261], np.uint32)
    for byte in np.frombuffer(ngram.encode(), np.int8):
        h = (h ^ byte.astype(np.int32).view(np.uint32)) * np.uint32(16777619)
    assert hash_ngram(ngram) == h[0]


def test_a_vector_is_the_sum_of_its_rows():
    model = small(ngrams=(3, 4), buckets=50)
    grams = [15 + hash_ngram(gram) % 50 for gram in ["<su", "<sun", "sun", "sun>", "un>"]]
    assert len(model.words) == 15
    rows = [model.ids["sun"], *grams]
    np.testing.assert_allclose(model.vector("sun"), model.input[rows].sum(axis=0), rtol=1e-14)
    unseen = [15 + hash_ngram(gram) % 50 for gram in word_ngrams("suns", 3, 4)]
    np.testing.assert_allclose(model.vector("suns"), model.input[unseen].sum(axis=0), rtol=1e-14)
    table = model.vectors(["suns", "sun", "suns"])
    assert table.words == [*model.words, "suns"]
    np.testing.assert_array_equal(table["suns"], model.vector("suns"))
    with pytest.raises(KeyError, match="has no n-gram"):
        model.vector("")
    with pytest.raises(KeyError, match="with ngrams= it would have one"):
        small().vector("suns")


# -- what is drawn ---------------------------------------------------------------------------------


def test_pairs_are_those_of_a_window():
    model = small(window=3)
    ids = np.arange(15)  # each word once: ids are places
    centers, contexts = model.pairs(ids)
    pairs = set(zip(centers.tolist(), contexts.tolist(), strict=True))
    assert len(pairs) == len(centers)
    reach = {}
    for center in range(15):
        near = {b for a, b in pairs if a == center}
        reach[center] = max(abs(b - center) for b in near)
        wanted = range(max(0, center - reach[center]), min(15, center + reach[center] + 1))
        assert near == set(wanted) - {center}
    assert set(reach.values()) == {1, 2, 3}


def test_pairs_of_a_part_reach_over_its_ends():
    model = small(window=1)
    centers, contexts = model.pairs(np.arange(10), 4, 6)
    assert sorted(zip(centers.tolist(), contexts.tolist(), strict=True)) == [
        (4, 3), (4, 5), (5, 4), (5, 6)
    ]  # fmt: skip


def test_noise_has_the_published_shares_and_is_never_the_context():
    model = small(negatives=4)
    contexts = np.zeros(100_000, int)
    drawn = model.noise(contexts)
    assert drawn.shape == (100_000, 4)
    weight = model.counts**0.75
    weight[0] = 0  # the context
    shares = np.bincount(drawn.ravel(), minlength=15) / drawn.size
    # 400,000 draws: a standard deviation of at most 0.0008
    np.testing.assert_allclose(shares, weight / weight.sum(), atol=0.004)
    assert shares[0] == 0


def test_subsampling():
    """Mikolov et al. 2013, eq. 5: discarded with probability 1 - sqrt(t / f)."""
    model = small(subsample=0.01)
    share = model.counts / model.counts.sum()
    np.testing.assert_allclose(1 - model.keep, np.maximum(0, 1 - np.sqrt(0.01 / share)))
    assert (small(subsample=float("inf")).keep == 1).all()
    kept = [
        len(centers)
        for _, centers, _ in small(subsample=0.01, window=1)._batches(np.zeros(20_000, int), 10**9)
    ]
    # each word kept has two neighbours; share of word 0 (the) kept, within 4 standard deviations
    assert sum(kept) / 2 / 20_000 == pytest.approx(model.keep[0], abs=0.015)


def test_an_epoch_holds_every_pair_once():
    model = small(window=1, subsample=float("inf"))
    ids = np.random.default_rng(1).integers(0, 15, 50_001)  # more than two chunks
    seen = np.zeros((15, 15), int)
    before = -1.0
    for done, centers, contexts in model._batches(ids, 1000):
        assert before < done < 1
        before = done
        assert len(centers) <= 1000
        np.add.at(seen, (centers, contexts), 1)
    wanted = np.zeros((15, 15), int)
    np.add.at(wanted, (ids[1:], ids[:-1]), 1)
    np.testing.assert_array_equal(seen, wanted + wanted.T)


# -- one step --------------------------------------------------------------------------------------


def batch(model, size=40, seed=3):
    rng = np.random.default_rng(seed)
    shape = (size, model.negatives)
    V = len(model.words)
    model.output[:] = rng.normal(size=model.output.shape)
    return rng.integers(0, 9, size), rng.integers(0, V, size), rng.integers(5, V, shape)


@pytest.mark.parametrize("ngrams", [None, (2, 4)])
def test_a_step_is_that_of_whole_tables(ngrams):
    """The rows that were taken out, and a dense gradient written with loops: the same step."""
    model = small(ngrams=ngrams, buckets=30, negatives=3)
    centers, contexts, negatives = batch(model)
    before, around = model.input.copy(), model.output.copy()
    loss = model.step(centers, contexts, negatives, lr=0.1)

    dinput, doutput, total = np.zeros_like(before), np.zeros_like(around), 0.0
    pieces = [model._pieces_of(word, i) for i, word in enumerate(model.words)]
    for c, o, noise in zip(centers, contexts, negatives, strict=True):
        v = before[pieces[c]].sum(axis=0)
        one, vjp = ops.skipgram_loss(v, around[o], around[noise])
        dv, du, dnoise = vjp(np.array(1.0))
        total += one
        for row in pieces[c]:
            dinput[row] += dv
        doutput[o] += du
        for row, each in zip(noise, dnoise, strict=True):
            doutput[row] += each
    assert loss == pytest.approx(total, rel=1e-13)
    n = np.mean([len(rows) for rows in pieces])
    # sums of some hundred terms of size 1, in another order
    np.testing.assert_allclose(model.input, before - 0.1 / n * dinput, rtol=0, atol=1e-13)
    np.testing.assert_allclose(model.output, around - 0.1 * doutput, rtol=0, atol=1e-13)
    untouched = ~dinput.any(axis=1)
    assert untouched.any()
    np.testing.assert_array_equal(model.input[untouched], before[untouched])


def test_a_students_op_trains_it():
    def mine(center, context, negatives):
        calls.append(len(center))
        return ops.skipgram_loss(center, context, negatives)

    calls = []
    with scratchlm.use(skipgram_loss=mine):
        model = small().fit(text(4), epochs=1, progress=False)
    assert sum(calls) > 10
    other = small().fit(text(4), epochs=1, progress=False)
    np.testing.assert_array_equal(model.input, other.input)


# -- learning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ngrams", [None, (3, 5)])
def test_words_of_one_world_come_together(ngrams):
    words = text(200)
    model = Word2Vec(words, 10, subsample=0.03, ngrams=ngrams, buckets=2000, window=3, seed=1)
    model.fit(words, epochs=8, lr=0.05, batch_size=32, progress=False)
    vectors = model.vectors()
    day, sea = ({*side} - {"the"} for side in (DAY, SEA))
    for word in day | sea:
        own = (day if word in day else sea) - {word}
        assert {near for near, _ in vectors.nearest(word, len(own), exclude=["the"])} == own
    assert len(model.losses) == 8
    assert model.losses[-1] < model.losses[0] - 0.1


def test_the_same_seed_gives_the_same_vectors():
    def trained(seed):
        model = small(seed=seed).fit(text(30), epochs=2, progress=False)
        return model.input

    np.testing.assert_array_equal(trained(5), trained(5))
    assert (trained(5) != trained(6)).any()


def test_ctrl_c_keeps_what_was_learned(monkeypatch):
    model, step = small(), Word2Vec.step
    steps = []

    def interrupted(self, *batch, **options):
        if len(steps) == 3:
            raise KeyboardInterrupt
        steps.append(step(self, *batch, **options))
        return steps[-1]

    monkeypatch.setattr(Word2Vec, "step", interrupted)
    start = model.input.copy()
    model.fit(text(60), batch_size=50, progress=False)
    assert model.interrupted
    assert np.isfinite(model.input).all()
    assert (model.input != start).any()
    assert model.vectors().words == model.words


def test_a_progress_bar(capsys):
    pytest.importorskip("rich")
    small().fit(text(30), epochs=2)
    assert "epoch 2 of 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"dim": 0}, ValueError, "dim=0"),
        ({"window": 0}, ValueError, "window=0"),
        ({"negatives": 1.5}, ValueError, "negatives=1.5"),
        ({"buckets": 0, "ngrams": (3, 6)}, ValueError, "buckets=0"),
        ({"subsample": 0}, ValueError, "subsample=0"),
        ({"subsample": float("nan")}, ValueError, "subsample=nan"),
        ({"ngrams": (4, 3)}, ValueError, r"ngrams=\(4, 3\)"),
        ({"ngrams": (3, 10**9)}, ValueError, "from 1 to 32"),
        ({"min_frequency": 41}, ValueError, "0 words occur 41 times|1 words occur"),
        ({"words": "the text"}, TypeError, "split_words"),
    ],
)
def test_options(options, error, said):
    with pytest.raises(error, match=said):
        Word2Vec(**{"words": text(10), "dim": 6, "min_frequency": 1, **options})


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (["the", "unheard"], {}, "fewer than two words"),
        (DAY, {"epochs": 0}, "epochs=0"),
        (DAY, {"batch_size": 0}, "batch_size=0"),
        (DAY, {"lr": 0.0}, "lr=0.0"),
    ],
)
def test_what_can_not_be_learned(words, options, said):
    with pytest.raises(ValueError, match=said):
        small().fit(words, progress=False, **options)


def test_a_learning_rate_that_is_too_high_is_said():
    with (
        pytest.raises(FloatingPointError, match="lower lr"),
        np.errstate(over="ignore", invalid="ignore"),
    ):
        small(dtype=np.float32).fit(text(50), lr=1e30, progress=False)


# -- the file --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ngrams", [None, (3, 5)])
def test_saved_and_read(tmp_path, ngrams):
    pytest.importorskip("safetensors")
    model = small(ngrams=ngrams, buckets=40).fit(text(20), epochs=1, progress=False)
    again = Word2Vec.load(model.save(tmp_path / "model.safetensors"))
    assert again.words == model.words
    assert again.losses == model.losses
    assert repr(again) == repr(model)
    for each in (model, again):  # it goes on as it would have
        each.fit(text(20, seed=1), epochs=1, progress=False)
    np.testing.assert_array_equal(again.input, model.input)
    np.testing.assert_array_equal(again.output, model.output)


def test_damaged_files(tmp_path):
    pytest.importorskip("safetensors")
    path = small(ngrams=(3, 4), buckets=9).save(tmp_path / "model.safetensors")
    good, rng, refused = path.read_bytes(), random.Random(0), 0
    head = int.from_bytes(good[:8], "little") + 8
    for _ in range(200):
        raw = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            raw[rng.randrange(head)] = rng.choice((*b'0129-,:"[]', 0, 255))
        path.write_bytes(raw if rng.random() < 0.8 else good[: rng.randrange(len(good))])
        with contextlib.suppress(ValueError):
            Word2Vec.load(path)
            continue
        refused += 1
    assert refused > 120


@pytest.mark.parametrize(
    "change",
    [
        {"words": ["a", "a"]},
        {"options": None},
        {"options": {}},
        {"options": {"dim": 3, "ngrams": (3, 10**9), "buckets": 10**12}},
        {"rng": {"bit_generator": "MT19937"}},
        {"losses": ["high"]},
        {"counts": np.array([3, 0])},
        {"counts": np.array([3.0, 2.0])},
        {"output": np.full((2, 3), np.nan)},
        {"output": np.ones((2, 4))},
    ],
)
def test_files_that_contradict_themselves(tmp_path, change):
    pytest.importorskip("safetensors")
    model = Word2Vec(["a", "b"] * 5, 3)
    arrays = {"input": model.input, "output": model.output, "counts": model.counts}
    about = {
        "kind": KIND, "words": model.words, "options": model.options, "losses": [],
        "rng": model.rng.bit_generator.state,
    }  # fmt: skip
    arrays |= {name: value for name, value in change.items() if name in arrays}
    about |= {name: value for name, value in change.items() if name in about}
    path = write_arrays(tmp_path / "model.safetensors", arrays, about)
    with pytest.raises(ValueError, match="damaged, or from another version"):
        Word2Vec.load(path)
