"""The recurrent encoder–decoder: shapes, teacher forcing, padding, writing, attention maps, errors.
(Beside torch.nn: tests/parity/test_recurrent_models.py.)"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scratchlm import optim
from scratchlm.interpret import record_attention
from scratchlm.models import RecurrentEncoderDecoder, RecurrentEncoderDecoderConfig
from scratchlm.train import Pairs, TrainConfig, Trainer, load_model

RNG = np.random.default_rng
CONFIG = RecurrentEncoderDecoderConfig(11, 7, n_layer=2, n_embd=8, dropout=0.0, pad_id=0)
SOURCE = np.array([[3, 4, 5, 6, 7], [8, 9, 10, 0, 0]])
TARGET = np.array([[1, 3, 4, 2], [1, 5, 2, 0]])
KINDS = ("rnn", "lstm", "gru")


def model_of(**changes):
    config = dataclasses.replace(CONFIG, **changes)
    return RecurrentEncoderDecoder(config, rng=0, dtype=np.float64)


def eloquent(**changes):
    """With large weights, so that what it writes depends on the source and on what is written."""
    model = model_of(tie_weights=False, **changes)
    rng = RNG(2)
    for parameter in model.parameters():
        parameter.data[...] = 1.5 * rng.standard_normal(parameter.shape)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_learns(kind, bidirectional, tied):
    model = model_of(kind=kind, bidirectional=bidirectional, tie_weights=tied)
    assert model(SOURCE, TARGET).shape == (2, 4, 7)
    model.loss(SOURCE, TARGET).backward()
    assert all(np.abs(p.grad.data).max() > 1e-9 for p in model.parameters())
    assert (model.lm_head.weight is model.target.weight) == tied
    assert not model.source.weight.grad.data[0].any()  # padding


def test_one_pair_without_a_batch():
    model = model_of()
    both = model(SOURCE, TARGET).data
    assert np.abs(model(SOURCE[0], TARGET[0]).data - both[0]).max() < 1e-12  # order of sums
    short = model(SOURCE[1, :3], TARGET[1, :3]).data
    assert np.abs(short - both[1, :3]).max() < 1e-12
    alone = model.greedy(SOURCE[0], start_id=1, max_new_tokens=3)
    assert np.array_equal(alone, model.greedy(SOURCE, start_id=1, max_new_tokens=3)[0])


def test_the_loss_asks_each_position_for_the_next_token():
    model = model_of()
    logits = model(SOURCE, TARGET[:, :-1]).data
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    asked = [(b, t, TARGET[b, t + 1]) for b in (0, 1) for t in range(3) if TARGET[b, t + 1]]
    want = -np.mean([logp[each] for each in asked])
    assert abs(model.loss(SOURCE, TARGET).item() - want) < 1e-12
    smooth = model.loss(SOURCE, TARGET, label_smoothing=0.1).item()
    uniform = -np.mean([logp[b, t].mean() for b, t, _ in asked])
    assert abs(smooth - (0.9 * want + 0.1 * uniform)) < 1e-12


def test_the_future_of_the_target_does_not_leak():
    model = eloquent()
    before = model(SOURCE, TARGET).data
    changed = TARGET.copy()
    changed[:, 2:] = 6
    after = model(SOURCE, changed).data
    assert np.array_equal(before[:, :2], after[:, :2])
    assert not np.array_equal(before[:, 2:], after[:, 2:])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_is_never_read(bidirectional):
    model = eloquent(bidirectional=bidirectional)
    longer = np.concatenate([SOURCE, np.zeros((2, 3), int)], axis=1)
    y = model(SOURCE, TARGET).data
    assert np.abs(model(longer, TARGET).data - y).max() < 1e-12
    without = eloquent(bidirectional=bidirectional, pad_id=None)
    assert np.abs(without(longer, TARGET).data - y).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_takes_the_likeliest_token_each_time(kind):
    model = eloquent(kind=kind)
    written = np.full((2, 1), 1)
    for _ in range(6):
        written = np.concatenate([written, model(SOURCE, written).data[:, -1:].argmax(-1)], axis=1)
    assert len(np.unique(written[:, 1:])) > 2
    assert not np.array_equal(*written[:, 1:])
    assert np.array_equal(model.greedy(SOURCE, start_id=1, max_new_tokens=6), written[:, 1:])
    assert model.greedy(SOURCE, start_id=1, max_new_tokens=0).shape == (2, 0)


def test_greedy_stops_at_the_end_token_and_leaves_the_mode():
    model = eloquent(dropout=0.5)
    free = model.greedy(SOURCE, start_id=1, max_new_tokens=8)
    end = int(free[0, 1])
    got = model.greedy(SOURCE, start_id=1, end_id=end, max_new_tokens=8)
    assert model.training
    for row, want in zip(got, free, strict=True):
        stop = list(want).index(end) + 1 if end in want else len(want)
        assert np.array_equal(row[:stop], want[: min(stop, len(row))])
        assert (row[stop:] == end).all()


@pytest.mark.parametrize("kind", KINDS)
def test_with_enough_beams_the_best_of_all_targets_is_found(kind):
    """All 7³ targets of three tokens, scored one by one, beside a search that forgets none."""
    model = eloquent(kind=kind)
    every = np.stack(np.meshgrid(*[np.arange(7)] * 3, indexing="ij"), -1).reshape(-1, 3)
    starts = np.ones((len(every), 1), int)
    found = model.beam(SOURCE, start_id=1, max_new_tokens=3, beams=49)
    for row, source in zip(found, SOURCE, strict=True):
        sources = np.broadcast_to(source, (len(every), 5))
        logits = model(sources, np.concatenate([starts, every[:, :-1]], axis=1)).data
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        score = np.take_along_axis(logp, every[..., None], axis=-1).sum((1, 2))
        assert row.tolist() == every[score.argmax()].tolist()


def test_beams_in_a_batch_are_those_alone():
    model = eloquent()
    options = {"start_id": 1, "max_new_tokens": 6, "end_id": 2, "beams": 3}
    together = model.beam(SOURCE, **options)
    for source, row in zip((SOURCE[0], SOURCE[1, :3]), together, strict=True):
        alone = model.beam(source, **options)
        assert row[: len(alone)].tolist() == alone.tolist()


def test_it_learns_to_reverse():
    """Without the source the loss stays at ln 3 = 1.1. Recorded for four seeds: 0.001 nats,
    and all right."""
    rng = RNG(0)
    config = RecurrentEncoderDecoderConfig(6, 6, "gru", n_layer=1, n_embd=32, dropout=0.0)
    model = RecurrentEncoderDecoder(config, rng=0)
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    start = np.ones((32, 1), int)
    for _ in range(250):
        words = rng.integers(3, 6, size=(32, 5))
        loss = model.loss(words, np.concatenate([start, words[:, ::-1]], axis=1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    words = rng.integers(3, 6, size=(50, 5))
    for write in (model.greedy, model.beam):
        right = write(words, start_id=1, max_new_tokens=5) == words[:, ::-1]
        assert right.mean() > 0.95


def test_the_trainer_trains_it_on_pairs(tmp_path):
    pytest.importorskip("safetensors")
    rng = RNG(0)
    pairs = [(w, w[::-1]) for w in (rng.integers(3, 6, size=rng.integers(1, 5)) for _ in range(60))]
    task = Pairs(pairs[:50], pairs[50:], pad_id=0, start_id=1, end_id=2)
    model = RecurrentEncoderDecoder(dataclasses.replace(CONFIG, dropout=0.2), rng=0)
    trainer = Trainer(model, task, TrainConfig(steps=3, batch_size=8), out=tmp_path)
    trainer.fit(progress=False)
    assert np.isfinite(trainer.validation_loss())
    again, _, _ = load_model(tmp_path)
    assert np.array_equal(again.eval()(SOURCE, TARGET).data, model.eval()(SOURCE, TARGET).data)


def test_attention_is_recorded():
    model = eloquent()
    with record_attention(model) as maps:
        model(SOURCE, TARGET)
    ((weights,),) = maps.values()
    assert weights.shape == (2, 1, 4, 5)
    assert np.abs(weights.sum(-1) - 1).max() < 1e-12
    assert not weights[1, :, :, 3:].any()  # padding


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="kind='elman' is none of rnn, lstm, gru; dropout=1"):
        RecurrentEncoderDecoderConfig(11, 7, "elman", dropout=1)
    with pytest.raises(ValueError, match="n_embd=9 is odd, and bidirectional halves it"):
        RecurrentEncoderDecoderConfig(11, 7, n_embd=9, bidirectional=True)
    model = model_of()
    with pytest.raises(ValueError, match="source 1 holds pad_id=0 before its end"):
        model([[3, 4, 5], [3, 0, 5]], TARGET)
    with pytest.raises(ValueError, match="source 0 holds pad_id=0 before its end, or nothing else"):
        model([[0, 0, 0]], TARGET[:1])
    with pytest.raises(ValueError, match=r"RecurrentEncoderDecoder: target: ids of shape \(1, 0\)"):
        model(SOURCE[:1], np.zeros((1, 0), int))
    with pytest.raises(IndexError, match="id 11"):
        model([[11]], [[1]])
    with pytest.raises(IndexError, match="outside"):
        model.greedy(SOURCE, start_id=7, max_new_tokens=2)
