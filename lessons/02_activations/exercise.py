"""Exercise 02: sigmoid, tanh and relu, and their gradients."""

import numpy as np


def sigmoid(x):
    """y = 1 / (1 + exp(-x)), element by element.

    x: any shape, any finite numbers. Digits matter: sigmoid(-720) is 2.03e-313, not 0.

    Returns (y, vjp): y has the shape of x; vjp(dy) -> dx, of the same shape.
    float32 in, float32 out.
    """
    raise NotImplementedError


def tanh(x):
    """y = (exp(2x) - 1) / (exp(2x) + 1), element by element.

    x: any shape, any finite numbers. Digits matter: tanh(400) is 1, and tanh(1e-12) is 1e-12.
    Do it with np.exp or np.expm1 first, and keep np.tanh to compare with.

    Returns (y, vjp): y has the shape of x; vjp(dy) -> dx, of the same shape.
    float32 in, float32 out.
    """
    raise NotImplementedError


def relu(x):
    """y = max(0, x), element by element. Where x is 0, take 0 as its derivative.

    x: any shape, any numbers, infinite ones too

    Returns (y, vjp): y has the shape of x; vjp(dy) -> dx, of the same shape.
    float32 in, float32 out.
    """
    raise NotImplementedError
