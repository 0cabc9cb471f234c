r"""Central differences: is a gradient right, and if not, what is wrong with it?

A ``vjp`` claims to turn the cotangent ``dy`` of the outputs into the cotangent ``Jᵀ dy`` of the
input. The Jacobian ``J`` can also be measured, a column for each input element, with no calculus:

    ``J[:, j] = (f(x + h eⱼ) - f(x - h eⱼ)) / 2h``

The error of that is about ``h² f'''/6`` (too long a step) plus ``u |f| / h`` (``u = 1.1e-16``: the
digits that cancel), least near ``h = u^(1/3) ≈ 6e-6``, where it is about 1e-10. In float32 the best
step leaves 1e-5 at the very best, and a slightly wrong gradient would pass: float64 only.

The cotangents are random. With ``dy = 1`` a softmax whose vjp returns zero would pass, since the
sum of a softmax never changes.

Here is the comparison; :mod:`.point` runs and measures the function, :mod:`.diagnosis` knows the
mistakes, :mod:`.report` says it in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..tensor import unbroadcast
from .diagnosis import RELATIONS, Case, Diagnosis, diagnose
from .point import MAX_COLUMNS, Measured, Point, flat
from .report import GradcheckReport, InputReport

__all__ = [
    "EPS", "RELATIONS", "Diagnosis", "GradcheckReport", "InputReport", "StepErrors",
    "assert_gradients", "error_by_step", "gradcheck",
]  # fmt: skip

EPS = 6e-6  # the cube root of float64's 1.1e-16, rounded up


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

    Right means ``|vjp - differences| <= atol + noise + rtol * max(|vjp|, |differences|)`` in every
    element, where ``noise`` is the rounding error of the differences themselves. An element that
    disagrees is measured again, with steps ten times longer and shorter, before it counts.

    Args:
        f: an op, ``(*arrays) -> (out, vjp)`` (bind its options with ``functools.partial`` or a
            lambda), or a function of tensors that returns a tensor or a tuple of them.
        inputs: float64 arrays, tensors and nested lists are checked; integers, booleans and None
            are passed on as they are.
        eps: the step, up to ``|x| = 6000``; from there on ``1e-9 |x|``, lest it be lost.
        rtol: tolerance relative to the element.
        atol: absolute tolerance.
        seed: of the random cotangents (and of the sample, where an input has over 1000 elements).
        names: of the inputs; without, those of ``f``'s parameters.
        wrt: the positions of the inputs to check, if not all.
        broadcasts: the vjp may return gradients of the broadcast shape, to be summed as the engine
            does. None looks ``f`` up among the registered ops.

    Returns:
        A report, true when all is right. A wrong gradient never raises.

    Raises:
        TypeError: inputs that are not float64, or ``f`` is neither op nor function of tensors.
        RuntimeError: ``f`` changes its input, or gives another result when called again.
        ValueError: NaN or infinity in ``f``'s output; a vjp with a wrong number of gradients.
    """
    point = Point(f, inputs, names, wrt, broadcasts)
    rng = _generator(seed)
    cotangents = [point.random_cotangent(rng) for _ in range(2)]  # the second confirms a diagnosis
    gradients, fault = point.vjp(cotangents)
    check = _Check(point, [flat(dy) for dy in cotangents], eps, rtol, atol)
    check.measured = {i: point.jacobian(i, eps, rng) for i in point.wrt}
    entries = [check.input(i, [g[i] for g in gradients]) for i in point.wrt]
    if fault is not None:
        for entry in entries:
            if entry.ok:
                entry.ok, entry.problem, entry.diagnosis = False, "the vjp has a side effect", fault
    return GradcheckReport(point.name, entries, rtol, atol, eps, seed)


def assert_gradients(f: Any, *inputs: Any, **options: Any) -> None:
    """For pytest: :func:`gradcheck`, with an AssertionError that carries the report if it fails."""
    __tracebackhide__ = True
    report = gradcheck(f, *inputs, **options)
    if not report:
        raise AssertionError(str(report))


class StepErrors(NamedTuple):
    """The V-shaped curve: the error of the differences at each step.

    ``steps`` is ``(n,)``; ``errors`` too, or ``(methods, n)`` where several methods were asked for.
    """

    steps: np.ndarray
    errors: np.ndarray


