"""Launches the attention kernels: what they take, how many blocks, how much shared memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchlm.backend import Array, array_namespace

from .runtime import NULL, Kernel, contiguous, launch

HEAD_SIZES = (16, 32, 64, 96, 128)  # compiled for; a head is padded to the next
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Forward:
    """A version of the forward pass, and how it is laid out on a block."""

    kernel: Kernel
    rows: int  # queries of one block
    block: tuple[int, ...]
    shared: Callable[[int, int], int]  # (head size, keys) -> floats in shared memory


FORWARD = {
    1: Forward(
        Kernel("attention_v1.cu", "attention_forward_v1", registers=80),
        rows=1,
        block=(128,),
        shared=lambda head, keys: keys + 128 // 32,
    ),
    2: Forward(
        Kernel("attention_v2.cu", "attention_forward_v2", registers=112),
        rows=8,
        block=(32, 8),
        shared=lambda head, keys: (8 + 2 * 32) * (head + 1),
    ),
    3: Forward(
        Kernel("attention.cu", "attention_forward", registers=216),
        rows=64,
        block=(128,),
        shared=lambda head, keys: (64 + 32) * (head + 1) + 64 * (32 + 1),
    ),
}
DELTA = Kernel("attention.cu", "attention_delta", registers=64)
BACKWARD_KEYS = Kernel("attention.cu", "attention_backward_keys", registers=192)
BACKWARD_QUERIES = Kernel("attention.cu", "attention_backward_queries", registers=160)
BACKWARD_ROWS = 32  # of one block: keys in the first pass, queries in the second


def columns(head: int) -> int:
    """The width of a tile in backward: narrower for wide heads, as four tiles must fit."""
    return 16 if head > 64 else 32


def shared_keys(head: int) -> int:
    """Floats of shared memory for dk and dv: four tiles, two of weights, three numbers a query."""
    width = columns(head)
    return 2 * (BACKWARD_ROWS + width) * (head + 1) + 2 * BACKWARD_ROWS * (width + 1) + 3 * width


def shared_queries(head: int) -> int:
    """Floats of shared memory for dq: four tiles and one of weights."""
    width = columns(head)
    return 2 * (BACKWARD_ROWS + width) * (head + 1) + BACKWARD_ROWS * (width + 1)


def attention(
    q: Array,
    k: Array,
    v: Array,
    bias: None = None,
    *,
    mask: Array | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    rng: Any = None,
    return_weights: bool = False,
    version: int = 3,
) -> tuple[Array, Any]:
    """The op ``attention`` without dropout, weights and bias, in float32, heads up to 128 wide.

    Memory is linear in length: saved are q, k, v, y, and for each query the greatest score and
    the inverse of the sum of exponentials, from which backward forms the weights again.

    Source: Dao 2023, Algorithms 1 and 2.
    """
    xp = array_namespace(q, k, v)
    *lead, N, d = q.shape
    M, e = v.shape[-2:]
    heads = q.shape[-3] if q.ndim > 2 else 1
    shared_heads = k.shape[-3] if k.ndim > 2 else 1
    all_heads = math.prod(lead)
    group = heads // shared_heads
    head = next(size for size in HEAD_SIZES if size >= max(d, e))
    defines = (f"-DHEAD={head}",)
    if scale is None:
        scale = 1 / math.sqrt(d)

    q, k, v = contiguous(q), contiguous(k), contiguous(v)
    mask_arguments = _mask_arguments(xp, mask, tuple(lead), N, M)
    sizes: list[Any] = [np.int32(n) for n in (heads, group, N, M, d, e)]
    sizes += [np.float32(scale), np.int32(causal)]

    def empty(*shape: int) -> Array:
        return xp.empty(shape, dtype=q.dtype, device=q.device)

    y, top, inverse = empty(*lead, N, e), empty(all_heads, N), empty(all_heads, N)
    forward = FORWARD[version]
    launch(
        forward.kernel,
        q,
        (all_heads, -(-N // forward.rows)),
        forward.block,
        [q, k, v, *mask_arguments, y, top, inverse, *sizes],
        shared=FLOAT * forward.shared(head, M),
        defines=defines,
    )

    def vjp(dy: Array) -> tuple[Array, Array, Array]:
        dy = contiguous(dy)
        delta, dq, dk, dv = empty(all_heads, N), empty(*q.shape), empty(*k.shape), empty(*v.shape)
        rows = all_heads * N
        launch(
            DELTA,
            q,
            (-(-rows // 4),),
            (128,),
            [dy, y, delta, np.int64(rows), np.int32(e)],
            defines=defines,
        )
        inputs = [q, k, v, *mask_arguments, dy, top, inverse, delta]
        launch(
            BACKWARD_KEYS,
            q,
            (all_heads // group, -(-M // BACKWARD_ROWS)),
            (128,),
            [*inputs, dk, dv, *sizes],
            shared=FLOAT * shared_keys(head),
            defines=defines,
        )
        launch(
            BACKWARD_QUERIES,
            q,
            (all_heads, -(-N // BACKWARD_ROWS)),
            (128,),
            [*inputs, dq, *sizes],
            shared=FLOAT * shared_queries(head),
            defines=defines,
        )
        return dq, dk, dv

    return y, vjp


def _mask_arguments(
    xp: Any, mask: Array | None, lead: tuple[int, ...], N: int, M: int
) -> list[Any]:
    """Pointers to a boolean mask and an additive one; strides along batch, head, row and column.

    An axis along which the mask is broadcast has stride 0 and takes no memory. Only where it is
    broadcast along some of the axes before the heads, and not along others, is it spread out.
    """
    if mask is None:
        return [NULL, NULL, *[np.int64(0)] * 4]
    batch = lead[:-1]
    shape = (1,) * (len(batch) + 3 - mask.ndim) + tuple(mask.shape)
    mask = xp.reshape(mask, shape)
    if math.prod(shape[:-3]) != 1 and shape[:-3] != batch:
        mask = xp.broadcast_to(mask, (*batch, *shape[-3:]))
    if not xp.isdtype(mask.dtype, "bool"):
        mask = xp.astype(mask, xp.float32, copy=False)
    mask = contiguous(mask)
    sides = (math.prod(mask.shape[:-3]), *mask.shape[-3:])
    strides = [
        np.int64(0 if side == 1 else math.prod(sides[axis + 1 :]))
        for axis, side in enumerate(sides)
    ]
    pointers = [mask, NULL] if xp.isdtype(mask.dtype, "bool") else [NULL, mask]
    return [*pointers, *strides]
