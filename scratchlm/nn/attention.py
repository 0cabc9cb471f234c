"""Attention as a module: the weights can be recorded, and multi-head attention around it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import functional as F
from ..backend import array_namespace, asarray_like, to_host
from ..tensor import Tensor
from .layers import Linear, Rng, probability
from .module import Module


class Attention(Module):
    """``softmax(q kᵀ / sqrt(d) + bias) v`` with dropout in training; no parameters.

    Shapes: q (..., H, N, d), k and v (..., Hkv, M, d), result (..., H, N, d); Hkv divides H.

    While ``recorded`` is a list, each call appends its weights (..., H, N, M) to it, as a NumPy
    array (:func:`scratchlm.interpret.record_attention` sets it). A fused kernel never forms the
    weights, so recording asks the op for them, and the composed form runs.

    Source: Vaswani et al. 2017, eq. 1.
    """

    def __init__(
        self,
        *,
        causal: bool = False,
        scale: float | None = None,
        dropout: float = 0.0,
        rng: Rng = None,
    ) -> None:
        self.causal = causal
        self.scale = scale
        self.dropout = probability(dropout, "Attention: dropout")
        self.rng = np.random.default_rng(rng)
        self.recorded: list[np.ndarray] | None = None

    def forward(self, q: Any, k: Any, v: Any, *, bias: Any = None, mask: Any = None) -> Any:
        inputs = (q, k, v) if bias is None else (q, k, v, bias)
        options: dict[str, Any] = {"mask": mask, "causal": self.causal}
        if self.scale is not None:
            options["scale"] = self.scale
        if self.training and self.dropout > 0:
            options |= {"dropout_p": self.dropout, "rng": self.rng}
        if self.recorded is None:
            return F.attention(*inputs, **options)
        y, weights = F.attention(*inputs, return_weights=True, **options)
        self.recorded.append(np.array(to_host(weights.data)))
        return y

    def extra_repr(self) -> str:
        return f"causal={self.causal}, dropout={self.dropout}"


class MultiHeadAttention(Module):
    """``num_heads`` attentions side by side, each on its own slice of projected q, k and v.

    Args:
        embed_dim: the last axis of query, key, value and result.
        num_heads: divides ``embed_dim``.
        num_kv_heads: heads of k and v, each shared by ``num_heads / num_kv_heads`` heads of q
            (grouped queries; 1 is multi-query attention); all by default.
        causal: position i attends to positions up to i only.
        scale: of the scores; ``1 / sqrt(embed_dim / num_heads)`` by default (T5 has 1).
        rotary: turns q and k by their positions (:class:`scratchlm.nn.RotaryPositions`).
        dropout: probability of dropping an attention weight in training.

    Source: Vaswani et al. 2017, §3.2.2; Ainslie et al. 2023 for grouped queries.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        causal: bool = False,
        scale: float | None = None,
        rotary: Module | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                f"MultiHeadAttention: embed_dim={embed_dim} does not split evenly into "
                f"num_heads={num_heads}"
            )
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(
                f"MultiHeadAttention: num_heads={num_heads} can not share "
                f"num_kv_heads={num_kv_heads} evenly"
            )
        rng = np.random.default_rng(rng)
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = embed_dim // num_heads
        kv_dim = num_kv_heads * self.head_dim
        self.q_proj = Linear(embed_dim, embed_dim, bias, rng=rng, dtype=dtype)
        self.k_proj = Linear(embed_dim, kv_dim, bias, rng=rng, dtype=dtype)
        self.v_proj = Linear(embed_dim, kv_dim, bias, rng=rng, dtype=dtype)
        self.out_proj = Linear(embed_dim, embed_dim, bias, rng=rng, dtype=dtype)
        self.rotary = rotary
        self.attend = Attention(causal=causal, scale=scale, dropout=dropout, rng=rng)

    def forward(
        self,
        query: Any,
        key: Any = None,
        value: Any = None,
        *,
        bias: Any = None,
        mask: Any = None,
        key_padding_mask: Any = None,
        positions: Any = None,
    ) -> Any:
        """Query (..., N, C), key and value (..., M, C); result (..., N, C).

        Args:
            query: what looks.
            key: what is looked at, by default ``query`` (self-attention); of another sequence for
                cross-attention, of another length too.
            value: by default ``key``.
            bias: added to the scores, with a gradient; broadcasts to (..., H, N, M)
                (:class:`scratchlm.nn.RelativePositionBias` makes one).
            mask: boolean (True: may attend) or additive; broadcasts to (..., H, N, M).
            key_padding_mask: boolean (..., M), True where a key is padding, which no query attends
                to; as in PyTorch. Together with ``mask``: what either forbids is forbidden.
            positions: where the tokens stand, for ``rotary``: integers (N,), or what broadcasts to
                (..., H, N). By default 0 ... M - 1 for the keys, and the last query stands where
                the last key does.

        Raises:
            ValueError: widths other than ``embed_dim``, batches that differ, a mask of another
                shape, positions without ``rotary``.
            TypeError: a padding mask that is not boolean.
        """
        key = query if key is None else key
        value = key if value is None else value
        self._check(query, key, value)
        if key_padding_mask is not None:
            mask = with_padding(mask, key_padding_mask, key)
        q = split_heads(self.q_proj(query), self.num_heads)  # [..., N, C] -> [..., H, N, d]
        k = split_heads(self.k_proj(key), self.num_kv_heads)  # [..., M, Hkv*d] -> [..., Hkv, M, d]
        v = split_heads(self.v_proj(value), self.num_kv_heads)
        if self.rotary is not None:
            ahead = 0 if positions is not None else k.shape[-2] - q.shape[-2]
            q = self.rotary(q, positions=positions, offset=ahead)
            k = self.rotary(k, positions=positions)
        elif positions is not None:
            raise ValueError("MultiHeadAttention: positions are for rotary=, which is not set")
        return self.out_proj(merge_heads(self.attend(q, k, v, bias=bias, mask=mask)))

    def _check(self, query: Any, key: Any, value: Any) -> None:
        width = self.q_proj.in_features
        shapes = [tuple(x.shape) for x in (query, key, value)]
        named = "MultiHeadAttention: query {}, key {}, value {}: ".format(*shapes)
        if any(len(shape) < 2 or shape[-1] != width for shape in shapes):
            raise ValueError(named + f"each must be (..., length, {width}), embed_dim={width}")
        if len({shape[:-2] for shape in shapes}) > 1:
            raise ValueError(
                named + "the axes before the length must agree: give all three one batch"
            )
        if shapes[1] != shapes[2]:
            raise ValueError(named + "each key has one value: their lengths must agree")

    def extra_repr(self) -> str:
        kv = f", num_kv_heads={self.num_kv_heads}" if self.num_kv_heads != self.num_heads else ""
        return f"num_heads={self.num_heads}{kv}"


