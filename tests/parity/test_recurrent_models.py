"""The recurrent language model and encoder–decoder beside the same ones made of torch.nn: logits,
loss and every gradient, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from scratchlm.models import (
    RecurrentEncoderDecoder,
    RecurrentEncoderDecoderConfig,
    RecurrentLM,
    RecurrentLMConfig,
)
from scratchlm.nn import StateCache

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

# float64 rounding is 1e-16; through two layers of ten steps and hundreds of terms in a sum it
# grows to some 1e-14
TOLERANCE = 1e-9
V, C = 23, 8
KINDS = ("rnn", "lstm", "gru")
RNG = np.random.default_rng


def shaken(model, seed=1):
    """Large weights: near 0 every activation is the identity, and hides faults."""
    rng = RNG(seed)
    for parameter in model.parameters():
        parameter.data[...] = rng.uniform(-0.7, 0.7, parameter.shape)
    return model


def layer_of(kind, module, *sizes, **options):
    """torch's layer with the weights of ours."""
    theirs = getattr(torch.nn, kind.upper())(*sizes, dtype=torch.float64, **options)
    theirs.load_state_dict({n: torch.from_numpy(v) for n, v in module.state_dict().items()})
    return theirs


def table(module):
    return torch.tensor(module.weight.data, requires_grad=True)


def assert_close(got, want, what):
    want = want.detach().numpy()
    error = np.abs(got.data - want).max()
    assert error <= TOLERANCE * max(1, np.abs(want).max()), f"{what}: {error:.1e}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_in_two_windows(kind, layers, tied):
    """The second window goes on with the states of the first; the loss is that of both."""
    config = RecurrentLMConfig(V, kind, layers, C, tie_weights=tied)
    ours = shaken(RecurrentLM(config, rng=0, dtype=np.float64))
    rnn = layer_of(kind, ours.rnn, C, C, layers, batch_first=True)
    wte = table(ours.wte)
    head = wte if tied else table(ours.lm_head)
    ids = RNG(0).integers(V, size=(3, 11))

    cache, states, total, total_ = StateCache(), None, 0, 0
    for part in (slice(0, 4), slice(4, 10)):
        x, y = ids[:, part], ids[:, part.start + 1 : part.stop + 1]
        logits, loss = ours(x, y, cache=cache)
        h, states = rnn(torch.nn.functional.embedding(torch.from_numpy(x), wte), states)
        logits_ = h @ head.T
        loss_ = torch.nn.functional.cross_entropy(logits_.flatten(0, 1), torch.tensor(y).flatten())
        assert_close(logits, logits_, "logits")
        assert_close(loss, loss_, "loss")
        total, total_ = total + loss, total_ + loss_
    total.backward()
    total_.backward()
    assert_close(ours.wte.weight.grad, wte.grad, "wte")
    if not tied:
        assert_close(ours.lm_head.weight.grad, head.grad, "lm_head")
    for name, parameter in rnn.named_parameters():
        assert_close(getattr(ours.rnn, name).grad, parameter.grad, name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_encoder_decoder(kind, bidirectional):
    """Sources of unequal lengths: theirs are packed."""
    config = RecurrentEncoderDecoderConfig(
        V, 7, kind, 2, C, dropout=0.0, bidirectional=bidirectional, pad_id=0
    )
    ours = shaken(RecurrentEncoderDecoder(config, rng=0, dtype=np.float64))
    source = np.array([[3, 4, 5, 6, 7], [8, 9, 0, 0, 0], [9, 8, 7, 6, 0]])
    target = np.array([[1, 3, 4, 2], [1, 5, 2, 0], [1, 6, 6, 2]])
    logits, loss = ours(source, target[:, :-1]), ours.loss(source, target)
    loss.backward()

    half = C // 2 if bidirectional else C
    encoder = layer_of(kind, ours.encoder, C, half, 2, bidirectional=bidirectional)
    decoder = layer_of(kind, ours.decoder, C, C, 2)
    tables = {name: table(getattr(ours, name)) for name in ("source", "target", "score", "combine")}
    embedding = torch.nn.functional.embedding
    x = embedding(torch.from_numpy(source.T), tables["source"])
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [5, 2, 4], enforce_sorted=False)
    outputs, states = encoder(packed)
    memory, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs)  # [S, B, C]

    def joined(state):  # layers and directions are rolled into one axis, layers first
        return torch.stack([torch.cat(list(state[2 * n : 2 * n + 2]), -1) for n in (0, 1)])

    if bidirectional:
        states = tuple(map(joined, states)) if kind == "lstm" else joined(states)
    h, _ = decoder(embedding(torch.from_numpy(target[:, :-1].T), tables["target"]), states)
    scores = torch.einsum("tbc,cd,sbd->bts", h, tables["score"].T, memory)
    scores = scores.masked_fill(torch.from_numpy(source == 0)[:, None], -torch.inf)
    seen = torch.einsum("bts,sbc->tbc", scores.softmax(-1), memory)
    y = torch.tanh(torch.cat([seen, h], -1) @ tables["combine"].T)
    logits_ = (y @ tables["target"].T).transpose(0, 1)
    loss_ = torch.nn.functional.cross_entropy(
        logits_.flatten(0, 1), torch.tensor(target[:, 1:]).flatten(), ignore_index=0
    )
    loss_.backward()

    assert_close(logits, logits_, "logits")
    assert_close(loss, loss_, "loss")
    for name, theirs in tables.items():
        assert_close(getattr(ours, name).weight.grad, theirs.grad, name)
    for part, theirs in (("encoder", encoder), ("decoder", decoder)):
        for name, parameter in theirs.named_parameters():
            got = getattr(getattr(ours, part), name).grad
            assert_close(got, parameter.grad, f"{part}.{name}")
