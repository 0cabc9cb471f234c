"""Lesson 27: other right ways to write attention to a memory."""

import math

import numpy as np


def cross_attention__einsum(x, memory, wq, wk, wv, wo, *, padding=None):
    """Indices instead of matrix products; padding as a weight of 0 in front of the sum."""
    q = np.einsum("...tc,ec->...te", x, wq)
    k = np.einsum("...sd,ed->...se", memory, wk)
    v = np.einsum("...sd,ed->...se", memory, wv)
    z = np.einsum("...te,...se->...ts", q, k) / math.sqrt(wq.shape[0])
    seen = np.ones(z.shape, dtype=z.dtype)
    if padding is not None:
        seen = seen * np.expand_dims(~padding, -2)
    low = np.where(seen > 0, z, z.min(axis=-1, keepdims=True))
    p = seen * np.exp(np.where(seen > 0, z - low.max(axis=-1, keepdims=True), 0))
    sums = np.einsum("...ts->...t", p)[..., None]
    p = np.divide(p, sums, out=np.zeros_like(p), where=sums > 0)
    o = np.einsum("...ts,...se->...te", p, v)

    def over_texts(a, b):
        each = np.einsum("...ne,...nc->...ec", a, b)
        return each.reshape(-1, *each.shape[-2:]).sum(axis=0)

    def vjp(dy):
        do = np.einsum("...tc,ce->...te", dy, wo)
        dp = np.einsum("...te,...se->...ts", do, v)
        dz = p * dp - p * np.einsum("...ts,...ts->...t", p, dp)[..., None]
        dz = dz / math.sqrt(wq.shape[0])
        dq = np.einsum("...ts,...se->...te", dz, k)
        dk = np.einsum("...ts,...te->...se", dz, q)
        dv = np.einsum("...ts,...te->...se", p, do)
        return (
            np.einsum("...te,ec->...tc", dq, wq),
            np.einsum("...se,ed->...sd", dk, wk) + np.einsum("...se,ed->...sd", dv, wv),
            over_texts(dq, x),
            over_texts(dk, memory),
            over_texts(dv, memory),
            over_texts(dy, o),
        )

    return np.einsum("...te,ce->...tc", o, wo), vjp


def cross_attention__loops(x, memory, wq, wk, wv, wo, *, padding=None):
    """Text by text and query by query, over the words that are there."""
    T, S = x.shape[-2], memory.shape[-2]
    xs, ms = x.reshape(-1, T, x.shape[-1]), memory.reshape(-1, S, memory.shape[-1])
    real = np.ones((len(xs), S), dtype=bool) if padding is None else ~padding.reshape(-1, S)
    scale = 1 / math.sqrt(wq.shape[0])
    y, kept = np.zeros_like(xs), []
    for b, (rows, text) in enumerate(zip(xs, ms, strict=True)):
        words = text[real[b]]  # padding is not looked at, not even hidden
        if not len(words):
            continue
        keys, values = words @ wk.T, words @ wv.T
        for t, row in enumerate(rows):
            query = wq @ row
            scores = keys @ query * scale
            share = np.exp(scores - np.max(scores))
            share = share / np.sum(share)
            mixed = share @ values
            y[b, t] = wo @ mixed
            kept.append((b, t, row, words, query, keys, values, share, mixed))

    def vjp(dy):
        cotangents = dy.reshape(xs.shape)
        dx, dm = np.zeros_like(xs), np.zeros_like(ms)
        dwq, dwk, dwv, dwo = (np.zeros_like(w) for w in (wq, wk, wv, wo))
        for b, t, row, words, query, keys, values, share, mixed in kept:
            d = cotangents[b, t]
            dmixed = wo.T @ d
            dwo += np.outer(d, mixed)
            dshare = values @ dmixed
            dscores = scale * share * (dshare - share @ dshare)
            dquery = keys.T @ dscores
            dkeys, dvalues = np.outer(dscores, query), np.outer(share, dmixed)
            dx[b, t] = wq.T @ dquery
            dm[b, real[b]] += dkeys @ wk + dvalues @ wv
            dwq += np.outer(dquery, row)
            dwk += dkeys.T @ words
            dwv += dvalues.T @ words
        return dx.reshape(x.shape), dm.reshape(memory.shape), dwq, dwk, dwv, dwo

    return y.reshape(x.shape), vjp


def cross_attention__folded(x, memory, wq, wk, wv, wo, *, padding=None):
    """The weights folded: scores are x (wqᵀ wk) memoryᵀ, and the result A memory (wo wv)ᵀ."""
    scale = wq.shape[0] ** -0.5
    inner, outer = scale * (wq.T @ wk), wo @ wv  # [C, D], [C, D]
    asked = x @ inner
    scores = asked @ np.moveaxis(memory, -1, -2)
    if padding is not None:
        scores = scores.copy()
        scores[np.broadcast_to(padding[..., np.newaxis, :], scores.shape)] = -np.inf
    with np.errstate(invalid="ignore"):
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = np.nan_to_num(weights)
    weights /= np.maximum(weights.sum(axis=-1, keepdims=True), np.finfo(weights.dtype).tiny)
    mixed = weights @ memory  # [..., T, D]

    def vjp(dy):
        dmixed = dy @ outer
        g = np.matmul(dmixed, np.moveaxis(memory, -1, -2))
        g = weights * (g - np.sum(dmixed * mixed, axis=-1, keepdims=True))
        dasked = g @ memory
        dmemory = np.moveaxis(g, -1, -2) @ asked + np.moveaxis(weights, -1, -2) @ dmixed
        texts = list(range(x.ndim - 1))
        dinner = scale * np.tensordot(x, dasked, (texts, texts))  # of wqᵀ wk
        douter = np.tensordot(dy, mixed, (texts, texts))  # of wo wv
        return (
            dasked @ inner.T,
            dmemory,
            (dinner @ wk.T).T,
            wq @ dinner,
            wo.T @ douter,
            douter @ wv.T,
        )

    return mixed @ outer.T, vjp
