"""A batch in parts is the batch; and training that stops when it gets no better."""

import json

import numpy as np
import pytest
from task_cases import MAKE, config, same

from scratchlm.train import TrainConfig, Trainer, load_checkpoint, load_model
from scratchlm.train.trainer import cut

ALL = pytest.mark.parametrize("name", MAKE)


def fitted(name, **options):
    make, model = MAKE[name]
    settings = config(eval_every=0, log_every=1, batch_size=7, **options)
    return Trainer(model(dtype=np.float64, dropout=0.0), make(), settings).fit(progress=False)


@ALL
@pytest.mark.parametrize("parts", [2, 3, 12])
def test_accumulated_gradients_are_those_of_the_whole_batch(name, parts):
    whole, split = fitted(name, steps=1), fitted(name, steps=1, accumulate=parts)
    a, b = whole.history[0], split.history[0]
    assert b["loss"] == pytest.approx(a["loss"], rel=1e-13)
    assert b["gradient_norm"] == pytest.approx(a["gradient_norm"], rel=1e-12)
    for p, q in zip(whole.model.parameters(), split.model.parameters(), strict=True):
        # a dozen terms added in another order, none of them above 1
        np.testing.assert_allclose(q.grad.data, p.grad.data, rtol=0, atol=1e-13)


@ALL
def test_a_run_of_accumulated_steps(name):
    whole, split = fitted(name), fitted(name, accumulate=3)
    assert [r["loss"] for r in split.history if "loss" in r] == pytest.approx(
        [r["loss"] for r in whole.history if "loss" in r], rel=1e-9
    )
    for (key, p), q in zip(whole.model.named_parameters(), split.model.parameters(), strict=True):
        # Adam divides by |g| + 1e-8, so where g is 0 but for rounding (1e-17: a key's bias cancels
        # in the softmax) each step may differ by lr · 1e-9; elsewhere by far less
        np.testing.assert_allclose(q.data, p.data, rtol=0, atol=1e-9, err_msg=key)


def test_a_mean_of_means_would_be_noticed(monkeypatch):
    """The weights of the parts matter where they ask for different numbers."""
    right = fitted("instructions", steps=1).history[0]["loss"]
    make, model = MAKE["instructions"]
    trainer = Trainer(model(dtype=np.float64, dropout=0.0), make(), config(batch_size=7))
    batch = trainer.task.sample(7, trainer.rng)
    losses = [trainer.task.loss(trainer.model, part).item() for part in cut(batch, 3)]
    assert abs(np.mean(losses) - right) > 1e-4


@pytest.mark.parametrize(("rows", "parts"), [(7, 3), (2, 5), (6, 6), (1, 1)])
def test_cut(rows, parts):
    batch = {"ids": np.arange(rows * 2).reshape(rows, 2), "targets": np.arange(rows)}
    pieces = cut(batch, parts)
    assert len(pieces) == parts
    sizes = [len(piece["ids"]) for piece in pieces]
    assert max(sizes) - min(sizes) <= 1
    for name, array in batch.items():
        np.testing.assert_array_equal(np.concatenate([p[name] for p in pieces]), array)


def test_dropout_in_parts_goes_on_bit_for_bit(tmp_path):
    pytest.importorskip("safetensors")
    make, model = MAKE["masked"]
    straight, resumed = model(), model(seed=9)
    Trainer(straight, make(), config(accumulate=2)).fit(progress=False)
    Trainer(model(), make(), config(accumulate=2, steps=9), out=tmp_path).fit(progress=False)
    Trainer(resumed, make(), config(accumulate=2), out=tmp_path, resume=True).fit(progress=False)
    assert not same(straight, resumed)  # the schedule knew of 9 steps
    settings = config(accumulate=2, schedule="constant", warmup=0.0)
    straight, resumed = model(), model(seed=9)
    Trainer(straight, make(), settings).fit(progress=False)
    short = TrainConfig(**{**vars(settings), "steps": 9})
    Trainer(model(), make(), short, out=tmp_path, overwrite=True).fit(progress=False)
    Trainer(resumed, make(), settings, out=tmp_path, resume=True).fit(progress=False)
    assert same(straight, resumed)


