"""Solution 09: a convolution of pictures, and its gradients."""

import numpy as np


def conv2d(x, weight, bias, *, stride=1, padding=0):
    """y[b, o, p, q] = bias[o] + sum_cij x̄[b, c, s p + i, s q + j] weight[o, c, i, j].

    x [B, C, H, W], weight [O, C, kh, kw], bias [O].  Returns (y, vjp), y [B, O, H', W'].
    """
    B, C, H, W = x.shape
    O, _, kh, kw = weight.shape
    rows = (H + 2 * padding - kh) // stride + 1  # H'
    columns = (W + 2 * padding - kw) // stride + 1  # W'
    inside = (..., slice(padding, padding + H), slice(padding, padding + W))
    offsets = list(np.ndindex(kh, kw))  # the pixels of the filter

    def window(i, j):
        """Where pixel (i, j) of the filter falls, for all places of the filter at once."""
        down = slice(i, i + stride * rows, stride)
        right = slice(j, j + stride * columns, stride)
        return (..., down, right)

    padded = np.zeros((B, C, H + 2 * padding, W + 2 * padding), x.dtype)
    padded[inside] = x
    patches = np.stack([padded[window(i, j)] for i, j in offsets], axis=2)  # [B, C, kh kw, H', W']
    X = patches.transpose(0, 3, 4, 1, 2).reshape(B * rows * columns, C * kh * kw)  # a patch a row
    F = weight.reshape(O, C * kh * kw)  # a filter a row
    Y = X @ F.T + bias  # [places, C kh kw] [C kh kw, O] -> [places, O]
    y = Y.reshape(B, rows, columns, O).transpose(0, 3, 1, 2)

    def vjp(dy):
        # y is Y, its axes moved
        dY = dy.transpose(0, 2, 3, 1).reshape(B * rows * columns, O)
        # Y = X Fᵀ + bias
        dbias = dY.sum(axis=0)
        dF = dY.T @ X  # [O, places] [places, C kh kw] -> [O, C kh kw]
        dX = dY @ F  # [places, O] [O, C kh kw] -> [places, C kh kw]
        # X is what the windows show: each window adds what comes back to it
        dpatches = dX.reshape(B, rows, columns, C, kh * kw).transpose(0, 3, 4, 1, 2)
        dpadded = np.zeros_like(padded)
        for k, (i, j) in enumerate(offsets):
            dpadded[window(i, j)] += dpatches[:, :, k]
        return dpadded[inside], dF.reshape(weight.shape), dbias

    return y, vjp
