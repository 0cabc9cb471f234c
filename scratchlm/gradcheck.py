r"""Central differences: is a gradient right, and if not, what is wrong with it?

A ``vjp`` claims that the cotangent ``dy`` of the outputs becomes the cotangent ``Jᵀ dy`` of the input.
The Jacobian ``J`` can also be measured, one column for each input element, with no calculus:

    ``J[:, j] = (f(x + h eⱼ) - f(x - h eⱼ)) / 2h``

The error of that is about ``h² f'''/6`` (the step is too long) plus ``u |f| / h`` (``u = 1.1e-16``: the
digits that cancel), least near ``h = u^(1/3) ≈ 6e-6`` and then about 1e-10. In float32 the best step
leaves 1e-5 at the very best, and a gradient that is 0.1% wrong could hide: float64 only.

The cotangents are random. With ``dy = 1`` a softmax whose vjp returns zero would pass, since the sum
of a softmax does not change.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .backend import Array, asarray_like, to_host
from .diagnosis import Case, Diagnosis, diagnose
from .registry import Op, all_ops
from .tensor import Tensor, unbroadcast

EPS = 6e-6  # the cube root of float64's 1.1e-16, rounded up
MAX_COLUMNS = 1000  # input elements that are measured, of each input; more are sampled
MAX_ENTRIES = 4_000_000  # of one Jacobian: 32 MB
WEAK = 1e3  # a gradient less than this above the tolerance could be 0.1% wrong unseen


@dataclass
class InputReport:
    """What the check found for one input."""

    name: str
    shape: tuple[int, ...]
    ok: bool
    error: float  # the worst relative error, |vjp - differences| / max(|vjp|, |differences|, floor)
    index: tuple[int, ...] | None = None  # where
    vjp: float | None = None  # the two values there
    differences: float | None = None
    power: float = 0.0  # the largest true gradient over the tolerance
    checked: int = 0  # elements compared
    wrong: int = 0
    problem: str | None = None  # no number to compare: a wrong shape or dtype, None, NaN
    diagnosis: Diagnosis | None = None
    jacobian: np.ndarray | None = field(default=None, repr=False)  # measured: outputs × inputs

    @property
    def note(self) -> str | None:
        """What the check does not prove."""
        size = int(np.prod(self.shape))
        if size == 0:
            return "empty: nothing to check"
        if self.power <= 1:
            return (
                "the true gradient is 0 here: a vjp that returns 0 would pass, this proves nothing"
            )
        if self.power < WEAK:
            return "the true gradient is so small that an error of 0.1% could hide"
        if self.checked < size:
            return f"{self.checked} of {size} elements checked, chosen at random"
        return None

    def as_dict(self) -> dict[str, Any]:
        """JSON: numbers, strings, lists, None."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "ok": self.ok,
            "error": _finite(self.error),
            "index": None if self.index is None else list(self.index),
            "vjp": _finite(self.vjp),
            "differences": _finite(self.differences),
            "power": _finite(self.power),
            "checked": self.checked,
            "wrong": self.wrong,
            "problem": self.problem,
            "diagnosis": None if self.diagnosis is None else self.diagnosis._asdict(),
            "note": self.note,
        }


