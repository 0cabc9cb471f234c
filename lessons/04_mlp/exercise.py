"""Exercise 04: the linear layer, and its gradients."""

import numpy as np


def linear(x, weight, bias=None):
    """y = x Wᵀ + b over the last axis: y[..., o] = sum over i of x[..., i] W[o, i], plus b[o].

    x:      [..., in], one axis or more: [in], [N, in], [B, T, in]
    weight: [out, in], row o holds the weights of output o
    bias:   [out], or None for a layer without one

    Returns (y, vjp): y is [..., out]; vjp(dy) -> (dx, dweight, dbias), each in the shape of its
    input, and None for dbias where bias is None.
    float32 in, float32 out.
    """
    raise NotImplementedError
