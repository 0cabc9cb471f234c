"""Lesson 25: other right ways to write the block."""

import math

import numpy as np

from scratchlm import Tensor
from scratchlm import functional as F


def transformer_block__numpy(
    x, wq, wk, wv, wo, w1, b1, w2, b2, gain1, shift1, gain2, shift2, *, norm_first=True
):
    """NumPy alone: each part by hand."""
    eps = 1e-5
    erf = np.vectorize(math.erf, otypes=[float])

    def rows(a):
        return a.reshape(-1, a.shape[-1])

    def norm(u, gain, shift):
        r = 1 / np.sqrt(u.var(axis=-1, keepdims=True) + eps)
        n = (u - u.mean(axis=-1, keepdims=True)) * r

        def back(d):
            g = d * gain
            du = r * (g - g.mean(-1, keepdims=True) - n * (g * n).mean(-1, keepdims=True))
            return du, rows(d * n).sum(axis=0), rows(d).sum(axis=0)

        return n * gain + shift, back

    def attend(u):
        q, k, v = u @ wq.T, u @ wk.T, u @ wv.T
        scale = 1 / math.sqrt(u.shape[-1])
        s = scale * np.einsum("...nc,...mc->...nm", q, k)
        s = np.where(np.tri(u.shape[-2], dtype=bool), s, -np.inf)
        p = np.exp(s - s.max(axis=-1, keepdims=True))
        p = p / p.sum(axis=-1, keepdims=True)
        o = p @ v

        def back(d):
            do = d @ wo
            dp = np.einsum("...nc,...mc->...nm", do, v)
            ds = scale * p * (dp - (dp * p).sum(axis=-1, keepdims=True))
            dq, dk = ds @ k, np.einsum("...nm,...nc->...mc", ds, q)
            dv = np.einsum("...nm,...nc->...mc", p, do)
            du = dq @ wq + dk @ wk + dv @ wv
            pairs = ((dq, u), (dk, u), (dv, u), (d, o))
            return du, *(rows(a).T @ rows(b) for a, b in pairs)

        return o @ wo.T, back

    def feed(u):
        a = u @ w1.T + b1
        cdf = (0.5 * (1 + erf(a / math.sqrt(2)))).astype(a.dtype)
        g = a * cdf

        def back(d):
            dg = d @ w2
            da = dg * (cdf + a * np.exp(-a * a / 2) / math.sqrt(2 * math.pi))
            return (
                da @ w1,
                rows(da).T @ rows(u),
                rows(da).sum(axis=0),
                rows(d).T @ rows(g),
                rows(d).sum(axis=0),
            )

        return g @ w2.T + b2, back

    tape = []
    h = x
    for f, gain, shift in ((attend, gain1, shift1), (feed, gain2, shift2)):
        if norm_first:
            n, back_n = norm(h, gain, shift)
            a, back_f = f(n)
            h = h + a
        else:
            a, back_f = f(h)
            h, back_n = norm(h + a, gain, shift)
        tape.append((back_f, back_n))

    def vjp(dy):
        found, d = [], dy
        for back_f, back_n in reversed(tape):
            if norm_first:
                dn, *dweights = back_f(d)
                through, *dnorm = back_n(dn)
            else:
                d, *dnorm = back_n(d)
                through, *dweights = back_f(d)
            d = d + through
            found.insert(0, (dweights, dnorm))
        (attention, norm1), (feeding, norm2) = found
        return d, *attention, *feeding, *norm1, *norm2

    return h, vjp


def transformer_block__tape(*arrays, norm_first=True):
    """Forward on tensors; the engine's tape finds the gradients."""

    def forward(leaves):
        x, wq, wk, wv, wo, w1, b1, w2, b2, gain1, shift1, gain2, shift2 = leaves

        def attend(u):
            q, k, v = (F.linear(u, w) for w in (wq, wk, wv))
            return F.linear(F.attention(q, k, v, causal=True), wo)

        def feed(u):
            return F.linear(F.gelu(F.linear(u, w1, b1)), w2, b2)

        def norm1(u):
            return F.layer_norm(u, gain1, shift1)

        def norm2(u):
            return F.layer_norm(u, gain2, shift2)

        if norm_first:
            h = x + attend(norm1(x))
            return h + feed(norm2(h))
        h = norm1(x + attend(x))
        return norm2(h + feed(h))

    def vjp(dy):
        leaves = [Tensor(a, requires_grad=True) for a in arrays]
        forward(leaves).backward(dy)
        return tuple(leaf.grad.data for leaf in leaves)

    return forward([Tensor(a) for a in arrays]).data, vjp


def transformer_block__deltas(
    x, wq, wk, wv, wo, w1, b1, w2, b2, gain1, shift1, gain2, shift2, *, norm_first=True
):
    """Loops over positions for attention; a residual is a sublayer of the identity and f."""
    from scratchlm import ops

    def chain(*fs):
        def run(u):
            vjps = []
            for f in fs:
                u, vjp = f(u)
                vjps.append(vjp)

            def back(d):
                kept = []
                for vjp in reversed(vjps):
                    d, *grads = vjp(d)
                    kept = [*grads, *kept]
                return d, *kept

            return u, back

        return run

    def plus_identity(f):
        def run(u):
            a, vjp = f(u)

            def back(d):
                du, *grads = vjp(d)
                return du + d, *grads

            return a + u, back

        return run

    def attend(u):
        q, k, v = u @ wq.T, u @ wk.T, u @ wv.T
        rows = [
            ops.attention(q[..., n : n + 1, :], k[..., : n + 1, :], v[..., : n + 1, :])
            for n in range(u.shape[-2])
        ]
        o = np.concatenate([y for y, _ in rows], axis=-2)
        out, vjp_out = ops.linear(o, wo)

        def back(d):
            do, dwo = vjp_out(d)[:2]
            dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
            for n, (_, vjp) in enumerate(rows):
                a, b, c = vjp(do[..., n : n + 1, :])
                dq[..., n : n + 1, :] += a
                dk[..., : n + 1, :] += b
                dv[..., : n + 1, :] += c
            shares = [ops.linear(u, w)[1](g)[:2] for w, g in ((wq, dq), (wk, dk), (wv, dv))]
            return sum(s[0] for s in shares), *(s[1] for s in shares), dwo

        return out, back

    def gelu(u):
        y, vjp = ops.gelu(u)
        return y, lambda d: (vjp(d),)

    feed = chain(lambda u: ops.linear(u, w1, b1), gelu, lambda u: ops.linear(u, w2, b2))
    norms = [
        lambda u: ops.layer_norm(u, gain1, shift1),
        lambda u: ops.layer_norm(u, gain2, shift2),
    ]
    if norm_first:
        halves = [plus_identity(chain(n, f)) for n, f in zip(norms, (attend, feed), strict=True)]
    else:
        halves = [chain(plus_identity(f), n) for n, f in zip(norms, (attend, feed), strict=True)]
    h, vjp_h = halves[0](x)
    y, vjp_y = halves[1](h)

    def vjp(dy):
        dh, *second = vjp_y(dy)
        dx, *first = vjp_h(dh)
        if norm_first:  # a chain lists its gradients in the order of forward: the norm first
            (g1, s1, *attention), (g2, s2, *feeding) = first, second
        else:
            (*attention, g1, s1), (*feeding, g2, s2) = first, second
        return dx, *attention, *feeding, g1, s1, g2, s2

    return y, vjp
