"""Two further right solutions of exercise 22, written in other ways."""

import math

import numpy as np


def rope__complex(x, *, base=10000.0, offset=0, interleaved=True):
    """A pair is a complex number, a rotation the product with one of length 1."""
    N, d = x.shape[-2:]
    p = np.arange(offset, offset + N).reshape(N, 1)
    unit = np.exp(1j * p * np.power(base, -np.linspace(0, 1, d // 2, endpoint=False)))

    def paired(a):
        if interleaved:
            return a[..., ::2] + 1j * a[..., 1::2]
        return a[..., : d // 2] + 1j * a[..., d // 2 :]

    def unpaired(z):
        parts = (z.real, z.imag)
        if interleaved:
            joined = np.stack(parts, axis=-1).reshape(x.shape)
        else:
            joined = np.concatenate(parts, axis=-1)
        return joined.astype(x.dtype)

    return unpaired(paired(x) * unit), lambda dy: unpaired(paired(dy) * unit.conj())


def rope__loops(x, *, base=10000.0, offset=0, interleaved=True):
    """One position and one pair after the other."""
    N, d = x.shape[-2:]

    def turned(a, way):
        b = np.array(a)
        for n in range(N):
            for i in range(d // 2):
                one, two = (2 * i, 2 * i + 1) if interleaved else (i, i + d // 2)
                angle = way * (n + offset) / base ** (2 * i / d)
                c, s = math.cos(angle), math.sin(angle)
                b[..., n, one] = c * a[..., n, one] - s * a[..., n, two]
                b[..., n, two] = s * a[..., n, one] + c * a[..., n, two]
        return b

    return turned(x, 1), lambda dy: turned(dy, -1)


def rope__matrices(x, *, base=10000.0, offset=0, interleaved=True):
    """A block diagonal d x d matrix for each position; backward is its transpose."""
    N, d = x.shape[-2:]
    features = np.arange(d).reshape(d // 2, 2) if interleaved else np.arange(d).reshape(2, -1).T
    R = np.zeros((N, d, d))
    for n in range(N):
        for i, (one, two) in enumerate(features):
            angle = (n + offset) * base ** (-2 * i / d)
            R[n, [one, two], [one, two]] = math.cos(angle)
            R[n, two, one] = math.sin(angle)
            R[n, one, two] = -math.sin(angle)
    R = R.astype(x.dtype)
    y = np.einsum("nij,...nj->...ni", R, x)
    return y, lambda dy: np.einsum("nij,...ni->...nj", R, dy)
