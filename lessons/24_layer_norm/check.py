"""Check 24: layer normalization over the last axis, and what is often done instead."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal


@st.composite
def inputs(draw):
    rows = draw(st.sampled_from([(), (1,), (3,), (2, 3), (2, 1, 3)]))
    d = draw(st.integers(2, 6))
    x = draw(normal((*rows, d), scale=draw(st.sampled_from([0.1, 1.0, 10.0]))))
    weight, bias = draw(normal((d,))), draw(normal((d,)))
    return Case(x, weight, bias, eps=draw(st.sampled_from([1e-5, 0.1])))


def made(seed, *shape, offset=0.0, **options):
    rng = np.random.default_rng(seed)
    d = shape[-1]
    x = offset + rng.standard_normal(shape)
    return Case(x, rng.standard_normal(d), rng.standard_normal(d), **options)


ALSO = [
    Case(
        np.array([[1.0, 4.0, 7.0], [2.0, 2.0, 5.0]]),
        np.array([1.0, 2.0, 0.5]),
        np.array([0.0, 1.0, -1.0]),
    ),
    made(0, 3, 4),
    made(1, 3, 3),  # square: a wrong axis keeps the shape
    made(2, 2, 3, 4, eps=0.5),
    made(3, 5),
    made(4, 2, 3, offset=1e6),  # far from 0 beside its spread
    Case(np.full((2, 3), 3.0), np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.0, -0.5])),  # variance 0
]


# ------------------------------------------------ the right steps, each of which a mistake replaces


def mean(a):
    return a.mean(axis=-1, keepdims=True)


def variance(x):
    return mean((x - mean(x)) ** 2)


def one_over_root(var, eps):
    return 1 / np.sqrt(var + eps)


def three_paths(g, n, r):
    return r * (g - mean(g) - n * mean(g * n))


def over_rows(a):
    return a.sum(axis=tuple(range(a.ndim - 1)))


def wrong(
    *,
    center=mean,
    var=variance,
    root=one_over_root,
    through=three_paths,
    dx=None,
    dweight=lambda dy, n, x: over_rows(dy * n),
    dbias=over_rows,
    order=lambda dx, dw, db: (dx, dw, db),
):
    """Layer norm with one of its steps replaced."""

    def layer_norm(x, weight, bias, *, eps=1e-5):
        r = root(var(x), eps)
        n = (x - center(x)) * r
        y = n * weight + bias

        def vjp(dy):
            back = through(dy * weight, n, r) if dx is None else dx(dy, weight, n, r)
            return order(back, dweight(dy, n, x), dbias(dy))

        return y, vjp

    return layer_norm


def squares_minus_square(x):
    return mean(x**2) - mean(x) ** 2


def along(axis):
    """Every mean, in forward and in backward, over this axis."""

    def m(a):
        return a.mean(axis=axis, keepdims=True)

    return wrong(
        center=m,
        var=lambda x: m((x - m(x)) ** 2),
        through=lambda g, n, r: r * (g - m(g) - n * m(g * n)),
    )


def unbiased(x):
    return x.var(axis=-1, ddof=1, keepdims=True)


def sums_for_means(g, n, r):
    return r * (g - g.sum(axis=-1, keepdims=True) - n * (g * n).sum(axis=-1, keepdims=True))


def in_place(x, weight, bias, *, eps=1e-5):
    x -= mean(x)
    r = one_over_root(mean(x**2), eps)
    x *= r
    n = x

    def vjp(dy):
        return three_paths(dy * weight, n, r), over_rows(dy * n), over_rows(dy)

    return n * weight + bias, vjp


def mean_off_in_place(x, weight, bias, *, eps=1e-5):
    x -= mean(x)
    return wrong(center=lambda x: 0)(x, weight, bias, eps=eps)


def cotangent_in_place(x, weight, bias, *, eps=1e-5):
    r = one_over_root(variance(x), eps)
    n = (x - mean(x)) * r

    def vjp(dy):
        dweight, dbias = over_rows(dy * n), over_rows(dy)
        dy *= weight
        return three_paths(dy, n, r), dweight, dbias

    return n * weight + bias, vjp


def in_float64(x, weight, bias, *, eps=1e-5):
    y, vjp = wrong()(x.astype(float), weight.astype(float), bias.astype(float), eps=eps)
    return y, lambda dy: vjp(dy.astype(float))


MISTAKES = [
    Mistake(
        "epsilon outside the root",
        wrong(root=lambda var, eps: 1 / (np.sqrt(var) + eps)),
        "eps is added to the standard deviation; it belongs to the variance, under the root",
        "read the formula aloud: the root of what? Then try a row whose numbers are almost equal",
    ),
    Mistake(
        "no epsilon",
        wrong(root=lambda var, eps: 1 / np.sqrt(var)),
        "eps is not used: a row of equal numbers is divided by 0",
        "which number keeps the root away from 0, and where does it stand?",
    ),
    Mistake(
        "unbiased variance",
        wrong(var=unbiased),
        "the variance is divided by d - 1; layer norm divides by d",
        "the d numbers are all there is, not a sample of more: take their plain mean square",
    ),
    Mistake(
        "variance for the standard deviation",
        wrong(root=lambda var, eps: 1 / (var + eps)),
        "the deviations are divided by the variance itself: its root is missing",
        "multiply a row by 10. What happens to the variance, and what should happen to y?",
    ),
    Mistake(
        "mean of squares minus square of the mean",
        wrong(var=squares_minus_square),
        "mean(x²) - mean(x)² is right on paper, but cancels all digits where x is far from 0",
        "take the mean off first, then square",
    ),
    Mistake(
        "mean not taken off",
        wrong(center=lambda x: 0),
        "x is divided by its standard deviation, but its mean is still there",
        "add 1 to all of a row: y must not notice",
    ),
    Mistake(
        "axis of batch norm",
        along(0),
        "mean and variance run over axis 0, from row to row: that is batch norm",
        "print y.mean(axis=-1) with weight 1 and bias 0: what should it be for each row?",
    ),
    Mistake(
        "one mean for everything",
        along(None),
        "there is one mean and one variance for the whole array; each row has its own",
        "what shape must the mean have, so that it can be taken off row by row?",
    ),
    Mistake(
        "path through the mean forgotten",
        wrong(through=lambda g, n, r: r * (g - n * mean(g * n))),
        "dx is what it would be if the mean were a constant",
        "add the same amount to all of a row: y stays, so what must dx add up to?",
    ),
    Mistake(
        "path through the variance forgotten",
        wrong(through=lambda g, n, r: r * (g - mean(g))),
        "dx is what it would be if the variance were a constant",
        "stretch a row about its mean: y stays, so what must the sum of dx · n be?",
    ),
    Mistake(
        "mean and variance as constants",
        wrong(through=lambda g, n, r: r * g),
        "dx takes the direct path only: mean and variance are used as if they were constants",
        "x_i stands in three places of the formula; mark them, and follow each",
    ),
    Mistake(
        "sums for means",
        wrong(through=sums_for_means),
        "backward takes sums over the row where means belong",
        "the mean gives each x_i the weight 1/d: where has that factor gone?",
    ),
    Mistake(
        "no standard deviation in backward",
        wrong(through=lambda g, n, r: g - mean(g) - n * mean(g * n)),
        "forward divides by the standard deviation, backward does not",
        "if forward is n = (x - mean) r, what is the factor of the direct path?",
    ),
    Mistake(
        "weight missing in dx",
        wrong(dx=lambda dy, weight, n, r: three_paths(dy, n, r)),
        "dx starts from dy, but between y and the normalized row stands the weight",
        "y = n · weight + bias: what is the cotangent of n?",
    ),
    Mistake(
        "weight after the means",
        wrong(dx=lambda dy, weight, n, r: three_paths(dy, n, r) * weight),
        "dx is multiplied by the weight at its end, when the means are taken already",
        "backward goes from the last line of forward to the first: the weight comes first",
    ),
    Mistake(
        "x for n in dweight",
        wrong(dweight=lambda dy, n, x: over_rows(dy * x)),
        "dweight multiplies dy with x; the weight has met the normalized row, not x",
        "write down the line of forward in which weight stands: what is its other factor?",
    ),
    Mistake(
        "dweight without n",
        wrong(dweight=lambda dy, n, x: over_rows(dy)),
        "dweight is the sum of dy alone, as dbias is",
        "the weight is a factor, the bias a summand: which of them needs the other factor?",
    ),
    Mistake(
        "summed over the first axis only",
        wrong(
            dweight=lambda dy, n, x: (dy * n).sum(axis=0),
            dbias=lambda dy: dy.sum(axis=0),
        ),
        "dweight and dbias are summed over axis 0: right for [rows, d], wrong for [batch, time, d]",
        "sum over every axis but the last, however many there are",
    ),
    Mistake(
        "not summed over the rows",
        wrong(dweight=lambda dy, n, x: dy * n, dbias=lambda dy: dy * 1),
        "dweight and dbias have the shape of x: what each row asks for has not been added up",
        "one weight served all rows; lesson 01 tells what happens to gradients at a fan-out",
    ),
    Mistake(
        "dweight and dbias exchanged",
        wrong(order=lambda dx, dw, db: (dx, db, dw)),
        "the gradients come back in the wrong order: weight gets what belongs to bias",
        "vjp returns its gradients in the order of the arguments",
    ),
    Mistake(
        "x changed in place",
        in_place,
        "x itself is overwritten: in a GPT it is the residual stream, which others still read",
        "x -= ... and x *= ... write into the caller's array; make a new one",
    ),
    Mistake(
        "mean taken off in place",
        mean_off_in_place,
        "taking the mean off has changed x itself, and the caller's x is gone",
        "x -= ... writes into the caller's array; give the difference a name of its own",
    ),
    Mistake(
        "dy changed in place",
        cotangent_in_place,
        "vjp overwrites the cotangent that it was given; others may still need it",
        "dy *= ... writes into the caller's array; make a new one",
    ),
    Mistake(
        "float64 results",
        in_float64,
        "float32 goes in and float64 comes out: a conversion, or an np.zeros without dtype",
        "print the dtype after each line, for float32 inputs: where does it change?",
    ),
]

EXERCISES = [
    Exercise(
        name="layer_norm",
        reference=ops.layer_norm,
        inputs=inputs(),
        also=ALSO,
        mistakes=MISTAKES,
        hints=(
            (
                "Give each step of forward a name: mean, var, r = 1 / √(var + eps), n, y. Write "
                "down its shape; keepdims=True saves you from reshaping. Then go back, from y to "
                "x, and add up every path on which x is reached."
            ),
            (
                "y = n · weight + bias gives dbias, dweight, and g = dy · weight for n. Then x_i "
                "reaches n_j directly, through the mean (1/d for each), and through the variance, "
                "whose derivative is 2 (x_i - mean) / d. Write (x_i - mean) r as n_i: much falls "
                "away."
            ),
            (
                "dx = r * (g - mean of g - n * mean of g * n), means over the last axis with "
                "keepdims=True. dweight is dy * n, dbias is dy, both summed over "
                "tuple(range(x.ndim - 1)). Neither x nor dy may be changed."
            ),
        ),
    ),
]
