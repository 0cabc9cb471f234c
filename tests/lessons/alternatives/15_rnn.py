"""Lesson 15, written otherwise."""

import numpy as np


def rnn_cell__loops(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """Unit by unit."""
    B, H, I = len(x), len(bias_ih), x.shape[1]
    new = np.empty((B, H), x.dtype)
    for b in range(B):
        for k in range(H):
            z = bias_ih[k] + bias_hh[k]
            for i in range(I):
                z += weight_ih[k, i] * x[b, i]
            for j in range(H):
                z += weight_hh[k, j] * h[b, j]
            new[b, k] = np.tanh(z)

    def vjp(dnew):
        dx, dh, dwi, dwh, dbi, dbh = (
            np.zeros_like(a) for a in (x, h, weight_ih, weight_hh, bias_ih, bias_hh)
        )
        for b in range(B):
            for k in range(H):
                dz = dnew[b, k] * (1 - new[b, k] ** 2)
                dbi[k] += dz
                dbh[k] += dz
                for i in range(I):
                    dx[b, i] += dz * weight_ih[k, i]
                    dwi[k, i] += dz * x[b, i]
                for j in range(H):
                    dh[b, j] += dz * weight_hh[k, j]
                    dwh[k, j] += dz * h[b, j]
        return dx, dh, dwi, dwh, dbi, dbh

    return new, vjp


def rnn_cell__one_matrix(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """Input, state and a 1 side by side, and one matrix; the slope as 1 / cosh²."""
    ones = np.ones((len(x), 1), x.dtype)
    seen = np.concatenate([x, h, ones], axis=1)
    weight = np.concatenate([weight_ih, weight_hh, (bias_ih + bias_hh)[:, None]], axis=1)
    z = np.einsum("bi,hi->bh", seen, weight)

    def vjp(dnew):
        dz = dnew / np.cosh(np.clip(z, -40, 40)) ** 2
        dseen, dweight = np.einsum("bh,hi->bi", dz, weight), np.einsum("bh,bi->hi", dz, seen)
        n = x.shape[1]
        bias = dweight[:, -1]
        return dseen[:, :n], dseen[:, n:-1], dweight[:, :n], dweight[:, n:-1], bias, bias.copy()

    return np.tanh(z), vjp


def rnn__products_at_the_end(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """All inputs projected at once; each weight's gradient is one product over all times."""
    T, B, _ = x.shape
    a = x @ weight_ih.T + (bias_ih + bias_hh)
    y = np.empty((T, B, h.shape[1]), x.dtype)
    state = h
    for t in range(T):
        state = y[t] = np.tanh(a[t] + state @ weight_hh.T)

    def vjp(dy):
        dz = np.empty_like(y)
        dh = np.zeros_like(h)
        for t in range(T - 1, -1, -1):
            dz[t] = (dy[t] + dh) * (1 - y[t] * y[t])
            dh = dz[t] @ weight_hh
        before = np.concatenate([h[None], y[:-1]])
        dweight_ih, dweight_hh = (
            np.einsum("tbh,tbi->hi", dz, x),
            np.einsum("tbh,tbk->hk", dz, before),
        )
        dbias = dz.sum(axis=(0, 1))
        return dz @ weight_ih, dh, dweight_ih, dweight_hh, dbias, dbias.copy()

    return y, vjp


def rnn__recursion(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """The first step, and then the rest of the sequence, which calls this again."""
    if not len(x):
        zeros = [np.zeros_like(w) for w in (weight_ih, weight_hh, bias_ih, bias_hh)]
        none = np.zeros((0, *h.shape), h.dtype)
        return none, lambda dy: (np.zeros_like(x), np.zeros_like(h), *zeros)
    first = np.tanh(x[0] @ weight_ih.T + h @ weight_hh.T + bias_ih + bias_hh)
    later, back = rnn__recursion(x[1:], first, weight_ih, weight_hh, bias_ih, bias_hh)

    def vjp(dy):
        dx, dfirst, dwi, dwh, dbi, dbh = back(dy[1:])
        dz = (dy[0] + dfirst) * (1 - first) * (1 + first)
        dx = np.concatenate([(dz @ weight_ih)[None], dx])
        db = dz.sum(axis=0)
        return dx, dz @ weight_hh, dwi + dz.T @ x[0], dwh + dz.T @ h, dbi + db, dbh + db

    return np.concatenate([first[None], later]), vjp
