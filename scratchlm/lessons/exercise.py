"""Exercises: what a student's function must do, and the mistakes that are known by name.

A function is *observed* on many inputs: what it returns, its gradients under random cotangents,
what it does to its inputs, which dtypes come out. What is seen of the student's function is
compared with what is seen of the reference. If they differ, it is compared with each mistake's, and
the mistake that behaves the same on every input tells what was probably done.
"""

from __future__ import annotations

import functools
import inspect
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..registry import all_ops
from .inputs import Case, brief, sample

if TYPE_CHECKING:
    from ..gradcheck import GradcheckReport

Observation = dict[str, Any]  # what was seen, in the order in which a student should mend it
RELATIVE = 1e-7  # float64 in and out: two orders above what rounding does to these small inputs
ABSOLUTE = 1e-9


@dataclass(frozen=True)
class Mistake:
    """A wrong version, known by name.

    ``message`` says what it is that the student probably did, ``hint`` what to try. They are shown
    when the student's function does just what ``function`` does, on every input.
    """

    name: str
    function: Any
    message: str
    hint: str


@dataclass(frozen=True)
class Fault:
    """What is wrong, in the order in which it is told."""

    what: str
    where: str
    looks_like: str  # the mistake's message, or the diagnosis, or empty
    hint: str
    mistake: str = ""  # its name
    case: int = 0  # the number of the input that shows it


@dataclass(frozen=True)
class Result:
    """What the check of one exercise found; without a fault it has passed."""

    name: str
    inputs: int  # how many it was run on
    fault: Fault | None = None
    todo: bool = False  # still the stub
    gradient: str = ""  # how near its gradients are to central differences, in words

    @property
    def passed(self) -> bool:
        return self.fault is None and not self.todo


@dataclass(frozen=True)
class Raised:
    """An exception that the observed function raised; two are equal if their kind is."""

    kind: str
    message: str = field(compare=False)
    line: str = field(compare=False, default="")
    todo: bool = field(compare=False, default=False)


class _Lazily(dict[int, Observation]):
    """What is seen in each case, looked at when it is asked for: most often the first one tells."""

    def __init__(self, exercise: Exercise, function: Any, cases: list[Case]) -> None:
        super().__init__()
        self._exercise, self._function, self._cases = exercise, function, cases

    def __missing__(self, number: int) -> Observation:
        seen = self._exercise.observe(self._function, self._cases[number], number)
        self[number] = seen
        return seen


