"""Losses: cross-entropy, mean squared error, binary cross-entropy, skip-gram."""

from __future__ import annotations

import math

from ..backend import (
    Array,
    arange_like,
    array_namespace,
    check_ids,
    is_floating,
    scatter_add,
)
from ..registry import op
from ._types import Vjp
from .activations import stable_sigmoid, stable_softplus

REDUCTIONS = ("mean", "sum", "none")


@op("L = -ln softmax(x)[t]")
def cross_entropy(
    logits: Array,
    target: Array,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[Array, Vjp]:
    """``L = -ln softmax(logits)[target]``, the surprise at the right class, averaged.

    Shapes: logits ``[..., C]``, target ``[...]`` integers. (Classes are the last axis, as
    everywhere here; PyTorch has them second.)

    In full, with class weights ``w`` (default 1) and smoothing ``ε``, the loss of one row is
    ``l = -sum_c q_c ln p_c``, where ``p = softmax(x)`` and::

        q_c = (1 - ε) w_t [c = t] + (ε / C) w_c

    ``"mean"`` divides the sum of ``l`` by the sum of ``w_t`` over the rows that count (without
    weights, by their number). Rows whose target is ``ignore_index`` do not count and get a zero
    gradient. If no row counts (or all that do weigh 0), the mean is over nothing: here it is 0,
    with zero gradients, where PyTorch gives NaN or infinity. A batch that is all padding then
    changes nothing, instead of destroying the model.

    Derivation: ``ln p_c = x_c - ln sum_k exp(x_k)`` has by ``x_j`` the derivative
    ``[c = j] - p_j``, so ``dl/dx_j = p_j sum_c q_c - q_j``, which is ``softmax - onehot`` without
    weights and smoothing.

    Raises:
        ValueError: shapes, an unknown reduction, or a smoothing outside ``[0, 1]``.
        TypeError: targets that are no integers.
        IndexError: a target outside ``[0, C)`` that is not ``ignore_index``.

    Source: D2 §4.1.2, ``H(p, q) = -sum p_i log q_i``; smoothing: Szegedy 2016, §7.
    """
    _check_reduction("cross_entropy", reduction)
    xp = array_namespace(logits, target, weight)
    if not logits.ndim or target.shape != logits.shape[:-1]:
        raise ValueError(
            f"cross_entropy: logits {tuple(logits.shape)} need targets of shape "
            f"{tuple(logits.shape[:-1])}, one id for each row of classes, got {tuple(target.shape)}"
        )
    classes = logits.shape[-1]
    if weight is not None and weight.shape != (classes,):
        raise ValueError(
            f"cross_entropy: weight has shape {tuple(weight.shape)}; it must be ({classes},), one "
            "for each class"
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(
            f"cross_entropy: label_smoothing is {label_smoothing}; it must be in [0, 1]"
        )
    if is_floating(target):
        raise TypeError(
            f"cross_entropy: targets must be integer class ids, got {target.dtype}; "
            "probabilities as targets are not supported"
        )

    rows = target.size
    t = xp.reshape(target, (rows,))
    counts = t != ignore_index
    t = xp.where(counts, t, xp.zeros_like(t))
    if rows:
        check_ids(t, classes, what="cross_entropy")
    t = xp.astype(t, xp.int64, copy=False)
    x = xp.reshape(logits, (rows, classes))
    if weight is not None:
        weight = xp.astype(weight, logits.dtype, copy=False)

    # ln p = z - ln sum exp z  with z = x - max(x); the exponentials are kept for backward
    z = x - xp.max(x, axis=-1, keepdims=True) if classes else x
    e = xp.exp(z)
    total = xp.sum(e, axis=-1)  # [rows]
    log_total = xp.log(total)
    at_target = arange_like(rows, t) * classes + t  # place in the flattened array
    log_p = xp.take(xp.reshape(z, (rows * classes,)), at_target, axis=0) - log_total
    none = xp.zeros_like(log_p)
    log_p = xp.where(counts, log_p, none)  # an ignored row may hold -inf, and 0 inf is NaN

    # w_t of each row, 0 where the target is ignored
    asked, counts = counts, xp.astype(counts, logits.dtype)
    row_weight = counts if weight is None else counts * xp.take(weight, t, axis=0)
    loss = -(row_weight * log_p)
    share, sum_w = 0.0, 0.0
    if label_smoothing:
        share = label_smoothing / classes
        if weight is None:
            sum_w, sum_wz = float(classes), xp.sum(z, axis=-1)
        else:
            sum_w, sum_wz = xp.sum(weight), z @ weight
        sum_wz = xp.where(asked, sum_wz, none)
        # -(ε/C) sum_c w_c ln p_c  with  ln p_c = z_c - log_total
        loss = (1 - label_smoothing) * loss + share * counts * (sum_w * log_total - sum_wz)

    if reduction == "none":
        value = xp.reshape(loss, target.shape)
    else:
        value = xp.sum(loss)
    denominator = None
    if reduction == "mean":
        denominator = xp.sum(row_weight)
        # over nothing: a division by infinity makes loss and gradients 0
        nothing = xp.full_like(denominator, math.inf)
        denominator = xp.where(denominator == 0, nothing, denominator)
        value = value / denominator

    def vjp(dy: Array) -> tuple[Array, None]:
        # the cotangent of each row's l
        g = xp.reshape(dy, (rows,)) if reduction == "none" else dy
        if denominator is not None:
            g = g / denominator
        # dx = g (p sum(q) - q),  p = e / total
        hit = (1 - label_smoothing) * row_weight * g  # [rows], goes to the right class
        even = share * counts * g  # [rows], times w_c, goes to every class
        dx = e * xp.expand_dims((hit + even * sum_w) / total, axis=-1)
        if label_smoothing:
            spread = xp.expand_dims(even, axis=-1)
            dx -= spread if weight is None else spread * weight
        dx = xp.reshape(dx, (rows * classes,))
        scatter_add(dx, at_target, -hit)
        return xp.reshape(dx, logits.shape), None

    return value, vjp


@op("L = (x - t)²")
def mse(pred: Array, target: Array, *, reduction: str = "mean") -> tuple[Array, Vjp]:
    """``L = mean((pred - target)²)`` over all elements; of one shape, any.

    ``dpred = 2 (pred - target) / n``, ``dtarget = -dpred``; without ``/ n`` for ``"sum"`` and
    ``"none"``. The mean over no elements is 0.

    Raises:
        ValueError: two shapes (broadcasting would hide a mistake), or an unknown reduction.

    Source: D2 §4.1.1.
    """
    _check_reduction("mse", reduction)
    _check_same("mse", pred, target)
    xp = array_namespace(pred, target)
    difference = pred - target
    factor = 1 / max(1, difference.size) if reduction == "mean" else 1.0
    value = difference * difference
    if reduction != "none":
        value = xp.sum(value) * factor

    def vjp(dy: Array) -> tuple[Array, Array]:
        dpred = difference * (dy * (2 * factor))
        return dpred, -dpred

    return value, vjp


@op("L = -t ln σ(x) - (1 - t) ln(1 - σ(x))")
def binary_cross_entropy_with_logits(
    logits: Array,
    target: Array,
    *,
    reduction: str = "mean",
    pos_weight: Array | float | None = None,
) -> tuple[Array, Vjp]:
    """``L = -a t ln σ(x) - (1 - t) ln(1 - σ(x))``, ``a`` the ``pos_weight``, averaged.

    logits x and target t (the probability of "yes", usually 0 or 1) have one shape; pos_weight is
    a number, or broadcasts to it. As ``-ln σ(x) = softplus(-x)`` and ``1 - σ(x) = σ(-x)``::

        l  = a t softplus(-x) + (1 - t) softplus(x)
        dx = (1 - t) σ(x) - a t σ(-x)                  σ(x) - t for a = 1
        dt = a softplus(-x) - softplus(x)              -x for a = 1

    With the stable softplus nothing overflows, and as no term is negative, nothing cancels.

    Raises:
        ValueError: shapes that do not fit, or an unknown reduction.
        TypeError: a target that is not floating.

    Source: the cross-entropy of D2 §4.1.2 between two answers; PyTorch's ``pos_weight``.
    """
    name = "binary_cross_entropy_with_logits"
    _check_reduction(name, reduction)
    _check_same(name, logits, target)
    xp = array_namespace(logits, target)
    if not is_floating(target):
        raise TypeError(
            f"{name}: target is {target.dtype}; probabilities are floating: .astype(float)"
        )
    a: Array | float = 1.0
    if isinstance(pos_weight, (int, float)):
        a = float(pos_weight)
    elif pos_weight is not None:
        _check_broadcasts(name, "pos_weight", pos_weight, logits)
        a = xp.astype(pos_weight, logits.dtype, copy=False)
    x, t = logits, target
    if_yes, if_no = a * stable_softplus(-x), stable_softplus(x)
    value = t * if_yes + (1.0 - t) * if_no
    factor = 1 / max(1, value.size) if reduction == "mean" else 1.0
    if reduction != "none":
        value = xp.sum(value) * factor

    def vjp(dy: Array) -> tuple[Array, Array]:
        dy = dy * factor
        dx = dy * ((1.0 - t) * stable_sigmoid(x) - t * a * stable_sigmoid(-x))
        return dx, dy * (if_yes - if_no)

    return value, vjp


@op("L = -ln σ(v·u) - Σₖ ln σ(-v·uₖ)")
def skipgram_loss(
    center: Array, context: Array, negatives: Array, *, reduction: str = "mean"
) -> tuple[Array, Vjp]:
    """``L = -ln σ(v·u) - Σ_k ln σ(-v·u_k)``: skip-gram with negative sampling, averaged over pairs.

    Shapes: center ``v [..., d]``, context ``u [..., d]``, negatives ``u_1 ... u_K [..., K, d]``.

    The vector of a word is to have a large product with that of a word near it, and small ones with
    those of K words drawn as noise. With ``s = v·u`` and ``s_k = v·u_k``, and as
    ``-ln σ(s) = softplus(-s)``::

        ds  = -σ(-s)      ds_k = σ(s_k)
        dv  = ds u + Σ_k ds_k u_k
        du  = ds v        du_k = ds_k v

    The mean over no pairs is 0.

    Raises:
        ValueError: shapes that do not fit (nothing is broadcast), or an unknown reduction.

    Source: Mikolov et al. 2013 (NIPS), eq. 4, whose sum is the negative of this.
    """
    _check_reduction("skipgram_loss", reduction)
    _check_pairs(center, context, negatives)
    xp = array_namespace(center, context, negatives)
    v, rows = xp.expand_dims(center, axis=-2), negatives  # [..., 1, d], [..., K, d]
    near = xp.sum(center * context, axis=-1)  # [...]
    noise = xp.sum(rows * v, axis=-1)  # [..., K]
    value = stable_softplus(-near) + xp.sum(stable_softplus(noise), axis=-1)  # [...]
    factor = 1 / max(1, value.size) if reduction == "mean" else 1.0
    if reduction != "none":
        value = xp.sum(value) * factor

    def vjp(dy: Array) -> tuple[Array, Array, Array]:
        dy = xp.broadcast_to(dy * factor, near.shape)
        dnear = xp.expand_dims(-stable_sigmoid(-near) * dy, axis=-1)  # [..., 1]
        dnoise = xp.expand_dims(stable_sigmoid(noise) * xp.expand_dims(dy, axis=-1), axis=-1)
        dcenter = dnear * context + xp.sum(dnoise * rows, axis=-2)
        return dcenter, dnear * center, dnoise * v

    return value, vjp


def _check_reduction(name: str, reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: reduction is {reduction!r}; it may be 'mean', 'sum' or 'none'")


def _check_same(name: str, x: Array, target: Array) -> None:
    if x.shape != target.shape:
        raise ValueError(
            f"{name}: the prediction has shape {tuple(x.shape)}, the target {tuple(target.shape)}: "
            "they must be equal, nothing is broadcast here; reshape one of them"
        )


def _check_broadcasts(name: str, what: str, x: Array, to: Array) -> None:
    if x.ndim > to.ndim or any(
        have not in (1, want) for have, want in zip(x.shape[::-1], to.shape[::-1], strict=False)
    ):
        raise ValueError(
            f"{name}: {what} has shape {tuple(x.shape)}, which does not broadcast to "
            f"{tuple(to.shape)}"
        )


def _check_pairs(center: Array, context: Array, negatives: Array) -> None:
    shape, noise = tuple(center.shape), tuple(negatives.shape)
    if not shape or context.shape != shape:
        raise ValueError(
            f"skipgram_loss: center has shape {shape}, context {tuple(context.shape)}: both must "
            "be (..., d), a vector for each word of the pair"
        )
    if noise[:-2] + noise[-1:] != shape or len(noise) != len(shape) + 1:
        raise ValueError(
            f"skipgram_loss: negatives have shape {noise}; beside a center of shape {shape} they "
            f"must be ({', '.join(map(str, (*shape[:-1], 'K', shape[-1])))}), K vectors for each "
            "pair"
        )
