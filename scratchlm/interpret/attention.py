"""What a model attends to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..modes import no_grad
from ..nn import Attention, Module


@contextlib.contextmanager
def record_attention(model: Module) -> Iterator[dict[str, list[np.ndarray]]]:
    """Inside the block, every attention in ``model`` records its weights.

    Yields:
        name of each :class:`scratchlm.nn.Attention`, in the model's order → the weights
        (..., H, N, M) of each of its calls.

    Raises:
        ValueError: the model has no attention.

    The weights are the softmax itself: each row sums to 1, in training too, before dropout.
    """
    attentions = {
        name: module for name, module in model.named_modules() if isinstance(module, Attention)
    }
    if not attentions:
        raise ValueError(
            f"record_attention: {type(model).__name__} holds no nn.Attention to record"
        )
    former = {name: module.recorded for name, module in attentions.items()}
    maps: dict[str, list[np.ndarray]] = {}
    for name, module in attentions.items():
        module.recorded = maps[name] = []
    try:
        yield maps
    finally:
        for name, module in attentions.items():
            module.recorded = former[name]


def attention_maps(model: Module, ids: Any) -> list[np.ndarray]:
    """The attention weights of every layer while ``model`` reads ``ids``.

    Args:
        model: with an :class:`scratchlm.nn.Attention` for each layer, e.g. a GPT.
        ids: (T,) or (B, T).

    Returns:
        for each layer an array (H, T, T), or (B, H, T, T): row i holds how much position i takes
        from each position, and sums to 1. Computed in evaluation mode, without a tape.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad(), record_attention(model) as maps:
            model(ids)
    finally:
        for module, training in modes:
            module.training = training
    return [weights for calls in maps.values() for weights in calls]
