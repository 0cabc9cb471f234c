"""Reshaping, moving, joining and cutting. Results share memory with the input where they can."""

from __future__ import annotations

import math
import operator
from typing import Any

from ..backend import Array, array_namespace, asarray_like, scatter_add
from ..registry import op
from ._checks import integer, integers, normalize_axis
from ._types import Vjp


@op("reshape x")
def reshape(x: Array, *, shape: int | tuple[int, ...]) -> tuple[Array, Vjp]:
    """The same elements, in row-major order, in another shape; one size may be -1, "what is left".

    ``dx = dy`` in the shape of ``x``. A view where the memory allows it.

    Raises:
        ValueError: the shapes hold different numbers of elements.
        TypeError: a size is no integer.
    """
    xp = array_namespace(x)
    shape = integers("reshape", "each size of shape", shape)
    former = x.shape
    try:
        y = xp.reshape(x, shape)
    except ValueError:
        raise _reshape_error(x, shape) from None

    def vjp(dy: Array) -> Array:
        return xp.reshape(dy, former)

    return y, vjp


def _reshape_error(x: Array, shape: tuple[int, ...]) -> ValueError:
    start = f"reshape: shape {x.shape} has {x.size} elements, "
    known = math.prod([size for size in shape if size != -1])
    if shape.count(-1) > 1:
        return ValueError(f"{start}and {shape} leaves more than one size open (-1); leave one")
    if min(shape, default=0) < -1:
        return ValueError(f"{start}and {shape} has a negative size; only -1 has a meaning")
    if -1 not in shape:
        return ValueError(f"{start}shape {shape} has {known}; reshape keeps every element")
    return ValueError(f"{start}which {known}, the known sizes of {shape}, does not divide")


@op("permute x")
def permute(x: Array, *, axes: tuple[int, ...]) -> tuple[Array, Vjp]:
    """The axes in another order: axis ``i`` of the result is axis ``axes[i]`` of ``x``. A view.

    ``dx`` is ``dy`` with its axes back in place.

    Raises:
        ValueError: ``axes`` does not name each axis once.
        TypeError: an axis is no integer.
    """
    xp = array_namespace(x)
    axes = integers("permute", "each axis", axes)
    inverse = [-1] * x.ndim
    try:
        for place, axis in enumerate(axes):
            inverse[axis] = place
    except IndexError:
        inverse = [-1]
    if len(axes) != x.ndim or -1 in inverse:
        raise ValueError(
            f"permute: axes {axes} for shape {x.shape}: name each of its {x.ndim} axes once"
        )

    def vjp(dy: Array) -> Array:
        return xp.permute_dims(dy, inverse)

    return xp.permute_dims(x, axes), vjp


@op("broadcast x")
def broadcast_to(x: Array, *, shape: int | tuple[int, ...]) -> tuple[Array, Vjp]:
    """``x`` repeated along axes of size 1 and new leading ones, until it has ``shape``. A view.

    An element that was used many times receives the sum of what each use passes back.

    Raises:
        ValueError: the shape of ``x`` does not broadcast to ``shape``.
        TypeError: a size is no integer.
    """
    xp = array_namespace(x)
    shape = integers("broadcast_to", "each size of shape", shape)
    try:
        y = xp.broadcast_to(x, shape)
    except ValueError:
        raise ValueError(
            f"broadcast_to: shape {x.shape} does not broadcast to {shape}: counted from the right, "
            "each size must be equal, or 1 in the first"
        ) from None
    former = x.shape
    new = len(shape) - len(former)
    repeated = tuple(
        [axis for axis, size in enumerate(shape) if axis < new or former[axis - new] != size]
    )

    def vjp(dy: Array) -> Array:
        return xp.reshape(xp.sum(dy, axis=repeated), former) if repeated else dy

    return y, vjp


@op("[x₀, x₁, …]")
def concatenate(*xs: Array, axis: int = 0) -> tuple[Array, Vjp]:
    """Join arrays along ``axis``; their other axes agree. Each gradient is its slice of ``dy``.

    Raises:
        ValueError: no arrays, no such axis, or other sizes that differ.
    """
    if not xs:
        raise ValueError("concatenate: no arrays to join; give at least one")
    axis = normalize_axis("concatenate", xs[0], axis)
    xp = array_namespace(*xs)
    try:
        y = xp.concat(xs, axis=axis)
    except ValueError:
        raise _shapes_differ("concatenate", xs, axis) from None

    lengths = tuple([x.shape[axis] for x in xs])

    def vjp(dy: Array) -> Any:
        gradients = _cut(dy, lengths, axis)
        return gradients if len(gradients) > 1 else gradients[0]

    return y, vjp


