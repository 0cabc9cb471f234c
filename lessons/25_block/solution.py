"""Solution 25: a transformer block, put together from parts that are ready."""

from scratchlm import ops  # the parts; each returns (out, vjp), as in the lessons before


def attend(u, wq, wk, wv, wo):
    """A(u) = linear(attention(u wqᵀ, u wkᵀ, u wvᵀ), wo).  u [..., N, C], weights [C, C]."""
    q, vjp_q = ops.linear(u, wq)  # [..., N, C] -> [..., N, C]
    k, vjp_k = ops.linear(u, wk)
    v, vjp_v = ops.linear(u, wv)
    o, vjp_o = ops.attention(q, k, v, causal=True)
    out, vjp_out = ops.linear(o, wo)

    def vjp(dout):
        # out = o woᵀ
        do, dwo, _ = vjp_out(dout)  # there is no bias, so its gradient is None
        # o = attention(q, k, v)
        dq, dk, dv = vjp_o(do)
        # q = u wqᵀ, k = u wkᵀ, v = u wvᵀ: u is used three times, so three gradients add up
        du_q, dwq, _ = vjp_q(dq)
        du_k, dwk, _ = vjp_k(dk)
        du_v, dwv, _ = vjp_v(dv)
        return du_q + du_k + du_v, dwq, dwk, dwv, dwo

    return out, vjp


def feed_forward(u, w1, b1, w2, b2):
    """F(u) = linear(gelu(linear(u, w1, b1)), w2, b2).  u [..., N, C], w1 [D, C], w2 [C, D]."""
    a, vjp_1 = ops.linear(u, w1, b1)  # [..., N, C] -> [..., N, D]
    g, vjp_g = ops.gelu(a)
    out, vjp_2 = ops.linear(g, w2, b2)  # [..., N, D] -> [..., N, C]

    def vjp(dout):
        # out = g w2ᵀ + b2
        dg, dw2, db2 = vjp_2(dout)
        # g = gelu(a),  a = u w1ᵀ + b1
        du, dw1, db1 = vjp_1(vjp_g(dg))
        return du, dw1, db1, dw2, db2

    return out, vjp


def transformer_block(
    x, wq, wk, wv, wo, w1, b1, w2, b2, gain1, shift1, gain2, shift2, *, norm_first=True
):
    """Attention, then the feed-forward network, each with a residual and a layer norm.

    Returns (y, vjp): y [..., N, C]; vjp(dy) -> the 13 gradients, in the order of the arguments.
    """
    if norm_first:
        n1, vjp_n1 = ops.layer_norm(x, gain1, shift1)  # [..., N, C]
        a, vjp_a = attend(n1, wq, wk, wv, wo)
        h = x + a  # x goes on as it is
        n2, vjp_n2 = ops.layer_norm(h, gain2, shift2)
        f, vjp_f = feed_forward(n2, w1, b1, w2, b2)
        y = h + f
    else:
        a, vjp_a = attend(x, wq, wk, wv, wo)
        h, vjp_n1 = ops.layer_norm(x + a, gain1, shift1)
        f, vjp_f = feed_forward(h, w1, b1, w2, b2)
        y, vjp_n2 = ops.layer_norm(h + f, gain2, shift2)

    def vjp(dy):
        if norm_first:
            # y = h + f,  f = F(n2),  n2 = norm2(h): h is used twice
            dn2, *feed = vjp_f(dy)
            dh, *norm2 = vjp_n2(dn2)
            dh = dy + dh
            # h = x + a,  a = A(n1),  n1 = norm1(x): x is used twice
            dn1, *attention = vjp_a(dh)
            dx, *norm1 = vjp_n1(dn1)
            dx = dh + dx
        else:
            # y = norm2(s),  s = h + f,  f = F(h)
            ds, *norm2 = vjp_n2(dy)
            dh, *feed = vjp_f(ds)
            dh = ds + dh
            # h = norm1(s),  s = x + a,  a = A(x)
            ds, *norm1 = vjp_n1(dh)
            dx, *attention = vjp_a(ds)
            dx = ds + dx
        return dx, *attention, *feed, *norm1, *norm2

    return y, vjp
