"""Softmax over the last axis: maximum, exponentials and quotient while a row is in the cache.

Saved for backward is the result, ``dx = y (dy - sum(dy y))``, also a row at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiling import kernel
from .simd import exp, row_max
from .threads import share
from .waiting import take

CHUNK = 1 << 12  # numbers of a piece, in whole rows
SMALL = 1 << 15


@kernel(lambda t: (t.counter, t.integer, t.integer, t.dense(2), t.own(2)))
def forward(counter, pieces, rows, x, y):
    """Each piece: ``rows`` rows. A row of -inf only gives zeros, NaN or +inf a row of NaN."""
    zero, one = y.dtype.type(0), y.dtype.type(1)
    nothing = y.dtype.type(-np.inf)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        for i in range(piece * rows, min(x.shape[0], (piece + 1) * rows)):
            row, out = x[i], y[i]
            m = row_max(row)
            if m == nothing:
                m = zero
            total = zero
            for j in range(row.size):
                p = exp(row[j] - m)
                out[j] = p
                total += p
            part = one / total if total != zero else zero
            for j in range(row.size):
                out[j] *= part


@kernel(lambda t: (t.counter, t.integer, t.integer, *(t.dense(2),) * 2, t.own(2)))
def backward(counter, pieces, rows, y, dy, dx):
    """Each piece: ``rows`` rows."""
    zero = dx.dtype.type(0)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        for i in range(piece * rows, min(y.shape[0], (piece + 1) * rows)):
            row, drow, out = y[i], dy[i], dx[i]
            total = zero
            for j in range(row.size):
                total += row[j] * drow[j]
            for j in range(row.size):
                out[j] = row[j] * (drow[j] - total)


def softmax(x: np.ndarray, *, axis: int = -1) -> tuple[np.ndarray, Any]:
    """Over the last axis, however it is called; x is not empty."""
    dtype, width = x.dtype, x.shape[-1]
    x2 = np.ascontiguousarray(x).reshape(-1, width)
    y = np.empty(x2.shape, dtype)
    rows = -(-CHUNK // width)
    pieces, small = -(-x2.shape[0] // rows), x.size < SMALL
    share(forward[dtype], pieces, rows, x2, y, small=small)
    out = y.reshape(x.shape)

    def vjp(dy: np.ndarray) -> np.ndarray:
        dx = np.empty(x2.shape, dtype)
        dy2 = np.ascontiguousarray(dy).reshape(x2.shape)
        share(backward[dtype], pieces, rows, y, dy2, dx, small=small)
        return dx.reshape(x.shape)

    return out, vjp
