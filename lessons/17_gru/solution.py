"""Solution 17: one step of a gated recurrent unit."""

import numpy as np


def sigmoid(s):
    """σ(s) = 1 / (1 + exp(-s)), without the exponential that overflows (lesson 02)."""
    return 0.5 * (1 + np.tanh(0.5 * s))


def gru_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh, *, reset_after=True):
    """h' = (1 - z) * n + z * h, from the gates r, z and the candidate n.  x [B, I], h [B, H].

    Returns (h', vjp): h' [B, H]; vjp(dh') -> (dx, dh, dweight_ih, dweight_hh, dbias_ih, dbias_hh).
    """
    a = x @ weight_ih.T + bias_ih  # [B, I] [I, 3H] -> [B, 3H]
    a_r, a_z, a_n = np.split(a, 3, axis=1)  # [B, H] each
    W_r, W_z, W_n = np.split(weight_hh, 3)  # [H, H] each
    b_r, b_z, b_n = np.split(bias_hh, 3)  # [H] each

    r = sigmoid(a_r + h @ W_r.T + b_r)  # [B, H]
    z = sigmoid(a_z + h @ W_z.T + b_z)  # [B, H]
    q = h if reset_after else r * h  # [B, H], what of the past meets W_n
    m = q @ W_n.T + b_n  # [B, H]
    n = np.tanh(a_n + r * m) if reset_after else np.tanh(a_n + m)  # [B, H]
    new_h = (1 - z) * n + z * h  # [B, H]

    def vjp(dnew_h):
        # h' = (1 - z) n + z h: three factors
        dn = dnew_h * (1 - z)
        dz = dnew_h * (h - n)
        dh = dnew_h * z  # straight back, past everything
        # n = tanh(a_n + r m), or tanh(a_n + m)
        da_n = dn * (1 - n**2)
        dm = da_n * r if reset_after else da_n
        # m = q W_nᵀ + b_n
        dq = dm @ W_n  # [B, H] [H, H] -> [B, H]
        # q = h, and r stood before m; or q = r h
        dr = da_n * m if reset_after else dq * h
        dh = dh + (dq if reset_after else dq * r)
        # r = σ(a_r + h W_rᵀ + b_r), z alike: the slope of σ, from the output
        da_r = dr * r * (1 - r)
        da_z = dz * z * (1 - z)
        dh = dh + da_r @ W_r + da_z @ W_z
        # a = x W_ihᵀ + b_ih: a linear layer
        da = np.concatenate([da_r, da_z, da_n], axis=1)  # [B, 3H]
        dweight_ih = da.T @ x  # [3H, B] [B, I] -> [3H, I]
        # the other linear layer: its third part has met q, and its product is m
        dweight_hh = np.concatenate([da_r.T @ h, da_z.T @ h, dm.T @ q])  # [3H, H]
        dbias_hh = np.concatenate([da_r, da_z, dm], axis=1).sum(axis=0)  # [3H]
        return da @ weight_ih, dh, dweight_ih, dweight_hh, da.sum(axis=0), dbias_hh

    return new_h, vjp
