"""Lesson 21, written otherwise."""

import numpy as np


def split_heads__slices(x, *, heads):
    """A slice of columns for each head."""
    d = x.shape[-1] // heads
    cut = [slice(h * d, (h + 1) * d) for h in range(heads)]

    def vjp(dy):
        dx = np.empty(x.shape, dy.dtype)
        for h, columns in enumerate(cut):
            dx[..., columns] = dy[..., h, :, :]
        return dx

    return np.stack([x[..., columns] for columns in cut], axis=-3), vjp


def split_heads__one_hot(x, *, heads):
    """The split as a tensor of ones and zeros, which einsum multiplies with."""
    E = x.shape[-1]
    pick = np.eye(E, dtype=x.dtype).reshape(E, heads, E // heads)  # [column, head, place]
    return (
        np.einsum("...nc,chi->...hni", x, pick),
        lambda dy: np.einsum("...hni,chi->...nc", dy, pick),
    )


def _attend(q, k, v, causal):
    """One head: the result, and the weights."""
    S = q @ k.swapaxes(-1, -2) * q.shape[-1] ** -0.5
    if causal:
        S = S + np.triu(np.full(S.shape[-2:], -np.inf, S.dtype), 1)
    P = np.exp(S - S.max(-1, keepdims=True))
    P /= P.sum(-1, keepdims=True)
    return P @ v, P


def multi_head__one_after_the_other(x, wq, wk, wv, wo, *, heads, causal=False):
    """Each head has its own small matrices; the results are added, each through its part of wo."""
    parts = np.split(np.arange(wq.shape[0]), heads)
    seen = []
    y = 0
    for part in parts:
        q, k, v = x @ wq[part].T, x @ wk[part].T, x @ wv[part].T
        head, P = _attend(q, k, v, causal)
        y = y + head @ wo[:, part].T
        seen.append((q, k, v, head, P))

    def summed(a, b):
        return np.tensordot(a, b, axes=(range(a.ndim - 1),) * 2)

    def vjp(dy):
        grads = [np.zeros_like(a) for a in (x, wq, wk, wv, wo)]
        for part, (q, k, v, head, P) in zip(parts, seen, strict=True):
            grads[4][:, part] = summed(dy, head)
            dhead = dy @ wo[:, part]
            dP = dhead @ v.swapaxes(-1, -2)
            dS = P * (dP - (dhead * head).sum(-1, keepdims=True)) * q.shape[-1] ** -0.5
            for to, w, d in (
                (1, wq, dS @ k),
                (2, wk, dS.swapaxes(-1, -2) @ q),
                (3, wv, P.swapaxes(-1, -2) @ dhead),
            ):
                grads[to][part] = summed(d, x)
                grads[0] += d @ w[part]
        return tuple(grads)

    return y, vjp


def multi_head__einsum(x, wq, wk, wv, wo, *, heads, causal=False):
    """Weights with an axis of heads of their own, and einsum for every product."""
    E, shape = wq.shape[0], x.shape
    x = x.reshape(-1, *shape[-2:])  # [texts, N, C]
    q3, k3, v3 = (w.reshape(heads, E // heads, -1) for w in (wq, wk, wv))  # [H, d, C]
    o3 = wo.reshape(-1, heads, E // heads)  # [C', H, d]
    q, k, v = (np.einsum("tnc,hdc->thnd", x, w) for w in (q3, k3, v3))
    head, P = _attend(q, k, v, causal)
    y = np.einsum("thnd,ohd->tno", head, o3).reshape(*shape[:-1], len(wo))

    def vjp(dy):
        dy = dy.reshape(-1, *dy.shape[-2:])
        dhead = np.einsum("tno,ohd->thnd", dy, o3)
        dP = np.einsum("thnd,thmd->thnm", dhead, v)
        dS = P * (dP - np.einsum("thnm,thnm->thn", dP, P)[..., None]) / (E // heads) ** 0.5
        dq = np.einsum("thnm,thmd->thnd", dS, k)
        dk = np.einsum("thnm,thnd->thmd", dS, q)
        dv = np.einsum("thnm,thnd->thmd", P, dhead)
        dx = sum(np.einsum("thnd,hdc->tnc", g, w) for g, w in ((dq, q3), (dk, k3), (dv, v3)))
        dw = [np.einsum("thnd,tnc->hdc", g, x).reshape(wq.shape) for g in (dq, dk, dv)]
        return dx.reshape(shape), *dw, np.einsum("tno,thnd->ohd", dy, head).reshape(wo.shape)

    return y, vjp