@dataclass(frozen=True)
class Exercise:
    """A function that a student writes.

    Args:
        name: of the function (or class) in the student's file.
        reference: what it must do: the library's op, or any function or class.
        inputs: a Hypothesis strategy of :class:`Case`, or a list of them.
        mistakes: the known wrong versions; a lesson has six or more.
        hints: three, from a nudge to nearly the answer.
        contract: ``"op"``: returns ``(out, vjp)``. ``"function"``: its result is compared.
            ``"step"``: called as ``f(*state, gradients[i], t=i+1, **options)`` for each ``i``, on a
            case ``Case(*state, gradients, **options)``, returns the new state. Or a function
            ``observe(f, *arguments, **options) -> dict`` of one's own, which names what it saw.
        also: more cases that are always tried, such as extreme values.
        examples: how many cases are drawn from a strategy.
        float32: whether float32 inputs must give float32 results.
        elementwise: whether each number that comes out depends on the numbers in the same place
            alone; then the message shows those.
        rtol, atol: how near the reference counts as equal.
    """

    name: str
    reference: Any
    inputs: Any
    mistakes: Sequence[Mistake]
    hints: tuple[str, str, str]
    contract: str | Callable[..., Observation] = "op"
    also: Sequence[Case] = ()
    examples: int = 40
    float32: bool = True
    elementwise: bool = False
    rtol: float = RELATIVE
    atol: float = ABSOLUTE

    def mistake(self, name: str) -> Mistake:
        """The mistake of this name."""
        for each in self.mistakes:
            if each.name == name:
                return each
        raise KeyError(
            f"{self.name} has no mistake {name!r}; it has {[m.name for m in self.mistakes]}"
        )

    @property
    def argument_names(self) -> list[str]:
        """The positional parameters of the reference."""
        try:
            parameters = inspect.signature(self.reference).parameters.values()
        except (TypeError, ValueError):
            return []
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return [p.name for p in parameters if p.kind in kinds]

    @functools.cached_property
    def cases(self) -> list[Case]:
        """What every function is tried on: the same each time."""
        return [*self.also, *sample(self.inputs, self.examples)]

    # ------------------------------------------------------------ observing

    def observe(self, function: Any, case: Case, seed: int) -> Observation:
        """What ``function`` does with ``case``."""
        seen: Observation = {}
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an overflow shows in the values
                if callable(self.contract):
                    given = case.fresh()
                    seen.update(self.contract(function, *given.arguments, **given.options))
                else:
                    for label, value in _OBSERVERS[self.contract](self, function, case, seed):
                        seen[label] = value
        except (Exception, SystemExit) as error:
            seen["raised"] = _raised(error, function)
        return seen

    def _names(self, count: int) -> list[str]:
        names = self.argument_names
        return names[:count] + [f"input {i}" for i in range(len(names), count)]

    # ------------------------------------------------------------ judging

    @functools.cached_property
    def expected(self) -> list[tuple[Case, Observation]]:
        """Every case, with what the reference does."""
        pairs = [(c, self.observe(self.reference, c, i)) for i, c in enumerate(self.cases)]
        for _, seen in pairs:
            broken = seen.get("raised")
            if broken is not None and broken.kind == ContractError.__name__:
                raise ValueError(f"exercise {self.name}: its reference {broken.message}")
        return pairs

    def compare(
        self, function: Any, expected: list[tuple[Case, Observation]]
    ) -> Iterator[tuple[Observation, tuple[str, str] | None]]:
        """For one case after the other, what ``function`` does, and where that first differs."""
        for number, (case, right) in enumerate(expected):
            mine = self.observe(function, case, number)
            yield mine, self._difference(mine, right)

    def check(self, function: Any) -> Result:
        """Compare ``function`` with the reference, and tell what is wrong."""
        cases, right = [case for case, _ in self.expected], [seen for _, seen in self.expected]
        mine = []
        wrong: list[tuple[int, str, str]] = []  # input, label, how
        for number, (seen, found) in enumerate(self.compare(function, self.expected)):
            mine.append(seen)
            raised = seen.get("raised")
            if raised is not None and raised.todo:
                return Result(self.name, len(cases), todo=True)
            if found is not None:
                wrong.append((number, *found))
        if not wrong:
            return Result(self.name, len(cases), gradient=self._measure(function, cases))
        known = self._recognise(cases, right, mine, wrong[0][1])
        same = [each for each in wrong if each[1] == wrong[0][1]]
        shown = next((each for each in same if cases[each[0]].telling), wrong[0])
        number, label, how = shown
        if self.elementwise:
            how += self._inputs_there(cases[number], mine[number], right[number], label)
        fault = self._explain(function, cases[number], number, label, how, known)
        return Result(self.name, len(cases), fault=fault)

    def _recognise(
        self,
        cases: list[Case],
        right: list[Observation],
        mine: list[Observation],
        label: str,
    ) -> Mistake | None:
        """The mistake that behaves the same; else one that does in ``label``, the first fault seen.

        Who makes two mistakes is told the first, and the other once that one is mended.
        """
        partly = None
        for mistake in self.mistakes:
            theirs = _Lazily(self, mistake.function, cases)
            if all(self._difference(seen, theirs[i]) is None for i, seen in enumerate(mine)):
                return mistake
            if partly is None and label != "raised" and self._alike(label, mine, theirs, right):
                partly = mistake
        return partly

    def _alike(
        self, label: str, mine: list[Observation], theirs: _Lazily, right: list[Observation]
    ) -> bool:
        """Whether both show the same ``label`` in every case, and what comes before it is right."""
        for i, (seen, true) in enumerate(zip(mine, right, strict=True)):
            other = theirs[i]
            for name in true:
                if name == "raised" or name not in seen or name not in other:
                    return False
                expected = seen[name] if name == label else true[name]
                if difference(other[name], expected, self.rtol, self.atol) is not None:
                    return False
                if name == label:
                    break
        return True

    def _difference(self, mine: Observation, other: Observation) -> tuple[str, str] | None:
        """The first label at which they differ, and how."""
        raised = mine.get("raised")
        if raised != other.get("raised"):
            return "raised", _raised_difference(raised, other.get("raised"))
        for label, value in other.items():
            if label not in mine:
                return label, f"yours shows no {label}"
            how = difference(mine[label], value, self.rtol, self.atol)
            if how is not None:
                return label, how
        return None

    def _explain(
        self, function: Any, case: Case, number: int, label: str, how: str, known: Mistake | None
    ) -> Fault:
        names = self._names(len(case.arguments))
        call = f"{self.name}({case.describe(names)})"
        if label == "raised":
            what = (
                f"{self.name} stops with an error"
                if not how.startswith("no ")
                else (f"{self.name} accepts what it should refuse")
            )
        else:
            what = f"{self.name}: {label} is not right"
        where = f"{how}\nin the call {call}"
        if known is not None:
            return Fault(what, where, known.message, known.hint, known.name, number)
        looks_like, hint = self._diagnose(function, case, label, number)
        return Fault(what, where, looks_like, hint, case=number)

    def _inputs_there(self, case: Case, mine: Observation, right: Observation, label: str) -> str:
        """The inputs in the place of the wrong number that is shown, in words."""
        value, expected = np.asarray(mine.get(label)), np.asarray(right.get(label))
        shape = np.broadcast_shapes(*(np.shape(each) for each in case.arguments))
        compared = label == "out" or label.startswith("the gradient of")
        if not compared or value.shape != shape or expected.shape != shape:
            return ""
        place, _ = _worst(value, expected, self.rtol, self.atol)
        inputs = [
            f"{name} is {_number(np.broadcast_to(array, shape)[place])}"
            for name, array in zip(self._names(len(case.arguments)), case.arguments, strict=True)
        ]
        return f", where {' and '.join(inputs)}"

    def _broadcasts(self) -> bool:
        op = all_ops().get(getattr(self.reference, "__name__", ""))
        return op is not None and op.broadcasts

    def _gradcheck(self, function: Any, case: Case, seed: int) -> GradcheckReport:
        from ..gradcheck import gradcheck

        given = case.fresh()

        def call(*arrays: Any) -> Any:
            out, vjp = function(*arrays, **case.fresh().options)
            return out, lambda *cotangents: _trimmed(vjp(*cotangents), len(arrays))

        names = self._names(len(given.arguments))
        return gradcheck(
            call, *given.arguments, seed=seed, names=names, broadcasts=self._broadcasts()
        )

    def _measure(self, function: Any, cases: list[Case]) -> str:
        """A right op against central differences, on the first case that is not tiny."""
        if self.contract != "op":
            return ""
        drawn = cases[len(self.also) :] or cases
        number, case = next(((i, c) for i, c in enumerate(drawn) if c.size >= 6), (0, drawn[0]))
        report = self._gradcheck(function, case, number)
        if not report:  # beside a kink the difference quotient is no derivative
            return ""
        return f"gradients within {report.error:.0e} of central differences"

    def _diagnose(self, function: Any, case: Case, label: str, number: int) -> tuple[str, str]:
        """For a mistake that has no name here: what the gradient check makes of it."""
        if self.contract == "op" and label.startswith("the gradient"):
            try:
                report = self._gradcheck(function, case, number)
            except Exception:  # a diagnosis is a courtesy: the fault itself is already found
                report = None
            for each in report.inputs if report is not None else ():
                if each.diagnosis is not None:
                    return each.finding, each.diagnosis.advice
            return "", "the value is right, so the derivative went wrong: derive it again on paper"
        if label == "raised":
            return "", "read the last line of the error; print the shapes just before it"
        return "", "work the smallest input out by hand and print each step beside it"


