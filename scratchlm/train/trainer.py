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

from .. import functional as F
from ..backend import asarray_like, to_host
from ..data import Corpus, sample_batch
from ..metrics import mean_loss
from ..nn import Module
from ..optim import AdamW, LRScheduler, clip_grad_norm, decay_groups, schedules
from ..registry import get_op
from .checkpoint import Checkpoint, check_writable, checkpoints, load_checkpoint, save_checkpoint

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
    length: int = 64  # tokens of context in training
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
    """Trains ``model(ids) -> logits`` to say what comes next.

    Args:
        model: any module from ids (B, T) to logits (B, T, V).
        data: the ids, split.
        config: how to train; to resume, None goes on as the run was begun.
        out: folder for checkpoints and the log ``log.jsonl``; None keeps nothing.
        overwrite: remove the run that is in ``out``, instead of refusing.
        resume: go on from the newest good checkpoint of ``out``. With the same config, machine and
            number of BLAS threads, the weights become bit for bit what they would be without the
            break; a limit by the clock excepted.

    Raises:
        OSError: ``out`` cannot be written.
        FileExistsError: ``out`` holds a run; resume it, or choose another.
        ValueError: the text is too short for the length, or the model for either; or, to resume,
            the text is another one.
    """

    def __init__(
        self,
        model: Module,
        data: Corpus,
        config: TrainConfig | None = None,
        *,
        out: str | Path | None = None,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        self.model = model
        self.data = data
        self.out = None if out is None else check_writable(out)
        checkpoint = self._checkpoint() if resume else None
        if config is None:
            config = TrainConfig(**checkpoint.state["config"]) if checkpoint else TrainConfig()
        self.config = config
        self._check_sizes()
        self.rng = np.random.default_rng(config.seed)
        self.optimizer = AdamW(
            decay_groups(model, config.weight_decay), lr=config.lr, betas=config.betas
        )
        self.scheduler = LRScheduler(self.optimizer, config.factor)
        self.step = 0
        self.elapsed = 0.0
        self.interrupted = False
        self.history: list[Record] = []
        self._like = next(iter(model.parameters())).data
        if checkpoint is not None:
            self._resume(checkpoint)
        elif self.out is not None:
            self._begin(self.out, overwrite)

    def _check_sizes(self) -> None:
        """Refuse now what would fail at some later step."""
        length = self.config.length
        sample_batch(self.data.train, 1, length, np.random.default_rng(0))
        sizes = getattr(self.model, "config", None)
        block_size = getattr(sizes, "block_size", length)
        vocab_size = getattr(sizes, "vocab_size", len(self.data.vocabulary))
        if length > block_size:
            raise ValueError(
                f"Trainer: length={length}, but the model has positions for block_size={block_size}"
            )
        if len(self.data.vocabulary) > vocab_size:
            raise ValueError(
                f"Trainer: the text has {len(self.data.vocabulary)} different tokens, the model "
                f"only vocab_size={vocab_size}"
            )

    # -- one step ------------------------------------------------------------------------------

    def train_step(self) -> tuple[float, float]:
        """One update. Returns the loss before it and the norm of its gradient.

        Raises:
            FloatingPointError: the loss or the gradient is not finite; the weights are as before.
        """
        config = self.config
        self.scheduler.set(self.progress)
        x, y = sample_batch(self.data.train, config.batch_size, config.length, self.rng)
        logits = self.model(asarray_like(x, self._like))  # [B, T] -> [B, T, V]
        loss = F.cross_entropy(logits, asarray_like(y, self._like))
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value}")
        self.optimizer.zero_grad()
        loss.backward()
        norm = clip_grad_norm(self.model.parameters(), config.clip)
        self.optimizer.step()
        self.step += 1
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

    def validation_loss(self, batches: int | None = None) -> float:
        """The mean loss on the validation part, in nats per token."""
        config = self.config
        return mean_loss(
            self.model,
            self.data.validation,
            length=config.length,
            batch_size=config.batch_size,
            batches=batches,
        )

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
        since, steps = time.perf_counter(), 0
        with _ctrl_c() as pressed, _display(progress, self, console) as show:
            began: float | None = None
            saved = self.step if self.step else -1
            while self.progress < 1 and not pressed.is_set():
                try:
                    loss, norm = self.train_step()
                except FloatingPointError as error:
                    raise FloatingPointError(self._explain(error)) from error
                losses.append(loss)
                steps += 1
                if began is None:  # the first step compiles the kernels, which is no training time
                    began, since, steps = time.perf_counter() - self.elapsed, time.perf_counter(), 0
                self.elapsed = time.perf_counter() - began
                if self.step % config.log_every == 0 or self.progress == 1 or pressed.is_set():
                    now, rate = time.perf_counter(), {}
                    if steps:
                        tokens = steps * config.batch_size * config.length
                        rate["tokens_per_second"] = round(tokens / (now - since))
                    since, steps = now, 0
                    self._log(
                        loss=float(np.mean(losses)),
                        gradient_norm=norm,
                        lr=self.optimizer.param_groups[0]["lr"],
                        **rate,
                    )
                    losses.clear()
                show(loss)
                if config.eval_every and self.step % config.eval_every == 0:
                    self._log(validation_loss=self.validation_loss(config.eval_batches))
                    show(loss)
                    since, steps = time.perf_counter(), 0
                if config.save_every and self.step % config.save_every == 0:
                    self.save()
                    saved = self.step
            self.interrupted = pressed.is_set() and self.progress < 1
            if not self.interrupted and not self._evaluated():
                self._log(validation_loss=self.validation_loss(config.eval_batches))
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
            "vocabulary": self.data.vocabulary.as_dict(),
            "data": {"source": self.data.source, "fingerprint": self.data.fingerprint()},
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
        ours, saved = self.data.fingerprint(), state["data"]["fingerprint"]
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
    data: Corpus,
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
    start_step, start_time = trainer.step + 1, trainer.elapsed  # the first step is not timed
    smooth = 0.0
    with Progress(*columns, console=console, expand=True) as bar:
        missing = _slower()
        if missing:
            bar.console.print(f"[dim]{missing}. Without its kernels a step takes longer.[/]")
        task = bar.add_task("", total=1.0, step=trainer.step, loss="…", validation="…", rate="…")

        def show(loss: float | None) -> None:
            nonlocal smooth
            config = trainer.config
            if loss is not None:
                smooth = 0.9 * smooth + 0.1 * loss if smooth else loss
            done = (trainer.step - start_step) * config.batch_size * config.length
            took = trainer.elapsed - start_time
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
