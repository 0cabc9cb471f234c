"""What every encoder–decoder does alike: one pair or many, teacher forcing, greedy, beam search."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scratchlm.models import (
    T5,
    EncoderDecoder,
    EncoderDecoderConfig,
    RecurrentEncoderDecoder,
    RecurrentEncoderDecoderConfig,
    T5Config,
)

RNG = np.random.default_rng
SOURCE = np.array([[3, 4, 5, 6, 7], [8, 9, 10, 0, 0]])
TARGET = np.array([[1, 3, 4, 2], [1, 5, 2, 0]])
RECURRENT = {
    kind: (RecurrentEncoderDecoder, RecurrentEncoderDecoderConfig(11, 7, kind, 2, 8, 0.0, pad_id=0))
    for kind in ("rnn", "lstm", "gru")
}
TRANSFORMER = EncoderDecoderConfig(11, 7, 9, 1, 2, 8, 0.0, pad_id=0)
MODELS = {
    "transformer": (EncoderDecoder, TRANSFORMER),
    "pre-norm": (EncoderDecoder, dataclasses.replace(TRANSFORMER, n_layer=2, norm_first=True)),
    **RECURRENT,
    "t5": (T5, T5Config(11, 2, None, 3, 8, 2, 10, dropout=0.0)),
    "gated t5": (T5, T5Config(11, 1, 2, 3, 8, 2, 10, feed_forward="gated-gelu", dropout=0.0)),
}
every_model = pytest.mark.parametrize("name", MODELS)


def eloquent(name, **changes):
    """With large weights, so that what it writes depends on the source and on what is written."""
    kind, config = MODELS[name]
    model = kind(dataclasses.replace(config, tie_weights=False, **changes), rng=0, dtype=np.float64)
    rng = RNG(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data[...] = 1.5 * rng.standard_normal(parameter.shape)
    return model


def logits_of(model, source, target):
    source = np.asarray(source)
    mask = {"attention_mask": source != 0} if isinstance(model, T5) else {}
    return model(source, target, **mask).data


@every_model
def test_one_pair_without_a_batch(name):
    model = eloquent(name)
    both = logits_of(model, SOURCE, TARGET)
    size = np.abs(both).max()  # what rounding is relative to
    assert np.abs(logits_of(model, SOURCE[0], TARGET[0]) - both[0]).max() < 1e-12 * size
    short = logits_of(model, SOURCE[1, :3], TARGET[1, :3])
    assert np.abs(short - both[1, :3]).max() < 1e-12 * size
    for write in (model.greedy, model.beam):
        alone = write(SOURCE[0], start_id=1, max_new_tokens=3)
        assert np.array_equal(alone, write(SOURCE, start_id=1, max_new_tokens=3)[0])
        assert np.array_equal(alone, write(SOURCE[0].tolist(), start_id=1, max_new_tokens=3))


@every_model
def test_the_future_of_the_target_does_not_leak(name):
    model = eloquent(name)
    before = logits_of(model, SOURCE, TARGET)
    changed = TARGET.copy()
    changed[:, 2:] = 6
    after = logits_of(model, SOURCE, changed)
    assert np.array_equal(before[:, :2], after[:, :2])
    assert not np.array_equal(before[:, 2:], after[:, 2:])


@pytest.mark.parametrize("name", [name for name in MODELS if "t5" not in name])
def test_the_loss_asks_each_position_for_the_next_token(name):
    model = eloquent(name)
    logits = logits_of(model, SOURCE, TARGET[:, :-1])
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    asked = [(b, t, TARGET[b, t + 1]) for b in (0, 1) for t in range(3) if TARGET[b, t + 1]]
    assert len(asked) == 5  # not the padding
    want = -np.mean([logp[each] for each in asked])
    size = np.abs(logits).max()
    assert abs(model.loss(SOURCE, TARGET).item() - want) < 1e-12 * size
    smooth = model.loss(SOURCE, TARGET, label_smoothing=0.1).item()
    uniform = -np.mean([logp[b, t].mean() for b, t, _ in asked])
    assert abs(smooth - (0.9 * want + 0.1 * uniform)) < 1e-12 * size


@every_model
def test_greedy_takes_the_likeliest_token_each_time(name):
    model = eloquent(name)
    written = np.full((2, 1), 1)
    for _ in range(6):
        likeliest = logits_of(model, SOURCE, written)[:, -1:].argmax(-1)
        written = np.concatenate([written, likeliest], axis=1)
    assert len(np.unique(written[:, 1:])) > 2
    assert not np.array_equal(*written[:, 1:])
    assert np.array_equal(model.greedy(SOURCE, start_id=1, max_new_tokens=6), written[:, 1:])
    assert model.greedy(SOURCE, start_id=1, max_new_tokens=0).shape == (2, 0)


@every_model
def test_greedy_stops_at_the_end_token_and_leaves_the_mode(name):
    model = eloquent(name, dropout=0.5)
    free = model.greedy(SOURCE, start_id=1, max_new_tokens=8)
    end = int(free[0, 1])
    got = model.greedy(SOURCE, start_id=1, end_id=end, max_new_tokens=8)
    assert model.training
    for row, want in zip(got, free, strict=True):
        stop = list(want).index(end) + 1 if end in want else len(want)
        assert np.array_equal(row[:stop], want[: min(stop, len(row))])
        assert (row[stop:] == end).all()


@every_model
def test_with_enough_beams_the_best_of_all_targets_is_found(name):
    """All V³ targets of three tokens, scored one by one, beside a search that forgets none."""
    model = eloquent(name)
    V = logits_of(model, SOURCE, TARGET).shape[-1]
    every = np.stack(np.meshgrid(*[np.arange(V)] * 3, indexing="ij"), -1).reshape(-1, 3)
    starts = np.ones((len(every), 1), int)
    found = model.beam(SOURCE, start_id=1, max_new_tokens=3, beams=V * V)
    for row, source in zip(found, SOURCE, strict=True):
        sources = np.broadcast_to(source, (len(every), 5))
        logits = logits_of(model, sources, np.concatenate([starts, every[:, :-1]], axis=1))
        most = logits.max(-1, keepdims=True)
        logp = logits - most - np.log(np.exp(logits - most).sum(-1, keepdims=True))
        score = np.take_along_axis(logp, every[..., None], axis=-1).sum((1, 2))
        assert row.tolist() == every[score.argmax()].tolist()


@every_model
def test_beams_in_a_batch_are_those_alone(name):
    model = eloquent(name)
    options = {"start_id": 1, "max_new_tokens": 6, "end_id": 2, "beams": 3}
    together = model.beam(SOURCE, **options)
    for source, row in zip((SOURCE[0], SOURCE[1, :3]), together, strict=True):
        alone = model.beam(source, **options)
        assert row[: len(alone)].tolist() == alone.tolist()
