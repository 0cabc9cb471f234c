"""Check 23: GELU in both forms, SwiGLU, and what is often done instead."""

import math

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, cases, normal, shapes
from scratchlm.ops.special import erf

C, K = math.sqrt(2 / math.pi), 0.044715
HAND = np.array([[1.0, -1.0, 2.0], [0.5, 0.0, -3.0]])
FAR = np.array([[-1e4, -12.0, -5.5], [5.5, 12.0, 1e4]])

GELU_ALSO = [
    Case(HAND),
    Case(HAND, approximate="tanh"),
    Case(FAR),
    Case(FAR, approximate="tanh"),
]


@st.composite
def pairs(draw):
    shape = draw(shapes(1, 3))
    return Case(draw(normal(shape, scale=2.0)), draw(normal(shape, scale=2.0)))


SWIGLU_ALSO = [
    Case(HAND, np.array([[2.0, 3.0, -1.0], [0.0, 4.0, 0.5]])),
    Case(FAR, np.array([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]])),
]


# ------------------------------------------------------- gelu: the right steps, one is replaced


def Phi(x):
    return (1 + erf(x / math.sqrt(2))) / 2


def phi(x):
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def product_rule(x, cdf, density):
    return cdf + x * density


def inner(x):
    return C * (x + K * x**3)


def inner_slope(x):
    return C * (1 + 3 * K * x**2)


def tanh_slope(x, t, du):
    return (1 + t) / 2 + x * (1 - t * t) * du / 2


def exact_with(cdf=Phi, density=phi, slope=product_rule):
    def exact(x):
        p = cdf(x)
        return x * p, lambda dy: dy * slope(x, p, density(x))

    return exact


def tanh_with(u=inner, du=inner_slope, slope=tanh_slope, value=lambda x, t: x * (1 + t) / 2):
    def approximated(x):
        t = np.tanh(u(x))
        return value(x, t), lambda dy: dy * slope(x, t, du(x))

    return approximated


EXACT, TANH = exact_with(), tanh_with()


def gelu_with(exact=EXACT, approximated=TANH):
    """GELU with one of its two forms replaced."""

    def gelu(x, *, approximate="none"):
        return (approximated if approximate == "tanh" else exact)(x)

    return gelu


def sigmoid(x):
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


def quick(x):
    s = sigmoid(1.702 * x)
    return x * s, lambda dy: dy * (s + x * 1.702 * s * (1 - s))


def scaled(f, factor):
    """Forward and backward both off by a factor."""

    def op(x):
        y, vjp = f(x)
        return factor * y, lambda dy: factor * vjp(dy)

    return op


def cdf_alone(x):
    p = Phi(x)
    return p, lambda dy: dy * phi(x)


def without_dy(f):
    def op(x):
        y, vjp = f(x)
        return y, lambda dy: vjp(np.ones_like(dy))

    return op


def float64_out(x):
    p = (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2))) / 2
    return x * p, lambda dy: dy * (p + x * phi(x))


def cube_in_place(x):
    y, vjp = tanh_with()(x.copy())
    x **= 3
    return y, vjp


def dy_in_place(f):
    def op(x):
        y, vjp = f(x)

        def back(dy):
            dx = vjp(dy)
            dy *= dx
            return dx

        return y, back

    return op


