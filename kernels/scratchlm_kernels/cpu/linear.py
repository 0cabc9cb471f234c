"""The affine map ``y = x Wᵀ + b``: three matrix products, the bias added as results are stored.

A product ``C = A B`` is cut into tiles of ``TALL`` rows by ``BROAD`` columns, which threads take
one after the other. B is first copied into panels as wide as the innermost product (:mod:`.simd`),
the rows of A that a tile needs are copied beside each other, and the sum runs over ``DEEP`` terms
at a time: 128 KB each of A, B and C in float32, so that a core's second cache holds all three.

NumPy's product does the same, and as well, with whichever innermost loop its OpenBLAS has for this
processor; for some that is one with vectors half as long as they could be. And its threads, which
spin while they wait, are not used here.

Source: Goto & van de Geijn 2008, §4 (the layers of blocking).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .compiling import kernel
from .scratch import scratch
from .simd import ROWS, VECTORS, dot_products, lanes, matmul_add, panel
from .threads import share
from .waiting import take

TALL, BROAD, DEEP = 64, 512, 512
SMALL = 2_000_000  # products; below, one thread does it all
FEW = 256  # rows; up to here, copying B into panels costs more than it saves
SEVERAL = 32  # rows; below, packing does not pay in backward either, and NumPy does it
STREAMED = 1 << 17  # numbers of B that a thread reads in one go
WEIGHTS = 1 << 17  # numbers of B; below, fetching them is not worth a second thread


@kernel(lambda t: (t.counter, t.integer, t.dense(2), t.own(1), t.integer, t.flag))
def pack(counter, pieces, source, target, step, transposed):
    """Each piece: ``step`` columns of ``source [K, J]`` as one panel ``[K, step]``, zero beyond; or
    ``step`` rows of ``source [J, K]``, if ``transposed``.
    """
    depth, columns = source.shape
    if transposed:
        columns, depth = source.shape
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        first = piece * step
        here = min(step, columns - first)
        for k in range(depth):
            line = target[(piece * depth + k) * step : (piece * depth + k + 1) * step]
            if transposed:
                for j in range(here):
                    line[j] = source[first + j, k]
            else:
                row = source[k, first : first + here]
                for j in range(here):
                    line[j] = row[j]
            for j in range(here, step):
                line[j] = 0


@kernel(lambda t: (t.counter, t.integer, t.dense(2), t.own(1), t.own(2), t.dense(1), t.flag,
                   t.flag, t.integer, t.own(1)))  # fmt: skip
def product(counter, pieces, A, panels, C, bias, has_bias, transposed, wide, sums):
    """Each piece: a tile of ``C = A B + bias``; or of ``Aᵀ B``, with A given as it is, and A's
    columns summed on the way, if ``sums`` has room for them.
    """
    rows, columns = C.shape
    depth = A.shape[0] if transposed else A.shape[1]
    step = wide * VECTORS
    across = -(-columns // BROAD)
    a = np.empty(TALL * DEEP, C.dtype)
    c = np.empty((TALL, BROAD), C.dtype)
    flat_c = c.reshape(TALL * BROAD)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        i0, j0 = piece // across * TALL, piece % across * BROAD
        tall, broad = min(TALL, rows - i0), min(BROAD, columns - j0)
        padded = -(-tall // ROWS) * ROWS
        for k0 in range(0, depth, DEEP):
            deep = min(DEEP, depth - k0)
            if transposed:
                for k in range(deep):
                    row = A[k0 + k, i0 : i0 + tall]
                    line = a[k * TALL : (k + 1) * TALL]
                    for i in range(tall):
                        line[i] = row[i]
                if sums.size and j0 == 0:
                    total = sums[i0 : i0 + tall]
                    if k0 == 0:
                        total[:] = 0
                    for k in range(deep):
                        line = a[k * TALL : k * TALL + tall]
                        for i in range(tall):
                            total[i] += line[i]
                a_row, a_k = 1, TALL
            else:
                for i in range(tall):
                    row = A[i0 + i, k0 : k0 + deep]
                    line = a[i * DEEP : (i + 1) * DEEP]
                    for k in range(deep):
                        line[k] = row[k]
                a_row, a_k = DEEP, 1
            at = (j0 // step * depth + k0) * step
            matmul_add(a, 0, a_row, a_k, panels, at, step, depth * step,
                       flat_c, 0, BROAD, padded, broad, deep, wide, k0 > 0)  # fmt: skip
        for i in range(tall):
            row = c[i]
            out = C[i0 + i, j0 : j0 + broad]
            if has_bias:
                shift = bias[j0 : j0 + broad]
                for j in range(broad):
                    out[j] = row[j] + shift[j]
            else:
                for j in range(broad):
                    out[j] = row[j]


@kernel(lambda t: (t.counter, t.integer, t.dense(2), t.dense(2), t.dense(1), t.own(2), t.flag,
                   t.integer))  # fmt: skip
def dots(counter, pieces, A, B, bias, C, has_bias, broad):
    """Each piece: ``broad`` columns of ``C = A Bᵀ + bias``, that many rows of B, where they are."""
    rows, depth = A.shape
    columns = B.shape[0]
    a, b, c = A.reshape(rows * depth), B.reshape(columns * depth), C.reshape(rows * columns)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        j0 = piece * broad
        here = min(broad, columns - j0)
        for i0 in range(0, rows, TALL):
            tall = min(TALL, rows - i0)
            dot_products(a, i0 * depth, depth, b, j0 * depth, depth, c, i0 * columns + j0, columns,
                         tall, here, depth)  # fmt: skip
        if has_bias:
            for i in range(rows):
                for j in range(j0, j0 + here):
                    C[i, j] += bias[j]


def matmul(
    A: np.ndarray,
    B: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    transposed_a: bool = False,
    transposed_b: bool = False,
    sums: np.ndarray | None = None,
) -> np.ndarray:
    """``A B + bias`` of matrices that are not empty; Aᵀ for A or Bᵀ for B if so said.

    With Aᵀ, the sums over A's columns are written to ``sums`` if it is given.
    """
    dtype = A.dtype
    A, B = np.ascontiguousarray(A), np.ascontiguousarray(B)
    columns, depth = B.shape if transposed_b else B.shape[::-1]
    rows = A.shape[1] if transposed_a else A.shape[0]
    small = rows * columns * depth < SMALL
    step = panel(dtype)
    count = -(-columns // step)
    panels = scratch("panels", count * step * depth, dtype)
    share(pack[dtype], count, B, panels, step, transposed_b, small=small)
    C = np.empty((rows, columns), dtype)
    pieces = -(-rows // TALL) * -(-columns // BROAD)
    shift = C[0] if bias is None else np.ascontiguousarray(bias)
    share(
        product[dtype], pieces, A, panels, C, shift, bias is not None, transposed_a,
        lanes(dtype), C[0, :0] if sums is None else sums, small=small,
    )  # fmt: skip
    return C


def few_rows(A: np.ndarray, B: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """``A Bᵀ + bias``, B being read once, and not copied."""
    A, B = np.ascontiguousarray(A), np.ascontiguousarray(B)
    (rows, depth), columns = A.shape, B.shape[0]
    C = np.empty((rows, columns), A.dtype)
    broad = max(16, min(columns // 8, STREAMED // depth)) // 4 * 4
    shift = C[0] if bias is None else np.ascontiguousarray(bias)
    share(
        dots[A.dtype], -(-columns // broad), A, B, shift, C, bias is not None, broad,
        small=columns * depth < WEIGHTS and C.size * depth < SMALL,
    )  # fmt: skip
    return C


class Packed:
    """A matrix B that is packed once, for many products ``A B``; Bᵀ for B if it is transposed."""

    def __init__(self, B: np.ndarray, *, transposed: bool = False) -> None:
        B = np.ascontiguousarray(B)
        self.dtype = B.dtype
        self.columns, self.depth = B.shape if transposed else B.shape[::-1]
        step = panel(B.dtype)
        count = -(-self.columns // step)
        self.panels = np.empty(count * step * self.depth, B.dtype)
        share(pack[B.dtype], count, B, self.panels, step, transposed, small=True)

    def product(self, A: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        """``A B + bias``."""
        C = np.empty((A.shape[0], self.columns), self.dtype)
        pieces = -(-A.shape[0] // TALL) * -(-self.columns // BROAD)
        shift = C[0] if bias is None else np.ascontiguousarray(bias)
        share(
            product[self.dtype], pieces, np.ascontiguousarray(A), self.panels, C, shift,
            bias is not None, False, lanes(self.dtype), C[0, :0],
            small=C.size * self.depth < SMALL,
        )  # fmt: skip
        return C


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> tuple[Any, Any]:
    """``y = x Wᵀ + b``; shapes as in :mod:`scratchlm.ops.linear`, none of them empty."""
    outs, ins = weight.shape
    rows = math.prod(x.shape[:-1])
    x2 = x.reshape(rows, ins)
    if rows <= FEW:
        y = few_rows(x2, weight, bias)
    else:
        y = matmul(x2, weight, bias, transposed_b=True)

    def vjp(dy: np.ndarray) -> tuple[np.ndarray | None, ...]:
        dy2 = dy.reshape(rows, outs)
        if rows < SEVERAL:
            dx = (dy2 @ weight).reshape(x.shape)
            return dx, dy2.T @ x2, None if bias is None else dy2.sum(axis=0)
        dx = matmul(dy2, weight).reshape(x.shape)
        dbias = None if bias is None else np.empty(outs, dy.dtype)
        dweight = matmul(dy2, x2, transposed_a=True, sums=dbias)
        return dx, dweight, dbias

    return y.reshape(*x.shape[:-1], outs), vjp
