"""Which known mistake a wrong gradient looks like.

Backward passes go wrong in few ways, and each leaves a trace: a factor, a transpose, a lost sum. The
central differences give the whole Jacobian ``J`` (a row for each element of the outputs, a column for
each element of the input), so the trace can be looked for: the right gradient is ``Jᵀ dy``, the sum
over the outputs of what each passes back, and a wrong one is often that sum with a part left out.

:data:`RELATIONS` lists the mistakes, from the specific to the general; the first that fits, for two
independent random cotangents, is the diagnosis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Array = np.ndarray
CLOSE = 1e-5  # of the largest element: far above the error of the differences (about 1e-9)


class Diagnosis(NamedTuple):
    """A known mistake: its name, what it looks like here, and what to try."""

    name: str
    text: str
    advice: str


@dataclass
class Case:
    """All that is known about the wrong gradient of one input.

    ``truths[t]`` and ``guesses[t]`` are the right gradient and the vjp's, for random cotangent ``t``
    (``cotangents[t]``, the outputs' laid end to end, as are the rows of ``jacobian``). Where the
    input is too large for every element, both are flat and hold the sampled ones (``whole`` is False).
    """

    name: str
    x: Array
    outs: list[Array]
    cotangents: list[Array]
    jacobian: Array
    truths: list[Array]
    guesses: list[Array]
    whole: bool
    only_kinks: bool  # wrong nowhere but where the one-sided differences disagree
    others: dict[str, tuple[list[Array], tuple[int, ...]]]  # right gradients of the other inputs
    sizes: list[tuple[str, int]]  # lengths that a factor may be, in words

    def fits(self, right: Callable[[int], Array | None]) -> bool:
        """Whether the vjp gave ``right(t)`` for each cotangent ``t``."""
        for t, guess in enumerate(self.guesses):
            value = right(t)
            if value is None or not close(guess, value):
                return False
        return True

    def through(self, rows: Array, t: int) -> Array:
        """The part of the gradient that comes through the outputs in ``rows`` (flat numbers)."""
        part = self.cotangents[t][rows] @ self.jacobian[rows]
        return part.reshape(self.truths[t].shape)

    @property
    def contributions(self) -> Array:
        """``J != 0``: which output element (row) hears from which input element (column)."""
        size = np.abs(self.jacobian)
        return size > 1e-7 * size.max(initial=0.0)

    @property
    def elementwise(self) -> bool:
        """Each output element depends on the input element at its own place only."""
        own = self.outs[0].shape == self.x.shape and len(self.outs) == 1 and self.whole
        return own and not (self.contributions & ~np.eye(self.x.size, dtype=bool)).any()

    @property
    def rows_last(self) -> Iterator[int]:
        """The axes along which a row has enough elements to recognise a pattern, last first."""
        return (axis for axis in reversed(range(self.x.ndim)) if self.x.shape[axis] >= 3)


def close(guess: Array, right: Array) -> bool:
    """Equal up to the error of the differences; False where there is nothing to compare."""
    if guess.shape != right.shape or not right.size:
        return False
    scale = float(np.max(np.abs(right)))
    return scale > 1e-10 and bool(np.max(np.abs(guess - right)) <= CLOSE * scale)


def diagnose(case: Case) -> Diagnosis | None:
    """The first relation that fits; None when no known mistake does."""
    same_shape = case.guesses[0].shape == case.truths[0].shape
    for relation in RELATIONS:
        if (same_shape or relation.any_shape) and (case.whole or not relation.whole):
            text = relation.test(case)
            if text is not None:
                return Diagnosis(relation.name, text, relation.advice)
    return None


# -- the relations: each returns what it sees, in words, or None -----------------------------------


def _kink(case: Case) -> str | None:
    if not case.only_kinks:
        return None
    return (
        "wrong only near a kink or jump of the function, where the slopes from the left and from "
        "the right differ: there is no single derivative there"
    )


def _zero(case: Case) -> str | None:
    if any(guess.any() for guess in case.guesses):
        return None
    return "the vjp returns zero everywhere, the gradient is not zero"


def _sign(case: Case) -> str | None:
    return "minus the gradient" if case.fits(lambda t: -case.truths[t]) else None


def _ratio(case: Case) -> float | None:
    """c, if the vjp gave c times the gradient, for both cotangents."""
    truth, guess = case.truths[0], case.guesses[0]
    square = float(np.sum(truth * truth))
    if square == 0:
        return None
    c = float(np.sum(truth * guess)) / square
    return c if case.fits(lambda t: c * case.truths[t]) else None


def _factor(case: Case) -> str | None:
    c = _ratio(case)
    if c is None:
        return None
    names = [
        words for words, value in _constants(case) if math.isclose(abs(c), value, rel_tol=CLOSE)
    ]
    if case.truths[0].size == 1 and not names:
        return None  # one number is always some multiple of another
    minus = "-" if c < 0 else ""
    if names:
        return f"{minus}{' or '.join(dict.fromkeys(names))} times the gradient"
    return f"{c:.6g} times the gradient, in every element"


def _constants(case: Case) -> Iterator[tuple[str, float]]:
    yield "2", 2.0
    yield "1/2", 0.5
    for words, n in case.sizes:
        if n < 2:
            continue
        yield f"N = {n} ({words})", n
        yield f"1/N = 1/{n} ({words})", 1 / n
        yield f"sqrt(d) = sqrt({n}) ({words})", math.sqrt(n)
        yield f"1/sqrt(d) = 1/sqrt({n}) ({words})", 1 / math.sqrt(n)
        yield f"N/(N-1) = {n}/{n - 1} ({words})", n / (n - 1)
        yield f"(N-1)/N = {n - 1}/{n} ({words})", (n - 1) / n


def _swapped(case: Case) -> str | None:
    for other, (truths, shape) in case.others.items():
        if case.fits(lambda t, truths=truths, shape=shape: truths[t].reshape(shape)):  # type: ignore[misc]
            return f"what is returned for {case.name} is the gradient of {other}"
    return None


def _transposed(case: Case) -> str | None:
    shape = case.truths[0].shape
    for axes in itertools.permutations(range(len(shape))) if len(shape) <= 4 else ():
        if axes != tuple(range(len(shape))) and case.fits(
            lambda t, a=axes: case.truths[t].transpose(a)
        ):  # type: ignore[misc]
            return f"the gradient with its axes in the order {axes}"
    if case.jacobian.shape[0] == case.jacobian.shape[1] and case.fits(
        lambda t: (case.jacobian @ case.cotangents[t]).reshape(shape)
    ):
        return "J dy, where the gradient is Jᵀ dy: a factor of it is not transposed"
    return None


def _reshaped(case: Case) -> str | None:
    shape, given = case.truths[0].shape, case.guesses[0].shape
    if math.prod(given) != math.prod(shape):
        return None
    for axes in itertools.permutations(range(len(shape))) if len(shape) <= 4 else ():
        if case.fits(lambda t, a=axes: case.truths[t].transpose(a).reshape(given)):  # type: ignore[misc]
            return f"the right numbers in the wrong places: shape {given} for {shape}, axes {axes}"
    return None


def _missing_sum(case: Case) -> str | None:
    """The input was broadcast: wrong shape, or one slice where the sum of all is due."""
    given, shape = case.guesses[0].shape, case.x.shape
    if given != shape:
        axes = broadcast_axes(shape, given)
        if not axes:
            return None
        summed = [g.sum(axis=axes).reshape(shape) for g in case.guesses]
        if all(close(s, truth) for s, truth in zip(summed, case.truths, strict=True)):
            return f"the shape is {given}: not yet summed over {_axes(axes)}, along which {case.name} is reused"
        return None
    out = case.outs[0].shape
    axes = broadcast_axes(shape, out) if len(case.outs) == 1 else ()
    if not axes:
        return None
    own = np.broadcast_to(np.arange(case.x.size).reshape(shape), out).ravel()
    if (case.contributions & (own[:, None] != np.arange(case.x.size))).any():
        return None
    part = _slice(case, axes)
    return f"one slice only ({part}) where the sum over {_axes(axes)} is due" if part else None


def _duplicates(case: Case) -> str | None:
    """Outputs that are copies (or multiples) of single input elements, some copied more than once."""
    heard = case.contributions
    if heard.sum(axis=1).max(initial=0) > 1:
        return None
    columns = np.arange(heard.shape[1])
    for words, rows in (
        ("last", len(heard) - 1 - heard[::-1].argmax(axis=0)),
        ("first", heard.argmax(axis=0)),
    ):

        def kept(t: int, rows: Array = rows) -> Array:
            one = case.jacobian[rows, columns] * case.cotangents[t][rows] * heard.any(axis=0)
            return one.reshape(case.truths[t].shape)

        if case.fits(kept):
            return f"an element that is used several times receives the {words} contribution, not the sum"
    return None


def _overwritten(case: Case) -> str | None:
    part = _slice(case, None)
    return f"the contribution of {part} only; the others are lost" if part else None


def _slice(case: Case, axes: Sequence[int] | None) -> str | None:
    """The slice of the outputs whose contribution alone the vjp returned, in words."""
    start = 0
    for number, out in enumerate(case.outs):
        places = start + np.arange(out.size).reshape(out.shape)
        start += out.size
        if len(case.outs) > 1 and case.fits(lambda t, p=places: case.through(p.ravel(), t)):  # type: ignore[misc]
            return f"output {number}"
        for axis in range(out.ndim) if axes is None else axes:
            n = out.shape[axis]
            for k in dict.fromkeys([n - 1, 0, *range(n)]) if n > 1 else ():
                rows = np.take(places, k, axis=axis).ravel()
                if case.fits(lambda t, r=rows: case.through(r, t)):  # type: ignore[misc]
                    which = {0: "the first", n - 1: "the last"}.get(k, f"number {k}")
                    return f"{which} of {n} slices along axis {axis} of the output"
    return None


def _diagonal(case: Case) -> str | None:
    if case.jacobian.shape[0] != case.jacobian.shape[1] or case.elementwise:
        return None
    diagonal = np.diag(case.jacobian)
    if case.fits(lambda t: (diagonal * case.cotangents[t]).reshape(case.x.shape)):
        return "only the diagonal of the Jacobian: dyᵢ times ∂yᵢ/∂xᵢ, nothing from ∂yⱼ/∂xᵢ"
    return None


def _cotangent(case: Case) -> str | None:
    def with_dy(change: Callable[[Array], Array]) -> Callable[[int], Array]:
        return lambda t: (change(case.cotangents[t]) @ case.jacobian).reshape(case.truths[t].shape)

    if case.fits(with_dy(np.ones_like)):
        return "the gradient for dy = 1: the vjp does not use dy"
    if case.fits(with_dy(np.square)):
        return "the gradient with dy squared: dy is multiplied in twice"
    return None


def _passed(case: Case) -> str | None:
    """Elementwise: the local derivative forgotten, or multiplied by something else."""
    if not case.elementwise:
        return None
    if case.fits(lambda t: case.cotangents[t].reshape(case.x.shape)):
        return "dy itself: the derivative of the function is not multiplied in"
    return None


def _row_offset(case: Case) -> str | None:
    x, y = case.x, case.outs[0]
    same = y.shape == x.shape
    for axis in case.rows_last:
        centred = x - x.mean(axis=axis, keepdims=True)
        ones = np.ones_like(x)
        patterns: list[tuple[str, list[Array]]] = [
            ("the mean (the same amount along each row)", [ones])
        ]
        if same:
            patterns.append(("the normaliser (in each row a multiple of the output)", [y]))
        patterns += [
            ("the norm (in each row a multiple of the input)", [x]),
            ("the variance (in each row a multiple of x - mean)", [centred]),
        ]
        if same and y.max() < 50:
            patterns.append(("the normaliser (in each row a multiple of exp(y))", [np.exp(y)]))
        if x.shape[axis] >= 4:
            patterns.append(
                ("the mean and the variance (c₁ + c₂ x along each row)", [ones, centred])
            )
        for words, basis in patterns:
            gaps = [g - truth for g, truth in zip(case.guesses, case.truths, strict=True)]
            if all(_in_span(gap, basis, axis) for gap in gaps):
                return f"along axis {axis}, the path through {words} is missing"
    return None


def _in_span(gap: Array, basis: list[Array], axis: int) -> bool:
    """Whether each row of ``gap`` is a combination of the rows of ``basis`` (Gram-Schmidt)."""
    rest, taken = gap, []
    for vector in basis:
        for other in taken:
            vector = vector - other * np.sum(vector * other, axis=axis, keepdims=True)
        length = np.sqrt(np.sum(vector * vector, axis=axis, keepdims=True))
        vector = vector / np.where(length == 0, 1.0, length)
        taken.append(vector)
        rest = rest - vector * np.sum(rest * vector, axis=axis, keepdims=True)
    return bool(np.max(np.abs(rest)) <= CLOSE * np.max(np.abs(gap)))


def _row_factor(case: Case) -> str | None:
    for axis in case.rows_last:
        square = np.sum(case.truths[0] ** 2, axis=axis, keepdims=True)
        if case.truths[0].size == case.x.shape[axis] or not square.all():
            continue
        c = np.sum(case.truths[0] * case.guesses[0], axis=axis, keepdims=True) / square
        if case.fits(lambda t, c=c: c * case.truths[t]):  # type: ignore[misc]
            return (
                f"along axis {axis} each row is a multiple of the gradient, another one in each row"
            )
    return None


def broadcast_axes(shape: tuple[int, ...], wide: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of ``wide`` along which an array of ``shape`` is repeated; () if it does not fit."""
    extra = len(wide) - len(shape)
    if extra < 0 or any(
        have not in (1, want) for have, want in zip(shape, wide[extra:], strict=True)
    ):
        return ()
    padded = (1,) * extra + shape
    leading = range(extra)
    return tuple(i for i in range(len(wide)) if i in leading or padded[i] != wide[i])


def _axes(axes: Sequence[int]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"


class Relation(NamedTuple):
    """A row of the table: the mistake's name, how to see it, what to try, and when it can be seen."""

    name: str
    test: Callable[[Case], str | None]
    advice: str
    any_shape: bool = False  # can be seen in a gradient of the wrong shape
    whole: bool = False  # needs every element, not a sample


RELATIONS = (
    Relation("kink", _kink, "check at other inputs, away from the kink"),
    Relation("zero", _zero, "does the vjp fill the array that it returns? is a path cut off?"),
    Relation("sign flipped", _sign, "look for a - that should be +, or operands the wrong way round"),
    Relation("constant factor", _factor, "look for the factor in the forward formula: a mean's 1/N, "
             "a square's 2, a scale's 1/sqrt(d) belong in the gradient once"),
    Relation("inputs swapped", _swapped, "return the gradients in the order of the inputs", True, True),
    Relation("transposed", _transposed, "for y = a @ b: da = dy @ bᵀ and db = aᵀ @ dy", True, True),
    Relation("missing sum", _missing_sum, "each reuse passes something back: sum over the axes along "
             "which the input was broadcast, e.g. dy.sum(axis=0) for a bias", True, True),
    Relation("reshaped", _reshaped, "reshape keeps the order of the elements, a transpose changes it; "
             "give the gradient the shape of its input", True, True),
    Relation("duplicates lost", _duplicates, "dw[ids] += dy keeps one of equal ids; add them all: "
             "np.add.at(dw, ids, dy)"),
    Relation("overwritten", _overwritten, "use += where several contributions meet, not ="),
    Relation("diagonal only", _diagonal, "yᵢ depends on every xⱼ of its row: sum dyⱼ ∂yⱼ/∂xᵢ over j, "
             "for softmax dx = y * (dy - sum(dy * y))", whole=True),
    Relation("cotangent misused", _cotangent, "multiply by dy, exactly once"),
    Relation("derivative missing", _passed, "chain rule: dx = dy * f'(x)", whole=True),
    Relation("path missing", _row_offset, "the input acts on the output directly, and also through what "
             "is computed from its whole row: add the gradient of each path", whole=True),
    Relation("row factor", _row_factor, "look for a number computed for each row (a norm, a standard "
             "deviation, a sum) that is missing or used twice", whole=True),
)  # fmt: skip