def error_by_step(
    f: Any,
    *inputs: Any,
    steps: Sequence[float] | np.ndarray | None = None,
    method: str | Sequence[str] = "central",
    seed: int = 0,
    wrt: Sequence[int] | None = None,
) -> StepErrors:
    """How far the differences are from the vjp at each step ``h`` (not scaled by ``|x|``).

    Too long a step cuts off the Taylor series: the error falls as h², or as h with
    ``method="forward"``. Too short a one cancels digits: it grows as 1/h. The error is the largest
    difference over the largest gradient element. ``method=("central", "forward")`` gives a row of
    errors for each, and costs as much as one: both are made of the same outputs.

    Raises:
        ValueError: an unknown method, or a gradient of the wrong shape.
    """
    methods = [method] if isinstance(method, str) else list(method)
    for each in methods:
        if each not in ("central", "forward"):
            raise ValueError(f"error_by_step: method {each!r}; it is 'central' or 'forward'")
    lengths = np.logspace(-1, -12, 34) if steps is None else np.asarray(steps, dtype=np.float64)
    point = Point(f, inputs, None, wrt, None)
    dy = point.random_cotangent(_generator(seed))
    gradients = point.vjp([dy])[0][0]
    errors = np.zeros((len(methods), len(lengths)))
    for i in point.wrt:
        guess = gradients[i]
        if guess is not None and point.broadcasts:
            guess = _unbroadcast(guess, point.hosts[i].shape)
        if guess is None or guess.shape != point.hosts[i].shape:
            shape = None if guess is None else guess.shape
            raise ValueError(
                f"error_by_step({point.name}): the gradient of {point.names[i]!r} has shape "
                f"{shape}, the input {point.hosts[i].shape}; mend that first, gradcheck says how"
            )
        scale = float(np.max(np.abs(guess), initial=0.0)) or 1.0
        for k, h in enumerate(lengths):
            for j, expected in enumerate(guess.ravel()[:MAX_COLUMNS]):
                left, right = point.slopes(i, j, float(h))
                for m, each in enumerate(methods):
                    slope = right if each == "forward" else (left + right) / 2
                    error = abs(float(slope @ flat(dy)) - expected) / scale
                    errors[m, k] = max(errors[m, k], error)
    return StepErrors(lengths, errors[0] if isinstance(method, str) else errors)


def _generator(seed: int) -> np.random.Generator:
    """Not ``default_rng(seed)``: the inputs may come from that, and ``dy == x`` would hide much."""
    return np.random.default_rng((seed, 0x64795F))


