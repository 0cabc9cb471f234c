"""T5: the encoder–decoder of Raffel et al. 2020, for which every task is from text to text.

Shapes in the comments: B pairs of S source and T target tokens, width C = n_embd, H heads of d
each, V words. Differences from Vaswani et al. 2017: pre-norm; the norm takes no mean away and has
no bias, nor has any layer; no position is added to a token, but how far a key is from a query adds
a learned bias to their score (one table for all layers of a side); and scores are not divided by
sqrt(d), which the smaller initial weights of q make up for. Version 1.1 gates the feed-forward with
a GELU and has an output layer of its own.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from .. import functional as F
from ..backend import array_namespace
from ..nn import (
    ACTIVATIONS,
    Attention,
    Dropout,
    Embedding,
    Linear,
    Module,
    ModuleList,
    RelativePositionBias,
    RMSNorm,
)
from ..nn.attention import merge_heads, split_heads
from ..tensor import Tensor
from ._common import Config, token_ids, token_mask
from ._writing import States, Writes, with_columns

# name in the published configuration: activation, and whether there is a gate
FEED_FORWARD = {
    "relu": ("relu", False),
    "gated-gelu": ("gelu_tanh", True),
    "gated-relu": ("relu", True),
    "gated-silu": ("silu", True),
}


@dataclasses.dataclass(frozen=True)
class T5Config(Config):
    """The sizes of a T5; the defaults are those of the small model (60.5M parameters).

    Raises:
        TypeError, ValueError: sizes that are no positive integers, options that do not exist; one
            message names all.
    """

    vocab_size: int = 32128
    n_layer: int = 6  # of the encoder
    n_decoder_layer: int | None = None  # None: as many
    n_head: int = 8
    n_embd: int = 512
    head_dim: int = 64  # n_head heads of it need not make up n_embd
    n_inner: int = 2048  # the width inside the feed-forward
    feed_forward: str = "relu"  # or "gated-gelu" (version 1.1), "gated-relu", "gated-silu"
    num_buckets: int = 32  # of the relative positions
    max_distance: int = 128
    dropout: float = 0.1
    eps: float = 1e-6  # of the norms
    tie_weights: bool = True  # the output layer is the token table
    pad_id: int = 0
    start_id: int = 0  # the first token that the decoder reads

    def __post_init__(self) -> None:
        if self.n_decoder_layer is None:
            object.__setattr__(self, "n_decoder_layer", self.n_layer)
        problems = []
        if self.feed_forward not in FEED_FORWARD:
            problems.append(
                f"feed_forward={self.feed_forward!r} is none of {', '.join(FEED_FORWARD)}"
            )
        self._refuse(
            problems,
            sizes="vocab_size n_layer n_decoder_layer n_head n_embd head_dim n_inner num_buckets "
            "max_distance",
            shares="dropout",
            above_0="eps",
        )
        outside = [
            f"{name}={getattr(self, name)} is no id, from 0 to {self.vocab_size - 1}"
            for name in ("pad_id", "start_id")
            if not 0 <= getattr(self, name) < self.vocab_size
        ]
        if outside:
            raise ValueError("T5Config: " + "; ".join(outside))


class T5Attention(Module):
    """H attentions of d each; the scores are not scaled, a bias may be added to them."""

    def __init__(
        self, config: T5Config, *, causal: bool = False, bias: str | None = None, **kind: Any
    ) -> None:
        C, H, d = config.n_embd, config.n_head, config.head_dim
        self.n_head = H
        self.q = Linear(C, H * d, False, std=1 / math.sqrt(C * d), **kind)
        self.k = Linear(C, H * d, False, std=1 / math.sqrt(C), **kind)
        self.v = Linear(C, H * d, False, std=1 / math.sqrt(C), **kind)
        self.o = Linear(H * d, C, False, std=1 / math.sqrt(H * d), **kind)
        self.relative_attention_bias = None
        if bias is not None:
            self.relative_attention_bias = RelativePositionBias(
                H,
                num_buckets=config.num_buckets,
                max_distance=config.max_distance,
                bidirectional=bias == "both sides",
                std=1 / math.sqrt(C),
                **kind,
            )
        self.attend = Attention(causal=causal, scale=1.0, dropout=config.dropout, rng=kind["rng"])

    def forward(self, x: Any, memory: Any, bias: Any, mask: Any) -> Any:
        q = split_heads(self.q(x), self.n_head)  # [B, T, C] -> [B, H, T, d]
        k = split_heads(self.k(memory), self.n_head)  # [B, S, C] -> [B, H, S, d]
        v = split_heads(self.v(memory), self.n_head)
        y = self.attend(q, k, v, bias=bias, mask=mask)  # [B, H, T, d]
        return self.o(merge_heads(y))  # [B, T, C]


class SelfAttentionLayer(Module):
    """``x + attention(norm(x))``, each position to its own side."""

    def __init__(self, config: T5Config, *, causal: bool, bias: str | None, **kind: Any) -> None:
        self.SelfAttention = T5Attention(config, causal=causal, bias=bias, **kind)
        self.layer_norm = RMSNorm(config.n_embd, config.eps, dtype=kind["dtype"])
        self.drop = Dropout(config.dropout, rng=kind["rng"])

    def forward(self, x: Any, bias: Any, mask: Any) -> Any:
        h = self.layer_norm(x)
        return x + self.drop(self.SelfAttention(h, h, bias, mask))  # [B, T, C]


class CrossAttentionLayer(Module):
    """``x + attention(norm(x), memory)``, each position of the target to the source."""

    def __init__(self, config: T5Config, **kind: Any) -> None:
        self.EncDecAttention = T5Attention(config, **kind)
        self.layer_norm = RMSNorm(config.n_embd, config.eps, dtype=kind["dtype"])
        self.drop = Dropout(config.dropout, rng=kind["rng"])

    def forward(self, x: Any, memory: Any, mask: Any) -> Any:
        h = self.EncDecAttention(self.layer_norm(x), memory, None, mask)
        return x + self.drop(h)  # [B, T, C], reads [B, S, C]


class DenseReluDense(Module):
    """``W_o f(W_i x)``, or gated ``W_o (f(W_i0 x) * W_i1 x)``; the name is the published one."""

    def __init__(self, config: T5Config, **kind: Any) -> None:
        C, inner = config.n_embd, config.n_inner
        self.activation, self.gated = FEED_FORWARD[config.feed_forward]
        if self.gated:
            self.wi_0 = Linear(C, inner, False, std=1 / math.sqrt(C), **kind)
            self.wi_1 = Linear(C, inner, False, std=1 / math.sqrt(C), **kind)
        else:
            self.wi = Linear(C, inner, False, std=1 / math.sqrt(C), **kind)
        self.wo = Linear(inner, C, False, std=1 / math.sqrt(inner), **kind)
        self.drop = Dropout(config.dropout, rng=kind["rng"])

    def forward(self, x: Any) -> Any:
        f = ACTIVATIONS[self.activation]
        h = f(self.wi_0(x)) * self.wi_1(x) if self.gated else f(self.wi(x))  # [B, T, n_inner]
        return self.wo(self.drop(h))  # [B, T, C]


class FeedForwardLayer(Module):
    """``x + feed_forward(norm(x))``."""

    def __init__(self, config: T5Config, **kind: Any) -> None:
        self.DenseReluDense = DenseReluDense(config, **kind)
        self.layer_norm = RMSNorm(config.n_embd, config.eps, dtype=kind["dtype"])
        self.drop = Dropout(config.dropout, rng=kind["rng"])

    def forward(self, x: Any) -> Any:
        return x + self.drop(self.DenseReluDense(self.layer_norm(x)))  # [B, T, C]


class Block(Module):
    """One layer of a side: self-attention, in the decoder a look at the source, feed-forward."""

    def __init__(self, config: T5Config, *, decoder: bool, bias: str | None, **kind: Any) -> None:
        parts: list[Module] = [SelfAttentionLayer(config, causal=decoder, bias=bias, **kind)]
        if decoder:
            parts.append(CrossAttentionLayer(config, **kind))
        parts.append(FeedForwardLayer(config, **kind))
        self.layer = ModuleList(parts)

    def bias(self, length: int) -> Any:
        """What the places of two tokens add to their score, [H, T, T]; the first block's."""
        return self.layer[0].SelfAttention.relative_attention_bias(length)  # type: ignore[attr-defined]

    def forward(self, x: Any, bias: Any, mask: Any, memory: Any, memory_mask: Any) -> Any:
        x = self.layer[0](x, bias, mask)
        if memory is not None:
            x = self.layer[1](x, memory, memory_mask)
        return self.layer[-1](x)  # [B, T, C]


