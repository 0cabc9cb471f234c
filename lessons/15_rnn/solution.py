"""Solution 15: one step of a recurrent network, and backpropagation through time."""

import numpy as np


def rnn_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """h' = tanh(x W_ihᵀ + b_ih + h W_hhᵀ + b_hh).  x [B, I], h [B, H].

    Returns (h', vjp): h' [B, H]; vjp(dh') -> (dx, dh, dweight_ih, dweight_hh, dbias_ih, dbias_hh).
    """
    z = x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh  # [B, I] [I, H] -> [B, H]
    new_h = np.tanh(z)  # [B, H]

    def vjp(dnew_h):
        # h' = tanh(z): the slope, from the output
        dz = dnew_h * (1 - new_h**2)  # [B, H]
        # z = x W_ihᵀ + ... + h W_hhᵀ + ...: two linear layers, one sum
        dx = dz @ weight_ih  # [B, H] [H, I] -> [B, I]
        dh = dz @ weight_hh  # [B, H] [H, H] -> [B, H]
        dweight_ih = dz.T @ x  # [H, B] [B, I] -> [H, I]
        dweight_hh = dz.T @ h  # [H, B] [B, H] -> [H, H]
        dbias = dz.sum(axis=0)  # [H], the same for both biases
        return dx, dh, dweight_ih, dweight_hh, dbias, dbias

    return new_h, vjp


def rnn(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """h_t = tanh(x_t W_ihᵀ + b_ih + h_(t-1) W_hhᵀ + b_hh) for each t.  x [T, B, I], h [B, H].

    Returns (y, vjp): y [T, B, H], all states; vjp(dy) -> as above, dx [T, B, I].
    """
    states, backs = [], []
    for x_t in x:
        h, back = rnn_cell(x_t, h, weight_ih, weight_hh, bias_ih, bias_hh)
        states.append(h)
        backs.append(back)

    def vjp(dy):
        dx = np.zeros_like(x)
        dh = np.zeros_like(h)  # nothing comes from beyond the last time
        dweights = [np.zeros_like(w) for w in (weight_ih, weight_hh, bias_ih, bias_hh)]
        for t in reversed(range(len(x))):
            # h_t is used twice: it is the result y_t, and the next step starts from it
            dx[t], dh, *more = backs[t](dy[t] + dh)
            # the weights are used at every time
            dweights = [total + each for total, each in zip(dweights, more, strict=True)]
        return dx, dh, *dweights

    return np.stack(states), vjp
