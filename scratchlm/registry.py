"""Which implementation of an op runs.

An **op** is a function from arrays to ``(out, vjp)``; ``vjp`` maps the cotangent of ``out`` to the
cotangents of the inputs. The function under ``scratchlm.ops`` is the *reference* (its name here is
``"reference"``). A kernel is another implementation of the same op, and so is a student's own::

    with scratchlm.use(attention=my_attention):   # until the end of the block
        train(...)
    scratchlm.use(softmax="reference")            # for good

Without ``use``, the best implementation that can take the call runs: the highest priority whose
``supports(*arrays, **options)`` holds.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
OpFunction = Callable[..., tuple[Any, Callable[..., Any]]]

REFERENCE = "reference"


@dataclass(frozen=True)
class Implementation:
    """One way to compute an op: the function, when it may run, and why it can't."""

    name: str
    function: OpFunction
    priority: int = 0
    unavailable: Callable[[], str | None] = lambda: None  # None, or why not and how to mend it
    supports: Callable[..., bool] | None = None  # (*arrays, **options) -> can it take this call
    supported: OpFunction | None = None  # the function for such a call, which need not ask again


class Op:
    """A named op: its signature, its formula, and every implementation known."""

    def __init__(self, function: OpFunction, formula: str, broadcasts: bool) -> None:
        self.name = function.__name__
        self.formula = formula
        self.broadcasts = broadcasts  # inputs broadcast; the engine sums their gradients back
        self.signature = inspect.signature(function)
        self.reference = function
        self.implementations = {REFERENCE: Implementation(REFERENCE, function)}
        self.chosen: OpFunction | None = None  # set by use(); None picks the best that can
        self.run: OpFunction = function  # what a call runs: kept as one attribute, for speed
        self._ranked: list[Implementation] | None = None  # those that can run here, best first

    def input_name(self, index: int) -> str:
        """The name of positional input ``index`` (``xs[2]`` for a variadic op)."""
        for position, parameter in enumerate(self.signature.parameters.values()):
            if parameter.kind is parameter.VAR_POSITIONAL:
                return f"{parameter.name}[{index - position}]"
            if position == index:
                return parameter.name
        return f"input {index}"

    def add(self, implementation: Implementation) -> None:
        self.implementations[implementation.name] = implementation
        self._refresh()

    def choose(self, function: OpFunction | None) -> OpFunction | None:
        """Fix what runs (None: the best); returns the former choice, to give back later."""
        former, self.chosen = self.chosen, function
        self._refresh()
        return former

    def _refresh(self) -> None:
        self._ranked = None
        if self.chosen is not None:
            self.run = self.chosen
        elif len(self.implementations) == 1:
            self.run = self.reference
        else:
            self.run = self._run_best

    def _run_best(self, *arrays: Any, **options: Any) -> tuple[Any, Callable[..., Any]]:
        best = self.select(*arrays, **options)
        return (best.supported or best.function)(*arrays, **options)

    def select(self, *arrays: Any, **options: Any) -> Implementation:
        """The implementation of highest priority that can run here and supports this call."""
        if self._ranked is None:
            able = [i for i in self.implementations.values() if i.unavailable() is None]
            self._ranked = sorted(able, key=lambda i: -i.priority)
            if self.chosen is None and self._ranked[0].function is self.reference:
                self.run = self.reference  # no kernel can run here: no need to ask each time
        for candidate in self._ranked:
            if candidate.supports is None or candidate.supports(*arrays, **options):
                return candidate
        raise RuntimeError(f"{self.name}: no implementation supports this call")

    def resolve(self, choice: str | OpFunction | None) -> OpFunction | None:
        """The function that a choice given to :class:`use` stands for."""
        if choice is None:
            return None
        if callable(choice):
            return self._adapt(choice)
        known = self.implementations.get(choice)
        if known is None:
            raise ValueError(
                f"{self.name} has no implementation {choice!r}; it has: "
                f"{', '.join(self.implementations)}"
            )
        reason = known.unavailable()
        if reason is not None:
            raise RuntimeError(f"{self.name}: implementation {choice!r} cannot run here: {reason}")
        return known.function

    def _adapt(self, function: OpFunction) -> OpFunction:
        """Let a student's op leave out options, as long as they have their default value."""
        parameters = inspect.signature(function).parameters.values()
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return function
        accepted = {
            p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        }
        defaults = {
            p.name: p.default
            for p in self.signature.parameters.values()
            if p.kind is p.KEYWORD_ONLY and p.name not in accepted
        }
        if not defaults:
            return function

        @functools.wraps(function)
        def adapted(*arrays: Any, **options: Any) -> tuple[Any, Callable[..., Any]]:
            for name in defaults.keys() & options.keys():
                value = options.pop(name)
                if value is not defaults[name] and not (
                    isinstance(value, (bool, int, float, str)) and value == defaults[name]
                ):
                    raise TypeError(
                        f"{self.name} is called with {name}={value!r:.40}, but "
                        f"{function.__name__} takes no option {name!r}: add `{name}` to its "
                        f"keywords, as in {self.name}{self.signature}"
                    )
            return function(*arrays, **options)

        return adapted

    def explain_options(self, options: dict[str, Any]) -> None:
        """Raise a TypeError that names the unknown option and the one that was probably meant."""
        known = [p.name for p in self.signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
        for name in options:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = (
                    f"did you mean {close[0]!r}?"
                    if close
                    else f"it has {', '.join(known) or 'none'}"
                )
                raise TypeError(
                    f"{self.name} has no option {name!r}; {hint} ({self.name}{self.signature})"
                ) from None


_ops: dict[str, Op] = {}

# An optimizer's update is no op: it changes its arrays in place, and nothing is differentiated. A
# kernel for it is put here under the name of the function it stands in for, takes the same
# arguments, and returns whether it did the work.
fused_updates: dict[str, Callable[..., bool]] = {}


def op(formula: str, *, broadcasts: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register the decorated function as the reference implementation of the op of its name.

    ``formula`` is the one-line formula shown in graphs and tables. ``broadcasts=True`` says that
    the inputs broadcast against each other: the ``vjp`` then returns gradients of the *broadcast*
    shape, and the engine sums them back to each input's own.
    """

    def register(function: Callable[P, R]) -> Callable[P, R]:
        if function.__name__ in _ops:
            raise ValueError(f"op {function.__name__!r} is registered twice")
        _ops[function.__name__] = Op(function, formula, broadcasts)  # type: ignore[arg-type]
        return function

    return register


def implementation(
    name: str,
    *,
    of: str,
    priority: int,
    unavailable: Callable[[], str | None] = lambda: None,
    supports: Callable[..., bool] | None = None,
    supported: OpFunction | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register the decorated function as implementation ``name`` of op ``of`` (a kernel does)."""

    def register(function: Callable[P, R]) -> Callable[P, R]:
        made: OpFunction = function  # type: ignore[assignment]
        get_op(of).add(Implementation(name, made, priority, unavailable, supports, supported))
        return function

    return register


def get_op(name: str) -> Op:
    """The op called ``name``; a KeyError names the nearest one."""
    try:
        return _ops[name]
    except KeyError:
        close = difflib.get_close_matches(name, _ops, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise KeyError(f"there is no op {name!r}{hint}") from None


def all_ops() -> dict[str, Op]:
    """Every registered op by name."""
    return dict(_ops)


class use:
    """Choose the implementation of ops: ``use(attention=my_attention, softmax="reference")``.

    Takes effect at once, in every thread, and for good; used in a ``with`` statement, until the end
    of the block.
    A value is a function with the op's contract, the name of an implementation, or None for the
    default choice.

    Raises:
        KeyError: no op has that name (the nearest is named).
        ValueError: the op has no implementation of that name.
        RuntimeError: that implementation can't run here (the message says what to install).
    """

    def __init__(self, **choices: str | OpFunction | None) -> None:
        ops = [get_op(name) for name in choices]
        # resolve all before the first takes effect: the call succeeds as a whole or not at all
        functions = [op.resolve(choice) for op, choice in zip(ops, choices.values(), strict=True)]
        self._former = {op: op.choose(f) for op, f in zip(ops, functions, strict=True)}

    def __enter__(self) -> use:
        return self

    def __exit__(self, *_: object) -> None:
        for each, former in self._former.items():
            each.choose(former)
