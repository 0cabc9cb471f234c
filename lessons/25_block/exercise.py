"""Exercise 25: a transformer block, put together from parts that are ready."""

from scratchlm import ops  # the parts; each returns (out, vjp), as in the lessons before


def transformer_block(
    x, wq, wk, wv, wo, w1, b1, w2, b2, gain1, shift1, gain2, shift2, *, norm_first=True
):
    """Attention, then the feed-forward network, each with a residual and a layer norm.

    norm_first=True  (pre-norm):   h = x + A(norm1(x)),   y = h + F(norm2(h))
    norm_first=False (post-norm):  h = norm1(x + A(x)),   y = norm2(h + F(h))

    A(u) = linear(attention(u wqᵀ, u wkᵀ, u wvᵀ), wo): causal, one head
    F(u) = linear(gelu(linear(u, w1, b1)), w2, b2)

    x: [..., N, C]    wq, wk, wv, wo: [C, C]    w1: [D, C]   b1: [D]   w2: [C, D]   b2: [C]
    gain1, shift1 (of norm1), gain2, shift2 (of norm2): [C]

    The parts:
        ops.linear(u, w)                     -> v, vjp;  vjp(dv) -> (du, dw, None)
        ops.linear(u, w, b)                  -> v, vjp;  vjp(dv) -> (du, dw, db)
        ops.attention(q, k, v, causal=True)  -> o, vjp;  vjp(do) -> (dq, dk, dv)
        ops.gelu(u)                          -> v, vjp;  vjp(dv) -> du
        ops.layer_norm(u, gain, shift)       -> v, vjp;  vjp(dv) -> (du, dgain, dshift)

    Returns (y, vjp): y [..., N, C]; vjp(dy) -> the 13 gradients, in the order of the arguments.
    float32 in, float32 out; inputs and dy stay as they are.
    """
    raise NotImplementedError
