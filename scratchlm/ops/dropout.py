"""Dropout."""

from __future__ import annotations

from typing import Any

from ..backend import Array, array_namespace, random_uniform
from ..registry import op
from ._types import Vjp


@op("y = x · m / (1 - p)")
def dropout(
    x: Array, *, p: float = 0.5, rng: Any = None, training: bool = True
) -> tuple[Array, Vjp]:
    """``y = x * m / (1 - p)``, each ``m`` 0 with probability p, else 1; any shape.

    Dividing by ``1 - p`` while training ("inverted" dropout) keeps the mean of y at x, so that
    nothing is left to do later: with ``training=False`` (or p = 0) y is x. The mask is drawn once,
    in forward; backward uses the same: ``dx = dy * m / (1 - p)``.

    Args:
        x: any shape.
        p: the share that is dropped, in ``[0, 1)``.
        rng: a ``numpy.random.Generator``; needed unless y is x.
        training: whether to drop at all.

    Raises:
        ValueError: p outside ``[0, 1)``, or no ``rng``.
        TypeError: ``rng`` is no generator.

    Source: Srivastava 2014, §4 and §10; D5 §5.2.
    """
    check_dropout("dropout", p, rng, training)
    if not training or p == 0:
        return x[...], lambda dy: dy
    mask = dropout_mask(rng, p, x)

    def vjp(dy: Array) -> Array:
        return dy * mask

    return x * mask, vjp


def dropout_mask(rng: Any, p: float, like: Array) -> Array:
    """0 with probability p, else ``1 / (1 - p)``, in the shape and dtype of ``like``."""
    xp = array_namespace(like)
    mask = xp.astype(random_uniform(rng, like.shape, like) >= p, like.dtype)
    mask *= 1 / (1 - p)
    return mask


def check_dropout(
    name: str, p: float, rng: Any, training: bool = True, *, option: str = "p"
) -> None:
    """Refuse a probability outside ``[0, 1)``, and randomness without its source."""
    if not 0 <= p < 1:
        raise ValueError(f"{name}: {option} is {p}; the share dropped must be in [0, 1)")
    if rng is None and training and p > 0:
        raise ValueError(
            f"{name}: {option}={p} draws random numbers, but rng is missing; pass "
            "rng=numpy.random.default_rng(seed)"
        )
    if rng is not None and not hasattr(rng, "random"):
        raise TypeError(
            f"{name}: rng must be a numpy.random.Generator, not {type(rng).__name__}; "
            "numpy.random.default_rng(seed) makes one"
        )