@dataclass
class GradcheckReport:
    """The result of :func:`gradcheck`: true when every gradient is right.

    ``report[name]`` is one input's :class:`InputReport`; ``str(report)`` says in plain words what is
    wrong, where, which known mistake it looks like, and what to try.
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
        raise KeyError(f"no input {name!r} was checked, only {[e.name for e in self.inputs]}")

    @property
    def error(self) -> float:
        """The worst relative error of all inputs."""
        return max((entry.error for entry in self.inputs), default=0.0)

    @property
    def diagnosis(self) -> dict[str, str | None]:
        """For each input that is wrong, the name of the known mistake it looks like, or None."""
        return {
            entry.name: entry.diagnosis.name if entry.diagnosis else None
            for entry in self.inputs
            if not entry.ok
        }

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
        lines = [self._headline()]
        for entry in self.inputs:
            lines += [f"  {line}" for line in _describe(entry)]
        return "\n".join(lines)

    def _headline(self) -> str:
        wrong = [entry.name for entry in self.inputs if not entry.ok]
        if wrong:
            return f"{self.function}: the gradient of {' and '.join(wrong)} is WRONG"
        return f"{self.function}: the gradients are right (to {self.rtol:g}, against central differences)"

    def table(self) -> Any:
        """The report as a table of `rich`, for the terminal; one row for each input."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(self._headline(), style="bold green" if self.ok else "bold red"))
        for title in ("input", "shape", "worst error", "at", "vjp", "differences", "verdict"):
            table.add_column(title, justify="right" if title in ("vjp", "differences") else "left")
        for entry in self.inputs:
            verdict = Text("right", "green") if entry.ok else Text(_verdict(entry), "red")
            if entry.ok and entry.note:
                verdict = Text(entry.note, "yellow")
            table.add_row(
                entry.name, str(entry.shape), f"{entry.error:.1e}", str(entry.index or ""),
                _number(entry.vjp), _number(entry.differences), verdict,
            )  # fmt: skip
        return table

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        words = [line for entry in self.inputs if not entry.ok for line in _describe(entry)]
        return Group(self.table(), *(Text(line) for line in words))


def _describe(entry: InputReport) -> list[str]:
    """What, where, which known mistake, what to try."""
    note = f"; {entry.note}" if entry.note else ""
    what = f"{entry.name} {entry.shape}: "
    if entry.ok:
        return [f"{what}worst relative error {entry.error:.1e}{note}"]
    lines = [what + (entry.problem or f"{entry.wrong} of {entry.checked} elements are wrong{note}")]
    if entry.index is not None and entry.vjp is not None:
        lines.append(
            f"  where:      at {list(entry.index)} the vjp says {_number(entry.vjp)}, "
            f"central differences say {_number(entry.differences)}"
        )
    if entry.diagnosis is None:
        lines.append("  looks like: no known mistake")
        lines.append("  try:        derive it for an input of two elements, and compare by hand")
    else:
        lines.append(f"  looks like: {entry.diagnosis.name}: {entry.diagnosis.text}")
        lines.append(f"  try:        {entry.diagnosis.advice}")
    return lines


def _verdict(entry: InputReport) -> str:
    return entry.diagnosis.name if entry.diagnosis else entry.problem or "no known mistake"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def gradcheck(
    f: Any,
    *inputs: Any,
    eps: float = EPS,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    seed: int = 0,
    names: Sequence[str] | None = None,
    wrt: Sequence[int] | None = None,
    broadcasts: bool | None = None,
) -> GradcheckReport:
    """Compare the gradients of ``f`` with central differences, at random cotangents.

    Args:
        f: an op, ``(*arrays) -> (out, vjp)`` (bind its options with ``functools.partial`` or a
            lambda), or a function of tensors that returns a tensor or a tuple of them.
        inputs: float64 arrays, tensors or nested lists are checked; integers, booleans and None are
            passed on as they are.
        eps: the step is ``eps * max(1, |x|)`` for each element. An element that disagrees is
            measured again with a step ten times longer and ten times shorter before it counts.
        rtol, atol: right means ``|vjp - differences| <= atol + noise + rtol * max(|vjp|, |differences|)``,
            where ``noise`` is the rounding error of the differences themselves.
        seed: of the random cotangents (and of the sample, for inputs of more than 1000 elements).
        names: of the inputs; without, those of ``f``'s parameters.
        wrt: the positions of the inputs to check, if not all.
        broadcasts: the vjp may return gradients of the broadcast shape, to be summed as the engine
            does. None looks ``f`` up among the registered ops.

    Returns:
        A report, true when all is right. A wrong gradient never raises.

    Raises:
        TypeError: inputs that are not float64, or ``f`` is neither an op nor a function of tensors.
        RuntimeError: ``f`` changes its input, or gives another result when called again.
        ValueError: NaN or infinity in ``f``'s output; a vjp with a wrong number of gradients.
    """
    problem = _Problem(f, inputs, names, wrt, broadcasts)
    rng = np.random.default_rng(seed)
    cotangents = [problem.random_cotangent(rng) for _ in range(2)]
    guesses, fault = problem.checked_vjp(cotangents)
    flat = [np.concatenate([d.ravel() for d in dy]) for dy in cotangents]

    measured = {i: problem.jacobian(i, eps, rng) for i in problem.wrt}
    entries = []
    for i in problem.wrt:
        entry = _compare(problem, i, measured, flat, [g[i] for g in guesses], eps, rtol, atol)
        if fault is not None and entry.ok:
            entry.ok, entry.problem, entry.diagnosis = False, fault.text, fault
        entries.append(entry)
    return GradcheckReport(problem.name, entries, rtol, atol, eps, seed)


