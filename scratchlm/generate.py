"""Writing with a language model: one token at a time, each added to what the next one sees."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .backend import asarray_like, check_ids, to_host
from .metrics import evaluation
from .tensor import Tensor


def next_token_probabilities(
    logits: np.ndarray, *, temperature: float = 1.0, top_k: int | None = None
) -> np.ndarray:
    """``softmax(logits / temperature)`` over the ``top_k`` largest, float64.

    Temperature 0 is the limit: all on the largest logit (the first one, if several are equal).

    Shapes: ``logits`` ``(..., V)`` → ``(..., V)``.

    Raises:
        FloatingPointError: a logit is NaN or +inf.

    Source: Ackley et al. 1985 (temperature); Fan et al. 2018 §5.1 (top-k).
    """
    _check_options(temperature, top_k, logits.shape[-1])
    logits = np.asarray(logits, dtype=np.float64)
    if np.isnan(logits).any() or np.isposinf(logits).any() or not np.isfinite(logits.max(-1)).all():
        raise FloatingPointError(
            "generate: the model's logits are not finite, so there is no probability to draw from; "
            "were its weights damaged in training?"
        )
    if temperature == 0:
        return np.eye(logits.shape[-1])[logits.argmax(-1)]
    logits = logits - logits.max(-1, keepdims=True)
    if top_k is not None:
        # exactly k stay, also when several share the k-th place
        order = np.argsort(-logits, axis=-1, kind="stable")
        np.put_along_axis(logits, order[..., top_k:], -np.inf, axis=-1)
    p = np.exp(logits / temperature)
    return p / p.sum(-1, keepdims=True)


def generate(
    model: Any,
    ids: Any,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    greedy: bool = False,
    rng: np.random.Generator | None = None,
    seed: int | None = None,
) -> np.ndarray:
    """The ids with ``max_new_tokens`` more behind them.

    The model is given the last ``block_size`` ids, in evaluation mode; its mode is restored.

    Args:
        model: ``model(ids)`` gives logits ``(B, T, V)``; ``model.config.block_size`` limits ``T``,
            where there is one.
        ids: the prompt, ``(T,)`` or ``(B, T)``, at least one id for each row.
        max_new_tokens: how many to append.
        temperature: below 1 sharper, above 1 flatter; 0 always takes the likeliest.
        top_k: draw among this many likeliest only.
        greedy: always take the likeliest (temperature 0).
        rng: where the chance comes from.
        seed: instead of ``rng``; the same seed writes the same text.

    Returns:
        ``(T + max_new_tokens,)`` or ``(B, T + max_new_tokens)``, int64.

    Raises:
        ValueError: an empty prompt, or an option out of range.
        IndexError: an id outside the model's vocabulary.
        FloatingPointError: the model's logits are NaN.
    """
    prompt = np.asarray(ids.data if isinstance(ids, Tensor) else ids)
    options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "greedy": greedy}
    new = list(stream(model, ids, max_new_tokens, **options, rng=rng, seed=seed))
    columns = np.stack(new, axis=-1) if new else prompt[..., :0]
    return np.concatenate([prompt, columns], axis=-1).astype(np.int64)


def stream(
    model: Any,
    ids: Any,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    greedy: bool = False,
    rng: np.random.Generator | None = None,
    seed: int | None = None,
) -> Iterator[np.ndarray]:
    """Like :func:`generate`, but yields each new id (``()`` or ``(B,)``) as soon as it is drawn."""
    if max_new_tokens < 0:
        raise ValueError(f"generate: max_new_tokens={max_new_tokens} must not be negative")
    if rng is not None and seed is not None:
        raise ValueError("generate: give rng or seed, not both")
    if greedy and (temperature != 1 or top_k is not None):
        raise ValueError(
            "generate: greedy takes the likeliest token, so temperature and top_k would have no "
            "effect; leave them out"
        )
    temperature = 0.0 if greedy else temperature
    config = getattr(model, "config", None)
    block_size = getattr(config, "block_size", None)
    _check_options(temperature, top_k, getattr(config, "vocab_size", None))
    context = np.asarray(ids.data if isinstance(ids, Tensor) else ids)
    if context.ndim not in (1, 2) or context.size == 0:
        raise ValueError(
            f"generate: the prompt has shape {context.shape}, it must be (T,) or (B, T) with at "
            "least one id; begin with a newline if there is nothing to say"
        )
    if config is not None:
        check_ids(context, config.vocab_size, what="generate")
    rng = np.random.default_rng(seed) if rng is None else rng
    return _stream(model, context, max_new_tokens, temperature, top_k, rng, block_size)


def _stream(
    model: Any,
    ids: np.ndarray,
    count: int,
    temperature: float,
    top_k: int | None,
    rng: np.random.Generator,
    block_size: int | None,
) -> Iterator[np.ndarray]:
    like = next(iter(model.parameters())).data
    context = ids if ids.ndim == 2 else ids[None]
    for _ in range(count):
        if block_size is not None:
            context = context[:, -block_size:]  # [B, T] -> [B, <= block_size]
        with evaluation(model):
            logits = model(asarray_like(context, like))  # [B, T] -> [B, T, V]
        p = next_token_probabilities(
            to_host(logits.data)[:, -1], temperature=temperature, top_k=top_k
        )
        # inverse transform sampling: where the running sum of p passes a uniform number
        total = p.cumsum(-1)
        u = rng.random((len(p), 1)) * total[:, -1:]
        u = np.minimum(u, np.nextafter(total[:, -1:], 0))  # rounding must not lead past the end
        drawn = (total <= u).sum(-1)  # [B, V] -> [B]
        context = np.concatenate([context, drawn[:, None]], axis=1)
        yield drawn if ids.ndim == 2 else drawn[0]


def _check_options(temperature: float, top_k: int | None, vocab_size: int | None) -> None:
    if not 0 <= temperature < math.inf:
        raise ValueError(f"generate: temperature={temperature} must be finite and at least 0")
    if top_k is not None and (
        isinstance(top_k, bool)
        or top_k != int(top_k)
        or top_k < 1
        or (vocab_size is not None and top_k > vocab_size)
    ):
        most = "" if vocab_size is None else f", and at most {vocab_size}, the whole vocabulary"
        raise ValueError(
            f"generate: top_k={top_k} must be a whole number, at least 1{most}; "
            "None draws among all"
        )
