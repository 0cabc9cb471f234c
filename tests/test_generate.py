"""Writing: the likeliest token by hand, chance with the right frequencies, bad options refused.

With a cache or without, alone or in a batch: the same tokens. Faults put into the cache are caught.
"""

import inspect
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm import Tensor, no_grad
from scratchlm.generate import generate, next_token_probabilities, stream, stream_text
from scratchlm.models import GPT, GPTConfig
from scratchlm.nn import KVCache, Module, Parameter
from scratchlm.text import CharVocab

V, BLOCK = 7, 5


@pytest.fixture(scope="module")
def model():
    sizes = GPTConfig(V, BLOCK, n_layer=2, n_head=2, n_embd=8, dropout=0.5)
    return GPT(sizes, rng=0, std=0.5)


class Fixed(Module):
    """Always the same logits."""

    def __init__(self, logits):
        self.logits = Parameter(np.asarray(logits, dtype=np.float64))

    def forward(self, ids):
        return Tensor(np.broadcast_to(self.logits.data, (*ids.shape, len(self.logits.data))).copy())


def by_hand(model, ids, count):
    """Greedy: the last BLOCK ids in, the index of the largest logit out."""
    ids = list(ids)
    modes = [m.training for m in model.modules()]
    model.eval()
    for _ in range(count):
        ids.append(int(np.argmax(model(np.array(ids[-BLOCK:])[None]).data[0, -1])))
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return ids


@pytest.mark.parametrize("options", [{"greedy": True}, {"temperature": 0}, {"top_k": 1}])
def test_greedy_is_argmax_by_hand_also_past_the_block(model, options):
    for prompt in ([3], [1, 2, 3, 4, 5, 6, 0]):
        ids = generate(model, prompt, 12, **options)
        assert ids.tolist() == by_hand(model, prompt, 12)
        assert ids.dtype == np.int64


def test_greedy_is_the_limit_of_low_temperature(model):
    cold = generate(model, [1, 2], 10, temperature=1e-3, seed=0)
    assert cold.tolist() == by_hand(model, [1, 2], 10)


def test_rows_are_independent(model):
    batch = generate(model, [[1, 2], [3, 4]], 6, greedy=True)
    assert batch.shape == (2, 8)
    for row in batch:
        assert row.tolist() == by_hand(model, row[:2], 6)


def test_a_seed_writes_the_same_and_another_one_does_not(model):
    a = generate(model, [1], 30, seed=1)
    assert a.tolist() == generate(model, [1], 30, rng=np.random.default_rng(1)).tolist()
    assert a.tolist() != generate(model, [1], 30, seed=2).tolist()
    assert [int(i) for i in stream(model, [1], 30, seed=1)] == a[1:].tolist()


def test_dropout_is_off_and_the_mode_comes_back(model):
    model.train()
    model.transformer.drop.eval()  # a part frozen on purpose
    before = model.rng_state()
    generate(model, [1], 3, seed=0)
    assert [m.training for m in (model, model.transformer.drop)] == [True, False]
    assert model.rng_state() == before
    model.train()


def test_frequencies_follow_the_probabilities():
    logits = np.array([1.0, -np.inf, 3.0, 2.0, 0.0])
    model = Fixed(logits)
    draws = generate(model, np.zeros((20_000, 1), int), 1, temperature=0.7, seed=0)[:, 1]
    p = np.exp(logits / 0.7)
    p /= p.sum()
    # a standard error is at most 0.5 / sqrt(20000) = 0.0035
    np.testing.assert_allclose(np.bincount(draws, minlength=5) / 20_000, p, atol=0.0175)
    assert not (draws == 1).any()
    draws = generate(model, np.zeros((2000, 1), int), 1, top_k=2, seed=0)[:, 1]
    assert set(draws.tolist()) == {2, 3}