# -- early stop --------------------------------------------------------------------------------


def worsening(trainer, losses):
    """Evaluations that find these losses, whatever the weights."""
    found = iter(losses)
    trainer.task.evaluate = lambda *a, **k: {"validation_loss": next(found), "accuracy": 0.5}
    return trainer


@pytest.mark.parametrize("kept", [True, False])
def test_training_stops_when_it_gets_no_better(tmp_path, kept):
    pytest.importorskip("safetensors")
    make, model = MAKE["classes"]
    best_model = model()
    settings = config(steps=40, eval_every=4, patience=3)
    trainer = worsening(
        Trainer(model(), make(), settings, out=tmp_path if kept else None),
        [3.0, 2.0, 2.5, 1.5, 1.6, 1.5, 1.7, 0.1],
    ).fit(progress=False)
    assert (trainer.step, trainer.stopped_early, trainer.interrupted) == (28, True, False)
    last = trainer.history[-1]
    assert (last["best_step"], last["best_validation_loss"]) == (16, 1.5)
    assert last["stopped"] == "no better validation loss"
    reference = Trainer(best_model, make(), config(steps=40, eval_every=0))
    for _ in range(16):
        reference.train_step()
    assert not same(best_model, trainer.model)
    assert trainer.restore_best() == 16
    assert same(best_model, trainer.model)
    if kept:
        assert load_checkpoint(tmp_path).state["step"] == 28
        assert load_checkpoint(tmp_path / "best").state["step"] == 16
        assert same(load_model_of(tmp_path / "best", model(seed=5)), best_model)
        lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(lines[-1]) == last


def load_model_of(folder, model):
    model.load_state_dict(load_checkpoint(folder).arrays["model"])
    return model


def test_patience_goes_on_counting_after_a_break(tmp_path):
    pytest.importorskip("safetensors")
    make, model = MAKE["classes"]
    settings = config(steps=40, eval_every=2, patience=3, save_every=5)
    losses = [2.0, 1.0, 1.1, 1.2, 1.3]
    first = worsening(Trainer(model(), make(), settings, out=tmp_path), losses)
    step = first.train_step

    def killed():
        if first.step == 7:
            raise KeyError
        return step()

    first.train_step = killed
    with pytest.raises(KeyError):
        first.fit(progress=False)
    again = Trainer(model(seed=3), make(), settings, out=tmp_path, resume=True)
    assert (again.step, again.best.step, again.best.since) == (5, 4, 0)
    worsening(again, losses[2:]).fit(progress=False)
    assert (again.step, again.best.step) == (10, 4)
    assert [r["validation_loss"] for r in again.history if "validation_loss" in r] == losses
    done = Trainer(model(seed=3), make(), settings, out=tmp_path, resume=True)
    assert worsening(done, []).fit(progress=False).step == 10  # nothing left to do


def test_no_best_without_patience(tmp_path):
    make, model = MAKE["classes"]
    trainer = Trainer(model(), make(), config(steps=2)).fit(progress=False)
    with pytest.raises(ValueError, match="no best weights were kept"):
        trainer.restore_best()
    with pytest.raises(ValueError, match="patience counts evaluations; give eval_every"):
        config(patience=2, eval_every=0)
    task = make()
    task.validation = []
    with pytest.raises(ValueError, match="the task keeps nothing back"):
        Trainer(model(), task, config(patience=2)).fit(progress=False)


def test_a_new_run_forgets_the_best_of_the_old_one(tmp_path):
    pytest.importorskip("safetensors")
    make, model = MAKE["next token"]
    Trainer(model(), make(), config(patience=5), out=tmp_path).fit(progress=False)
    assert load_checkpoint(tmp_path / "best")
    gpt, _, state = load_model(tmp_path / "best")
    assert state["best"]["step"] == state["step"]
    assert gpt.num_parameters() == model().num_parameters()
    Trainer(model(), make(), config(), out=tmp_path, overwrite=True)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "best")
