"""Cross-entropy of class ids, without an array of probabilities.

Forward keeps of each row its maximum m and ``1 / sum exp(x - m)``; backward makes the probabilities
again from the logits as it writes their gradient, ``g (p - onehot)``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratchlm.backend import check_ids

from .compiling import kernel
from .simd import exp, row_max
from .threads import share
from .waiting import take

ROWS = 8
SMALL = 1 << 15


@kernel(lambda t: (t.counter, t.integer, t.dense(2), t.ids, t.own(1), t.own(1),
                   t.own(1)))  # fmt: skip
def forward(counter, pieces, x, target, loss, top, inverse):
    """Each piece: ROWS rows; a target below 0 does not count."""
    rows, classes = x.shape
    zero, one = loss.dtype.type(0), loss.dtype.type(1)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        for i in range(piece * ROWS, min(rows, (piece + 1) * ROWS)):
            row = x[i]
            m = row_max(row)
            total = zero
            for j in range(classes):
                total += exp(row[j] - m)
            top[i] = m
            inverse[i] = one / total
            loss[i] = zero
            if target[i] >= 0:
                loss[i] = np.log(total) - (row[target[i]] - m)


@kernel(lambda t: (t.counter, t.integer, t.dense(2), t.ids, t.dense(1), t.own(1),
                   t.own(1), t.own(2)))  # fmt: skip
def backward(counter, pieces, x, target, g, top, inverse, dx):
    """Each piece: ROWS rows; ``g`` is the cotangent of each row's loss."""
    rows, classes = x.shape
    zero = dx.dtype.type(0)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        for i in range(piece * ROWS, min(rows, (piece + 1) * ROWS)):
            row, out = x[i], dx[i]
            if target[i] < 0:
                for j in range(classes):
                    out[j] = zero
                continue
            m, factor = top[i], inverse[i] * g[i]
            for j in range(classes):
                out[j] = exp(row[j] - m) * factor
            out[target[i]] -= g[i]


def cross_entropy(
    logits: np.ndarray,
    target: np.ndarray,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    weight: None = None,
    label_smoothing: float = 0.0,
) -> tuple[Any, Any]:
    """Without class weights and smoothing; meaning as in :mod:`scratchlm.ops.losses`."""
    dtype, classes = logits.dtype, logits.shape[-1]
    x = np.ascontiguousarray(logits).reshape(-1, classes)
    rows = x.shape[0]
    t = target.reshape(-1)
    counts = t != ignore_index
    check_ids(np.where(counts, t, 0), classes, what="cross_entropy")
    t = np.where(counts, t.astype(np.int64, copy=False), -1)
    loss, top, inverse = (np.empty(rows, dtype) for _ in range(3))
    pieces, small = -(-rows // ROWS), x.size < SMALL
    share(forward[dtype], pieces, x, t, loss, top, inverse, small=small)
    value: Any
    denominator = dtype.type(1)
    if reduction == "none":
        value = loss.reshape(target.shape)
    else:
        value = loss.sum()
    if reduction == "mean":
        denominator = dtype.type(np.count_nonzero(counts) or math.inf)
        value = value / denominator

    def vjp(dy: np.ndarray) -> tuple[np.ndarray, None]:
        g = np.empty(rows, dtype)
        g[:] = np.reshape(dy, -1) / denominator
        dx = np.empty((rows, classes), dtype)
        share(backward[dtype], pieces, x, t, g, top, inverse, dx, small=small)
        return dx.reshape(logits.shape), None

    return value, vjp
