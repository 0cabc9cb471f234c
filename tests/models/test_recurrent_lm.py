"""The recurrent language model: its loss, the states it carries, and how it writes with them."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchlm import no_grad, optim
from scratchlm.data import Corpus
from scratchlm.generate import generate, stream
from scratchlm.models import RecurrentLM, RecurrentLMConfig
from scratchlm.nn import StateCache
from scratchlm.text import CharVocab
from scratchlm.train import TrainConfig, Trainer, load_model

V = 11
KINDS = ("rnn", "lstm", "gru")
# float64 rounding through two layers
CLOSE = 1e-13


def model_of(kind="lstm", rng=0, dtype=np.float64, **changes) -> RecurrentLM:
    config = RecurrentLMConfig(V, kind, n_layer=2, n_embd=6)
    return RecurrentLM(dataclasses.replace(config, **changes), rng=rng, dtype=dtype)


def eloquent(kind="lstm") -> RecurrentLM:
    """With large weights, so that it does not write one word again and again."""
    model = model_of(kind, tie_weights=False)
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        parameter.data[...] = 1.5 * rng.standard_normal(parameter.shape)
    return model


MODELS = {kind: eloquent(kind) for kind in KINDS}


def ids_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(V, size=shape)


# -- configuration, shapes -------------------------------------------------------------------------


def test_a_configuration_survives_json():
    config = RecurrentLMConfig(65, "gru", 1, 32, dropout=0.1, bias=False)
    assert RecurrentLMConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_wrong_configuration_names_every_reason():
    with pytest.raises(ValueError) as caught:
        RecurrentLMConfig(kind="elman", dropout=1.0)
    assert str(caught.value) == (
        "RecurrentLMConfig: kind='elman' is none of rnn, lstm, gru; dropout=1.0 lies outside [0, 1)"
    )
    with pytest.raises(ValueError, match="n_layer=0 is below 1"):
        RecurrentLMConfig(n_layer=0)
    with pytest.raises(TypeError, match=r"n_embd is an integer, not 1\.5"):
        RecurrentLMConfig(n_embd=1.5)


@pytest.mark.parametrize(("kind", "gates"), [("rnn", 1), ("lstm", 4), ("gru", 3)])
def test_number_of_parameters(kind, gates):
    layer = gates * (2 * 6 * 6 + 2 * 6)
    assert model_of(kind).num_parameters() == V * 6 + 2 * layer
    untied = model_of(kind, tie_weights=False, bias=False)
    assert untied.num_parameters() == 2 * V * 6 + 2 * gates * 2 * 6 * 6


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_loss_is_that_of_guessing(kind):
    """ln V, within 2 %: at the start no token is likelier than another."""
    for size in (27, 1000):
        model = RecurrentLM(RecurrentLMConfig(size, kind, n_layer=1, n_embd=64), rng=0)
        ids = np.random.default_rng(0).integers(size, size=(4, 65))
        _, loss = model(ids[:, :-1], ids[:, 1:])
        assert abs(loss.item() / math.log(size) - 1) < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_one_sequence_equals_a_batch_of_one(kind):
    model, ids = model_of(kind), ids_of(5)
    assert np.array_equal(model(ids).data, model(ids[None]).data[0])
    assert np.array_equal(model(ids.tolist()).data, model(ids).data)
    logits, loss = model(ids, ids_of(5, seed=1))
    assert logits.shape == (5, V)
    assert loss.shape == ()


def test_float32_is_the_default_and_stays():
    model = RecurrentLM(RecurrentLMConfig(V, n_embd=6), rng=0)
    cache = StateCache([0, 1])
    logits, loss = model(ids_of(2, 5), ids_of(2, 5, seed=1), cache=cache)
    loss.backward()
    assert logits.dtype == loss.dtype == cache.states["rnn"][0].dtype == np.float32
    assert {p.grad.dtype for p in model.parameters()} == {np.dtype(np.float32)}


def test_bad_input_is_named():
    model = model_of()
    with pytest.raises(ValueError, match=r"RecurrentLM: ids have shape \(1, 2, 3\)"):
        model(ids_of(1, 2, 3))
    with pytest.raises(ValueError, match="hold no token"):
        model(ids_of(2, 0))
    with pytest.raises(IndexError, match=r"id 11 at index \(0,\) is outside \[0, 11\)"):
        model([11])
    with pytest.raises(TypeError, match="ids must be integers"):
        model([0.5])
    cache = StateCache()
    model(ids_of(2, 3), cache=cache)
    with pytest.raises(ValueError, match=r"LSTM: h has shape \(2, 2, 6\); it must be \(2, 3, 6\)"):
        model(ids_of(3, 1), cache=cache)
    with pytest.raises(ValueError, match=r"StateCache: padding=\[-1\] must hold one number"):
        StateCache([-1])


def test_the_future_does_not_leak():
    model = model_of()
    ids = ids_of(2, 6)
    before = model(ids).data
    ids[:, 3:] = 1 - ids[:, 3:] % 2
    assert np.array_equal(model(ids).data[:, :3], before[:, :3])


def test_dropout_is_between_layers_and_in_training_only():
    model = model_of(dropout=0.5)
    ids = ids_of(1, 5)
    assert np.abs(model(ids).data - model(ids).data).max() > 1e-3
    model.eval()
    assert np.array_equal(model(ids).data, model(ids).data)


# -- states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [[7], [1] * 7, [3, 4], [1, 5, 1]])
def test_pieces_with_a_cache_are_one_sequence(kind, pieces):
    model, ids = MODELS[kind], ids_of(2, 7)
    cache, found, start = StateCache(), [], 0
    for size in pieces:
        found.append(model(ids[:, start : start + size], cache=cache).data)
        start += size
    assert cache.length == 7
    assert np.abs(np.concatenate(found, axis=1) - model(ids).data).max() < CLOSE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("rows", "pieces"),
    [
        ([[3, 1, 4, 1, 5, 2, 6], [6], [5, 3, 5]], [7]),
        ([[3, 1, 4, 1, 5, 2, 6], [6], [5, 3, 5]], [4, 1, 2]),
        ([[3], [1, 4]], [1, 1]),
        ([[3, 1, 4, 1, 5, 2], [1, 4]], [1] * 6),
    ],
)
def test_padding_on_the_left_changes_nothing(kind, rows, pieces):
    """Whatever stands in the padding, and also where a row's first piece is padding alone."""
    model = MODELS[kind]
    longest = max(map(len, rows))
    padding = [longest - len(row) for row in rows]
    batch = np.array([[7] * n + row for n, row in zip(padding, rows, strict=True)])
    cache, found, start = StateCache(padding), [], 0
    for size in pieces:
        found.append(model(batch[:, start : start + size], cache=cache).data)
        start += size
    got = np.concatenate(found, axis=1)
    for b, n in enumerate(padding):
        assert np.abs(got[b, n:] - model(np.array(rows[b])).data).max() < CLOSE


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_go_through_the_states_up_to_a_detach(kind):
    """Two windows with one cache have the gradient of the whole; detached, that of two texts whose
    second begins with given states."""
    model, ids, targets = model_of(kind), ids_of(2, 6), ids_of(2, 6, seed=1)

    def gradient(detach):
        cache, total = StateCache(), None
        for part in (slice(0, 2), slice(2, 6)):
            _, loss = model(ids[:, part], targets[:, part], cache=cache)
            weighted = loss * targets[:, part].size
            total = weighted if total is None else total + weighted
            if detach:
                cache.detach()
        return gradients_of(total)

    def gradients_of(loss):
        for p in model.parameters():
            p.grad = None
        loss.backward()
        return [p.grad.data.copy() for p in model.parameters()]

    whole = gradients_of(model(ids, targets)[1] * targets.size)
    for a, b in zip(gradient(detach=False), whole, strict=True):
        assert np.abs(a - b).max() < 1e-12
    apart = max(np.abs(a - b).max() for a, b in zip(gradient(detach=True), whole, strict=True))
    assert apart > 1e-3


