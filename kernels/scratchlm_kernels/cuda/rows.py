"""Launches the kernels that go row by row or element by element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratchlm.backend import Array, array_namespace, check_ids

from .runtime import NULL, Kernel, contiguous, launch

WARP, WARPS = 32, 4  # lanes of a warp; warps of a block, a row for each


def _empty(like: Array, *shape: int) -> Array:
    xp = array_namespace(like)
    return xp.empty(shape, dtype=xp.float32, device=like.device)


def _blocks(count: int, each: int) -> tuple[int]:
    return (-(-count // each),)


# -- layer norm ------------------------------------------------------------------------------------

NORM = Kernel("norm.cu", "layer_norm_forward", registers=56)
NORM_BACKWARD = Kernel("norm.cu", "layer_norm_backward", registers=72)
NORM_WEIGHTS = Kernel("norm.cu", "layer_norm_backward_weights", registers=64)
STRETCH = 8  # rows that a block of NORM_WEIGHTS takes at once
PARTS = 32  # of the sums over rows, at most


def layer_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, *, eps: float = 1e-5
) -> tuple[Array, Any]:
    """The op ``layer_norm`` in float32."""
    xp = array_namespace(x, weight, bias)
    width = x.shape[-1]
    rows = x.size // width
    x = contiguous(x)
    weight = None if weight is None else contiguous(weight)
    bias = None if bias is None else contiguous(bias)
    w, b = (NULL if p is None else p for p in (weight, bias))
    y, mean, r = _empty(x, *x.shape), _empty(x, rows), _empty(x, rows)
    n, d = np.int64(rows), np.int32(width)
    grid = _blocks(rows, WARPS)
    launch(NORM, x, grid, (WARP, WARPS), [x, w, b, y, mean, r, n, d, np.float32(eps)])

    def vjp(dy: Array) -> tuple[Array | None, ...]:
        dy = contiguous(dy)
        dx = _empty(x, *x.shape)
        launch(NORM_BACKWARD, x, grid, (WARP, WARPS), [dy, x, w, mean, r, dx, n, d])
        if weight is None and bias is None:
            return dx, None, None
        parts = min(PARTS, -(-rows // STRETCH))
        dw, db = _empty(x, parts, width), _empty(x, parts, width)
        launch(
            NORM_WEIGHTS,
            x,
            (-(-width // WARP), parts),
            (WARP, STRETCH),
            [dy, x, mean, r, dw, db, n, d],
            shared=4 * 2 * STRETCH * WARP,
        )
        dweight = None if weight is None else xp.sum(dw, axis=0)
        dbias = None if bias is None else xp.sum(db, axis=0)
        return dx, dweight, dbias

    return y, vjp


# -- softmax and cross-entropy ---------------------------------------------------------------------

LOSS = Kernel("losses.cu", "cross_entropy_forward", registers=48)
LOSS_BACKWARD = Kernel("losses.cu", "cross_entropy_backward", registers=48)
CLASSES_BLOCK = 128


def cross_entropy(
    logits: Array,
    target: Array,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[Array, Any]:
    """The op ``cross_entropy`` in float32, without class weights and smoothing."""
    xp = array_namespace(logits, target)
    classes = logits.shape[-1]
    rows = target.size
    logits = contiguous(logits)
    t = xp.astype(xp.reshape(contiguous(target), (rows,)), xp.int64, copy=False)
    counts = t != ignore_index
    check_ids(xp.where(counts, t, xp.zeros_like(t)), classes, what="cross_entropy")
    loss, top, inverse = _empty(logits, rows), _empty(logits, rows), _empty(logits, rows)
    block = (CLASSES_BLOCK,)
    last = [np.int32(classes), np.int64(ignore_index)]
    launch(
        LOSS,
        logits,
        (rows,),
        block,
        [logits, t, loss, top, inverse, *last],
        shared=4 * 2 * CLASSES_BLOCK // WARP,
    )
    value, number = xp.reshape(loss, target.shape), None
    if reduction != "none":
        value = xp.sum(loss)
    if reduction == "mean":
        number = xp.sum(xp.astype(counts, logits.dtype))
        # over nothing: a division by infinity makes loss and gradients 0
        number = xp.where(number == 0, xp.full_like(number, math.inf), number)
        value = value / number

    def vjp(dy: Array) -> tuple[Array, None]:
        g = contiguous(dy if number is None else dy / number)
        dlogits = _empty(logits, *logits.shape)
        each = np.int32(reduction == "none")
        arguments = [logits, t, top, inverse, g, dlogits, *last, each]
        launch(LOSS_BACKWARD, logits, (rows,), block, arguments)
        return dlogits, None

    return value, vjp


# -- GELU ------------------------------------------------------------------------------------------

GELU = Kernel("elementwise.cu", "gelu_forward", registers=32)
GELU_BACKWARD = Kernel("elementwise.cu", "gelu_backward", registers=32)
ELEMENTS = 256  # of a block


def gelu(x: Array, *, approximate: str = "none") -> tuple[Array, Any]:
    """The op ``gelu`` in float32."""
    x = contiguous(x)
    y = _empty(x, *x.shape)
    last = [np.int64(x.size), np.int32(approximate == "tanh")]
    grid = _blocks(x.size, ELEMENTS)
    launch(GELU, x, grid, (ELEMENTS,), [x, y, *last])

    def vjp(dy: Array) -> Array:
        dx = _empty(x, *x.shape)
        launch(GELU_BACKWARD, x, grid, (ELEMENTS,), [contiguous(dy), x, dx, *last])
        return dx

    return y, vjp


# -- embedding -------------------------------------------------------------------------------------

EMBEDDING = Kernel("embedding.cu", "embedding_forward", registers=48)
EMBEDDING_BACKWARD = Kernel("embedding.cu", "embedding_backward", registers=48)


def embedding(ids: Array, weight: Array) -> tuple[Array, Any]:
    """The op ``embedding`` in float32."""
    xp = array_namespace(ids, weight)
    check_ids(ids, weight.shape[0], what="embedding")
    width = weight.shape[1]
    weight = contiguous(weight)
    flat = contiguous(xp.astype(ids, xp.int64, copy=False))
    y = _empty(weight, *ids.shape, width)
    last = [np.int64(ids.size), np.int32(width)]
    grid = _blocks(ids.size, WARPS)
    launch(EMBEDDING, weight, grid, (WARP, WARPS), [flat, weight, y, *last])

    def vjp(dy: Array) -> tuple[None, Array]:
        dweight = xp.zeros_like(weight)
        arguments = [flat, contiguous(dy), dweight, *last]
        launch(EMBEDDING_BACKWARD, weight, grid, (WARP, WARPS), arguments)
        return None, dweight

    return y, vjp


# -- AdamW -----------------------------------------------------------------------------------------

ADAM = Kernel("adam.cu", "adam_step", registers=32)


def adam_step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    t: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """``optim.adamw_step`` in float32, in place; p, m and v are contiguous."""
    beta1, beta2 = betas
    root = math.sqrt(1 - beta2**t)
    numbers = [
        1 - lr * weight_decay, beta1, 1 - beta1, beta2, 1 - beta2,
        lr * root / (1 - beta1**t), eps * root,
    ]  # fmt: skip
    arguments = [p, contiguous(g), m, v, np.int64(p.size), *map(np.float32, numbers)]
    launch(ADAM, p, _blocks(p.size, ELEMENTS), (ELEMENTS,), arguments)