class Stack(Module):
    """The encoder or the decoder. The first block holds the table of biases; all use it."""

    def __init__(
        self, config: T5Config, table: Embedding, n_layer: int, *, decoder: bool, **kind: Any
    ) -> None:
        side = "one side" if decoder else "both sides"
        self.embed_tokens = table
        self.block = ModuleList(
            Block(config, decoder=decoder, bias=None if i else side, **kind) for i in range(n_layer)
        )
        self.final_layer_norm = RMSNorm(config.n_embd, config.eps, dtype=kind["dtype"])
        self.drop = Dropout(config.dropout, rng=kind["rng"])

    def forward(
        self, ids: Any, mask: Any = None, memory: Any = None, memory_mask: Any = None
    ) -> Any:
        x = self.drop(self.embed_tokens(ids))  # [B, T] -> [B, T, C]
        bias = self.block[0].bias(ids.shape[-1])  # type: ignore[attr-defined]  # [H, T, T]
        for block in self.block:
            x = block(x, bias, mask, memory, memory_mask)
        return self.drop(self.final_layer_norm(x))  # [B, T, C]


class T5(Writes, Module):
    """Logits of the next target token at every position of the target.

    Args:
        config: the sizes.
        rng: a ``numpy.random.Generator`` or a seed: initial weights, and dropout later on.
        dtype: of the weights; float32 to train, float64 to check.
        std: of the initial token table. As published it is 1, and it is so here where the output
            layer has a matrix of its own (which starts at 0.02). A table that is tied to the output
            starts at 0.05: at 1, each token would be sure to follow itself, and the first loss lie
            far above ln V.

    Source: Raffel et al. 2020, §2.1; Shazeer 2020 (the gates); Roberts et al. 2022 (initial
    weights).
    """

    def __init__(
        self,
        config: T5Config,
        *,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
        std: float | None = None,
    ) -> None:
        self.config = config
        kind = {"rng": np.random.default_rng(rng), "dtype": dtype}
        if std is None:
            std = 0.05 if config.tie_weights else 1.0
        n_decoder_layer = config.n_decoder_layer
        assert n_decoder_layer is not None
        self.shared = Embedding(config.vocab_size, config.n_embd, std=std, **kind)
        self.encoder = Stack(config, self.shared, config.n_layer, decoder=False, **kind)
        self.decoder = Stack(config, self.shared, n_decoder_layer, decoder=True, **kind)
        self.lm_head = Linear(config.n_embd, config.vocab_size, False, std=0.02, **kind)
        if config.tie_weights:
            self.lm_head.weight = self.shared.weight
        for name, parameter in self.named_parameters():
            parameter.name = name

    def forward(
        self,
        ids: Any,
        decoder_ids: Any = None,
        targets: Any = None,
        *,
        attention_mask: Any = None,
        decoder_attention_mask: Any = None,
    ) -> Any:
        """Logits (B, T, V) for ids (B, S); with ``targets`` (B, T), ``(logits, loss)``.

        One pair (S,) and (T,) works too. The loss is the mean cross-entropy in nats; a target of
        -100 does not count.

        Args:
            ids: the source.
            decoder_ids: (B, T), what the decoder reads: position t sees 0 ... t, and says what
                comes at t + 1. By default ``targets``, shifted right by the start token.
            targets: (B, T), what it should say.
            attention_mask: (B, S), True or 1 for a token, False or 0 for padding; all by default.
            decoder_attention_mask: the same for ``decoder_ids``.

        Raises:
            ValueError: ids or masks of a wrong shape, neither ``decoder_ids`` nor ``targets``.
            TypeError, IndexError: ids that are no integers or outside the vocabulary.
        """
        if decoder_ids is None:
            if targets is None:
                raise ValueError(
                    "T5: there is nothing for the decoder to read; give decoder_ids (begin with "
                    f"the start token, {self.config.start_id}), or targets, which it makes them of"
                )
            decoder_ids = self.shift_right(targets)
        memory = self.encode(ids, attention_mask=attention_mask)  # [B, S, C]
        logits = self.decode(
            decoder_ids,
            memory,
            attention_mask=attention_mask,
            decoder_attention_mask=decoder_attention_mask,
        )
        return logits if targets is None else (logits, F.cross_entropy(logits, targets))

    def encode(self, ids: Any, *, attention_mask: Any = None) -> Any:
        """The memory (B, S, C) of ids (B, S)."""
        ids = token_ids("T5", ids, self.shared.weight.data)
        return self.encoder(ids, token_mask("T5", attention_mask, ids))

    def decode(
        self,
        decoder_ids: Any,
        memory: Any,
        *,
        attention_mask: Any = None,
        decoder_attention_mask: Any = None,
    ) -> Any:
        """Logits (B, T, V), from the result of :meth:`encode` and the mask of its ids."""
        ids = token_ids("T5: decoder_ids", decoder_ids, self.shared.weight.data)
        if tuple(ids.shape[:-1]) != tuple(memory.shape[:-2]):
            raise ValueError(
                f"T5: decoder_ids have shape {tuple(ids.shape)}, the source became "
                f"{tuple(memory.shape)}: both must hold the same number of sequences"
            )
        mask = token_mask("T5: decoder", decoder_attention_mask, ids)
        memory_mask = token_mask("T5", attention_mask, memory.data[..., 0])
        x = self.decoder(ids, mask, memory, memory_mask)  # [B, T] -> [B, T, C]
        if self.config.tie_weights:
            x = x * (1 / math.sqrt(self.config.n_embd))  # rows of the table have length ~ sqrt(C)
        return self.lm_head(x)  # [B, T, C] -> [B, T, V]

    def _begin(self, source: Any) -> States:
        ids = token_ids("T5", source, self.shared.weight.data)
        mask = ids != self.config.pad_id
        memory = self.encode(ids, attention_mask=mask)
        return {"memory": memory.transpose(0, 1), "mask": Tensor(mask.T)}

    def _go_on(self, ids: Any, states: States) -> tuple[Any, States]:
        """All that is written is read again for each token, since the decoder keeps no keys."""
        written = with_columns(states, ids)
        memory, mask = states["memory"].transpose(0, 1), states["mask"].data.T
        logits = self.decode(written, memory, attention_mask=mask)
        return logits[:, -ids.shape[1] :], {"written": Tensor(written.T)}

    def shift_right(self, targets: Any) -> Any:
        """What the decoder reads to say ``targets``: the start token, then all but the last."""
        targets = token_ids("T5: targets", targets, self.shared.weight.data)
        xp = array_namespace(targets)
        start = xp.full_like(targets[..., :1], self.config.start_id)
        ids = xp.concat([start, targets[..., :-1]], axis=-1)  # [B, T]
        return xp.where(ids == -100, xp.full_like(ids, self.config.pad_id), ids)
