"""Attention without the N x M weights: FlashAttention-2, forward and backward.

Forward takes ``QUERIES`` rows of q and walks over the keys, ``KEYS`` at a time. Of the rows seen so
far it keeps the largest score m, the sum of exponentials l, and the unnormalized result; a new
block that raises m shrinks what is there by ``exp(m_old - m_new)``. Saved for backward are the
result and, for each row, m and 1 / l: that is the log-sum-exp ``m + ln l`` in two numbers, since at
scores of 1e4 their float32 sum would have lost three digits of l.

Backward makes each tile of the weights again, ``P = exp(S - m) / l``, and from it all three
gradients, with ``delta_i = dy_i · y_i``::

    dv += Pᵀ dy      dP = dy vᵀ      dS = P * (dP - delta)      dk += dSᵀ (scale q)      dq += dS k

One walk over the tiles, keys outside and queries inside: five matrix products for each tile, where
separate walks for dq and for dk, dv would make S and dP twice, seven in all. Heads are done side
by side. Where they are few, the key blocks of one head are dealt out to several threads too, each
with a dq of its own, added up at the end.

Matrices are copied into rows padded to whole vectors, keys and values also transposed, in panels
as wide as the innermost product: that costs N d moves against N M d products, and any strides and
sizes will do. A mask is read as it was given, bytes or numbers, and broadcasts by strides of 0; a
tile in which it forbids everything is not visited.

Up to ``FEW`` queries beside a cache of many keys are another matter: to copy the keys would take
longer than to use them. So all scores of a query are made at once, from keys and values where they
are, and the heads of q that share a head of k and v are done together. Backward takes the tiles.

Dropout multiplies P by a mask m, 0 or 1 / (1 - p), before it meets v: ``y = (P m) v``. So dv comes
from P m, and ``dP = (dy vᵀ) m``, while l and delta stay what they are. An element of m hangs on the
seed and its place alone (:mod:`scratchlm.ops.splitmix`): backward draws it again.

Source: Dao 2023, Algorithms 1 and 2; Milakov & Gimelshein 2018 (online softmax).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from scratchlm.ops import splitmix

from .compiling import Types, helper, kernel
from .scratch import scratch
from .simd import (
    ROWS,
    VECTORS,
    dot_products,
    exp,
    lanes,
    matmul_add,
    panel,
    round_up,
    row_max,
)
from .threads import share
from .waiting import take

QUERIES = 64  # rows of a tile
KEYS = 128  # columns of a tile
FEW = 4  # queries, up to which keys and values are read where they are
MIN_ITEMS = 8  # pieces of work in backward, so that a few threads find some each
ADDED, ALLOWED = 1, 2  # kinds of mask; 0 is none

GAMMA, MIX1, MIX2 = (np.uint64(x) for x in (splitmix.GAMMA, splitmix.MIX1, splitmix.MIX2))
_ZERO, _30, _27, _31 = (np.uint64(x) for x in (0, 30, 27, 31))


@helper
def _transpose(source, target, start, d, wide):
    """``target[start + p * d * wide + i * wide + j] = source[p * wide + j, i]``, zero beyond."""
    rows = source.shape[0]
    for p in range(-(-rows // wide)):
        at = start + p * d * wide
        here = min(wide, rows - p * wide)
        for i in range(d):
            line = target[at + i * wide : at + (i + 1) * wide]
            for j in range(here):
                line[j] = source[p * wide + j, i]
            for j in range(here, wide):
                line[j] = 0


@helper
def _copy(source, target, start, padded_rows, stride, factor):
    """Rows of ``source`` times ``factor``, ``stride`` apart in ``target``, zero beyond."""
    rows, d = source.shape
    zero = factor * 0
    for i in range(padded_rows):
        line = target[start + i * stride : start + (i + 1) * stride]
        if i < rows:
            row = source[i]
            for j in range(d):
                line[j] = row[j] * factor
            for j in range(d, stride):
                line[j] = zero
        else:
            for j in range(stride):
                line[j] = zero


@helper
def _sees(kind, added, allowed, at, down, across, rows, keys):
    """Whether the mask allows anything in a tile; see :func:`_hide`."""
    nothing = added.dtype.type(-np.inf)
    for i in range(rows if down else 1):
        here = at + i * down
        end = here + (keys if across else 1)
        found = 0
        if kind == ADDED:
            for x in added[here:end]:
                found |= x != nothing
        else:
            for x in allowed[here:end]:
                found |= x
        if found:
            return True
    return False


@helper
def _hide(s, kind, added, allowed, at, down, across, rows, padded, keys, columns, seen, causal):
    """Add the mask to the tile ``s``, and put -inf where there is no key, or none to be seen.

    The mask of the tile's first element is at ``at``, that of the next query ``down`` further on,
    and that of the next key ``across``, 1 or 0. Causal, the first query sees ``seen`` keys.
    """
    nothing = s.dtype.type(-np.inf)
    for i in range(padded):
        line = s[i]
        end = keys
        if causal:
            end = max(0, min(keys, seen + i))
        here = at + min(i, rows - 1) * down
        if kind == ADDED and across:
            row = added[here : here + end]
            for j in range(row.size):
                line[j] += row[j]
        elif kind == ADDED:
            x = added[here]
            for j in range(end):
                line[j] += x
        elif kind == ALLOWED and across:
            row_allowed = allowed[here : here + end]
            for j in range(row_allowed.size):
                line[j] = line[j] if row_allowed[j] else nothing
        elif kind == ALLOWED and not allowed[here]:
            end = 0
        for j in range(end, columns):
            line[j] = nothing


@helper
def _draw(keep, seed, first, columns, limit, factor):
    """Numbers ``first``, ``first + 1`` ... of the seed, for a row: 0 below ``limit``, or factor."""
    zero = factor * 0
    count = seed + np.uint64(first + 1) * GAMMA
    for j in range(columns):
        z = count + np.uint64(j) * GAMMA
        z = (z ^ (z >> _30)) * MIX1
        z = (z ^ (z >> _27)) * MIX2
        z ^= z >> _31
        keep[j] = zero if z < limit else factor


@kernel(lambda t: (t.counter, t.integer, t.given(4), t.given(4), t.own(1), t.own(1),
                   t.integer, t.integer, t.integer))  # fmt: skip
def pack_forward(counter, pieces, k, v, kt, vp, keys, stride_v, step):
    """Each piece: the keys of one head in transposed panels, its values padded."""
    d = k.shape[3]
    heads = k.shape[1]
    one = vp.dtype.type(1)
    while True:
        head = take(counter)
        if head >= pieces:
            break
        b, h = head // heads, head % heads
        _transpose(k[b, h], kt, head * keys * d, d, step)
        _copy(v[b, h], vp, head * keys * stride_v, keys, stride_v, one)


def _mask(t: Types) -> tuple[Any, ...]:
    return (t.integer, t.dense(1), t.bytes, *(t.integer,) * 4)


def _mask_and_dropout(t: Types) -> tuple[Any, ...]:
    return (*_mask(t), t.flag, t.bits, t.bits, t.real)


@kernel(lambda t: (t.counter, t.integer, t.given(4), t.own(1), t.own(1), *_mask_and_dropout(t),
                   t.own(4), t.own(3), t.own(3), t.integer, t.integer, t.integer, t.integer,
                   t.integer, t.real, t.flag))  # fmt: skip
def forward(counter, pieces, q, kt, vp, kind, added, allowed, batch_step, head_step, down, across,
            drops, seed, limit, kept, y, top, inverse,
            n_keys, keys, stride_v, wide, kv_heads, scale, causal):  # fmt: skip
    """Each piece: QUERIES rows of one head."""
    _, heads, n, d = q.shape
    e = y.shape[3]
    group = heads // kv_heads
    blocks = -(-n // QUERIES)
    shift = n_keys - n  # the last query sees the last key
    step = wide * VECTORS
    qs = np.empty(QUERIES * d, y.dtype)
    s = np.empty((QUERIES, KEYS), y.dtype)
    flat_s = s.reshape(QUERIES * KEYS)
    acc = np.empty((QUERIES, stride_v), y.dtype)
    flat_acc = acc.reshape(QUERIES * stride_v)
    m = np.empty(QUERIES, y.dtype)
    l = np.empty(QUERIES, y.dtype)
    keep = np.empty(KEYS, y.dtype)
    nothing = y.dtype.type(-np.inf)
    zero, one = y.dtype.type(0), y.dtype.type(1)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        head = piece // blocks
        b, h = head // heads, head % heads
        kv = b * kv_heads + h // group
        q0 = (blocks - 1 - piece % blocks) * QUERIES  # the longest first
        rows = min(QUERIES, n - q0)
        padded = -(-rows // ROWS) * ROWS
        _copy(q[b, h, q0 : q0 + rows], qs, 0, padded, d, scale)
        for i in range(padded):
            m[i] = nothing
            l[i] = zero
            line = acc[i]
            for j in range(stride_v):
                line[j] = zero
        end = n_keys
        if causal:
            end = max(0, min(n_keys, q0 + rows + shift))
        for k0 in range(0, end, KEYS):
            here = min(KEYS, end - k0)
            at = b * batch_step + h * head_step + q0 * down + k0 * across
            if kind and not _sees(kind, added, allowed, at, down, across, rows, here):
                continue
            columns = -(-here // step) * step
            matmul_add(qs, 0, d, 1, kt, kv * keys * d + k0 * d, step, step * d,
                       flat_s, 0, KEYS, padded, columns, d, wide, False)  # fmt: skip
            if kind or causal or here < columns:
                _hide(s, kind, added, allowed, at, down, across, rows, padded, here, columns,
                      q0 + shift + 1 - k0, causal)  # fmt: skip
            for i in range(padded):
                line = s[i, :columns]
                high = max(m[i], row_max(line))
                base = high if high != nothing else zero  # nothing to be seen so far
                total = zero
                for j in range(columns):
                    p = exp(line[j] - base)
                    line[j] = p
                    total += p
                if drops:
                    first = (head * n + q0 + i) * n_keys + k0
                    _draw(keep, seed, first, columns, limit, kept)
                    for j in range(columns):
                        line[j] *= keep[j]
                if m[i] != high:
                    shrink = exp(m[i] - base)
                    l[i] *= shrink
                    row = acc[i]
                    for j in range(stride_v):
                        row[j] *= shrink
                    m[i] = high
                l[i] += total
            matmul_add(flat_s, 0, KEYS, 1, vp, (kv * keys + k0) * stride_v, stride_v, step,
                       flat_acc, 0, stride_v, padded, stride_v, here, wide, True)  # fmt: skip
        for i in range(rows):
            part = one / l[i] if l[i] != zero else zero
            row = acc[i]
            out = y[b, h, q0 + i]
            for j in range(e):
                out[j] = row[j] * part
            top[b, h, q0 + i] = m[i] if m[i] != nothing else zero
            inverse[b, h, q0 + i] = part


@kernel(lambda t: (t.counter, t.integer, *(t.given(4),) * 3, *_mask(t), t.own(4), t.integer,
                   t.real, t.flag))  # fmt: skip
def few(counter, pieces, q, k, v, kind, added, allowed, batch_step, head_step, down, across, y,
        wide, scale, causal):  # fmt: skip
    """Each piece: one head of k and v, where they are, and all queries of the heads that share it.

    The last axes of k and v must be contiguous, that of v whole vectors.
    """
    n, d = q.shape[2:]
    _, kv_heads, n_keys, e = v.shape
    group = q.shape[1] // kv_heads
    size = y.itemsize
    padded = -(-group * n // ROWS) * ROWS
    qs = np.empty(padded * d, y.dtype)
    s = np.zeros((padded, n_keys), y.dtype)
    acc = np.empty((padded, e), y.dtype)
    flat_s, flat_acc = s.reshape(padded * n_keys), acc.reshape(padded * e)
    nothing = y.dtype.type(-np.inf)
    zero, one = y.dtype.type(0), y.dtype.type(1)
    k_row, v_row = k.strides[2] // size, v.strides[2] // size
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        b, h = piece // kv_heads, piece % kv_heads
        for own in range(group):
            _copy(q[b, h * group + own], qs, own * n * d, n, d, scale)
        k_at = (b * k.strides[0] + h * k.strides[1]) // size
        v_at = (b * v.strides[0] + h * v.strides[1]) // size
        dot_products(qs, 0, d, k, k_at, k_row, flat_s, 0, n_keys, group * n, n_keys, d)
        if kind or (causal and n > 1):
            for own in range(group):
                at = b * batch_step + (h * group + own) * head_step
                _hide(s[own * n : (own + 1) * n], kind, added, allowed, at, down, across, n, n,
                      n_keys, n_keys, n_keys - n + 1, causal)  # fmt: skip
        for i in range(group * n):
            line = s[i]
            high = row_max(line)
            base = high if high != nothing else zero
            total = zero
            for j in range(n_keys):
                p = exp(line[j] - base)
                line[j] = p
                total += p
            part = one / total if total != zero else zero
            for j in range(n_keys):
                line[j] *= part
        matmul_add(flat_s, 0, n_keys, 1, v, v_at, v_row, wide * VECTORS, flat_acc, 0, e, padded, e,
                   n_keys, wide, False)  # fmt: skip
        for own in range(group):
            for i in range(n):
                row, out = acc[own * n + i], y[b, h * group + own, i]
                for j in range(e):
                    out[j] = row[j]


@kernel(lambda t: (t.counter, t.integer, *(t.given(4),) * 5, *(t.own(1),) * 6,
                   *(t.integer,) * 5, t.real))  # fmt: skip
def pack_backward(counter, pieces, q, k, v, y, dy, qp, kp, kt, vt, dyp, delta,
                  queries, keys, stride_d, stride_v, step, scale):  # fmt: skip
    """Each piece: one head of k and v, and the heads of q that share it."""
    n, d = q.shape[2:]
    e = v.shape[3]
    heads = k.shape[1]
    group = q.shape[1] // heads
    one = qp.dtype.type(1)
    while True:
        head = take(counter)
        if head >= pieces:
            break
        b, h = head // heads, head % heads
        _copy(k[b, h], kp, head * keys * stride_d, keys, stride_d, one)
        _transpose(k[b, h], kt, head * keys * d, d, step)
        _transpose(v[b, h], vt, head * keys * e, e, step)
        for own in range(group):
            shared = h * group + own
            at = (head * group + own) * queries
            _copy(q[b, shared], qp, at * stride_d, queries, stride_d, scale)
            _copy(dy[b, shared], dyp, at * stride_v, queries, stride_v, one)
            for i in range(n):
                total = one * 0
                left, right = dy[b, shared, i], y[b, shared, i]
                for j in range(e):
                    total += left[j] * right[j]
                delta[at + i] = total


@kernel(lambda t: (t.counter, t.integer, *(t.own(1),) * 6, *_mask_and_dropout(t),
                   *(t.own(3),) * 2, t.own(1), *(t.own(4),) * 3, *(t.integer,) * 7, t.real,
                   t.flag))  # fmt: skip
def backward(counter, pieces, qp, kp, kt, vt, dyp, delta, kind, added, allowed, batch_step,
             head_step, down, across, drops, seed, limit, kept, top, inverse, dqp, dq, dk, dv,
             n, queries, keys, stride_d, stride_v, wide, parts, scale, causal):  # fmt: skip
    """Each piece: every ``parts``-th block of keys of one head of k and v, with all queries."""
    _, kv_heads, n_keys, d = dk.shape
    e = dv.shape[3]
    group = dq.shape[1] // kv_heads
    shift = n_keys - n
    step = wide * VECTORS
    real = qp.dtype
    s = np.empty((QUERIES, KEYS), real)
    ds = np.empty((QUERIES, KEYS), real)
    dk_block = np.empty((KEYS, stride_d), real)
    dv_block = np.empty((KEYS, stride_v), real)
    flat_s, flat_ds = s.reshape(QUERIES * KEYS), ds.reshape(QUERIES * KEYS)
    keep = np.empty(KEYS, real)
    flat_dk, flat_dv = dk_block.reshape(KEYS * stride_d), dv_block.reshape(KEYS * stride_v)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        head, part = piece // parts, piece % parts
        b, h = head // kv_heads, head % kv_heads
        dq_at = (part * (pieces // parts) + head) * group * queries * stride_d
        dqp[dq_at : dq_at + group * queries * stride_d] = 0
        for k0 in range(part * KEYS, n_keys, parts * KEYS):
            block = min(KEYS, n_keys - k0)
            dk_block[:] = 0
            dv_block[:] = 0
            first = max(0, k0 - shift) // QUERIES * QUERIES if causal else 0
            for own in range(group):
                q_head = h * group + own
                at = (head * group + own) * queries
                for q0 in range(first, n, QUERIES):
                    rows = min(QUERIES, n - q0)
                    padded = -(-rows // ROWS) * ROWS
                    here = block
                    if causal:
                        here = min(block, q0 + rows + shift - k0)
                    if here <= 0:
                        continue
                    mask_at = b * batch_step + q_head * head_step + q0 * down + k0 * across
                    if kind and not _sees(kind, added, allowed, mask_at, down, across, rows, here):
                        continue
                    columns = -(-here // step) * step
                    # S = scale q kᵀ + mask  and  dP = dy vᵀ
                    matmul_add(qp, (at + q0) * stride_d, stride_d, 1,
                               kt, (head * keys + k0) * d, step, step * d,
                               flat_s, 0, KEYS, padded, columns, d, wide, False)  # fmt: skip
                    matmul_add(dyp, (at + q0) * stride_v, stride_v, 1,
                               vt, (head * keys + k0) * e, step, step * e,
                               flat_ds, 0, KEYS, padded, columns, e, wide, False)  # fmt: skip
                    if kind or causal or here < columns:
                        _hide(s, kind, added, allowed, mask_at, down, across, rows, padded, here,
                              columns, q0 + shift + 1 - k0, causal)  # fmt: skip
                    # P = exp(S - m) / l,  dS = P (dP - delta); with dropout P m and dP m
                    for i in range(rows):
                        m, inv = top[b, q_head, q0 + i], inverse[b, q_head, q0 + i]
                        row_delta = delta[at + q0 + i]
                        line, dline = s[i, :columns], ds[i, :columns]
                        if drops:
                            number = ((b * dq.shape[1] + q_head) * n + q0 + i) * n_keys + k0
                            _draw(keep, seed, number, columns, limit, kept)
                            for j in range(columns):
                                p = exp(line[j] - m) * inv
                                line[j] = p * keep[j]
                                dline[j] = p * (dline[j] * keep[j] - row_delta)
                        else:
                            for j in range(columns):
                                p = exp(line[j] - m) * inv
                                line[j] = p
                                dline[j] = p * (dline[j] - row_delta)
                    # dv += Pᵀ dy,  dk += dSᵀ (scale q),  dq += dS k
                    matmul_add(flat_s, 0, 1, KEYS, dyp, (at + q0) * stride_v, stride_v, step,
                               flat_dv, 0, stride_v, here, stride_v, rows, wide, True)  # fmt: skip
                    matmul_add(flat_ds, 0, 1, KEYS, qp, (at + q0) * stride_d, stride_d, step,
                               flat_dk, 0, stride_d, here, stride_d, rows, wide, True)  # fmt: skip
                    matmul_add(flat_ds, 0, KEYS, 1, kp, (head * keys + k0) * stride_d, stride_d,
                               step, dqp, dq_at + (own * queries + q0) * stride_d, stride_d,
                               padded, stride_d, here, wide, True)  # fmt: skip
            for j in range(block):
                row, out = dk_block[j], dk[b, h, k0 + j]
                for i in range(d):
                    out[i] = row[i]
                row_v, out_v = dv_block[j], dv[b, h, k0 + j]
                for i in range(e):
                    out_v[i] = row_v[i]
        if parts == 1:
            for own in range(group):
                for i in range(n):
                    at = dq_at + (own * queries + i) * stride_d
                    row, out = dqp[at : at + d], dq[b, h * group + own, i]
                    for j in range(d):
                        out[j] = row[j] * scale


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    bias: None = None,
    *,
    mask: np.ndarray | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    rng: Any = None,
    return_weights: bool = False,
    tiled: bool = False,
) -> tuple[np.ndarray, Any]:
    """``softmax(scale * q kᵀ + mask) v``; shapes and meaning as in :mod:`scratchlm.ops.attention`.

    Float32 or float64, last axes up to 256 long; no bias, whose gradient would be N x M, and no
    weights to return. ``tiled`` makes few queries go the way of many, which is that of backward.
    """
    dtype = q.dtype
    n, d = q.shape[-2:]
    n_keys, e = v.shape[-2:]
    q4, k4, v4 = (_four_axes(x) for x in (q, k, v))
    batch, heads = q4.shape[:2]
    kv_heads = k4.shape[1]
    factor = dtype.type(1 / math.sqrt(d) if scale is None else scale)
    flat_mask = _flat_mask(mask, dtype, (*q.shape[:-1], n_keys))
    if not tiled and n <= FEW and not dropout_p and can_stay(k) and can_stay(v):
        y = np.empty((batch, heads, n, e), dtype)
        share(
            few[dtype], batch * kv_heads, q4, k4, v4, *flat_mask, y, lanes(dtype), factor, causal,
            small=batch * heads * n * n_keys * (d + e) < SMALL,
        )  # fmt: skip

        def vjp_of_few(dy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            return attention(q, k, v, mask=mask, causal=causal, scale=scale, tiled=True)[1](dy)

        return y.reshape(*q.shape[:-1], e), vjp_of_few
    options = (*flat_mask, *_dropout(dropout_p, rng, dtype))

    wide, step = lanes(dtype), panel(dtype)
    keys, stride_d, stride_v = round_up(n_keys, step), round_up(d, wide), round_up(e, wide)
    y = np.empty((batch, heads, n, e), dtype)
    top = np.empty((batch, heads, n), dtype)  # m of each row
    inverse = np.empty((batch, heads, n), dtype)  # 1 / l
    small = batch * heads * n * n_keys * (d + e) < SMALL
    kv = batch * kv_heads
    kt = scratch("kt", kv * keys * d, dtype)
    vp = scratch("vp", kv * keys * stride_v, dtype)
    share(pack_forward[dtype], kv, k4, v4, kt, vp, keys, stride_v, step, small=small)
    blocks = -(-n // QUERIES)
    share(
        forward[dtype], batch * heads * blocks, q4, kt, vp, *options, y, top, inverse,
        n_keys, keys, stride_v, wide, kv_heads, factor, causal, small=small,
    )  # fmt: skip

    def vjp(dy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        dy4 = _four_axes(dy)
        parts = min(-(-MIN_ITEMS // kv), -(-n_keys // KEYS))
        queries = round_up(n, ROWS)
        sizes = {
            "qp": batch * heads * queries * stride_d,
            "kp": kv * keys * stride_d,
            "kt": kv * keys * d,
            "vt": kv * keys * e,
            "dyp": batch * heads * queries * stride_v,
            "delta": batch * heads * queries,
        }
        packed = [scratch(name, size, dtype) for name, size in sizes.items()]
        dqp = scratch("dqp", parts * sizes["qp"], dtype)
        dq, dk, dv = (np.empty(x.shape, dtype) for x in (q4, k4, v4))
        share(
            pack_backward[dtype], kv, q4, k4, v4, y, dy4, *packed,
            queries, keys, stride_d, stride_v, step, factor, small=small,
        )  # fmt: skip
        share(
            backward[dtype], kv * parts, *packed, *options, top, inverse, dqp, dq, dk, dv,
            n, queries, keys, stride_d, stride_v, wide, parts, factor, causal, small=small,
        )  # fmt: skip
        if parts > 1:
            total = dqp[: parts * sizes["qp"]].reshape(parts, batch, heads, queries, stride_d)
            np.multiply(total.sum(axis=0)[:, :, :n, :d], factor, out=dq)
        return dq.reshape(q.shape), dk.reshape(k.shape), dv.reshape(v.shape)

    return y.reshape(*q.shape[:-1], e), vjp


SMALL = 1_000_000  # products; below, one thread does it all


def can_stay(x: np.ndarray) -> bool:
    """Whether few queries can read keys or values ``x`` where they are: as rows of whole vectors,
    whatever lies between the rows.
    """
    return x.strides[-1] == x.itemsize and x.shape[-1] % lanes(x.dtype) == 0


def _dropout(p: float, rng: Any, dtype: np.dtype[Any]) -> tuple[bool, Any, Any, Any]:
    """Whether anything is dropped, the seed, the limit and the factor of what is kept."""
    if not p:
        return False, _ZERO, _ZERO, dtype.type(1)
    seed, limit = splitmix.draw_seed(rng), splitmix.limit(p)
    return True, np.uint64(seed), np.uint64(limit), dtype.type(1 / (1 - p))


def _four_axes(x: np.ndarray) -> np.ndarray:
    """``[B, H, N, ·]``: leading axes made one, or missing ones added."""
    if x.ndim == 4:
        return x
    if x.ndim < 4:
        return x.reshape((1,) * (4 - x.ndim) + x.shape)
    return x.reshape(-1, *x.shape[-3:])


def _flat_mask(
    mask: np.ndarray | None, dtype: np.dtype[Any], scores: tuple[int, ...]
) -> tuple[int, np.ndarray, np.ndarray, int, int, int, int]:
    """What the kernels want to know of a mask that broadcasts to ``scores``, ``[..., H, N, M]``.

    Its kind, its values one after the other as numbers or as bytes, and how far it is in them to
    the next batch, head, query and key: 0 along an axis that broadcasts. Only what is not
    contiguous is copied.
    """
    numbers, octets = _nothing(dtype)
    if mask is None:
        return 0, numbers, octets, 0, 0, 0, 0
    scores = (1,) * (4 - len(scores)) + scores
    mask = mask.reshape((1,) * (len(scores) - mask.ndim) + mask.shape)
    if len(scores) > 4 and math.prod(mask.shape[:-3]) > 1:
        mask = np.broadcast_to(mask, (*scores[:-3], *mask.shape[-3:]))
    kind = ALLOWED if mask.dtype == bool else ADDED
    if kind == ALLOWED:
        octets = np.ascontiguousarray(mask).view(np.uint8).reshape(-1)
    else:
        numbers = np.ascontiguousarray(mask, dtype).reshape(-1)
    steps, step = [], 1
    for side in (*mask.shape[:-4:-1], math.prod(mask.shape[:-3])):
        steps.append(step if side > 1 else 0)
        step *= side
    across, down, head_step, batch_step = steps
    return kind, numbers, octets, batch_step, head_step, down, across


@functools.cache
def _nothing(dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray]:
    """In the place of a mask of the other kind."""
    return np.zeros(1, dtype), np.zeros(1, np.uint8)
