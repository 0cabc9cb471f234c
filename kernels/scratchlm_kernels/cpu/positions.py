"""Rotary positions: each position's sines and cosines once, for all heads, and one walk over x.

As in the composed op the angles are float64, and ``dx = R(-p) dy``: the same walk with the sines
turned around. Nothing of x is kept.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .compiling import kernel
from .threads import share
from .waiting import take

SMALL = 1 << 15


@kernel(lambda t: (t.counter, t.integer, t.ids, t.angles, t.own(2), t.own(2)))
def tabulate(counter, pieces, positions, theta, cos, sin):
    """Each piece: the cosines and sines of one position."""
    real = cos.dtype.type
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        p = np.float64(positions[piece])
        for i in range(theta.size):
            angle = p * theta[i]
            cos[piece, i] = real(math.cos(angle))
            sin[piece, i] = real(math.sin(angle))


@kernel(lambda t: (t.counter, t.integer, t.given(4), t.own(2), t.own(2), t.own(4), t.integer,
                   t.integer, t.integer, t.flag, t.real))  # fmt: skip
def turn(counter, pieces, x, cos, sin, y, batch_step, head_step, step, interleaved, sign):
    """Each piece: one head of one sequence; the place of its first position in the tables, and of
    the next ones, follows from the steps, which are 0 along an axis that broadcasts.
    """
    heads, length, d = x.shape[1:]
    half = cos.shape[1]
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        b, h = piece // heads, piece % heads
        for n in range(length):
            at = b * batch_step + h * head_step + n * step
            row, out, c, s = x[b, h, n], y[b, h, n], cos[at], sin[at]
            if interleaved:
                for i in range(half):
                    x1, x2 = row[2 * i], row[2 * i + 1]
                    out[2 * i] = x1 * c[i] - x2 * (s[i] * sign)
                    out[2 * i + 1] = x1 * (s[i] * sign) + x2 * c[i]
            else:
                for i in range(half):
                    x1, x2 = row[i], row[half + i]
                    out[i] = x1 * c[i] - x2 * (s[i] * sign)
                    out[half + i] = x1 * (s[i] * sign) + x2 * c[i]
            for i in range(2 * half, d):
                out[i] = row[i]


@functools.lru_cache(maxsize=16)
def _powers(base: float, r: int) -> np.ndarray:
    """``θ_i = base^(-2i / r)``."""
    return np.array([base ** (-2 * i / r) for i in range(r // 2)])


def rope(
    x: np.ndarray,
    *,
    positions: np.ndarray | None = None,
    offset: int = 0,
    base: float = 10000.0,
    rotary_dim: int | None = None,
    interleaved: bool = True,
    frequencies: Sequence[float] | None = None,
) -> tuple[np.ndarray, Any]:
    """Shapes and meaning as in :mod:`scratchlm.ops.positions`; up to four axes, none empty."""
    dtype, shape = x.dtype, x.shape
    x4 = x.reshape((1,) * (4 - x.ndim) + shape)
    batch, heads, length, d = x4.shape
    r = d if rotary_dim is None else rotary_dim
    theta = _powers(base, r) if frequencies is None else np.array(frequencies, np.float64)
    places = np.arange(length) if positions is None else positions
    places = places.reshape((1,) * (3 - places.ndim) + places.shape)
    steps, step = [], 1
    for side in reversed(places.shape):
        steps.append(step if side > 1 else 0)
        step *= side
    along, head_step, batch_step = steps
    at = np.ascontiguousarray(places, np.int64).reshape(-1) + offset
    cos, sin = np.empty((2, at.size, r // 2), dtype)
    small = x.size < SMALL
    share(tabulate[dtype], at.size, at, theta, cos, sin, small=small)

    def turned(x: np.ndarray, sign: float) -> np.ndarray:
        y = np.empty((batch, heads, length, d), dtype)
        share(
            turn[dtype], batch * heads, x, cos, sin, y, batch_step, head_step, along, interleaved,
            dtype.type(sign), small=small,
        )  # fmt: skip
        return y.reshape(shape)

    def vjp(dy: np.ndarray) -> np.ndarray:
        return turned(dy.reshape(x4.shape), -1.0)

    return turned(x4, 1.0), vjp
