"""Matrix products, and Einstein's notation for any sum of products."""

from __future__ import annotations

import math
from typing import Any

from ..backend import Array, array_namespace
from ..registry import op
from ._types import Vjp


@op("Y = A B", broadcasts=True)
def matmul(a: Array, b: Array) -> tuple[Array, Vjp]:
    """``y[..., i, k] = sum_j a[..., i, j] b[..., j, k]``: a ``[..., N, K]``, b ``[..., K, M]``.

    The result is ``[..., N, M]``; leading axes broadcast. A vector on the left is one row, a vector
    on the right one column, and that axis is left out of the result. For matrices::

        da[i, j] = sum_k dy[i, k] b[j, k]      dA = dY Bᵀ
        db[j, k] = sum_i a[i, j] dy[i, k]      dB = Aᵀ dY

    Raises:
        ValueError: an input has no axes, inner sizes differ, or leading axes do not broadcast.

    Source: D2 §3.5, D5 §4.1 in every layer; the gradients as in Giles 2008, §2.2.1.
    """
    if not a.ndim or not b.ndim:
        raise ValueError(
            f"matmul: shapes {a.shape} and {b.shape}: a number is no matrix; multiply by it with *"
        )
    inner = -1 if b.ndim == 1 else -2
    if a.shape[-1] != b.shape[inner]:
        raise ValueError(
            f"matmul: shapes {a.shape} and {b.shape} do not fit: axis -1 of a ({a.shape[-1]}) and "
            f"axis {inner} of b ({b.shape[inner]}) must be equal, they are summed over"
            + _transposing_helps(a, b)
        )
    xp = array_namespace(a, b)
    if a.ndim == b.ndim == 2:
        return xp.matmul(a, b), lambda dy: (xp.matmul(dy, b.T), xp.matmul(a.T, dy))

    # a vector becomes a matrix of one row or one column
    left = a if a.ndim > 1 else xp.reshape(a, (1, a.shape[0]))
    right = b if b.ndim > 1 else xp.reshape(b, (b.shape[0], 1))
    if right.ndim == 2:  # one matrix for all rows: they are rows of one matrix, too
        left = xp.reshape(left, (math.prod(left.shape[:-1]), left.shape[-1]))
    try:
        y = xp.matmul(left, right)
    except ValueError:
        raise ValueError(
            f"matmul: the leading axes of shapes {a.shape} and {b.shape} do not broadcast: "
            f"{a.shape[:-2]} and {b.shape[:-2]}; counted from the right, sizes must be equal or 1"
        ) from None
    product = y.shape
    rows = a.shape[-2:-1] if right.ndim > 2 else a.shape[:-1]
    shape = (*product[: -2 if right.ndim > 2 else 0], *rows, *(b.shape[-1:] if b.ndim > 1 else ()))

    def vjp(dy: Array) -> tuple[Array, Array]:
        dy = xp.reshape(dy, product)
        da = xp.matmul(dy, xp.matrix_transpose(right))
        db = xp.matmul(xp.matrix_transpose(left), dy)
        if right.ndim == 2:
            return xp.reshape(da, a.shape), xp.reshape(db, b.shape)
        return (da if a.ndim > 1 else xp.squeeze(da, axis=-2)), db

    return xp.reshape(y, shape), vjp


def _transposing_helps(a: Array, b: Array) -> str:
    if b.ndim > 1 and a.shape[-1] == b.shape[-1]:
        return "; the last axes agree: transpose b (.mT)"
    if a.ndim > 1 and b.ndim > 1 and a.shape[-2] == b.shape[-2]:
        return "; the axes before them agree: transpose a (.mT)"
    return ""


# -- einsum ----------------------------------------------------------------------------------------

Labels = tuple[
    Any, ...
]  # one for each axis: a letter, or for an axis of '...' its place, -1 the last


@op("Einstein summation", broadcasts=True)
def einsum(*operands: Array, equation: str) -> tuple[Array, Vjp]:
    """The sum of products that ``equation`` spells, as ``"bhqd,bhkd->bhqk"`` for attention scores.

    Each letter is an axis; letters that the result lacks are summed over. Without ``->`` the result
    has the letters that occur once, in alphabetical order. ``...`` stands for any further axes,
    which broadcast, and which the result must keep.

    The gradient of an operand is an einsum again, of ``dy`` and the other operands::

        Y = einsum("ij,jk->ik", A, B)      dA = einsum("ik,jk->ij", dY, B)

    An axis that only this operand had, and that was summed over, repeats it.

    Raises:
        ValueError: the equation can't be read or does not fit the operands, has a letter twice in
            one operand (a diagonal), or gives one letter two sizes.
        TypeError: the equation is no string.
    """
    inputs, output = _parse(equation, operands)
    xp = array_namespace(*operands)

    def vjp(dy: Array) -> Any:
        gradients = []
        for place, wanted in enumerate(inputs):
            others = [*zip(operands, inputs, strict=True)]
            others[place] = (dy, output)
            known = {label for _, labels in others for label in labels}
            kept = tuple([label for label in wanted if label in known])
            d = _contract(xp, others, kept)
            if kept != wanted:
                sizes = dict(zip(kept, d.shape, strict=True))
                whole = zip(wanted, operands[place].shape, strict=True)
                d = xp.reshape(d, tuple([sizes.get(label, 1) for label in wanted]))
                d = xp.broadcast_to(d, tuple([sizes.get(label, n) for label, n in whole]))
            gradients.append(d)
        return tuple(gradients) if len(gradients) > 1 else gradients[0]

    return _contract(xp, [*zip(operands, inputs, strict=True)], output), vjp


