"""Solution 16: one step of long short-term memory, and the sequence, forward and back."""

import numpy as np


def sigmoid(z):
    """Given: 1 / (1 + exp(-z)), without overflow (lesson 02)."""
    return 0.5 * (1 + np.tanh(0.5 * z))


def lstm_cell(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """c' = f c + i g and h' = o tanh(c').  x [B, I], h and c [B, H].

    Returns ((h', c'), vjp); vjp(dh', dc') -> (dx, dh, dc, and the weights' gradients).
    """
    z = x @ weight_ih.T + bias_ih + h @ weight_hh.T + bias_hh  # [B, I] [I, 4H] -> [B, 4H]
    z_i, z_f, z_g, z_o = np.split(z, 4, axis=1)  # four times [B, H]
    i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o)  # write, keep, show
    g = np.tanh(z_g)  # what to write
    new_c = f * c + i * g  # [B, H]
    t = np.tanh(new_c)
    new_h = o * t  # [B, H]

    def vjp(dnew_h, dnew_c):
        # h' = o t
        do = dnew_h * t
        dt = dnew_h * o
        # t = tanh(c'), and c' is a result as well: a fan-out
        d = dnew_c + dt * (1 - t**2)
        # c' = f c + i g
        df, dc = d * c, d * f
        di, dg = d * g, d * i
        # i = σ(z_i), f = σ(z_f), g = tanh(z_g), o = σ(z_o): the slopes, from the outputs
        parts = [di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)]
        dz = np.concatenate(parts, axis=1)  # [B, 4H]
        # z = x W_ihᵀ + ... + h W_hhᵀ + ...: as in lesson 15
        dx = dz @ weight_ih  # [B, 4H] [4H, I] -> [B, I]
        dh = dz @ weight_hh  # [B, 4H] [4H, H] -> [B, H]
        dweight_ih = dz.T @ x  # [4H, B] [B, I] -> [4H, I]
        dweight_hh = dz.T @ h  # [4H, B] [B, H] -> [4H, H]
        dbias = dz.sum(axis=0)  # [4H], the same for both biases
        return dx, dh, dc, dweight_ih, dweight_hh, dbias, dbias

    return (new_h, new_c), vjp


def lstm(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """The step at each time.  x [T, B, I], h and c [B, H].

    Returns ((y, c_T), vjp): y [T, B, H], all states; vjp(dy, dc_T) -> as above, dx [T, B, I].
    """
    states, backs = [], []
    for x_t in x:
        (h, c), back = lstm_cell(x_t, h, c, weight_ih, weight_hh, bias_ih, bias_hh)
        states.append(h)
        backs.append(back)

    def vjp(dy, dc):
        dx = np.zeros_like(x)
        dh = np.zeros_like(h)  # nothing comes from beyond the last time; along c it does: dc
        dweights = [np.zeros_like(w) for w in (weight_ih, weight_hh, bias_ih, bias_hh)]
        for t in reversed(range(len(x))):
            # h_t is the result y_t, and the next step starts from it; c_t only the second
            dx[t], dh, dc, *more = backs[t](dy[t] + dh, dc)
            # the weights are used at every time
            dweights = [total + each for total, each in zip(dweights, more, strict=True)]
        return dx, dh, dc, *dweights

    return (np.stack(states), c), vjp
