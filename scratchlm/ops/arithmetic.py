"""Arithmetic with broadcasting. The engine sums gradients over broadcast axes, so each ``vjp`` here
is the scalar rule, elementwise.

All raise a ValueError that names the axis where two shapes do not broadcast.
"""

from __future__ import annotations

from typing import Any

from ..backend import Array, array_namespace
from ..registry import op
from ._checks import broadcast_error
from ._types import Vjp


@op("a + b", broadcasts=True)
def add(a: Array, b: Array) -> tuple[Array, Vjp]:
    """``a + b``, elementwise with broadcasting. ``da = dy``, ``db = dy``.

    Raises:
        ValueError: the shapes do not broadcast; the message names the axis.
    """

    def vjp(dy: Array) -> tuple[Array, Array]:
        return dy, dy

    try:
        return a + b, vjp
    except ValueError as error:
        raise broadcast_error("add", error, a, b) from None


@op("a - b", broadcasts=True)
def sub(a: Array, b: Array) -> tuple[Array, Vjp]:
    """``a - b``, elementwise with broadcasting. ``da = dy``, ``db = -dy``.

    Raises:
        ValueError: the shapes do not broadcast; the message names the axis.
    """

    def vjp(dy: Array) -> tuple[Array, Array]:
        return dy, -dy

    try:
        return a - b, vjp
    except ValueError as error:
        raise broadcast_error("sub", error, a, b) from None


@op("a · b", broadcasts=True)
def mul(a: Array, b: Array) -> tuple[Array, Vjp]:
    """``a * b``, elementwise with broadcasting. ``da = dy * b``, ``db = dy * a``.

    Raises:
        ValueError: the shapes do not broadcast; the message names the axis.
    """

    def vjp(dy: Array) -> tuple[Array, Array]:
        return dy * b, dy * a

    try:
        return a * b, vjp
    except ValueError as error:
        raise broadcast_error("mul", error, a, b) from None


@op("a / b", broadcasts=True)
def div(a: Array, b: Array) -> tuple[Array, Vjp]:
    """``a / b``, elementwise with broadcasting. ``da = dy / b``, ``db = -dy * (a / b) / b``.

    Raises:
        ValueError: the shapes do not broadcast; the message names the axis.
    """
    try:
        y = a / b
    except ValueError as error:
        raise broadcast_error("div", error, a, b) from None

    def vjp(dy: Array) -> tuple[Array, Array]:
        da = dy / b
        return da, -(da * y)

    return y, vjp


@op("-x")
def neg(x: Array) -> tuple[Array, Vjp]:
    """``-x``. ``dx = -dy``."""

    def vjp(dy: Array) -> Array:
        return -dy

    return -x, vjp


@op("a ^ b", broadcasts=True)
def pow(a: Array, b: Array) -> tuple[Array, Vjp]:
    """``a ** b``, elementwise with broadcasting.

    ``da = dy * b * a**(b - 1)``, ``db = dy * a**b * ln a``. Where ``b == 0``, ``da`` is 0; where
    ``a == 0``, ``db`` is taken as 0, its limit for ``b > 0``. Of a negative ``a``, only whole
    powers are real (others are NaN), and none has a derivative by ``b``: there ``db`` is NaN, which
    matters only if ``b`` requires a gradient. For a constant exponent see :func:`pow_scalar`.

    Raises:
        ValueError: the shapes do not broadcast; the message names the axis.
    """
    xp = array_namespace(a, b)
    try:
        y = a**b
    except ValueError as error:
        raise broadcast_error("pow", error, a, b) from None

    def vjp(dy: Array) -> tuple[Array, Array]:
        one = xp.ones_like(a)
        da = dy * (b * xp.where(b == 0, one, a) ** (b - 1))
        log_a = xp.log(xp.where(a > 0, a, one))
        db = dy * y * xp.where(a < 0, one * float("nan"), log_a)
        return da, db

    return y, vjp


@op("x ^ n")
def pow_scalar(x: Array, *, exponent: float) -> tuple[Array, Vjp]:
    """``x ** exponent`` for a constant exponent. ``dx = dy * exponent * x**(exponent - 1)``.

    Raises:
        TypeError: the exponent is no number (for an array of exponents there is :func:`pow`).
    """
    if not isinstance(exponent, (int, float)):
        raise TypeError(
            f"pow_scalar: exponent must be a number, got {type(exponent).__name__}; "
            "for an array of exponents use pow(a, b)"
        )
    if not isinstance(exponent, int):
        exponent = float(exponent)  # np.float64 is a float that would widen float32

    def vjp(dy: Array) -> Array:
        if exponent == 0:
            return dy * 0.0
        slope = x if exponent == 2 else x ** (exponent - 1)
        return dy * (exponent * slope)

    return x**exponent, vjp


@op("max(a, b)", broadcasts=True)
def maximum(a: Array, b: Array) -> tuple[Array, Vjp]:
    """The larger of ``a`` and ``b``, elementwise with broadcasting; NaN where either is.

    ``dy`` goes to the larger one; where both are equal, half to each.

    Raises:
        ValueError: the shapes do not broadcast; the message names the axis.
    """
    xp = array_namespace(a, b)
    try:
        y = xp.maximum(a, b)
    except ValueError as error:
        raise broadcast_error("maximum", error, a, b) from None
    return y, lambda dy: _share(xp, a > b, a == b, dy)


@op("min(a, b)", broadcasts=True)
def minimum(a: Array, b: Array) -> tuple[Array, Vjp]:
    """The smaller of ``a`` and ``b``, elementwise with broadcasting; NaN where either is.

    ``dy`` goes to the smaller one; where both are equal, half to each.

    Raises:
        ValueError: the shapes do not broadcast; the message names the axis.
    """
    xp = array_namespace(a, b)
    try:
        y = xp.minimum(a, b)
    except ValueError as error:
        raise broadcast_error("minimum", error, a, b) from None
    return y, lambda dy: _share(xp, a < b, a == b, dy)


def _share(xp: Any, won: Array, tied: Array, dy: Array) -> tuple[Array, Array]:
    """``dy`` to the first input where it won, half of it where both did; the rest to the second."""
    da = xp.where(won, dy, xp.where(tied, dy * 0.5, xp.zeros_like(dy)))
    return da, dy - da
