"""Arithmetic with broadcasting. The engine sums gradients over broadcast axes, so each ``vjp`` here is
the scalar rule, elementwise."""

from __future__ import annotations

from ..backend import Array, array_namespace
from ..registry import op
from ._types import Vjp


@op("a + b", broadcasts=True)
def add(a: Array, b: Array) -> tuple[Array, Vjp]:
    """``a + b``, elementwise with broadcasting. ``da = dy``, ``db = dy``."""

    def vjp(dy: Array) -> tuple[Array, Array]:
        return dy, dy

    return a + b, vjp


@op("a - b", broadcasts=True)
def sub(a: Array, b: Array) -> tuple[Array, Vjp]:
    """``a - b``, elementwise with broadcasting. ``da = dy``, ``db = -dy``."""

    def vjp(dy: Array) -> tuple[Array, Array]:
        return dy, -dy

    return a - b, vjp


@op("a · b", broadcasts=True)
def mul(a: Array, b: Array) -> tuple[Array, Vjp]:
    """``a * b``, elementwise with broadcasting. ``da = dy * b``, ``db = dy * a``."""

    def vjp(dy: Array) -> tuple[Array, Array]:
        return dy * b, dy * a

    return a * b, vjp


@op("a / b", broadcasts=True)
def div(a: Array, b: Array) -> tuple[Array, Vjp]:
    """``a / b``, elementwise with broadcasting. ``da = dy / b``, ``db = -dy * (a / b) / b``."""
    y = a / b

    def vjp(dy: Array) -> tuple[Array, Array]:
        da = dy / b
        return da, -da * y

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

    ``da = dy * b * a**(b - 1)``, ``db = dy * a**b * ln a``. Where ``a == 0`` the gradient of ``b`` is
    taken as 0 (its limit for ``b > 0``), and where ``b == 0`` that of ``a`` is 0. For ``a < 0`` only
    integer ``b`` have a real result; ``ln a`` and with it ``db`` is NaN there.
    """
    xp = array_namespace(a, b)
    y = a**b

    def vjp(dy: Array) -> tuple[Array, Array]:
        one = xp.ones_like(a)
        da = dy * xp.where(b == 0, xp.zeros_like(b), b * xp.where(b == 0, one, a) ** (b - 1))
        db = dy * y * xp.log(xp.where(a == 0, one, a))
        return da, db

    return y, vjp


@op("x ^ n")
def pow_scalar(x: Array, *, exponent: float) -> tuple[Array, Vjp]:
    """``x ** exponent`` for a constant exponent. ``dx = dy * exponent * x**(exponent - 1)``."""

    def vjp(dy: Array) -> Array:
        if exponent == 0:
            return dy * 0.0
        return dy * (exponent * x ** (exponent - 1))

    return x**exponent, vjp
