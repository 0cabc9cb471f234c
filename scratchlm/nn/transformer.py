"""The layers of the transformer, and stacks of them: encoder, decoder, and the two together.

Arguments have PyTorch's names. What differs, and why:

- ``mask`` is boolean with True where a query *may* attend (or additive), as everywhere here and in
  PyTorch's ``scaled_dot_product_attention``; the boolean masks of PyTorch's own layers say the
  opposite. A ``..._key_padding_mask`` is True where there *is* padding, here and there.
- A decoder is causal unless told otherwise, so no mask has to be made for it.
- Batches come first, and a batch is optional.
- Layers of a stack are drawn one by one; PyTorch copies one layer, first weights and all.
- ``dropout`` drops attention weights and elements of what each sublayer returns (Vaswani §5.4), and
  nothing between the two layers of the feed-forward.
- A row with nothing to attend to gets 0 from attention, not NaN.

Shapes in the comments: B sequences of S source and T target positions, width C = d_model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .attention import MultiHeadAttention
from .containers import ModuleList
from .layers import Dropout, FeedForward, LayerNorm, Rng
from .module import Module

Activation = str | Callable[[Any], Any]


def residual(x: Any, sublayer: Callable[[Any], Any], norm: Module, norm_first: bool) -> Any:
    """``x`` and what a sublayer has to say about it, with a norm in one of two places.

    Pre-norm is ``x + sublayer(norm(x))``: nothing stands on the way of x itself.
    Post-norm is ``norm(x + sublayer(x))``.

    Source: Vaswani et al. 2017, §3.1 (post-norm); Radford et al. 2019, §2.3 (pre-norm).
    """
    if norm_first:
        return x + sublayer(norm(x))
    return norm(x + sublayer(x))


class TransformerEncoderLayer(Module):
    """Self-attention, then the feed-forward network, each with a residual and a layer norm.

    Args:
        d_model: the width C.
        nhead: heads of attention; divides ``d_model``.
        dim_feedforward: the width inside the feed-forward, ``4 * d_model`` by default.
        dropout: probability of dropping an attention weight, or an element of a sublayer's result.
        activation: of the feed-forward: a name (:data:`scratchlm.nn.ACTIVATIONS`) or a function.
        layer_norm_eps: epsilon of the norms.
        norm_first: pre-norm (GPT-2) instead of post-norm (2017).
        bias: in linear layers and norms.
        causal: position i attends to positions up to i only.

    Source: Vaswani et al. 2017, §3.1; D1 §4.1.3 (without the residuals, which D3 §4.2 names).
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int | None = None,
        dropout: float = 0.1,
        activation: Activation = "relu",
        *,
        layer_norm_eps: float = 1e-5,
        norm_first: bool = False,
        bias: bool = True,
        causal: bool = False,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        rng = np.random.default_rng(rng)
        kind: dict[str, Any] = {"dropout": dropout, "bias": bias, "rng": rng, "dtype": dtype}
        self.norm_first = norm_first
        self.self_attn = MultiHeadAttention(d_model, nhead, causal=causal, **kind)
        self.feed_forward = FeedForward(d_model, dim_feedforward, activation, **kind)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias, dtype=dtype)
        self.drop = Dropout(dropout, rng=rng)

    def forward(self, src: Any, *, src_mask: Any = None, src_key_padding_mask: Any = None) -> Any:
        """(B, S, C) or (S, C), and the same.

        Args:
            src: the sequence.
            src_mask: boolean (True: may attend) or additive; broadcasts to (B, H, S, S).
            src_key_padding_mask: boolean (B, S), True where there is padding.
        """

        def attend(x: Any) -> Any:
            masks = {"mask": src_mask, "key_padding_mask": src_key_padding_mask}
            return self.drop(self.self_attn(x, **masks))

        x = residual(src, attend, self.norm1, self.norm_first)  # [B, S, C]
        return residual(x, self.feed_forward, self.norm2, self.norm_first)  # [B, S, C]

    def extra_repr(self) -> str:
        return f"norm_first={self.norm_first}"


