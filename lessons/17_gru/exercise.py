"""Exercise 17: one step of a gated recurrent unit."""

import numpy as np  # you will need it


def gru_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh, *, reset_after=True):
    """One step of a GRU. With a = x W_ihᵀ + b_ih, in three parts a_r, a_z, a_n (in this order):

        r = σ(a_r + h W_rᵀ + b_r)               the reset gate
        z = σ(a_z + h W_zᵀ + b_z)               the update gate
        n = tanh(a_n + r * (h W_nᵀ + b_n))      the candidate, if reset_after
        n = tanh(a_n + (r * h) W_nᵀ + b_n)      else
        h' = (1 - z) * n + z * h

    W_r, W_z, W_n are the three parts of weight_hh, and b_r, b_z, b_n those of bias_hh.

    x:         [B, I], what is read now, for each of B sequences
    h:         [B, H], the state before
    weight_ih: [3H, I]     bias_ih: [3H]
    weight_hh: [3H, H]     bias_hh: [3H]

    Returns (h', vjp): h' [B, H];
    vjp(dh') -> (dx, dh, dweight_ih, dweight_hh, dbias_ih, dbias_hh), shaped as the six inputs.
    No overflow for sums of thousands; float32 in, float32 out.
    """
    raise NotImplementedError
