"""Rotary positions: each pair of features is a point in a plane, and its position turns it."""

from __future__ import annotations

from collections.abc import Sequence

from ..backend import Array, arange_like, array_namespace, asarray_like
from ..registry import op
from ._checks import integer
from ._types import Vjp


@op("y = R(p) x: each pair of features turned by p · base^(-2i / r)")
def rope(
    x: Array,
    *,
    positions: Array | None = None,
    offset: int = 0,
    base: float = 10000.0,
    rotary_dim: int | None = None,
    interleaved: bool = True,
    frequencies: Sequence[float] | None = None,
) -> tuple[Array, Vjp]:
    """Rotary position embedding: the pair i of features at position p is turned by ``p θ_i``::

        θ_i = base^(-2i / r),   i = 0 ... r/2 - 1
        y1 = x1 cos(p θ_i) - x2 sin(p θ_i)
        y2 = x1 sin(p θ_i) + x2 cos(p θ_i)

    Shapes: x ``[..., N, d]``, for attention q or k ``[B, H, N, d]`` -> y of the same.

    Turned so, the product of a query at n with a key at m depends on ``n - m`` alone, since
    ``R(n)ᵀ R(m) = R(m - n)``; and no vector changes its length.

    Args:
        x: queries or keys.
        positions: integers, ``[N]`` or what broadcasts to ``[..., N]``; by default 0, 1, ... N - 1.
        offset: is added to every position: the number of keys that a cache holds already.
        base: of the frequencies; pair 0 turns by one radian a step, the last by about 1 / base.
        rotary_dim: r, even; only the first r features are turned. By default all d.
        interleaved: which features are a pair. True: neighbors, 2i and 2i + 1, as published (and
            in GPT-J and GGUF files). False: i and i + r/2, the two halves (Llama and GPT-NeoX in
            transformers). The two differ by an order of features, so weights of one give nonsense
            in the other.
        frequencies: the r/2 numbers θ_i, where they are not ``base^(-2i / r)`` (Llama 3.1 and later
            turn the slow pairs more slowly still).

    Backward: a rotation is undone by the opposite one, and its transpose is its inverse, so
    ``dx = R(-p) dy``: forward with the sign of the sine flipped. Nothing of x is kept.

    The angles are computed in float64: at position 100,000 a float32 angle is off by 0.004.

    Raises:
        ValueError: x with less than two axes, an odd or too large ``rotary_dim``, positions that do
            not broadcast, a base that is not positive, another number of frequencies than pairs.
        TypeError: positions that are no integers.

    Source: Su 2021, §3.2.2 and eq. 34; partial rotation: Black 2022 (GPT-NeoX), §2.1.
    """
    if x.ndim < 2:
        raise ValueError(
            f"rope: x has shape {tuple(x.shape)}; it must be (..., N, d), a row of features for "
            "each position"
        )
    N, d = x.shape[-2:]
    r = d if rotary_dim is None else integer("rope", "rotary_dim", rotary_dim)
    if r % 2 or not 0 <= r <= d:
        what = "d" if rotary_dim is None else "rotary_dim"
        raise ValueError(
            f"rope: {what} is {r}, x {tuple(x.shape)}: features are turned in pairs, so it must be "
            f"even and at most {d}; rotary_dim= turns the first features only"
        )
    if not base > 0:
        raise ValueError(f"rope: base is {base}; it must be positive, as in base^(-2i / r)")
    xp = array_namespace(x, positions)
    if positions is None:
        positions = arange_like(N, x)
    elif not xp.isdtype(positions.dtype, "integral"):
        raise TypeError(f"rope: positions are {positions.dtype}; they count tokens: use integers")
    elif positions.ndim >= x.ndim or any(
        have not in (1, want)
        for have, want in zip(positions.shape[::-1], x.shape[-2::-1], strict=False)
    ):
        raise ValueError(
            f"rope: positions {tuple(positions.shape)} and x {tuple(x.shape)}: positions must "
            "broadcast to x without its last axis; an axis of 1 stands for the heads"
        )
    if frequencies is None:
        frequencies = [base ** (-2 * i / r) for i in range(r // 2)]
    elif len(frequencies) != r // 2:
        raise ValueError(
            f"rope: there are {len(frequencies)} frequencies, and x {tuple(x.shape)} has {r // 2} "
            "pairs of features to turn: give one for each"
        )
    theta = asarray_like(frequencies, x, xp.float64)
    p = xp.astype(positions + integer("rope", "offset", offset), xp.float64)
    angle = xp.expand_dims(p, axis=-1) * theta  # [..., N] -> [..., N, r/2]
    cos = xp.astype(xp.cos(angle), x.dtype, copy=False)
    sin = xp.astype(xp.sin(angle), x.dtype, copy=False)

    def vjp(dy: Array) -> Array:
        # y = R(p) x   =>   dx = R(p)ᵀ dy = R(-p) dy
        return _turn(dy, cos, -sin, interleaved)

    return _turn(x, cos, sin, interleaved), vjp


def _turn(x: Array, cos: Array, sin: Array, interleaved: bool) -> Array:
    """The pairs ``(x1, x2)`` of the first features turned, the other features as they are."""
    xp = array_namespace(x)
    half = cos.shape[-1]
    r = 2 * half
    if interleaved:
        x1, x2 = x[..., 0:r:2], x[..., 1:r:2]
    else:
        x1, x2 = x[..., :half], x[..., half:r]
    y1 = x1 * cos - x2 * sin
    y2 = x1 * sin + x2 * cos
    if interleaved:
        parts = [xp.reshape(xp.stack([y1, y2], axis=-1), (*x.shape[:-1], r))]
    else:
        parts = [y1, y2]
    return xp.concat([*parts, x[..., r:]], axis=-1)
