"""The encoder–decoder: shapes, teacher forcing, padding, greedy decoding, errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scratchlm import functional as F
from scratchlm import optim
from scratchlm.models import EncoderDecoder, EncoderDecoderConfig

RNG = np.random.default_rng
CONFIG = EncoderDecoderConfig(
    11, 7, block_size=9, n_layer=2, n_head=2, n_embd=8, dropout=0.0, pad_id=0
)
SOURCE = np.array([[3, 4, 5, 6, 7], [8, 9, 10, 0, 0]])
TARGET = np.array([[1, 3, 4, 2], [1, 5, 2, 0]])


def model_of(**changes):
    return EncoderDecoder(dataclasses.replace(CONFIG, **changes), rng=0, dtype=np.float64)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("tied", [False, True])
def test_every_parameter_learns(norm_first, positions, tied):
    model = model_of(norm_first=norm_first, positions=positions, tie_weights=tied)
    assert model(SOURCE, TARGET).shape == (2, 4, 7)
    model.loss(SOURCE, TARGET).backward()
    without = {name for name, p in model.named_parameters() if not np.abs(p.grad.data).max() > 1e-9}
    # softmax does not see what is added to all keys alike
    assert without == {name for name, _ in model.named_parameters() if name.endswith("k_proj.bias")}
    assert (model.lm_head.weight is model.target.tokens.weight) == tied
    assert not model.source.tokens.weight.grad.data[0].any()  # padding


def test_a_pad_id_makes_the_mask():
    longer = np.concatenate([SOURCE, np.zeros((2, 3), int)], axis=1)
    y = model_of()(SOURCE, TARGET).data
    assert np.abs(model_of()(longer, TARGET).data - y).max() < 1e-12
    assert np.abs(model_of(pad_id=None)(longer, TARGET).data - y).max() > 1e-3


def test_it_learns_to_reverse():
    """Without the source the loss stays at ln 3 = 1.1. Recorded for four seeds, with Numba and
    without, which round differently: 0.002 nats each. (One layer at a rate of 5e-3 now and then
    leaves that plateau only after 250 steps.)"""
    rng = RNG(0)
    model = EncoderDecoder(
        EncoderDecoderConfig(6, 6, 8, n_layer=2, n_head=2, n_embd=32, dropout=0.0), rng=0
    )
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(300):
        words = rng.integers(3, 6, size=(32, 4))
        start = np.ones((32, 1), int)
        loss = model.loss(words, np.concatenate([start, words[:, ::-1]], axis=1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    words = rng.integers(3, 6, size=(50, 4))
    right = model.greedy(words, start_id=1, max_new_tokens=4) == words[:, ::-1]
    assert right.mean() > 0.9


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"n_head": 3}, ValueError, "n_embd=8 does not split evenly into n_head=3"),
        ({"n_layer": 0, "dropout": 1.0}, ValueError, "n_layer=0 is below 1; dropout=1.0"),
        ({"block_size": 2.0}, TypeError, "block_size is an integer"),
        ({"positions": "rotary"}, ValueError, "positions='rotary' is none of sinusoidal, learned"),
        ({"n_embd": 7, "n_head": 1}, ValueError, "n_embd=7 is odd"),
        ({"eps": 0.0}, ValueError, "eps=0.0 is not positive"),
    ],
)
def test_sizes_that_can_not_be_are_refused(changes, error, words):
    with pytest.raises(error, match=words):
        dataclasses.replace(CONFIG, **changes)


def test_the_config_goes_through_plain_numbers():
    assert EncoderDecoderConfig.from_dict(CONFIG.to_dict()) == CONFIG
    with pytest.raises(ValueError, match="EncoderDecoderConfig has no 'n_heads'"):
        EncoderDecoderConfig.from_dict({**CONFIG.to_dict(), "n_heads": 2})


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: m(SOURCE[None], TARGET), ValueError, r"source has shape \(1, 2, 5\)"),
        (lambda m: m(SOURCE, TARGET[:, :0]), ValueError, "target of shape .* is empty"),
        (lambda m: m(np.tile(SOURCE, 2), TARGET), ValueError, "positions 0 to 9 are asked for"),
        (lambda m: m(SOURCE + 1.0, TARGET), TypeError, "integer"),
        (lambda m: m(SOURCE, TARGET + 6), IndexError, "embedding"),
        (lambda m: m(SOURCE, TARGET[:1]), ValueError, "the axes before the length must agree"),
        (
            lambda m: m.greedy(SOURCE, start_id=1, max_new_tokens=10),
            ValueError,
            "max_new_tokens=10, and there are positions for 0 to 9",
        ),
    ],
)
def test_ids_that_do_not_fit_are_refused(call, error, words):
    with pytest.raises(error, match=words):
        call(model_of())


def test_a_fault_in_the_shift_would_be_seen():
    """Without the shift the model is asked for what it was just given."""
    model = model_of()
    unshifted = F.cross_entropy(model(SOURCE, TARGET), TARGET, ignore_index=0).item()
    assert abs(unshifted - model.loss(SOURCE, TARGET).item()) > 0.1
