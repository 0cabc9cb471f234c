"""Solution 19: scaled dot-product attention, and its gradients."""

import math

import numpy as np


def attention(q, k, v, *, causal=False):
    """y = softmax(q kᵀ / √d) v.  q [..., N, d], k [..., M, d], v [..., M, e].

    Returns (y, vjp): y [..., N, e]; vjp(dy) -> (dq, dk, dv).
    """
    N, d = q.shape[-2:]
    scale = 1 / math.sqrt(d)  # a Python float: float32 stays float32

    S = scale * (q @ k.swapaxes(-1, -2))  # [N, d] [d, M] -> [N, M]
    if causal:
        S = np.where(np.tri(N, dtype=bool), S, -np.inf)  # before the softmax: exp(-inf) = 0
    E = np.exp(S - S.max(axis=-1, keepdims=True))  # [N, M], no exponent above 0
    A = E / E.sum(axis=-1, keepdims=True)  # [N, M], each row sums to 1
    y = A @ v  # [N, M] [M, e] -> [N, e]

    def vjp(dy):
        # y = A v
        dA = dy @ v.swapaxes(-1, -2)  # [N, e] [e, M] -> [N, M]
        dv = A.swapaxes(-1, -2) @ dy  # [M, N] [N, e] -> [M, e]
        # A = softmax(S), row by row; where S was -inf, A is 0 and dS too
        dS = A * (dA - (dA * A).sum(axis=-1, keepdims=True))  # [N, M]
        # S = scale q kᵀ
        dq = scale * (dS @ k)  # [N, M] [M, d] -> [N, d]
        dk = scale * (dS.swapaxes(-1, -2) @ q)  # [M, N] [N, d] -> [M, d]
        return dq, dk, dv

    return y, vjp
