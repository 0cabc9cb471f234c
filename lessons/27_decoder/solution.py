"""Solution 27: attention from one sequence to another, and its gradients."""

import math

import numpy as np


def cross_attention(x, memory, wq, wk, wv, wo, *, padding=None):
    """y = softmax(q kᵀ / √E) v woᵀ,  q = x wqᵀ,  k = memory wkᵀ,  v = memory wvᵀ.

    x [..., T, C], memory [..., S, D], wq [E, C], wk, wv [E, D], wo [C, E]; padding [..., S].
    Returns (y, vjp): y [..., T, C]; vjp(dy) -> (dx, dmemory, dwq, dwk, dwv, dwo).
    """
    scale = 1 / math.sqrt(len(wq))  # a Python float: float32 stays float32
    q = x @ wq.T  # [..., T, C] -> [..., T, E], the decoder's question
    k = memory @ wk.T  # [..., S, D] -> [..., S, E], both from the encoder
    v = memory @ wv.T

    scores = scale * (q @ turned(k))  # [..., T, E] [..., E, S] -> [..., T, S]
    if padding is not None:
        scores = np.where(padding[..., None, :], -np.inf, scores)  # a row for every query
    top = scores.max(axis=-1, keepdims=True)  # [..., T, 1], -inf if all is padding
    exps = np.exp(scores - np.where(top == -np.inf, 0, top))
    total = exps.sum(axis=-1, keepdims=True)  # 0 if all is padding
    A = exps / np.where(total == 0, 1, total)  # [..., T, S], rows sum to 1 or are 0
    o = A @ v  # [..., T, S] [..., S, E] -> [..., T, E]
    y = o @ wo.T  # [..., T, C]

    def vjp(dy):
        # y = o woᵀ
        do = dy @ wo
        dwo = outer(dy, o)
        # o = A v
        dA = do @ turned(v)
        dv = turned(A) @ do
        # A = softmax(scores); where A is 0, so is its gradient: padding needs no line
        dscores = A * (dA - (dA * A).sum(axis=-1, keepdims=True))
        # scores = scale q kᵀ
        dq = scale * (dscores @ k)
        dk = scale * (turned(dscores) @ q)
        # q = x wqᵀ;  k = memory wkᵀ and v = memory wvᵀ: the memory is used twice
        dx = dq @ wq
        dmemory = dk @ wk + dv @ wv
        return dx, dmemory, outer(dq, x), outer(dk, memory), outer(dv, memory), dwo

    return y, vjp


def turned(a):
    return a.swapaxes(-2, -1)


def outer(dy, x):
    """The gradient of w in y = x wᵀ: summed over all positions of all texts."""
    return dy.reshape(-1, dy.shape[-1]).T @ x.reshape(-1, x.shape[-1])
