"""Cases of arithmetic, elementwise functions, linear algebra, reductions and shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
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


@case(CASES, "pow", torch=lambda t, a, b: a**b)
def pow_negative_base(s: Sampler) -> Call:
    # a whole power of a negative number: real, but with no derivative by the exponent
    shape_a, shape_b = s.shapes(2)
    a = s.array(*shape_a, away_from=(0.0,), margin=0.2)
    return (a, s.rng.integers(-3, 4, shape_b).astype(np.int8)), {}  # int64 would widen float32


@case(CASES, "maximum", torch=lambda t, a, b: t.maximum(a, b), note="ties are in test_ties")
def maximum(s: Sampler) -> Call:
    a, b = _apart(s)
    return (a, b), {}


@case(CASES, "minimum", torch=lambda t, a, b: t.minimum(a, b), note="ties are in test_ties")
def minimum(s: Sampler) -> Call:
    a, b = _apart(s)
    return (a, b), {}


def _apart(s: Sampler) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays that broadcast and of which no two elements are close."""
    shape_a, shape_b = s.shapes(2)
    size_a, size_b = math.prod(shape_a), math.prod(shape_b)
    values = s.distinct(size_a + size_b)
    return s.layout(values[:size_a].reshape(shape_a)), s.layout(values[size_a:].reshape(shape_b))


# -- elementwise -----------------------------------------------------------------------------------


@case(CASES, "exp", torch=lambda t, x: t.exp(x))
def exp(s: Sampler) -> Call:
    return (s.array(*s.shape()),), {}


@case(CASES, "log", torch=lambda t, x: t.log(x), note="positive")
def log(s: Sampler) -> Call:
    return (s.array(*s.shape(), low=0.2, high=3.0),), {}


@case(CASES, "sqrt", torch=lambda t, x: t.sqrt(x), note="positive")
def sqrt(s: Sampler) -> Call:
    return (s.array(*s.shape(), low=0.2, high=3.0),), {}


@case(CASES, "abs", torch=lambda t, x: t.abs(x), note="away from the kink at 0")
def abs(s: Sampler) -> Call:
    return (s.array(*s.shape(), away_from=(0.0,)),), {}


@case(CASES, "sin", torch=lambda t, x: t.sin(x))
def sin(s: Sampler) -> Call:
    return (s.array(*s.shape(), low=-5.0, high=5.0),), {}


@case(CASES, "cos", torch=lambda t, x: t.cos(x))
def cos(s: Sampler) -> Call:
    return (s.array(*s.shape(), low=-5.0, high=5.0),), {}


@case(
    CASES,
    "clip",
    torch=lambda t, x, min=None, max=None: t.clamp(x, min, max),
    note="away from both bounds",
)
def clip(s: Sampler) -> Call:
    x = s.array(*s.shape(), away_from=(-0.7, 1.0))
    return (x,), s.choice({"min": -0.7}, {"max": 1}, {"min": -0.7, "max": 1.0})


@case(CASES, "where", torch=lambda t, x, y, condition: t.where(condition, x, y))
def where(s: Sampler) -> Call:
    shape_x, shape_y, shape_c = s.shapes(3)
    condition = s.layout(s.rng.random(shape_c) < 0.5)
    return (s.array(*shape_x), s.array(*shape_y)), {"condition": condition}


@case(CASES, "astype", torch=lambda t, x, dtype: x.to(t.float64), keeps_dtype=False)
def astype_same(s: Sampler) -> Call:
    return (s.array(*s.shape()),), {"dtype": s.choice("float64", np.float64)}


# -- linear algebra --------------------------------------------------------------------------------


@case(CASES, "matmul", torch=lambda t, a, b: t.matmul(a, b))
def matmul(s: Sampler) -> Call:
    n, k, m = (s.choice(1, 2, 3, 4) for _ in range(3))
    if s.integer(0, 9) == 9:
        n, k, m = s.choice((0, k, m), (n, 0, m), (n, k, 0))
    batch_a, batch_b = s.shapes(2, max_dims=3, max_size=8)
    a = s.array(*s.choice((k,), (n, k), (*batch_a, n, k), (*batch_a, n, k)))
    b = s.array(*s.choice((k,), (k, m), (*batch_b, k, m), (*batch_b, k, m)))
    return (a, b), {}


def _operands(s: Sampler, equation: str) -> Call:
    """Operands that fit, whose letters have any size, and whose '...' broadcast."""
    terms = equation.partition("->")[0].replace(" ", "").split(",")
    letters = sorted({*"".join(terms)} - {"."})
    sizes = {letter: s.choice(2, 3, 1) for letter in letters}
    if letters and s.integer(0, 9) == 9:
        sizes[s.choice(*letters)] = 0
    operands = []
    for term, extra in zip(terms, s.shapes(len(terms), max_dims=2, max_size=6), strict=True):
        before, dots, after = term.partition("...")
        shape = [*(sizes[c] for c in before), *(extra if dots else ()), *(sizes[c] for c in after)]
        operands.append(s.array(*shape))
    return tuple(operands), {"equation": equation}


