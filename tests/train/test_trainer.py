"""Training is the same every time, goes on bit for bit, and stops with a reason."""

import io
import json
import math
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from scratchlm import Tensor, data, metrics, train
from scratchlm import functional as F
from scratchlm.models import GPT, GPTConfig
from scratchlm.text import CharVocab
from scratchlm.train import TrainConfig, Trainer, load_checkpoint, load_model
from scratchlm.train import checkpoint as checkpoint_module

pytest.importorskip("safetensors")

TEXT = "\n\n".join(f"{i} times {i} is {i * i}, as anyone can see." for i in range(200))


def corpus(text=TEXT):
    training, held_out = data.split(text)
    vocabulary = CharVocab(text)
    return data.Corpus(vocabulary.encode(training), vocabulary.encode(held_out), vocabulary, "here")


def gpt(dropout=0.0, seed=0, dtype=np.float32):
    sizes = GPTConfig(len(corpus().vocabulary), 8, n_layer=2, n_head=2, n_embd=8, dropout=dropout)
    return GPT(sizes, rng=seed, dtype=dtype)


def config(**options):
    return TrainConfig(**{
        "steps": 20, "batch_size": 4, "length": 8, "lr": 1e-2, "log_every": 5, "eval_every": 8,
        "eval_batches": 3, "save_every": 0, **options,
    })  # fmt: skip


def fit(model, settings=None, **options):
    return train.train(model, corpus(), settings or config(), progress=False, **options)


def same(a, b):
    left, right = a.state_dict(), b.state_dict()
    assert left.keys() == right.keys()
    return all(np.array_equal(left[name], right[name]) for name in left)


def stop_after(trainer, step):
    """Press Ctrl-C in the middle of a step."""
    batch = trainer.train_step

    def pressing():
        if trainer.step == step - 1:
            signal.raise_signal(signal.SIGINT)
        return batch()

    trainer.train_step = pressing


# -- the same every time -----------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_seed_means_the_same_weights(dropout):
    a, b, c = gpt(dropout), gpt(dropout), gpt(dropout)
    fit(a)
    fit(b)
    fit(c, config(seed=1))
    assert same(a, b)
    assert not same(a, c)


def test_evaluation_and_logging_change_nothing():
    a, b = gpt(0.2), gpt(0.2)
    fit(a)
    fit(b, config(eval_every=1, log_every=1))
    assert same(a, b)


def test_training_learns():
    model = gpt()
    trainer = fit(model, config(steps=300, eval_batches=None))
    c = corpus()
    assert trainer.history[-1]["validation_loss"] < trainer.history[0]["loss"] - 1
    full = metrics.mean_loss(model, c.validation, length=8)
    assert trainer.history[-1]["validation_loss"] == pytest.approx(full, rel=1e-5)
    assert model.training


def test_one_step_by_hand():
    model, other = gpt(dtype=np.float64), gpt(dtype=np.float64)
    trainer = Trainer(model, corpus(), config(clip=1e-3, warmup=0.1))
    loss, norm = trainer.train_step()
    x, y = data.sample_batch(corpus().train, 4, 8, np.random.default_rng(0))
    expected = F.cross_entropy(other(x), y)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-14)
    squares = sum(float((p.grad.data**2).sum()) for p in other.parameters())
    assert norm == pytest.approx(math.sqrt(squares), rel=1e-12)
    lr = 1e-2 / 100  # the first of 100 thousandths of warm-up
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(lr, rel=1e-12)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        g = q.grad.data * (1e-3 / norm)
        decayed = q.data * (1 - lr * (0.1 if q.ndim > 1 else 0))
        # Adam's first step is lr g / (|g| + eps)
        np.testing.assert_allclose(p.data, decayed - lr * g / (abs(g) + 1e-8), rtol=0, atol=1e-15)


# -- going on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("schedule", train.config.SCHEDULES)
def test_twenty_steps_are_ten_a_break_and_ten(tmp_path, dropout, schedule):
    settings = config(schedule=schedule)
    straight, broken = gpt(dropout), gpt(dropout)
    fit(straight, settings)
    first = Trainer(broken, corpus(), settings, out=tmp_path)
    stop_after(first, 10)
    assert first.fit(progress=False).interrupted
    assert first.step == 10
    resumed = gpt(dropout, seed=99)
    trainer = fit(resumed, None if schedule == "cosine" else settings, out=tmp_path, resume=True)
    assert trainer.step == 20
    assert not trainer.interrupted
    assert same(straight, resumed)


