"""Rules that change what is likely to come next, each a function from logits to logits.

Logits are the logarithms of a distribution, up to a constant; ``-inf`` is a token that can not
come. So rules are applied one after the other, and :func:`probabilities` comes last::

    p = probabilities(top_p(temperature(logits, 0.7), 0.9))

All take ``(..., V)`` and give a new array of that shape, in its floating dtype. Of tokens that are
equally likely, those with the lower ids stay.
"""

from __future__ import annotations

import math

import numpy as np


def temperature(logits: np.ndarray, t: float) -> np.ndarray:
    """``logits / t``: below 1 sharper, above 1 flatter; 0 leaves only the likeliest token.

    Raises:
        ValueError: ``t`` negative or not finite.

    Source: Ackley, Hinton & Sejnowski 1985, eq. 5.
    """
    check(temperature=t)
    return top_k(logits, 1) if t == 0 else logits / t


def top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """Exactly the ``k`` likeliest stay (all, if there are fewer).

    Raises:
        ValueError: ``k`` is no whole number or below 1.

    Source: Fan, Lewis & Dauphin 2018, §5.1.
    """
    check(top_k=k)
    V = logits.shape[-1]
    if k >= V:
        return logits.copy()
    least = np.partition(logits, V - k, axis=-1)[..., V - k, None]  # the k-th largest
    return _keep_largest(logits, least, np.full(least.shape, int(k)))


def top_p(logits: np.ndarray, p: float) -> np.ndarray:
    """The smallest set of likeliest tokens whose probabilities add up to ``p`` or more stays.

    Raises:
        ValueError: ``p`` outside (0, 1].

    Source: Holtzman et al. 2020, eq. 2 and 3 (nucleus sampling).
    """
    check(top_p=p)
    if p == 1:
        return logits.copy()
    falling = -np.sort(-logits, axis=-1)
    mass = probabilities(falling).cumsum(-1)
    # one more than reach less than p; rounding may keep the whole mass a little below p
    count = np.minimum((mass < p).sum(-1, keepdims=True) + 1, logits.shape[-1])
    return _keep_largest(logits, np.take_along_axis(falling, count - 1, axis=-1), count)


def min_p(logits: np.ndarray, p: float) -> np.ndarray:
    """Tokens at least ``p`` times as likely as the likeliest stay.

    Raises:
        ValueError: ``p`` outside [0, 1].

    Source: Nguyen et al. 2024, §3.
    """
    check(min_p=p)
    q = probabilities(logits)
    return np.where(q < p * q.max(-1, keepdims=True), -np.inf, logits).astype(logits.dtype)


def repetition_penalty(logits: np.ndarray, ids: np.ndarray, penalty: float) -> np.ndarray:
    """Tokens among ``ids`` become less likely: ``logit / penalty``, or ``· penalty`` if negative.

    The published rule divides always, which makes negative logits larger; all implementations
    multiply these instead. Adding a constant to all logits changes what it does.

    Shapes: logits ``(..., V)``, ids ``(..., T)``, what each row has read so far.

    Raises:
        ValueError: ``penalty`` not positive and finite.

    Source: Keskar et al. 2019 (CTRL), §4.1.
    """
    check(repetition_penalty=penalty)
    own = np.take_along_axis(logits, ids, axis=-1)
    own = np.where(own < 0, own * penalty, own / penalty)
    out = logits.copy()
    np.put_along_axis(out, ids, own, axis=-1)
    return out


def probabilities(logits: np.ndarray) -> np.ndarray:
    """``softmax(logits)`` over the last axis."""
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def draw(p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Inverse transform sampling: where the running sum of ``p`` passes the uniform number ``u``.

    Shapes: p ``(..., V)``, u ``(...)`` in [0, 1) → ids ``(...)``.

    Source: Devroye 1986, §III.2.
    """
    total = p.cumsum(-1)
    top = total[..., -1:]  # 1, but for rounding
    reached = np.minimum(u[..., None] * top, np.nextafter(top, 0))  # never past the end
    return (total <= reached).sum(-1)


def check(
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    vocab_size: float = math.inf,
) -> None:
    """Refuse options out of their range, before anything is computed."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature={temperature} must be finite and at least 0")
    if top_k is not None and (
        isinstance(top_k, bool) or top_k != int(top_k) or not 1 <= top_k <= vocab_size
    ):
        most = "" if vocab_size == math.inf else f", and at most {vocab_size}, the vocabulary"
        raise ValueError(
            f"top_k={top_k} must be a whole number, at least 1{most}; None draws among all"
        )
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(
            f"top_p={top_p} lies outside (0, 1]: it is the share of probability to draw from; "
            "None draws from all"
        )
    if min_p is not None and not 0 <= min_p <= 1:
        raise ValueError(
            f"min_p={min_p} lies outside [0, 1]: it is a share of the largest probability"
        )
    if not 0 < repetition_penalty < math.inf:
        raise ValueError(
            f"repetition_penalty={repetition_penalty} must be positive and finite; 1 does nothing"
        )


def _keep_largest(logits: np.ndarray, least: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The ``count`` largest, the last of which is ``least``; among its equals the first ones."""
    above, equal = logits > least, logits == least
    room = count - above.sum(-1, keepdims=True)
    keep = above | (equal & (equal.cumsum(-1) <= room))
    return np.where(keep, logits, -np.inf).astype(logits.dtype, copy=False)
