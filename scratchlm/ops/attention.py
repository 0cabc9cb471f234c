"""Scaled dot-product attention, composed of matrix products and a softmax."""

from __future__ import annotations

import math
from typing import Any

from ..backend import Array, arange_like, array_namespace, asarray_like
from ..registry import op
from ._types import Vjp
from .dropout import check_dropout
from .splitmix import draw_seed, keep_mask


@op("y = softmax(q kᵀ / √d + bias + mask) v")
def attention(
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None = None,
    *,
    mask: Array | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    rng: Any = None,
    return_weights: bool = False,
) -> tuple[Any, Vjp]:
    """``y = softmax(scale * q kᵀ + bias + mask) v``, for every head of every sequence at once.

    Shapes, with B for any leading axes, N queries, M keys::

        q [B, H, N, d]   k [B, Hkv, M, d]   v [B, Hkv, M, e]   ->   y [B, H, N, e]

    q, k, v may also be plain matrices ``[N, d]``, ``[M, d]``, ``[M, e]``. Where Hkv is less than H
    it divides it, and each group of ``H / Hkv`` neighboring query heads shares one head of k and v
    (grouped-query attention; Hkv = 1 is multi-query). No copies of k and v are made for it: the
    queries of a group are laid one below the other, as one longer sequence.

    Args:
        q: queries ``[B, H, N, d]``, what each position looks for.
        k: keys ``[B, Hkv, M, d]``, what each position is found by.
        v: values ``[B, Hkv, M, e]``, what each position gives.
        bias: floating, broadcastable to ``[B, H, N, M]``, added to the scaled scores: a learned
            preference of place for place, such as T5's relative positions. It has a gradient.
        mask: broadcastable to ``[B, H, N, M]``, without a gradient. Boolean: True where the query
            may attend. Floating: added to the scaled scores; -inf forbids.
        causal: a query sees no later key. The last query is aligned with the last key, so query i
            sees keys ``j <= i + M - N``: the usual triangle for N = M, and what new queries need
            beside a cache of past keys. (PyTorch aligns the first ones.) Goes together with
            ``mask``: what either forbids is forbidden.
        scale: default ``1 / sqrt(d)``: a sum of d products has d times the variance of one.
        dropout_p: share of weights dropped (inverted dropout), drawn once in forward.
        rng: the ``numpy.random.Generator`` that dropout draws one seed from. Number i of that seed
            (:mod:`.splitmix`) decides about element i of the weights ``[B, H, N, M]``, so that a
            kernel that keeps no such array can ask for it again.
        return_weights: return ``(y, weights)``, weights ``[B, H, N, M]`` being the softmax before
            dropout. Either may carry a cotangent.

    A query that may attend to nothing gets zeros, weights too, and passes zero gradients.

    Backward, from the last line of forward to the first (``P`` the weights, ``A`` after dropout)::

        y = A v          dA = dy vᵀ          dv = Aᵀ dy
        A = P m          dP = dA m           m the dropout mask, 0 or 1 / (1 - p)
        P = softmax(S)   dS = P * (dP - sum_j dP P)
        S = scale q kᵀ   dq = scale dS k     dk = scale dSᵀ q
          + bias         dbias = dS          summed over the axes that broadcasting stretched

    The row sum needs no N x M array: ``sum_j dP_ij P_ij = sum_j A_ij (dy_i · v_j) = dy_i · y_i``.

    Raises:
        ValueError: shapes that do not fit (the message says which axes), a ``dropout_p`` outside
            ``[0, 1)`` or without ``rng``.
        TypeError: a mask of integers, a bias that is not floating, an ``rng`` that is no generator.

    Source: Vaswani 2017, eq. 1 and §3.2; D1 §4.1.1, D3 §4.1, D4 §4.1.1 and §4.2.1.
    Groups: Ainslie 2023, §2.2. Bias: Raffel 2020, §2.1. The row sum: Dao 2022, App. B.
    """
    groups = _check_shapes(q, k, v)
    check_dropout("attention", dropout_p, rng, option="dropout_p")
    xp = array_namespace(q, k, v, bias)
    *_, N, d = q.shape
    M = k.shape[-2]
    if scale is None:
        scale = 1 / math.sqrt(d)

    # [B, H, N, ·] -> [B, Hkv, group N, ·]; with one head for each it changes nothing
    def grouped(x: Array) -> Array:
        if groups == 1:
            return x
        return xp.reshape(x, (*k.shape[:-2], groups * N, x.shape[-1]))

    def ungrouped(x: Array) -> Array:
        return x if groups == 1 else xp.reshape(x, (*q.shape[:-1], x.shape[-1]))

    qs = grouped(q) * scale  # scaling q costs N d products, scaling the scores N M
    s = ungrouped(qs @ xp.matrix_transpose(k))  # [B, H, N, d] [B, H, d, M] -> [B, H, N, M]
    if bias is not None:
        s += _as_added("bias", bias, s)
    if mask is not None:
        s += _as_added("mask", mask, s)
    if causal and N > 1:
        s += _as_added("mask", _causal(N, M, s), s)
    weights = _softmax_of_own(s)
    dropped = None
    used = weights
    if dropout_p:
        dropped = keep_mask(draw_seed(rng), dropout_p, weights)
        used = weights * dropped
    y = ungrouped(grouped(used) @ v)  # [B, H, N, M] [B, H, M, e] -> [B, H, N, e]

    def vjp(dy: Array | None, dweights: Array | None = None) -> tuple[Array, ...]:
        if dy is None:
            dy = xp.zeros_like(y)
        # y = A v   =>   dA = dy vᵀ,  dv = Aᵀ dy
        dv = xp.matrix_transpose(grouped(used)) @ grouped(dy)  # [M, N] [N, e] -> [M, e]
        ds = ungrouped(grouped(dy) @ xp.matrix_transpose(v))  # [N, e] [e, M] -> [N, M]
        # A = P m   =>   dP = dA m
        if dropped is not None:
            ds *= dropped
        # P = softmax(S)   =>   dS = P (dP - sum_j dP P)
        row = xp.vecdot(dy, y, axis=-1)  # [B, H, N]
        if dweights is not None:
            ds += dweights
            row = row + xp.vecdot(dweights, weights, axis=-1)
        ds -= xp.expand_dims(row, axis=-1)
        ds *= weights
        # S = (scale q) kᵀ + bias   =>   dbias = dS,  dq = scale dS k,  dk = dSᵀ (scale q)
        dbias = () if bias is None else (_sum_to(ds, bias),)
        ds = grouped(ds)
        dq = ds @ k  # [N, M] [M, d] -> [N, d]
        dq *= scale
        dk = xp.matrix_transpose(ds) @ qs  # [M, N] [N, d] -> [M, d]
        return ungrouped(dq), dk, dv, *dbias

    return ((y, weights) if return_weights else y), vjp


