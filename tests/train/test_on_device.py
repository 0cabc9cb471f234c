"""Optimizers, training, checkpoints and writing on the strict stand-in device."""

import numpy as np
import pytest
import standin
from task_cases import MAKE, config

from scratchlm import Tensor, backend, data, metrics, optim
from scratchlm.generate import generate
from scratchlm.models import (
    GPT,
    GPTConfig,
    RecurrentEncoderDecoder,
    RecurrentEncoderDecoderConfig,
    RecurrentLM,
    RecurrentLMConfig,
)
from scratchlm.nn import StateCache
from scratchlm.text import CharVocab
from scratchlm.train import TrainConfig, Trainer, load_checkpoint
from scratchlm.train.workers import Alone

TEXT = "".join(f"{i} is followed by {i + 1}; " for i in range(80))


@pytest.fixture(autouse=True)
def device(monkeypatch):
    monkeypatch.setitem(backend.devices, "standin", lambda x, _: standin.asarray(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: optim.Adam(p, lr=0.1, weight_decay=0.1),
        lambda p: optim.AdamW(p, lr=0.1),
    ],
)
def test_optimizers_equal_numpy_and_copy_nothing(make):
    rng = np.random.default_rng(0)
    values, grads = rng.normal(size=(2, 3, 4)), rng.normal(size=(5, 2, 3, 4))
    host = [Tensor(v.copy(), requires_grad=True) for v in values]
    there = [Tensor(standin.asarray(v), requires_grad=True) for v in values]
    a, b = make(host), make(there)
    for row in grads:
        for p, q, g in zip(host, there, row, strict=True):
            p.grad, q.grad = Tensor(g.copy()), Tensor(standin.asarray(g))
        a.step()
        with standin.counting() as seen:
            b.step()
        assert not seen
    for p, q in zip(host, there, strict=True):
        np.testing.assert_array_equal(p.data, q.data.get())


def test_clipping_waits_for_the_device_once():
    grads = [np.full((3, 4), 2.0), np.array(3.0), np.ones(5)]
    params = [Tensor(standin.asarray(np.zeros(g.shape)), requires_grad=True) for g in grads]
    for p, g in zip(params, grads, strict=True):
        p.grad = Tensor(standin.asarray(g))
    with standin.counting() as seen:
        norm = optim.clip_grad_norm(params, 1.0)
    assert norm == pytest.approx(np.sqrt(48 + 9 + 5))
    assert sum(seen.values()) == 1
    np.testing.assert_allclose(params[1].grad.data.get(), 3 / norm, rtol=1e-15)


def corpus():
    vocabulary = CharVocab(TEXT)
    ids = vocabulary.encode(TEXT)
    return data.Corpus(ids[:1000], ids[1000:], vocabulary)


def gpt():
    sizes = GPTConfig(len(corpus().vocabulary), 8, n_layer=1, n_head=2, n_embd=8, dropout=0.1)
    return GPT(sizes, rng=0)


@pytest.mark.parametrize("name", MAKE)
def test_each_task_equals_numpy(name):
    """In two parts, with an evaluation: nothing is mixed, and nothing goes to the host unasked."""
    make, model = MAKE[name]
    settings = config(steps=3, batch_size=5, accumulate=2, eval_every=2, eval_batches=None)
    options = {"dtype": np.float64, "dropout": 0.0}
    host, there = model(**options), model(**options).to("standin")
    a = Trainer(host, make(), settings).fit(progress=False)
    b = Trainer(there, make(), settings).fit(progress=False)
    for ours, theirs in zip(a.history, b.history, strict=True):
        for key in ours.keys() - {"seconds", "tokens_per_second"}:
            assert ours[key] == pytest.approx(theirs[key], rel=1e-9), key
    for (key, p), q in zip(host.named_parameters(), there.named_parameters(), strict=True):
        # Adam makes steps of 1e-9 out of the rounding of a key's bias
        np.testing.assert_allclose(p.data, q[1].data.get(), rtol=0, atol=1e-8, err_msg=key)


class Two(Alone):
    """Two processes, the other of which has the same gradients and no Ctrl-C."""

    size = 2

    def sum(self, buffer):
        assert type(buffer) is np.ndarray
        buffer[:-2] *= 2


