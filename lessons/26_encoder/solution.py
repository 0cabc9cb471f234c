"""Solution 26: the mean over what is no padding, and a stack of layers that do not read it."""

import numpy as np

from scratchlm import ops  # the parts of `layer`, which is given


def masked_mean(x, *, padding):
    """y_c = (1/n) Σ x_ic over the n real positions.  x [..., N, C], padding [..., N]."""
    real = ~padding[..., None]  # [..., N] -> [..., N, 1]
    n = np.maximum(real.sum(axis=-2), 1).astype(x.dtype)  # [..., 1]: one count for each text
    y = np.where(real, x, 0).sum(axis=-2) / n  # [..., N, C] -> [..., C]

    def vjp(dy):
        # y_c = (1/n) Σ x_ic: each real row has the factor 1/n, padding has none
        return np.where(real, (dy / n)[..., None, :], 0)  # [..., C] -> [..., N, C]

    return y, vjp


def layer(x, wq, wk, wv, wo, w1, b1, w2, b2, gain1, shift1, gain2, shift2, *, heads, mask=None):
    """Given: one layer of the encoder, forward and backward.

    h = norm1(x + A(x)),   y = norm2(h + F(h))         post-norm, as in lesson 25
    A has `heads` heads (lesson 21); F(u) = linear(relu(linear(u, w1, b1)), w2, b2)
    mask: boolean, broadcastable to [..., heads, N, N]: True where query n may see key m
        (lesson 20; the axis of the heads is the third from behind)

    x: [..., N, C].  Returns (y, vjp): y [..., N, C]; vjp(dy) -> dx and the 12 gradients of the
    weights, in their order.
    """

    def split(u):  # [..., N, C] -> [..., heads, N, C / heads]
        return u.reshape(*u.shape[:-1], heads, -1).swapaxes(-2, -3)

    def merge(u):  # and back: each undoes the other, and each is the other's vjp
        return u.swapaxes(-2, -3).reshape(x.shape)

    q, vjp_q = ops.linear(x, wq)
    k, vjp_k = ops.linear(x, wk)
    v, vjp_v = ops.linear(x, wv)
    o, vjp_o = ops.attention(split(q), split(k), split(v), mask=mask)
    a, vjp_a = ops.linear(merge(o), wo)
    h, vjp_n1 = ops.layer_norm(x + a, gain1, shift1)
    u, vjp_1 = ops.linear(h, w1, b1)
    r, vjp_r = ops.relu(u)
    f, vjp_2 = ops.linear(r, w2, b2)
    y, vjp_n2 = ops.layer_norm(h + f, gain2, shift2)

    def vjp(dy):
        df, *norm2 = vjp_n2(dy)
        dr, dw2, db2 = vjp_2(df)
        dh, dw1, db1 = vjp_1(vjp_r(dr))
        da, *norm1 = vjp_n1(df + dh)
        do, dwo, _ = vjp_a(da)
        dq, dk, dv = (merge(d) for d in vjp_o(split(do)))
        dx_q, dwq, _ = vjp_q(dq)
        dx_k, dwk, _ = vjp_k(dk)
        dx_v, dwv, _ = vjp_v(dv)
        return da + dx_q + dx_k + dx_v, dwq, dwk, dwv, dwo, dw1, db1, dw2, db2, *norm1, *norm2

    return y, vjp


def encoder(x, *weights, heads, padding=None):
    """h_0 = x, h_l = layer(h_{l-1}, its 12 weights), y = h_L.  Keys at padding are not seen."""
    # [..., N] -> [..., 1, 1, N]: for all heads, for all queries
    mask = None if padding is None else ~padding[..., None, None, :]
    h, vjps = x, []
    for first in range(0, len(weights), 12):
        h, vjp_layer = layer(h, *weights[first : first + 12], heads=heads, mask=mask)
        vjps.append(vjp_layer)

    def vjp(dy):
        dh, grads = dy, []
        # h_l = layer(h_{l-1}, weights): the last layer first
        for vjp_layer in reversed(vjps):
            dh, *dweights = vjp_layer(dh)
            grads = dweights + grads  # gradients stand where their weights stand
        return dh, *grads

    return h, vjp
