"""Softmax, its logarithm, and log-sum-exp, stable at any size of logit."""

from __future__ import annotations

from ..backend import Array, array_namespace
from ..registry import op
from ._types import Vjp


def stable_exp(x: Array, axis: int) -> tuple[Array, Array]:
    """``(exp(x - m), m)`` with ``m`` the maximum along ``axis``, 0 where that is -inf.

    Subtracting the maximum changes no softmax, and leaves no exponent above 0 to overflow. A row of
    -inf only (nothing to attend to) gives zeros, not NaN.
    """
    xp = array_namespace(x)
    m = xp.max(x, axis=axis, keepdims=True)
    m = xp.where(xp.isfinite(m), m, xp.zeros_like(m))
    e = x - m
    return xp.exp(e), m


@op("y = softmax(x),  yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)")
def softmax(x: Array, *, axis: int = -1) -> tuple[Array, Vjp]:
    r"""``y_i = exp(x_i) / sum_j exp(x_j)`` along ``axis``; any shape, floating.

    The Jacobian is ``diag(y) - y yᵀ``, so ``dx = y * (dy - sum(dy * y))``: one dot product for each
    row, no matrix. A row of -inf only gives zeros.

    Source: Bridle 1990; D1, D3, D4 §4.1 as part of attention.
    """
    xp = array_namespace(x)
    y, _ = stable_exp(x, axis)
    total = xp.sum(y, axis=axis, keepdims=True)
    y = y / xp.where(total == 0, xp.ones_like(total), total)

    def vjp(dy: Array) -> Array:
        return y * (dy - xp.sum(dy * y, axis=axis, keepdims=True))

    return y, vjp


@op("y = ln softmax(x)")
def log_softmax(x: Array, *, axis: int = -1) -> tuple[Array, Vjp]:
    """``y_i = x_i - ln sum_j exp(x_j)`` along ``axis``. ``dx = dy - softmax(x) * sum(dy)``."""
    xp = array_namespace(x)
    e, m = stable_exp(x, axis)
    y = x - (m + xp.log(xp.sum(e, axis=axis, keepdims=True)))

    def vjp(dy: Array) -> Array:
        return dy - xp.exp(y) * xp.sum(dy, axis=axis, keepdims=True)

    return y, vjp


@op("y = ln Σⱼ exp(xⱼ)")
def logsumexp(x: Array, *, axis: int = -1, keepdims: bool = False) -> tuple[Array, Vjp]:
    """``y = ln sum_j exp(x_j)`` along ``axis``. ``dx = dy * softmax(x)``; -inf for a row of -inf."""
    xp = array_namespace(x)
    e, m = stable_exp(x, axis)
    total = xp.sum(e, axis=axis, keepdims=True)
    y = m + xp.log(total)
    p = e / xp.where(total == 0, xp.ones_like(total), total)

    def vjp(dy: Array) -> Array:
        return (dy if keepdims else xp.expand_dims(dy, axis=axis)) * p

    return y if keepdims else xp.squeeze(y, axis=axis), vjp
