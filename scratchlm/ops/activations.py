"""Activation functions: elementwise, any shape, the dtype kept.

Each Jacobian is diagonal, so each ``vjp`` is ``dy * f'(x)``; ``swiglu``, of two inputs, has two.
Where ``f'`` is a function of the output (sigmoid, tanh), the output is what backward keeps.
"""

from __future__ import annotations

import math

from ..backend import Array, array_namespace, asarray_like
from ..registry import op
from ._types import Vjp
from .special import erf


def stable_sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))`` with no exponent above 0, hence nothing to overflow.

    For ``x < 0`` the fraction is multiplied through by ``exp(x)``: ``exp(x) / (exp(x) + 1)``. Both
    cases in one are ``exp(min(x, 0)) / (1 + exp(-|x|))``.
    """
    xp = array_namespace(x)
    y = xp.exp(xp.minimum(x, asarray_like(0.0, x, x.dtype)))
    y /= 1.0 + xp.exp(-xp.abs(x))
    return y


def stable_softplus(x: Array) -> Array:
    """``ln(1 + exp(x)) = max(x, 0) + ln(1 + exp(-|x|))``: the larger exponential taken out."""
    xp = array_namespace(x)
    return xp.maximum(x, asarray_like(0.0, x, x.dtype)) + xp.log1p(xp.exp(-xp.abs(x)))


@op("σ(x) = 1 / (1 + exp(-x))")
def sigmoid(x: Array) -> tuple[Array, Vjp]:
    """``y = 1 / (1 + exp(-x))``.

    By the quotient rule ``y' = exp(-x) / (1 + exp(-x))²``, which is ``y * (1 - y)``.
    As printed it overflows for ``x`` below about -88 in float32; here it does not.

    Source: D2 §4.3.1.
    """
    y = stable_sigmoid(x)

    def vjp(dy: Array) -> Array:
        return dy * y * (1.0 - y)

    return y, vjp


@op("tanh(x)")
def tanh(x: Array) -> tuple[Array, Vjp]:
    """``y = (exp(2x) - 1) / (exp(2x) + 1)``; ``y' = 1 - y²``.

    As printed it is inf / inf = NaN for ``x`` above about 44 in float32; here it is 1.

    Source: D2 §4.3.3.
    """
    xp = array_namespace(x)
    y = xp.tanh(x)

    def vjp(dy: Array) -> Array:
        return dy * (1.0 - y * y)

    return y, vjp


@op("relu(x) = max(x, 0)")
def relu(x: Array) -> tuple[Array, Vjp]:
    """``y = max(x, 0)``; ``y' = 1`` where ``x > 0``, else 0: at the kink, where there is no
    derivative, 0 is the custom.

    Source: Nair & Hinton 2010; D2 §4.3.2.
    """
    xp = array_namespace(x)

    def vjp(dy: Array) -> Array:
        return dy * xp.astype(x > 0, x.dtype)

    return xp.maximum(x, asarray_like(0.0, x, x.dtype)), vjp


@op("silu(x) = x · σ(x)")
def silu(x: Array) -> tuple[Array, Vjp]:
    """``y = x * σ(x)``, also called swish. ``y' = σ + x σ (1 - σ) = σ * (1 + x * (1 - σ))``.

    Source: Elfwing 2017; Ramachandran 2017.
    """
    s = stable_sigmoid(x)

    def vjp(dy: Array) -> Array:
        return dy * s * (1.0 + x * (1.0 - s))

    return x * s, vjp


@op("swiglu(a, b) = a · σ(a) · b", broadcasts=True)
def swiglu(a: Array, b: Array) -> tuple[Array, Vjp]:
    """``y = silu(a) * b``: ``b`` passes as far as the gate ``silu(a) = a * σ(a)`` lets it.

    In a gated feed-forward layer, ``a = W x`` and ``b = V x`` are two linear maps of one ``x``, and
    ``W₂ y`` leads back. ``a`` and ``b`` broadcast. By the product rule ``db = dy silu(a)`` and
    ``da = dy b silu'(a)`` with ``silu' = σ * (1 + a * (1 - σ))``.

    Source: Shazeer 2020, eq. 6 (without its three matrices; β = 1).
    """
    s = stable_sigmoid(a)
    gate = a * s

    def vjp(dy: Array) -> tuple[Array, Array]:
        # y = gate b   =>   db = dy gate,  dgate = dy b
        # gate = a s, s' = s (1 - s)   =>   da = dgate (s + a s (1 - s))
        return dy * b * s * (1.0 + a * (1.0 - s)), dy * gate

    return gate * b, vjp


@op("softplus(x) = ln(1 + exp(x))")
def softplus(x: Array) -> tuple[Array, Vjp]:
    """``y = ln(1 + exp(x))``, a smooth relu. ``y' = exp(x) / (1 + exp(x)) = σ(x)``.

    Source: Dugas 2001.
    """

    def vjp(dy: Array) -> Array:
        return dy * stable_sigmoid(x)

    return stable_softplus(x), vjp


@op("gelu(x) = x · Φ(x)")
def gelu(x: Array, *, approximate: str = "none") -> tuple[Array, Vjp]:
    """``y = x * Φ(x)``, with ``Φ`` the distribution function of the standard normal.

    ``approximate="none"``: ``Φ(x) = (1 + erf(x / sqrt(2))) / 2``, so ``y' = Φ(x) + x φ(x)`` with
    the density ``φ(x) = exp(-x² / 2) / sqrt(2π)``.

    ``approximate="tanh"`` (GPT-2's): ``Φ(x) ≈ (1 + t) / 2``, ``t = tanh(u)``,
    ``u = sqrt(2/π) * (x + 0.044715 x³)``. Then ``y' = (1 + t) / 2 + x (1 - t²) u' / 2`` with
    ``u' = sqrt(2/π) * (1 + 3 * 0.044715 x²)``; ``t`` is kept, no second tanh.

    Raises:
        ValueError: another ``approximate``.

    Source: Hendrycks & Gimpel 2016, §2.
    """
    if approximate == "tanh":
        return _gelu_tanh(x)
    if approximate != "none":
        raise ValueError(f"gelu: approximate is {approximate!r}; it may be 'none' or 'tanh'")
    xp = array_namespace(x)
    cdf = erf(x * math.sqrt(0.5))
    cdf += 1.0
    cdf *= 0.5

    def vjp(dy: Array) -> Array:
        # y = x Φ(x)   =>   dx = dy (Φ(x) + x φ(x))
        slope = xp.exp(-0.5 * x * x)
        slope *= 1 / math.sqrt(2 * math.pi)
        slope *= x
        slope += cdf
        slope *= dy
        return slope

    return x * cdf, vjp


def _gelu_tanh(x: Array) -> tuple[Array, Vjp]:
    # Each line works in place on an array made here: on long arrays, memory is what takes the time.
    xp = array_namespace(x)
    c = math.sqrt(2 / math.pi)
    t = x * x
    t *= 0.044715 * c
    t += c
    t *= x
    t = xp.tanh(t)  # tanh(c x + 0.044715 c x³)
    y = t + 1.0
    y *= x
    y *= 0.5

    def vjp(dy: Array) -> Array:
        # t = tanh(u)   =>   dt/dx = (1 - t²) u'
        du = x * x
        du *= 3 * 0.044715 * c
        du += c
        dx = t * t
        dx -= 1.0
        dx *= du  # -dt/dx
        # y = x (1 + t) / 2   =>   dx = dy (1 + t + x dt/dx) / 2
        dx *= x
        dx -= t
        dx -= 1.0  # -(1 + t + x dt/dx)
        dx *= dy
        dx *= -0.5
        return dx

    return y, vjp
