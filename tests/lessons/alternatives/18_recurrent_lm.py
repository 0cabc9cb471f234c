"""Lesson 18, written otherwise."""

import numpy as np


def lm_window__one_hot_products(h, table, weight_ih, weight_hh, bias, *, ids, targets):
    """All inputs projected at once, all logits at once; one product for each gradient."""
    B, T = ids.shape
    read = np.eye(len(table), dtype=table.dtype)[ids.T]  # [T, B, V]
    wanted = np.eye(len(table), dtype=table.dtype)[targets.T]
    x = read @ table
    a = np.einsum("tbc,dc->tbd", x, weight_ih) + bias
    y = np.empty((T + 1, *h.shape), a.dtype)
    y[0] = h
    for t in range(T):
        y[t + 1] = np.tanh(a[t] + np.einsum("bc,dc->bd", y[t], weight_hh))
    logits = np.einsum("tbc,vc->tbv", y[1:], table)
    top = logits.max(-1, keepdims=True)
    total = np.exp(logits - top).sum(-1, keepdims=True)
    loss = (top + np.log(total) - (logits * wanted).sum(-1, keepdims=True)).mean()

    def vjp(dloss, dlast):
        dlogits = (np.exp(logits - top) / total - wanted) * (dloss / (B * T))
        direct = dlogits @ table
        dz = np.empty_like(a)
        dh = dlast
        for t in range(T - 1, -1, -1):
            dz[t] = (direct[t] + dh) * (1 + y[t + 1]) * (1 - y[t + 1])
            dh = dz[t] @ weight_hh
        dx = dz @ weight_ih
        dtable = np.einsum("tbv,tbc->vc", dlogits, y[1:]) + np.einsum("tbv,tbc->vc", read, dx)
        return (
            dh,
            dtable,
            np.einsum("tbd,tbc->dc", dz, x),
            np.einsum("tbd,tbc->dc", dz, y[:-1]),
            dz.sum((0, 1)),
        )

    return (loss.astype(table.dtype), y[T].copy()), vjp


def lm_window__row_by_row(h, table, weight_ih, weight_hh, bias, *, ids, targets):
    """One sequence after the other, with vectors, and a list of what backward needs."""
    B, T = ids.shape
    loss, last, kept = 0.0, np.zeros_like(h), []
    for b in range(B):
        state = h[b]
        for t in range(T):
            word, before = ids[b, t], state
            state = np.tanh(weight_ih @ table[word] + weight_hh @ before + bias)
            scores = table @ state
            p = np.exp(scores - np.logaddexp.reduce(scores))
            loss += np.logaddexp.reduce(scores) - scores[targets[b, t]]
            kept.append((b, t, word, before, state, p))
        last[b] = state
    loss = table.dtype.type(loss / (B * T))

    def vjp(dloss, dlast):
        dh = dlast.copy()
        dtable, dwi, dwh, db = (np.zeros_like(a) for a in (table, weight_ih, weight_hh, bias))
        for b, t, word, before, state, p in reversed(kept):
            dscores = p * (dloss / (B * T))
            dscores[targets[b, t]] -= dloss / (B * T)
            dtable += np.outer(dscores, state)
            dz = (table.T @ dscores + dh[b]) * (1 - state * state)
            dwi += np.outer(dz, table[word])
            dwh += np.outer(dz, before)
            db += dz
            dtable[word] += weight_ih.T @ dz
            dh[b] = weight_hh.T @ dz
        return dh, dtable, dwi, dwh, db

    return (loss, last), vjp
