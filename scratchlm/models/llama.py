"""Llama: the decoder-only transformer as Touvron et al. 2023 published it.

Shapes in the comments: B sequences of T tokens, width C = n_embd, H heads of queries and G of keys
and values, of d each, V words. Differences from GPT-2: positions are rotations of q and k (RoPE,
the pairs being i and i + d/2), the norm takes no mean away, the feed-forward is gated (SwiGLU),
several heads of queries share one of keys and values, and there are no biases.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from .. import functional as F
from ..nn import Attention, Embedding, KVCache, Linear, Module, ModuleList, RMSNorm, RotaryPositions
from ..nn.attention import merge_heads, split_heads
from ._common import Config, check_room, token_ids


@dataclasses.dataclass(frozen=True)
class LlamaConfig(Config):
    """The sizes of a Llama; the defaults are SmolLM2's smallest (134.5M parameters).

    Raises:
        TypeError, ValueError: sizes that are no positive integers, heads that can not be shared or
            turned; one message names all.
    """

    vocab_size: int = 49152
    block_size: int = 8192  # the longest sequence
    n_layer: int = 30
    n_head: int = 9
    n_kv_head: int | None = 3  # divides n_head; None: as many
    n_embd: int = 576
    n_inner: int = 1536  # the width inside the feed-forward
    head_dim: int | None = None  # d; None: n_embd / n_head
    rope_base: float = 100000.0
    # of Llama 3.1 and later: factor, low and high frequency factor, the length trained on before
    rope_scaling: tuple[float, float, float, float] | None = None
    eps: float = 1e-5  # of the norms
    bias: bool = False  # in attention
    mlp_bias: bool = False
    dropout: float = 0.0  # of attention weights
    tie_weights: bool = True  # the output layer is the token table

    def __post_init__(self) -> None:
        problems = []
        if self.rope_scaling is not None:  # a list, when it comes from JSON
            object.__setattr__(self, "rope_scaling", tuple(self.rope_scaling))
            problems += scaling_problems(self.rope_scaling)
        if self.n_kv_head is None:
            object.__setattr__(self, "n_kv_head", self.n_head)
        if self.head_dim is None:
            try:
                whole, rest = divmod(self.n_embd, self.n_head)
            except (TypeError, ZeroDivisionError):
                whole, rest = 2, 0  # n_head or n_embd is to blame, and is named below
            object.__setattr__(self, "head_dim", max(whole, 1))
            if rest:
                problems.append(
                    f"n_embd={self.n_embd} does not split evenly into n_head={self.n_head} heads; "
                    "head_dim= sets their width apart from it"
                )
        sizes = "vocab_size block_size n_layer n_head n_kv_head n_embd n_inner head_dim"
        if all(isinstance(n, int) and n > 0 for n in (self.n_kv_head, self.n_head, self.head_dim)):
            assert self.n_kv_head is not None
            assert self.head_dim is not None
            if self.n_head % self.n_kv_head:
                problems.append(f"n_head={self.n_head} can not share n_kv_head={self.n_kv_head}")
            if not problems and self.head_dim % 2:
                problems.append(f"head_dim={self.head_dim} is odd, and rotations turn pairs")
        self._refuse(problems, sizes=sizes, shares="dropout", above_0="eps rope_base")


def scaling_problems(scaling: tuple[Any, ...]) -> list[str]:
    """What is wrong with the four numbers of ``rope_scaling``."""
    if len(scaling) != 4 or not all(isinstance(x, int | float) and x > 0 for x in scaling):
        return [f"rope_scaling={scaling} is not four positive numbers: factor, low, high, length"]
    if scaling[1] >= scaling[2]:
        return [f"rope_scaling={scaling}: low ({scaling[1]}) must be below high ({scaling[2]})"]
    return []


def scaled_frequencies(
    dim: int, base: float, factor: float, low: float, high: float, length: float
) -> list[float]:
    """RoPE's frequencies ``θ_i = base^(-2i / dim)``, the slow ones slower, for longer texts.

    A pair that turns ``n = length θ / 2π`` times over the ``length`` trained on before keeps θ if n
    is above ``high``; below ``low`` it gets ``θ / factor``; between the two, a mixture::

        θ' = s θ + (1 - s) θ / factor,   s = (n - low) / (high - low), within [0, 1]

    Source: Grattafiori et al. 2024 (Llama 3), §3.4.1; the formula is that of Llama 3.1's code.
    """
    scaled = []
    for i in range(dim // 2):
        theta = base ** (-2 * i / dim)
        share = (length * theta / (2 * math.pi) - low) / (high - low)
        share = min(max(share, 0.0), 1.0)
        scaled.append(share * theta + (1 - share) * theta / factor)
    return scaled


class SelfAttention(Module):
    """Causal attention of H heads of queries to G of keys, turned by their positions."""

    def __init__(self, config: LlamaConfig, rotary: RotaryPositions, **kind: Any) -> None:
        C, H, G, d = config.n_embd, config.n_head, config.n_kv_head, config.head_dim
        assert G is not None
        assert d is not None
        self.n_head = H
        self.n_kv_head = G
        self.q_proj = Linear(C, H * d, config.bias, **kind)
        self.k_proj = Linear(C, G * d, config.bias, **kind)
        self.v_proj = Linear(C, G * d, config.bias, **kind)
        self.o_proj = Linear(H * d, C, config.bias, **kind)
        self.rotary = rotary
        self.attend = Attention(causal=True, dropout=config.dropout, rng=kind["rng"])

    def forward(self, x: Any, cache: KVCache | None = None, **place: Any) -> Any:
        q = split_heads(self.q_proj(x), self.n_head)  # [B, T, C] -> [B, H, T, d]
        k = split_heads(self.k_proj(x), self.n_kv_head)  # [B, T, C] -> [B, G, T, d]
        v = split_heads(self.v_proj(x), self.n_kv_head)
        q, k = self.rotary(q, **place), self.rotary(k, **place)
        mask = None
        if cache is not None:
            k, v = cache.extend(self, k, v)  # [B, G, T, d] -> [B, G, all so far, d]
            mask = cache.mask
        return self.o_proj(merge_heads(self.attend(q, k, v, mask=mask)))  # [B, T, C]


class MLP(Module):
    """``y = W_down (silu(W_gate x) * W_up x)``: SwiGLU (Shazeer 2020, eq. 6)."""

    def __init__(self, config: LlamaConfig, **kind: Any) -> None:
        self.gate_proj = Linear(config.n_embd, config.n_inner, config.mlp_bias, **kind)
        self.up_proj = Linear(config.n_embd, config.n_inner, config.mlp_bias, **kind)
        self.down_proj = Linear(config.n_inner, config.n_embd, config.mlp_bias, **kind)

    def forward(self, x: Any) -> Any:
        return self.down_proj(F.swiglu(self.gate_proj(x), self.up_proj(x)))  # [B, T, C]


class Block(Module):
    """One layer: positions exchange what they know, then each thinks it over."""

    def __init__(self, config: LlamaConfig, rotary: RotaryPositions, **kind: Any) -> None:
        norm = {"eps": config.eps, "dtype": kind["dtype"]}
        self.input_layernorm = RMSNorm(config.n_embd, **norm)
        self.self_attn = SelfAttention(config, rotary, **kind)
        self.post_attention_layernorm = RMSNorm(config.n_embd, **norm)
        self.mlp = MLP(config, **kind)

    def forward(self, x: Any, cache: KVCache | None = None, **place: Any) -> Any:
        x = x + self.self_attn(self.input_layernorm(x), cache, **place)  # [B, T, C]
        return x + self.mlp(self.post_attention_layernorm(x))  # [B, T, C]


class Transformer(Module):
    """The token table, the blocks, and the last norm: from ids to a vector for each position."""

    def __init__(self, config: LlamaConfig, **kind: Any) -> None:
        frequencies = None
        if config.rope_scaling is not None:
            assert config.head_dim is not None
            frequencies = scaled_frequencies(
                config.head_dim, config.rope_base, *config.rope_scaling
            )
        rotary = RotaryPositions(base=config.rope_base, interleaved=False, frequencies=frequencies)
        self.embed_tokens = Embedding(config.vocab_size, config.n_embd, **kind)
        self.layers = ModuleList(Block(config, rotary, **kind) for _ in range(config.n_layer))
        self.norm = RMSNorm(config.n_embd, config.eps, dtype=kind["dtype"])

    def forward(self, ids: Any, cache: KVCache | None = None) -> Any:
        T = ids.shape[-1]
        place: dict[str, Any] = {}
        if cache is not None:
            # [T] -> [1, T], or with padding [B, T] -> [B, 1, T]: the same for all heads
            place = {"positions": cache.positions(T, ids)[..., None, :]}
        x = self.embed_tokens(ids)  # [B, T] -> [B, T, C]
        for block in self.layers:
            x = block(x, cache, **place)  # [B, T, C]
        if cache is not None:
            cache.advance(T)
        return self.norm(x)  # [B, T, C]


class Llama(Module):
    """Logits of the next token at every position.

    Args:
        config: the sizes.
        rng: a ``numpy.random.Generator`` or a seed: initial weights, and dropout later on.
        dtype: of the weights; float32 to train, float64 to check.
        std: of the initial weights.

    Source: Touvron et al. 2023, §2.2; Ainslie et al. 2023 (grouped queries).
    """

    def __init__(
        self,
        config: LlamaConfig,
        *,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
        std: float = 0.02,
    ) -> None:
        self.config = config
        kind = {"rng": np.random.default_rng(rng), "dtype": dtype, "std": std}
        self.model = Transformer(config, **kind)
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False, **kind)
        if config.tie_weights:
            self.lm_head.weight = self.model.embed_tokens.weight
        for name, parameter in self.named_parameters():
            parameter.name = name

    def forward(
        self,
        ids: Any,
        targets: Any = None,
        *,
        cache: KVCache | None = None,
        last_only: bool = False,
    ) -> Any:
        """Logits (B, T, V) for ids (B, T); with ``targets`` (B, T), ``(logits, loss)``.

        One sequence (T,) works too. The loss is the mean cross-entropy in nats; a target of -100
        does not count. With a ``cache`` (:class:`scratchlm.nn.KVCache`) the ids go on where those
        that it holds end, and are added to it. ``last_only`` leaves out all logits but those of the
        last position, (B, 1, V): what writing needs of a long prompt.

        Raises:
            ValueError: a sequence longer than ``block_size``, with what the cache holds, or empty,
                or ids of a wrong shape.
            TypeError, IndexError: ids that are no integers or outside the vocabulary.
            RuntimeError: a cache outside of ``no_grad()``.
        """
        like, longest = self.lm_head.weight.data, self.config.block_size
        ids = token_ids("Llama", ids, like, longest=longest)
        check_room("Llama", ids.shape[-1], cache, longest)
        x = self.model(ids, cache)  # [B, T] -> [B, T, C]
        if last_only:
            x = x[..., -1:, :]  # [B, 1, C]
        logits = self.lm_head(x)  # [B, T, C] -> [B, T, V]
        if targets is None:
            return logits
        return logits, F.cross_entropy(logits, targets)