def assert_gradients(f: Any, *inputs: Any, **options: Any) -> None:
    """The pytest helper: an AssertionError with the report, unless :func:`gradcheck` finds all right."""
    __tracebackhide__ = True
    report = gradcheck(f, *inputs, **options)
    if not report:
        raise AssertionError(str(report))


class StepErrors(NamedTuple):
    """The V-shaped curve: the error of the differences for each step."""

    steps: np.ndarray
    errors: np.ndarray


def error_by_step(
    f: Any,
    *inputs: Any,
    steps: Sequence[float] | None = None,
    method: str = "central",
    seed: int = 0,
    wrt: Sequence[int] | None = None,
) -> StepErrors:
    """How far the differences are from the vjp, for each step ``h``: the V-curve.

    Too long a step cuts off the Taylor series (the error falls as h², or as h with
    ``method="forward"``), too short a one cancels digits (it grows as 1/h). The error is the largest
    difference over the largest gradient element.
    """
    if method not in ("central", "forward"):
        raise ValueError(f"error_by_step: method {method!r}; it is 'central' or 'forward'")
    steps = np.logspace(-1, -12, 34) if steps is None else np.asarray(steps, dtype=np.float64)
    problem = _Problem(f, inputs, None, wrt, None)
    rng = np.random.default_rng(seed)
    dy = problem.random_cotangent(rng)
    flat = np.concatenate([d.ravel() for d in dy])
    gradients = problem.checked_vjp([dy])[0][0]
    errors = []
    for h in steps:
        worst, scale = 0.0, 0.0
        for i in problem.wrt:
            guess = gradients[i]
            if guess is None or guess.shape != problem.hosts[i].shape:
                raise ValueError(
                    f"error_by_step: the gradient of {problem.names[i]} has a wrong shape"
                )
            for j in range(min(guess.size, MAX_COLUMNS)):
                left, right = problem.slopes(i, j, float(h))
                slope = right if method == "forward" else (left + right) / 2
                worst = max(worst, abs(float(slope @ flat) - float(guess.ravel()[j])))
            scale = max(scale, float(np.max(np.abs(guess), initial=0.0)))
        errors.append(worst / scale if scale else worst)
    return StepErrors(np.asarray(steps), np.array(errors))


# -- measuring -------------------------------------------------------------------------------------


