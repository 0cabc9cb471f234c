"""What a model is trained to do: what a batch is, and what its loss is.

The training loop asks a task for batches and for their loss, and knows nothing else of it. A task
of one's own is a subclass of :class:`Task` that says how a batch is drawn and what the model is
asked about it.

A batch is a dictionary of NumPy arrays, the examples on axis 0, so that it can be cut into parts;
``"targets"`` are what the model should say, and -100 where it is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .. import functional as F
from ..backend import array_namespace, asarray_like, to_host
from ..data import Corpus, blocks, sample_batch
from ..data.masking import IGNORED
from ..metrics import evaluation
from ..nn import Module
from ..text import Tokenizer

Batch = dict[str, np.ndarray]


class Task:
    """What the training loop asks. Override ``sample`` and ``logits``, and what else differs.

    Args:
        tokenizer: kept in checkpoints.
        source: what the data is called there, for a message to a person.
        label_smoothing: of the loss in training (Szegedy et al. 2016).
    """

    def __init__(
        self, tokenizer: Tokenizer | None = None, *, source: str = "", label_smoothing: float = 0.0
    ) -> None:
        self.tokenizer = tokenizer
        self.source = source
        self.label_smoothing = label_smoothing

    # -- training ------------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator) -> Batch:
        """The next batch of ``n`` examples (the last one of an epoch may have fewer).

        It depends on ``rng`` and on what ``state_dict`` says, on nothing else.
        """
        raise NotImplementedError

    def logits(self, model: Module, batch: Mapping[str, Any]) -> Any:
        """What the model says: classes on the last axis, the others those of the targets."""
        raise NotImplementedError

    def loss(self, model: Module, batch: Mapping[str, Any]) -> Any:
        """The mean over all predictions of the batch, a scalar tensor.

        The arrays of ``batch`` lie beside the model's weights.
        """
        logits = self.logits(model, batch)
        return F.cross_entropy(logits, batch["targets"], label_smoothing=self.label_smoothing)

    def count(self, batch: Batch) -> int:
        """How many predictions the loss is the mean of: what a part of a batch weighs."""
        return int((batch["targets"] != IGNORED).sum())

    def tokens(self, batch: Batch) -> int:
        """How many tokens the model reads, padding left out: for the rate that is shown."""
        return int(batch["mask"].sum()) if "mask" in batch else batch["ids"].size

    # -- evaluation ----------------------------------------------------------------------------

    def held_out(self, batch_size: int, batches: int | None) -> Iterator[Batch]:
        """What was kept back, in batches; ``batches`` takes no more than so many."""
        yield from ()

    def evaluate(
        self, model: Module, *, batch_size: int = 16, batches: int | None = None
    ) -> dict[str, float]:
        """``validation_loss``, the mean in nats without label smoothing, and what ``scores`` adds.

        In evaluation mode and without a tape. Empty if nothing was kept back.
        """
        like = next(iter(model.parameters())).data
        total, count = 0.0, 0
        truths: list[np.ndarray] = []
        guesses: list[np.ndarray] = []
        with evaluation(model):
            for batch in self.held_out(batch_size, batches):
                logits = self.logits(model, beside(batch, like))
                loss = F.cross_entropy(logits, asarray_like(batch["targets"], like))
                xp = array_namespace(logits.data)
                truths += list(batch["targets"])
                guesses += list(to_host(xp.argmax(logits.data, axis=-1)))
                total += loss.item() * self.count(batch)
                count += self.count(batch)
        return {"validation_loss": total / count, **self.scores(truths, guesses)} if count else {}

    def scores(self, truths: list[np.ndarray], guesses: list[np.ndarray]) -> dict[str, float]:
        """Further figures: of each example the targets, and the likeliest class in their places."""
        true, guess = _asked(truths, guesses)
        return {"accuracy": float((true == guess).mean())}

    # -- fitting together, and going on --------------------------------------------------------

    def check(self, model: Module) -> None:
        """Refuse now what would fail at some later step.

        Raises:
            ValueError: sequences longer than the model reads, ids that it has not.
        """

    def fingerprint(self) -> str:
        """A checksum of the training data: a run goes on with the very data it began with."""
        raise NotImplementedError

    def about(self) -> dict[str, Any]:
        """What a checkpoint keeps for whoever uses the model later: vocabulary, labels."""
        return {"vocabulary": self.tokenizer.as_dict() if self.tokenizer is not None else None}

    def state_dict(self) -> dict[str, Any]:
        """Where in its data it is, for JSON; with the state of ``rng``, all that matters."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""

    def _check_sizes(self, model: Module, longest: int, vocabulary: int) -> None:
        sizes = getattr(model, "config", None)
        block_size = getattr(sizes, "block_size", longest)
        vocab_size = getattr(sizes, "vocab_size", vocabulary)
        if longest > block_size:
            raise ValueError(
                f"{type(self).__name__}: length={longest}, but the model has positions for "
                f"block_size={block_size}"
            )
        if vocabulary > vocab_size:
            raise ValueError(
                f"{type(self).__name__}: the text has {vocabulary} different tokens, the model "
                f"only vocab_size={vocab_size}"
            )


class NextToken(Task):
    """What comes next, at each place of a long text: ``model(ids) -> logits`` (B, T, V).

    Batches are cut out of the text anywhere.

    Args:
        corpus: the text.
        length: of the pieces, in tokens.

    Source: D1 §2.1; Bengio et al. 2003.
    """

    def __init__(self, corpus: Corpus, length: int = 64, *, label_smoothing: float = 0.0) -> None:
        super().__init__(corpus.vocabulary, source=corpus.source, label_smoothing=label_smoothing)
        self.corpus = corpus
        self.length = length

    def sample(self, n: int, rng: np.random.Generator) -> Batch:
        ids, targets = sample_batch(self.corpus.train, n, self.length, rng)
        return {"ids": ids, "targets": targets}

    def logits(self, model: Module, batch: Mapping[str, Any]) -> Any:
        return model(batch["ids"])  # [B, T] -> [B, T, V]

    def held_out(self, batch_size: int, batches: int | None) -> Iterator[Batch]:
        for ids, targets in blocks(
            self.corpus.validation, batch_size, self.length, batches=batches
        ):
            yield {"ids": ids, "targets": targets}

    def check(self, model: Module) -> None:
        sample_batch(self.corpus.train, 1, self.length, np.random.default_rng(0))
        self._check_sizes(model, self.length, len(self.corpus.vocabulary))

    def fingerprint(self) -> str:
        return self.corpus.fingerprint()


def beside(batch: Batch, like: Any) -> dict[str, Any]:
    """The arrays of a batch where the array ``like`` is."""
    return {name: asarray_like(array, like) for name, array in batch.items()}


def _asked(truths: list[np.ndarray], guesses: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Truth and guess wherever the model was asked, one after the other."""
    pairs = [(t[t != IGNORED], g[t != IGNORED]) for t, g in zip(truths, guesses, strict=True)]
    return np.concatenate([t for t, _ in pairs]), np.concatenate([g for _, g in pairs])
