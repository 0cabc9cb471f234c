"""Exercise 20: attention under a mask, and its gradients."""

import numpy as np


def attention(q, k, v, *, mask=None, causal=False):
    """y = softmax(q kᵀ / √d, over the visible keys only) v.

    q: [..., N, d], what each of N positions looks for
    k: [..., M, d], what each of M positions is found by
    v: [..., M, e], what each of M positions gives
    mask: None, or boolean and broadcastable to [..., N, M]: True where query n may see key m.
        [M] hides keys from all queries (padding), [N, M] is a pattern for every text and head
    causal: a query sees no later key. The last query stands where the last key stands, so query n
        sees the keys m <= n + M - N

    With both, a key must be allowed by both. A query that may see no key gets y = 0.

    Returns (y, vjp): y [..., N, e]; vjp(dy) -> (dq, dk, dv), with the shapes of q, k, v.
    float32 in, float32 out. No NaN anywhere, in y or in the gradients.
    """
    raise NotImplementedError