def test_probabilities_by_hand():
    logits = np.log(np.array([[1.0, 2.0, 4.0, 1.0]]))
    p = next_token_probabilities(logits)
    np.testing.assert_allclose(p, [[1 / 8, 2 / 8, 4 / 8, 1 / 8]], rtol=1e-14)
    p = next_token_probabilities(logits, temperature=0.5)  # squares
    np.testing.assert_allclose(p, np.array([[1, 4, 16, 1]]) / 22, rtol=1e-14)
    p = next_token_probabilities(logits, top_k=2)
    np.testing.assert_allclose(p, [[0, 2 / 6, 4 / 6, 0]], rtol=1e-14)
    p = next_token_probabilities(logits, top_k=3)  # a tie: exactly three stay
    np.testing.assert_allclose(p, [[1 / 7, 2 / 7, 4 / 7, 0]], rtol=1e-14)
    p = next_token_probabilities(np.array([1e4, -1e4, 1e4]), temperature=1e-3)
    np.testing.assert_array_equal(p, [0.5, 0, 0.5])
    p = next_token_probabilities(np.array([1.0, 3.0, 3.0]), temperature=0)
    np.testing.assert_array_equal(p, [0, 1, 0])


def test_nothing_to_write(model):
    assert generate(model, [1, 2], 0).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("ids", "options", "error", "words"),
    [
        ([], {}, ValueError, "at least one id"),
        ([[[1]]], {}, ValueError, r"shape \(1, 1, 1\)"),
        ([V], {}, IndexError, r"id 7 at index \(0,\)"),
        ([-1], {}, IndexError, "id -1"),
        ([0.5], {}, TypeError, "ids must be integers"),
        ([1], {"temperature": -1}, ValueError, "temperature=-1 must be finite"),
        ([1], {"temperature": np.nan}, ValueError, "temperature=nan"),
        ([1], {"temperature": np.inf}, ValueError, "temperature=inf"),
        ([1], {"top_k": 0}, ValueError, "top_k=0 .* at most 7"),
        ([1], {"top_k": 8}, ValueError, "top_k=8"),
        ([1], {"top_k": 1.5}, ValueError, "top_k=1.5"),
        ([1], {"greedy": True, "temperature": 0.5}, ValueError, "greedy takes the likeliest"),
        ([1], {"greedy": True, "top_k": 3}, ValueError, "greedy takes the likeliest"),
        ([1], {"rng": np.random.default_rng(0), "seed": 0}, ValueError, "rng or seed, not both"),
        ([1], {"tau": 0.9}, TypeError, "tau"),
        ([1], {"top_p": 0}, ValueError, r"top_p=0 lies outside \(0, 1\]"),
        ([1], {"min_p": 2}, ValueError, "min_p=2"),
        ([1], {"repetition_penalty": -1}, ValueError, "repetition_penalty=-1"),
        ([1], {"greedy": True, "top_p": 0.5}, ValueError, "greedy takes the likeliest"),
        ([1], {"eos_id": V}, ValueError, "eos_id=7"),
        ([1], {"eos_id": []}, ValueError, r"eos_id=\[\]"),
        ([[1, 2], [3]], {"eos_id": -1}, ValueError, "eos_id=-1"),
        ([[1, 2], []], {}, ValueError, r"shape \(0,\)"),
        ([[1, 2], [7]], {}, IndexError, r"prompt 1: id 7 at index \(0,\)"),
        ([1], {"beams": 0}, ValueError, "beams=0"),
        ([1], {"beams": 2, "temperature": 0.5}, ValueError, "beams=2 searches and draws nothing"),
        ([1], {"beams": 2, "top_p": 0.5}, ValueError, "draws nothing"),
        ([1], {"beams": 2, "seed": 1}, ValueError, "draws nothing"),
        ([1], {"beams": 2, "greedy": True}, ValueError, "draws nothing"),
        ([1], {"beams": 2, "length_penalty": math.inf}, ValueError, "length_penalty=inf"),
        ([1], {"beams": 2, "length_offset": -1}, ValueError, "length_offset=-1"),
        ([1], {"length_penalty": 2}, ValueError, "for beam search"),
    ],
)
def test_bad_input(model, ids, options, error, words):
    with pytest.raises(error, match=words):
        generate(model, ids, 3, **options)


def test_a_negative_number_of_tokens(model):
    with pytest.raises(ValueError, match="max_new_tokens=-1"):
        generate(model, [1], -1)


