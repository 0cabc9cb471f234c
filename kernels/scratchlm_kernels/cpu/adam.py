"""Adam's update in one walk over parameter, gradient and both averages."""

from __future__ import annotations

import math

import numpy as np

from .compiling import kernel
from .threads import share
from .waiting import take

CHUNK = 1 << 15
SMALL = 1 << 15


@kernel(lambda t: (t.counter, t.integer, t.own(1), t.dense(1), t.own(1), t.own(1),
                   *(t.real,) * 7))  # fmt: skip
def update(counter, pieces, p, g, m, v, keep, beta1, rest1, beta2, rest2, rate, eps):
    """Each piece: CHUNK numbers. ``keep`` is what the decay leaves of p."""
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        first, last = piece * CHUNK, (piece + 1) * CHUNK
        p_, g_, m_, v_ = p[first:last], g[first:last], m[first:last], v[first:last]
        for i in range(p_.size):
            m_[i] = beta1 * m_[i] + rest1 * g_[i]
            v_[i] = beta2 * v_[i] + rest2 * g_[i] * g_[i]
            p_[i] = keep * p_[i] - rate * (m_[i] / (np.sqrt(v_[i]) + eps))


def adam_step(
    p: np.ndarray,
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    t: int,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """``scratchlm.optim.optimizers.adamw_step`` for contiguous arrays of one dtype."""
    real = p.dtype.type
    beta1, beta2 = betas
    root = math.sqrt(1 - beta2**t)
    numbers = (1 - lr * weight_decay, beta1, 1 - beta1, beta2, 1 - beta2,
               lr * root / (1 - beta1**t), eps * root)  # fmt: skip
    flat = [x.reshape(-1) for x in (p, np.ascontiguousarray(g), m, v)]
    pieces = -(-p.size // CHUNK)
    share(update[p.dtype], pieces, *flat, *map(real, numbers), small=p.size < SMALL)
