"""Solution 07: dropout with its gradient, and a schedule with warm-up."""

import math


def dropout(x, *, p=0.5, rng=None, training=True):
    """y = x · m / (1 - p), each m 0 with probability p, else 1.  Returns (y, vjp)."""
    if not training or p == 0:
        return x[...], lambda dy: dy  # nothing is dropped, nothing is scaled

    keep = rng.random(x.shape) >= p  # x.shape, True with probability 1 - p
    factor = keep.astype(x.dtype) / (1 - p)  # x.shape: 0, or 1 / (1 - p)

    y = x * factor

    def vjp(dy):
        # y = x * factor, element by element; the factor is the one of forward
        return dy * factor

    return y, vjp


def warmup_cosine(step, *, total, warmup=0, final=0.0):
    """A linear rise over the first steps, then half a cosine from 1 down to final."""
    rise = min(1, (step + 1) / warmup) if warmup else 1

    progress = (step - warmup) / (total - warmup)  # 0 where the rise ends, 1 at total
    progress = min(1, max(0, progress))
    fall = final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2

    return rise * fall
