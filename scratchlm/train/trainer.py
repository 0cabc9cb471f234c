"""The training loop: one step is a page; the rest is what makes it safe to walk away from."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import operator
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from ..backend import asarray_like, to_host
from ..data import Corpus
from ..nn import Module
from ..optim import AdamW, LRScheduler, clip_grad_norm, decay_groups
from ..tensor import Tensor
from .checkpoint import Checkpoint, check_writable, checkpoints, load_checkpoint, save_checkpoint
from .config import TrainConfig
from .display import display
from .tasks import Batch, NextToken, Task, beside
from .workers import workers

LOG = "log.jsonl"
BEST = "best"  # the folder of the checkpoint with the lowest validation loss
Record = dict[str, Any]


@dataclass(frozen=True)
class Best:
    """The lowest validation loss so far, and how many evaluations since were no better."""

    step: int
    validation_loss: float
    since: int


class Trainer:
    """Trains a model to do a task.

    Started by ``mpiexec -n N``, N processes share each batch: with the same seed, the weights are
    those of one process up to rounding, dropout excepted, which is drawn for each process anew.

    Args:
        model: what the task can ask.
        data: a task (:class:`~scratchlm.train.Task`); a corpus means :class:`NextToken` on it.
        config: how to train; to resume, None goes on as the run was begun.
        out: folder for checkpoints and the log ``log.jsonl``; None keeps nothing.
        overwrite: remove the run that is in ``out``, instead of refusing.
        resume: go on from the newest good checkpoint of ``out``. With the same config, machine and
            number of processes and BLAS threads, the weights become bit for bit what they would be
            without the break; a limit by the clock excepted.

    Raises:
        OSError: ``out`` cannot be written.
        FileExistsError: ``out`` holds a run; resume it, or choose another.
        ValueError: the model does not fit the task, or the text is too short for the length; or,
            to resume, the data are other ones.
        RuntimeError: there are several processes, but mpi4py is not installed.
    """

    def __init__(
        self,
        model: Module,
        data: Task | Corpus,
        config: TrainConfig | None = None,
        *,
        out: str | Path | None = None,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        self.model = model
        self.workers = workers()
        self.out = None if out is None else self.workers.first(lambda: check_writable(out))
        checkpoint = self._checkpoint() if resume else None
        if config is None:
            config = self._config_of(checkpoint) if checkpoint else TrainConfig()
        self.config = config
        self.task = data if isinstance(data, Task) else NextToken(data, config.length)
        self.task.check(model)
        self.rng = np.random.default_rng(config.seed)
        self.optimizer = AdamW(
            decay_groups(model, config.weight_decay), lr=config.lr, betas=config.betas
        )
        self.scheduler = LRScheduler(self.optimizer, config.factor)
        self.step = 0
        self.tokens = 0  # read since this trainer was made
        self.elapsed = 0.0
        self.interrupted = False
        self.history: list[Record] = []
        self.best: Best | None = None
        self._best_weights: dict[str, np.ndarray] = {}  # where no folder keeps them
        self._like = next(iter(model.parameters())).data
        self._losses: list[float] = []  # of the steps since the last line of the log
        self._pressed = threading.Event()  # Ctrl-C, here
        self._told = False  # that it was pressed in some process, which all learn with a step
        self._began: float | None = None  # when training would have begun, had it had no break
        if checkpoint is not None:
            self._resume(checkpoint)
            return
        if self.out is not None:
            folder = self.out
            self.workers.first(lambda: self._begin(folder, overwrite))
        state = self.workers.first(model.state_dict)
        if self.workers.rank:  # the same weights, another dropout
            model.load_state_dict(state)
            model.load_rng_state(self._own_rng())

    # -- one step ------------------------------------------------------------------------------

    def train_step(self) -> tuple[float, float]:
        """One update. Returns the loss before it and the norm of its gradient.

        Raises:
            FloatingPointError: the loss or the gradient is not finite; the weights are as before.
        """
        self.scheduler.set(self.progress)
        batch = self.task.sample(self.config.batch_size, self.rng)
        self.optimizer.zero_grad()
        value = self._gradients(batch)
        if not math.isfinite(value):
            self.workers.agree()
            raise FloatingPointError(f"the loss is {value}")
        try:
            norm = clip_grad_norm(self.model.parameters(), self.config.clip)
        except FloatingPointError:
            self.workers.agree()
            raise
        self.optimizer.step()
        self.step += 1
        self.tokens += self.task.tokens(batch)
        return value, norm

    def _gradients(self, batch: Batch) -> float:
        """The gradient of the batch's mean loss, into the parameters; returns the loss.

        ``L = Σ (n_i / n) L_i`` over the parts, where ``L_i`` is the mean over the ``n_i``
        predictions of part i: a mean of means would be wrong where parts ask for different numbers.
        """
        own, parts = self.workers.rank, self.config.accumulate
        total, value = self.task.count(batch), 0.0
        if not total:
            raise ValueError(f"{type(self.task).__name__}: a batch asks for no prediction at all")
        for part in cut(batch, parts * self.workers.size)[own * parts : (own + 1) * parts]:
            count = self.task.count(part)
            if not count:
                continue
            loss = self.task.loss(self.model, beside(part, self._like))
            if count != total:
                loss = loss * (count / total)
            value += loss.item()
            if not math.isfinite(value):
                break  # it will be said by all processes
            loss.backward()
        return self._add_up(value) if self.workers.size > 1 else value

    def _add_up(self, value: float) -> float:
        """Add the gradients of all processes; returns the sum of their losses.

        One buffer holds all: the gradients, which of the parameters have one, the loss, whether
        Ctrl-C was pressed, and the time, which is the first process's.
        """
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        ends = np.cumsum([p.size for p in parameters])
        buffer = np.zeros(ends[-1] + len(parameters) + 3, self._like.dtype)
        gradients, has = np.split(buffer[: ends[-1]], ends[:-1]), buffer[ends[-1] : -3]
        for i, (p, flat) in enumerate(zip(parameters, gradients, strict=True)):
            if p.grad is not None:
                flat[...] = to_host(p.grad.data).reshape(-1)
                has[i] = 1
        buffer[-3:] = value, self._pressed.is_set(), self._clock() if not self.workers.rank else 0
        self.workers.sum(buffer)
        for p, flat, some in zip(parameters, gradients, has, strict=True):
            p.grad = Tensor(asarray_like(flat.reshape(p.shape), p.data)) if some else None
        self._told = bool(buffer[-2])
        self.elapsed = float(buffer[-1])
        return float(buffer[-3])

    @property
    def progress(self) -> float:
        """The share of the run that is done, from 0 to 1."""
        config = self.config
        shares = [0.0]
        if config.steps is not None:
            shares.append(self.step / config.steps)
        if config.seconds is not None:
            shares.append(self.elapsed / config.seconds)
        return min(1.0, max(shares))

    @property
    def stopped_early(self) -> bool:
        """Whether so many evaluations brought nothing better that training ended (``patience``)."""
        patience = self.config.patience
        return patience is not None and self.best is not None and self.best.since >= patience

    def evaluate(self, batches: int | None = None) -> dict[str, float]:
        """The task's figures on what was kept back: ``validation_loss`` and others."""
        size = self.config.batch_size
        return self.workers.first(
            lambda: self.task.evaluate(self.model, batch_size=size, batches=batches)
        )

    def validation_loss(self, batches: int | None = None) -> float:
        """The mean loss on what was kept back, in nats.

        Raises:
            ValueError: nothing was kept back.
        """
        figures = self.evaluate(batches)
        if not figures:
            raise ValueError("Trainer: the task keeps nothing back, so there is no validation loss")
        return figures["validation_loss"]

    # -- the loop ------------------------------------------------------------------------------

    def fit(self, *, progress: bool = True, console: Any = None) -> Trainer:
        """Train until the end, or until Ctrl-C, which finishes the step, saves and returns.

        ``interrupted`` then tells so; a second Ctrl-C stops at once, without saving. With
        ``patience``, it may end early, see ``stopped_early``; ``restore_best`` goes back to the
        best weights.

        Raises:
            FloatingPointError: the loss is NaN or infinite; the last good checkpoint is named.
        """
        config = self.config
        self.interrupted = False
        self.model.train()
        since, tokens = time.perf_counter(), self.tokens
        self._began, self._told = None, False
        shown = progress and not self.workers.rank
        with (
            self.workers.bound(),
            ctrl_c() as self._pressed,
            display(shown, self, console) as show,
        ):
            saved = self.step if self.step else -1
            while self.progress < 1 and not self.stopped_early and not self._told:
                try:
                    loss, norm = self.train_step()
                except FloatingPointError as error:
                    raise FloatingPointError(self._explain(error)) from error
                self._losses.append(loss)
                if self._began is None:  # the first step compiles the kernels: no training time
                    since, tokens = time.perf_counter(), self.tokens
                    self._began = since - self.elapsed
                if self.workers.size == 1:
                    self.elapsed, self._told = self._clock(), self._pressed.is_set()
                if self.step % config.log_every == 0 or self.progress == 1 or self._told:
                    now, rate = time.perf_counter(), {}
                    if self.tokens > tokens:
                        rate["tokens_per_second"] = round((self.tokens - tokens) / (now - since))
                    since, tokens = now, self.tokens
                    self._log(
                        loss=float(np.mean(self._losses)),
                        gradient_norm=norm,
                        lr=self.optimizer.param_groups[0]["lr"],
                        **rate,
                    )
                    self._losses.clear()
                show(loss)
                if config.eval_every and self.step % config.eval_every == 0:
                    self._evaluate()
                    show(loss)
                    since, tokens = time.perf_counter(), self.tokens
                if config.save_every and self.step % config.save_every == 0:
                    self.save()
                    saved = self.step
            self.interrupted = self._told and self.progress < 1 and not self.stopped_early
            if not self.interrupted and not self._evaluated():
                self._evaluate()
                show(None)
            if self.step != saved:
                self.save()
        return self

    def _clock(self) -> float:
        """Seconds of training so far, those before a break included."""
        return self.elapsed if self._began is None else time.perf_counter() - self._began

    def _evaluated(self) -> bool:
        last = next((r for r in reversed(self.history) if "validation_loss" in r), None)
        return last is not None and last["step"] == self.step

    def _evaluate(self) -> None:
        """Measure, log, and with ``patience`` keep the best weights and count what is no better."""
        figures = self.evaluate(self.config.eval_batches)
        if figures:
            self._log(**figures)
        if self.config.patience is None:
            return
        if not figures:
            raise ValueError(
                "Trainer: patience waits for a better validation loss, but the task keeps nothing "
                "back"
            )
        loss = figures["validation_loss"]
        if self.best is None or loss < self.best.validation_loss:
            self.best = Best(self.step, loss, 0)
            if self.out is None:
                self._best_weights = self.model.state_dict()
            else:
                self._write(self.out / BEST, keep=1)
            return
        self.best = dataclasses.replace(self.best, since=self.best.since + 1)
        if self.stopped_early:
            self._log(
                stopped="no better validation loss",
                best_step=self.best.step,
                best_validation_loss=self.best.validation_loss,
            )

    def restore_best(self) -> int:
        """Give the model the weights of the lowest validation loss; returns their step.

        In a run's folder they are the checkpoint in ``best``.

        Raises:
            ValueError: none were kept: ``patience`` was not set, or nothing was evaluated.
        """
        if self.best is None:
            raise ValueError("Trainer: no best weights were kept; TrainConfig(patience=…) does so")
        weights, step = self._best_weights, self.best.step
        if self.out is not None:
            folder = self.out / BEST
            kept = self.workers.first(lambda: load_checkpoint(folder))
            weights, step = kept.arrays["model"], kept.state["step"]
        self.model.load_state_dict(weights)
        return step

    def _explain(self, error: FloatingPointError) -> str:
        kept = checkpoints(self.out) if self.out is not None else []
        lr = self.optimizer.param_groups[0]["lr"]
        return (
            f"training stopped at step {self.step + 1} (lr {lr:.2g}): {error}. Try a smaller "
            "learning rate or a longer warm-up; `with scratchlm.detect_anomaly():` names the op"
            + (f". The last good checkpoint is {kept[-1]}" if kept else "")
        )

    def _log(self, **values: Any) -> None:
        record = {"step": self.step, "seconds": round(self.elapsed, 3), **values}
        self.history.append(record)
        if self.out is not None:
            log = self.out / LOG
            self.workers.first(lambda: _append(log, record))

    # -- saving and going on -------------------------------------------------------------------

    def save(self) -> Path | None:
        """Write a checkpoint of all that the next step depends on; None without ``out``."""
        return None if self.out is None else self._write(self.out, self.config.keep)

    def _write(self, folder: Path, keep: int) -> Path:
        optimizer = self.optimizer.state_dict()
        arrays: dict[str, np.ndarray] = {}
        counts: dict[str, int] = {}
        for number, entry in optimizer["state"].items():
            for name, value in entry.items():
                if name == "step":
                    counts[str(number)] = value
                else:
                    arrays[f"{number}.{name}"] = to_host(value)
        to_dict = getattr(getattr(self.model, "config", None), "to_dict", None)
        model_rng, *others = self.workers.gather(self.model.rng_state())
        state = {
            "model": {
                "kind": type(self.model).__name__,
                "config": to_dict() if to_dict else None,
                "dtype": str(self._like.dtype),
            },
            "task": type(self.task).__name__,
            **self.task.about(),
            "data": {
                "source": self.task.source,
                "fingerprint": self.task.fingerprint(),
                "state": self.task.state_dict(),
            },
            "config": dataclasses.asdict(self.config),
            "elapsed": self.elapsed,
            "losses": self._losses,
            "best": self.best and dataclasses.asdict(self.best),
            "rng": self.rng.bit_generator.state,
            "model_rng": model_rng,
            "other_processes_rng": others,
            "optimizer": counts,
        }
        files = {"model": self.model.state_dict(), "optimizer": arrays}
        step = self.step
        return self.workers.first(lambda: save_checkpoint(folder, step, files, state, keep=keep))

    def _own_rng(self) -> dict[str, Any]:
        """States of the model's generators that no other process has."""
        states = {}
        for i, (name, state) in enumerate(self.model.rng_state().items()):
            kind = getattr(np.random, state["bit_generator"])
            seed = np.random.SeedSequence([self.config.seed, self.workers.rank, i, self.step])
            states[name] = kind(seed).state
        return states

    def _checkpoint(self) -> Checkpoint:
        if self.out is None:
            raise ValueError("Trainer: resume needs out=, the folder of the run")
        folder = self.out
        return self.workers.first(lambda: load_checkpoint(folder))

    def _config_of(self, checkpoint: Checkpoint) -> TrainConfig:
        with checkpoint.read():
            return TrainConfig(**checkpoint.state["config"])

    def _resume(self, checkpoint: Checkpoint) -> None:
        assert self.out is not None
        with checkpoint.read():
            self._take_over(checkpoint)
        log, step = self.out / LOG, self.step
        # what was logged after the checkpoint will be done, and logged, again
        self.history = self.workers.first(lambda: _cut_log(log, step))

    def _take_over(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        ours, saved = type(self.task).__name__, state.get("task", NextToken.__name__)
        if ours != saved:
            raise ValueError(f"Trainer: the run in {self.out} is of the task {saved}, not {ours}")
        ours, saved = self.task.fingerprint(), state["data"]["fingerprint"]
        if ours != saved:
            raise ValueError(
                f"Trainer: the run in {self.out} was trained on another text (checksum and length "
                f"{saved}, this one has {ours}); give it {state['data']['source']!r} again"
            )
        moments: dict[int, dict[str, Any]] = {
            int(number): {"step": steps} for number, steps in state["optimizer"].items()
        }
        for key, array in checkpoint.arrays["optimizer"].items():
            number, name = key.split(".", 1)
            moments.setdefault(int(number), {})[name] = array
        groups = self.optimizer.state_dict()["param_groups"]  # options are the config's, not saved
        self.model.load_state_dict(checkpoint.arrays["model"])
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.step = operator.index(state["step"])
        others = state.get("other_processes_rng", [])
        states = [state["model_rng"], *others]
        own = self.workers.rank
        self.model.load_rng_state(states[own] if own < len(states) else self._own_rng())
        self.rng.bit_generator.state = state["rng"]
        self.task.load_state_dict(state["data"].get("state", {}))
        self.elapsed = float(state["elapsed"])
        self._losses = [float(loss) for loss in state.get("losses", [])]
        best = state.get("best")
        if best is not None:
            step, since = operator.index(best["step"]), operator.index(best["since"])
            self.best = Best(step, float(best["validation_loss"]), since)

    def _begin(self, out: Path, overwrite: bool) -> None:
        former = checkpoints(out)
        if former and not overwrite:
            raise FileExistsError(
                f"{out} already holds a run ({former[-1].name}); resume it, or choose another "
                "folder"
            )
        for checkpoint in [*former, *checkpoints(out / BEST)]:
            shutil.rmtree(checkpoint)
        (out / LOG).write_text("", encoding="utf-8")


def train(
    model: Module,
    data: Task | Corpus,
    config: TrainConfig | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
) -> Trainer:
    """Train ``model`` on ``data``: :class:`Trainer` and its ``fit`` in one call."""
    trainer = Trainer(model, data, config, out=out, overwrite=overwrite, resume=resume)
    return trainer.fit(progress=progress)


def cut(batch: Batch, parts: int) -> list[Batch]:
    """A batch as so many parts, about equally large; some are empty if there are more than rows."""
    rows = len(next(iter(batch.values())))
    ends = [rows * i // parts for i in range(parts + 1)]
    return [
        {name: array[a:b] for name, array in batch.items()} for a, b in itertools.pairwise(ends)
    ]


def _append(log: Path, record: Record) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read_log(log: Path, until: float = math.inf) -> list[Record]:
    """The records of a log up to a step; a last line that a crash cut off does not count."""
    records: list[Record] = []
    if log.exists():
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):  # no record
                record = json.loads(line)
                if record["step"] <= until:
                    records.append(record)
    return records


def _cut_log(log: Path, until: int) -> list[Record]:
    """Leave the records up to a step, and return them.

    The shorter log is written beside the old one and renamed, so a kill here loses no line.
    """
    records = read_log(log, until)
    shorter = log.with_name(f".saving-{os.getpid()}-{log.name}")
    shorter.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    shorter.replace(log)
    return records


@contextlib.contextmanager
def ctrl_c() -> Iterator[threading.Event]:
    """The first Ctrl-C sets the event, so that no step is cut in half; the second interrupts."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed  # signals reach the main thread only
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    former = signal.signal(signal.SIGINT, handle)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, former)