class _Problem:
    """``f`` at one point: run it forward, pull cotangents back, measure its Jacobian."""

    def __init__(
        self,
        f: Any,
        inputs: tuple[Any, ...],
        names: Sequence[str] | None,
        wrt: Sequence[int] | None,
        broadcasts: bool | None,
    ) -> None:
        self.function = f.run if isinstance(f, Op) else f
        self.name = _name(f)
        self.inputs = [_array(x) for x in inputs]
        self.names = list(names) if names is not None else _names(f, len(inputs))
        if len(self.names) != len(inputs):
            raise ValueError(f"gradcheck: {len(self.names)} names for {len(inputs)} inputs")
        floating = [i for i, x in enumerate(self.inputs) if _is_floating(x)]
        self.wrt = floating if wrt is None else [i for i in wrt if i in floating]
        if not self.wrt:
            raise TypeError(f"gradcheck({self.name}): no floating input to differentiate by")
        for i in self.wrt:
            if self.inputs[i].dtype != np.float64:
                raise TypeError(
                    f"gradcheck({self.name}): input {self.names[i]!r} is {self.inputs[i].dtype}, it must "
                    "be float64: in float32 the differences keep three or four digits, and a gradient "
                    "that is 0.1% wrong would pass; use x.astype('float64')"
                )
        self.hosts = {i: np.array(to_host(self.inputs[i])) for i in self.wrt}  # copies
        self.is_op = self._find_kind([isinstance(x, Tensor) for x in inputs])
        self.broadcasts = _broadcasts(f) if broadcasts is None else broadcasts
        self.outs = self._run_twice()

    def _find_kind(self, tensors: list[bool]) -> bool:
        """Whether ``f`` is an op (given arrays it returns out and vjp) or a function of tensors."""
        refusal: Exception | None = None
        result: Any = None
        try:
            result = self.function(*self._fresh())
        except Exception as error:
            refusal = error
        if type(result) is tuple and len(result) == 2 and callable(result[1]):
            return True
        if any(tensors):
            return False
        # An ndarray refused it where a Tensor would not have: written for tensors.
        for_tensors = isinstance(refusal, AttributeError) and hasattr(Tensor, str(refusal.name))
        try:
            result = self.function(*self._fresh(as_tensors=True))
        except Exception:
            if refusal is not None and not for_tensors:
                raise refusal from None
            if refusal is None:
                raise self._no_function(result) from None
            raise
        if not _are_tensors(result):
            raise refusal if refusal is not None else self._no_function(result)
        return False

    def _no_function(self, result: Any) -> TypeError:
        return TypeError(
            f"gradcheck: {self.name} returned {type(result).__name__}; an op returns the pair "
            "(out, vjp), a function of tensors returns a tensor or a tuple of tensors"
        )

    def _fresh(
        self, changed: dict[int, np.ndarray] | None = None, as_tensors: bool = False
    ) -> list[Any]:
        """Copies of the inputs (some of them ``changed``): what ``f`` does to them stays its own."""
        args: list[Any] = []
        for i, x in enumerate(self.inputs):
            if i in self.hosts:
                host = self.hosts[i] if changed is None or i not in changed else changed[i]
                x = asarray_like(host.copy(), x)
                if as_tensors:
                    x = Tensor(x, requires_grad=True, name=self.names[i])
            args.append(x)
        return args

    def _forward(self, args: list[Any]) -> tuple[list[Array], Any]:
        """The outputs, as arrays, and what pulls cotangents back."""
        result = self.function(*args)
        if self.is_op:
            out, vjp = result
            return list(out) if type(out) is tuple else [out], vjp
        if not _are_tensors(result):
            raise self._no_function(result)
        outs = list(result) if isinstance(result, tuple) else [result]
        return [t.data for t in outs], outs

    def values(self, args: list[Any]) -> np.ndarray:
        """The floating outputs, laid end to end."""
        outs = [np.asarray(to_host(out)) for out in self._forward(args)[0]]
        return np.concatenate([out.ravel() for out in outs if _is_floating(out)] or [np.zeros(0)])

    def _run_twice(self) -> list[np.ndarray]:
        args = self._fresh(as_tensors=not self.is_op)
        outs = [np.array(to_host(out)) for out in self._forward(args)[0]]
        for i in self.wrt:
            if not np.array_equal(to_host(_data(args[i])), self.hosts[i], equal_nan=True):
                raise RuntimeError(
                    f"{self.name} changes its input {self.names[i]!r} in place, which its caller still "
                    "needs: compute into a new array (x = x + 1, not x += 1)"
                )
        for number, out in enumerate(outs):
            which = f"output {number}" if len(outs) > 1 else "the output"
            if _is_floating(out) and out.dtype != np.float64:
                raise TypeError(
                    f"{self.name}: {which} is {out.dtype} though the inputs are float64: the digits "
                    "that the differences need are lost; keep the dtype of the inputs"
                )
            _refuse_nan(
                out, f"{self.name}: {which}", "check at inputs where the function is defined"
            )
        self.outs = [out for out in outs if _is_floating(out)]
        if not self.outs:
            raise TypeError(f"{self.name}: no floating output, so there is no gradient to check")
        again = self.values(self._fresh(as_tensors=not self.is_op))
        if not np.array_equal(again, np.concatenate([out.ravel() for out in self.outs])):
            raise RuntimeError(
                f"{self.name} gives another result when called again with the same inputs. Dropout? Fix "
                "its random numbers: make the generator inside, lambda x: f(x, rng=default_rng(0))"
            )
        self.floating = [_is_floating(out) for out in outs]
        return self.outs

    def random_cotangent(self, rng: np.random.Generator) -> list[np.ndarray]:
        return [rng.standard_normal(out.shape) for out in self.outs]

    def pull(
        self, cotangents: list[np.ndarray], outs: list[Array], back: Any, args: list[Any]
    ) -> list[Any]:
        """One call of the vjp: the raw gradients, one for each input."""
        queue = [
            asarray_like(dy.copy(), out)
            for dy, out in zip(
                cotangents,
                [out for out, floating in zip(outs, self.floating, strict=True) if floating],
                strict=True,
            )
        ]
        filled = [queue.pop(0) if floating else None for floating in self.floating]
        if not self.is_op:
            for t, dy in zip(back, filled, strict=True):
                if dy is not None and t.requires_grad:
                    t.backward(dy)
            return [
                t.grad.data if isinstance(t, Tensor) and t.grad is not None else None for t in args
            ]
        sent = [None if dy is None else np.array(to_host(dy)) for dy in filled]
        result = back(*filled)
        for dy, former in zip(filled, sent, strict=True):
            if dy is not None and not np.array_equal(to_host(dy), former):
                self.changed = "its cotangent dy"
        gradients = list(result) if type(result) is tuple else [result]
        if isinstance(result, list) or len(gradients) != len(args):
            raise ValueError(
                f"{self.name}: vjp returned {type(result).__name__ if isinstance(result, list) else len(gradients)}"
                f" for {len(args)} inputs ({', '.join(self.names)}); return a tuple with one gradient per "
                "input, None for one that has none"
            )
        return gradients

    def checked_vjp(
        self, cotangents: list[list[np.ndarray]]
    ) -> tuple[list[list[Any]], Diagnosis | None]:
        """The gradients for each cotangent, and what is wrong with the manners of the vjp."""
        self.changed: str | None = None
        if not self.is_op:
            results = []
            for dy in cotangents:
                args = self._fresh(as_tensors=True)
                outs, back = self._forward(args)
                results.append([_host(g) for g in self.pull(dy, outs, back, args)])
            return results, None
        args = self._fresh()
        outs, vjp = self._forward(args)
        kept = [self.pull(dy, outs, vjp, args) for dy in cotangents[:1]]
        results = [[_host(g) for g in kept[0]]]
        results += [[_host(g) for g in self.pull(dy, outs, vjp, args)] for dy in cotangents[1:]]
        fault = None
        if any(not _same(_host(g), r) for g, r in zip(kept[0], results[0], strict=True)):
            fault = Diagnosis(
                "array reused",
                "a second call of the vjp overwrites what the first returned",
                "return a fresh array at each call, not one kept from the forward pass",
            )
        again = [_host(g) for g in self.pull(cotangents[0], outs, vjp, args)]
        if fault is None and any(not _same(a, r) for a, r in zip(again, results[0], strict=True)):
            fault = Diagnosis(
                "not repeatable",
                "called again with the same cotangent, the vjp returns something else",
                "the vjp may not change what it keeps from the forward pass (+= on a saved array?)",
            )
        for i in self.wrt:
            if not np.array_equal(to_host(args[i]), self.hosts[i]):
                self.changed = f"the input {self.names[i]}"
        if self.changed is not None:
            fault = Diagnosis(
                "changed in place",
                f"the vjp changes {self.changed} in place, which others still need",
                "compute into a new array: dx = dy * y, not dy *= y",
            )
        return results, fault

    def slopes(self, i: int, j: int, h: float) -> tuple[np.ndarray, np.ndarray]:
        """The slopes of all outputs, left and right of element ``j`` of input ``i``."""
        x = self.hosts[i].copy()
        centre = float(x.ravel()[j])
        place = np.unravel_index(j, x.shape)
        base = np.concatenate([out.ravel() for out in self.outs])
        values, steps = [], []
        for sign in (-1, 1):
            x[place] = centre + sign * h
            steps.append(float(x[place]) - centre)  # the step as rounded, not as asked
            moved = self.values(self._fresh({i: x}, as_tensors=not self.is_op))
            where = [int(k) for k in place]
            _refuse_nan(
                moved, f"{self.name}: with {self.names[i]}{where} moved by {sign * h:.1e}, the output",
                "check at inputs inside the domain of the function", places=False,
            )  # fmt: skip
            values.append(moved)
        if 0.0 in steps:
            raise ValueError(
                f"{self.name}: the step {h:.1e} is lost beside {centre:.3g}; use a larger one"
            )
        return (values[0] - base) / steps[0], (values[1] - base) / steps[1]

    def column(self, i: int, j: int, eps: float) -> np.ndarray:
        """``∂(outputs)/∂(element j of input i)`` by central differences."""
        left, right = self.slopes(i, j, eps * max(1.0, abs(float(self.hosts[i].ravel()[j]))))
        return (left + right) / 2

    def is_kink(self, i: int, j: int, eps: float) -> bool:
        """The slopes left and right differ, and no less with a step ten times shorter."""
        bends = []
        for h in (eps, eps / 10):
            left, right = self.slopes(i, j, h * max(1.0, abs(float(self.hosts[i].ravel()[j]))))
            scale = max(np.max(np.abs(left), initial=0.0), np.max(np.abs(right), initial=0.0))
            bends.append(float(np.max(np.abs(right - left), initial=0.0)))
        return bends[0] > 1e-4 * scale and bends[1] > 0.5 * bends[0]

    def jacobian(
        self, i: int, eps: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """``(J, columns)``: the columns that were measured, all of them unless there are too many."""
        size, rows = self.hosts[i].size, sum(out.size for out in self.outs)
        limit = max(16, min(MAX_COLUMNS, MAX_ENTRIES // max(rows, 1)))
        columns = np.arange(size)
        if size > limit:
            columns = np.sort(rng.choice(size, limit, replace=False))
        measured = [self.column(i, int(j), eps) for j in columns]
        return np.stack(measured, axis=1) if measured else np.zeros((rows, 0)), columns


def _compare(
    problem: _Problem,
    i: int,
    measured: dict[int, tuple[np.ndarray, np.ndarray]],
    cotangents: list[np.ndarray],
    guesses: list[Any],
    eps: float,
    rtol: float,
    atol: float,
) -> InputReport:
    """Input ``i``: the vjp's gradient beside ``Jᵀ dy``."""
    x, (jacobian, columns) = problem.hosts[i], measured[i]
    whole = len(columns) == x.size
    dy = cotangents[0]
    truth = dy @ jacobian
    values = np.concatenate([out.ravel() for out in problem.outs])
    # the outputs carry an error of about u each; divided by the step it is in the differences
    noise = 4 * 1.1e-16 * float(np.abs(dy) @ np.abs(values)) / eps
    floor = atol + noise
    power = float(np.max(np.abs(truth) / (floor + rtol * np.abs(truth)), initial=0.0))
    entry = InputReport(problem.names[i], x.shape, True, 0.0, power=power, checked=len(columns))
    entry.jacobian = jacobian

    entry.problem = _unusable(guesses, x, entry.name, is_zero=power <= 1)
    if entry.problem is not None:
        entry.ok, entry.error, entry.wrong = False, float("inf"), len(columns)
        name = (
            "none returned" if guesses[0] is None else "NaN" if "NaN" in entry.problem else "dtype"
        )
        entry.diagnosis = Diagnosis(name, entry.problem, _ADVICE[name])
        return entry
    if guesses[0] is None:
        return entry
    guesses = [np.asarray(g, dtype=np.float64) for g in guesses]
    if problem.broadcasts:
        guesses = [_unbroadcast(g, x.shape) for g in guesses]

    wrong = np.ones(len(columns), dtype=bool)
    if guesses[0].shape == x.shape:
        guess = guesses[0].ravel()[columns]
        error = _relative(guess, truth, floor / rtol)
        _measure_again(problem, i, error > rtol, measured[i], guess, dy, eps, rtol, floor)
        truth = dy @ jacobian
        error = _relative(guess, truth, floor / rtol)
        wrong = error > rtol
        if len(error):
            worst = int(np.argmax(error))
            entry.error = float(error[worst])
            entry.index = tuple(int(k) for k in np.unravel_index(columns[worst], x.shape))
            entry.vjp, entry.differences = float(guess[worst]), float(truth[worst])
        if not wrong.any():
            return entry
        if not whole:
            guesses = [g.ravel()[columns] for g in guesses]
    else:
        entry.error = float("inf")
        entry.problem = f"the gradient has shape {guesses[0].shape}, the input {x.shape}"
        if not x.size and not guesses[0].size:
            whole = True
    entry.ok, entry.wrong = False, int(wrong.sum())
    kinks = guesses[0].shape == x.shape and all(
        problem.is_kink(i, int(columns[k]), eps) for k in np.flatnonzero(wrong)
    )
    shape = x.shape if whole else truth.shape
    others = {
        problem.names[k]: ([d @ measured[k][0] for d in cotangents], problem.hosts[k].shape)
        for k in problem.wrt
        if k != i and measured[k][0].shape[1] == problem.hosts[k].size
    }
    entry.diagnosis = diagnose(
        Case(
            entry.name,
            x,
            problem.outs,
            cotangents,
            jacobian,
            [(d @ jacobian).reshape(shape) for d in cotangents],
            guesses,
            whole,
            kinks,
            others,
            list(_sizes(problem)),
        )  # fmt: skip
    )
    if entry.diagnosis is None and guesses[0].shape != x.shape:
        entry.diagnosis = Diagnosis(
            "wrong shape", entry.problem or "", "a gradient has its input's shape"
        )
    return entry


_ADVICE = {
    "none returned": "return a gradient for every floating input that the output depends on",
    "NaN": "look for a division by zero, the logarithm of 0, or inf - inf in the vjp",
    "dtype": "a gradient has the dtype of its input: keep float64 constants and casts out of the vjp",
}


def _unusable(guesses: list[Any], x: np.ndarray, name: str, is_zero: bool) -> str | None:
    """Why the gradient is no array of numbers that could be compared; None if it is one."""
    for g in guesses:
        if g is None:
            if not is_zero:
                return f"no gradient arrives (None), though the output depends on {name}"
        elif g.dtype != x.dtype:
            return f"the gradient is {g.dtype}, the input {x.dtype}"
        elif not np.isfinite(g).all():
            bad = np.argwhere(~np.isfinite(g))
            return f"NaN or infinity in {len(bad)} of {g.size} elements, first at {bad[0].tolist()}"
    return None


def _measure_again(
    problem: _Problem,
    i: int,
    wrong: np.ndarray,
    measured: tuple[np.ndarray, np.ndarray],
    guess: np.ndarray,
    dy: np.ndarray,
    eps: float,
    rtol: float,
    floor: float,
) -> None:
    """Measure again, with other steps, the elements that disagree: is it the step that is bad here?

    Eight in a row that still disagree are enough to believe the rest.
    """
    jacobian, columns = measured
    stubborn = 0
    for k in np.flatnonzero(wrong):
        stubborn += 1
        for scale in (10.0, 0.1):
            try:
                column = problem.column(i, int(columns[k]), eps * scale)
            except ValueError:
                continue  # the longer step leaves the domain
            if _relative(guess[k], column @ dy, floor / rtol) <= rtol:
                jacobian[:, k] = column
                stubborn = 0
                break
        if stubborn == 8:
            return


def _relative(a: Any, b: Any, floor: float) -> Any:
    return np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), floor)


def _sizes(problem: _Problem) -> Any:
    """Lengths that turn up as factors in gradients: of axes, of arrays, of the rows of a batch."""
    arrays = [(problem.names[i], problem.hosts[i].shape) for i in problem.hosts]
    arrays += [("the output", out.shape) for out in problem.outs]
    for name, shape in arrays:
        yield f"elements of {name}", int(np.prod(shape))
        for axis, n in enumerate(shape):
            yield f"length of axis {axis} of {name}", n
        yield f"rows of {name}", int(np.prod(shape[:-1]))


# -- small things ----------------------------------------------------------------------------------


def _array(x: Any) -> Any:
    """An input: arrays and tensors as they are, nested lists of floats as float64."""
    if isinstance(x, Tensor):
        return x.data
    if x is None or (hasattr(x, "dtype") and hasattr(x, "shape")):
        return np.asarray(x) if isinstance(x, np.generic) else x
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"gradcheck: an input is {type(x).__name__}, not an array of numbers")
    return array