def test_what_a_checkpoint_must_hold_is_noticed(tmp_path, monkeypatch):
    """The test above would catch a state left out: leave out each one and see."""
    straight = gpt(0.2)
    fit(straight)
    first = Trainer(gpt(0.2), corpus(), config(), out=tmp_path)
    stop_after(first, 10)
    first.fit(progress=False)
    good = load_checkpoint(tmp_path)

    def left_out(change):
        state = json.loads(json.dumps(good.state))
        arrays = {k: dict(v) for k, v in good.arrays.items()}
        change(state, arrays)
        spoiled = train.Checkpoint(good.path, arrays, state)
        monkeypatch.setattr(train.trainer, "load_checkpoint", lambda path: spoiled)
        model = gpt(0.2, seed=99)
        model.load_rng_state(gpt(0.2).rng_state())
        fit(model, config(), out=tmp_path, resume=True)
        return model

    fresh = np.random.default_rng(0).bit_generator.state
    assert same(left_out(lambda s, a: None), straight)
    assert not same(left_out(lambda s, a: s.update(rng=fresh)), straight)
    assert not same(left_out(lambda s, a: s.update(model_rng=gpt(0.2).rng_state())), straight)
    assert not same(left_out(lambda s, a: s["optimizer"].update({"0": 1})), straight)
    assert not same(left_out(lambda s, a: a["optimizer"]["0.exp_avg"].fill(0)), straight)
    assert not same(left_out(lambda s, a: a["model"].update(gpt(0.2).state_dict())), straight)


def test_a_run_goes_on_after_a_damaged_checkpoint(tmp_path):
    straight = gpt()
    fit(straight)
    trainer = Trainer(gpt(), corpus(), config(save_every=4), out=tmp_path)
    stop_after(trainer, 12)
    trainer.fit(progress=False)
    newest = checkpoint_module.checkpoints(tmp_path)[-1]
    (newest / "model.safetensors").write_bytes(b"")
    resumed = gpt(seed=99)
    with pytest.warns(UserWarning, match="checkpoint-000012 is damaged"):
        fit(resumed, out=tmp_path, resume=True)
    assert same(straight, resumed)


def test_the_log_has_each_step_once(tmp_path):
    trainer = Trainer(gpt(), corpus(), config(save_every=6), out=tmp_path)
    stop_after(trainer, 11)
    trainer.fit(progress=False)
    for path in checkpoint_module.checkpoints(tmp_path)[1:]:
        (path / "state.json").unlink()  # as if killed: step 6 is the last one saved
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 11, "lo')
    with pytest.warns(UserWarning, match="damaged"):
        trainer = fit(gpt(), out=tmp_path, resume=True)
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert records == trainer.history
    assert [r["step"] for r in records if "loss" in r] == [5, 10, 15, 20]
    assert [r["step"] for r in records if "validation_loss" in r] == [8, 16, 20]
    assert records[0].keys() >= {"seconds", "lr", "gradient_norm", "tokens_per_second"}


def test_more_steps_after_the_end(tmp_path):
    fit(gpt(), out=tmp_path)
    trainer = fit(gpt(), config(steps=25), out=tmp_path, resume=True)
    assert trainer.step == 25
    assert fit(gpt(), config(steps=25), out=tmp_path, resume=True).step == 25  # nothing to do


def test_the_model_comes_back(tmp_path):
    model = gpt(0.2)
    fit(model, out=tmp_path)
    again, vocabulary, state = load_model(tmp_path)
    assert same(model, again)
    assert again.config == model.config
    assert vocabulary.characters == corpus().vocabulary.characters
    assert state["step"] == 20


# -- stopping ----------------------------------------------------------------------------------


def test_ctrl_c_finishes_the_step_saves_and_gives_the_signal_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    trainer = Trainer(gpt(), corpus(), config(), out=tmp_path)
    stop_after(trainer, 7)
    trainer.fit(progress=False)
    assert trainer.interrupted
    assert load_checkpoint(tmp_path).state["step"] == trainer.step == 7
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_at_once():
    trainer = Trainer(gpt(), corpus(), config())

    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        threading.Event().wait(5)

    trainer.train_step = twice
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(progress=False)


def test_training_in_another_thread():
    model, straight = gpt(), gpt()
    thread = threading.Thread(target=fit, args=(model,))
    thread.start()
    thread.join()
    fit(straight)
    assert same(model, straight)


def test_compiling_the_kernels_takes_no_training_time(monkeypatch):
    """On a busy machine the first step may take a minute; the model still gets its own."""
    now, steps, step = 0.0, 0, Trainer.train_step

    def timed(self):
        nonlocal now, steps
        steps += 1
        now += 100.0 if steps == 1 else 1.0
        return step(self)

    monkeypatch.setattr(Trainer, "train_step", timed)
    monkeypatch.setattr("scratchlm.train.trainer.time", SimpleNamespace(perf_counter=lambda: now))
    trainer = fit(gpt(), config(steps=None, seconds=5.0, log_every=1, eval_every=0))
    assert trainer.step == 6
    assert trainer.elapsed == 5.0
    tokens = trainer.config.batch_size * trainer.config.length  # of a step, that is of a second
    assert [r.get("tokens_per_second") for r in trainer.history if "loss" in r] == [None] + [
        tokens
    ] * 5


