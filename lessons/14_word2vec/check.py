"""Check 14: the loss of skip-gram with negative sampling, and what is often done instead."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal


@st.composite
def pairs(draw):
    batch, noise, d = draw(st.integers(1, 4)), draw(st.integers(0, 4)), draw(st.integers(1, 4))
    return Case(draw(normal((batch, d))), draw(normal((batch, d))), draw(normal((batch, noise, d))))


def made(seed, batch, noise, d, scale=1.0):
    rng = np.random.default_rng(seed)
    shapes = [(batch, d), (batch, d), (batch, noise, d)]
    return Case(*(scale * rng.standard_normal(shape) for shape in shapes))


def softplus(s):
    return np.logaddexp(0, s)


def sigmoid(s):
    return np.exp(-softplus(-s))


def wrong(
    *,
    near=lambda v, u: (v * u).sum(axis=1),
    noise=lambda v, U: np.einsum("bd,bkd->bk", v, U),
    join=lambda s, t: softplus(-s) + softplus(t).sum(axis=1),
    mean=lambda each, K: each.mean(),
    ds=lambda s: -sigmoid(-s),
    dt=lambda t: sigmoid(t),
    share=lambda d, B, K: d / B,
    dcenter=lambda ds, u, dt, U: ds[:, None] * u + np.einsum("bk,bkd->bd", dt, U),
    dcontext=lambda ds, v, u: ds[:, None] * v,
    dnegatives=lambda dt, v, U: dt[:, :, None] * v[:, None, :],
):
    """The loss with one of its parts replaced."""

    def skipgram_loss(center, context, negatives):
        s, t = near(center, context), noise(center, negatives)
        B, K = negatives.shape[:2]

        def vjp(dloss):
            part = share(dloss, B, K)
            a, b = ds(s) * part, dt(t) * part
            return (
                dcenter(a, context, b, negatives),
                dcontext(a, center, context),
                dnegatives(b, center, negatives),
            )

        return mean(join(s, t), K), vjp

    return skipgram_loss


def overflowing(s):
    with np.errstate(over="ignore", divide="ignore"):
        return 1 / (1 + np.exp(-s))


def log_of(p):
    with np.errstate(divide="ignore"):
        return np.log(p)


def first_softmax(center, context, negatives):
    """-ln softmax: the context against the noise, as if one of them had to be it."""
    rows = np.concatenate([context[:, None], negatives], axis=1)  # [B, 1 + K, d]
    s, through = ops.matmul(rows, center[:, :, None])
    loss, back = ops.cross_entropy(s[:, :, 0], np.zeros(len(center), int))

    def vjp(dloss):
        drows, dcenter = through(back(np.asarray(dloss))[0][:, :, None])
        return dcenter[:, :, 0], drows[:, 0], drows[:, 1:]

    return loss, vjp


def flipped(center, context, negatives):
    """Eq. 4 as it is printed: to be maximized."""
    loss, vjp = ops.skipgram_loss(center, context, negatives)
    return -loss, lambda d: tuple(-each for each in vjp(d))


def first_noise(center, context, negatives):
    shared = np.broadcast_to(negatives[:1], negatives.shape)
    loss, vjp = ops.skipgram_loss(center, context, shared)

    def back(d):
        dcenter, dcontext, dnegatives = vjp(d)
        own = np.zeros_like(negatives)
        own[0] = dnegatives.sum(axis=0)
        return dcenter, dcontext, own

    return loss, back


def clipped(s):
    return s.clip(-6, 6)


MISTAKES = [
    Mistake(
        "noise with the sign of the context",
        wrong(join=lambda s, t: softplus(-s) + softplus(-t).sum(axis=1), dt=lambda t: -sigmoid(-t)),
        "the noise is pulled near, too: its term is -ln σ(+v·u_k)",
        "of noise words the product should be small: -ln σ(-v·u_k)",
    ),
    Mistake(
        "context with the sign of the noise",
        wrong(join=lambda s, t: softplus(s) + softplus(t).sum(axis=1), ds=sigmoid),
        "the context is pushed away, too: its term is -ln σ(-v·u)",
        "of a true pair the product should be large: -ln σ(v·u)",
    ),
    Mistake(
        "to be maximized",
        flipped,
        "the sum of ln σ, without the minus: that is what the paper maximizes, not a loss",
        "L = -ln σ(...) - ...: never below 0",
    ),
    Mistake(
        "noise averaged",
        wrong(
            join=lambda s, t: softplus(-s) + softplus(t).sum(axis=1) / max(1, t.shape[1]),
            dt=lambda t: sigmoid(t) / max(1, t.shape[1]),
        ),
        "the K terms of the noise are averaged; the paper adds them",
        "sum over k, then the mean over the pairs",
    ),
    Mistake(
        "sum over pairs",
        wrong(mean=lambda each, K: each.sum(), share=lambda d, B, K: d),
        "the losses of the pairs are added, not averaged",
        "the mean over b, in the loss and in the gradients",
    ),
    Mistake(
        "mean over all terms",
        wrong(mean=lambda each, K: each.mean() / (1 + K), share=lambda d, B, K: d / (B * (1 + K))),
        "the mean is over B · (K + 1) terms; each pair should count as one",
        "divide by B alone",
    ),
    Mistake(
        "log of a sigmoid",
        wrong(
            join=lambda s, t: -log_of(overflowing(s)) - log_of(overflowing(-t)).sum(axis=1),
            ds=lambda s: -overflowing(-s),
            dt=overflowing,
        ),
        "ln σ(s) is -inf where σ(s) has become 0: the sigmoid first, then the logarithm",
        "-ln σ(s) = ln(1 + exp(-s)); np.logaddexp(0, -s) does it without overflow",
    ),
    Mistake(
        "clipped at 6",
        wrong(
            near=lambda v, u: clipped((v * u).sum(axis=1)),
            noise=lambda v, U: clipped(np.einsum("bd,bkd->bk", v, U)),
        ),
        "products are cut to [-6, 6], as the table of the published C program does",
        "nothing overflows in np.logaddexp(0, s): no cut is needed",
    ),
    Mistake(
        "one minus the probability",
        wrong(
            join=lambda s, t: (1 - sigmoid(s)) + sigmoid(t).sum(axis=1),
            ds=lambda s: -sigmoid(s) * sigmoid(-s),
            dt=lambda t: sigmoid(t) * sigmoid(-t),
        ),
        "the probabilities of being wrong are added; the logarithm is missing",
        "-ln σ, the surprise, as in lesson 05",
    ),
    Mistake(
        "softmax over the noise",
        first_softmax,
        "the context competes with the noise in one softmax; here each product is a question of "
        "its own",
        "K + 1 sigmoids: yes for the context, no for each noise word",
    ),
    Mistake(
        "center without the noise",
        wrong(dcenter=lambda ds, u, dt, U: ds[:, None] * u),
        "the gradient of center has the part of the context only",
        "v stands in K + 1 products, and the chain rule adds over all of them",
    ),
    Mistake(
        "center without the context",
        wrong(dcenter=lambda ds, u, dt, U: np.einsum("bk,bkd->bd", dt, U)),
        "the gradient of center has the part of the noise only",
        "v stands in K + 1 products, and the chain rule adds over all of them",
    ),
    Mistake(
        "sigmoid of the context turned",
        wrong(ds=lambda s: -sigmoid(s)),
        "the gradient grows where the product is large, where all is well already: σ(s) for σ(-s)",
        "d/ds of -ln σ(s) is -σ(-s)",
    ),
    Mistake(
        "sigmoid of the noise turned",
        wrong(dt=lambda t: sigmoid(-t)),
        "the gradient of a noise word grows where its product is small already: σ(-s) for σ(s)",
        "d/ds of -ln σ(-s) is σ(s)",
    ),
    Mistake(
        "context gets itself",
        wrong(dcontext=lambda ds, v, u: ds[:, None] * u),
        "the gradient of context is made of context; of a product, each factor gets the other",
        "du = ds · v",
    ),
    Mistake(
        "negatives get themselves",
        wrong(dnegatives=lambda dt, v, U: dt[:, :, None] * U),
        "the gradient of negatives is made of negatives; each factor gets the other one",
        "du_k = ds_k · v",
    ),
    Mistake(
        "gradients of the sum",
        wrong(share=lambda d, B, K: d),
        "the loss is a mean, and the gradients are those of the sum: B times too large",
        "divide by B in vjp, too",
    ),
    Mistake(
        "dloss ignored",
        wrong(share=lambda d, B, K: 1 / B),
        "the gradients do not depend on dloss",
        "multiply them by dloss: the loss may be one part of a larger one",
    ),
    Mistake(
        "noise of the first pair",
        first_noise,
        "all pairs use the noise words of the first one",
        'each pair has its own K words: np.einsum("bd,bkd->bk", center, negatives)',
    ),
]

FAR = np.array([[30.0, 0.0], [-30.0, 1.0], [0.0, 0.0]])

EXERCISES = [
    Exercise(
        name="skipgram_loss",
        reference=ops.skipgram_loss,
        inputs=pairs(),
        also=[
            made(0, 1, 1, 1),
            made(1, 3, 2, 4),
            made(2, 5, 5, 5),
            made(3, 2, 0, 3),
            made(4, 4, 3, 2, 2.5),
            made(5, 2, 5, 3),
            made(6, 3, 3, 3, 0.01),
            Case(FAR, FAR[::-1].copy(), np.stack([FAR, -FAR, FAR[::-1]])),
            Case(FAR, -FAR, np.stack([-FAR, FAR, FAR])),
        ],
        mistakes=MISTAKES,
        hints=(
            "K + 1 questions for each pair: is this word near? yes for one, no for K",
            (
                "-ln σ(s) = ln(1 + exp(-s)) = np.logaddexp(0, -s), and its derivative is -σ(-s); "
                "for the noise the sign of s is turned"
            ),
            (
                'near = (center * context).sum(1), noise = np.einsum("bd,bkd->bk", center, '
                "negatives); dnear = -σ(-near) dloss / B, dnoise = σ(noise) dloss / B; then each "
                "factor of a product gets the other one times that, and center adds up K + 1 of "
                "them"
            ),
        ),
    ),
]
