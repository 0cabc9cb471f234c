"""Erf, which neither the array API standard nor NumPy has."""

from __future__ import annotations

import math

from ..backend import Array, array_namespace, asarray_like

# W. J. Cody, "Rational Chebyshev Approximations for the Error Function", Math. Comp. 23 (1969)
# 631-637, with the coefficients of his program CALERF (1990). Each row is a polynomial, highest
# power first: numerator, then denominator.
_SMALL = (  # erf(x) / x in x², |x| <= 0.46875
    (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2,
     3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
     2.84423683343917062e3),
)  # fmt: skip
_MIDDLE = (  # exp(x²) erfc(x) in x, 0.46875 <= x <= 4
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1,
     2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
     1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
     1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3,
     1.23033935480374942e3),
)  # fmt: skip
_LARGE = (  # (1/sqrt(pi) - x exp(x²) erfc(x)) x² in 1/x², x >= 4
    (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
     1.60837851487422766e-2, 6.58749161529837803e-4),
    (1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1, 6.05183413124413191e-2,
     2.33520497626869185e-3),
)  # fmt: skip
_INVERSE_SQRT_PI = 1 / math.sqrt(math.pi)


def erf(x: Array) -> Array:
    """The error function, ``2 / sqrt(π)`` times the integral of ``exp(-t²)`` from 0 to x.

    Three rational functions, one for each range of ``|x|``: near 0 one for ``erf(x) / x``, so that
    small results keep their relative accuracy; further out two for ``erfc = 1 - erf``. All of them
    are evaluated everywhere, on arguments moved into their range, and the right one is picked.
    Correct to a few units in the last place; any shape, the dtype kept.

    Source: Cody 1969.
    """
    xp = array_namespace(x)
    first, second, enough = (asarray_like(edge, x, x.dtype) for edge in (0.46875, 4.0, 6.0))
    size = xp.minimum(xp.abs(x), enough)  # erf(6) is 1 but for 2e-17

    t = xp.minimum(size, first)
    near = t * _ratio(_SMALL, t * t)

    t = xp.minimum(size, second)
    tail = _ratio(_MIDDLE, t)
    if xp.finfo(x.dtype).bits > 32:  # in float32, erf(4) is 1 already
        t = xp.maximum(size, second)
        u = 1.0 / (t * t)
        tail = _pick(size <= second, tail, (_INVERSE_SQRT_PI - u * _ratio(_LARGE, u)) / t)
    # Where x² is large enough for its rounding to matter in exp, erfc is small beside 1.
    outer = 1.0 - xp.exp(-size * size) * tail

    return xp.sign(x) * _pick(size <= first, near, outer)


def _pick(condition: Array, a: Array, b: Array) -> Array:
    """``where(condition, a, b)`` of finite arrays.

    NumPy's ``where`` branches on every element, and where the branches come in no order that takes
    ten times as long as two products.
    """
    xp = array_namespace(a)
    one = xp.astype(condition, a.dtype)
    return a * one + b * (1.0 - one)


def _ratio(polynomials: tuple[tuple[float, ...], tuple[float, ...]], t: Array) -> Array:
    numerator, denominator = polynomials
    return _polynomial(numerator, t) / _polynomial(denominator, t)


def _polynomial(coefficients: tuple[float, ...], t: Array) -> Array:
    """Horner's rule, highest power first."""
    first, second, *rest = coefficients
    value = t * first
    value += second
    for coefficient in rest:
        value *= t
        value += coefficient
    return value