@op("stack x₀, x₁, …")
def stack(*xs: Array, axis: int = 0) -> tuple[Array, Vjp]:
    """Join arrays of one shape along a new ``axis``. Each gradient is its slice of ``dy``.

    Raises:
        ValueError: no arrays, shapes that differ, or an axis that the result has not.
    """
    if not xs:
        raise ValueError("stack: no arrays to join; give at least one")
    for x in xs:
        if x.shape != xs[0].shape:
            raise _shapes_differ("stack", xs, None)
    ndim = xs[0].ndim + 1
    axis = integer("stack", "axis", axis)
    if not -ndim <= axis < ndim:
        raise ValueError(
            f"stack: there is no axis {axis} in a stack of arrays of shape {xs[0].shape}; "
            f"axes run from 0 to {ndim - 1}"
        )
    axis %= ndim
    xp = array_namespace(*xs)
    n = len(xs)

    def vjp(dy: Array) -> Any:
        before = (slice(None),) * axis
        gradients = tuple([dy[(*before, i, ...)] for i in range(n)])
        return gradients if n > 1 else gradients[0]

    return xp.stack(xs, axis=axis), vjp


def _shapes_differ(name: str, xs: tuple[Array, ...], axis: int | None) -> ValueError:
    first = xs[0].shape
    for place, x in enumerate(xs):
        same = len(x.shape) == len(first) and all(
            a == b for i, (a, b) in enumerate(zip(first, x.shape, strict=True)) if i != axis
        )
        if not same:
            where = "" if axis is None else f" in all axes but {axis}"
            return ValueError(
                f"{name}: shapes {first} (xs[0]) and {x.shape} (xs[{place}]) must be equal{where}"
            )
    raise AssertionError(f"{name}: the shapes fit")  # the caller met another error


def _cut(x: Array, sizes: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    """Consecutive pieces of ``x`` along ``axis``, as views."""
    before = (slice(None),) * axis
    pieces, start = [], 0
    for size in sizes:
        pieces.append(x[(*before, slice(start, start + size), ...)])
        start += size
    return tuple(pieces)


@op("split x")
def split(
    x: Array, *, sizes: int | tuple[int, ...], axis: int = 0
) -> tuple[tuple[Array, ...], Vjp]:
    """Consecutive pieces of ``x`` along ``axis``, as views: of these sizes, or all of one size.

    With one size the last piece may be smaller (as in PyTorch's ``split``; NumPy's takes a number
    of pieces). ``dx`` is the cotangents of the pieces, joined again.

    Raises:
        ValueError: no such axis, a size below 1 (in a list, below 0), or sizes that do not add up.
        TypeError: a size is no integer.
    """
    axis = normalize_axis("split", x, axis)
    total = x.shape[axis]
    lengths = integers("split", "each of sizes", sizes)
    if isinstance(sizes, (tuple, list)):
        if sum(lengths) != total or min(lengths, default=-1) < 0:
            raise ValueError(
                f"split: sizes {lengths} must be 0 or more and add up to {total}, the size "
                f"of axis {axis} of shape {x.shape}"
            )
    else:
        each = lengths[0]
        if each < 1:
            raise ValueError(f"split: pieces of size {each}; a size must be at least 1")
        whole, rest = divmod(total, each)
        lengths = (each,) * whole + (rest,) * (rest > 0 or total == 0)
    former, dtype, device = x.shape, x.dtype, x.device

    def vjp(*dys: Array | None) -> Array:
        xp = array_namespace(*dys)
        joined = []
        for length, dy in zip(lengths, dys, strict=True):
            if dy is None:  # nothing used this piece
                shape = (*former[:axis], length, *former[axis + 1 :])
                dy = xp.zeros(shape, dtype=dtype, device=device)
            joined.append(dy)
        return xp.concat(joined, axis=axis)

    return _cut(x, lengths, axis), vjp


@op("pad x")
def pad(x: Array, *, pad_width: Any, value: float = 0.0) -> tuple[Array, Vjp]:
    """``x`` with ``value`` around it. ``dx`` is ``dy`` without the border: a view.

    ``pad_width`` is ``((before, after), ...)`` for each axis; or one ``(before, after)``, or one
    number, for all of them.

    Raises:
        ValueError: a width below 0, or widths for another number of axes.
        TypeError: a width is no integer.
    """
    widths = _pad_widths(x, pad_width)
    xp = array_namespace(x)
    shape = tuple([b + size + a for (b, a), size in zip(widths, x.shape, strict=True)])
    inside = (
        *[slice(b, b + size) for (b, _), size in zip(widths, x.shape, strict=True)],
        ...,
    )
    y = xp.full(shape, value, dtype=x.dtype, device=x.device)
    y[inside] = x

    def vjp(dy: Array) -> Array:
        return dy[inside]

    return y, vjp


def _pad_widths(x: Array, pad_width: Any) -> list[tuple[int, ...]]:
    """``(before, after)`` for each axis."""
    if not isinstance(pad_width, (tuple, list)):
        pairs = [integers("pad", "pad_width", (pad_width, pad_width))] * x.ndim
    elif len(pad_width) == 2 and not any(isinstance(width, (tuple, list)) for width in pad_width):
        pairs = [integers("pad", "each of pad_width", pad_width)] * x.ndim
    else:
        pairs = [integers("pad", "each of pad_width", pair) for pair in pad_width]
    if len(pairs) != x.ndim or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            f"pad: pad_width {pad_width} for shape {x.shape}: give one number, one (before, after) "
            f"pair, or {x.ndim} pairs, one for each axis"
        )
    if any(min(pair) < 0 for pair in pairs):
        raise ValueError(
            f"pad: pad_width {pad_width} is negative; to cut a border off, index: x[1:-1]"
        )
    return pairs


