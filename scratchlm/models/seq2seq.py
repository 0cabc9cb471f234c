"""The encoder–decoder: one sequence is read whole, another is written, token by token.

Shapes in the comments: B pairs of S source and T target tokens, width C = n_embd, V target words.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from ..backend import asarray_like
from ..nn import (
    Dropout,
    Embedding,
    LearnedPositions,
    Linear,
    Module,
    SinusoidalPositions,
    Transformer,
)
from ..tensor import Tensor
from ._common import Config
from ._writing import Pairwise, States, with_columns


@dataclasses.dataclass(frozen=True)
class EncoderDecoderConfig(Config):
    """The sizes of an encoder–decoder; the defaults are the base model of Vaswani et al. 2017.

    Raises:
        TypeError, ValueError: sizes that are no positive integers, heads that do not divide the
            width, options that do not exist; one message names all.
    """

    source_vocab_size: int
    target_vocab_size: int
    block_size: int = 512  # the longest sequence, on either side
    n_layer: int = 6  # in the encoder, and again in the decoder
    n_head: int = 8
    n_embd: int = 512
    dropout: float = 0.1
    activation: str = "relu"
    norm_first: bool = False  # pre-norm; the paper's is post-norm
    positions: str = "sinusoidal"  # or "learned"
    bias: bool = True  # in linear layers and layer norms
    eps: float = 1e-5  # of the layer norms
    tie_weights: bool = True  # the output layer is the target's token table (Press and Wolf 2017)
    pad_id: int | None = None  # this id fills up short sequences: never read, never learned

    def __post_init__(self) -> None:
        problems = self._uneven_heads()
        if self.positions not in POSITIONS:
            problems.append(f"positions={self.positions!r} is none of {', '.join(POSITIONS)}")
        elif self.positions == "sinusoidal" and self.n_embd % 2:
            problems.append(f"n_embd={self.n_embd} is odd, and sinusoids come in pairs")
        sizes = "source_vocab_size target_vocab_size block_size n_layer n_head n_embd"
        self._refuse(problems, sizes=sizes, shares="dropout", above_0="eps")


POSITIONS = ("sinusoidal", "learned")


class TokensAndPositions(Module):
    """A vector for each token, and where it stands: ``sqrt(C) · table[ids] + positions``.

    The table starts as N(0, 1/C), which suits it as an output layer too; the root brings its rows
    to the size of the positions.

    Source: Vaswani et al. 2017, §3.4 and §3.5.
    """

    def __init__(self, vocab_size: int, config: EncoderDecoderConfig, **kind: Any) -> None:
        C = config.n_embd
        self.scale = math.sqrt(C)
        self.tokens = Embedding(vocab_size, C, std=1 / self.scale, **kind)
        self.positions: Module
        if config.positions == "learned":
            self.positions = LearnedPositions(config.block_size, C, std=0.5, **kind)
        else:
            self.positions = SinusoidalPositions(config.block_size, C, dtype=kind["dtype"])
        self.drop = Dropout(config.dropout, rng=kind["rng"])

    def forward(self, ids: Any) -> Any:
        return self.drop(self.positions(self.tokens(ids) * self.scale))  # [B, S] -> [B, S, C]


class EncoderDecoder(Pairwise):
    """Logits of the next target token at every position of the target.

    Args:
        config: the sizes.
        rng: a ``numpy.random.Generator`` or a seed: initial weights, and dropout later on.
        dtype: of the weights; float32 to train, float64 to check.

    Source: Vaswani et al. 2017, figure 1; D3 §4.1 and §4.2.
    """

    def __init__(
        self,
        config: EncoderDecoderConfig,
        *,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
    ) -> None:
        self.config = config
        C = config.n_embd
        kind = {"rng": np.random.default_rng(rng), "dtype": dtype}
        self.source = TokensAndPositions(config.source_vocab_size, config, **kind)
        self.target = TokensAndPositions(config.target_vocab_size, config, **kind)
        self.transformer = Transformer(
            C,
            config.n_head,
            config.n_layer,
            config.n_layer,
            dropout=config.dropout,
            activation=config.activation,
            layer_norm_eps=config.eps,
            norm_first=config.norm_first,
            bias=config.bias,
            **kind,
        )
        self.lm_head = Linear(C, config.target_vocab_size, bias=False, std=1 / math.sqrt(C), **kind)
        if config.tie_weights:
            self.lm_head.weight = self.target.tokens.weight
        for name, parameter in self.named_parameters():
            parameter.name = name

    def encode(self, source: Any) -> tuple[Any, Any]:
        """The memory (B, S, C) of ids (B, S), and where they are padding (B, S), or None."""
        source = self._check("source", source)
        padding = None if self.config.pad_id is None else source == self.config.pad_id
        x = self.source(source)  # [B, S] -> [B, S, C]
        return self.transformer.encoder(x, src_key_padding_mask=padding), padding

    def decode(self, target: Any, memory: Any, padding: Any = None) -> Any:
        """Logits (B, T, V), from the result of :meth:`encode`.

        Padding at the end of a target needs no mask: no earlier position sees it.
        """
        x = self.target(self._check("target", target))  # [B, T] -> [B, T, C]
        x = self.transformer.decoder(x, memory, memory_key_padding_mask=padding)
        return self.lm_head(x)  # [B, T, C] -> [B, T, V]

    def _begin(self, source: Any) -> States:
        memory, padding = self.encode(source)
        states = {"memory": memory.transpose(0, 1)}
        return states if padding is None else states | {"padding": Tensor(padding.T)}

    def _go_on(self, ids: Any, states: States) -> tuple[Any, States]:
        """All that is written is read again for each token, since the decoder keeps no keys."""
        written = with_columns(states, ids)
        padding = states["padding"].data.T if "padding" in states else None
        logits = self.decode(written, states["memory"].transpose(0, 1), padding)
        return logits[:, -ids.shape[1] :], {"written": Tensor(written.T)}

    def _check(self, which: str, ids: Any) -> Any:
        if isinstance(ids, Tensor):
            ids = ids.data
        if not hasattr(ids, "dtype"):
            ids = asarray_like(np.asarray(ids), self.lm_head.weight.data)
        if ids.ndim not in (1, 2):
            raise ValueError(
                f"EncoderDecoder: {which} has shape {tuple(ids.shape)}; give (N,) or (B, N)"
            )
        if not ids.shape[-1]:
            raise ValueError(
                f"EncoderDecoder: {which} of shape {tuple(ids.shape)} is empty; a target begins "
                "with a start token, and a source holds at least one"
            )
        return ids