GELU_MISTAKES = [
    Mistake(
        "coefficient outside",
        gelu_with(approximated=tanh_with(lambda x: C * x + K * x**3, lambda x: C + 3 * K * x**2)),
        "0.044715 x³ stands outside the bracket: √(2/π) multiplies x only",
        "how far does the bracket reach? Try x = 2 with a calculator",
    ),
    Mistake(
        "no cube",
        gelu_with(approximated=tanh_with(lambda x: C * (x + K * x), lambda x: C * (1 + K))),
        "0.044715 multiplies x: the cube is missing",
        "without the cube u is a straight line in x. What is the small number then good for?",
    ),
    Mistake(
        "square for the cube",
        gelu_with(
            approximated=tanh_with(lambda x: C * (x + K * x**2), lambda x: C * (1 + 2 * K * x))
        ),
        "x is squared where its cube belongs",
        "u must change its sign with x, as x itself does: which powers do that?",
    ),
    Mistake(
        "root of 2π",
        gelu_with(
            approximated=tanh_with(
                lambda x: math.sqrt(2 * math.pi) * (x + K * x**3),
                lambda x: math.sqrt(2 * math.pi) * (1 + 3 * K * x**2),
            )
        ),
        "the factor is √(2π) = 2.5066; it should be √(2/π) = 0.7979",
        "the factor is twice the density of the normal distribution at 0: 2 / √(2π) = √(?)",
    ),
    Mistake(
        "erf of x",
        gelu_with(exact_with(cdf=lambda x: (1 + erf(x)) / 2)),
        "Φ is built from erf(x); it needs erf(x / √2)",
        "erf belongs to exp(-t²), the normal distribution to exp(-t²/2): which t makes them equal?",
    ),
    Mistake(
        "Φ not halved",
        gelu_with(scaled(exact_with(), 2)),
        "1 + erf runs from 0 to 2; a probability runs from 0 to 1",
        "what should Φ(0) be, and what is it with your line?",
    ),
    Mistake(
        "tanh form not halved",
        gelu_with(approximated=scaled(tanh_with(), 2)),
        "1 + tanh runs from 0 to 2; it stands for a probability, which runs from 0 to 1",
        "what should y be for a large x, and what is it with your line?",
    ),
    Mistake(
        "Φ without x",
        gelu_with(cdf_alone),
        "the result is Φ(x) itself: the factor x is missing",
        "for a large x, gelu is nearly the line y = x",
    ),
    Mistake(
        "path through Φ forgotten",
        gelu_with(exact_with(slope=lambda x, cdf, density: cdf)),
        "in the exact form the derivative is Φ(x) alone: x φ(x) is missing",
        "x stands in y = x Φ(x) twice. Which of the two have you followed?",
    ),
    Mistake(
        "path through tanh forgotten",
        gelu_with(approximated=tanh_with(slope=lambda x, t, du: (1 + t) / 2)),
        "in the tanh form the derivative is (1 + t) / 2 alone: the path through t is missing",
        "x stands in y = x (1 + t) / 2 twice, since t depends on x",
    ),
    Mistake(
        "both second paths forgotten",
        gelu_with(
            exact_with(slope=lambda x, cdf, density: cdf),
            tanh_with(slope=lambda x, t, du: (1 + t) / 2),
        ),
        "both forms are differentiated as if the second factor were a constant",
        "the product rule has two terms. Sketch y for x < 0: where does it fall?",
    ),
    Mistake(
        "φ without x",
        gelu_with(exact_with(slope=lambda x, cdf, density: cdf + density)),
        "the second term of the product rule is φ(x), and its factor x is lost",
        "(f g)' = f' g + f g': what is f here?",
    ),
    Mistake(
        "no 1 - t²",
        gelu_with(approximated=tanh_with(slope=lambda x, t, du: (1 + t) / 2 + x * du / 2)),
        "t = tanh(u) is differentiated as if it were u: the factor 1 - t² is missing",
        "far out tanh is flat. Is your derivative flat there, too?",
    ),
    Mistake(
        "1 - t for 1 - t²",
        gelu_with(
            approximated=tanh_with(slope=lambda x, t, du: (1 + t) / 2 + x * (1 - t) * du / 2)
        ),
        "the derivative of tanh is 1 - t², not 1 - t",
        "tanh is odd, so its slope is the same at x and -x: is 1 - t?",
    ),
    Mistake(
        "inner derivative left out",
        gelu_with(approximated=tanh_with(du=lambda x: 1.0)),
        "1 - t² is the derivative by u; the factor du/dx is missing",
        "the chain from x to t has two links: x to u, and u to t",
    ),
    Mistake(
        "exponent not brought down",
        gelu_with(approximated=tanh_with(du=lambda x: C * (1 + K * x**2))),
        "the derivative of x³ is taken as x²: the 3 is missing",
        "differentiate u once more, term by term",
    ),
    Mistake(
        "density not normalized",
        gelu_with(exact_with(density=lambda x: np.exp(-x * x / 2))),
        "φ(x) is exp(-x²/2) without 1/√(2π): its area is 2.5, not 1",
        "Φ goes from 0 to 1, so the area under its derivative is 1",
    ),
    Mistake(
        "exp(-x²) for exp(-x²/2)",
        gelu_with(exact_with(density=lambda x: np.exp(-x * x) / math.sqrt(2 * math.pi))),
        "φ has exp(-x²), which is the one of erf; the normal density has exp(-x²/2)",
        "put x / √2 into exp(-t²)",
    ),
    Mistake(
        "sigmoid for tanh",
        gelu_with(approximated=quick),
        "the tanh form is x σ(1.702 x): a third form, which is off by up to 0.02",
        "approximate='tanh' names one formula, and it has a cube in it",
    ),
    Mistake(
        "sigmoid for both",
        gelu_with(quick, quick),
        "both forms are x σ(1.702 x): quick to compute, and off by up to 0.02",
        "the exact form needs erf, the other one tanh",
    ),
    Mistake(
        "always tanh",
        gelu_with(exact=tanh_with()),
        "approximate is not looked at: both forms are the tanh form",
        "the two differ in the fourth digit. The exact one needs erf",
    ),
    Mistake(
        "always exact",
        gelu_with(approximated=exact_with()),
        "approximate is not looked at: both forms are the exact form",
        "GPT-2 was trained with the tanh form, and its weights expect it",
    ),
    Mistake(
        "dy not used",
        gelu_with(without_dy(exact_with()), without_dy(tanh_with())),
        "vjp returns the derivative itself: dy is not in it",
        "the chain rule multiplies what comes from above with the slope",
    ),
    Mistake(
        "float64 results",
        gelu_with(float64_out),
        "float32 goes in and float64 comes out: np.vectorize(math.erf) always gives float64",
        "the erf of the stub ends in .astype(x.dtype)",
    ),
    Mistake(
        "x cubed in place",
        gelu_with(approximated=cube_in_place),
        "x itself has been changed: x **= 3 writes into the caller's array",
        "write x * x * x or x**3 into an array of its own",
    ),
    Mistake(
        "dy changed in place",
        gelu_with(dy_in_place(exact_with()), dy_in_place(tanh_with())),
        "vjp overwrites the cotangent that it was given; others may still need it",
        "dy *= ... writes into the caller's array; make a new one",
    ),
]