def test_a_pass_that_breaks_off_leaves_the_states():
    model, cache = MODELS["lstm"], StateCache()
    model([[1, 2]], cache=cache)
    with pytest.raises(IndexError):
        model([[3, 99]], cache=cache)
    assert cache.length == 2
    got = model([[3]], cache=cache).data[:, -1]
    assert np.abs(got - model([[1, 2, 3]]).data[:, -1]).max() < CLOSE


@pytest.mark.parametrize("kind", KINDS)
def test_select_repeats_and_drops_rows(kind):
    model, cache = MODELS[kind], StateCache([0, 1, 0])
    with no_grad():
        model(np.array([[1, 2], [0, 3], [4, 5]]), cache=cache)
        cache.select([1, 1, 0])
        got = model(np.array([[6], [5], [4]]), cache=cache).data[:, -1]
        want = [model(np.array(row)).data[-1] for row in ([3, 6], [3, 5], [1, 2, 4])]
    assert np.abs(got - want).max() < CLOSE
    assert cache.padding.tolist() == [1, 1, 0]


# -- writing ---------------------------------------------------------------------------------------

prompts = st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=9), min_size=1, max_size=4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_models_of_these_tests_have_something_to_say(kind):
    texts = [generate(MODELS[kind], [first], 12, greedy=True)[1:] for first in range(V)]
    assert len(np.unique(texts)) >= 5
    assert len({tuple(text) for text in texts}) > 5


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(KINDS), prompts, st.integers(0, 10))
def test_cached_equals_uncached_and_each_prompt_is_continued_as_alone(kind, ids, count):
    model = MODELS[kind]
    for options in ({"greedy": True}, {"seed": 3, "top_p": 0.9}):
        cached = generate(model, ids, count, **options)
        again = generate(model, ids, count, cache=False, **options)
        assert [row.tolist() for row in cached] == [row.tolist() for row in again]
    for alone, row in zip(ids, generate(model, ids, count, greedy=True), strict=True):
        assert row.tolist() == generate(model, alone, count, greedy=True, cache=False).tolist()


