"""The gradient of a table: rows of dy added up by their ids, an id that occurs twice adding twice.

A piece is a strip of columns, in which one thread adds all rows in the order of the ids: no two
threads write to one place, and each sum has the same order however many they are. No sorting, no
copies of dy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchlm.registry import get_op

from .compiling import kernel
from .threads import share
from .waiting import take

STRIP = 64  # columns
SMALL = 1 << 15


@kernel(lambda t: (t.counter, t.integer, t.integer, t.ids, t.dense(2), t.own(2)))
def scatter(counter, pieces, strip, ids, dy, table):
    """Each piece: ``strip`` columns of ``table[ids] += dy``."""
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        first, last = piece * strip, (piece + 1) * strip
        for n in range(ids.size):
            row, total = dy[n, first:last], table[ids[n], first:last]
            for j in range(row.size):
                total[j] += row[j]


def embedding(ids: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, Any]:
    """The composed op's lookup, which checks the ids, and a gradient of its own."""
    y, _ = get_op("embedding").reference(ids, weight)
    flat = np.ascontiguousarray(ids, np.int64).reshape(-1)
    dtype, width = weight.dtype, weight.shape[1]

    def vjp(dy: np.ndarray) -> tuple[None, np.ndarray]:
        table = np.zeros(weight.shape, dtype)
        small = dy.size < SMALL
        strip = width if small else STRIP
        rows = np.ascontiguousarray(dy).reshape(flat.size, width)
        share(scatter[dtype], -(-width // strip), strip, flat, rows, table, small=small)
        return None, table

    return y, vjp