def _softmax_of_own(s: Array) -> Array:
    """Softmax over the last axis, working in place on ``s``; a row of -inf only gives zeros."""
    xp = array_namespace(s)
    if not s.size:
        return s
    m = xp.max(s, axis=-1, keepdims=True)
    m = xp.where(m == -math.inf, xp.zeros_like(m), m)
    s -= m
    s = xp.exp(s)
    total = xp.sum(s, axis=-1, keepdims=True)
    s /= xp.where(total == 0, xp.ones_like(total), total)
    return s


def _causal(N: int, M: int, like: Array) -> Array:
    """``[N, M]``, True where key j is not after query i, the last of both being at one time."""
    xp = array_namespace(like)
    query = xp.expand_dims(arange_like(N, like) + (M - N), axis=1)
    return xp.expand_dims(arange_like(M, like), axis=0) <= query


def _as_added(what: str, x: Array, scores: Array) -> Array:
    """What ``x``, the mask or the bias, adds to the scores: 0 or -inf for a boolean mask."""
    xp = array_namespace(x, scores)
    if x.ndim > scores.ndim or any(
        have not in (1, want) for have, want in zip(x.shape[::-1], scores.shape[::-1], strict=False)
    ):
        raise ValueError(
            f"attention: {what} has shape {tuple(x.shape)}, the weights {tuple(scores.shape)} "
            f"(..., heads, queries, keys): the {what} must broadcast to that without adding axes"
        )
    if what == "mask" and xp.isdtype(x.dtype, "bool"):
        zero = asarray_like(0.0, scores, scores.dtype)
        return xp.where(x, zero, asarray_like(-math.inf, scores, scores.dtype))
    if what == "mask" and not xp.isdtype(x.dtype, "real floating"):
        raise TypeError(
            f"attention: mask is {x.dtype}; use a boolean mask (True = may attend), or a "
            "floating one that is added to the scores (0 = may attend, -inf = may not)"
        )
    if not xp.isdtype(x.dtype, "real floating"):
        raise TypeError(
            f"attention: bias is {x.dtype}; it is added to the scores, so it must be floating "
            "(what allows and forbids is mask=)"
        )
    return xp.astype(x, scores.dtype, copy=False)


def _sum_to(ds: Array, bias: Array) -> Array:
    """The gradient of a bias that was broadcast to the scores: what it fed adds up."""
    xp = array_namespace(ds)
    extra = ds.ndim - bias.ndim
    shape = (1,) * extra + tuple(bias.shape)
    stretched = tuple(a for a, side in enumerate(shape) if side == 1 and ds.shape[a] != 1)
    if stretched:
        ds = xp.sum(ds, axis=stretched, keepdims=True)
    return xp.astype(xp.reshape(ds, bias.shape), bias.dtype, copy=False)


def _check_shapes(q: Array, k: Array, v: Array) -> int:
    """How many query heads share one head of k and v."""
    shapes = f"attention: q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}: "
    if not (q.ndim == k.ndim == v.ndim) or q.ndim < 2:
        raise ValueError(
            shapes + "all three need the same number of axes, (..., heads, length, features) or "
            "(length, features)"
        )
    if q.shape[-1] != k.shape[-1] or not q.shape[-1]:
        raise ValueError(
            shapes + "the last axes of q and k must agree (and not be 0), for a dot product"
        )
    if k.shape[:-1] != v.shape[:-1]:
        raise ValueError(
            shapes + "k and v must agree in every axis but the last: each key has one value"
        )
    if q.ndim == 2:
        return 1
    if q.shape[:-3] != k.shape[:-3]:
        raise ValueError(
            shapes + "the axes before the heads (all but the last three) must agree in q, k and v"
        )
    heads, shared = q.shape[-3], k.shape[-3]
    if heads == shared:
        return 1
    if not shared or heads % shared:
        raise ValueError(
            shapes + f"q has {heads} heads, k and v {shared}: their number must divide that of q"
        )
    return heads // shared
