"""Clipping gradients by their common norm."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..backend import array_namespace, to_host
from ..tensor import Tensor


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients, in place, by ``max_norm / norm`` if their common 2-norm is larger.

    ``norm = √(Σ over all parameters of Σ g²)``: the direction of the step stays, its length is
    limited. Parameters without a gradient are skipped.

    Returns:
        The norm before clipping (0 without any gradient).

    Raises:
        ValueError: ``max_norm`` is not positive.
        FloatingPointError: the norm is NaN or infinite; nothing was changed (PyTorch would go on,
            and write NaN into every weight).

    Source: Pascanu et al. 2013, Algorithm 1.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: max_norm must be positive, got {max_norm}")
    tensors = [params] if isinstance(params, Tensor) else list(params)
    gradients = [p.grad.data for p in tensors if p.grad is not None]
    squares: list[Any] = []
    for g in gradients:
        flat = array_namespace(g).reshape(g, (-1,))
        squares.append(flat @ flat)
    norm = math.sqrt(math.fsum(float(to_host(s)) for s in squares)) if squares else 0.0
    if not math.isfinite(norm):
        bad = next(
            p
            for p, s in zip((p for p in tensors if p.grad is not None), squares, strict=True)
            if not math.isfinite(float(to_host(s)))
        )
        label = repr(bad.name) if bad.name else f"of shape {bad.shape}"
        raise FloatingPointError(
            f"clip_grad_norm: the gradient of parameter {label} is not finite, so nothing was "
            "clipped; find the op with `with scratchlm.detect_anomaly():`"
        )
    if norm > max_norm:
        scale = max_norm / norm
        for g in gradients:
            g *= scale
    return norm
