"""Further right solutions of lesson 28, written in other ways."""

import math

import numpy as np


def online_softmax__everything_again(m, l, x):
    """What is known so far counts as one more score, m + ln l."""
    with np.errstate(divide="ignore"):
        before = np.where(l > 0, m + np.log(l), -np.inf)
    whole = np.concatenate([before[..., None], x], axis=-1)
    top = np.maximum(m, np.max(x, axis=-1))
    shift = np.where(np.isneginf(top), 0, top)
    return top, np.exp(whole - shift[..., None]).sum(axis=-1)


def online_softmax__score_by_score(m, l, x):
    m, l = m.copy(), l.copy()
    for place in np.ndindex(m.shape):
        for score in x[place]:
            if score == -np.inf:
                continue
            if score > m[place]:
                l[place] = l[place] * math.exp(m[place] - score) + 1
                m[place] = score
            else:
                l[place] += math.exp(score - m[place])
    return m, l


def flash_forward__row_by_row(q, k, v, *, block, causal=False):
    """One query at a time, its keys in tiles; out is kept divided all the time."""
    n, d = q.shape[-2:]
    m = k.shape[-2]
    out = np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)
    lse = np.full(q.shape[:-1], -np.inf, q.dtype)
    for place in np.ndindex(q.shape[:-1]):
        *batch, row = place
        last = m if not causal else max(0, row + 1 + m - n)
        for start in range(0, last, block):
            at = (*batch, slice(start, min(start + block, last)))
            s = k[at] @ q[place] / math.sqrt(d)
            here = s.max() + np.log(np.exp(s - s.max()).sum())
            together = np.logaddexp(lse[place], here)
            kept = np.exp(lse[place] - together)
            out[place] = kept * out[place] + np.exp(s - together) @ v[at]
            lse[place] = together
    return out, lse


def flash_forward__keys_outside(q, k, v, *, block, causal=False):
    """The loop over keys is the outer one; every row's m, l and sum wait in arrays."""
    n, d = q.shape[-2:]
    m = k.shape[-2]
    top = np.full((*q.shape[:-1], 1), -np.inf, q.dtype)
    total = np.zeros_like(top)
    acc = np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)
    for k0 in range(0, m, block):
        keys, values = k[..., k0 : k0 + block, :], v[..., k0 : k0 + block, :]
        for q0 in range(0, n, block):
            rows = (..., slice(q0, q0 + block), slice(None))
            s = np.einsum("...nd,...md->...nm", q[rows], keys) / math.sqrt(d)
            if causal:
                places = q0 + np.arange(s.shape[-2])
                hidden = (k0 + np.arange(s.shape[-1])) > places[:, None] + m - n
                s[..., hidden] = -np.inf
            new = np.maximum(top[rows], s.max(axis=-1, keepdims=True))
            base = np.where(np.isneginf(new), 0, new)
            shrink = np.exp(top[rows] - base)
            p = np.exp(s - base)
            total[rows] = shrink * total[rows] + p.sum(axis=-1, keepdims=True)
            acc[rows] = shrink * acc[rows] + p @ values
            top[rows] = new
    seen = total > 0
    out = np.divide(acc, total, out=np.zeros_like(acc), where=seen)
    log = np.log(total, out=np.zeros_like(total), where=seen)
    return out, (top + log)[..., 0]