@pytest.mark.parametrize("bad", [[0.0, np.nan], [np.inf, 0.0], [-np.inf, -np.inf]])
def test_logits_that_are_not_finite(bad):
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        generate(Fixed(bad), [0], 1)


# -- the cache: the same tokens --------------------------------------------------------------------


def random_gpt(seed=0, *, layers=2, heads=3, block=11, dtype=np.float64, std=0.7):
    """Every parameter at random, since a zero would hide a lost one; but the biases small, or all
    texts would be of the one word that they favor."""
    config = GPTConfig(V, block, layers, heads, 4 * heads, tie_weights=False)
    model = GPT(config, rng=seed, dtype=dtype)
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():
        scale = std if parameter.ndim == 2 else 0.1
        parameter.data[...] = scale * rng.standard_normal(parameter.shape)
        if ".ln_" in parameter.name and parameter.name.endswith("weight"):
            parameter.data[...] += 1
    return model


MODEL = random_gpt()
prompts = st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=14), min_size=1, max_size=4)


def test_the_model_of_these_tests_has_something_to_say():
    """A text of one word would be the same after many a fault."""
    texts = [generate(MODEL, [first], 10, greedy=True)[1:] for first in range(V)]
    assert min(len(set(text.tolist())) for text in texts) > 1
    assert len(np.unique(texts)) >= 5


@settings(max_examples=30)
@given(prompts, st.integers(0, 16), st.sampled_from([{"greedy": True}, {"seed": 3, "top_p": 0.9}]))
def test_cached_equals_uncached(ids, count, options):
    """Odd and unequal lengths, prompts and results longer than the block."""
    cached = generate(MODEL, ids, count, **options)
    again = generate(MODEL, ids, count, cache=False, **options)
    for a, b in zip(cached, again, strict=True):
        assert a.tolist() == b.tolist()


@settings(max_examples=30)
@given(prompts, st.integers(0, 16))
def test_each_of_unequal_prompts_is_continued_as_alone(ids, count):
    for alone, row in zip(ids, generate(MODEL, ids, count, greedy=True), strict=True):
        assert row.tolist() == generate(MODEL, alone, count, greedy=True, cache=False).tolist()


def difference_alone(model, ids, pieces):
    """Logits of padded rows, read piece by piece with one cache, against each row read alone."""
    longest = max(map(len, ids))
    padding = [longest - len(row) for row in ids]
    batch = np.array([[0] * n + list(row) for n, row in zip(padding, ids, strict=True)])
    cache, found, start = KVCache(padding if any(padding) else None), [], 0
    with no_grad():
        for size in pieces:
            found.append(model(batch[:, start : start + size], cache=cache).data)
            start += size
        assert start == longest == cache.length
        got = np.concatenate(found, axis=1)
        return max(
            np.abs(got[b, n:] - model(np.array(ids[b])).data).max() for b, n in enumerate(padding)
        )


CASES = [
    ([[3, 1, 4, 1, 5]], [5]),
    ([[3, 1, 4, 1, 5]], [1, 1, 1, 1, 1]),
    ([[3, 1, 4, 1, 5], [2, 6, 5, 3, 5]], [2, 3]),
    ([[3, 1, 4, 1, 5, 2, 6], [6], [5, 3, 5]], [4, 1, 2]),
    ([[3], [1, 4]], [1, 1]),
    ([[3, 1, 4, 1, 5, 2, 6, 5, 3, 5, 0], [1, 4]], [1] * 11),
]
# float64 rounding through two layers, of logits up to about 10
CLOSE = 1e-13


@pytest.mark.parametrize(("ids", "pieces"), CASES)
def test_logits_from_a_cache_are_those_of_a_full_pass(ids, pieces):
    assert difference_alone(MODEL, ids, pieces) < CLOSE


def test_long_rows_too_where_a_kernel_computes_attention():
    """Views of larger buffers, with a mask, beside many queries at once."""
    model = random_gpt(block=160)
    rng = np.random.default_rng(0)
    ids = [rng.integers(V, size=n).tolist() for n in (150, 41, 97)]
    assert difference_alone(model, ids, [110, 39, 1]) < CLOSE


def positions_off_by_one(self, T, like):
    return KVCache_positions(self, T, like) + 1


