"""Where a token stands: sinusoids, a learned row, a rotation, or a bias on the scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import functional as F
from ..backend import asarray_like
from .layers import Rng, normal
from .module import Buffer, Module


def sinusoids(length: int, dim: int, *, base: float = 10000.0, offset: int = 0) -> np.ndarray:
    """``[length, dim]`` in float64: for each position p, sines and cosines of many wavelengths::

        PE[p, 2i] = sin(p / base^(2i / dim))     PE[p, 2i + 1] = cos(p / base^(2i / dim))

    Raises:
        ValueError: an odd ``dim`` (sine and cosine come in pairs), a negative length.

    Source: Vaswani et al. 2017, §3.5.
    """
    if dim % 2 or dim < 0 or length < 0:
        raise ValueError(
            f"sinusoids: length {length}, dim {dim}: each frequency takes a sine and a cosine, so "
            "dim must be even, and neither may be negative"
        )
    positions = np.arange(offset, offset + length, dtype=np.float64)[:, None]
    angle = positions * base ** (-np.arange(0, dim, 2) / max(dim, 1))  # [length, dim / 2]
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, dim)


class SinusoidalPositions(Module):
    """``y = x + PE``: x (..., N, embed_dim), the table of :func:`sinusoids`, nothing learned.

    Source: Vaswani et al. 2017, §3.5.
    """

    def __init__(
        self,
        num_positions: int,
        embed_dim: int,
        *,
        base: float = 10000.0,
        dtype: Any = np.float32,
    ) -> None:
        self.table = Buffer(sinusoids(num_positions, embed_dim, base=base).astype(dtype))

    def forward(self, x: Any, *, offset: int = 0) -> Any:
        return x + _rows(self.table, x.shape[-2], offset, "SinusoidalPositions")

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.table.shape))


class LearnedPositions(Module):
    """``y = x + weight[0 ... N - 1]``: a learned row for each position, as in BERT and GPT-2.

    ``offset`` is the position of the first row of x. There is no row beyond ``num_positions``.

    Source: Gehring et al. 2017, §3.1; Devlin et al. 2019, §3.
    """

    def __init__(
        self,
        num_positions: int,
        embed_dim: int,
        *,
        std: float = 0.02,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        self.weight = normal(rng, (num_positions, embed_dim), std, dtype)

    def forward(self, x: Any, *, offset: int = 0) -> Any:
        return x + _rows(self.weight, x.shape[-2], offset, "LearnedPositions")

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.weight.shape))


def _rows(table: Any, n: int, offset: int, name: str) -> Any:
    """Rows ``offset ... offset + n - 1``."""
    if offset < 0 or offset + n > table.shape[0]:
        raise ValueError(
            f"{name}: positions {offset} to {offset + n - 1} are asked for, and the table has rows "
            f"0 to {table.shape[0] - 1}; make num_positions larger, or the text shorter"
        )
    return table[offset : offset + n]


class RotaryPositions(Module):
    """Turns queries and keys (..., N, d) by their position: the op ``rope``; nothing learned.

    ``frequencies``, of which there are as many as pairs, replace those that ``base`` makes.

    Source: Su et al. 2021, §3.2.2.
    """

    def __init__(
        self,
        *,
        base: float = 10000.0,
        rotary_dim: int | None = None,
        interleaved: bool = True,
        frequencies: Sequence[float] | None = None,
    ) -> None:
        self.frequencies = frequencies
        self.base = base
        self.rotary_dim = rotary_dim
        self.interleaved = interleaved

    def forward(self, x: Any, *, positions: Any = None, offset: int = 0) -> Any:
        own = {} if self.frequencies is None else {"frequencies": self.frequencies}
        return F.rope(
            x,
            **own,
            positions=positions,
            offset=offset,
            base=self.base,
            rotary_dim=self.rotary_dim,
            interleaved=self.interleaved,
        )

    def extra_repr(self) -> str:
        part = "" if self.rotary_dim is None else f", rotary_dim={self.rotary_dim}"
        return f"base={self.base}{part}, interleaved={self.interleaved}"


class RelativePositionBias(Module):
    """T5's bias: how much head h likes a key, by how far away it is; added to the scores.

    ``bias[h, i, j] = weight[bucket(j - i), h]``, weight (num_buckets, num_heads). Half of the
    buckets hold one distance each, the others grow with the logarithm, and all distances from
    ``max_distance`` on share the last. Bidirectional, half of all buckets are for later keys;
    causal, all later keys share bucket 0 (a mask must hide them).

    Source: Raffel et al. 2020, §2.1.
    """

    def __init__(
        self,
        num_heads: int,
        *,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        std: float = 0.02,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        relative_position_bucket(
            np.zeros(0, int), bidirectional, num_buckets, max_distance
        )  # the words for sizes that can not be
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.weight = normal(rng, (num_buckets, num_heads), std, dtype)

    def forward(self, queries: int, keys: int | None = None) -> Any:
        """The bias (H, queries, keys). The last query stands where the last key does."""
        keys = queries if keys is None else keys
        at = np.arange(queries) + (keys - queries)
        buckets = relative_position_bucket(
            np.arange(keys) - at[:, None], self.bidirectional, self.num_buckets, self.max_distance
        )
        ids = asarray_like(buckets, self.weight.data)
        return F.permute(F.embedding(ids, self.weight), axes=(2, 0, 1))  # [N, M, H] -> [H, N, M]

    def extra_repr(self) -> str:
        return (
            f"num_heads={self.weight.shape[1]}, num_buckets={self.num_buckets}, "
            f"max_distance={self.max_distance}, bidirectional={self.bidirectional}"
        )


def relative_position_bucket(
    relative: np.ndarray,
    bidirectional: bool = True,
    num_buckets: int = 32,
    max_distance: int = 128,
) -> np.ndarray:
    """T5's bucket for each relative position, key minus query.

    With n buckets for one direction, and the distance D = ``|j - i|``::

        D                                              for D < n/2
        min(n - 1, n/2 + floor(n/2 · log(D / (n/2)) / log(max_distance / (n/2))))   from n/2 on

    Raises:
        ValueError: too few buckets, or a ``max_distance`` that the exact ones reach already.

    Source: Raffel et al. 2020, §2.1.
    """
    buckets = num_buckets // 2 if bidirectional else num_buckets
    exact = buckets // 2
    if exact < 1 or max_distance <= exact:
        raise ValueError(
            f"relative_position_bucket: num_buckets={num_buckets}, max_distance={max_distance}, "
            f"bidirectional={bidirectional}: {exact} distances would have a bucket of their own; "
            "there must be at least one, and max_distance must be larger"
        )
    first = buckets * (relative > 0) if bidirectional else 0
    distance = np.abs(relative) if bidirectional else np.maximum(-relative, 0)
    # In float32, as T5 does: where the quotient is an integer, rounding decides the bucket.
    ratio = np.log(np.maximum(distance, exact).astype(np.float32) / np.float32(exact))
    steps = ratio / np.float32(math.log(max_distance / exact)) * np.float32(buckets - exact)
    far = np.minimum(exact + steps.astype(np.int64), buckets - 1)
    return first + np.where(distance < exact, distance, far)
