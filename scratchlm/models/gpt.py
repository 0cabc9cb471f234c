"""GPT: the decoder-only transformer, as GPT-2 (Radford et al. 2019) published it.

Shapes in the comments: B sequences of T tokens, width C = n_embd, H heads of d = C / H, V words.
Differences from the transformer of Vaswani et al. 2017: only the decoder's masked self-attention is
left, the norm comes before each sublayer (x + f(norm(x))) and once more at the end, positions are
learned, and the activation is GELU (in its tanh form).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from .. import functional as F
from ..backend import asarray_like
from ..nn import Attention, Dropout, Embedding, KVCache, LayerNorm, Linear, Module, ModuleList
from ..nn.attention import merge_heads, split_heads
from ._common import Config, check_room


@dataclasses.dataclass(frozen=True)
class GPTConfig(Config):
    """The sizes of a GPT; the defaults are GPT-2's smallest (124M parameters), without dropout.

    Raises:
        TypeError, ValueError: sizes that are no positive integers, heads that do not divide the
            width, a dropout outside [0, 1); one message names all.
    """

    vocab_size: int = 50257
    block_size: int = 1024  # the longest sequence
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0
    bias: bool = True  # in linear layers and layer norms
    eps: float = 1e-5  # of the layer norms
    tie_weights: bool = True  # the output layer is the token table (Press and Wolf 2017)

    def __post_init__(self) -> None:
        sizes = "vocab_size block_size n_layer n_head n_embd"
        self._refuse(self._uneven_heads(), sizes=sizes, shares="dropout", above_0="eps")


class SelfAttention(Module):
    """Causal self-attention with H heads; one matrix makes q, k and v."""

    def __init__(self, config: GPTConfig, std: float, **kind: Any) -> None:
        C = config.n_embd
        self.n_head = config.n_head
        self.c_attn = Linear(C, 3 * C, config.bias, std=std, **kind)
        self.c_proj = Linear(C, C, config.bias, std=residual_std(config, std), **kind)
        self.attend = Attention(causal=True, dropout=config.dropout, rng=kind["rng"])
        self.drop = Dropout(config.dropout, rng=kind["rng"])

    def forward(self, x: Any, cache: KVCache | None = None) -> Any:
        qkv = split_heads(self.c_attn(x), 3 * self.n_head)  # [B, T, 3C] -> [B, 3H, T, d]
        q, k, v = qkv.split(self.n_head, axis=-3)  # 3 × [B, H, T, d]
        mask = None
        if cache is not None:
            k, v = cache.extend(self, k, v)  # [B, H, T, d] -> [B, H, all so far, d]
            mask = cache.mask
        y = self.attend(q, k, v, mask=mask)  # [B, H, T, d]
        return self.drop(self.c_proj(merge_heads(y)))  # [B, T, C]


class MLP(Module):
    """Two linear layers with a GELU between, for each position by itself."""

    def __init__(self, config: GPTConfig, std: float, **kind: Any) -> None:
        C = config.n_embd
        self.c_fc = Linear(C, 4 * C, config.bias, std=std, **kind)
        self.c_proj = Linear(4 * C, C, config.bias, std=residual_std(config, std), **kind)
        self.drop = Dropout(config.dropout, rng=kind["rng"])

    def forward(self, x: Any) -> Any:
        h = F.gelu(self.c_fc(x), approximate="tanh")  # [B, T, C] -> [B, T, 4C]
        return self.drop(self.c_proj(h))  # [B, T, C]


class Block(Module):
    """One layer: positions exchange what they know, then each thinks it over."""

    def __init__(self, config: GPTConfig, std: float, **kind: Any) -> None:
        norm = {"eps": config.eps, "bias": config.bias, "dtype": kind["dtype"]}
        self.ln_1 = LayerNorm(config.n_embd, **norm)
        self.attn = SelfAttention(config, std, **kind)
        self.ln_2 = LayerNorm(config.n_embd, **norm)
        self.mlp = MLP(config, std, **kind)

    def forward(self, x: Any, cache: KVCache | None = None) -> Any:
        x = x + self.attn(self.ln_1(x), cache)  # [B, T, C]
        return x + self.mlp(self.ln_2(x))  # [B, T, C]


class Transformer(Module):
    """Embeddings, the blocks, and the last norm: from ids to a vector for each position."""

    def __init__(self, config: GPTConfig, std: float, **kind: Any) -> None:
        self.wte = Embedding(config.vocab_size, config.n_embd, std=std, **kind)
        self.wpe = Embedding(config.block_size, config.n_embd, std=std, **kind)
        self.drop = Dropout(config.dropout, rng=kind["rng"])
        self.h = ModuleList(Block(config, std, **kind) for _ in range(config.n_layer))
        self.ln_f = LayerNorm(config.n_embd, eps=config.eps, bias=config.bias, dtype=kind["dtype"])

    def forward(self, ids: Any, cache: KVCache | None = None) -> Any:
        T = ids.shape[-1]
        at = slice(T) if cache is None else cache.positions(T, self.wpe.weight.data)
        positions = self.wpe.weight[at]  # [T, C], or [B, T, C] where rows are padded
        x = self.drop(self.wte(ids) + positions)  # [B, T] -> [B, T, C]
        for block in self.h:
            x = block(x, cache)  # [B, T, C]
        if cache is not None:
            cache.advance(T)
        return self.ln_f(x)  # [B, T, C]


class GPT(Module):
    """Logits of the next token at every position.

    Args:
        config: the sizes.
        rng: a ``numpy.random.Generator`` or a seed: initial weights, and dropout later on.
        dtype: of the weights; float32 to train, float64 to check.
        std: of the initial weights. Those that write to the residual stream get
            ``std / sqrt(2 n_layer)``, since 2 n_layer such sums add up (GPT-2, §2.3).
    """

    def __init__(
        self,
        config: GPTConfig,
        *,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
        std: float = 0.02,
    ) -> None:
        self.config = config
        kind = {"rng": np.random.default_rng(rng), "dtype": dtype}
        self.transformer = Transformer(config, std, **kind)
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False, std=std, **kind)
        if config.tie_weights:
            self.lm_head.weight = self.transformer.wte.weight
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
        ids = self._check(ids)
        check_room("GPT", ids.shape[-1], cache, self.config.block_size)
        x = self.transformer(ids, cache)  # [B, T] -> [B, T, C]
        if last_only:
            x = x[..., -1:, :]  # [B, 1, C]
        logits = self.lm_head(x)  # [B, T, C] -> [B, T, V]
        if targets is None:
            return logits
        return logits, F.cross_entropy(logits, targets)

    def _check(self, ids: Any) -> Any:
        if not hasattr(ids, "dtype"):
            ids = asarray_like(np.asarray(ids), self.lm_head.weight.data)
        T, longest = ids.shape[-1] if ids.ndim else 0, self.config.block_size
        if ids.ndim not in (1, 2):
            raise ValueError(f"GPT: ids have shape {tuple(ids.shape)}; give (T,) or (B, T)")
        if not 1 <= T <= longest:
            raise ValueError(
                f"GPT: ids of shape {tuple(ids.shape)} hold {T} tokens, but there are positions "
                f"for 1 to {longest} (block_size); keep the last ones: ids[..., -{longest}:]"
            )
        return ids


def residual_std(config: GPTConfig, std: float) -> float:
    """Twice in each layer something is added to x: keep the variance of the sum in hand."""
    return std / math.sqrt(2 * config.n_layer)
