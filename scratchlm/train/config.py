"""How a model is trained: a handful of numbers, checked before anything is done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..optim import schedules

SCHEDULES = ("constant", "cosine", "step_decay", "inverse_sqrt")


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
    accumulate: int = 1  # parts a batch is read in, one after the other, to save memory
    patience: int | None = None  # evaluations without a better one, after which to stop
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON knows lists only
        whole = ("batch_size", "length", "log_every", "keep", "accumulate")
        optional = ("steps", "eval_batches", "patience")
        for name in (*whole, *optional, "eval_every", "save_every", "seed"):
            value = getattr(self, name)
            if value is None and name in optional:
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"TrainConfig: {name} must be a whole number, got {value!r}")
            low = 1 if name in (*whole, *optional) else 0
            if value < low:
                raise ValueError(f"TrainConfig: {name}={value} must be at least {low}")
        if self.steps is None and self.seconds is None:
            raise ValueError("TrainConfig: say when to stop: steps=… or seconds=…")
        if self.patience is not None and not self.eval_every:
            raise ValueError("TrainConfig: patience counts evaluations; give eval_every, too")
        for name in ("lr", "clip", "warmup", "final_lr", "weight_decay", "seconds"):
            given = getattr(self, name)
            if given is None and name == "seconds":
                continue
            if isinstance(given, bool) or not isinstance(given, (int, float)):
                raise TypeError(f"TrainConfig: {name} must be a number, got {given!r}")
        positive = {"lr": self.lr, "clip": self.clip, "seconds": self.seconds}
        for name, limit in positive.items():
            if limit is not None and not 0 < limit < math.inf:
                raise ValueError(f"TrainConfig: {name}={limit} must be positive")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"TrainConfig: weight_decay={self.weight_decay} must be 0 or more")
        betas = list(self.betas)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"TrainConfig: betas={self.betas} must be two numbers in [0, 1)")
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
