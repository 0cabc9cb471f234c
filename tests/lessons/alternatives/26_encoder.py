"""Lesson 26: other right ways to pool and to stack."""

import math

import numpy as np

from scratchlm import Tensor, ops
from scratchlm import functional as F


def masked_mean__loops(x, *, padding):
    """One text after the other, one row after the other."""
    y = np.zeros(x.shape[:-2] + x.shape[-1:], x.dtype)
    counts = {}
    for text in np.ndindex(*padding.shape[:-1]):
        rows = [x[(*text, i)] for i in range(x.shape[-2]) if not padding[(*text, i)]]
        counts[text] = len(rows)
        for row in rows:
            y[text] += row
        if rows:
            y[text] /= len(rows)

    def vjp(dy):
        dx = np.zeros_like(x)
        for text, n in counts.items():
            for i in range(x.shape[-2]):
                if not padding[(*text, i)]:
                    dx[(*text, i)] = dy[text] / n
        return dx

    return y, vjp


def masked_mean__product(x, *, padding):
    """Weights 1/n or 0 for each position, and a product of a row with a matrix."""
    n = np.count_nonzero(~padding, axis=-1, keepdims=True)
    w = np.divide(~padding, n, where=n > 0, out=np.zeros(padding.shape)).astype(x.dtype)
    clean = x.copy()
    clean[padding] = 0
    y = np.einsum("...n,...nc->...c", w, clean)
    return y, lambda dy: np.einsum("...n,...c->...nc", w, dy)


def masked_mean__attention(x, *, padding):
    """Attention whose scores are all 0: a query that likes all words alike."""
    keys, values = np.zeros_like(x), np.where(padding[..., None], 0, x).astype(x.dtype)
    query = np.zeros((*x.shape[:-2], 1, x.shape[-1]), x.dtype)
    y, back = ops.attention(query, keys, values, mask=~padding[..., None, :])

    def vjp(dy):
        return back(dy[..., None, :])[2]

    return y[..., 0, :], vjp


def encoder__recursive(x, *weights, heads, padding=None):
    """The first layer, and an encoder behind it. The layer is made of lesson 25's parts."""
    if not weights:
        return x, lambda dy: (dy,)
    seen = True if padding is None else np.logical_not(padding)[..., None, :]
    first, rest = weights[:12], weights[12:]
    h, back_first = _layer(x, first, heads, seen)
    if not rest:
        return h, back_first
    y, back_rest = encoder__recursive(h, *rest, heads=heads, padding=padding)

    def vjp(dy):
        dh, *behind = back_rest(dy)
        dx, *own = back_first(dh)
        return (dx, *own, *behind)

    return y, vjp


def _layer(x, weights, heads, seen):
    """By hand: head after head, and each score masked as it is used."""
    wq, wk, wv, wo, w1, b1, w2, b2, gain1, shift1, gain2, shift2 = weights
    d = x.shape[-1] // heads
    columns = [slice(h * d, (h + 1) * d) for h in range(heads)]

    def rows(u):
        return u.reshape(-1, u.shape[-1])

    def norm(u, gain, shift):
        r = 1 / np.sqrt(u.var(axis=-1, keepdims=True) + 1e-5)
        n = (u - u.mean(axis=-1, keepdims=True)) * r

        def back(dn):
            g = dn * gain
            du = r * (g - g.mean(-1, keepdims=True) - n * (g * n).mean(-1, keepdims=True))
            return du, rows(dn * n).sum(axis=0), rows(dn).sum(axis=0)

        return n * gain + shift, back

    q, k, v = x @ wq.T, x @ wk.T, x @ wv.T
    o, maps = np.zeros_like(q), []
    for part in columns:
        s = q[..., part] @ k[..., part].swapaxes(-1, -2) / math.sqrt(d)
        e = np.where(seen, np.exp(s - s.max(axis=-1, keepdims=True)), 0)
        total = e.sum(axis=-1, keepdims=True)
        p = np.where(total > 0, e / np.where(total > 0, total, 1), 0).astype(x.dtype)
        o[..., part] = p @ v[..., part]
        maps.append(p)
    h, back_1 = norm(x + o @ wo.T, gain1, shift1)
    a = h @ w1.T + b1
    y, back_2 = norm(h + np.maximum(a, 0) @ w2.T + b2, gain2, shift2)

    def vjp(dy):
        dt, *norm2 = back_2(dy)
        da = np.where(a > 0, dt @ w2, 0)
        ds, *norm1 = back_1(dt + da @ w1)
        do = ds @ wo
        dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
        for part, p in zip(columns, maps, strict=True):
            dp = do[..., part] @ v[..., part].swapaxes(-1, -2)
            dscore = p * (dp - (dp * p).sum(axis=-1, keepdims=True)) / math.sqrt(d)
            dq[..., part] = dscore @ k[..., part]
            dk[..., part] = dscore.swapaxes(-1, -2) @ q[..., part]
            dv[..., part] = p.swapaxes(-1, -2) @ do[..., part]
        pairs = [(dq, x), (dk, x), (dv, x), (ds, o), (da, h), (dt, np.maximum(a, 0))]
        dwq, dwk, dwv, dwo, dw1, dw2 = (rows(left).T @ rows(right) for left, right in pairs)
        dx = ds + dq @ wq + dk @ wk + dv @ wv
        feed = (dw1, rows(da).sum(axis=0), dw2, rows(dt).sum(axis=0))
        return (dx, dwq, dwk, dwv, dwo, *feed, *norm1, *norm2)

    return y, vjp


def encoder__tape(x, *weights, heads, padding=None):
    """Forward on tensors, with an additive mask; the engine's tape finds the gradients."""
    mask = None
    if padding is not None:
        mask = np.where(padding, -np.inf, 0).astype(x.dtype)[..., None, None, :]

    def run(leaves):
        h, *rest = leaves
        while rest:
            wq, wk, wv, wo, w1, b1, w2, b2, gain1, shift1, gain2, shift2, *rest = rest
            *batch, N, C = h.shape
            q, k, v = (
                F.linear(h, w).reshape(*batch, N, heads, C // heads).transpose(-2, -3)
                for w in (wq, wk, wv)
            )
            o = F.attention(q, k, v, mask=mask).transpose(-2, -3).reshape(*batch, N, C)
            h = F.layer_norm(h + F.linear(o, wo), gain1, shift1)
            h = F.layer_norm(h + F.linear(F.relu(F.linear(h, w1, b1)), w2, b2), gain2, shift2)
        return h

    def vjp(dy):
        leaves = [Tensor(a, requires_grad=True) for a in (x, *weights)]
        run(leaves).backward(dy)
        return tuple(leaf.grad.data for leaf in leaves)

    return run([Tensor(a) for a in (x, *weights)]).data, vjp
