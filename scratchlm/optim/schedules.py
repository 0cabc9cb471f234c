"""Learning-rate schedules: plain functions from the step to a factor of the learning rate.

A step counts the updates already done, so the first update asks for step 0. It need not be whole:
a run that is limited by the clock passes the share of its time that has gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .optimizer import Optimizer


def _warm(step: float, warmup: float) -> float:
    """The linear rise: ``1/warmup`` at step 0, 1 from step ``warmup - 1`` on."""
    if step < 0 or warmup < 0:
        raise ValueError(f"a schedule needs step >= 0 and warmup >= 0, got {step} and {warmup}")
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def constant(step: float, *, warmup: float = 0) -> float:
    """1, after a linear rise over ``warmup`` steps."""
    return _warm(step, warmup)


def step_decay(step: float, *, every: float, gamma: float = 0.1, warmup: float = 0) -> float:
    """``gamma ** floor(step / every)``, after a linear rise over ``warmup`` steps."""
    if every <= 0 or gamma < 0:
        raise ValueError(f"step_decay needs every > 0 and gamma >= 0, got {every} and {gamma}")
    return _warm(step, warmup) * gamma ** (step // every)


def cosine(step: float, *, total: float, warmup: float = 0, final: float = 0.0) -> float:
    """Half a cosine from 1 down to ``final`` over ``total`` steps, after a linear rise.

    ``final + (1 - final) (1 + cos(π progress)) / 2`` with progress from 0 at the end of the warm-up
    to 1 at ``total``; ``final`` from there on.

    Source: Loshchilov & Hutter 2017 eq. 5, one period of it.
    """
    if not warmup < total or not 0 <= final <= 1:
        raise ValueError(
            f"cosine needs warmup < total and 0 <= final <= 1, got {warmup}, {total} and {final}"
        )
    progress = min(1.0, max(0.0, (step - warmup) / (total - warmup)))
    return _warm(step, warmup) * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


def inverse_sqrt(step: float, *, warmup: float, d_model: int | None = None) -> float:
    """``d_model^-½ · min(t^-½, t · warmup^-3/2)`` with ``t = step + 1``.

    A linear rise over ``warmup`` steps, then a fall as 1/√t. With ``d_model`` the value is the
    learning rate itself, to be used with ``lr=1``; without it is scaled to reach 1 at its peak.

    Source: Vaswani et al. 2017 eq. 3.
    """
    if warmup <= 0 or step < 0:
        raise ValueError(f"inverse_sqrt needs warmup > 0 and step >= 0, got {warmup} and {step}")
    t = step + 1
    scale = math.sqrt(warmup) if d_model is None else 1 / math.sqrt(d_model)
    return scale * min(1 / math.sqrt(t), t * warmup**-1.5)


class LRScheduler:
    """Sets each group's ``lr`` to its first ``lr`` times ``schedule(step)``; ``step()`` goes on.

    ``LRScheduler(optimizer, cosine, total=1000, warmup=50)``: options go to the schedule.

    Raises:
        TypeError, ValueError: what the schedule raises for its options, at once.
    """

    def __init__(
        self, optimizer: Optimizer, schedule: Callable[..., float], **options: Any
    ) -> None:
        self.optimizer = optimizer
        self.schedule = schedule
        self.options = options
        self.last_step: float = 0
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.set(0)

    def set(self, step: float) -> None:
        """Go to a step (a share of the time, say) directly."""
        factor = float(self.schedule(step, **self.options))
        self.last_step = step
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def step(self) -> None:
        """One update was done; call after ``optimizer.step()``."""
        self.set(self.last_step + 1)

    def state_dict(self) -> dict[str, Any]:
        """The step; the schedule itself belongs to the code."""
        return {"last_step": self.last_step}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go to the saved step."""
        self.set(saved["last_step"])
