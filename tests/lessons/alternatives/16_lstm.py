"""Lesson 16, written otherwise."""

import numpy as np


def logistic(z):
    return np.where(z < 0, np.exp(np.minimum(z, 0)), 1) / (1 + np.exp(-np.abs(z)))


def lstm_cell__loops(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """Unit by unit."""
    (B, I), H = x.shape, h.shape[1]
    gates, new_h, new_c = np.empty((B, 4, H), x.dtype), np.empty_like(h), np.empty_like(c)
    for b in range(B):
        for k in range(H):
            for part in range(4):
                row = part * H + k
                z = bias_ih[row] + bias_hh[row]
                for i in range(I):
                    z += weight_ih[row, i] * x[b, i]
                for j in range(H):
                    z += weight_hh[row, j] * h[b, j]
                gates[b, part, k] = np.tanh(z) if part == 2 else logistic(z)
            i_, f_, g_, o_ = gates[b, :, k]
            new_c[b, k] = f_ * c[b, k] + i_ * g_
            new_h[b, k] = o_ * np.tanh(new_c[b, k])

    def vjp(dh_new, dc_new):
        dx, dh, dc, dwi, dwh, dbi, dbh = (
            np.zeros_like(a) for a in (x, h, c, weight_ih, weight_hh, bias_ih, bias_hh)
        )
        for b in range(B):
            for k in range(H):
                i_, f_, g_, o_ = gates[b, :, k]
                t = np.tanh(new_c[b, k])
                d = dc_new[b, k] + dh_new[b, k] * o_ * (1 - t * t)
                dc[b, k] = d * f_
                for part, dz in enumerate(
                    (
                        d * g_ * i_ * (1 - i_),
                        d * c[b, k] * f_ * (1 - f_),
                        d * i_ * (1 - g_) * (1 + g_),
                        dh_new[b, k] * t * o_ * (1 - o_),
                    )
                ):
                    row = part * H + k
                    dbi[row] += dz
                    dbh[row] += dz
                    for i in range(I):
                        dx[b, i] += dz * weight_ih[row, i]
                        dwi[row, i] += dz * x[b, i]
                    for j in range(H):
                        dh[b, j] += dz * weight_hh[row, j]
                        dwh[row, j] += dz * h[b, j]
        return dx, dh, dc, dwi, dwh, dbi, dbh

    return (new_h, new_c), vjp


def lstm_cell__einsum(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """An axis for the four parts; the slopes are computed going forward."""
    H = h.shape[1]
    W, U = weight_ih.reshape(4, H, -1), weight_hh.reshape(4, H, H)
    z = np.einsum("bi,phi->pbh", x, W) + np.einsum("bj,phj->pbh", h, U)
    z += (bias_ih + bias_hh).reshape(4, 1, H)
    gate = np.stack([logistic(z[0]), logistic(z[1]), np.tanh(z[2]), logistic(z[3])])
    slope = gate * (1 - gate)
    slope[2] = 1 - gate[2] ** 2
    new_c = gate[1] * c + gate[0] * gate[2]
    shown = np.tanh(new_c)
    by_new_c = np.stack([gate[2], c, gate[0], 0 * c])  # ∂c'/∂gate
    by_new_h = np.stack([0 * c, 0 * c, 0 * c, shown])  # ∂h'/∂gate, c' held

    def vjp(dh_new, dc_new):
        d = dc_new + dh_new * gate[3] * (1 - shown**2)
        dz = (d * by_new_c + dh_new * by_new_h) * slope
        dbias = dz.sum(axis=1).reshape(-1)
        return (
            np.einsum("pbh,phi->bi", dz, W),
            np.einsum("pbh,phj->bj", dz, U),
            d * gate[1],
            np.einsum("pbh,bi->phi", dz, x).reshape(weight_ih.shape),
            np.einsum("pbh,bj->phj", dz, h).reshape(weight_hh.shape),
            dbias,
            dbias.copy(),
        )

    return (gate[3] * shown, new_c), vjp


def lstm__products_at_the_end(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """All inputs projected at once; each weight's gradient is one product over all times."""
    T, B, _ = x.shape
    H = h.shape[1]
    a = x @ weight_ih.T + (bias_ih + bias_hh)
    hs, cs = [h], [c]
    i, f, g, o = (np.empty((T, B, H), x.dtype) for _ in range(4))
    for t in range(T):
        z = a[t] + hs[-1] @ weight_hh.T
        i[t], f[t] = logistic(z[:, :H]), logistic(z[:, H : 2 * H])
        g[t], o[t] = np.tanh(z[:, 2 * H : 3 * H]), logistic(z[:, 3 * H :])
        cs.append(cs[-1] * f[t] + g[t] * i[t])
        hs.append(np.tanh(cs[-1]) * o[t])
    shown = np.tanh(np.stack(cs[1:]))

    def vjp(dy, dlast):
        dz = np.empty((T, B, 4 * H), x.dtype)
        dh, dc = np.zeros_like(h), dlast.copy()
        for t in range(T - 1, -1, -1):
            dh = dh + dy[t]
            dc += dh * o[t] * (1 - shown[t] ** 2)
            dz[t, :, :H] = dc * g[t] * i[t] * (1 - i[t])
            dz[t, :, H : 2 * H] = dc * cs[t] * f[t] * (1 - f[t])
            dz[t, :, 2 * H : 3 * H] = dc * i[t] * (1 - g[t] ** 2)
            dz[t, :, 3 * H :] = dh * shown[t] * o[t] * (1 - o[t])
            dc, dh = dc * f[t], dz[t] @ weight_hh
        rows = dz.reshape(T * B, 4 * H)
        dbias = rows.sum(axis=0)
        return (
            dz @ weight_ih,
            dh,
            dc,
            rows.T @ x.reshape(T * B, -1),
            rows.T @ np.stack(hs[:-1]).reshape(T * B, H),
            dbias,
            dbias.copy(),
        )

    return (np.stack(hs[1:]), cs[-1]), vjp


def lstm__recursion(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """The first step, and then the rest of the sequence, which calls this again."""
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    if not len(x):
        zeros = [np.zeros_like(w) for w in weights]
        nothing = np.zeros((0, *h.shape), h.dtype)
        return (nothing, c), lambda dy, dc: (np.zeros_like(x), np.zeros_like(h), dc, *zeros)
    (first, cell), back = lstm_cell__einsum(x[0], h, c, *weights)
    (later, last), rest = lstm__recursion(x[1:], first, cell, *weights)

    def vjp(dy, dlast):
        dx, dfirst, dcell, *late = rest(dy[1:], dlast)
        dx_0, dh, dc, *early = back(dy[0] + dfirst, dcell)
        totals = (one + other for one, other in zip(early, late, strict=True))
        return np.concatenate([dx_0[None], dx]), dh, dc, *totals

    return (np.concatenate([first[None], later]), last), vjp
