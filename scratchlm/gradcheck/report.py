"""What the check found, in words: what, where, which known mistake, what to try."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .diagnosis import Diagnosis

WEAK = 1e3  # a gradient that stands less than this above the tolerance may hide an error of 0.1%
WIDTH = 80


@dataclass
class InputReport:
    """What the check found for one input."""

    name: str
    shape: tuple[int, ...]
    ok: bool = True
    error: float = 0.0  # worst |vjp - differences| / max(|vjp|, |differences|, atol / rtol)
    index: tuple[int, ...] | None = None  # where that is
    vjp: float | None = None  # the two values there
    differences: float | None = None
    power: float = 0.0  # the largest true gradient, as a multiple of the absolute tolerance
    checked: int = 0  # elements compared
    wrong: int = 0
    problem: str | None = None  # why there was nothing to compare: shape, dtype, None, NaN
    diagnosis: Diagnosis | None = None
    jacobian: np.ndarray | None = field(default=None, repr=False)  # measured: outputs x inputs

    def fail(self, wrong: int, error: float, problem: str | None = None) -> None:
        """Say that this input's gradient is wrong."""
        self.ok, self.wrong, self.error, self.problem = False, wrong, error, problem

    @property
    def note(self) -> str | None:
        """What the check does not prove."""
        size = math.prod(self.shape)
        if size == 0:
            return "empty: nothing to check"
        if self.power <= 1:
            return "the true gradient is 0 here, so this proves little: a vjp of zeros passes"
        if self.power < WEAK:
            return "the true gradient is so small here that an error of 0.1% could hide"
        if self.checked < size:
            return f"{self.checked} of {size} elements checked, drawn at random"
        return None

    @property
    def finding(self) -> str:
        """What the mistake looks like, in a line."""
        if self.diagnosis is None:
            return "no known mistake fits"
        return f"{self.diagnosis.name}: {self.diagnosis.text}"

    def as_dict(self) -> dict[str, Any]:
        """Numbers, strings, lists and None, ready for JSON."""
        numbers = {"error": self.error, "vjp": self.vjp, "differences": self.differences}
        return {
            "name": self.name,
            "shape": list(self.shape),
            "ok": self.ok,
            **{k: v if v is not None and math.isfinite(v) else None for k, v in numbers.items()},
            "index": None if self.index is None else list(self.index),
            "power": self.power,
            "checked": self.checked,
            "wrong": self.wrong,
            "problem": self.problem,
            "diagnosis": None if self.diagnosis is None else self.diagnosis._asdict(),
            "note": self.note,
        }

    def lines(self) -> list[str]:
        """The report on this input, a few lines of at most 80 characters."""
        title = f"{self.name} {self.shape}: "
        note = f"; {self.note}" if self.note else ""
        if self.ok:
            strength = "" if self.note else f", gradient {self.power:.0e} times the tolerance"
            return _wrap(title, f"worst relative error {self.error:.1e}{strength}{note}")
        lines = _wrap(
            title, self.problem or f"{self.wrong} of {self.checked} elements are wrong{note}"
        )
        if self.problem is None and self.index is not None:
            where = f"at {list(self.index)} the vjp says {self.vjp:.6g}, "
            lines += _wrap(
                "  where:      ", where + f"central differences say {self.differences:.6g}"
            )
        if self.diagnosis is None:
            lines += _wrap("  looks like: ", "no known mistake")
            lines += _wrap("  try:        ", "derive it for an input of two elements, by hand")
        else:
            text = "" if self.diagnosis.text == self.problem else f": {self.diagnosis.text}"
            lines += _wrap("  looks like: ", self.diagnosis.name.upper() + text)
            lines += _wrap("  try:        ", self.diagnosis.advice)
        return lines


class Diagnoses(dict[str, str | None]):
    """Input name -> name of the mistake, or None where no known one fits."""

    def __init__(self, names: dict[str, str | None], text: str) -> None:
        super().__init__(names)
        self.text = text

    def __str__(self) -> str:
        return self.text


@dataclass
class GradcheckReport:
    """The result of :func:`scratchlm.gradcheck`: true when every gradient is right.

    ``report["x"]`` is the :class:`InputReport` of input x; ``str(report)`` is for reading.
    """

    function: str
    inputs: list[InputReport]
    rtol: float
    atol: float
    eps: float
    seed: int

    @property
    def ok(self) -> bool:
        return all(entry.ok for entry in self.inputs)

    def __bool__(self) -> bool:
        return self.ok

    def __getitem__(self, name: str) -> InputReport:
        for entry in self.inputs:
            if entry.name == name:
                return entry
        raise KeyError(f"no input {name!r} was checked; checked: {[e.name for e in self.inputs]}")

    @property
    def error(self) -> float:
        """The worst relative error of all inputs."""
        return max((entry.error for entry in self.inputs), default=0.0)

    @property
    def diagnosis(self) -> Diagnoses:
        """For each input that is wrong, the name of the known mistake it looks like, or None.

        As text it is the whole finding, ``str(report.diagnosis)``; empty when all is right.
        """
        wrong = [entry for entry in self.inputs if not entry.ok]
        names = {e.name: e.diagnosis.name if e.diagnosis else None for e in wrong}
        return Diagnoses(names, "; ".join(f"{e.name}: {e.finding}" for e in wrong))

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "function": self.function,
            "ok": self.ok,
            "rtol": self.rtol,
            "atol": self.atol,
            "eps": self.eps,
            "seed": self.seed,
            "inputs": [entry.as_dict() for entry in self.inputs],
        }

    def __str__(self) -> str:
        lines = [f"  {line}" for entry in self.inputs for line in entry.lines()]
        return "\n".join([self._headline(), *lines])

    def _headline(self) -> str:
        wrong = [entry.name for entry in self.inputs if not entry.ok]
        if not wrong:
            return f"{self.function}: gradients right, by central differences (to {self.rtol:g})"
        return f"{self.function}: the gradient of {', '.join(wrong)} is WRONG"

    def table(self) -> Any:
        """A table of `rich`, for the terminal: one row for each input."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(self._headline(), "bold green" if self.ok else "bold red"))
        for title in ("input", "shape", "worst error", "at", "vjp", "differences", "verdict"):
            table.add_column(title, justify="right" if title in ("vjp", "differences") else "left")
        for entry in self.inputs:
            verdict = Text("right", "green")
            if not entry.ok:
                name = entry.diagnosis.name if entry.diagnosis else "no known mistake"
                verdict = Text(f"WRONG: {name}", "red")
            elif entry.note:
                verdict = Text(f"right, but {entry.note}", "yellow")
            table.add_row(
                entry.name,
                "x".join(map(str, entry.shape)) or "0-d",
                f"{entry.error:.1e}",
                ", ".join(map(str, entry.index or ())),
                "" if entry.vjp is None else f"{entry.vjp:.5g}",
                "" if entry.differences is None else f"{entry.differences:.5g}",
                verdict,
            )
        return table

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        lines = [line for entry in self.inputs if not entry.ok for line in entry.lines()]
        return Group(self.table(), *(Text(line) for line in lines))


def _wrap(title: str, text: str) -> list[str]:
    indent = " " * (len(title) if title.startswith(" ") else 4)
    return textwrap.wrap(title + text, WIDTH - 2, subsequent_indent=indent, break_long_words=False)
