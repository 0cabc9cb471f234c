"""Which known mistake a wrong gradient looks like.

Backward passes go wrong in few ways, and each leaves a trace: a factor, a transpose, a lost sum.
The central differences give the whole Jacobian ``J``, with a row for each output element and a
column for each input element, so the trace can be looked for. The right gradient, ``Jᵀ dy``,
is a sum over the outputs of what each passes back; a wrong one is often that sum with a part left
out.

:data:`RELATIONS` is the list of the mistakes, from the specific to the general. The first that
fits, for two independent random cotangents, is the diagnosis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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

    For random cotangent ``t``, ``truths[t]`` is the right gradient and ``guesses[t]`` the vjp's.
    ``cotangents[t]`` holds those of all outputs laid end to end, as are the rows of ``jacobian``.
    Of a large input only a sample of elements is known: then ``whole`` is False, and all are flat.
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
    others: dict[str, list[Array]]  # right gradients of the other inputs
    sizes: list[tuple[str, int]]  # lengths that a factor may be, in words

    def fits(self, rights: Iterable[Array]) -> bool:
        """Whether ``rights`` is what the vjp gave, for each cotangent."""
        return all(close(guess, r) for guess, r in zip(self.guesses, rights, strict=True))

    def pulled(self, cotangents: Iterable[Array]) -> list[Array]:
        """``Jᵀ dy`` for other cotangents than those that were sent, in the input's shape."""
        return [(dy @ self.jacobian).reshape(self.truths[0].shape) for dy in cotangents]

    def through(self, rows: Array) -> list[Array]:
        """The part of each gradient that comes through the outputs in ``rows`` (flat numbers)."""
        kept = np.zeros(len(self.jacobian))
        kept[rows.ravel()] = 1.0
        return self.pulled(kept * dy for dy in self.cotangents)

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
    def row_axes(self) -> list[int]:
        """The axes along which rows are long enough to show a pattern, the last first."""
        return [axis for axis in reversed(range(self.x.ndim)) if self.x.shape[axis] >= 3]

    @property
    def reorderings(self) -> list[tuple[int, ...]]:
        """Every other order of the axes."""
        axes = range(self.truths[0].ndim)
        return list(itertools.permutations(axes))[1:] if len(axes) <= 5 else []


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
    return "minus the gradient" if case.fits(-truth for truth in case.truths) else None


def _factor(case: Case) -> str | None:
    truth, guess = case.truths[0], case.guesses[0]
    square = float(np.sum(truth * truth))
    c = float(np.sum(truth * guess)) / square if square else 0.0
    if not case.fits(c * truth for truth in case.truths):
        return None
    names: dict[str, str] = {}  # the constant -> whose length it is, the first that has it
    for constant, value, words in _constants(case):
        if math.isclose(abs(c), value, rel_tol=CLOSE):
            names.setdefault(constant, words)
    if truth.size == 1 and not names:
        return None  # one number is always some multiple of another
    plain = next((n for n in ("2", "1/2") if n in names), f"{abs(c):.6g}")
    known = ", or ".join(f"{n} ({words})" for n, words in names.items() if words)
    return f"{'-' if c < 0 else ''}{plain} times the gradient" + (
        f"; perhaps {known}" if known else ""
    )


def _constants(case: Case) -> Iterator[tuple[str, float, str]]:
    yield "2", 2.0, ""
    yield "1/2", 0.5, ""
    for words, n in case.sizes:
        if n < 2:
            continue
        yield f"N = {n}", n, words
        yield f"1/N = 1/{n}", 1 / n, words
        yield f"sqrt(d) = sqrt({n})", math.sqrt(n), words
        yield f"1/sqrt(d) = 1/sqrt({n})", 1 / math.sqrt(n), words
        yield f"N/(N-1) = {n}/{n - 1}", n / (n - 1), words
        yield f"(N-1)/N = {n - 1}/{n}", (n - 1) / n, words


def _swapped(case: Case) -> str | None:
    for other, truths in case.others.items():
        if case.fits(truths):
            return f"what is returned for {case.name} is the gradient of {other}"
    return None


def _transposed(case: Case) -> str | None:
    for axes in case.reorderings:
        if case.fits(truth.transpose(axes) for truth in case.truths):
            return f"the gradient with its axes in the order {axes}"
    rows, columns = case.jacobian.shape
    if rows == columns and case.fits(
        (case.jacobian @ dy).reshape(case.x.shape) for dy in case.cotangents
    ):
        return "J dy, where the gradient is Jᵀ dy: a factor of it is not transposed"
    return None


