"""Check 25: a transformer block, pre-norm and post-norm, and the ways to lose a path in it."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake


def weights(rng, C, D):
    """wq … wo, w1, b1, w2, b2, gain1, shift1, gain2, shift2: all at random, so that all count."""
    square = [rng.standard_normal((C, C)) for _ in range(4)]
    feed = [rng.standard_normal(shape) for shape in ((D, C), (D,), (C, D), (C,))]
    return [*square, *feed, *(rng.standard_normal(C) for _ in range(4))]


def made(seed, *shape, D=5, scale=1.0, **options):
    rng = np.random.default_rng(seed)
    x = scale * rng.standard_normal(shape)
    return Case(x, *weights(rng, shape[-1], D), **options)


def far(seed, *shape, **options):
    """Scores of thousands, of both signs: exp of them is infinite, or 0."""
    case = made(seed, *shape, **options)
    x, wq, wk, *others = case.arguments
    return Case(x, 100 * wq, 100 * wk, *others, **case.options)


@st.composite
def inputs(draw):
    leading = draw(st.sampled_from([(), (1,), (2,), (2, 1)]))
    N, C, D = draw(st.integers(1, 4)), draw(st.integers(3, 4)), draw(st.integers(1, 5))
    seed, pre = draw(st.integers(0, 2**32 - 1)), draw(st.booleans())
    return made(seed, *leading, N, C, D=D, norm_first=pre)


ALSO = [
    made(0, 3, 4),
    made(0, 3, 4, norm_first=False),
    made(1, 2, 3, 4, norm_first=True),
    made(2, 2, 4, 3, D=3, norm_first=False),
    made(3, 4, 4, D=4, scale=10.0),
    far(4, 4, 4),
    far(5, 2, 3, 4, norm_first=False),
]


# ------------------------------------------------ the right steps, each of which a mistake replaces


def causal(q, k, v):
    return ops.attention(q, k, v, causal=True)


def without_maximum(q, k, v):
    """The same by hand, with exp of the scores as they come."""
    scale = q.shape[-1] ** -0.5
    with np.errstate(all="ignore"):
        scores = np.where(
            np.tri(q.shape[-2], dtype=bool), scale * (q @ k.swapaxes(-1, -2)), -np.inf
        )
        A = np.exp(scores)
        A = A / A.sum(axis=-1, keepdims=True)

    def vjp(do):
        dA = do @ v.swapaxes(-1, -2)
        dS = scale * A * (dA - (dA * A).sum(axis=-1, keepdims=True))
        return dS @ k, dS.swapaxes(-1, -2) @ q, A.swapaxes(-1, -2) @ do

    return A @ v, vjp


def all_three(q, k, v):
    return q + k + v


def attend(u, wq, wk, wv, wo, *, mixed=causal, back=all_three):
    q, vjp_q = ops.linear(u, wq)
    k, vjp_k = ops.linear(u, wk)
    v, vjp_v = ops.linear(u, wv)
    o, vjp_o = mixed(q, k, v)
    out, vjp_out = ops.linear(o, wo)

    def vjp(dout):
        do, dwo = vjp_out(dout)[:2]
        dq, dk, dv = vjp_o(do)
        (du_q, dwq), (du_k, dwk), (du_v, dwv) = vjp_q(dq)[:2], vjp_k(dk)[:2], vjp_v(dv)[:2]
        return back(du_q, du_k, du_v), dwq, dwk, dwv, dwo

    return out, vjp


def feed(u, w1, b1, w2, b2, *, between=ops.gelu, after=None):
    a, vjp_1 = ops.linear(u, w1, b1)
    g, vjp_g = between(a)
    out, vjp_2 = ops.linear(g, w2, b2)
    out, vjp_after = (out, lambda d: d) if after is None else after(out)

    def vjp(dout):
        dg, dw2, db2 = vjp_2(vjp_after(dout))
        return (*vjp_1(vjp_g(dg)), dw2, db2)

    return out, vjp


# Where the stream divides and joins. `f` is a sublayer, `norm` a norm: functions u -> (out, vjp),
# whose vjp gives (du, the gradients of the weights). Each wiring is one, too; its vjp gives
# (dx, those of the sublayer, those of the norm).


def pre(x, f, norm):
    n, vjp_n = norm(x)
    a, vjp_f = f(n)

    def vjp(dy):
        dn, *df = vjp_f(dy)
        dx, *dnorm = vjp_n(dn)
        return dy + dx, df, dnorm

    return x + a, vjp


def post(x, f, norm):
    a, vjp_f = f(x)
    y, vjp_n = norm(x + a)

    def vjp(dy):
        ds, *dnorm = vjp_n(dy)
        dx, *df = vjp_f(ds)
        return ds + dx, df, dnorm

    return y, vjp


def no_residual(x, f, norm):
    a, vjp_f = f(x)
    y, vjp_n = norm(a)

    def vjp(dy):
        da, *dnorm = vjp_n(dy)
        dx, *df = vjp_f(da)
        return dx, df, dnorm

    return y, vjp


def pre_without(x, f, norm):
    n, vjp_n = norm(x)
    _, vjp_f = f(n)

    def vjp(dy):
        dn, *df = vjp_f(dy)
        dx, *dnorm = vjp_n(dn)
        return dx, df, dnorm

    return vjp


def post_without(x, f, norm):
    a, vjp_f = f(x)
    _, vjp_n = norm(x + a)

    def vjp(dy):
        ds, *dnorm = vjp_n(dy)
        dx, *df = vjp_f(ds)
        return dx, df, dnorm

    return vjp


def residual_only(wiring):
    """Backward along the residual, and the sublayer's own share of dx is overwritten."""

    def wired(x, f, norm):
        y, vjp = wiring(x, f, norm)

        def back(dy):
            _, df, dnorm = vjp(dy)
            alone = dy * 1 if wiring is pre else norm(x + f(x)[0])[1](dy)[0]
            return alone, df, dnorm

        return y, back

    return wired


