"""Solution 05: softmax and cross-entropy, and their gradients."""

import numpy as np


def softmax(x, *, axis=-1):
    """y_i = exp(x_i) / sum_j exp(x_j) along axis.  x: any shape.  Returns (y, vjp)."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))  # as x, no exponent above 0
    y = e / e.sum(axis=axis, keepdims=True)  # as x, sums to 1 along axis

    def vjp(dy):
        # y = e / sum(e): each x_j moves every y_i of its row, hence the sum
        return y * (dy - (dy * y).sum(axis=axis, keepdims=True))  # as x

    return y, vjp


def cross_entropy(logits, target):
    """The mean of -ln softmax(logits)[target].  logits [..., C], target [...].

    Returns (loss, vjp): loss []; vjp(dy) -> (dlogits [..., C], None).
    """
    *leading, C = logits.shape
    x = logits.reshape(-1, C)  # [..., C] -> [N, C]
    t = target.reshape(-1)  # [...] -> [N]
    N = len(t)
    row = np.arange(N)

    z = x - x.max(axis=-1, keepdims=True)  # [N, C]
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))  # [N, C]
    loss = -log_p[row, t].mean()  # [N, C] -> [N] -> []

    def vjp(dy):
        # loss = -mean(log_p[row, t]), log_p = x - ln sum(exp(x))
        dx = np.exp(log_p)  # [N, C], softmax(x): a new array at every call
        dx[row, t] -= 1  # minus the one-hot rows
        dx *= dy / N  # the mean, and what came from above
        return dx.reshape(*leading, C), None  # [N, C] -> [..., C]

    return loss, vjp
