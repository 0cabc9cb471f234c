"""Clipping gradients by their common norm."""

from __future__ import annotations

import math
from collections.abc import Iterable

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
    tensors = [
        p for p in ([params] if isinstance(params, Tensor) else params) if p.grad is not None
    ]
    gradients = [p.grad.data for p in tensors if p.grad is not None]
    if not gradients:
        return 0.0
    xp = array_namespace(*gradients)
    flat = [xp.reshape(g, (-1,)) for g in gradients]
    # all the sums leave the device in one copy, which waits for it once
    squares = to_host(xp.stack([xp.matmul(g, g) for g in flat])).tolist()
    norm = math.sqrt(math.fsum(squares))
    if not math.isfinite(norm):
        bad = next(p for p, s in zip(tensors, squares, strict=True) if not math.isfinite(s))
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