def positions_of_columns(self, T, like):
    return np.arange(self.length, self.length + T)


def extend_one_too_early(self, layer, k, v):
    self.length -= self.length > 0
    try:
        return KVCache_extend(self, layer, k, v)
    finally:
        self.length += self.length > 0


KVCache_positions, KVCache_extend = KVCache.positions, KVCache.extend
FAULTS = {
    "positions are off by one": ("positions", positions_off_by_one),
    "positions count the padding": ("positions", positions_of_columns),
    "the new row overwrites the last": ("extend", extend_one_too_early),
    "the padding is not masked": ("mask", property(lambda self: None)),
    "the mask is turned around": ("mask", property(lambda self: None if self._mask is None
                                                   else ~self._mask)),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_in_the_cache_are_caught(fault, monkeypatch):
    monkeypatch.setattr(KVCache, *FAULTS[fault])
    ids, pieces = [[3, 1, 4, 1, 5, 2, 6], [6], [5, 3, 5]], [4, 1, 2]
    assert difference_alone(MODEL, ids, pieces) > 1e-3
    tokens = [generate(MODEL, row, 3, greedy=True, cache=False).tolist() for row in ids]
    assert [r.tolist() for r in generate(MODEL, ids, 3, greedy=True)] != tokens


def test_buffers_grow_and_keep_what_they_hold():
    rng = np.random.default_rng(0)
    k, v = (Tensor(rng.standard_normal((2, 3, 200, 4))) for _ in range(2))
    cache, layer, room, start = KVCache(), object(), set(), 0
    for size in (1, 62, 1, 1, 70, 65):
        part = slice(start, start + size)
        a, b = cache.extend(layer, k[:, :, part], v[:, :, part])
        cache.advance(size)
        start += size
        np.testing.assert_array_equal(a.data, k.data[:, :, :start])
        np.testing.assert_array_equal(b.data, v.data[:, :, :start])
        room.add(cache._held[layer][0].shape[-2])
    assert room == {64, 128, 256}  # doubled, and not at every step


def test_a_pass_that_broke_off_is_read_again():
    """An interrupted pass has written, but not advanced: the next one overwrites it."""
    cache = KVCache()
    with no_grad():
        MODEL(np.array([[1, 2]]), cache=cache)
        cache.extend(MODEL.transformer.h[0].attn, *(Tensor(np.full((1, 3, 4, 4), 9.0)),) * 2)
        got = MODEL(np.array([[3]]), cache=cache).data[:, -1]
        want = MODEL(np.array([[1, 2, 3]])).data[:, -1]
    np.testing.assert_allclose(got, want, rtol=0, atol=CLOSE)


def test_the_last_logits_only():
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    np.testing.assert_allclose(
        MODEL(ids, last_only=True).data, MODEL(ids).data[:, -1:], rtol=0, atol=CLOSE
    )


def test_select_repeats_and_drops_rows():
    cache = KVCache([0, 1, 0])
    with no_grad():
        MODEL(np.array([[1, 2], [0, 3], [4, 5]]), cache=cache)
        cache.select([1, 1, 0])
        got = MODEL(np.array([[6], [5], [4]]), cache=cache).data[:, -1]
        want = [MODEL(np.array(row)).data[-1] for row in ([3, 6], [3, 5], [1, 2, 4])]
    np.testing.assert_allclose(got, want, rtol=0, atol=CLOSE)


def test_each_token_costs_one_row(monkeypatch):
    """Linear cost: how many columns the model reads, counted."""
    read = []
    forward = GPT.forward

    def counted(self, ids, *args, **options):
        read.append(ids.shape[-1])
        return forward(self, ids, *args, **options)

    counted.__signature__ = inspect.signature(forward)
    monkeypatch.setattr(GPT, "forward", counted)
    generate(MODEL, [1, 2, 3], 6, greedy=True)
    assert read == [3, 1, 1, 1, 1, 1]
    read.clear()
    generate(MODEL, [1, 2, 3], 6, greedy=True, cache=False)
    assert read == [3, 4, 5, 6, 7, 8]
    read.clear()
    generate(MODEL, [1] * 9, 5, greedy=True)  # beyond the block of 11, all positions move
    assert read == [9, 1, 1, 11, 11]


def test_a_cache_is_refused_where_it_can_not_work():
    with pytest.raises(RuntimeError, match="no_grad"):
        MODEL(np.array([[1]]), cache=KVCache())
    cache = KVCache()
    with no_grad():
        MODEL(np.array([[1, 2, 3]]), cache=cache)
        with pytest.raises(ValueError, match=r"9 tokens more than the 3 .* positions for 11"):
            MODEL(np.zeros((1, 9), int), cache=cache)
        with pytest.raises(ValueError, match=r"\(2, 3, 1, 4\) beside \(1, 3, 3, 4\)"):
            MODEL(np.zeros((2, 1), int), cache=cache)
        with pytest.raises(ValueError, match="belongs to one model"):
            random_gpt(1)(np.zeros((1, 1), int), cache=cache)
    with pytest.raises(ValueError, match="none negative"):
        KVCache([0, -1])


def test_unequal_prompts_need_a_model_that_can_leave_out_padding():
    model = Fixed([0.0, 1.0])
    assert generate(model, [[0], [1]], 2, greedy=True).tolist() == [[0, 1, 1], [1, 1, 1]]
    with pytest.raises(ValueError, match=r"Fixed.forward takes no cache="):
        generate(model, [[0], [1, 1]], 2)


# -- ends ------------------------------------------------------------------------------------------


def test_a_row_ends_at_its_eos_and_the_others_go_on():
    ids = [[1, 2], [3, 4], [5, 6], [0, 1]]
    whole = generate(MODEL, ids, 8, greedy=True)
    eos = int(whole[0, 4])
    got = generate(MODEL, ids, 8, greedy=True, eos_id=eos)
    ends = []
    for row, full in zip(got, whole, strict=True):
        at = np.flatnonzero(full[2:] == eos)
        ends.append(2 + at[0] + 1 if len(at) else 10)
        assert row[: ends[-1]].tolist() == full[: ends[-1]].tolist()
        assert (row[ends[-1] :] == eos).all()
    assert len(set(ends)) > 1  # or nothing was tested
    assert got.shape[1] == max(ends)
    ragged = generate(MODEL, [[2, 1, 2], [3, 4]], 8, greedy=True, eos_id=range(V))
    assert [len(row) for row in ragged] == [4, 3]


def test_the_end_of_one_row_does_not_change_the_chance_of_another():
    ids = [[1], [2], [3]]
    whole = generate(MODEL, ids, 9, seed=5)
    got = generate(MODEL, ids, 9, seed=5, eos_id=int(whole[0, 3]))
    for row, full in zip(got, whole, strict=True):
        end = np.flatnonzero(full[1:] == whole[0, 3])
        upto = 1 + end[0] + 1 if len(end) else 10
        assert row[:upto].tolist() == full[:upto].tolist()


def test_a_repetition_penalty_by_hand():
    model = Fixed([2.0, 1.9, -1.0, -1.05])
    ids = generate(model, [2], 4, greedy=True, repetition_penalty=1.1)
    # 2 was read: -1.1; then 0 is: 2 / 1.1 < 1.9; then 1 is, and 0 is ahead again
    assert ids.tolist() == [2, 0, 1, 0, 0]


# -- beams -----------------------------------------------------------------------------------------


def log_p(model, ids, start):
    """log P of ids[start:], given what stands before."""
    logits = model(np.array(ids)).data
    logits = logits - logits.max(-1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return sum(logs[t - 1, ids[t]] for t in range(start, len(ids)))


@pytest.mark.parametrize("offset", [0.0, 5.0])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.5])
def test_with_enough_beams_the_best_of_all_is_found(penalty, offset):
    """Against all continuations of up to 3 tokens, by hand."""
    model, eos = random_gpt(4, std=0.4), 2
    texts = [[a] for a in range(V)]
    for _ in range(2):
        texts = [
            t if t[-1] == eos else [*t, a]
            for t in texts
            for a in (range(V) if t[-1] != eos else [0])
        ]

    def score(text):
        return log_p(model, [1, *text], 1) / ((offset + len(text)) / (offset + 1)) ** penalty

    options = {"length_penalty": penalty, "length_offset": offset, "eos_id": eos}
    found = generate(model, [1], 3, beams=V**3, **options).tolist()[1:]
    assert found == max(texts, key=score)