class _Check:
    """The comparison of one function's gradients, input by input."""

    def __init__(
        self, point: Point, cotangents: list[np.ndarray], eps: float, rtol: float, atol: float
    ) -> None:
        self.point, self.cotangents = point, cotangents
        self.eps, self.rtol, self.atol = eps, rtol, atol
        self.measured: dict[int, Measured] = {}

    def input(self, i: int, gradients: list[np.ndarray | None]) -> InputReport:
        """Input ``i``: what the vjp returned for each cotangent, beside ``Jᵀ dy``."""
        x, name = self.point.hosts[i], self.point.names[i]
        jacobian, columns = self.measured[i]
        dy = self.cotangents[0]
        truth = dy @ jacobian
        # The outputs carry rounding errors of about u each; divided by the step, so do differences.
        step = np.array([self.point.step(i, int(j), self.eps) for j in columns])
        floor = self.atol + 4 * 1.1e-16 * (np.abs(dy) @ np.abs(flat(self.point.outs))) / step
        entry = InputReport(name, x.shape, checked=len(columns), jacobian=jacobian)
        entry.power = float(np.max(np.abs(truth) / floor, initial=0.0))

        trouble = _unusable(gradients, x, name, entry.power)
        guesses = [g for g in gradients if g is not None]
        if trouble is not None:
            entry.fail(len(columns), float("inf"), trouble.text)
            entry.diagnosis = trouble
            return entry
        if not guesses:
            return entry  # None, for a gradient that is zero
        if self.point.broadcasts:
            guesses = [_unbroadcast(g, x.shape) for g in guesses]
        if guesses[0].shape != x.shape:
            what = f"the gradient has shape {guesses[0].shape}, the input {x.shape}"
            entry.fail(len(columns), float("inf"), what)
            entry.diagnosis = self._diagnose(i, guesses, only_kinks=False) or Diagnosis(
                "wrong shape", what, "a gradient has the shape of its input"
            )
            return entry

        guess = guesses[0].ravel()[columns]

        def error(a: np.ndarray, b: np.ndarray, k: Any = ...) -> Any:
            largest = np.maximum(np.abs(a), np.abs(b))
            return np.abs(a - b) / np.maximum(largest, floor[k] / self.rtol)

        def agrees(k: int, column: np.ndarray) -> bool:
            return bool(error(guess[k], dy @ column, k) <= self.rtol)

        self._measure_again(i, np.flatnonzero(error(guess, truth) > self.rtol), agrees)
        truth = dy @ jacobian
        errors = error(guess, truth)
        if len(errors):
            worst = int(np.argmax(errors))
            entry.error = float(errors[worst])
            entry.index = tuple(int(k) for k in np.unravel_index(columns[worst], x.shape))
            entry.vjp, entry.differences = float(guess[worst]), float(truth[worst])
        wrong = np.flatnonzero(errors > self.rtol)
        if len(wrong):
            entry.fail(len(wrong), entry.error)
            kinks = all(self.point.is_kink(i, int(columns[k]), self.eps) for k in wrong)
            entry.diagnosis = self._diagnose(i, guesses, only_kinks=kinks)
        return entry

    def _measure_again(
        self, i: int, wrong: np.ndarray, agrees: Callable[[int, np.ndarray], bool]
    ) -> None:
        """Measure elements that disagree with other steps: perhaps the step was bad, not the vjp.

        Eight in a row that still disagree are enough to believe the rest.
        """
        jacobian, columns = self.measured[i]
        stubborn = 0
        for k in wrong:
            stubborn += 1
            for scale in (10.0, 0.1):
                try:
                    column = self.point.column(i, int(columns[k]), self.eps * scale)
                except ValueError:
                    continue  # the longer step leaves the domain
                if agrees(k, column):
                    jacobian[:, k] = column
                    stubborn = 0
                    break
            if stubborn == 8:
                return

    def _diagnose(self, i: int, guesses: list[np.ndarray], only_kinks: bool) -> Diagnosis | None:
        point, (jacobian, columns) = self.point, self.measured[i]
        x = point.hosts[i]
        whole = len(columns) == x.size
        if not whole and guesses[0].shape == x.shape:
            guesses = [g.ravel()[columns] for g in guesses]
        truths = [dy @ jacobian for dy in self.cotangents]
        others = {
            point.names[k]: [(dy @ other).reshape(point.hosts[k].shape) for dy in self.cotangents]
            for k, (other, _) in self.measured.items()
            if k != i and other.shape[1] == point.hosts[k].size
        }
        case = Case(
            name=point.names[i],
            x=x,
            outs=point.outs,
            cotangents=self.cotangents,
            jacobian=jacobian,
            truths=[t.reshape(x.shape) for t in truths] if whole else truths,
            guesses=guesses,
            whole=whole,
            only_kinks=only_kinks,
            others=others,
            sizes=point.sizes(),
        )
        return diagnose(case)


def _unusable(
    gradients: list[np.ndarray | None], x: np.ndarray, name: str, power: float
) -> Diagnosis | None:
    """Why there are no numbers to compare; None if there are."""
    for g in gradients:
        if g is None:
            if power > 1:
                return Diagnosis(
                    "none returned",
                    f"no gradient (None), though the output depends on {name}",
                    "return a gradient for each floating input that the output depends on",
                )
        elif g.dtype != x.dtype:
            return Diagnosis(
                "dtype",
                f"the gradient is {g.dtype}, the input {x.dtype}",
                "a gradient has its input's dtype: no casts and no constants of another dtype",
            )
        elif not np.isfinite(g).all():
            bad = np.argwhere(~np.isfinite(g))
            return Diagnosis(
                "NaN",
                f"NaN or infinity in {len(bad)} of {g.size} elements, first at {bad[0].tolist()}",
                "look for a division by 0, the logarithm of 0, or inf - inf in the vjp",
            )
    return None


def _unbroadcast(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return unbroadcast(gradient, shape)
    except ValueError:
        return gradient  # does not fit: reported as a wrong shape
