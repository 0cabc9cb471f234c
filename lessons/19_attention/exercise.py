"""Exercise 19: scaled dot-product attention, and its gradients."""

import numpy as np


def attention(q, k, v, *, causal=False):
    """y = softmax(q kᵀ / √d) v, for every leading axis at once.

    q: [..., N, d], what each of N positions looks for
    k: [..., M, d], what each of M positions is found by
    v: [..., M, e], what each of M positions gives
    causal: position i may look at positions 0 to i only; N equals M then

    Returns (y, vjp): y [..., N, e]; vjp(dy) -> (dq, dk, dv), with the shapes of q, k, v.
    The leading axes are batch and heads; with none of them, q, k and v are plain matrices.
    float32 in, float32 out.
    """
    raise NotImplementedError