# ---------------------------------------------------------------- the contracts


def _observe_op(
    exercise: Exercise, function: Any, case: Case, seed: int
) -> Iterator[tuple[str, Any]]:
    """An op: its value, its gradients under random cotangents, and its manners."""
    given = case.fresh()
    names = exercise._names(len(given.arguments))
    outs, vjp, single = _call_op(function, given)
    for index, out in enumerate(outs):
        yield "out" if single else f"out[{index}]", out

    rng = np.random.default_rng(seed)
    cotangents = [rng.standard_normal(np.shape(out)) for out in outs]
    saved = [dy.copy() for dy in cotangents]
    gradients = _call_vjp(vjp, cotangents, len(names))
    broadcasts = exercise._broadcasts()
    floating = [np.issubdtype(np.asarray(a).dtype, np.floating) for a in given.arguments]
    for name, array, gradient, counts in zip(
        names, given.arguments, gradients, floating, strict=True
    ):
        if counts and array is not None:
            yield f"the gradient of {name}", _summed(gradient, array) if broadcasts else gradient
    for name, array in zip(names, given.arguments, strict=True):
        if isinstance(array, np.ndarray):
            yield f"{name} after the call (it must not be changed)", array
            shares = any(
                isinstance(g, np.ndarray) and np.shares_memory(g, array) for g in gradients
            )
            yield (
                f"the memory of the gradients, beside {name}",
                f"{'shared' if shares else 'their own'}",
            )
    for dy in cotangents:
        yield "the cotangent after vjp (it must not be changed)", dy
    kept = [
        None if g is None else _summed(g, a) if broadcasts else np.array(g)
        for g, a in zip(gradients, given.arguments, strict=True)
    ]
    again = _call_vjp(vjp, saved, len(names))
    for name, first, second in zip(names, kept, again, strict=True):
        if first is not None:
            second = _summed(second, first) if broadcasts else second
            yield f"the gradient of {name}, vjp called a second time", second

    if exercise.float32:
        single_case = case.fresh(np.float32)
        outs, vjp, _ = _call_op(function, single_case)
        for out in outs:
            yield "the dtype of out for float32 inputs", str(np.asarray(out).dtype)
        grads = _call_vjp(vjp, [dy.astype(np.float32) for dy in saved], len(names))
        for name, gradient, counts in zip(names, grads, floating, strict=True):
            if counts and gradient is not None:
                yield (
                    f"the dtype of the gradient of {name} for float32 inputs",
                    str(np.asarray(gradient).dtype),
                )


