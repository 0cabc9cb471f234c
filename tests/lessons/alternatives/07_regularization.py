"""Lesson 07, written otherwise."""

import math

import numpy as np


def dropout__loops(x, *, p=0.5, rng=None, training=True):
    """Element by element; the places that were kept are remembered as a list."""
    y = np.array(x)
    kept = None
    if training and p > 0:
        u = rng.random(x.shape)
        kept = [index for index in np.ndindex(*x.shape) if not u[index] < p]
        y = np.zeros_like(x)
        for index in kept:
            y[index] = x[index] / (1 - p)

    def vjp(dy):
        if kept is None:
            return dy.copy()
        dx = np.zeros_like(dy)
        for index in kept:
            dx[index] = dy[index] / (1 - p)
        return dx

    return y, vjp


def dropout__where(x, *, p=0.5, rng=None, training=True):
    """What is dropped is chosen away, not multiplied away; one path for all cases."""
    p = p if training else 0.0
    dropped = rng.random(x.shape) < p if p else np.zeros(x.shape, bool)
    keep = x.dtype.type(1 - p)

    def choose(a):
        return np.where(dropped, a.dtype.type(0), a / a.dtype.type(keep))

    return choose(x), choose


def warmup_cosine__by_cases(step, *, total, warmup=0, final=0.0):
    """Three pieces, with the cosine of half the angle: (1 + cos 2a) / 2 = cos² a."""
    rise = (step + 1) / warmup if step + 1 < warmup else 1.0
    if step <= warmup:
        return rise
    if step >= total:
        return rise * final
    return final + (1 - final) * math.cos(math.pi / 2 * (step - warmup) / (total - warmup)) ** 2


def warmup_cosine__interpolation(step, *, total, warmup=0, final=0.0):
    """Two broken lines by interpolation; the fall seen from its middle, as a sine."""
    rise = np.interp(step, [-1, warmup - 1], [0, 1]) if warmup else 1
    angle = np.interp(step, [warmup, total], [math.pi / 2, -math.pi / 2])
    middle, height = (1 + final) / 2, (1 - final) / 2
    return float(rise * (middle + height * math.sin(angle)))