def _is_floating(x: Any) -> bool:
    return x is not None and np.dtype(str(x.dtype).rpartition(".")[2]).kind == "f"


def _data(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else x


def _host(gradient: Any) -> np.ndarray | None:
    """A copy on the host of a gradient; None stays None."""
    return None if gradient is None else np.array(to_host(gradient))


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(a, b, equal_nan=True)


def _are_tensors(result: Any) -> bool:
    several = result if isinstance(result, tuple) and result else (result,)
    return all(isinstance(t, Tensor) for t in several)


def _unbroadcast(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return unbroadcast(gradient, shape)
    except ValueError:
        return gradient  # does not fit: reported as a wrong shape


def _refuse_nan(out: np.ndarray, what: str, advice: str, places: bool = True) -> None:
    if out.dtype.kind == "f" and not np.isfinite(out).all():
        bad = np.argwhere(~np.isfinite(out))
        where = f", first at {bad[0].tolist()}" if places else ""
        raise ValueError(
            f"{what} has NaN or infinity in {len(bad)} of {out.size} elements{where}; {advice}"
        )


def _inner(f: Any) -> Any:
    while isinstance(f, functools.partial):
        f = f.func
    return inspect.unwrap(f)


def _name(f: Any) -> str:
    name = f.name if isinstance(f, Op) else getattr(_inner(f), "__name__", type(f).__name__)
    return "f" if name == "<lambda>" else str(name)


def _names(f: Any, count: int) -> list[str]:
    """The names of the first ``count`` parameters."""
    try:
        signature = f.signature if isinstance(f, Op) else inspect.signature(f)
    except (TypeError, ValueError):
        return [f"input {i}" for i in range(count)]
    names: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{k}]" for k in range(count - len(names))]
        else:
            names.append(parameter.name)
    return (names + [f"input {i}" for i in range(count)])[:count]


def _broadcasts(f: Any) -> bool:
    """Whether ``f`` is (an implementation of) a registered op whose inputs broadcast."""
    if isinstance(f, Op):
        return f.broadcasts
    inner: Callable[..., Any] = _inner(f)
    return any(
        op.broadcasts and any(inner is known.function for known in op.implementations.values())
        for op in all_ops().values()
    )
