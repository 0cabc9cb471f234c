"""Further right solutions of lesson 02, written in other ways."""

import numpy as np


def sigmoid__two_branches(x):
    e = np.exp(-np.abs(x))
    y = np.where(x >= 0, 1 / (1 + e), e / (1 + e))

    def vjp(dy):
        return dy * e / (1 + e) ** 2  # the same on both sides of 0

    return y, vjp


def sigmoid__tanh(x):
    half = np.tanh(x / 2)
    # 1 + tanh(x / 2) loses every digit far below 0; there exp(x) is the answer
    y = np.where(x < -15, np.exp(np.minimum(x, 0)) / (1 + np.exp(np.minimum(x, 0))), (1 + half) / 2)

    def vjp(dy):
        return dy * (y - y * y)

    return y, vjp


def tanh__exponentials(x):
    e = np.exp(-2 * np.abs(x))
    far = np.sign(x) * (1 - e) / (1 + e)
    # near 0, 1 - e loses digits: there the series does not
    near = x - x**3 / 3 + 2 * x**5 / 15
    y = np.where(np.abs(x) < 1e-3, near, far)

    def vjp(dy):
        return dy * (1 - y) * (1 + y)

    return y, vjp


def tanh__numpy(x):
    y = np.tanh(x)
    return y, lambda dy: dy - dy * y**2


def relu__where(x):
    inside = x > 0
    return np.where(inside, x, 0), lambda dy: np.where(inside, dy, 0)


def relu__written_over(x):
    y = x.copy()
    y[x < 0] = 0

    def vjp(dy):
        dx = dy.copy()
        dx[x <= 0] = 0
        return dx

    return y, vjp