# ------------------------------------------------------- swiglu: the right steps


def silu(a, s):
    return a * s


def silu_slope(a, s):
    return s + a * s * (1 - s)


def swiglu_with(
    sigma=sigmoid,
    gate=silu,
    slope=silu_slope,
    da=lambda dy, b, slope: dy * b * slope,
    db=lambda dy, a, s, gate: dy * gate,
    order=lambda da, db: (da, db),
):
    def swiglu(a, b):
        s = sigma(a)
        g = gate(a, s)
        return g * b, lambda dy: order(da(dy, b, slope(a, s)), db(dy, a, s, g))

    return swiglu


def exp_over_itself(a):
    return np.exp(a) / (1 + np.exp(a))


def other_gated(a, b):
    y, vjp = swiglu_with()(b, a)
    return y, lambda dy: vjp(dy)[::-1]


def both_gated(a, b):
    s, r = sigmoid(a), sigmoid(b)
    return a * s * b * r, lambda dy: (
        dy * b * r * silu_slope(a, s),
        dy * a * s * silu_slope(b, r),
    )


def gelu_gate(a, b):
    return a * Phi(a) * b, lambda dy: (dy * b * (Phi(a) + a * phi(a)), dy * a * Phi(a))


def silu_alone(a, b):
    s = sigmoid(a)
    return a * s, lambda dy: (dy * silu_slope(a, s), np.zeros_like(b))


def swiglu_dy_in_place(a, b):
    y, vjp = swiglu_with()(a, b)

    def back(dy):
        gradients = vjp(dy)
        dy *= b
        return gradients

    return y, back


def a_in_place(a, b):
    y, vjp = swiglu_with()(a.copy(), b)
    a *= sigmoid(a)
    return y, vjp


def swiglu_float64(a, b):
    y, vjp = swiglu_with()(a.astype(float), b.astype(float))
    return y, lambda dy: vjp(dy.astype(float))


