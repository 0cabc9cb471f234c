"""The training loop: one step is a page; the rest is what makes it safe to walk away from."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from ..backend import to_host
from ..data import Corpus
from ..nn import Module
from ..optim import AdamW, LRScheduler, clip_grad_norm, decay_groups, schedules
from ..registry import get_op
from .checkpoint import Checkpoint, check_writable, checkpoints, load_checkpoint, save_checkpoint
from .tasks import NextToken, Task, beside

LOG = "log.jsonl"
SCHEDULES = ("constant", "cosine", "step_decay", "inverse_sqrt")
Record = dict[str, Any]


@dataclass(frozen=True)
class TrainConfig:
    """How to train; with a seed and a number of steps, the same every time.

    Raises:
        ValueError, TypeError: an option out of range; the message names it.
    """

    steps: int | None = 1000
    seconds: float | None = None  # a limit by the clock (after the first step), which lr follows
    batch_size: int = 12
    length: int = 64  # tokens of context, where a corpus is given and not a task
    lr: float = 1e-3
    schedule: str = "cosine"
    warmup: float = 0.05  # share of the run
    final_lr: float = 0.1  # share of lr at the end of the cosine
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0  # largest norm of the gradient
    log_every: int = 10
    eval_every: int = 200  # 0: at the end only
    eval_batches: int | None = 20  # None: all of the validation part
    save_every: int = 500  # 0: at the end only
    keep: int = 2  # checkpoints
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON knows lists only
        whole = ("batch_size", "length", "log_every", "keep")
        for name in (*whole, "eval_every", "save_every", "seed", "steps", "eval_batches"):
            value = getattr(self, name)
            if value is None and name in ("steps", "eval_batches"):
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"TrainConfig: {name} must be a whole number, got {value!r}")
            low = 1 if name in (*whole, "steps", "eval_batches") else 0
            if value < low:
                raise ValueError(f"TrainConfig: {name}={value} must be at least {low}")
        if self.steps is None and self.seconds is None:
            raise ValueError("TrainConfig: say when to stop: steps=… or seconds=…")
        positive = {"lr": self.lr, "clip": self.clip, "seconds": self.seconds}
        for name, limit in positive.items():
            if limit is not None and not 0 < limit < math.inf:
                raise ValueError(f"TrainConfig: {name}={limit} must be positive")
        for name, share in {"warmup": self.warmup, "final_lr": self.final_lr}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"TrainConfig: {name}={share} must lie between 0 and 1")
        if self.schedule not in SCHEDULES:
            raise ValueError(
                f"TrainConfig: schedule={self.schedule!r} is none of {', '.join(SCHEDULES)}"
            )

    def factor(self, progress: float) -> float:
        """The schedule's factor when this share of the run is done, counted in thousandths."""
        options: dict[str, Any] = {"warmup": 1000 * self.warmup}
        if self.schedule == "cosine":
            options.update(total=1000, final=self.final_lr)
            options["warmup"] = min(options["warmup"], 999)
        elif self.schedule == "step_decay":
            options.update(every=1000 / 3)
        elif self.schedule == "inverse_sqrt":
            options["warmup"] = max(options["warmup"], 1)
        return getattr(schedules, self.schedule)(1000 * progress, **options)


