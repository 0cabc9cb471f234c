"""The recurrent language model: what comes next, judged by a state that all tokens so far made.

Shapes in the comments: B sequences of T tokens, width C = n_embd, L layers, V words.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from .. import functional as F
from ..backend import arange_like, asarray_like
from ..nn import GRU, LSTM, RNN, Dropout, Embedding, Linear, Module, StateCache
from ..tensor import Tensor
from ._common import Config, token_ids

KINDS: dict[str, Any] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


@dataclasses.dataclass(frozen=True)
class RecurrentLMConfig(Config):
    """The sizes of a recurrent language model; the defaults are the medium one of Zaremba et al.
    2014, without dropout (theirs is 0.5).

    There is no longest sequence: the state is of one size, whatever it has read.

    Raises:
        TypeError, ValueError: sizes that are no positive integers, a kind that does not exist, a
            dropout outside [0, 1); one message names all.
    """

    vocab_size: int = 10000
    kind: str = "lstm"  # or "gru", "rnn"
    n_layer: int = 2
    n_embd: int = 650  # of tokens and of states
    dropout: float = 0.0  # between layers, never from one time to the next
    bias: bool = True
    tie_weights: bool = True  # the output layer is the token table (Press and Wolf 2017)

    def __post_init__(self) -> None:
        self._refuse(
            unknown_kind(self.kind), sizes="vocab_size n_layer n_embd", shares="dropout", above_0=""
        )


def unknown_kind(kind: Any) -> list[str]:
    """What is wrong with the kind of a recurrent layer, for a configuration to say."""
    return [] if kind in KINDS else [f"kind={kind!r} is none of {', '.join(KINDS)}"]


def recurrent_layers(config: Any, input_size: int, hidden_size: int, **options: Any) -> Any:
    """``config.n_layer`` layers of ``config.kind``, with its dropout between them."""
    between = config.dropout if config.n_layer > 1 else 0.0
    kind = KINDS[config.kind]
    return kind(
        input_size, hidden_size, config.n_layer, bias=config.bias, dropout=between, **options
    )


class RecurrentLM(Module):
    """Logits of the next token at every position, by an RNN, an LSTM or a GRU.

    Each token is looked up, the layers read it, and what the last one says is compared with every
    row of the table. It is a :class:`scratchlm.models.GPT` with another way to remember: the cost
    of a token does not depend on how many went before, but all that these leave is one state.

    Args:
        config: the sizes.
        rng: a ``numpy.random.Generator`` or a seed: initial weights, and dropout later on.
        dtype: of the weights; float32 to train, float64 to check.
        std: of the initial token table; ``1 / sqrt(n_embd)`` by default, rows of length 1. The
            layers begin as PyTorch's do.

    Source: Mikolov et al. 2010 (the model); Zaremba et al. 2014 (with an LSTM, and where dropout
    goes); Press & Wolf 2017 (one table for both ends).
    """

    new_cache = StateCache  # what `scratchlm.generate` calls for it

    def __init__(
        self,
        config: RecurrentLMConfig,
        *,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
        std: float | None = None,
    ) -> None:
        self.config = config
        C = config.n_embd
        std = 1 / math.sqrt(C) if std is None else std
        kind: dict[str, Any] = {"rng": np.random.default_rng(rng), "dtype": dtype}
        self.wte = Embedding(config.vocab_size, C, std=std, **kind)
        self.rnn = recurrent_layers(config, C, C, **kind)
        self.drop = Dropout(config.dropout, rng=kind["rng"])
        self.lm_head = Linear(C, config.vocab_size, bias=False, std=std, **kind)
        if config.tie_weights:
            self.lm_head.weight = self.wte.weight
        for name, parameter in self.named_parameters():
            parameter.name = name

    def forward(
        self,
        ids: Any,
        targets: Any = None,
        *,
        cache: StateCache | None = None,
        last_only: bool = False,
    ) -> Any:
        """Logits (B, T, V) for ids (B, T); with ``targets`` (B, T), ``(logits, loss)``.

        One sequence (T,) works too. The loss is the mean cross-entropy in nats; a target of -100
        does not count. With a ``cache`` (:class:`scratchlm.nn.StateCache`) the states go on where
        those in it ended, and it holds the new ones afterwards; without, they begin at 0.
        ``last_only`` leaves out all logits but those of the last position, (B, 1, V).

        Raises:
            ValueError: ids that are empty or of a wrong shape, or of another batch than the cache.
            TypeError, IndexError: ids that are no integers or outside the vocabulary.
        """
        ids = token_ids("RecurrentLM", ids, self.wte.weight.data)
        T = ids.shape[-1]
        if cache is None:
            y, _ = self._read(ids, None)  # [B, T] -> [B, T, C]
        else:
            skipped, states = cache.skipped(T), cache.states.get("rnn")
            y, states = (
                self._read(ids, states)
                if skipped is None
                else self._read_padded(ids, states, skipped)
            )
            cache.advance(T, rnn=states)
        if last_only:
            y = y[..., -1:, :]  # [B, 1, C]
        logits = self.lm_head(self.drop(y))  # [B, T, C] -> [B, T, V]
        if targets is None:
            return logits
        return logits, F.cross_entropy(logits, targets)

    def _read(self, ids: Any, states: Any, **options: Any) -> tuple[Any, Any]:
        """What the last layer says at each time, (B, T, C), and the new states."""
        x = self.drop(self.wte(ids.T))  # [B, T] -> [T, B, C]: time first, as the layers go
        y, states = self.rnn(x, states, **options)  # [T, B, C], L states
        return (y.transpose(0, 1) if y.ndim == 3 else y), states

    def _read_padded(self, ids: Any, states: Any, skipped: np.ndarray) -> tuple[Any, Any]:
        """The same for rows (B, T) whose first ``skipped`` (B,) columns are padding.

        The rows are turned until their tokens come first: the layers can leave out what follows
        the end of a sequence. Then they are turned back. A row of padding alone has no state yet.
        """
        B, T = ids.shape
        columns, by = arange_like(T, ids), asarray_like(skipped, ids)[:, None]
        rows = arange_like(B, ids)[:, None]
        lengths = T - skipped
        y, states = self._read(
            ids[rows, (columns + by) % T], states, lengths=np.maximum(lengths, 1)
        )
        begun = Tensor(asarray_like(lengths > 0, y.data, y.dtype)[:, None])  # [B, 1]
        states = tuple(s * begun for s in states) if isinstance(states, tuple) else states * begun
        return y[rows, (columns - by) % T], states
