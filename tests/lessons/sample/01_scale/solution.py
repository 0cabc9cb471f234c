"""Lesson 01: solved."""

import numpy as np


def linear(x, weight, bias=None):
    y = x @ weight.T  # (..., d) @ (d, m) -> (..., m)
    if bias is not None:
        y = y + bias

    def vjp(dy):
        rows = dy.reshape(-1, dy.shape[-1])
        dx = dy @ weight
        dweight = rows.T @ x.reshape(-1, x.shape[-1])
        return dx, dweight, None if bias is None else rows.sum(0)

    return y, vjp


def mean(values):
    return sum(values) / len(values)


def descend(theta, gradient, *, t, lr):
    return theta - lr / np.sqrt(t) * gradient


class total:
    def __init__(self):
        self.sum = 0

    def add(self, x):
        self.sum += x
