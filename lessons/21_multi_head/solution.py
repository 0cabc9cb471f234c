"""Solution 21: attention with several heads, and its gradients."""

import math

import numpy as np


def split_heads(x, *, heads):
    """y[h, n, i] = x[n, h d + i].  x [..., N, E], y [..., H, N, d].  Returns (y, vjp)."""
    *texts, N, E = x.shape
    y = x.reshape(*texts, N, heads, E // heads).swapaxes(-3, -2)  # [N, H, d] -> [H, N, d]

    def vjp(dy):
        return merge(dy)  # the same two steps back: nothing was added, so nothing adds up

    return y, vjp


def merge(y):
    """Heads side by side again: [..., H, N, d] -> [..., N, E]."""
    *texts, H, N, d = y.shape
    return y.swapaxes(-3, -2).reshape(*texts, N, H * d)


def multi_head(x, wq, wk, wv, wo, *, heads, causal=False):
    """y = Concat(head_1, ..., head_H) woᵀ.  x [..., N, C], wq, wk, wv [E, C], wo [C', E].

    Returns (y, vjp): y [..., N, C'].
    """
    N = x.shape[-2]
    q, k, v = (split_heads(x @ w.T, heads=heads)[0] for w in (wq, wk, wv))  # [..., H, N, d]
    scale = 1 / math.sqrt(q.shape[-1])  # of one head, not of all
    S = scale * (q @ k.swapaxes(-2, -1))  # [..., H, N, N]
    if causal:
        S = np.where(np.tri(N, dtype=bool), S, -np.inf)
    A = np.exp(S - S.max(axis=-1, keepdims=True))
    A = A / A.sum(axis=-1, keepdims=True)
    M = merge(A @ v)  # [..., H, N, d] -> [..., N, E]
    y = M @ wo.T

    def rows(a):
        return a.reshape(-1, a.shape[-1])  # all words of all texts, one below the other

    def vjp(dy):
        # y = M woᵀ
        dM = dy @ wo
        dwo = rows(dy).T @ rows(M)
        # M = merge(A v), for each head as in lesson 19
        dY, _ = split_heads(dM, heads=heads)
        dA = dY @ v.swapaxes(-2, -1)
        dS = A * (dA - (dA * A).sum(axis=-1, keepdims=True))
        # q, k, v = the heads of x wᵀ
        dq = merge(scale * (dS @ k))  # [..., N, E]
        dk = merge(scale * (dS.swapaxes(-2, -1) @ q))
        dv = merge(A.swapaxes(-2, -1) @ dY)
        dx = dq @ wq + dk @ wk + dv @ wv  # x was used three times
        dwq, dwk, dwv = (rows(d).T @ rows(x) for d in (dq, dk, dv))
        return dx, dwq, dwk, dwv, dwo

    return y, vjp