def test_each_token_costs_one_step_however_long_the_text(monkeypatch):
    model, read = MODELS["gru"], []
    forward = RecurrentLM.forward

    def counted(self, ids, *, cache=None, last_only=False):
        read.append(ids.shape[1])
        return forward(self, ids, cache=cache, last_only=last_only)

    monkeypatch.setattr(RecurrentLM, "forward", counted)
    for _ in stream(model, [[1, 2, 3], [4, 5, 6]], 40, seed=0):
        pass
    assert read == [3] + [1] * 39


@pytest.mark.parametrize("kind", KINDS)
def test_beams_in_a_batch_of_unequal_prompts_are_those_alone(kind):
    ids = [[1, 2, 3, 4], [5], [6, 7]]
    options = {"beams": 3, "eos_id": 2}
    together = generate(MODELS[kind], ids, 6, **options)
    for prompt, row in zip(ids, together, strict=True):
        assert row.tolist() == generate(MODELS[kind], prompt, 6, cache=False, **options).tolist()


def skipped_nothing(self, T):
    return None


def chosen_nothing(self, f):
    pass


@pytest.mark.parametrize(
    ("name", "fault"), [("skipped", skipped_nothing), ("_map", chosen_nothing)]
)
def test_faults_in_the_cache_are_caught(name, fault, monkeypatch):
    ids = [[1, 2, 3, 4], [5], [6, 7]]
    wanted = [generate(MODELS["lstm"], row, 6, beams=3).tolist() for row in ids]
    assert [row.tolist() for row in generate(MODELS["lstm"], ids, 6, beams=3)] == wanted
    monkeypatch.setattr(StateCache, name, fault)
    try:
        found = [row.tolist() for row in generate(MODELS["lstm"], ids, 6, beams=3)]
    except ValueError:  # rows that were not chosen do not fit
        return
    assert found != wanted


# -- training --------------------------------------------------------------------------------------


def small_corpus():
    text = "\n".join(f"{i} and {i + 1} make {2 * i + 1}." for i in range(200))
    vocabulary = CharVocab(text)
    ids = vocabulary.encode(text)
    return Corpus(ids[:-400], ids[-400:], vocabulary)


@pytest.mark.parametrize("kind", KINDS)
def test_the_trainer_trains_it_and_a_checkpoint_brings_it_back(kind, tmp_path):
    data = small_corpus()
    config = TrainConfig(steps=60, batch_size=8, length=32, lr=1e-2)
    model = RecurrentLM(
        RecurrentLMConfig(len(data.vocabulary), kind, n_layer=1, n_embd=32, dropout=0.1), rng=0
    )
    Trainer(model, data, config, out=tmp_path).fit(progress=False)
    again, vocabulary, _ = load_model(tmp_path)
    assert again.config == model.config
    ids = data.validation[None, :20]
    model.eval(), again.eval()
    assert np.array_equal(again(ids).data, model(ids).data)
    unigram = -np.log(np.bincount(data.train, minlength=len(vocabulary)) / len(data.train))
    # recorded: 0.98 (rnn), 1.20 (lstm), 1.08 nats (gru), where single characters have 2.80
    _, loss = again(data.validation[None, :-1], data.validation[None, 1:])
    assert loss.item() < 0.7 * unigram[data.validation].mean()


def test_it_overfits_one_batch():
    """Recorded for all kinds: below 0.002 nats."""
    ids = ids_of(4, 9, seed=5)
    for kind in KINDS:
        model = RecurrentLM(RecurrentLMConfig(V, kind, n_layer=1, n_embd=32), rng=0)
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(200):
            _, loss = model(ids[:, :-1], ids[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.02
