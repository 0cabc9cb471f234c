"""Softmax, its logarithm, and log-sum-exp, stable at any size of logit.

All raise a ValueError for an axis that is not there. Of an empty row, as of one of -inf only, the
sum of exponentials is 0, and its logarithm -inf.
"""

from __future__ import annotations

from typing import Any

from ..backend import Array, array_namespace
from ..registry import op
from ._checks import normalize_axis
from ._types import Vjp


def stable_exp(xp: Any, x: Array, axis: int) -> tuple[Array, Array, Array, Array]:
    """``e = exp(x - m)``, ``m``, and ``sum(e)``, 0 as 1; and where it is 0.

    ``m`` is the maximum along ``axis``. Subtracting it changes no softmax, and leaves no exponent
    above 0 to overflow. A row of -inf only (nothing to attend to) has ``m = 0`` and no NaN; its sum
    is the only one under 1, and counts as 1, so that it may divide.
    """
    if x.shape[axis]:
        m = xp.max(x, axis=axis, keepdims=True)
        m = xp.where(xp.isfinite(m), m, xp.zeros_like(m))
    else:
        m = xp.sum(x, axis=axis, keepdims=True)  # an empty row has no maximum
    e = xp.exp(x - m)
    total = xp.sum(e, axis=axis, keepdims=True)
    blind = total == 0
    return e, m, xp.where(blind, xp.ones_like(total), total), blind


@op("y = softmax(x),  yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)")
def softmax(x: Array, *, axis: int = -1) -> tuple[Array, Vjp]:
    r"""``y_i = exp(x_i) / sum_j exp(x_j)`` along ``axis``; any shape, floating.

    The Jacobian is ``diag(y) - y yᵀ``, so ``dx = y * (dy - sum(dy * y))``: one dot product for each
    row, no matrix. A row of -inf only gives zeros.

    Raises:
        ValueError: there is no such axis.

    Source: Bridle 1990; D1, D3, D4 §4.1 as part of attention.
    """
    xp = array_namespace(x)
    axis = normalize_axis("softmax", x, axis)
    y, _, total, _ = stable_exp(xp, x, axis)
    y /= total

    def vjp(dy: Array) -> Array:
        return y * (dy - xp.sum(dy * y, axis=axis, keepdims=True))

    return y, vjp


@op("y = ln softmax(x)")
def log_softmax(x: Array, *, axis: int = -1) -> tuple[Array, Vjp]:
    """``y_i = x_i - ln sum_j exp(x_j)`` along ``axis``; any shape, floating.

    ``dx = dy - softmax(x) * sum(dy)``. Where softmax is 0, as in a row of -inf only, ``y`` is -inf.

    Raises:
        ValueError: there is no such axis.
    """
    xp = array_namespace(x)
    axis = normalize_axis("log_softmax", x, axis)
    _, m, total, _ = stable_exp(xp, x, axis)
    y = x - (m + xp.log(total))

    def vjp(dy: Array) -> Array:
        return dy - xp.exp(y) * xp.sum(dy, axis=axis, keepdims=True)

    return y, vjp


@op("y = ln Σⱼ exp(xⱼ)")
def logsumexp(x: Array, *, axis: int = -1, keepdims: bool = False) -> tuple[Array, Vjp]:
    """``y = ln sum_j exp(x_j)`` along ``axis``; any shape, floating.

    ``dx = dy * softmax(x)``. A row of -inf only gives -inf, and its gradient is 0.

    Raises:
        ValueError: there is no such axis.
    """
    xp = array_namespace(x)
    axis = normalize_axis("logsumexp", x, axis)
    e, m, total, blind = stable_exp(xp, x, axis)
    y = m + xp.where(blind, xp.ones_like(total) * float("-inf"), xp.log(total))

    def vjp(dy: Array) -> Array:
        return (dy if keepdims else xp.expand_dims(dy, axis=axis)) * (e / total)

    return y if keepdims else xp.squeeze(y, axis=axis), vjp