def _reshaped(case: Case) -> str | None:
    given = case.guesses[0].shape
    if math.prod(given) != case.x.size:
        return None
    if given != case.x.shape and case.fits(truth.reshape(given) for truth in case.truths):
        return f"the right numbers in shape {given}, where the input has {case.x.shape}"
    for axes in case.reorderings:
        if case.fits(truth.transpose(axes).reshape(given) for truth in case.truths):
            return f"the right numbers in the wrong places: as if the axes were {axes}"
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
            return f"shape {given} is not yet summed over {_axes(axes)}, along which it is reused"
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
    """Each output is a multiple of one input element, and some elements are used several times."""
    heard = case.contributions
    if heard.sum(axis=1).max(initial=0) > 1:
        return None
    columns = np.arange(heard.shape[1])
    for words, rows in (
        ("last", len(heard) - 1 - heard[::-1].argmax(axis=0)),
        ("first", heard.argmax(axis=0)),
    ):
        kept = case.jacobian[rows, columns] * heard.any(axis=0)
        if case.fits((kept * dy[rows]).reshape(case.truths[0].shape) for dy in case.cotangents):
            return f"an element used several times receives the {words} contribution, not the sum"
    return None


def _output_ignored(case: Case) -> str | None:
    start = 0
    for number, out in enumerate(case.outs):
        rows = start + np.arange(out.size)
        start += out.size
        if len(case.outs) > 1 and case.fits(case.through(rows)):
            return f"what comes through output {number} only; the other cotangents are not used"
    return None


def _overwritten(case: Case) -> str | None:
    part = _slice(case, None)
    return f"the contribution of {part} only; the others are lost" if part else None


def _slice(case: Case, axes: Sequence[int] | None) -> str | None:
    """The slice of the outputs whose contribution alone the vjp returned, in words."""
    start = 0
    for out in case.outs:
        places = start + np.arange(out.size).reshape(out.shape)
        start += out.size
        for axis in range(out.ndim) if axes is None else axes:
            n = out.shape[axis]
            for k in dict.fromkeys([n - 1, 0, *range(n)]) if n > 1 else ():
                if case.fits(case.through(np.take(places, k, axis=axis))):
                    which = {0: "the first", n - 1: "the last"}.get(k, f"number {k}")
                    return f"{which} of {n} slices along axis {axis} of the output"
    return None


def _diagonal(case: Case) -> str | None:
    if case.jacobian.shape[0] != case.jacobian.shape[1] or case.elementwise:
        return None
    diagonal = np.diag(case.jacobian)
    if case.fits((diagonal * dy).reshape(case.x.shape) for dy in case.cotangents):
        return "only the diagonal of the Jacobian: dyᵢ times ∂yᵢ/∂xᵢ, nothing from ∂yⱼ/∂xᵢ"
    return None


def _cotangent(case: Case) -> str | None:
    if case.fits(case.pulled(np.ones_like(dy) for dy in case.cotangents)):
        return "the gradient for dy = 1: the vjp does not use dy"
    if case.fits(case.pulled(dy * dy for dy in case.cotangents)):
        return "the gradient with dy squared: dy is multiplied in twice"
    return None


def _derivative(case: Case) -> str | None:
    """Elementwise: the local derivative is forgotten, or taken for something else."""
    if not case.elementwise:
        return None
    for words, factor in (
        ("dy itself: the derivative of the function is not multiplied in", np.ones_like(case.x)),
        ("dy times x, where dy times the derivative is due", case.x),
        ("dy times the output, where dy times the derivative is due", case.outs[0]),
    ):
        if case.fits(factor * dy.reshape(case.x.shape) for dy in case.cotangents):
            return words
    return None


def _row_offset(case: Case) -> str | None:
    x, y = case.x, case.outs[0]
    for axis in case.row_axes:
        centered, ones = x - x.mean(axis=axis, keepdims=True), np.ones_like(x)
        patterns: list[tuple[str, list[Array]]] = [
            ("the mean is missing (the same amount along each row)", [ones]),
            ("the variance is missing (in each row a multiple of x - mean)", [centered]),
            ("the norm is missing (in each row a multiple of x)", [x]),
        ]
        if y.shape == x.shape:
            patterns.append(("the normalizer is missing (in each row a multiple of y)", [y]))
            e = np.exp(y - y.max())
            patterns.append(("the normalizer is missing (in each row a multiple of exp(y))", [e]))
        if x.shape[axis] >= 4:
            patterns.append(
                ("the mean, and that through the variance, are missing", [ones, centered])
            )
        for words, basis in patterns:
            gaps = [g - truth for g, truth in zip(case.guesses, case.truths, strict=True)]
            if all(_in_span(gap, basis, axis) for gap in gaps):
                return f"along axis {axis}, the path through {words}"
    return None


