"""BERT: the encoder of Devlin et al. 2019, which reads a text from both sides, and its heads.

Shapes in the comments: B texts of T tokens, width C = n_embd, H heads of d = C / H, V words, K
labels. It is the post-norm encoder of Vaswani et al. 2017, with GELU, and learned positions; each
token also says whether it is of the first text or the second.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .. import functional as F
from ..backend import array_namespace, asarray_like
from ..nn import (
    ACTIVATIONS,
    Attention,
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    Module,
    ModuleList,
    Parameter,
)
from ..nn.attention import merge_heads, split_heads
from ._common import Config, token_ids, token_mask

POOLINGS = ("cls", "mean")


@dataclasses.dataclass(frozen=True)
class BERTConfig(Config):
    """The sizes of a BERT; the defaults are those of the base model (110M parameters).

    Raises:
        TypeError, ValueError: sizes that are no positive integers, heads that do not divide the
            width, options that do not exist; one message names all.
    """

    vocab_size: int = 30522
    block_size: int = 512  # the longest sequence
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    n_inner: int = 3072  # the width inside the feed-forward
    n_types: int = 2  # of token: the first text, the second
    num_labels: int = 2  # of the heads for classification
    pooling: str = "cls"  # the vector of a text: that of its first token, or the "mean" of all
    activation: str = "gelu"
    dropout: float = 0.1
    attention_dropout: float = 0.1  # of attention weights
    eps: float = 1e-12  # of the layer norms
    tie_weights: bool = True  # the output layer of the masked LM is the token table

    def __post_init__(self) -> None:
        problems = self._uneven_heads()
        if self.activation not in ACTIVATIONS:
            problems.append(f"activation={self.activation!r} is none of {', '.join(ACTIVATIONS)}")
        if self.pooling not in POOLINGS:
            problems.append(f"pooling={self.pooling!r} is none of {', '.join(POOLINGS)}")
        self._refuse(
            problems,
            sizes="vocab_size block_size n_layer n_head n_embd n_inner n_types num_labels",
            shares="dropout attention_dropout",
            above_0="eps",
        )


class Embeddings(Module):
    """A vector for the word, one for its place, one for its text; their sum, normalized."""

    def __init__(self, config: BERTConfig, **kind: Any) -> None:
        C = config.n_embd
        self.word_embeddings = Embedding(config.vocab_size, C, **kind)
        self.position_embeddings = Embedding(config.block_size, C, **kind)
        self.token_type_embeddings = Embedding(config.n_types, C, **kind)
        self.LayerNorm = LayerNorm(C, config.eps, dtype=kind["dtype"])
        self.drop = Dropout(config.dropout, rng=kind["rng"])

    def forward(self, ids: Any, types: Any) -> Any:
        positions = self.position_embeddings.weight[: ids.shape[-1]]  # [T, C]
        x = self.word_embeddings(ids) + self.token_type_embeddings(types) + positions
        return self.drop(self.LayerNorm(x))  # [B, T] -> [B, T, C]


class SelfAttention(Module):
    """H attentions side by side, each position to all."""

    def __init__(self, config: BERTConfig, **kind: Any) -> None:
        C = config.n_embd
        self.n_head = config.n_head
        self.query = Linear(C, C, **kind)
        self.key = Linear(C, C, **kind)
        self.value = Linear(C, C, **kind)
        self.attend = Attention(dropout=config.attention_dropout, rng=kind["rng"])

    def forward(self, x: Any, mask: Any) -> Any:
        q, k, v = (
            split_heads(part(x), self.n_head) for part in (self.query, self.key, self.value)
        )  # [B, T, C] -> 3 × [B, H, T, d]
        return merge_heads(self.attend(q, k, v, mask=mask))  # [B, T, C]


class Output(Module):
    """The end of a sublayer: ``norm(x + W h)``, post-norm."""

    def __init__(self, width: int, config: BERTConfig, **kind: Any) -> None:
        self.dense = Linear(width, config.n_embd, **kind)
        self.LayerNorm = LayerNorm(config.n_embd, config.eps, dtype=kind["dtype"])
        self.drop = Dropout(config.dropout, rng=kind["rng"])

    def forward(self, h: Any, x: Any) -> Any:
        return self.LayerNorm(x + self.drop(self.dense(h)))


class AttentionLayer(Module):
    """Attention, and the end of its sublayer; the names are the published ones."""

    def __init__(self, config: BERTConfig, **kind: Any) -> None:
        self.self = SelfAttention(config, **kind)
        self.output = Output(config.n_embd, config, **kind)

    def forward(self, x: Any, mask: Any) -> Any:
        return self.output(self.self(x, mask), x)


class Intermediate(Module):
    """The first half of the feed-forward."""

    def __init__(self, config: BERTConfig, **kind: Any) -> None:
        self.activation = config.activation
        self.dense = Linear(config.n_embd, config.n_inner, **kind)

    def forward(self, x: Any) -> Any:
        return ACTIVATIONS[self.activation](self.dense(x))  # [B, T, C] -> [B, T, n_inner]


class Layer(Module):
    """Attention, then the feed-forward."""

    def __init__(self, config: BERTConfig, **kind: Any) -> None:
        self.attention = AttentionLayer(config, **kind)
        self.intermediate = Intermediate(config, **kind)
        self.output = Output(config.n_inner, config, **kind)

    def forward(self, x: Any, mask: Any) -> Any:
        x = self.attention(x, mask)  # [B, T, C]
        return self.output(self.intermediate(x), x)  # [B, T, C]


class Encoder(Module):
    """The layers, one after the other."""

    def __init__(self, config: BERTConfig, **kind: Any) -> None:
        self.layer = ModuleList(Layer(config, **kind) for _ in range(config.n_layer))

    def forward(self, x: Any, mask: Any) -> Any:
        for layer in self.layer:
            x = layer(x, mask)
        return x


class Pooler(Module):
    """``tanh(W x₀ + b)``: one vector for the text, from its first token, ``[CLS]``; or from the
    mean of all tokens, which need not have learned first to gather at one of them.
    """

    def __init__(self, config: BERTConfig, **kind: Any) -> None:
        self.pooling = config.pooling
        self.dense = Linear(config.n_embd, config.n_embd, **kind)

    def forward(self, x: Any, attention_mask: Any = None) -> Any:
        first = x[..., 0, :] if self.pooling == "cls" else mean_of_tokens(x, attention_mask)
        return F.tanh(self.dense(first))  # [B, T, C] -> [B, C]


def mean_of_tokens(x: Any, attention_mask: Any) -> Any:
    """The mean (..., C) over the tokens of (..., T, C); 0 where the mask has none."""
    if attention_mask is None:
        return x.mean(axis=-2)
    xp = array_namespace(x.data)
    mask = xp.astype(asarray_like(attention_mask, x.data) != 0, x.dtype)[..., None]
    return (x * mask).sum(axis=-2) / xp.maximum(mask.sum(axis=-2), xp.ones_like(mask[..., 0, :]))


class BERT(Module):
    """A vector for every token of a text.

    Args:
        config: the sizes.
        pooler: whether it also has the layer for the vector of the whole text.
        rng: a ``numpy.random.Generator`` or a seed: initial weights, and dropout later on.
        dtype: of the weights; float32 to train, float64 to check.
        std: of the initial weights.

    Source: Devlin et al. 2019, §3.
    """

    def __init__(
        self,
        config: BERTConfig,
        *,
        pooler: bool = True,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
        std: float = 0.02,
    ) -> None:
        self.config = config
        kind = {"rng": np.random.default_rng(rng), "dtype": dtype, "std": std}
        self.embeddings = Embeddings(config, **kind)
        self.encoder = Encoder(config, **kind)
        self.pooler = Pooler(config, **kind) if pooler else None
        for name, parameter in self.named_parameters():
            parameter.name = name

    def forward(self, ids: Any, *, token_types: Any = None, attention_mask: Any = None) -> Any:
        """Vectors (B, T, C) for ids (B, T); one text (T,) works too.

        Args:
            ids: of the tokens, ``[CLS]`` first.
            token_types: (B, T), 0 in the first text, 1 in the second; 0 by default.
            attention_mask: (B, T), True or 1 for a token, False or 0 for padding.

        Raises:
            ValueError: ids or masks of a wrong shape, a text that is empty or too long.
            TypeError, IndexError: ids that are no integers or outside the vocabulary.
        """
        like = self.embeddings.word_embeddings.weight.data
        ids = token_ids("BERT", ids, like, longest=self.config.block_size)
        if token_types is None:
            token_types = array_namespace(ids).zeros_like(ids)
        else:
            token_types = token_ids("BERT: token_types", token_types, like)
        if tuple(token_types.shape) != tuple(ids.shape):
            raise ValueError(
                f"BERT: token_types have shape {tuple(token_types.shape)}, ids "
                f"{tuple(ids.shape)}: each token is of one type"
            )
        mask = token_mask("BERT", attention_mask, ids)
        return self.encoder(self.embeddings(ids, token_types), mask)  # [B, T] -> [B, T, C]

    def sentence_embeddings(self, ids: Any, *, attention_mask: Any = None) -> Any:
        """One vector (B, C) of length 1 for each text: the mean over its tokens.

        The product of two is the cosine of their angle, a measure of how alike the texts are, if
        the model was trained for it.

        Source: Reimers and Gurevych 2019, §3 (mean pooling).
        """
        x = self(ids, attention_mask=attention_mask)  # [B, T] -> [B, T, C]
        if attention_mask is not None:
            ids = token_ids("BERT", ids, x.data)
            mask = token_mask("BERT", attention_mask, ids)[..., 0, 0, :, None]  # [B, T, 1]
            # the length is made 1 below, so the sum does for the mean
            x = x * array_namespace(x.data).astype(mask, x.dtype)
        total = x.sum(axis=-2)  # [B, T, C] -> [B, C]
        # no token at all gives 0, not 0/0
        return total / F.sqrt((total * total).sum(axis=-1, keepdims=True) + 1e-24)


class Head(Module):
    """What the models with a head share: the encoder ``bert``, and names."""

    pooler = False  # whether the head reads the vector of the whole text

    def __init__(
        self,
        config: BERTConfig,
        *,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
        std: float = 0.02,
    ) -> None:
        self.config = config
        kind = {"rng": np.random.default_rng(rng), "dtype": dtype, "std": std}
        self.bert = BERT(config, pooler=self.pooler, **kind)
        self._add_head(config, **kind)
        for name, parameter in self.named_parameters():
            parameter.name = name

    def _add_head(self, config: BERTConfig, **kind: Any) -> None:
        raise NotImplementedError

    def _logits(self, x: Any, attention_mask: Any = None) -> Any:
        raise NotImplementedError

    def forward(
        self,
        ids: Any,
        targets: Any = None,
        *,
        token_types: Any = None,
        attention_mask: Any = None,
    ) -> Any:
        """Logits for ids (B, T); with ``targets``, ``(logits, loss)``.

        The loss is the mean cross-entropy in nats; a target of -100 does not count. Other arguments
        and errors as for :meth:`BERT.forward`.
        """
        x = self.bert(ids, token_types=token_types, attention_mask=attention_mask)  # [B, T, C]
        logits = self._logits(x, attention_mask)
        return logits if targets is None else (logits, F.cross_entropy(logits, targets))


class Transform(Module):
    """A last layer of its own before the words are guessed."""

    def __init__(self, config: BERTConfig, **kind: Any) -> None:
        self.activation = config.activation
        self.dense = Linear(config.n_embd, config.n_embd, **kind)
        self.LayerNorm = LayerNorm(config.n_embd, config.eps, dtype=kind["dtype"])

    def forward(self, x: Any) -> Any:
        return self.LayerNorm(ACTIVATIONS[self.activation](self.dense(x)))


class Predictions(Module):
    """From vectors to logits of words; the matrix is the token table, the bias is its own."""

    def __init__(self, config: BERTConfig, table: Parameter, **kind: Any) -> None:
        self.transform = Transform(config, **kind)
        self.decoder = Linear(config.n_embd, config.vocab_size, **kind)
        self.bias = self.decoder.bias  # published files call it by this name
        if config.tie_weights:
            self.decoder.weight = table

    def forward(self, x: Any) -> Any:
        return self.decoder(self.transform(x))  # [B, T, C] -> [B, T, V]


class PredictionHead(Module):
    """The place of :class:`Predictions` in the published names."""

    def __init__(self, config: BERTConfig, table: Parameter, **kind: Any) -> None:
        self.predictions = Predictions(config, table, **kind)


class BERTForMaskedLM(Head):
    """Logits (B, T, V): which word stands, or stood, at each position.

    To train it, some ids are replaced by ``[MASK]``; the targets are the ids that were there, and
    -100 elsewhere.

    Source: Devlin et al. 2019, §3.1.
    """

    def _add_head(self, config: BERTConfig, **kind: Any) -> None:
        self.cls = PredictionHead(config, self.bert.embeddings.word_embeddings.weight, **kind)

    def forward(
        self,
        ids: Any,
        targets: Any = None,
        *,
        token_types: Any = None,
        attention_mask: Any = None,
        at: Any = None,
    ) -> Any:
        """As the other heads; ``at``, (B, T) booleans, picks the places that are answered.

        Then logits are (N, V), and targets (N,), a row for each True, text by text. Where few
        places are asked, most of the head's work is saved, and a large vocabulary makes it dearer
        than the encoder.
        """
        x = self.bert(ids, token_types=token_types, attention_mask=attention_mask)  # [B, T, C]
        logits = self._logits(x if at is None else x[at])
        return logits if targets is None else (logits, F.cross_entropy(logits, targets))

    def _logits(self, x: Any, attention_mask: Any = None) -> Any:
        return self.cls.predictions(x)


class BERTForSequenceClassification(Head):
    """Logits (B, K) of the labels of a text; targets (B,).

    Source: Devlin et al. 2019, §4.1.
    """

    pooler = True

    def _add_head(self, config: BERTConfig, **kind: Any) -> None:
        self.drop = Dropout(config.dropout, rng=kind["rng"])
        self.classifier = Linear(config.n_embd, config.num_labels, **kind)

    def _logits(self, x: Any, attention_mask: Any = None) -> Any:
        assert self.bert.pooler is not None
        return self.classifier(
            self.drop(self.bert.pooler(x, attention_mask))
        )  # [B, T, C] -> [B, K]


class BERTForTokenClassification(Head):
    """Logits (B, T, K) of the label of each token; targets (B, T).

    Source: Devlin et al. 2019, §5.3.
    """

    def _add_head(self, config: BERTConfig, **kind: Any) -> None:
        self.drop = Dropout(config.dropout, rng=kind["rng"])
        self.classifier = Linear(config.n_embd, config.num_labels, **kind)

    def _logits(self, x: Any, attention_mask: Any = None) -> Any:
        return self.classifier(self.drop(x))  # [B, T, C] -> [B, T, K]