SWIGLU_MISTAKES = [
    Mistake(
        "gradients exchanged",
        swiglu_with(order=lambda da, db: (db, da)),
        "the gradients come back in the wrong order: a gets what belongs to b",
        "vjp returns its gradients in the order of the arguments",
    ),
    Mistake(
        "slope of sigmoid for that of silu",
        swiglu_with(slope=lambda a, s: s * (1 - s)),
        "the derivative of the gate is taken as σ (1 - σ): that is the one of σ, not of a σ(a)",
        "silu(a) = a σ(a) is a product of two things that both depend on a",
    ),
    Mistake(
        "sigmoid as a constant",
        swiglu_with(slope=lambda a, s: s),
        "the derivative of the gate is σ(a) alone: the path through σ is missing",
        "a stands in a σ(a) twice. Which of the two have you followed?",
    ),
    Mistake(
        "a missing in the slope",
        swiglu_with(slope=lambda a, s: s + s * (1 - s)),
        "in the second term of the gate's derivative the factor a is lost",
        "(f g)' = f' g + f g': what is f here?",
    ),
    Mistake(
        "σ' taken as 1 - σ",
        swiglu_with(slope=lambda a, s: s + a * (1 - s)),
        "the derivative of σ is taken as 1 - σ; a factor σ is missing",
        "lesson 02: the slope of sigmoid from its output",
    ),
    Mistake(
        "gate not multiplied in backward",
        swiglu_with(db=lambda dy, a, s, gate: dy * 1.0),
        "db is dy: the gate that b has passed through is not in it",
        "a closed gate lets nothing of b through. Should b then get a gradient?",
    ),
    Mistake(
        "b not multiplied in backward",
        swiglu_with(da=lambda dy, b, slope: dy * slope),
        "da is dy silu'(a): the b that the gate has multiplied is missing",
        "y = gate · b: what is the cotangent of the gate?",
    ),
    Mistake(
        "sigmoid for silu in db",
        swiglu_with(db=lambda dy, a, s, gate: dy * s),
        "db is dy σ(a), but the factor of b in forward is a σ(a)",
        "write down the line of forward in which b stands: what is its other factor?",
    ),
    Mistake(
        "a for silu in db",
        swiglu_with(db=lambda dy, a, s, gate: dy * a),
        "db is dy a, but the factor of b in forward is a σ(a)",
        "write down the line of forward in which b stands: what is its other factor?",
    ),
    Mistake(
        "GLU",
        swiglu_with(gate=lambda a, s: s * 1.0, slope=lambda a, s: s * (1 - s)),
        "the gate is σ(a): that is the GLU of Dauphin et al. 2017; here it is a σ(a)",
        "what does your gate do for a = 10? Swish lets ten times b through",
    ),
    Mistake(
        "GEGLU",
        gelu_gate,
        "the gate is gelu(a): Shazeer 2020 has that, too, under the name GEGLU",
        "swish is a σ(a)",
    ),
    Mistake(
        "b is the gate",
        other_gated,
        "the sigmoid is taken of b; the gate is the first argument",
        "put in b = -10 and a = 1: which of them should close the gate?",
    ),
    Mistake(
        "two gates",
        both_gated,
        "silu is applied to both; b enters as it is",
        "y must be linear in b: twice b, twice y",
    ),
    Mistake(
        "b forgotten",
        silu_alone,
        "the result is silu(a): b is not in it",
        "a gate without anything to let through is not yet a gated unit",
    ),
    Mistake(
        "exp overflows",
        swiglu_with(sigma=exp_over_itself),
        "σ(a) as exp(a) / (1 + exp(a)) is inf / inf = NaN for a large a",
        "lesson 02 has a form in which no exponent is above 0",
    ),
    Mistake(
        "a changed in place",
        a_in_place,
        "a itself has been changed: a *= ... writes into the caller's array",
        "give the gate an array of its own",
    ),
    Mistake(
        "dy changed in place",
        swiglu_dy_in_place,
        "vjp overwrites the cotangent that it was given; others may still need it",
        "dy *= ... writes into the caller's array; make a new one",
    ),
    Mistake(
        "float64 results",
        swiglu_float64,
        "float32 goes in and float64 comes out: a conversion, or an np.zeros without dtype",
        "print the dtype after each line, for float32 inputs: where does it change?",
    ),
]


EXERCISES = [
    Exercise(
        name="gelu",
        reference=ops.gelu,
        elementwise=True,
        inputs=cases(
            normal(shapes(1, 3), scale=2.0), approximate=st.sampled_from(["none", "tanh"])
        ),
        also=GELU_ALSO,
        mistakes=GELU_MISTAKES,
        hints=(
            (
                "Write the two forms as two functions. In both, x stands twice: once in the open, "
                "once inside Φ or tanh. So both derivatives have two terms."
            ),
            (
                "The derivative of Φ is the normal density, φ(x) = exp(-x²/2) / √(2π). For the "
                "tanh form give u, t and y a name each: the derivative of t by u is 1 - t², and "
                "that of u by x has a term in x²."
            ),
            (
                "Exact: dy (Φ + x φ). Tanh: dy ((1 + t)/2 + x (1 - t²) u'/2) with "
                "u' = √(2/π) (1 + 3 · 0.044715 x²)."
            ),
        ),
    ),
    Exercise(
        name="swiglu",
        reference=ops.swiglu,
        elementwise=True,
        inputs=pairs(),
        also=SWIGLU_ALSO,
        mistakes=SWIGLU_MISTAKES,
        hints=(
            (
                "Call a σ(a) the gate. Then y = gate · b, a product of two, and the gate is a "
                "product of two again."
            ),
            (
                "From y = gate · b you get db and the cotangent of the gate. From gate = a σ(a), "
                "with σ' = σ (1 - σ), you get its slope. For a sigmoid that never overflows look "
                "at lesson 02."
            ),
            "db = dy gate, da = dy b (σ + a σ (1 - σ)), returned in the order of the arguments.",
        ),
    ),
]
