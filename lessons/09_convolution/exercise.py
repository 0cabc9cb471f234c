"""Exercise 09: a convolution of pictures, and its gradients."""

import numpy as np


def conv2d(x, weight, bias, *, stride=1, padding=0):
    """y[b, o, p, q] = bias[o] + sum over c, i, j of x̄[b, c, s p + i, s q + j] weight[o, c, i, j]

    x̄ is x with `padding` rows and columns of zeros on each of its four sides, s is the stride.

    x: [B, C, H, W], pictures of C channels
    weight: [O, C, kh, kw], a filter for each of O outputs
    bias: [O]

    Returns (y, vjp): y [B, O, H', W'], as many places as the filter fits into;
    vjp(dy) -> (dx, dweight, dbias), with the shapes of x, weight and bias.
    float32 in, float32 out.
    """
    raise NotImplementedError
