"""Lesson 17, written otherwise."""

import math

import numpy as np


def gru_cell__loops(x, h, weight_ih, weight_hh, bias_ih, bias_hh, *, reset_after=True):
    """Sequence by sequence and unit by unit; the third product waits for all gates."""
    B, H = h.shape
    shape = (B, H)
    r, z, n, m, new = (np.empty(shape, x.dtype) for _ in range(5))

    def logistic(s):
        return 1 / (1 + math.exp(-s)) if s > 0 else math.exp(max(s, -700)) / (1 + math.exp(s))

    def read(b, row):
        return bias_ih[row] + sum(weight_ih[row, i] * x[b, i] for i in range(x.shape[1]))

    def kept(b, row, state):
        return bias_hh[row] + sum(weight_hh[row, j] * state[j] for j in range(H))

    for b in range(B):
        for k in range(H):
            r[b, k] = logistic(read(b, k) + kept(b, k, h[b]))
            z[b, k] = logistic(read(b, H + k) + kept(b, H + k, h[b]))
        seen = h[b] if reset_after else h[b] * r[b]
        for k in range(H):
            m[b, k] = kept(b, 2 * H + k, seen)
            past = r[b, k] * m[b, k] if reset_after else m[b, k]
            n[b, k] = math.tanh(read(b, 2 * H + k) + past)
            new[b, k] = n[b, k] + z[b, k] * (h[b, k] - n[b, k])

    def vjp(dnew):
        inputs = (x, h, weight_ih, weight_hh, bias_ih, bias_hh)
        dx, dh, dwi, dwh, dbi, dbh = (np.zeros_like(array) for array in inputs)

        def into(b, row, ds, factor=1.0, state=None, dstate=None):
            """From a sum: to the input, and, times the factor, to the state that it met."""
            dbi[row] += ds
            for i in range(x.shape[1]):
                dx[b, i] += ds * weight_ih[row, i]
                dwi[row, i] += ds * x[b, i]
            dbh[row] += ds * factor
            for j in range(H):
                dstate[j] += ds * factor * weight_hh[row, j]
                dwh[row, j] += ds * factor * state[j]

        for b in range(B):
            dseen = np.zeros(H, x.dtype)
            ds = np.empty(H, x.dtype)
            for k in range(H):
                ds[k] = dnew[b, k] * (1 - z[b, k]) * (1 - n[b, k]) * (1 + n[b, k])
                seen = h[b] if reset_after else h[b] * r[b]
                into(b, 2 * H + k, ds[k], r[b, k] if reset_after else 1.0, seen, dseen)
            for k in range(H):
                dz = dnew[b, k] * (h[b, k] - n[b, k]) * z[b, k] * (1 - z[b, k])
                dr = (ds[k] * m[b, k] if reset_after else dseen[k] * h[b, k]) * r[b, k]
                into(b, H + k, dz, 1.0, h[b], dh[b])
                into(b, k, dr * (1 - r[b, k]), 1.0, h[b], dh[b])
                dh[b, k] += dnew[b, k] * z[b, k]
            dh[b] += dseen if reset_after else dseen * r[b]
        return dx, dh, dwi, dwh, dbi, dbh

    return new, vjp


def gru_cell__parts_on_an_axis(x, h, weight_ih, weight_hh, bias_ih, bias_hh, *, reset_after=True):
    """Weights as [3, H, ·] and einsum; each past is scaled by a gate before and one after."""
    H = h.shape[1]
    Wi, Wh = weight_ih.reshape(3, H, -1), weight_hh.reshape(3, H, H)
    one = np.ones_like(h)
    a = np.einsum("bi,phi->pbh", x, Wi) + bias_ih.reshape(3, 1, H)
    b = np.einsum("bj,phj->pbh", h, Wh[:2]) + bias_hh.reshape(3, 1, H)[:2]
    small = np.exp(-np.abs(a[:2] + b))
    gates = np.where(a[:2] + b > 0, 1 / (1 + small), small / (1 + small))
    r, z = gates
    inner, outer = (one, r) if reset_after else (r, one)
    m = np.einsum("bj,hj->bh", inner * h, Wh[2]) + bias_hh[2 * H :]
    n = np.tanh(a[2] + outer * m)

    def vjp(dnew):
        ds = np.empty_like(a)
        ds[2] = dnew * (1 - z) * (1 - n * n)
        past = np.einsum("bh,hj->bj", ds[2] * outer, Wh[2])
        ds[0] = ds[2] * m if reset_after else past * h
        ds[1] = dnew * (h - n)
        ds[:2] *= gates - gates**2
        dh = dnew * z + past * inner + np.einsum("pbh,phj->bj", ds[:2], Wh[:2])
        de = np.stack([ds[0], ds[1], ds[2] * outer])
        met = np.stack([h, h, inner * h])
        return (
            np.einsum("pbh,phi->bi", ds, Wi),
            dh,
            np.einsum("pbh,bi->phi", ds, x).reshape(weight_ih.shape),
            np.einsum("pbh,pbj->phj", de, met).reshape(weight_hh.shape),
            ds.sum(axis=1).reshape(-1),
            de.sum(axis=1).reshape(-1),
        )

    return z * h + n - z * n, vjp
