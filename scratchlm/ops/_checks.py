"""Words for the mistakes that several ops share: shapes that do not fit, axes that are missing."""

from __future__ import annotations

import operator
from typing import Any

from ..backend import Array


def broadcast_error(name: str, error: ValueError, *arrays: Array) -> ValueError:
    """What ``error``, met by an elementwise op, means: the axis that does not broadcast."""
    shapes = [x.shape for x in arrays]
    for axis in range(-1, -1 - max(map(len, shapes)), -1):
        sizes = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        if len(sizes) > 1:
            several = " and ".join(map(str, sorted(sizes)))
            return ValueError(
                f"{name}: shapes {' and '.join(map(str, shapes))} do not broadcast: axis {axis} "
                f"has sizes {several}; counted from the right, sizes must be equal or 1: use "
                "reshape to put an axis of 1 where values should repeat"
            )
    return ValueError(f"{name}: {error}")  # it was not the shapes


def integer(name: str, what: str, value: Any) -> int:
    """``value`` as an int; a TypeError that names the op and the option if it is none."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: {what} must be an integer, got {value!r}") from None


def integers(name: str, what: str, values: Any) -> tuple[int, ...]:
    """``values``, one integer or several, as a tuple of ints."""
    several = values if isinstance(values, (tuple, list)) else (values,)
    return tuple([v if type(v) is int else integer(name, what, v) for v in several])


def normalize_axis(name: str, x: Array, axis: Any) -> int:
    """``axis`` counted from 0.

    Raises:
        TypeError: it is no integer.
        ValueError: ``x`` has no such axis.
    """
    found = integer(name, "axis", axis)
    if not -x.ndim <= found < x.ndim:
        if not x.ndim:
            raise ValueError(f"{name}: axis {found} of a 0-d array, shape (): it has no axis")
        raise ValueError(
            f"{name}: there is no axis {found} in shape {x.shape}; "
            f"axes run from 0 to {x.ndim - 1}, or from -{x.ndim} to -1"
        )
    return found % x.ndim


def normalize_axes(name: str, x: Array, axis: Any) -> tuple[int, ...]:
    """The axes that ``axis`` means, counted from 0: None is all of them; an integer, or several.

    Raises:
        TypeError, ValueError: as :func:`normalize_axis`; or an axis is named twice.
    """
    if axis is None:
        return tuple(range(x.ndim))
    if not isinstance(axis, (tuple, list)):
        return (normalize_axis(name, x, axis),)
    axes = tuple([normalize_axis(name, x, each) for each in axis])
    if len(set(axes)) < len(axes):
        raise ValueError(
            f"{name}: axis {tuple(axis)} names an axis of shape {x.shape} twice; name each once"
        )
    return axes
