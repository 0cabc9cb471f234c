"""Normalization over the last axis: layer norm and RMS norm."""

from __future__ import annotations

from typing import Any

from ..backend import Array, array_namespace
from ..registry import op
from ._types import Vjp


@op("y = (x - μ) / √(σ² + ε) · w + b")
def layer_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, *, eps: float = 1e-5
) -> tuple[Array, Vjp]:
    """``y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias`` over the last axis.

    Shapes: x ``[..., d]``, weight and bias ``[d]`` or None. The variance is ``mean((x - mean)²)``,
    divided by d and not by d - 1, and ``eps`` stands under the root.

    Derivation, for one row, with ``r = 1 / sqrt(var + eps)``, ``n = (x - mean) r``, and the
    cotangent of n, ``g = dy * weight``. As the deviations ``x - mean`` add up to 0,
    ``dvar/dx_i = 2 (x_i - mean) / d``, hence ``dr/dx_i = -r³ (x_i - mean) / d = -r² n_i / d`` and::

        dn_j/dx_i = r (δ_ij - 1/d) + (x_j - mean) dr/dx_i = r (δ_ij - 1/d - n_i n_j / d)
        dx_i      = sum_j g_j dn_j/dx_i = r (g_i - mean(g) - n_i mean(g n))
        dweight   = sum over rows of dy * n
        dbias     = sum over rows of dy

    So the gradient loses its mean and its part along n: a layer norm sees neither a shift nor (but
    for eps) a stretch of its input, and passes no gradient in those two directions.

    Raises:
        ValueError: weight or bias not of shape ``(d,)``, or ``d == 0``.

    Source: Ba, Kiros & Hinton 2016, eq. 3 and 4; named without formula in D1 §4.1.3.
    """
    width = _check("layer_norm", x, weight=weight, bias=bias)
    xp = array_namespace(x, weight, bias)
    n = x - xp.mean(x, axis=-1, keepdims=True)
    r = (_row_dot(xp, n, n) / width + eps) ** -0.5  # [..., 1]
    n *= r
    y = n if weight is None else n * weight
    if bias is not None:
        y = y + bias

    def vjp(dy: Array) -> tuple[Array | None, ...]:
        rows = tuple(range(x.ndim - 1))
        dbias = None if bias is None else xp.sum(dy, axis=rows)
        # y = n w   =>   dw = sum dy n,  g = dy w
        dweight = None if weight is None else xp.sum(dy * n, axis=rows)
        g = dy if weight is None else dy * weight
        # n = (x - mean) r   =>   dx = r (g - mean(g) - n mean(g n))
        dx = g - xp.mean(g, axis=-1, keepdims=True)
        dx -= n * (_row_dot(xp, g, n) / width)
        dx *= r
        return dx, dweight, dbias

    return y, vjp


@op("y = x / √(mean(x²) + ε) · w")
def rms_norm(x: Array, weight: Array | None = None, *, eps: float = 1e-6) -> tuple[Array, Vjp]:
    """``y = x / sqrt(mean(x²) + eps) * weight`` over the last axis: layer norm without the mean.

    Shapes: x ``[..., d]``, weight ``[d]`` or None.

    Derivation, for one row, with ``r = 1 / sqrt(mean(x²) + eps)``, ``n = x r`` and
    ``g = dy * weight``. As ``dr/dx_i = -r³ x_i / d = -r² n_i / d``::

        dn_j/dx_i = r δ_ij + x_j dr/dx_i = r (δ_ij - n_i n_j / d)
        dx_i    = sum_j g_j dn_j/dx_i = r (g_i - n_i mean(g n))
        dweight = sum over rows of dy * n

    Raises:
        ValueError: weight not of shape ``(d,)``, or ``d == 0``.

    Source: Zhang & Sennrich 2019, eq. 4.
    """
    width = _check("rms_norm", x, weight=weight)
    xp = array_namespace(x, weight)
    r = (_row_dot(xp, x, x) / width + eps) ** -0.5  # [..., 1]
    n = x * r
    y = n if weight is None else n * weight

    def vjp(dy: Array) -> tuple[Array | None, ...]:
        dweight = None if weight is None else xp.sum(dy * n, axis=tuple(range(x.ndim - 1)))
        g = dy if weight is None else dy * weight
        dx = g - n * (_row_dot(xp, g, n) / width)
        dx *= r
        return dx, dweight

    return y, vjp


def _row_dot(xp: Any, a: Array, b: Array) -> Array:
    """``sum(a * b)`` over the last axis, kept, without an array for the product."""
    return xp.expand_dims(xp.vecdot(a, b, axis=-1), axis=-1)


def _check(name: str, x: Array, **parameters: Array | None) -> int:
    width = x.shape[-1] if x.ndim else 0
    if not width:
        raise ValueError(
            f"{name}: x has shape {tuple(x.shape)}: there is no last axis to normalize over"
        )
    for which, parameter in parameters.items():
        if parameter is not None and parameter.shape != (width,):
            raise ValueError(
                f"{name}: {which} has shape {tuple(parameter.shape)}, x {tuple(x.shape)}: {which} "
                f"must be ({width},), as long as the last axis of x"
            )
    return width