def from_the_norm(x, f, norm):
    """Pre-norm whose residual starts behind the norm."""
    n, vjp_n = norm(x)
    a, vjp_f = f(n)

    def vjp(dy):
        dn, *df = vjp_f(dy)
        dx, *dnorm = vjp_n(dy + dn)
        return dx, df, dnorm

    return n + a, vjp


def norm_of_the_sublayer(x, f, norm):
    """Post-norm whose norm stands before the sum."""
    a, vjp_f = f(x)
    n, vjp_n = norm(a)

    def vjp(dy):
        da, *dnorm = vjp_n(dy)
        dx, *df = vjp_f(da)
        return dy + dx, df, dnorm

    return x + n, vjp


def norm_not_in_backward(x, f, norm):
    """Post-norm; its residual carries dy past the norm, as in pre-norm."""
    a, vjp_f = f(x)
    y, vjp_n = norm(x + a)

    def vjp(dy):
        ds, *dnorm = vjp_n(dy)
        dx, *df = vjp_f(ds)
        return dy + dx, df, dnorm

    return y, vjp


def in_place(wiring):
    def wired(x, f, norm):
        y, vjp = wiring(x.copy(), f, norm)
        x += f(norm(x)[0] if wiring is pre else x)[0]
        return y, vjp

    return wired


def dy_in_place(wiring):
    def wired(x, f, norm):
        y, vjp = wiring(x, f, norm)

        def back(dy):
            dx, df, dnorm = vjp(dy)
            dy += 1
            return dx, df, dnorm

        return y, back

    return wired


def in_order(dx, attention, feeding, norm1, norm2):
    return dx, *attention, *feeding, *norm1, *norm2


def block(
    *,
    before=pre,  # norm_first=True: how attention is wired, and the feed-forward
    before2=None,
    behind=post,
    behind2=None,
    attention=attend,
    feeding=feed,
    through=lambda dh, dy: dh,  # what attention's part of backward starts from
    gains=lambda first, second: (first, second),
    dgains=lambda first, second: (first, second),
    order=in_order,
    flag=lambda norm_first: norm_first,
):
    """The block with one of its steps replaced."""

    def transformer_block(
        x, wq, wk, wv, wo, w1, b1, w2, b2, gain1, shift1, gain2, shift2, *, norm_first=True
    ):
        if flag(norm_first):
            wiring, wiring2 = before, before2 or before
        else:
            wiring, wiring2 = behind, behind2 or behind
        first, second = gains((gain1, shift1), (gain2, shift2))
        h, vjp_h = wiring(
            x, lambda u: attention(u, wq, wk, wv, wo), lambda u: ops.layer_norm(u, *first)
        )
        y, vjp_y = wiring2(
            h, lambda u: feeding(u, w1, b1, w2, b2), lambda u: ops.layer_norm(u, *second)
        )

        def vjp(dy):
            dh, dfeed, dnorm2 = vjp_y(dy)
            dx, dattention, dnorm1 = vjp_h(through(dh, dy))
            return order(dx, dattention, dfeed, *dgains(dnorm1, dnorm2))

        return y, vjp

    return transformer_block


