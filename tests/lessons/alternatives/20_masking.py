"""Further right solutions of lesson 20, written in other ways."""

import math

import numpy as np


def attention__added_bias(q, k, v, *, mask=None, causal=False):
    """One visibility matrix, as a bias of 0 or -inf; einsum for the products."""
    n, m = q.shape[-2], k.shape[-2]
    visible = np.ones((n, m), bool) if mask is None else mask
    if causal:
        visible = visible & (np.arange(m) <= np.arange(n)[:, None] + m - n)
    bias = np.zeros(visible.shape, q.dtype)
    bias[~visible] = -np.inf
    root = math.sqrt(q.shape[-1])
    S = np.einsum("...nd,...md->...nm", q, k) / root + bias
    top = np.maximum(S.max(axis=-1, keepdims=True), -np.finfo(S.dtype).max)
    E = np.exp(S - top)
    total = E.sum(axis=-1, keepdims=True)
    A = np.divide(E, total, out=np.zeros_like(E), where=total > 0)
    y = np.einsum("...nm,...me->...ne", A, v)

    def vjp(dy):
        dA = np.einsum("...ne,...me->...nm", dy, v)
        dS = A * (dA - (dy * y).sum(axis=-1, keepdims=True)) / root
        dq = np.einsum("...nm,...md->...nd", dS, k)
        dk = np.einsum("...nm,...nd->...md", dS, q)
        return dq, dk, np.einsum("...nm,...ne->...me", A, dy)

    return y, vjp


def attention__visible_keys_only(q, k, v, *, mask=None, causal=False):
    """Query by query, over the keys that it sees."""
    n, m, d = q.shape[-2], k.shape[-2], q.shape[-1]
    whole = np.ones((*q.shape[:-1], m), bool) if mask is None else mask
    whole = np.broadcast_to(whole, (*q.shape[:-1], m))
    out = np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)
    kept = []
    for place in np.ndindex(q.shape[:-1]):
        *batch, row = place
        keys = np.flatnonzero(whole[place])
        if causal:
            keys = keys[keys - m <= row - n]
        if not len(keys):
            continue
        at = (*batch, keys)
        s = k[at] @ q[place] / math.sqrt(d)
        a = np.exp(s - s.max())
        a = a / a.sum()
        out[place] = a @ v[at]
        kept.append((place, at, a))

    def vjp(dy):
        dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
        for place, at, a in kept:
            da = v[at] @ dy[place]
            ds = a * (da - a @ da) / math.sqrt(d)
            dq[place] = ds @ k[at]
            dk[at] += ds[:, None] * q[place]
            dv[at] += a[:, None] * dy[place]
        return dq, dk, dv

    return out, vjp