def _parse(equation: str, operands: tuple[Array, ...]) -> tuple[list[Labels], Labels]:
    """The labels of each operand and of the result."""
    if not isinstance(equation, str):
        raise TypeError(f"einsum: equation must be a string, got {type(equation).__name__}")

    def error(why: str) -> ValueError:
        shapes = ", ".join(str(x.shape) for x in operands)
        return ValueError(f"einsum {equation!r} of shapes {shapes}: {why}")

    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not operands or len(terms) != len(operands):
        raise error(f"it names {len(terms)} operand(s), {len(operands)} are given")

    def labels(term: str, places: int) -> Labels:
        before, dots, after = term.partition("...")
        for letter in before + after:
            if not (letter.isascii() and letter.isalpha()):
                raise error(
                    f"{letter!r} is no label of an axis; use letters, '...', ',' and one '->'"
                )
            if term.count(letter) > 1:
                raise error(
                    f"{letter!r} occurs twice in {term!r}; diagonals are not supported: "
                    "take them by indexing, x[i, i] with i = arange(n)"
                )
        return (*before, *(range(-places, 0) if dots else ()), *after)

    inputs = []
    sizes: dict[Any, int] = {}
    for term, x in zip(terms, operands, strict=True):
        letters = len(term.replace("...", ""))
        if letters > x.ndim or ("..." not in term and letters < x.ndim):
            raise error(f"{term!r} has {letters} letter(s), its operand has {x.ndim} axes")
        found = labels(term, x.ndim - letters)
        inputs.append(found)
        for label, size in zip(found, x.shape, strict=True):
            known = sizes.setdefault(label, size)
            if isinstance(label, int) and 1 in (known, size):
                sizes[label] = known * size  # broadcast
            elif known != size:
                axis = f"axis {label!r}" if isinstance(label, str) else f"axis {label} of '...'"
                raise error(f"{axis} has size {known} in one operand and {size} in another")
    dotted = tuple(sorted(label for label in sizes if isinstance(label, int)))
    if arrow:
        output = labels(right, len(dotted))
        unknown = [label for label in output if label not in sizes]
        if unknown:
            raise error(f"{unknown[0]!r} of the result is in no operand")
        if dotted and "..." not in right:
            raise error("the result must keep '...'; to sum over an axis, give it a letter")
    else:
        once = sorted({letter for letter in left if letter.isalpha() and left.count(letter) == 1})
        output = (*dotted, *once)
    return inputs, output


def _contract(xp: Any, terms: list[tuple[Array, Labels]], output: Labels) -> Array:
    """Multiply the operands, two at a time, summing each label as soon as nobody else needs it."""
    x, have = terms[0]
    if len(terms) == 1:
        x, have = _sum_out(xp, x, have, set(output))
    for place in range(1, len(terms)):
        y, other = terms[place]
        needed = {*output, *(label for _, labels in terms[place + 1 :] for label in labels)}
        x, have = _product(xp, x, have, y, other, needed)
    order = tuple(have.index(label) for label in output)
    return x if order == tuple(range(len(order))) else xp.permute_dims(x, order)


def _sum_out(xp: Any, x: Array, have: Labels, needed: set[Any]) -> tuple[Array, Labels]:
    axes = tuple([axis for axis, label in enumerate(have) if label not in needed])
    if not axes:
        return x, have
    return xp.sum(x, axis=axes), tuple([label for label in have if label in needed])


def _product(
    xp: Any, x: Array, of_x: Labels, y: Array, of_y: Labels, needed: set[Any]
) -> tuple[Array, Labels]:
    """The product of two operands, as ``[batch, rows, summed] @ [batch, summed, columns]``."""
    # an axis of '...' that broadcasts, of size 1 here and n there, is summed in each by itself
    paired = set(zip(of_x, x.shape, strict=True)) & set(zip(of_y, y.shape, strict=True))
    keep = needed | {label for label, _ in paired}
    x, of_x = _sum_out(xp, x, of_x, keep)
    y, of_y = _sum_out(xp, y, of_y, keep)
    shared = [label for label in of_x if label in of_y]
    batch = tuple([label for label in shared if label in needed])
    summed = tuple([label for label in shared if label not in needed])
    rows = tuple([label for label in of_x if label not in of_y])
    columns = tuple([label for label in of_y if label not in of_x])

    def matrices(z: Array, have: Labels, first: Labels, second: Labels) -> Array:
        z = xp.permute_dims(z, tuple([have.index(label) for label in (*batch, *first, *second)]))
        end = len(batch) + len(first)
        sides = (math.prod(z.shape[len(batch) : end]), math.prod(z.shape[end:]))
        return xp.reshape(z, (*z.shape[: len(batch)], *sides))

    a = matrices(x, of_x, rows, summed)
    b = matrices(y, of_y, summed, columns)
    z = xp.matmul(a, b) if summed else a * b
    sizes = dict(zip((*of_x, *of_y), (*x.shape, *y.shape), strict=True))
    outer = [sizes[label] for label in (*rows, *columns)]
    return xp.reshape(z, (*z.shape[:-2], *outer)), (*batch, *rows, *columns)
