"""GELU in its tanh form, in one walk over the array each way.

``(1 + tanh u) / 2`` is ``s = 1 / (1 + exp(-2u))``, so ``y = x s`` and, with
``u = c (x + 0.044715 x³)`` and ``c = sqrt(2/π)``, ``dx = dy s (1 + 2 x (1 - s) u')``. Backward
makes s again from x: an exponential costs less than to store one number and fetch it back.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .compiling import inline, kernel
from .simd import exp, take
from .threads import share

CHUNK = 1 << 14
SMALL = 1 << 18
_C = math.sqrt(2 / math.pi)


@inline
def _sigmoid(x, c, cubic, one):
    square = x * x
    u = x * (c + cubic * square)  # twice u
    return one / (one + exp(-u))


@kernel(lambda t: (t.counter, t.integer, t.dense(1), t.own(1)))
def forward(counter, pieces, x, y):
    """Each piece: CHUNK numbers."""
    real = y.dtype.type
    one, c, cubic = real(1), real(2 * _C), real(2 * _C * 0.044715)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        part, out = x[piece * CHUNK : (piece + 1) * CHUNK], y[piece * CHUNK : (piece + 1) * CHUNK]
        for i in range(out.size):
            out[i] = part[i] * _sigmoid(part[i], c, cubic, one)


@kernel(lambda t: (t.counter, t.integer, t.dense(1), t.dense(1), t.own(1)))
def backward(counter, pieces, x, dy, dx):
    """Each piece: CHUNK numbers."""
    real = dx.dtype.type
    one, c, cubic = real(1), real(2 * _C), real(2 * _C * 0.044715)
    three = real(3 * 2 * _C * 0.044715)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        first, last = piece * CHUNK, (piece + 1) * CHUNK
        part, dpart, out = x[first:last], dy[first:last], dx[first:last]
        for i in range(out.size):
            z = part[i]
            s = _sigmoid(z, c, cubic, one)
            out[i] = dpart[i] * (s + z * s * (one - s) * (c + three * z * z))


def gelu(x: np.ndarray, *, approximate: str) -> tuple[np.ndarray, Any]:
    """``approximate="tanh"`` only; any shape."""
    dtype = x.dtype
    flat = np.ascontiguousarray(x).reshape(-1)
    y = np.empty(flat.size, dtype)
    pieces, small = -(-flat.size // CHUNK), flat.size < SMALL
    share(forward[dtype], pieces, flat, y, small=small)

    def vjp(dy: np.ndarray) -> np.ndarray:
        dx = np.empty(flat.size, dtype)
        share(backward[dtype], pieces, flat, np.ascontiguousarray(dy).reshape(-1), dx, small=small)
        return dx.reshape(x.shape)

    return y.reshape(x.shape), vjp
