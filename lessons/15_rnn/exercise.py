"""Exercise 15: one step of a recurrent network, and backpropagation through time."""

import numpy as np  # you will need it


def rnn_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """h' = tanh(x W_ihᵀ + b_ih + h W_hhᵀ + b_hh): one step.

    x:         [B, I], what is read now, for each of B sequences
    h:         [B, H], the state before
    weight_ih: [H, I]     bias_ih: [H]
    weight_hh: [H, H]     bias_hh: [H]

    Returns (h', vjp): h' [B, H];
    vjp(dh') -> (dx, dh, dweight_ih, dweight_hh, dbias_ih, dbias_hh), shaped as the six inputs.
    float32 in, float32 out.
    """
    raise NotImplementedError


def rnn(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """The step at each time t, with one set of weights: h_t from x_t and h_(t-1).

    x: [T, B, I], the sequences, T of 1 or more
    h: [B, H], the state before the first time

    Returns (y, vjp): y [T, B, H], the states h_1 ... h_T;
    vjp(dy) -> (dx, dh, dweight_ih, dweight_hh, dbias_ih, dbias_hh), shaped as the six inputs.
    You may call your rnn_cell.
    """
    raise NotImplementedError