def _torch_einsum(t: Any, *xs: Any, equation: str) -> Any:
    return t.einsum(equation, *xs)


@case(CASES, "einsum", torch=_torch_einsum)
def einsum_one(s: Sampler) -> Call:
    return _operands(s, s.choice("ij->ji", "ba", "ij->", "ij->j", "i...->...i", "...ij->...j"))


@case(CASES, "einsum", torch=_torch_einsum)
def einsum_two(s: Sampler) -> Call:
    return _operands(
        s,
        s.choice(
            "ij,jk->ik", "ij,jk", "i,j->ij", "i,i->", "i,i->i", "ij,ij->j", "bij,bjk->bik",
            "bqd,bkd->bqk", "ij,kl->jk", "ij,k->k", "A b c, c A -> b A", ",->", ",i",
        ),
    )  # fmt: skip


@case(CASES, "einsum", torch=_torch_einsum)
def einsum_three(s: Sampler) -> Call:
    return _operands(s, s.choice("ij,jk,kl->il", "ij,i,j->", "i,,j->ij", "i,ij,j->j", "a,b,c->b"))


@case(CASES, "einsum", torch=_torch_einsum)
def einsum_broadcasting(s: Sampler) -> Call:
    return _operands(
        s,
        s.choice(
            "...ij,...jk->...ik", "i,...i->...", "...i,...i->i...", "a...b,b...->a...", "...,...",
            "...i,...i,...i->...", "...i,i,...->i...",
        ),
    )  # fmt: skip


# -- reductions ------------------------------------------------------------------------------------


def _torch_axes(x: Any, axis: Any) -> tuple[int, ...]:
    """PyTorch takes an empty tuple for all axes, NumPy for none."""
    return tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis


def _torch_reduction(name: str) -> Any:
    def reduce(t: Any, x: Any, axis: Any, keepdims: bool, **options: Any) -> Any:
        axes = _torch_axes(x, axis)
        if not axes and name != "var":
            return x.clone()
        return getattr(t, name)(x, axes, keepdim=keepdims, **options)

    return reduce


def _reduced(s: Sampler, x: np.ndarray) -> Call:
    return (x,), {"axis": s.axes(x.ndim), "keepdims": s.choice(False, True)}


@case(CASES, "sum", torch=_torch_reduction("sum"))
def sum(s: Sampler) -> Call:
    return _reduced(s, s.array(*s.shape()))


@case(CASES, "mean", torch=_torch_reduction("mean"))
def mean(s: Sampler) -> Call:
    if s.integer(0, 9) == 9:  # means of something, but none of them
        return (s.array(2, 0, 3),), {"axis": 0, "keepdims": False}
    return _reduced(s, s.array(*s.shape(min_side=1)))


@case(CASES, "var", torch=_torch_reduction("var"))
def var(s: Sampler) -> Call:
    x = s.array(*s.shape(min_dims=1, min_side=2))
    axes = s.choice(None, s.axis(x.ndim), tuple({0, x.ndim - 1}))
    return (x,), {
        "axis": axes,
        "correction": s.choice(1, 0, 0.5),
        "keepdims": s.choice(False, True),
    }


@case(CASES, "amax", torch=_torch_reduction("amax"), note="no ties: they are in test_ties")
def amax(s: Sampler) -> Call:
    return _reduced(s, s.distinct(*s.shape(min_side=1)))


@case(CASES, "amin", torch=_torch_reduction("amin"), note="no ties: they are in test_ties")
def amin(s: Sampler) -> Call:
    return _reduced(s, s.distinct(*s.shape(min_side=1)))


@case(CASES, "cumsum", torch=lambda t, x, axis: t.cumsum(x, axis))
def cumsum(s: Sampler) -> Call:
    x = s.array(*s.shape(min_dims=1))
    return (x,), {"axis": s.axis(x.ndim)}


# -- shapes ----------------------------------------------------------------------------------------


@case(CASES, "reshape", torch=lambda t, x, shape: t.reshape(x, _tuple(shape)))
def reshape(s: Sampler) -> Call:
    x = s.array(*s.shape())
    options = [(*x.shape[::-1], 1), (1, *x.shape)]
    if x.size:
        options += [(-1,), -1, (1, -1, x.shape[-1] if x.ndim else 1)]
    return (x,), {"shape": s.choice(*options)}


def _tuple(shape: Any) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


