"""Exercise 23: GELU in its two forms, SwiGLU, and their gradients."""

import math

import numpy as np


def erf(x):
    """(2 / √π) ∫₀ˣ exp(-t²) dt for each element, in the dtype of x. It is yours to use."""
    return np.vectorize(math.erf, otypes=[float])(x).astype(x.dtype)


def gelu(x, *, approximate="none"):
    """y = x Φ(x), each element by itself.  x: any shape.

    approximate="none":  Φ(x) = (1 + erf(x / √2)) / 2
    approximate="tanh":  (1 + tanh(u)) / 2 in the place of Φ(x), u = √(2/π) (x + 0.044715 x³)

    Returns (y, vjp): y as x; vjp(dy) -> dx, as x.
    float32 in, float32 out; x and dy stay as they are.
    """
    raise NotImplementedError


def swiglu(a, b):
    """y = a σ(a) b, with σ(a) = 1 / (1 + exp(-a)).  a, b: any shape, the same for both.

    Returns (y, vjp): y as a; vjp(dy) -> (da, db), both as a.
    Every finite a has a finite y and finite gradients. float32 in, float32 out; a, b and dy stay
    as they are.
    """
    raise NotImplementedError