def test_beams_in_a_batch_of_unequal_prompts_are_those_alone():
    ids = [[1, 2, 3, 4], [5], [6, 0]]
    for options in ({"eos_id": 3}, {"length_penalty": 0.0, "eos_id": [0, 1]}, {}):
        together = generate(MODEL, ids, 9, beams=3, **options)
        for alone, row in zip(ids, together, strict=True):
            assert row.tolist() == generate(MODEL, alone, 9, beams=3, **options).tolist()
            assert (
                row.tolist() == generate(MODEL, alone, 9, beams=3, cache=False, **options).tolist()
            )


def test_beams_find_what_greedy_misses():
    better = 0
    for seed in range(6):
        model = random_gpt(seed, std=0.4)
        greedy, beam = generate(model, [1], 8, greedy=True), generate(model, [1], 8, beams=4)
        gain = log_p(model, beam.tolist(), 1) - log_p(model, greedy.tolist(), 1)
        better += gain > 1e-9
    assert better > 0


def test_beams_refuse_logits_that_are_not_finite():
    with pytest.raises(FloatingPointError, match="not finite"):
        generate(Fixed([0.0, np.nan]), [0], 2, beams=2)


# -- text ------------------------------------------------------------------------------------------


class Recites(Module):
    """Says a text, whatever it has read; ends with id V - 1."""

    def __init__(self, ids, size):
        self.weight = Parameter(np.zeros(1))
        self.say, self.size = [*ids, size - 1], size

    def forward(self, ids):
        logits = np.zeros((*ids.shape, self.size))
        logits[:, -1, self.say[ids.shape[-1] - 1]] = 50.0
        return Tensor(logits)


