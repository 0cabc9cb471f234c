"""Functions of each element by itself."""

from __future__ import annotations

from typing import Any

from ..backend import Array, array_namespace
from ..registry import op
from ._checks import broadcast_error
from ._types import Vjp


@op("exp(x)")
def exp(x: Array) -> tuple[Array, Vjp]:
    """``e ** x``. ``dx = dy * exp(x)``: the result is its own derivative."""
    y = array_namespace(x).exp(x)

    def vjp(dy: Array) -> Array:
        return dy * y

    return y, vjp


@op("ln x")
def log(x: Array) -> tuple[Array, Vjp]:
    """The natural logarithm. ``dx = dy / x``. NaN for ``x < 0``, -inf at 0."""
    y = array_namespace(x).log(x)

    def vjp(dy: Array) -> Array:
        return dy / x

    return y, vjp


@op("√x")
def sqrt(x: Array) -> tuple[Array, Vjp]:
    """The square root. ``dx = dy / (2 * sqrt(x))``, infinite at 0. NaN for ``x < 0``."""
    y = array_namespace(x).sqrt(x)

    def vjp(dy: Array) -> Array:
        return dy * 0.5 / y

    return y, vjp


@op("|x|")
def abs(x: Array) -> tuple[Array, Vjp]:
    """The absolute value. ``dx = dy * sign(x)``; at the kink, ``x == 0``, that is 0."""
    xp = array_namespace(x)

    def vjp(dy: Array) -> Array:
        return dy * xp.sign(x)

    return xp.abs(x), vjp


@op("sin x")
def sin(x: Array) -> tuple[Array, Vjp]:
    """The sine of an angle in radians. ``dx = dy * cos(x)``."""
    xp = array_namespace(x)

    def vjp(dy: Array) -> Array:
        return dy * xp.cos(x)

    return xp.sin(x), vjp


@op("cos x")
def cos(x: Array) -> tuple[Array, Vjp]:
    """The cosine of an angle in radians. ``dx = -dy * sin(x)``."""
    xp = array_namespace(x)

    def vjp(dy: Array) -> Array:
        return -dy * xp.sin(x)

    return xp.cos(x), vjp


@op("min(max(x, lo), hi)")
def clip(x: Array, *, min: float | None = None, max: float | None = None) -> tuple[Array, Vjp]:
    """``x`` limited to ``[min, max]``; either bound may be left out.

    ``dx = dy`` where ``min <= x <= max``, else 0: a value that is cut off feels no small change.

    Raises:
        ValueError: no bound, or ``min > max``.
        TypeError: a bound is no number.
    """
    lower, upper = _bound("min", min), _bound("max", max)
    if lower is None and upper is None:
        raise ValueError("clip: neither min nor max is given; give at least one of them")
    if lower is not None and upper is not None and lower > upper:
        raise ValueError(f"clip: min={lower} is above max={upper}; exchange them")
    xp = array_namespace(x)

    def vjp(dy: Array) -> Array:
        if lower is None:
            inside = x <= upper
        elif upper is None:
            inside = x >= lower
        else:
            inside = (x >= lower) & (x <= upper)
        return xp.where(inside, dy, xp.zeros_like(dy))

    return xp.clip(x, lower, upper), vjp


def _bound(name: str, value: Any) -> float | None:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return float(value)  # np.float64 is a float that would widen float32
    raise TypeError(
        f"clip: {name} must be a number, got {type(value).__name__}; "
        "for a bound that is an array use maximum and minimum"
    )


@op("c ? x : y", broadcasts=True)
def where(x: Array, y: Array, *, condition: Array) -> tuple[Array, Vjp]:
    """``x`` where ``condition`` (boolean) holds, else ``y``; all three broadcast.

    With ``dout`` the cotangent of the result, ``dx`` is ``dout`` where the condition holds and 0
    elsewhere, and ``dy`` the other way round. A NaN that is not chosen gets 0 here, but the op that
    made it may turn that into NaN again (0 * inf): guard its input, ``log(where(x, 1, ...))``.

    Raises:
        TypeError: the condition is not boolean.
        ValueError: the shapes do not broadcast.
    """
    xp = array_namespace(x, y, condition)
    if not xp.isdtype(condition.dtype, "bool"):
        raise TypeError(
            f"where: condition must be boolean, got {condition.dtype}; compare, as in x > 0"
        )
    try:
        out = xp.where(condition, x, y)
    except ValueError as error:
        raise broadcast_error("where", error, condition, x, y) from None

    def vjp(dout: Array) -> tuple[Array, Array]:
        nothing = xp.zeros_like(dout)
        return xp.where(condition, dout, nothing), xp.where(condition, nothing, dout)

    return out, vjp


@op("x as another dtype")
def astype(x: Array, *, dtype: Any) -> tuple[Array, Vjp]:
    """``x`` in another dtype (itself if it has that already). ``dx = dy`` in the dtype of ``x``.

    Raises:
        TypeError: ``dtype`` is none of the floating, integer and boolean ones.
    """
    xp = array_namespace(x)
    try:
        y = xp.astype(x, dtype, copy=False)
    except TypeError:
        raise TypeError(f"astype: {dtype!r} is no dtype; use e.g. 'float32'") from None
    if not xp.isdtype(y.dtype, ("bool", "integral", "real floating")):
        raise TypeError(f"astype: {y.dtype} is no dtype of a tensor; use e.g. 'float32' or 'int64'")

    former = x.dtype

    def vjp(dy: Array) -> Array:
        return xp.astype(dy, former, copy=False)

    return y, vjp
