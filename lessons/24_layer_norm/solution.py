"""Solution 24: layer normalization, and its gradients."""

import numpy as np


def layer_norm(x, weight, bias, *, eps=1e-5):
    """y = (x - mean) / √(var + eps) · weight + bias.  x [..., d], weight [d], bias [d].

    Returns (y, vjp): y [..., d]; vjp(dy) -> (dx, dweight, dbias).
    """
    mean = x.mean(axis=-1, keepdims=True)  # [..., 1], one for each row
    var = ((x - mean) ** 2).mean(axis=-1, keepdims=True)  # [..., 1]
    r = 1 / np.sqrt(var + eps)  # [..., 1]
    n = (x - mean) * r  # [..., d], each row with mean 0 and variance 1
    y = n * weight + bias  # [..., d]

    def vjp(dy):
        rows = tuple(range(x.ndim - 1))  # all axes but the last
        # y = n weight + bias: every row has used the same weight and the same bias
        dbias = dy.sum(axis=rows)  # [d]
        dweight = (dy * n).sum(axis=rows)  # [d]
        g = dy * weight  # [..., d], the cotangent of n
        # n = (x - mean) r: x_i itself, x_i in the mean, x_i in the variance
        dx = r * (
            g
            - g.mean(axis=-1, keepdims=True)  # [..., 1]
            - n * (g * n).mean(axis=-1, keepdims=True)  # [..., 1]
        )
        return dx, dweight, dbias

    return y, vjp