def test_the_clock_stops_training_and_lowers_the_rate():
    trainer = fit(gpt(), config(steps=None, seconds=0.3, log_every=1, eval_every=0))
    assert trainer.elapsed >= 0.3
    assert trainer.progress == 1
    rates = [r["lr"] for r in trainer.history if "lr" in r]
    assert max(rates) <= 1e-2
    assert rates[-1] < rates[len(rates) // 2]


def test_nan_stops_with_a_reason(tmp_path):
    model = gpt()
    trainer = Trainer(model, corpus(), config(save_every=2), out=tmp_path)
    train_step = trainer.train_step

    def poisoned():
        if trainer.step == 5:
            model.transformer.wte.weight.data[...] = np.nan
        return train_step()

    trainer.train_step = poisoned
    with pytest.raises(
        FloatingPointError, match=r"step 6 .*loss is nan.*smaller.*checkpoint-000004"
    ):
        trainer.fit(progress=False)
    assert load_checkpoint(tmp_path).state["step"] == 4


def test_a_gradient_that_is_not_finite_leaves_the_weights(monkeypatch):
    model = gpt()
    trainer = Trainer(model, corpus(), config())
    before = model.state_dict()
    clip = train.trainer.clip_grad_norm

    def infinite(params, limit):
        params = list(params)
        params[3].grad = Tensor(np.full(params[3].shape, np.inf, np.float32))
        return clip(params, limit)

    monkeypatch.setattr(train.trainer, "clip_grad_norm", infinite)
    with pytest.raises(FloatingPointError, match=r"step 1 .*'transformer.* is not finite"):
        trainer.fit(progress=False)
    after = model.state_dict()
    assert all(np.array_equal(before[k], after[k]) for k in before)


def test_a_full_disk_in_training_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    trainer = Trainer(gpt(), corpus(), config(save_every=4), out=tmp_path)
    write = checkpoint_module._write

    def full(path, raw):
        if trainer.step > 4:
            raise OSError(28, "No space left on device")
        write(path, raw)

    monkeypatch.setattr(checkpoint_module, "_write", full)
    with pytest.raises(OSError, match=r"No space left on device; .*checkpoint-000004 is intact"):
        trainer.fit(progress=False)
    assert load_checkpoint(tmp_path).state["step"] == 4


# -- refused before the first step -------------------------------------------------------------


def test_an_unwritable_folder_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match="cannot write to the output folder"):
        Trainer(gpt(), corpus(), config(), out=tmp_path / "file" / "run")


def test_a_folder_with_a_run_is_not_overwritten_by_accident(tmp_path):
    fit(gpt(), out=tmp_path)
    with pytest.raises(FileExistsError, match=r"already holds a run \(checkpoint-000020\); resume"):
        Trainer(gpt(), corpus(), config(), out=tmp_path)
    trainer = fit(gpt(), config(steps=3), out=tmp_path, overwrite=True)
    assert load_checkpoint(tmp_path).state["step"] == trainer.step == 3
    assert len((tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_another_text_is_refused(tmp_path):
    fit(gpt(), out=tmp_path)
    with pytest.raises(ValueError, match=r"trained on another text .* give it 'here' again"):
        Trainer(gpt(), corpus(TEXT[:-100]), config(), out=tmp_path, resume=True)


def test_nothing_to_resume(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds none"):
        Trainer(gpt(), corpus(), config(), out=tmp_path, resume=True)
    with pytest.raises(ValueError, match="resume needs out="):
        Trainer(gpt(), corpus(), config(), resume=True)


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="length=9, but the model has positions for block_size=8"):
        Trainer(gpt(), corpus(), config(length=9))
    small = GPT(GPTConfig(5, 8, n_layer=1, n_head=1, n_embd=4), rng=0)
    with pytest.raises(ValueError, match=r"different tokens, the model only vocab_size=5"):
        Trainer(small, corpus(), config())
    c = corpus()
    short = data.Corpus(c.train[:5], c.validation, c.vocabulary)
    with pytest.raises(ValueError, match="the text has 5"):
        Trainer(gpt(), short, config())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"steps": 0}, ValueError, "steps=0 must be at least 1"),
        ({"steps": 1.5}, TypeError, "steps must be a whole number, got 1.5"),
        ({"steps": None}, ValueError, "say when to stop"),
        ({"seconds": -1.0}, ValueError, "seconds=-1.0 must be positive"),
        ({"lr": 0.0}, ValueError, "lr=0.0 must be positive"),
        ({"lr": math.nan}, ValueError, "lr=nan"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"warmup": 2}, ValueError, "warmup=2 must lie between 0 and 1"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay=-0.1 must be 0 or more"),
        ({"betas": (0.9, 1.0)}, ValueError, r"betas=\(0.9, 1.0\) must be two numbers"),
        ({"accumulate": 0}, ValueError, "accumulate=0 must be at least 1"),
        ({"patience": 0}, ValueError, "patience=0 must be at least 1"),
        ({"schedule": "cosin"}, ValueError, "'cosin' is none of constant, cosine"),
        ({"save_every": -1}, ValueError, "save_every=-1 must be at least 0"),
        ({"nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_bad_configurations(options, error, words):
    with pytest.raises(error, match=words):
        TrainConfig(**options)


def test_the_progress_bar_says_loss_and_rate():
    stream = io.StringIO()
    rich = pytest.importorskip("rich.console")
    console = rich.Console(width=120, force_terminal=True, file=stream)
    Trainer(gpt(), corpus(), config()).fit(console=console)
    shown = stream.getvalue()
    for word in ("step", "loss", "validation", "tokens/s", "left"):
        assert word in shown
