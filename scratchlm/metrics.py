"""What a language model is measured by: mean loss, perplexity, and the baseline to beat."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import functional as F
from .backend import asarray_like, check_ids
from .data.batches import blocks
from .modes import no_grad


@contextlib.contextmanager
def evaluation(model: Any) -> Iterator[None]:
    """Inside the block the model is in evaluation mode and nothing is taped; then as before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def perplexity(loss: float) -> float:
    """``exp(loss)`` for a mean loss in nats: among how many equally likely tokens the model wavers.

    Source: Jelinek et al. 1977.
    """
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def mean_loss(
    model: Any, ids: np.ndarray, *, length: int, batch_size: int = 16, batches: int | None = None
) -> float:
    """The mean cross-entropy in nats per token, in evaluation mode and without a tape.

    ``ids`` are cut into blocks of ``length`` (:func:`scratchlm.data.blocks`), each read without
    what stands before it; ``batches`` limits how many are read, evenly spread.
    """
    like = next(iter(model.parameters())).data
    total, count = 0.0, 0
    with evaluation(model):
        for x, y in blocks(ids, batch_size, length, batches=batches):
            loss = F.cross_entropy(model(asarray_like(x, like)), asarray_like(y, like))
            total += loss.item() * y.size
            count += y.size
    return total / count


def bigram_loss(
    train: np.ndarray, ids: np.ndarray, vocab_size: int, *, smoothing: float = 0.1
) -> float:
    """The mean loss in nats on ``ids`` of the bigram model counted on ``train``.

    ``P(b | a) = (count(a b) + s) / (count(a ·) + s |V|)``: what comes next, judged by the last
    token alone. A model that does no better has learned nothing from its context.

    Source: Jurafsky & Martin, Speech and Language Processing, 3rd ed., §3.1 and §3.6.
    """
    if not smoothing > 0:
        raise ValueError(
            f"bigram_loss: smoothing={smoothing} must be positive, or an unseen pair costs infinity"
        )
    check_ids(train, vocab_size, what="bigram_loss")
    check_ids(ids, vocab_size, what="bigram_loss")
    pairs = np.bincount(train[:-1] * vocab_size + train[1:], minlength=vocab_size**2)
    counts = pairs.reshape(vocab_size, vocab_size) + smoothing
    log_p = np.log(counts / counts.sum(axis=1, keepdims=True))
    return float(-log_p[ids[:-1], ids[1:]].mean())
