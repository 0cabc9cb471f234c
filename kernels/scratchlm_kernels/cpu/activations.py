"""GELU in its tanh form, and SwiGLU, in one walk over the arrays each way.

``(1 + tanh u) / 2`` is ``s = 1 / (1 + exp(-2u))``, so ``y = x s`` and, with
``u = c (x + 0.044715 x³)`` and ``c = sqrt(2/π)``, ``dx = dy s (1 + 2 x (1 - s) u')``. Backward
makes s again from x: an exponential costs less than to store one number and fetch it back. So does
SwiGLU's, ``y = a s b`` with ``s = 1 / (1 + exp(-a))``: ``da = dy b s (1 + a (1 - s))`` and
``db = dy a s``, both in one walk.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .compiling import inline, kernel
from .simd import exp
from .threads import share
from .waiting import take

CHUNK = 1 << 14
SMALL = 1 << 15
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


@kernel(lambda t: (t.counter, t.integer, t.dense(1), t.dense(1), t.own(1)))
def gate_forward(counter, pieces, a, b, y):
    """Each piece: CHUNK numbers."""
    one = y.dtype.type(1)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        first, last = piece * CHUNK, (piece + 1) * CHUNK
        a_, b_, out = a[first:last], b[first:last], y[first:last]
        for i in range(out.size):
            out[i] = a_[i] / (one + exp(-a_[i])) * b_[i]


@kernel(lambda t: (t.counter, t.integer, *(t.dense(1),) * 3, *(t.own(1),) * 2))
def gate_backward(counter, pieces, a, b, dy, da, db):
    """Each piece: CHUNK numbers."""
    one = da.dtype.type(1)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        first, last = piece * CHUNK, (piece + 1) * CHUNK
        a_, b_, dy_ = a[first:last], b[first:last], dy[first:last]
        da_, db_ = da[first:last], db[first:last]
        for i in range(da_.size):
            s = one / (one + exp(-a_[i]))
            g = dy_[i] * s
            da_[i] = g * b_[i] * (one + a_[i] * (one - s))
            db_[i] = g * a_[i]


def swiglu(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Any]:
    """``silu(a) * b`` of two arrays of one shape, not empty."""
    dtype, shape = a.dtype, a.shape
    a, b = np.ascontiguousarray(a).reshape(-1), np.ascontiguousarray(b).reshape(-1)
    y = np.empty(a.size, dtype)
    pieces, small = -(-a.size // CHUNK), a.size < SMALL
    share(gate_forward[dtype], pieces, a, b, y, small=small)

    def vjp(dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        da, db = np.empty(a.size, dtype), np.empty(a.size, dtype)
        dy = np.ascontiguousarray(dy).reshape(-1)
        share(gate_backward[dtype], pieces, a, b, dy, da, db, small=small)
        return da.reshape(shape), db.reshape(shape)

    return y.reshape(shape), vjp
