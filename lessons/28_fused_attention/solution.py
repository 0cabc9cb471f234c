"""Solution 28: the softmax in one pass, and attention that never holds all its scores."""

import math

import numpy as np


def online_softmax(m, l, x):
    """m = the largest score so far, l = sum of exp(score - m).  m, l [...], x [..., b].

    Returns (m, l), the scores of x included.
    """
    m_new = np.maximum(m, x.max(axis=-1))  # [...]
    base = np.where(m_new == -np.inf, 0.0, m_new)  # nothing seen: -inf - -inf would be NaN
    shrink = np.exp(m - base)  # [...], 1 where the maximum stays, less where it rises
    l_new = shrink * l + np.exp(x - base[..., None]).sum(axis=-1)
    return m_new, l_new


def flash_forward(q, k, v, *, block, causal=False):
    """softmax(q kᵀ / √d) v, tile by tile.  q [..., N, d], k [..., M, d], v [..., M, e].

    Returns (out, lse): out [..., N, e], lse [..., N] = ln of the sum of exp(score).
    """
    N, d = q.shape[-2:]
    M = k.shape[-2]
    scale = 1 / math.sqrt(d)
    out = np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)  # [..., N, e]
    lse = np.zeros(q.shape[:-1], q.dtype)  # [..., N]

    for q0 in range(0, N, block):
        rows = slice(q0, min(q0 + block, N))
        acc = np.zeros_like(out[..., rows, :])  # [..., r, e], not yet divided by l
        m = np.full_like(lse[..., rows], -np.inf)  # [..., r]
        l = np.zeros_like(m)  # [..., r]

        end = min(M, rows.stop + M - N) if causal else M  # what the last row of the tile sees
        for k0 in range(0, end, block):
            keys = slice(k0, min(k0 + block, M))
            s = scale * (q[..., rows, :] @ k[..., keys, :].swapaxes(-1, -2))  # [..., r, c]
            if causal:
                i = np.arange(rows.start, rows.stop)[:, None] + (M - N)  # [r, 1]
                j = np.arange(keys.start, keys.stop)  # [c]
                s = np.where(j <= i, s, -np.inf)

            m_new = np.maximum(m, s.max(axis=-1))  # [..., r]
            base = np.where(m_new == -np.inf, 0.0, m_new)
            shrink = np.exp(m - base)  # [..., r]: what has been summed is measured anew
            p = np.exp(s - base[..., None])  # [..., r, c]
            l = shrink * l + p.sum(axis=-1)
            acc = shrink[..., None] * acc + p @ v[..., keys, :]  # [r, c] [c, e] -> [r, e]
            m = m_new

        total = np.where(l > 0, l, 1.0)  # a row that saw nothing stays 0
        out[..., rows, :] = acc / total[..., None]  # once, at the end
        lse[..., rows] = m + np.log(total)
    return out, lse
