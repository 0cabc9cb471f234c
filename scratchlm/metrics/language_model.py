"""What a language model is measured by: mean loss, perplexity, and these in other units."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import functional as F
from ..backend import asarray_like
from ..data.batches import blocks
from ..modes import no_grad


@contextlib.contextmanager
def evaluation(model: Any) -> Iterator[None]:
    """Inside the block the model is in evaluation mode and nothing is taped; then as before.

    ``model`` is a module, or the list of all its modules: whoever asks for each token collects them
    once.
    """
    modules = model if isinstance(model, list) else model.modules()
    training = [module for module in modules if module.training]
    for module in training:  # without Module.__setattr__, which looks for parameters
        vars(module)["training"] = False
    try:
        with no_grad():
            yield
    finally:
        for module in training:
            vars(module)["training"] = True


def perplexity(loss: float) -> float:
    """``exp(loss)`` for a mean loss in nats: among how many equally likely tokens the model wavers.

    Source: Jelinek et al. 1977.
    """
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def bits(nats: float) -> float:
    """``nats / ln 2``: a loss in bits, as if its logarithm had been taken to the base 2."""
    return nats / math.log(2)


def loss_per_character(loss: float, *, tokens: int, text: str) -> float:
    """``loss · tokens / len(text)``: nats per token become nats per character.

    ``loss`` is the mean over the ``tokens`` tokens that ``text`` was cut into. Models with
    different tokenizers are compared by this number, or by ``perplexity`` of it, never by the loss
    per token: larger pieces are fewer, and each is harder to guess.

    Raises:
        ValueError: no token, or an empty text.
    """
    return _shared(loss, tokens, len(text), "loss_per_character")


def loss_per_byte(loss: float, *, tokens: int, text: str) -> float:
    """``loss · tokens / bytes of the UTF-8 text``; ``bits`` of it is the usual bits per byte.

    A Chinese character has three bytes, an English one has one, so this compares models of one
    text and not texts of two languages.

    Raises:
        ValueError: no token, or an empty text.
    """
    return _shared(loss, tokens, len(text.encode("utf-8")), "loss_per_byte")


def _shared(loss: float, tokens: int, units: int, what: str) -> float:
    if tokens < 1 or units < 1:
        raise ValueError(
            f"{what}: {tokens} tokens for {units} characters or bytes; both must be at least 1: "
            "give the text that the loss was measured on"
        )
    return loss * tokens / units


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
