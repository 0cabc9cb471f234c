"""The affine map of the last axis."""

from __future__ import annotations

import math

from ..backend import Array, array_namespace
from ..registry import op
from ._types import Vjp


@op("y = x Wᵀ + b")
def linear(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, Vjp]:
    """``y = x Wᵀ + b`` over the last axis.

    Shapes: x ``[..., in]``, weight ``[out, in]``, bias ``[out]`` or None -> y ``[..., out]``.
    All axes but the last are rows of one matrix, so that forward is one matrix product and backward
    two. With ``y[n, o] = sum_i x[n, i] W[o, i] + b[o]``::

        dx[n, i] = sum_o dy[n, o] W[o, i]      dx = dy W
        dW[o, i] = sum_n dy[n, o] x[n, i]      dW = dyᵀ x
        db[o]    = sum_n dy[n, o]              one bias serves every row, so its gradient adds up

    Raises:
        ValueError: shapes that do not fit.

    Source: D5 §4.1 (one layer, ``σ(W x + b)``); PyTorch's layout of W.
    """
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: x {tuple(x.shape)} and weight {tuple(weight.shape)}: the last axis of x must "
            "be as long as the last of weight, which is (out, in)"
        )
    outs, ins = weight.shape
    if bias is not None and bias.shape != (outs,):
        raise ValueError(
            f"linear: bias has shape {tuple(bias.shape)}, weight {tuple(weight.shape)}: bias must "
            f"be ({outs},), one for each output"
        )
    xp = array_namespace(x, weight, bias)
    rows = math.prod(x.shape[:-1])
    x2 = xp.reshape(x, (rows, ins))
    y = x2 @ weight.T  # [N, in] [in, out] -> [N, out]
    if bias is not None and bias.dtype == y.dtype:
        y += bias  # y was made here, so it may be changed in place
    elif bias is not None:
        y = y + bias

    def vjp(dy: Array) -> tuple[Array | None, ...]:
        dy2 = xp.reshape(dy, (rows, outs))
        dx = xp.reshape(dy2 @ weight, x.shape)  # [N, out] [out, in] -> [N, in]
        dweight = dy2.T @ x2  # [out, N] [N, in] -> [out, in]
        return dx, dweight, None if bias is None else xp.sum(dy2, axis=0)

    return xp.reshape(y, (*x.shape[:-1], outs)), vjp