class TransformerDecoderLayer(Module):
    """Causal self-attention, attention to the encoder's result, then the feed-forward network.

    Arguments as for :class:`TransformerEncoderLayer`, but ``causal`` is the default.

    Source: Vaswani et al. 2017, §3.1; D3 §4.1.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int | None = None,
        dropout: float = 0.1,
        activation: Activation = "relu",
        *,
        layer_norm_eps: float = 1e-5,
        norm_first: bool = False,
        bias: bool = True,
        causal: bool = True,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        rng = np.random.default_rng(rng)
        kind: dict[str, Any] = {"dropout": dropout, "bias": bias, "rng": rng, "dtype": dtype}
        self.norm_first = norm_first
        self.self_attn = MultiHeadAttention(d_model, nhead, causal=causal, **kind)
        self.cross_attn = MultiHeadAttention(d_model, nhead, **kind)
        self.feed_forward = FeedForward(d_model, dim_feedforward, activation, **kind)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias, dtype=dtype)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias, dtype=dtype)
        self.drop = Dropout(dropout, rng=rng)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        *,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
    ) -> Any:
        """(B, T, C) and memory (B, S, C), or both without B; the result is as the first.

        Args:
            tgt: the sequence that is written.
            memory: the encoder's result; its norm is the encoder's business.
            tgt_mask: for (B, H, T, T), beside the causal one: True may attend, or additive.
            memory_mask: the same for (B, H, T, S).
            tgt_key_padding_mask: boolean (B, T), True where there is padding.
            memory_key_padding_mask: the same, (B, S).
        """

        def attend(x: Any) -> Any:
            masks = {"mask": tgt_mask, "key_padding_mask": tgt_key_padding_mask}
            return self.drop(self.self_attn(x, **masks))

        def consult(x: Any) -> Any:
            masks = {"mask": memory_mask, "key_padding_mask": memory_key_padding_mask}
            return self.drop(self.cross_attn(x, memory, **masks))

        x = residual(tgt, attend, self.norm1, self.norm_first)  # [B, T, C]
        x = residual(x, consult, self.norm2, self.norm_first)  # [B, T, C], reads [B, S, C]
        return residual(x, self.feed_forward, self.norm3, self.norm_first)  # [B, T, C]

    def extra_repr(self) -> str:
        return f"norm_first={self.norm_first}"


class TransformerEncoder(Module):
    """``num_layers`` encoder layers, one after the other.

    ``final_norm`` puts a layer norm behind the last; by default it is there for pre-norm, where
    nothing has normalized the sum of all layers yet. Other arguments go to each
    :class:`TransformerEncoderLayer`.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        num_layers: int,
        *,
        final_norm: bool | None = None,
        rng: Rng = None,
        **options: Any,
    ) -> None:
        kind = {**options, "rng": np.random.default_rng(rng)}
        self.layers = ModuleList(
            TransformerEncoderLayer(d_model, nhead, **kind) for _ in range(num_layers)
        )
        self.norm = _last_norm(d_model, final_norm, options)

    def forward(self, src: Any, *, src_mask: Any = None, src_key_padding_mask: Any = None) -> Any:
        """(B, S, C), and the same; masks as for a layer, and each layer gets them."""
        x = src
        for layer in self.layers:
            x = layer(x, src_mask=src_mask, src_key_padding_mask=src_key_padding_mask)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(Module):
    """``num_layers`` decoder layers, one after the other; each consults the same memory.

    Arguments as for :class:`TransformerEncoder`.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        num_layers: int,
        *,
        final_norm: bool | None = None,
        rng: Rng = None,
        **options: Any,
    ) -> None:
        kind = {**options, "rng": np.random.default_rng(rng)}
        self.layers = ModuleList(
            TransformerDecoderLayer(d_model, nhead, **kind) for _ in range(num_layers)
        )
        self.norm = _last_norm(d_model, final_norm, options)

    def forward(self, tgt: Any, memory: Any, **masks: Any) -> Any:
        """(B, T, C) and memory (B, S, C) to (B, T, C); masks as for a layer, each gets them."""
        x = tgt
        for layer in self.layers:
            x = layer(x, memory, **masks)
        return x if self.norm is None else self.norm(x)


class Transformer(Module):
    """Encoder and decoder: what is written is a sequence that consults another one.

    Args:
        d_model: the width C, 512 in the paper.
        nhead: heads of every attention, 8 in the paper.
        num_encoder_layers: 6 in the paper.
        num_decoder_layers: 6 in the paper.
        rng: a ``numpy.random.Generator`` or a seed.
        **options: of each layer and stack: ``dim_feedforward``, ``dropout``, ``activation``,
            ``layer_norm_eps``, ``norm_first``, ``bias``, ``final_norm``, ``dtype``.

    Source: Vaswani et al. 2017, figure 1, between the embeddings and the last linear layer.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        *,
        rng: Rng = None,
        **options: Any,
    ) -> None:
        rng = np.random.default_rng(rng)
        self.encoder = TransformerEncoder(d_model, nhead, num_encoder_layers, rng=rng, **options)
        self.decoder = TransformerDecoder(d_model, nhead, num_decoder_layers, rng=rng, **options)

    def forward(
        self,
        src: Any,
        tgt: Any,
        *,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
    ) -> Any:
        """(B, S, C) and (B, T, C) to (B, T, C).

        Padding of the source is padding of the memory, unless ``memory_key_padding_mask`` is given
        (in PyTorch it must be given twice).
        """
        memory = self.encoder(src, src_mask=src_mask, src_key_padding_mask=src_key_padding_mask)
        if memory_key_padding_mask is None:
            memory_key_padding_mask = src_key_padding_mask
        return self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
        )


def _last_norm(d_model: int, wanted: bool | None, options: dict[str, Any]) -> LayerNorm | None:
    if not (options.get("norm_first", False) if wanted is None else wanted):
        return None
    bias, dtype = options.get("bias", True), options.get("dtype", np.float32)
    return LayerNorm(d_model, options.get("layer_norm_eps", 1e-5), bias, dtype=dtype)
