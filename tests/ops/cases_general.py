"""Cases of arithmetic, elementwise functions, linear algebra, reductions and shapes."""

from __future__ import annotations

from ops.cases import Call, Case, Sampler, case

CASES: list[Case] = []


# -- arithmetic ------------------------------------------------------------------------------------


@case(CASES, "add", torch=lambda t, a, b: a + b)
def add(s: Sampler) -> Call:
    return tuple(s.broadcastable(2)), {}


@case(CASES, "sub", torch=lambda t, a, b: a - b)
def sub(s: Sampler) -> Call:
    return tuple(s.broadcastable(2)), {}


@case(CASES, "mul", torch=lambda t, a, b: a * b)
def mul(s: Sampler) -> Call:
    return tuple(s.broadcastable(2)), {}


@case(CASES, "div", torch=lambda t, a, b: a / b)
def div(s: Sampler) -> Call:
    shape_a, shape_b = s.shapes(2)
    return (s.array(*shape_a), s.array(*shape_b, away_from=(0.0,), margin=0.3)), {}


@case(CASES, "neg", torch=lambda t, x: -x)
def neg(s: Sampler) -> Call:
    return (s.array(*s.shape()),), {}


@case(CASES, "pow", torch=lambda t, a, b: a**b)
def pow(s: Sampler) -> Call:
    shape_a, shape_b = s.shapes(2)
    return (s.array(*shape_a, low=0.3, high=2.0), s.array(*shape_b)), {}


@case(CASES, "pow_scalar", torch=lambda t, x, exponent: x**exponent)
def pow_scalar_positive_base(s: Sampler) -> Call:
    x = s.array(*s.shape(), low=0.3, high=2.0)
    return (x,), {"exponent": s.choice(-2, -1, -0.5, 0, 0.5, 1, 2, 2.5, 3)}


@case(CASES, "pow_scalar", torch=lambda t, x, exponent: x**exponent)
def pow_scalar_whole_exponent(s: Sampler) -> Call:
    return (s.array(*s.shape()),), {"exponent": s.choice(0, 1, 2, 3)}