# -- indexing --------------------------------------------------------------------------------------


@op("x[index]")
def getitem(x: Array, *, index: Any) -> tuple[Array, Vjp]:
    """``x[index]`` by integers, slices, ``...``, None, integer arrays and boolean masks.

    ``dx`` is 0 but at the index, where ``dy`` is *added*: an element taken twice receives both. The
    result is a view for integers and slices, a copy for arrays.

    Raises:
        IndexError: out of range, or too many indices.
        TypeError: an index that is none of these.
    """
    items = tuple([_index_item(x, i) for i in (index if isinstance(index, tuple) else (index,))])
    arrays = [i for i in items if hasattr(i, "dtype")]
    if arrays:
        _check_index_arrays(x, items)
    elif ... not in items:
        items += (...,)  # a view even of a single element, where NumPy would make a scalar
    try:
        y = x[items]
    except IndexError as error:
        raise IndexError(f"getitem: {error}; the shape is {x.shape}") from None
    xp = array_namespace(x)
    former, device = x.shape, x.device
    repeats = any(not xp.isdtype(i.dtype, "bool") for i in arrays)

    def vjp(dy: Array) -> Array:
        dx = xp.zeros(former, dtype=dy.dtype, device=device)
        if repeats:
            scatter_add(dx, items[0] if len(items) == 1 else items, dy)
        else:
            dx[items] = dy
        return dx

    return y, vjp


def _index_item(x: Array, item: Any) -> Any:
    """An index as an int, a slice, None, ``...``, or an array of integers or booleans."""
    if item is None or item is ... or type(item) is slice or type(item) is int:
        return item
    if isinstance(item, (list, tuple)):
        item = asarray_like(item, x) if len(item) else asarray_like(item, x, "int64")
    if hasattr(item, "dtype") and item.ndim and not isinstance(item, bool):
        xp = array_namespace(item)
        if xp.isdtype(item.dtype, ("integral", "bool")):
            return item
        what = f"an array of {item.dtype}"
    else:
        try:
            if not isinstance(item, bool):
                return operator.index(item)
        except TypeError:
            pass
        what = f"{item!r} ({type(item).__name__})"
    raise TypeError(
        f"getitem: {what} is no index; use integers, slices, '...', None, "
        "arrays of integers or boolean masks"
    )


def _check_index_arrays(x: Array, items: tuple[Any, ...]) -> None:
    """Refuse what a GPU would wrap around silently; indices from -size to size - 1 are in range."""
    taken = [_axes_taken(item) for item in items]
    axis = 0
    for item, width in zip(items, taken, strict=True):
        if item is ...:
            axis += x.ndim - sum(taken)
        elif hasattr(item, "dtype") and axis + width <= x.ndim:
            xp = array_namespace(item)
            if xp.isdtype(item.dtype, "bool"):
                if item.shape != x.shape[axis : axis + width]:
                    raise IndexError(
                        f"getitem: a mask of shape {item.shape} for axes of sizes "
                        f"{x.shape[axis : axis + width]} (shape {x.shape}); they must be equal"
                    )
            elif item.size:
                low, high, size = int(xp.min(item)), int(xp.max(item)), x.shape[axis]
                if low < -size or high >= size:
                    raise IndexError(
                        f"getitem: index {high if high >= size else low} is out of range for axis "
                        f"{axis} of shape {x.shape}; indices run from {-size} to {size - 1}"
                    )
        axis += width


def _axes_taken(item: Any) -> int:
    """How many axes an index uses up: a mask its own number, None and ``...`` none."""
    if item is None or item is ...:
        return 0
    masked = hasattr(item, "dtype") and array_namespace(item).isdtype(item.dtype, "bool")
    return item.ndim if masked else 1
