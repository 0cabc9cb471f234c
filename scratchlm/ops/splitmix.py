"""Random numbers without a state: number i of a seed, whoever asks for it, and when.

SplitMix64 counts, and mixes the bits of the count, all modulo 2⁶⁴::

    z = seed + (i + 1) γ
    z = (z ^ (z >> 30)) * MIX1
    z = (z ^ (z >> 27)) * MIX2
    z = z ^ (z >> 31)

Dropout that must not keep its mask, as in an attention that keeps no N x M array, asks for the same
numbers again in backward. A kernel, tile by tile, and the composed op, all at once, drop the same.

Source: Steele, Lea & Flood 2014; the mixing constants are Stafford's (2011), his 13th.
"""

from __future__ import annotations

import math
from typing import Any

from ..backend import Array, arange_like, array_namespace, asarray_like

GAMMA = 0x9E3779B97F4A7C15  # 2⁶⁴ divided by the golden ratio, made odd
MIX1 = 0xBF58476D1CE4E5B9
MIX2 = 0x94D049BB133111EB


def draw_seed(rng: Any) -> int:
    """One 64-bit number of ``rng``, a ``numpy.random.Generator``: all that is drawn from it."""
    return int(rng.integers(0, 2**64 - 1, dtype="uint64", endpoint=True))


def limit(p: float) -> int:
    """Numbers below it are a share p of all."""
    return int(p * 2**64)


def keep_mask(seed: int, p: float, like: Array) -> Array:
    """``1 / (1 - p)``, or 0 with probability p: where number i of ``seed`` is below ``limit(p)``.

    i counts the elements of ``like`` in the order of its axes, the last one fastest; shape and
    dtype are those of ``like``.
    """
    xp = array_namespace(like)

    def constant(value: int) -> Array:
        return asarray_like(value % 2**64, like, xp.uint64)

    z = xp.astype(arange_like(math.prod(like.shape), like), xp.uint64)
    z *= constant(GAMMA)
    z += constant(seed + GAMMA)
    z ^= xp.bitwise_right_shift(z, constant(30))
    z *= constant(MIX1)
    z ^= xp.bitwise_right_shift(z, constant(27))
    z *= constant(MIX2)
    z ^= xp.bitwise_right_shift(z, constant(31))
    mask = xp.astype(z >= constant(limit(p)), like.dtype)
    mask *= 1 / (1 - p)
    return xp.reshape(mask, like.shape)
