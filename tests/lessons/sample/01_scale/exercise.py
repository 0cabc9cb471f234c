"""Lesson 01: write these."""


def linear(x, weight, bias=None):
    """y = x Wᵀ + b.  x (..., d), weight (m, d), bias (m,) or None.  Returns (y, vjp)."""
    raise NotImplementedError


def mean(values):
    raise NotImplementedError


def descend(theta, gradient, *, t, lr):
    raise NotImplementedError


class total:
    def __init__(self):
        raise NotImplementedError