def _call_op(function: Any, case: Case) -> tuple[list[Any], Any, bool]:
    result = function(*case.arguments, **case.options)
    if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
        raise ContractError(
            "must return two things, (out, vjp), and vjp must be a function; it returned "
            + (
                f"an array of shape {result.shape}"
                if isinstance(result, np.ndarray)
                else brief(result)
            )
        )
    out, vjp = result
    if out is None:
        raise ContractError("returned None for out; did a `return` go missing?")
    return (list(out), vjp, False) if isinstance(out, tuple) else ([out], vjp, True)


def _call_vjp(vjp: Any, cotangents: list[np.ndarray], inputs: int) -> list[Any]:
    gradients = _trimmed(vjp(*cotangents), inputs)
    if gradients is None and inputs == 1:
        raise ContractError("vjp returned None; did a `return` go missing?")
    if inputs == 1:
        gradients = (gradients,)
    if not isinstance(gradients, tuple) or len(gradients) != inputs:
        count = len(gradients) if isinstance(gradients, tuple) else 1
        raise ContractError(
            f"vjp must return one gradient for each of the {inputs} inputs, as a tuple (None for "
            f"one that has none); it returned {count}"
        )
    return list(gradients)


def _trimmed(gradients: Any, inputs: int) -> Any:
    """Gradients without the Nones of optional inputs that were left out."""
    if isinstance(gradients, tuple):
        while len(gradients) > inputs and gradients[-1] is None:
            gradients = gradients[:-1]
        if inputs == 1 and len(gradients) == 1:
            return gradients[0]
    return gradients


def _summed(gradient: Any, array: Any) -> Any:
    """The gradient of a broadcast input, summed back to its shape, as the engine does."""
    if gradient is None:
        return None
    gradient, shape = np.asarray(gradient), np.shape(array)
    if gradient.shape == shape or gradient.ndim < len(shape):
        return gradient
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    ones = tuple(i for i, n in enumerate(shape) if n == 1 and gradient.shape[i] != 1)
    return gradient.sum(axis=ones, keepdims=True) if ones else gradient


def _observe_function(
    exercise: Exercise, function: Any, case: Case, seed: int
) -> Iterator[tuple[str, Any]]:
    given = case.fresh()
    yield "the result", function(*given.arguments, **given.options)
    for name, array in zip(exercise._names(len(given.arguments)), given.arguments, strict=True):
        if isinstance(array, (np.ndarray, list, dict, set)):
            yield f"{name} after the call (it must not be changed)", array


def _observe_step(
    exercise: Exercise, function: Any, case: Case, seed: int
) -> Iterator[tuple[str, Any]]:
    *state, gradients = case.fresh().arguments
    names = exercise._names(len(state))
    for t, gradient in enumerate(gradients, start=1):
        given = gradient.copy()
        new = function(*state, given, t=t, **case.fresh().options)
        new = new if isinstance(new, tuple) else (new,)
        if len(new) != len(state):
            raise ContractError(
                f"must return the new {', '.join(names)}: {len(state)} values, not {len(new)}"
            )
        for name, value in zip(names, new, strict=True):
            yield f"{name} after step {t}", value
        for name, array in zip(names, state, strict=True):
            yield f"the input {name} after step {t} (it must not be changed)", array
        yield f"the gradient after step {t} (it must not be changed)", given
        state = list(new)


_OBSERVERS: dict[str, Callable[..., Iterator[tuple[str, Any]]]] = {
    "op": _observe_op,
    "function": _observe_function,
    "step": _observe_step,
}


class ContractError(TypeError):
    """What was returned has not the form that the contract asks for."""


