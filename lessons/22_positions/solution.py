"""Solution 22: rotary positions, and the gradient."""

import numpy as np


def rope(x, *, base=10000.0, offset=0, interleaved=True):
    """Turn each pair of features by (position · frequency).  x [..., N, d], d even.

    Returns (y, vjp): y [..., N, d]; vjp(dy) -> dx.
    """
    N, d = x.shape[-2:]
    theta = base ** (-2 * np.arange(d // 2) / d)  # [d/2], one frequency for each pair
    position = offset + np.arange(N)  # [N]
    angle = position[:, None] * theta  # [N, d/2]
    cos, sin = np.cos(angle), np.sin(angle)  # float64, whatever x is: far positions need the digits
    first = slice(0, None, 2) if interleaved else slice(0, d // 2)  # where x1 stands
    second = slice(1, None, 2) if interleaved else slice(d // 2, None)  # where x2 stands

    def turn(x, sin):
        x1, x2 = x[..., first], x[..., second]  # [..., N, d/2] each
        y = np.empty_like(x)  # of the dtype of x
        y[..., first] = x1 * cos - x2 * sin
        y[..., second] = x1 * sin + x2 * cos
        return y

    def vjp(dy):
        # y = turn by the angle   =>   dx = dy turned back: sin(-angle) = -sin(angle)
        return turn(dy, -sin)

    return turn(x, sin), vjp