@case(CASES, "permute", torch=lambda t, x, axes: t.permute(x, axes))
def permute(s: Sampler) -> Call:
    x = s.array(*s.shape())
    axes = [int(axis) - s.choice(0, x.ndim) for axis in s.rng.permutation(x.ndim)]
    return (x,), {"axes": tuple(axes)}


@case(CASES, "broadcast_to", torch=lambda t, x, shape: t.broadcast_to(x, shape))
def broadcast_to(s: Sampler) -> Call:
    shape = s.shape()
    narrow = tuple(1 if s.choice(False, True) else side for side in shape)
    x = s.array(*narrow[s.integer(0, len(shape)) :])
    return (x,), {"shape": shape}


@case(CASES, "concatenate", torch=lambda t, *xs, axis=0: t.cat(xs, axis))
def concatenate(s: Sampler) -> Call:
    shape = list(s.shape(min_dims=1, max_dims=4))
    axis = s.axis(len(shape))
    xs = []
    for _ in range(s.integer(1, 3)):
        shape[axis] = s.integer(0, 3)
        xs.append(s.array(*shape))
    return tuple(xs), {"axis": axis}


@case(CASES, "stack", torch=lambda t, *xs, axis=0: t.stack(xs, axis))
def stack(s: Sampler) -> Call:
    shape = s.shape(max_dims=4)
    xs = [s.array(*shape) for _ in range(s.integer(1, 3))]
    return tuple(xs), {"axis": s.axis(len(shape) + 1)}


@case(CASES, "split", torch=lambda t, x, sizes, axis: t.split(x, sizes, axis))
def split(s: Sampler) -> Call:
    x = s.array(*s.shape(min_dims=1))
    axis = s.axis(x.ndim)
    first = s.integer(0, x.shape[axis])
    second = s.integer(0, x.shape[axis] - first)
    sizes = s.choice(1, 2, 3, (first, second, x.shape[axis] - first - second))
    return (x,), {"sizes": sizes, "axis": axis}


@case(CASES, "pad", torch=lambda t, x, **o: _torch_pad(t, x, **o))
def pad(s: Sampler) -> Call:
    x = s.array(*s.shape(max_dims=4))
    each = tuple((s.integer(0, 2), s.integer(0, 2)) for _ in range(x.ndim))
    return (x,), {"pad_width": s.choice(1, (2, 1), each), "value": s.choice(0.0, -1.5)}


def _torch_pad(t: Any, x: Any, pad_width: Any, value: float) -> Any:
    pairs = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist() if x.ndim else []
    flat = [width for pair in pairs[::-1] for width in pair]  # PyTorch begins with the last axis
    return t.nn.functional.pad(x, flat, value=value) if flat else x.clone()


# -- indexing --------------------------------------------------------------------------------------


@case(CASES, "getitem", torch=lambda t, x, index: x[index])
def getitem_basic(s: Sampler) -> Call:
    x = s.array(*s.shape(min_dims=1, min_side=1))
    items: list[Any] = []
    for side in x.shape[: s.integer(0, x.ndim)]:
        start, stop = s.integer(-side, side), s.integer(-side, side)
        items.append(s.choice(s.integer(-side, side - 1), slice(start, stop), slice(None, None, 2)))
    if s.choice(True, False):
        items.insert(s.integer(0, len(items)), None)
    if s.choice(True, False):
        items.append(...)
    index = items[0] if len(items) == 1 and s.choice(True, False) else tuple(items)
    return (x,), {"index": index}


@case(CASES, "getitem", torch=lambda t, x, index: x[_torch_index(t, index)])
def getitem_arrays(s: Sampler) -> Call:
    x = s.array(*s.shape(min_dims=3, max_dims=4, min_side=1))
    shape = s.shape(max_dims=2)
    first, second = (s.rng.integers(-n, n, shape) for n in x.shape[:2])
    index = s.choice(
        (s.layout(first),),
        (first, second),
        (first, 0),
        (slice(None), second),
        (first, slice(0, 1), s.rng.integers(x.shape[2], size=shape)),
        (..., s.rng.integers(x.shape[-1], size=shape)),
        (None, first),
        [0, 0, -1],
    )
    return (x,), {"index": index}


@case(CASES, "getitem", torch=lambda t, x, index: x[_torch_index(t, index)])
def getitem_masks(s: Sampler) -> Call:
    x = s.array(*s.shape(min_dims=2))
    mask = s.layout(s.rng.random(x.shape) < 0.5)
    rows = s.rng.random(x.shape[0]) < 0.5
    columns = s.rng.random(x.shape[1]) < 0.5
    index = s.choice(mask, rows, (rows,), (slice(None), columns), (..., None, mask))
    return (x,), {"index": index}


def _torch_index(t: Any, index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_torch_index(t, item) for item in index)
    return t.from_numpy(index.copy()) if isinstance(index, np.ndarray) else index