def test_gradients_of_several_processes_on_a_device(monkeypatch):
    make, model = MAKE["tags"]
    there = model(dtype=np.float64, dropout=0.0).to("standin")
    trainer = Trainer(there, make(), config())
    batch = trainer.task.sample(4, trainer.rng)
    trainer._gradients(batch)
    alone = {p.name: 2 * p.grad.data.get() for p in there.parameters()}
    trainer.optimizer.zero_grad()
    value = trainer._gradients(batch)
    trainer.workers = Two()
    assert trainer._add_up(value) == pytest.approx(2 * value, rel=1e-15)
    for p in there.parameters():
        assert isinstance(p.grad.data, standin.Array)
        np.testing.assert_array_equal(p.grad.data.get(), alone[p.name])


def test_training_saving_and_writing_equal_numpy(tmp_path):
    pytest.importorskip("safetensors")
    settings = TrainConfig(steps=6, batch_size=3, length=8, eval_batches=2, lr=1e-2)
    host, there = gpt(), gpt().to("standin")
    Trainer(host, corpus(), settings).fit(progress=False)
    first = Trainer(there, corpus(), settings, out=tmp_path)
    for _ in range(3):
        first.train_step()
    first.save()
    saved = load_checkpoint(tmp_path).arrays
    assert all(isinstance(x, np.ndarray) for group in saved.values() for x in group.values())
    resumed = gpt().to("standin")
    trainer = Trainer(resumed, corpus(), settings, out=tmp_path, resume=True).fit(progress=False)
    assert isinstance(trainer.optimizer.state[next(resumed.parameters())]["exp_avg"], standin.Array)
    for (name, p), q in zip(host.named_parameters(), resumed.parameters(), strict=True):
        # float32 sums in another order
        np.testing.assert_allclose(p.data, q.data.get(), rtol=0, atol=1e-5, err_msg=name)

    ids = corpus().train[:5]
    written = generate(resumed, ids, 10, seed=0)
    assert written.tolist() == generate(host, ids, 10, seed=0).tolist()
    loss = metrics.mean_loss(host, corpus().validation, length=8)
    assert metrics.mean_loss(resumed, corpus().validation, length=8) == pytest.approx(
        loss, rel=1e-5
    )


def test_a_recurrent_model_carries_its_states_and_writes_as_on_the_host():
    config = RecurrentLMConfig(len(corpus().vocabulary), "gru", n_layer=2, n_embd=8)
    host, there = (RecurrentLM(config, rng=0, dtype=np.float64) for _ in range(2))
    there.to("standin")
    ids = corpus().train[:18].reshape(2, 9)
    for model, put in ((host, np.asarray), (there, standin.asarray)):
        cache = StateCache([0, 2])
        for part in (slice(0, 4), slice(4, 8)):
            x, y = ids[:, part], ids[:, part.start + 1 : part.stop + 1]
            _, loss = model(put(x), put(y), cache=cache)
            loss.backward()
            cache.detach()
    for (name, p), q in zip(host.named_parameters(), there.parameters(), strict=True):
        np.testing.assert_allclose(q.grad.data.get(), p.grad.data, rtol=0, atol=1e-12, err_msg=name)
    prompts = [[1, 2, 3, 4], [5], [6, 7]]
    for options in ({"seed": 0}, {"beams": 3}):
        pairs = zip(
            generate(there, prompts, 6, **options), generate(host, prompts, 6, **options),
            strict=True,
        )  # fmt: skip
        assert all(a.tolist() == b.tolist() for a, b in pairs)


def test_a_recurrent_encoder_decoder_is_the_same_there():
    config = RecurrentEncoderDecoderConfig(
        9, 7, "lstm", n_layer=2, n_embd=8, dropout=0.0, bidirectional=True, pad_id=0
    )
    host, there = (RecurrentEncoderDecoder(config, rng=0, dtype=np.float64) for _ in range(2))
    there.to("standin")
    source, target = np.array([[3, 4, 5], [8, 0, 0]]), np.array([[1, 3, 2], [1, 2, 0]])
    loss = host.loss(source, target)
    theirs = there.loss(standin.asarray(source), standin.asarray(target))
    assert theirs.item() == pytest.approx(loss.item(), rel=1e-12)
    for write in ("greedy", "beam"):
        rules = {"start_id": 1, "max_new_tokens": 5, "end_id": 2}
        got = getattr(there, write)(standin.asarray(source), **rules)
        assert got.tolist() == getattr(host, write)(source, **rules).tolist()
