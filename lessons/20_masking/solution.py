"""Solution 20: attention under a mask, and its gradients."""

import math

import numpy as np


def attention(q, k, v, *, mask=None, causal=False):
    """y = softmax(q kᵀ / √d, over the visible keys only) v.

    q [..., N, d], k [..., M, d], v [..., M, e]; mask boolean, broadcastable to [..., N, M].
    Returns (y, vjp): y [..., N, e]; vjp(dy) -> (dq, dk, dv).
    """
    N, M, d = q.shape[-2], k.shape[-2], q.shape[-1]
    scale = 1 / math.sqrt(d)  # a Python float: float32 stays float32

    S = scale * (q @ k.swapaxes(-1, -2))  # [N, d] [d, M] -> [N, M]
    if mask is not None:
        S = np.where(mask, S, -np.inf)  # [N, M]
    if causal:
        S = np.where(np.tri(N, M, M - N, dtype=bool), S, -np.inf)  # the last row sees every key

    top = S.max(axis=-1, keepdims=True)  # [N, 1], of the visible keys, or -inf if there are none
    E = np.exp(S - np.where(top == -np.inf, 0, top))  # [N, M], exp(-inf) = 0
    total = E.sum(axis=-1, keepdims=True)  # [N, 1], 0 if nothing is visible
    A = E / np.where(total == 0, 1, total)  # [N, M], each row sums to 1 or is 0
    y = A @ v  # [N, M] [M, e] -> [N, e]

    def vjp(dy):
        # y = A v
        dA = dy @ v.swapaxes(-1, -2)  # [N, e] [e, M] -> [N, M]
        dv = A.swapaxes(-1, -2) @ dy  # [M, N] [N, e] -> [M, e]
        # A = softmax(S) over the visible keys; where a key is hidden, A is 0 and so is dS
        dS = A * (dA - (dA * A).sum(axis=-1, keepdims=True))  # [N, M]
        # S = scale q kᵀ
        dq = scale * (dS @ k)  # [N, M] [M, d] -> [N, d]
        dk = scale * (dS.swapaxes(-1, -2) @ q)  # [M, N] [N, d] -> [M, d]
        return dq, dk, dv

    return y, vjp
