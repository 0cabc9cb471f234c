"""Sums, means, variances, maxima, running sums.

``axis`` is None (all axes), an integer or a tuple of them; ``keepdims=True`` leaves axes of size 1
in the place of the reduced ones. All raise a ValueError for an axis that is missing or named twice.
"""

from __future__ import annotations

import math
from typing import Any

from ..backend import Array, array_namespace
from ..registry import op
from ._checks import normalize_axes, normalize_axis
from ._types import Vjp

Axis = int | tuple[int, ...] | None


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """``shape`` with size 1 at the reduced ``axes``: the shape of a result with ``keepdims``."""
    return tuple([1 if axis in axes else size for axis, size in enumerate(shape)])


def _count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """How many elements are reduced to one."""
    return math.prod([shape[axis] for axis in axes])


@op("Σ x")
def sum(x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array, Vjp]:
    """The sum over ``axis``. ``dx = dy``, repeated along the axes that were summed.

    Raises:
        ValueError: an axis is not there, or named twice.
    """
    xp = array_namespace(x)
    axes = normalize_axes("sum", x, axis)

    shape = x.shape

    def vjp(dy: Array) -> Array:
        return xp.broadcast_to(xp.reshape(dy, _kept(shape, axes)), shape)

    return xp.sum(x, axis=axes, keepdims=keepdims), vjp


@op("Σ x / n")
def mean(x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array, Vjp]:
    """The mean over ``axis``. ``dx = dy / n``, repeated; ``n`` elements make one mean.

    Raises:
        ValueError: there is nothing to take the mean of.
    """
    xp = array_namespace(x)
    axes = normalize_axes("mean", x, axis)
    n = _count(x.shape, axes)
    if n == 0:
        raise _nothing("mean", x, axis)

    shape = x.shape

    def vjp(dy: Array) -> Array:
        return xp.broadcast_to(xp.reshape(dy, _kept(shape, axes)) / n, shape)

    return xp.mean(x, axis=axes, keepdims=keepdims), vjp


@op("Σ (x − mean)² / (n − correction)")
def var(
    x: Array, *, axis: Axis = None, correction: float = 1, keepdims: bool = False
) -> tuple[Array, Vjp]:
    """The variance over ``axis``: ``sum((x - mean)**2) / (n - correction)``.

    ``correction=1`` estimates the variance of what ``x`` was drawn from, ``correction=0`` is that
    of ``x`` itself. ``dx = dy * 2 * (x - mean) / (n - correction)``: the mean moves with ``x`` as
    well, but the deviations from it sum to 0, so that adds nothing.

    Raises:
        ValueError: fewer than ``correction + 1`` elements make one variance.
    """
    xp = array_namespace(x)
    axes = normalize_axes("var", x, axis)
    n = _count(x.shape, axes)
    divisor = float(n - correction)
    if n == 0:
        raise _nothing("var", x, axis)
    if divisor <= 0:
        raise ValueError(
            f"var: {n} element(s) of shape {x.shape} along axis {axis}, correction={correction}: "
            f"the sum would be divided by {divisor:g}; take more elements, or correction=0"
        )
    centered = x - xp.mean(x, axis=axes, keepdims=True)

    def vjp(dy: Array) -> Array:
        return centered * (xp.reshape(dy, _kept(centered.shape, axes)) * (2.0 / divisor))

    return xp.sum(centered * centered, axis=axes, keepdims=keepdims) / divisor, vjp


@op("max x")
def amax(x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array, Vjp]:
    """The largest element along ``axis``. ``dy`` goes to it; several equal ones share it equally.

    Raises:
        ValueError: there is nothing to take the maximum of.
    """
    return _extremum("amax", array_namespace(x).max, x, axis, keepdims)


@op("min x")
def amin(x: Array, *, axis: Axis = None, keepdims: bool = False) -> tuple[Array, Vjp]:
    """The smallest element along ``axis``. ``dy`` goes to it; several equal ones share it equally.

    Raises:
        ValueError: there is nothing to take the minimum of.
    """
    return _extremum("amin", array_namespace(x).min, x, axis, keepdims)


def _extremum(name: str, reduce: Any, x: Array, axis: Axis, keepdims: bool) -> tuple[Array, Vjp]:
    xp = array_namespace(x)
    axes = normalize_axes(name, x, axis)
    if _count(x.shape, axes) == 0:
        raise _nothing(name, x, axis)
    y = reduce(x, axis=axes, keepdims=keepdims)

    def vjp(dy: Array) -> Array:
        kept = _kept(x.shape, axes)
        tied = xp.astype(x == xp.reshape(y, kept), dy.dtype)
        # of a row with NaN, whose maximum is NaN, nothing equals it: NaN gradients, as is fit
        return tied * (xp.reshape(dy, kept) / xp.sum(tied, axis=axes, keepdims=True))

    return y, vjp


@op("yᵢ = Σⱼ≤ᵢ xⱼ")
def cumsum(x: Array, *, axis: int) -> tuple[Array, Vjp]:
    """Running sums along ``axis``: ``y_i = x_0 + ... + x_i``.

    ``x_i`` is in ``y_i`` and all after it, so ``dx_i = dy_i + dy_{i+1} + ...``: a running sum from
    the other end.

    Raises:
        ValueError: there is no such axis.
    """
    xp = array_namespace(x)
    axis = normalize_axis("cumsum", x, axis)

    def vjp(dy: Array) -> Array:
        return xp.flip(xp.cumulative_sum(xp.flip(dy, axis=axis), axis=axis), axis=axis)

    return xp.cumulative_sum(x, axis=axis), vjp


def _nothing(name: str, x: Array, axis: Axis) -> ValueError:
    return ValueError(
        f"{name}: shape {x.shape} has no elements along axis {axis}, and there is no {name} of "
        "nothing; leave empty arrays out"
    )
