"""Solution 23: GELU in its two forms, SwiGLU, and their gradients."""

import math

import numpy as np


def erf(x):
    """(2 / √π) ∫₀ˣ exp(-t²) dt for each element, in the dtype of x."""
    return np.vectorize(math.erf, otypes=[float])(x).astype(x.dtype)


def gelu(x, *, approximate="none"):
    """y = x Φ(x), or with tanh in the place of erf.  x: any shape.  Returns (y, vjp)."""
    return gelu_tanh(x) if approximate == "tanh" else gelu_exact(x)


def gelu_exact(x):
    Phi = (1 + erf(x / math.sqrt(2))) / 2  # as x: the share of a normal distribution below x
    y = x * Phi  # as x

    def vjp(dy):
        phi = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)  # as x: the derivative of Phi
        # y = x Phi(x): x stands there twice
        return dy * (Phi + x * phi)  # as x

    return y, vjp


def gelu_tanh(x):
    c, k = math.sqrt(2 / math.pi), 0.044715
    u = c * (x + k * x * x * x)  # as x
    t = np.tanh(u)  # as x
    y = x * (1 + t) / 2  # as x

    def vjp(dy):
        # u = c (x + k x³)
        du_dx = c * (1 + 3 * k * x * x)  # as x
        # t = tanh(u)
        dt_dx = (1 - t * t) * du_dx  # as x
        # y = x (1 + t) / 2: x stands there twice, once inside t
        return dy * ((1 + t) / 2 + x * dt_dx / 2)  # as x

    return y, vjp


def swiglu(a, b):
    """y = a σ(a) b.  a, b: any shape, the same.  Returns (y, vjp)."""
    s = np.exp(np.minimum(a, 0)) / (1 + np.exp(-np.abs(a)))  # as a: σ(a), no exponent above 0
    gate = a * s  # as a
    y = gate * b  # as a

    def vjp(dy):
        # y = gate b
        db = dy * gate  # as a
        dgate = dy * b  # as a
        # gate = a σ(a): a stands there twice, and σ' = σ (1 - σ)
        da = dgate * (s + a * s * (1 - s))  # as a
        return da, db

    return y, vjp
