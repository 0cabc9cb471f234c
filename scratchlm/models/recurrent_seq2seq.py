"""The recurrent encoder–decoder with attention.

Of the two published forms, Bahdanau et al. 2015 and Luong et al. 2015, this is Luong's. Bahdanau's
decoder needs what it has looked at before it can take a step, so its steps are taken one by one.
Luong's takes its steps first and looks afterwards: while the target is known, a whole sequence is
one call of the layers and one of the attention of lesson 19, with its masks and its maps.

Shapes in the comments: B pairs of S source and T target tokens, width C = n_embd, V target words.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from .. import functional as F
from ..backend import to_host
from ..nn import Attention, Dropout, Embedding, Linear
from ..tensor import Tensor
from ._common import Config, token_ids
from ._writing import Pairwise, States
from .recurrent import recurrent_layers, unknown_kind


@dataclasses.dataclass(frozen=True)
class RecurrentEncoderDecoderConfig(Config):
    """The sizes of a recurrent encoder–decoder; the defaults are those of Luong et al. 2015, §4.1.

    Raises:
        TypeError, ValueError: sizes that are no positive integers, a kind that does not exist;
            one message names all.
    """

    source_vocab_size: int
    target_vocab_size: int
    kind: str = "lstm"  # or "gru", "rnn"
    n_layer: int = 4  # in the encoder, and again in the decoder
    n_embd: int = 1000  # of tokens and of states
    dropout: float = 0.2
    bidirectional: bool = False  # the encoder reads from both ends, with half the width each
    bias: bool = True  # in the recurrent layers
    tie_weights: bool = True  # the output layer is the target's token table (Press and Wolf 2017)
    pad_id: int | None = None  # this id fills up short sequences: never read, never learned

    def __post_init__(self) -> None:
        sizes = "source_vocab_size target_vocab_size n_layer n_embd"
        self._refuse(unknown_kind(self.kind), sizes=sizes, shares="dropout", above_0="")
        if self.bidirectional and self.n_embd % 2:
            raise ValueError(
                f"{type(self).__name__}: n_embd={self.n_embd} is odd, and bidirectional halves it"
            )


class Memory(NamedTuple):
    """What the encoder leaves to the decoder."""

    outputs: Any  # (B, S, C): of its last layer, for attention
    states: Any  # of all its layers at the end of the source, where the decoder begins


class RecurrentEncoderDecoder(Pairwise):
    """Logits of the next target token at every position of the target.

    With ``h_t`` the decoder's last layer and ``m_s`` the encoder's, at each position ::

        a_t = softmax over s of  h_tᵀ W_a m_s        where to look ("general")
        c_t = sum over s of  a_ts m_s                what is seen there
        logits_t = W_s tanh(W_c [c_t; h_t])

    The attention is "global", and is not fed back into the next step.

    Args:
        config: the sizes.
        rng: a ``numpy.random.Generator`` or a seed: initial weights, and dropout later on.
        dtype: of the weights; float32 to train, float64 to check.

    Source: Luong et al. 2015, §3.1, eq. 5–8; Sutskever et al. 2014 (the encoder's states start the
    decoder).
    """

    def __init__(
        self,
        config: RecurrentEncoderDecoderConfig,
        *,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
    ) -> None:
        self.config = config
        C = config.n_embd
        std = 1 / math.sqrt(C)
        kind: dict[str, Any] = {"rng": np.random.default_rng(rng), "dtype": dtype}
        both = config.bidirectional
        self.source = Embedding(config.source_vocab_size, C, std=std, **kind)
        self.target = Embedding(config.target_vocab_size, C, std=std, **kind)
        self.encoder = recurrent_layers(
            config, C, C // 2 if both else C, bidirectional=both, **kind
        )
        self.decoder = recurrent_layers(config, C, C, **kind)
        self.score = Linear(C, C, bias=False, **kind)  # W_a
        self.attend = Attention(scale=1.0, rng=kind["rng"])
        self.combine = Linear(2 * C, C, bias=False, **kind)  # W_c
        self.drop = Dropout(config.dropout, rng=kind["rng"])
        self.lm_head = Linear(C, config.target_vocab_size, bias=False, std=std, **kind)  # W_s
        if config.tie_weights:
            self.lm_head.weight = self.target.weight
        for name, parameter in self.named_parameters():
            parameter.name = name

    def encode(self, source: Any) -> tuple[Memory, Any]:
        """The memory of ids (B, S), and where they are padding (B, S), or None.

        One source (S,) is a batch of one.
        """
        source = self._check("source", source)
        source = source[None] if source.ndim == 1 else source
        padding = None if self.config.pad_id is None else source == self.config.pad_id
        lengths = None if padding is None else self._lengths(padding)
        x = self.drop(self.source(source.T))  # [B, S] -> [S, B, C]
        outputs, states = self.encoder(x, lengths=lengths)
        if self.config.bidirectional:
            many = isinstance(states, tuple)
            states = tuple(map(self._joined, states)) if many else self._joined(states)
        return Memory(outputs.transpose(0, 1), states), padding

    def decode(self, target: Any, memory: Memory, padding: Any = None) -> Any:
        """Logits (B, T, V), from the result of :meth:`encode`.

        Padding at the end of a target needs no mask: no earlier position sees it.
        """
        target = self._check("target", target)
        if target.ndim == 1:
            return self.decode(target[None], memory, padding)[0]
        return self._decode(target, memory.outputs, memory.states, padding)[0]

    def _decode(self, ids: Any, outputs: Any, states: Any, padding: Any) -> tuple[Any, Any]:
        """Logits (B, T, V), and the decoder's states after them."""
        x = self.drop(self.target(ids.T))  # [B, T] -> [T, B, C]
        h, states = self.decoder(x, states)
        h = h.transpose(0, 1)  # [B, T, C]
        mask = None if padding is None else ~padding[:, None, None, :]
        q, m = self.score(h)[:, None], outputs[:, None]  # one head: [B, 1, T, C], [B, 1, S, C]
        seen = self.attend(q, m, m, mask=mask)[:, 0]  # [B, T, C]
        y = F.tanh(self.combine(F.concatenate(seen, h, axis=-1)))  # [B, T, 2C] -> [B, T, C]
        return self.lm_head(self.drop(y)), states

    def _begin(self, source: Any) -> States:
        memory, padding = self.encode(source)
        states = {"rnn": memory.states, "outputs": memory.outputs.transpose(0, 1)}
        return states if padding is None else states | {"padding": Tensor(padding.T)}

    def _go_on(self, ids: Any, states: States) -> tuple[Any, States]:
        padding = states["padding"].data.T if "padding" in states else None
        outputs = states["outputs"].transpose(0, 1)
        logits, after = self._decode(ids, outputs, states["rnn"], padding)
        return logits, {"rnn": after}

    def _joined(self, state: Any) -> Any:
        """Both directions of each layer as one state: [2 L, B, C / 2] -> [L, B, C]."""
        _, B, half = state.shape
        state = state.reshape(self.config.n_layer, 2, B, half).transpose(1, 2)
        return state.reshape(self.config.n_layer, B, 2 * half)

    def _lengths(self, padding: Any) -> np.ndarray:
        """Of each source without its padding, (B,)."""
        padding = to_host(padding)
        lengths = (~padding).sum(-1)
        wrong = padding != (np.arange(padding.shape[1]) >= lengths[:, None])
        if wrong.any() or not lengths.all():
            row = int(np.flatnonzero(wrong.any(-1) | (lengths == 0))[0])
            raise ValueError(
                f"RecurrentEncoderDecoder: source {row} holds pad_id={self.config.pad_id} before "
                "its end, or nothing else; padding follows the tokens, since the states are those "
                "after the last one"
            )
        return lengths

    def _check(self, which: str, ids: Any) -> Any:
        return token_ids(f"RecurrentEncoderDecoder: {which}", ids, self.lm_head.weight.data)