def _raised(error: BaseException, function: Any) -> Raised:
    frames = traceback.extract_tb(error.__traceback__)
    try:
        own = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        own = None
    mine = [f for f in frames if f.filename == own]
    line = f"line {mine[-1].lineno}: {mine[-1].line}" if mine else ""
    todo = isinstance(error, NotImplementedError)
    return Raised(type(error).__name__, str(error), line, todo)


def _raised_difference(mine: Raised | None, right: Raised | None) -> str:
    if mine is None:
        assert right is not None
        return f"no error was raised; it should raise {right.kind}: {right.message}"
    text = f"{mine.kind}: {mine.message}"
    if mine.kind == ContractError.__name__:
        text = mine.message if mine.message.startswith("vjp") else f"it {mine.message}"
    return f"{mine.line}\n{text}" if mine.line else text


# ---------------------------------------------------------------- comparing


def difference(mine: Any, right: Any, rtol: float = RELATIVE, atol: float = ABSOLUTE) -> str | None:
    """None if both are equal, else where they differ first, with both values."""
    if isinstance(right, dict):
        if not isinstance(mine, dict):
            return f"yours is {brief(mine)}, it should be a dict"
        if mine.keys() != right.keys():
            keys, wanted = sorted(map(str, mine)), sorted(map(str, right))
            return f"yours has the keys {keys}, they should be {wanted}"
        return _first(((f"[{key!r}]", mine[key], right[key]) for key in right), rtol, atol)
    if isinstance(right, (list, tuple)) and not _numeric(right):
        if not isinstance(mine, (list, tuple)):
            return f"yours is {brief(mine)}, it should be a {type(right).__name__}"
        if len(mine) != len(right):
            return f"yours has {len(mine)} items, there should be {len(right)}"
        pairs = enumerate(zip(mine, right, strict=True))
        return _first(((f"[{i}]", m, r) for i, (m, r) in pairs), rtol, atol)
    if isinstance(right, (str, bytes, bool, type(None), set, frozenset)) or not _numeric(right):
        same = type(mine) is type(right) and bool(mine == right)
        return None if same else f"yours is {brief(mine)}, it should be {brief(right)}"
    return _array_difference(mine, np.asarray(right), rtol, atol)


def _first(pairs: Iterator[tuple[str, Any, Any]], rtol: float, atol: float) -> str | None:
    for label, mine, right in pairs:
        how = difference(mine, right, rtol, atol)
        if how is not None:
            return f"at {label}: {how}" if not how.startswith("at [") else f"at {label}{how[3:]}"
    return None


def _array_difference(mine: Any, right: np.ndarray, rtol: float, atol: float) -> str | None:
    if not _numeric(mine):
        wanted = brief(right) if right.ndim else _number(right[()])
        return f"yours is {brief(mine)}, it should be {wanted}"
    mine = np.asarray(mine)
    if mine.shape != right.shape:
        return f"yours has shape {mine.shape}, it should be {right.shape}"
    if mine.dtype.kind != right.dtype.kind and "b" in (mine.dtype.kind, right.dtype.kind):
        return f"yours has dtype {mine.dtype}, it should be {right.dtype}"
    if np.array_equal(mine, right, equal_nan=right.dtype.kind in "fc" and mine.dtype.kind in "fc"):
        return None
    index, wrong = _worst(mine, right, rtol, atol)
    if not wrong:
        return None
    place = f"at [{', '.join(map(str, index))}]: " if index else ""
    return f"{place}yours is {_number(mine[index])}, it should be {_number(right[index])}" + (
        f" ({wrong} of {right.size} differ)" if right.size > 1 else ""
    )


def _worst(
    mine: np.ndarray, right: np.ndarray, rtol: float, atol: float
) -> tuple[tuple[int, ...], int]:
    """Where two arrays of one shape differ most, and in how many places they do."""
    with np.errstate(all="ignore"):
        wrong = ~np.isclose(mine, right, rtol=rtol, atol=atol, equal_nan=True)
        distance = np.where(wrong, np.abs(np.subtract(mine, right, dtype=np.float64)), -1.0)
    bad = wrong & ~np.isfinite(distance)  # a NaN or inf says more than the largest distance
    flat = int(np.argmax(bad)) if bad.any() else int(np.argmax(distance))
    return tuple(int(i) for i in np.unravel_index(flat, right.shape)), int(wrong.sum())


def _number(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, (float, np.floating)) else str(value)


def _numeric(value: Any) -> bool:
    if isinstance(value, (int, float, complex, np.ndarray, np.generic)):
        return not isinstance(value, bool) and np.asarray(value).dtype.kind in "biufc"
    if isinstance(value, (list, tuple)) and value:
        return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    return False
