"""Exercise 16: one step of long short-term memory, and the sequence, forward and back."""

import numpy as np


def sigmoid(z):
    """Given: 1 / (1 + exp(-z)), without overflow (lesson 02)."""
    return 0.5 * (1 + np.tanh(0.5 * z))


def lstm_cell(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """One step: the new state h' and the new cell c'.

    z = x W_ihᵀ + b_ih + h W_hhᵀ + b_hh has four parts of H columns each, in this order:
    i = σ(z_i), f = σ(z_f), g = tanh(z_g), o = σ(z_o). Then

        c' = f c + i g
        h' = o tanh(c')

    x:         [B, I], what is read now, for each of B sequences
    h, c:      [B, H], the state and the cell before
    weight_ih: [4H, I]    bias_ih: [4H]
    weight_hh: [4H, H]    bias_hh: [4H]

    Returns ((h', c'), vjp): both [B, H];
    vjp(dh', dc') -> (dx, dh, dc, dweight_ih, dweight_hh, dbias_ih, dbias_hh), shaped as the seven
    inputs. float32 in, float32 out.
    """
    raise NotImplementedError


def lstm(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """The step at each time t, with one set of weights: h_t, c_t from x_t, h_(t-1), c_(t-1).

    x:    [T, B, I], the sequences, T of 1 or more
    h, c: [B, H], the state and the cell before the first time

    Returns ((y, c_T), vjp): y [T, B, H], the states h_1 ... h_T; c_T [B, H], the last cell;
    vjp(dy, dc_T) -> (dx, dh, dc, dweight_ih, dweight_hh, dbias_ih, dbias_hh), shaped as the seven
    inputs. You may call your lstm_cell.
    """
    raise NotImplementedError