def with_padding(mask: Any, padding: Any, key: Any) -> Any:
    """``mask`` for (..., H, N, M) that also forbids the keys where ``padding`` (..., M) is True."""
    mask, padding = (x.data if isinstance(x, Tensor) else x for x in (mask, padding))
    if not hasattr(padding, "dtype"):
        padding = asarray_like(np.asarray(padding), key.data)
    xp = array_namespace(padding)
    if not xp.isdtype(padding.dtype, "bool"):
        raise TypeError(
            f"MultiHeadAttention: key_padding_mask is {padding.dtype}; it is boolean, True where a "
            "key is padding: key_padding_mask = ids == pad_id"
        )
    if tuple(padding.shape) != tuple(key.shape[:-1]):
        raise ValueError(
            f"MultiHeadAttention: key_padding_mask has shape {tuple(padding.shape)}, the keys "
            f"{tuple(key.shape)}: it says of each key whether it is padding, so give it "
            f"{tuple(key.shape[:-1])}"
        )
    real = ~padding[..., None, None, :]  # [..., M] -> [..., 1, 1, M]
    if mask is None:
        return real
    if xp.isdtype(mask.dtype, "bool"):
        return mask & real
    zero = xp.zeros_like(mask[..., :1, :1])  # of the dtype of the mask
    return mask + xp.where(real, zero, zero - math.inf)


def split_heads(x: Any, heads: int) -> Any:
    """``[..., N, H*d] -> [..., H, N, d]``, a view."""
    *batch, n, c = x.shape
    return x.reshape(*batch, n, heads, c // heads).transpose(-2, -3)


def merge_heads(x: Any) -> Any:
    """``[..., H, N, d] -> [..., N, H*d]``, back again."""
    *batch, h, n, d = x.shape
    return x.transpose(-2, -3).reshape(*batch, n, h * d)
