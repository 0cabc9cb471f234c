"""Layer norm and RMS norm: each row is fetched once forward, and once backward.

Saved for backward are ``r = 1 / sqrt(var + eps)`` of each row and, for a layer norm, its mean; the
normalized row ``n = (x - mean) r`` is made again. The gradients of weight and bias are sums over
rows: each piece of ``ROWS`` rows adds up its own, and these are added at the end, in the same order
however many threads there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiling import kernel
from .threads import share
from .waiting import take

ROWS = 64
SMALL = 1 << 15


@kernel(lambda t: (t.counter, t.integer, t.dense(2), t.dense(1), t.dense(1), t.own(2), t.own(1),
                   t.own(1), t.real))  # fmt: skip
def forward(counter, pieces, x, weight, bias, y, mean, scale, eps):
    """Each piece: ROWS rows."""
    rows, width = x.shape
    real = y.dtype.type
    zero, one, count = real(0), real(1), real(width)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        for i in range(piece * ROWS, min(rows, (piece + 1) * ROWS)):
            row, out = x[i], y[i]
            total = zero
            for j in range(width):
                total += row[j]
            m = total / count
            square = zero
            for j in range(width):
                d = row[j] - m
                square += d * d
            r = one / np.sqrt(square / count + eps)
            for j in range(width):
                out[j] = (row[j] - m) * r * weight[j] + bias[j]
            mean[i] = m
            scale[i] = r


@kernel(lambda t: (t.counter, t.integer, t.dense(2), t.dense(2), t.dense(1), t.own(1), t.own(1),
                   t.own(2), t.own(2), t.own(2)))  # fmt: skip
def backward(counter, pieces, x, dy, weight, mean, scale, dx, dweight, dbias):
    """Each piece: ROWS rows, and their part of dweight and dbias."""
    rows, width = x.shape
    zero, count = dx.dtype.type(0), dx.dtype.type(width)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        dw, db = dweight[piece], dbias[piece]
        for j in range(width):
            dw[j] = zero
            db[j] = zero
        for i in range(piece * ROWS, min(rows, (piece + 1) * ROWS)):
            row, drow, out = x[i], dy[i], dx[i]
            m, r = mean[i], scale[i]
            sum_g, sum_gn = zero, zero
            for j in range(width):
                n = (row[j] - m) * r
                g = drow[j] * weight[j]
                sum_g += g
                sum_gn += g * n
            sum_g /= count
            sum_gn /= count
            for j in range(width):
                n = (row[j] - m) * r
                out[j] = r * (drow[j] * weight[j] - sum_g - n * sum_gn)
                dw[j] += drow[j] * n
                db[j] += drow[j]


def layer_norm(
    x: np.ndarray,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    *,
    eps: float = 1e-5,
) -> tuple[np.ndarray, Any]:
    """Over the last axis; x is not empty."""
    dtype, width = x.dtype, x.shape[-1]
    x2 = np.ascontiguousarray(x).reshape(-1, width)
    rows = x2.shape[0]
    w = np.ones(width, dtype) if weight is None else np.ascontiguousarray(weight)
    b = np.zeros(width, dtype) if bias is None else np.ascontiguousarray(bias)
    y = np.empty((rows, width), dtype)
    mean, scale = np.empty(rows, dtype), np.empty(rows, dtype)
    pieces, small = -(-rows // ROWS), x.size < SMALL
    share(forward[dtype], pieces, x2, w, b, y, mean, scale, dtype.type(eps), small=small)

    def vjp(dy: np.ndarray) -> tuple[np.ndarray | None, ...]:
        dx = np.empty((rows, width), dtype)
        dw, db = np.empty((pieces, width), dtype), np.empty((pieces, width), dtype)
        dy2 = np.ascontiguousarray(dy).reshape(rows, width)
        share(backward[dtype], pieces, x2, dy2, w, mean, scale, dx, dw, db, small=small)
        return (
            dx.reshape(x.shape),
            None if weight is None else dw.sum(axis=0),
            None if bias is None else db.sum(axis=0),
        )

    return y.reshape(x.shape), vjp


@kernel(lambda t: (t.counter, t.integer, t.dense(2), t.dense(1), t.own(2), t.own(1),
                   t.real))  # fmt: skip
def rms_forward(counter, pieces, x, weight, y, scale, eps):
    """Each piece: ROWS rows."""
    rows, width = x.shape
    real = y.dtype.type
    zero, one, count = real(0), real(1), real(width)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        for i in range(piece * ROWS, min(rows, (piece + 1) * ROWS)):
            row, out = x[i], y[i]
            square = zero
            for j in range(width):
                square += row[j] * row[j]
            r = one / np.sqrt(square / count + eps)
            for j in range(width):
                out[j] = row[j] * r * weight[j]
            scale[i] = r


@kernel(lambda t: (t.counter, t.integer, t.dense(2), t.dense(2), t.dense(1), t.own(1), t.own(2),
                   t.own(2)))  # fmt: skip
def rms_backward(counter, pieces, x, dy, weight, scale, dx, dweight):
    """Each piece: ROWS rows, and their part of dweight."""
    rows, width = x.shape
    zero, count = dx.dtype.type(0), dx.dtype.type(width)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        dw = dweight[piece]
        for j in range(width):
            dw[j] = zero
        for i in range(piece * ROWS, min(rows, (piece + 1) * ROWS)):
            row, drow, out = x[i], dy[i], dx[i]
            r = scale[i]
            sum_gn = zero
            for j in range(width):
                sum_gn += drow[j] * weight[j] * (row[j] * r)
            sum_gn /= count
            for j in range(width):
                n = row[j] * r
                out[j] = r * (drow[j] * weight[j] - n * sum_gn)
                dw[j] += drow[j] * n


def rms_norm(
    x: np.ndarray, weight: np.ndarray | None = None, *, eps: float = 1e-6
) -> tuple[np.ndarray, Any]:
    """Over the last axis; x is not empty."""
    dtype, width = x.dtype, x.shape[-1]
    x2 = np.ascontiguousarray(x).reshape(-1, width)
    rows = x2.shape[0]
    w = np.ones(width, dtype) if weight is None else np.ascontiguousarray(weight)
    y, scale = np.empty((rows, width), dtype), np.empty(rows, dtype)
    pieces, small = -(-rows // ROWS), x.size < SMALL
    share(rms_forward[dtype], pieces, x2, w, y, scale, dtype.type(eps), small=small)

    def vjp(dy: np.ndarray) -> tuple[np.ndarray | None, ...]:
        dx, dw = np.empty((rows, width), dtype), np.empty((pieces, width), dtype)
        dy2 = np.ascontiguousarray(dy).reshape(rows, width)
        share(rms_backward[dtype], pieces, x2, dy2, w, scale, dx, dw, small=small)
        return dx.reshape(x.shape), None if weight is None else dw.sum(axis=0)

    return y.reshape(x.shape), vjp
