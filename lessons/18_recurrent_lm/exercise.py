"""Exercise 18: a recurrent language model on one window of its text."""

import numpy as np  # you will need it


def lm_window(h, table, weight_ih, weight_hh, bias, *, ids, targets):
    """The loss on one window, and the state for the next one.

    For t = 0 ... T-1:   h_t = tanh(table[ids_t] W_ihᵀ + h_(t-1) W_hhᵀ + bias),
                         logits_t = h_t tableᵀ;
    loss = the mean of the B T cross-entropies of softmax(logits_t) and targets_t.

    h:         [B, C], the state that the window before has left
    table:     [V, C], a row for each token; input and output layer at once
    weight_ih: [C, C]     weight_hh: [C, C]     bias: [C]
    ids:       [B, T] integers, what is read         (an option: no gradient)
    targets:   [B, T] integers, what should come     (an option: no gradient)

    Returns ((loss, last), vjp): loss a number, last [B, C], the state after the window;
    vjp(dloss, dlast) -> (dh, dtable, dweight_ih, dweight_hh, dbias), shaped as the five inputs.
    float32 in, float32 out.
    """
    raise NotImplementedError