transformer_block = block()  # the reference


def with_attention(**steps):
    return block(attention=lambda *u: attend(*u, **steps))


def with_feed(**steps):
    return block(feeding=lambda *u: feed(*u, **steps))


def everywhere(wire):
    """Both sublayers, pre-norm and post-norm."""
    return block(before=wire(pre), behind=wire(post))


def side_by_side(x, *weights, norm_first=True):
    """Both sublayers read x; nothing that attention found reaches the feed-forward network."""
    if not norm_first:
        return transformer_block(x, *weights, norm_first=False)
    wq, wk, wv, wo, w1, b1, w2, b2, gain1, shift1, gain2, shift2 = weights
    a, vjp_a = pre(
        x, lambda u: attend(u, wq, wk, wv, wo), lambda u: ops.layer_norm(u, gain1, shift1)
    )
    f, vjp_f = pre(x, lambda u: feed(u, w1, b1, w2, b2), lambda u: ops.layer_norm(u, gain2, shift2))

    def vjp(dy):
        dx1, dattention, dnorm1 = vjp_a(dy)
        dx2, dfeed, dnorm2 = vjp_f(dy)
        return in_order(dx1 + dx2 - dy, dattention, dfeed, dnorm1, dnorm2)

    return a + f - x, vjp


def exchanged_kv(u, wq, wk, wv, wo):
    out, vjp = attend(u, wq, wv, wk, wo)

    def back(dout):
        du, dwq, dwv, dwk, dwo = vjp(dout)
        return du, dwq, dwk, dwv, dwo

    return out, back


def one_norm_for_both(first, second):
    return first, first


def gains_of_one_norm(first, second):
    return [a + b for a, b in zip(first, second, strict=True)], [0 * a for a in second]


def in_float64(*arrays, **options):
    y, vjp = transformer_block(*(a.astype(float) for a in arrays), **options)
    return y, lambda dy: vjp(dy.astype(float))