def _in_span(gap: Array, basis: list[Array], axis: int) -> bool:
    """Whether each row of ``gap`` is a combination of the rows of ``basis`` (Gram-Schmidt)."""
    rest: Array = gap
    taken: list[Array] = []
    for vector in basis:
        for other in taken:
            vector = vector - other * np.sum(vector * other, axis=axis, keepdims=True)
        length = np.sqrt(np.sum(vector * vector, axis=axis, keepdims=True))
        vector = vector / np.where(length == 0, 1.0, length)
        taken.append(vector)
        rest = rest - vector * np.sum(rest * vector, axis=axis, keepdims=True)
    return bool(np.max(np.abs(rest)) <= CLOSE * np.max(np.abs(gap)))


def _row_factor(case: Case) -> str | None:
    for axis in case.row_axes:
        square = np.sum(case.truths[0] ** 2, axis=axis, keepdims=True)
        if case.truths[0].size == case.x.shape[axis] or not square.all():
            continue
        c = np.sum(case.truths[0] * case.guesses[0], axis=axis, keepdims=True) / square
        if case.fits(c * truth for truth in case.truths):
            return f"a multiple of the gradient in each row along axis {axis}, but not the same one"
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
    """A row of the table: the mistake's name, how to see it, what to try."""

    name: str
    test: Callable[[Case], str | None]
    advice: str
    any_shape: bool = False  # can be seen in a gradient of the wrong shape
    whole: bool = False  # needs every element, not a sample


RELATIONS = (
    Relation("kink", _kink, "check at other inputs, away from the kink"),
    Relation("zero", _zero, "does the vjp fill the array that it returns? is a path cut off?"),
    Relation("sign flipped", _sign, "look for a - that should be +, or operands in wrong order"),
    Relation(
        "constant factor",
        _factor,
        "look for the factor in the forward formula: a mean's 1/N, a square's 2, a scale's "
        "1/sqrt(d) belong in the gradient exactly once",
    ),
    Relation(
        "inputs swapped",
        _swapped,
        "return the gradients in the order of the inputs",
        any_shape=True,
        whole=True,
    ),
    Relation(
        "transposed",
        _transposed,
        "for y = a @ b: da = dy @ bᵀ, db = aᵀ @ dy",
        any_shape=True,
        whole=True,
    ),
    Relation(
        "missing sum",
        _missing_sum,
        "every reuse passes something back: sum over the axes along which the input was broadcast, "
        "as dy.sum(axis=0) for a bias",
        any_shape=True,
        whole=True,
    ),
    Relation(
        "reshaped",
        _reshaped,
        "reshape keeps the order of the elements, a transpose changes it; give the gradient the "
        "shape of its input",
        any_shape=True,
        whole=True,
    ),
    Relation("output ignored", _output_ignored, "add up what comes from each output's cotangent"),
    Relation(
        "duplicates lost",
        _duplicates,
        "dw[ids] += dy keeps only one of equal ids; to add them all: np.add.at(dw, ids, dy)",
    ),
    Relation("overwritten", _overwritten, "where several contributions meet, write +=, not ="),
    Relation(
        "diagonal only",
        _diagonal,
        "yᵢ depends on every xⱼ of its row, so sum dyⱼ ∂yⱼ/∂xᵢ over j; for softmax "
        "dx = y * (dy - sum(dy * y))",
        whole=True,
    ),
    Relation("cotangent misused", _cotangent, "multiply by dy, exactly once"),
    Relation("wrong derivative", _derivative, "chain rule: dx = dy * f'(x)", whole=True),
    Relation(
        "path missing",
        _row_offset,
        "the input acts directly, and also through what is computed from its whole row: add up the "
        "gradients of all paths",
        whole=True,
    ),
    Relation(
        "row factor",
        _row_factor,
        "look for a number computed for each row (norm, standard deviation, sum) that is missing "
        "or used twice",
        whole=True,
    ),
)