class Trainer:
    """Trains a model to do a task.

    Args:
        model: what the task can ask.
        data: a task (:mod:`scratchlm.train.tasks`); a corpus means :class:`NextToken` on it.
        config: how to train; to resume, None goes on as the run was begun.
        out: folder for checkpoints and the log ``log.jsonl``; None keeps nothing.
        overwrite: remove the run that is in ``out``, instead of refusing.
        resume: go on from the newest good checkpoint of ``out``. With the same config, machine and
            number of BLAS threads, the weights become bit for bit what they would be without the
            break; a limit by the clock excepted.

    Raises:
        OSError: ``out`` cannot be written.
        FileExistsError: ``out`` holds a run; resume it, or choose another.
        ValueError: the model does not fit the task, or the text is too short for the length; or,
            to resume, the data are other ones.
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
        self.out = None if out is None else check_writable(out)
        checkpoint = self._checkpoint() if resume else None
        if config is None:
            config = TrainConfig(**checkpoint.state["config"]) if checkpoint else TrainConfig()
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
        self._like = next(iter(model.parameters())).data
        if checkpoint is not None:
            self._resume(checkpoint)
        elif self.out is not None:
            self._begin(self.out, overwrite)

    # -- one step ------------------------------------------------------------------------------

    def train_step(self) -> tuple[float, float]:
        """One update. Returns the loss before it and the norm of its gradient.

        Raises:
            FloatingPointError: the loss or the gradient is not finite; the weights are as before.
        """
        config = self.config
        self.scheduler.set(self.progress)
        batch = self.task.sample(config.batch_size, self.rng)
        loss = self.task.loss(self.model, beside(batch, self._like))
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value}")
        self.optimizer.zero_grad()
        loss.backward()
        norm = clip_grad_norm(self.model.parameters(), config.clip)
        self.optimizer.step()
        self.step += 1
        self.tokens += self.task.tokens(batch)
        return value, norm

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

    def evaluate(self, batches: int | None = None) -> dict[str, float]:
        """The task's figures on what was kept back: ``validation_loss`` and others."""
        return self.task.evaluate(self.model, batch_size=self.config.batch_size, batches=batches)

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

        ``interrupted`` then tells so; a second Ctrl-C stops at once, without saving.

        Raises:
            FloatingPointError: the loss is NaN or infinite; the last good checkpoint is named.
        """
        config = self.config
        self.interrupted = False
        self.model.train()
        losses: list[float] = []
        since, tokens = time.perf_counter(), self.tokens
        with _ctrl_c() as pressed, _display(progress, self, console) as show:
            began: float | None = None
            saved = self.step if self.step else -1
            while self.progress < 1 and not pressed.is_set():
                try:
                    loss, norm = self.train_step()
                except FloatingPointError as error:
                    raise FloatingPointError(self._explain(error)) from error
                losses.append(loss)
                if began is None:  # the first step compiles the kernels, which is no training time
                    since, tokens = time.perf_counter(), self.tokens
                    began = since - self.elapsed
                self.elapsed = time.perf_counter() - began
                if self.step % config.log_every == 0 or self.progress == 1 or pressed.is_set():
                    now, rate = time.perf_counter(), {}
                    if self.tokens > tokens:
                        rate["tokens_per_second"] = round((self.tokens - tokens) / (now - since))
                    since, tokens = now, self.tokens
                    self._log(
                        loss=float(np.mean(losses)),
                        gradient_norm=norm,
                        lr=self.optimizer.param_groups[0]["lr"],
                        **rate,
                    )
                    losses.clear()
                show(loss)
                if config.eval_every and self.step % config.eval_every == 0:
                    self._log(**self.evaluate(config.eval_batches))
                    show(loss)
                    since, tokens = time.perf_counter(), self.tokens
                if config.save_every and self.step % config.save_every == 0:
                    self.save()
                    saved = self.step
            self.interrupted = pressed.is_set() and self.progress < 1
            if not self.interrupted and not self._evaluated():
                self._log(**self.evaluate(config.eval_batches))
                show(None)
            if self.step != saved:
                self.save()
        return self

    def _evaluated(self) -> bool:
        last = next((r for r in reversed(self.history) if "validation_loss" in r), None)
        return last is not None and last["step"] == self.step

    def _explain(self, error: FloatingPointError) -> str:
        kept = checkpoints(self.out) if self.out is not None else []
        lr = self.optimizer.param_groups[0]["lr"]
        return (
            f"training stopped at step {self.step + 1} (lr {lr:.2g}): {error}. Try a smaller "
            "learning rate or a longer warm-up; `with scratchlm.detect_anomaly():` names the op"
            + (f". The last good checkpoint is {kept[-1]}" if kept else "")
        )

    def _log(self, **values: Any) -> None:
        if not values:
            return
        record = {"step": self.step, "seconds": round(self.elapsed, 3), **values}
        self.history.append(record)
        if self.out is not None:
            with (self.out / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    # -- saving and going on -------------------------------------------------------------------

    def save(self) -> Path | None:
        """Write a checkpoint of all that the next step depends on; None without ``out``."""
        if self.out is None:
            return None
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
            "rng": self.rng.bit_generator.state,
            "model_rng": self.model.rng_state(),
            "optimizer": counts,
        }
        files = {"model": self.model.state_dict(), "optimizer": arrays}
        return save_checkpoint(self.out, self.step, files, state, keep=self.config.keep)

    def _checkpoint(self) -> Checkpoint:
        if self.out is None:
            raise ValueError("Trainer: resume needs out=, the folder of the run")
        return load_checkpoint(self.out)

    def _resume(self, checkpoint: Checkpoint) -> None:
        assert self.out is not None
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
        self.model.load_rng_state(state["model_rng"])
        self.rng.bit_generator.state = state["rng"]
        self.task.load_state_dict(state["data"].get("state", {}))
        self.step = state["step"]
        self.elapsed = state["elapsed"]
        self.history = _read_log(self.out / LOG, self.step)
        # what was logged after the checkpoint will be done, and logged, again
        lines = [json.dumps(record) + "\n" for record in self.history]
        (self.out / LOG).write_text("".join(lines), encoding="utf-8")

    def _begin(self, out: Path, overwrite: bool) -> None:
        former = checkpoints(out)
        if former and not overwrite:
            raise FileExistsError(
                f"{out} already holds a run ({former[-1].name}); resume it, or choose another "
                "folder"
            )
        for checkpoint in former:
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


def _read_log(path: Path, until: int) -> list[Record]:
    """The records up to a step; a last line cut off by a crash does not count."""
    records: list[Record] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if record["step"] <= until:
                    records.append(record)
    return records


@contextlib.contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
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


_asked: list[None] = []


def _slower() -> str | None:
    """Why the fused kernels can't run here, if they can't; the first time only."""
    fused = get_op("attention").implementations.get("numba")
    if fused is None or _asked:
        return None
    _asked.append(None)
    return fused.unavailable()


@contextlib.contextmanager
def _display(wanted: bool, trainer: Trainer, console: Any) -> Iterator[Callable[[Any], None]]:
    """A progress bar with loss, rate and time left; or nothing."""
    if not wanted:
        yield lambda loss: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    def column(text: str) -> TextColumn:
        return TextColumn(text, table_column=Column(no_wrap=True))

    columns = (
        column("step {task.fields[step]:>5}"),
        BarColumn(bar_width=None),
        column("loss [bold]{task.fields[loss]}[/]"),
        column("validation [bold]{task.fields[validation]}[/]"),
        column("{task.fields[rate]} tokens/s"),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
        column("left"),
    )
    start: tuple[int, float] | None = (
        None  # tokens and time after the first step, which is not timed
    )
    smooth = 0.0
    with Progress(*columns, console=console, expand=True) as bar:
        missing = _slower()
        if missing:
            bar.console.print(f"[dim]{missing}. Without its kernels a step takes longer.[/]")
        task = bar.add_task("", total=1.0, step=trainer.step, loss="…", validation="…", rate="…")

        def show(loss: float | None) -> None:
            nonlocal smooth, start
            if loss is not None:
                smooth = 0.9 * smooth + 0.1 * loss if smooth else loss
            start = start or (trainer.tokens, trainer.elapsed)
            done, took = trainer.tokens - start[0], trainer.elapsed - start[1]
            evaluated = [r["validation_loss"] for r in trainer.history if "validation_loss" in r]
            bar.update(
                task,
                completed=trainer.progress,
                step=trainer.step,
                loss=f"{smooth:.3f}" if smooth else "…",
                validation=f"{evaluated[-1]:.3f}" if evaluated else "…",
                rate=f"{done / took:,.0f}" if took > 0 else "…",
            )

        yield show
