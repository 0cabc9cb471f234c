"""Exercise 22: rotary positions, and the gradient."""

import numpy as np  # you will need it


def rope(x, *, base=10000.0, offset=0, interleaved=True):
    """Turn each pair of features by (position · frequency).

    x: [..., N, d], d even; row n stands at position p = n + offset, any number of leading axes.
    The pair i, for i = 0 ... d/2 - 1, has the frequency θ = base^(-2i / d), and

        y1 = x1 cos(p θ) - x2 sin(p θ)
        y2 = x1 sin(p θ) + x2 cos(p θ)

    interleaved=True:  the pair i is features 2i and 2i + 1
    interleaved=False: the pair i is features i and i + d/2

    Returns (y, vjp): y [..., N, d]; vjp(dy) -> dx [..., N, d].
    float32 in, float32 out; x and dy stay as they are.
    """
    raise NotImplementedError