class Bytes:
    """Each byte of the UTF-8 is an id; 256 ends the text."""

    eos_id = 256

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids):
        return bytes(ids).decode("utf-8", "replace")


def recite(text, count=100, **options):
    model = Recites(text.encode(), 257)
    return list(stream_text(model, Bytes(), "#", count, eos_id=256, greedy=True, **options))


def test_text_comes_in_whole_characters():
    text = "naïve 模型 🙂!"
    assert recite(text) == list(text)
    assert recite("模型", 4) == ["模", "\ufffd"]  # it ends within a character


@given(st.text("abc", max_size=12), st.lists(st.text("abc", min_size=1, max_size=3), max_size=3))
def test_stop_strings_end_the_text_at_the_first(text, stops):
    want = min((text[: text.index(s)] for s in stops if s in text), key=len, default=text)
    got = recite(text, stop=stops)
    # one stop may begin before another and be complete after it: what is complete first, counts
    first = min(
        (n for n in range(len(text) + 1) if any(s in text[:n] for s in stops)), default=None
    )
    if first is not None:
        want = text[: min(text[:first].index(s) for s in stops if s in text[:first])]
    assert "".join(got) == want
    assert all(got)


def test_a_stop_string_may_be_given_alone():
    assert "".join(recite("one. two.", stop=". t")) == "one"
    with pytest.raises(ValueError, match="not empty"):
        recite("one", stop="")


def test_ctrl_c_keeps_what_was_written():
    class Interrupted(Recites):
        def forward(self, ids):
            if ids.shape[-1] == 5:
                raise KeyboardInterrupt
            return super().forward(ids)

    model = Interrupted(b"abcdef", 257)
    pieces = stream_text(model, Bytes(), "#", 9, stop="cdx", greedy=True)
    # "cd" was held back, since it could have been the stop
    assert [next(pieces) for _ in range(3)] == ["a", "b", "cd"]
    with pytest.raises(KeyboardInterrupt):
        next(pieces)


def test_text_of_a_trained_vocabulary(model):
    vocabulary = CharVocab("abcdefg")
    ids = generate(model, vocabulary.encode("ba"), 9, seed=1)
    pieces = stream_text(model, vocabulary, "ba", 9, seed=1)
    assert "".join(pieces) == vocabulary.decode(ids[2:])
