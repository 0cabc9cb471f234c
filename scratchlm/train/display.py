"""What is on the screen while a model trains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..registry import get_op

if TYPE_CHECKING:
    from .trainer import Trainer

_asked: list[None] = []


def _slower() -> str | None:
    """Why the fused kernels can't run here, if they can't; the first time only."""
    fused = get_op("attention").implementations.get("numba")
    if fused is None or _asked:
        return None
    _asked.append(None)
    return fused.unavailable()


@contextlib.contextmanager
def display(wanted: bool, trainer: Trainer, console: Any) -> Iterator[Callable[[Any], None]]:
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