MISTAKES = [
    Mistake(
        "no residuals",
        block(before=no_residual, behind=no_residual),
        "nothing carries x past the sublayers: this is the chain norm(F(norm(A(x)))), as printed",
        "if A and F gave 0, what should y be? Try it on paper with your forward",
    ),
    Mistake(
        "residuals not in backward",
        block(
            before=lambda *a: (pre(*a)[0], pre_without(*a)),
            behind=lambda *a: (post(*a)[0], post_without(*a)),
        ),
        "forward adds x to the sublayer, but backward goes through the sublayer alone",
        "x is used twice: by the sublayer and by the sum. How many gradients come back?",
    ),
    Mistake(
        "residual of attention not in backward",
        block(
            before=lambda *a: (pre(*a)[0], pre_without(*a)),
            before2=pre,
            behind=lambda *a: (post(*a)[0], post_without(*a)),
            behind2=post,
        ),
        "the way around the feed-forward network comes back, the one around attention does not",
        "there are two sums in forward: in backward each must have two gradients added up",
    ),
    Mistake(
        "sublayers overwritten in backward",
        everywhere(residual_only),
        "dx comes along the residuals only: what comes back through A and F is overwritten",
        "look for an = that should add to what is there already",
    ),
    Mistake(
        "residual behind the norm",
        block(before=from_the_norm),
        "pre-norm adds the sublayer to the normalized x; the sum takes x as it came",
        "in h = x + A(norm1(x)), which of the two x has been through the norm?",
    ),
    Mistake(
        "norm before the sum",
        block(behind=norm_of_the_sublayer),
        "post-norm normalizes the sublayer alone and then adds x; it normalizes the sum",
        "read norm1(x + A(x)) from the inside out: what comes first, the sum or the norm?",
    ),
    Mistake(
        "residual of post-norm skips the norm",
        block(behind=norm_not_in_backward),
        "in post-norm, backward takes dy past the norm, but the residual lies inside of it",
        "which op is the last of forward? It is the first of backward, for both summands",
    ),
    Mistake(
        "always pre-norm",
        block(flag=lambda norm_first: True),
        "norm_first=False gives pre-norm, too",
        "print norm_first, and follow both branches",
    ),
    Mistake(
        "always post-norm",
        block(flag=lambda norm_first: False),
        "norm_first=True gives post-norm, too",
        "print norm_first, and follow both branches",
    ),
    Mistake(
        "norm_first inverted",
        block(flag=lambda norm_first: not norm_first),
        "the two orders are exchanged: norm_first=True gives post-norm",
        "pre-norm: the norm comes first, before the sublayer",
    ),
    Mistake(
        "query's path only",
        with_attention(back=lambda q, k, v: q),
        "A uses its input three times, and only the gradient through the queries comes back",
        "who else reads u: count the linear layers that it feeds",
    ),
    Mistake(
        "value's path only",
        with_attention(back=lambda q, k, v: v),
        "A uses its input three times, and only the gradient through the values comes back",
        "an = inside backward has replaced what was there: u feeds q, k and v",
    ),
    Mistake(
        "key's path forgotten",
        with_attention(back=lambda q, k, v: q + v),
        "the gradient through the keys does not come back to the input of A",
        "u feeds q, k and v: add up three gradients",
    ),
    Mistake(
        "keys and values exchanged",
        block(attention=exchanged_kv),
        "wk makes the values and wv the keys",
        "go through the arguments one by one: which weight makes what?",
    ),
    Mistake(
        "not causal",
        with_attention(mixed=ops.attention),
        "attention sees later positions: causal is not passed on",
        "change the last row of x: may the first row of y move?",
    ),
    Mistake(
        "no maximum",
        with_attention(mixed=without_maximum),
        "where scores are large, exp overflows inside A: inf / inf is NaN",
        "an attention of your own must hold for scores of thousands, too (lesson 19 has the case)",
    ),
    Mistake(
        "side by side",
        side_by_side,
        "the feed-forward network reads x; it should read h, which knows what attention found",
        "the block has two steps, and the second starts from the result of the first",
    ),
    Mistake(
        "dy for dh",
        block(through=lambda dh, dy: dy),
        "attention's half of backward starts from dy, as if there were no feed-forward half",
        "what h gets back is more than dy: which line of forward uses h, and how often?",
    ),
    Mistake(
        "gradients of the norms exchanged",
        block(dgains=lambda first, second: (second, first)),
        "the gradients of the two norms come back in each other's place",
        "backward meets norm2 first, but the arguments begin with gain1",
    ),
    Mistake(
        "norms first in the result",
        block(order=lambda dx, a, f, n1, n2: (dx, *n1, *a, *n2, *f)),
        "the 13 gradients come back in another order than the arguments",
        "write the names of the arguments below each other, and the gradient beside each",
    ),
    Mistake(
        "one norm for both",
        block(gains=one_norm_for_both, dgains=gains_of_one_norm),
        "gain1 and shift1 serve both norms; gain2 and shift2 do nothing",
        "each norm has a gain and a shift of its own",
    ),
    Mistake(
        "ReLU for GELU",
        with_feed(between=ops.relu),
        "the feed-forward network has a ReLU; here it is a GELU",
        "see what the docstring has between the two linear layers of F",
    ),
    Mistake(
        "activation behind the second layer",
        with_feed(after=ops.gelu),
        "there is an activation behind the second linear layer, too",
        "F ends with a linear layer, so that it can add and take away (lesson 23)",
    ),
    Mistake(
        "x changed in place",
        everywhere(in_place),
        "x itself is overwritten by the sum; backward and the caller still need it",
        "x += ... writes into the caller's array; give the sum a name of its own",
    ),
    Mistake(
        "dy changed in place",
        everywhere(dy_in_place),
        "vjp overwrites the cotangent that it was given",
        "dy += ... writes into the caller's array; give the sum a name of its own",
    ),
    Mistake(
        "float64 results",
        in_float64,
        "float32 goes in and float64 comes out",
        "the parts keep the dtype: which line of yours does not?",
    ),
]

EXERCISES = [
    Exercise(
        name="transformer_block",
        reference=transformer_block,
        inputs=inputs(),
        also=ALSO,
        mistakes=MISTAKES,
        hints=(
            (
                "Write A and F first, as two functions that return (out, vjp). Then the block has "
                "four parts, two of them norms, and two sums. Forward takes eight lines at most."
            ),
            (
                "Backward is forward read from below. A part calls its vjp. A sum passes its "
                "cotangent to both summands. A value that was used twice gets two gradients: add "
                "them. In pre-norm that is h (by F's side and by the sum) and x (by A's side and "
                "by the sum); inside A it is u, three times."
            ),
            (
                "Pre-norm: dn2 = F's vjp of dy, then through norm2, then dh = dy + that; dn1 = A's "
                "vjp of dh, then through norm1, then dx = dh + that. Post-norm: ds = norm2's vjp "
                "of dy, dh = ds + F's vjp of ds; ds = norm1's vjp of dh, dx = ds + A's vjp of ds. "
                "Return dx, those of A, those of F, those of norm1, those of norm2."
            ),
        ),
    ),
]
