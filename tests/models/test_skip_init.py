"""Weights that a file holds are not drawn first; and none that was not in it is left over."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from scratchlm import nn
from scratchlm.models import (
    BERT,
    G2P,
    GPT,
    T5,
    BERTConfig,
    BERTForMaskedLM,
    BERTForSequenceClassification,
    GPTConfig,
    Llama,
    LlamaConfig,
    RecurrentLM,
    RecurrentLMConfig,
    T5Config,
    load_pretrained,
    save_pretrained,
)
from scratchlm.models.g2p import NAMES
from scratchlm.nn import layers
from scratchlm.train import load_model, save_checkpoint

LLAMA = LlamaConfig(11, 7, n_layer=1, n_head=2, n_kv_head=1, n_embd=8, n_inner=10)
ENCODER = BERTConfig(11, 7, n_layer=1, n_head=2, n_embd=8, n_inner=10)
PUBLISHED = {
    "GPT": lambda: GPT(GPTConfig(11, 7, n_layer=1, n_head=2, n_embd=8), rng=1),
    "Llama": lambda: Llama(LLAMA, rng=1),
    "BERT": lambda: BERT(ENCODER, rng=1),
    "BERTForMaskedLM": lambda: BERTForMaskedLM(ENCODER, rng=1),
    "BERTForSequenceClassification": lambda: BERTForSequenceClassification(ENCODER, rng=1),
    "T5": lambda: T5(
        T5Config(11, n_layer=1, n_head=2, n_embd=8, head_dim=4, n_inner=10), rng=1
    ),
}  # fmt: skip


@pytest.fixture
def undrawn(monkeypatch):
    """What is not drawn is not a number, and drawing is an error; the shapes that were made."""
    made: list[tuple[int, ...]] = []

    def nowhere(shape, dtype):
        made.append(shape)
        return nn.Parameter(np.full(shape, np.nan, dtype))

    def never(*_):
        raise AssertionError("a weight was drawn")

    monkeypatch.setattr(layers, "_undrawn", nowhere)
    monkeypatch.setattr(layers, "_draw", never)
    return made


def check(model, state, made):
    again = model.state_dict()
    assert again.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)
    assert made  # or nothing would have been seen


@pytest.mark.parametrize("name", PUBLISHED)
def test_published(name, tmp_path, request):
    model = PUBLISHED[name]()
    save_pretrained(model, tmp_path)
    made = request.getfixturevalue("undrawn")
    check(load_pretrained(tmp_path), model.state_dict(), made)


@pytest.mark.parametrize("kind", ["GPT", "RecurrentLM"])
def test_checkpoints(kind, tmp_path, request):
    recurrent = RecurrentLMConfig(11, n_layer=1, n_embd=8)
    model = PUBLISHED["GPT"]() if kind == "GPT" else RecurrentLM(recurrent, rng=1)
    about = {"kind": kind, "config": model.config.to_dict(), "dtype": "float32"}
    save_checkpoint(tmp_path, 1, {"model": model.state_dict()}, {"model": about})
    made = request.getfixturevalue("undrawn")
    check(load_model(tmp_path)[0], model.state_dict(), made)


def test_letters_to_phonemes(tmp_path, request):
    model = G2P(5, 7, rng=1)
    state = model.state_dict()
    np.savez(tmp_path / "a.npz", **{name: state[weight] for name, weight in NAMES.items()})
    made = request.getfixturevalue("undrawn")
    check(G2P.from_npz(tmp_path / "a.npz"), state, made)


def test_what_is_missing_is_named(tmp_path, undrawn):
    safetensors = pytest.importorskip("safetensors.numpy")
    with pytest.MonkeyPatch.context() as drawn:
        drawn.setattr(layers, "_draw", lambda sample, shape, dtype: np.ones(shape, dtype))
        save_pretrained(Llama(LLAMA, rng=1), tmp_path)
    arrays = safetensors.load_file(tmp_path / "model.safetensors")
    del arrays["model.layers.0.mlp.up_proj.weight"]
    safetensors.save_file(arrays, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"mlp\.up_proj\.weight is missing"):
        load_pretrained(tmp_path)


def test_outside_weights_are_drawn_as_ever():
    before = nn.Linear(3, 4, rng=0).weight.numpy()
    elsewhere: list[np.ndarray] = []

    class Slow(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(3, 4, rng=0)  # not drawn
            other = threading.Thread(
                target=lambda: elsewhere.append(nn.Linear(3, 4, rng=0).weight.numpy())
            )
            other.start()
            other.join()

    made = nn.skip_init(Slow)
    assert made.inner.weight.shape == (4, 3)
    np.testing.assert_array_equal(elsewhere[0], before)
    with pytest.raises(TypeError):
        nn.skip_init(nn.Linear)
    np.testing.assert_array_equal(nn.Linear(3, 4, rng=0).weight.numpy(), before)
