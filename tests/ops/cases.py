"""What every op is tried on: one :class:`Case` for each way to call it.

A case is written as a function that builds one call from a :class:`Sampler`, and is decorated with
the op's name and what PyTorch calls the same thing::

    CASES: list[Case] = []

    @case(CASES, "maximum", torch=lambda t, a, b: t.maximum(a, b))
    def maximum(s):
        a, b = s.broadcastable(2)
        return (a, b), {}

The arrays are float64 (or integers, where the op takes ids); the harness makes the float32 ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

Call = tuple[tuple[Any, ...], dict[str, Any]]  # (arrays, options)


@dataclass(frozen=True)
class Case:
    """One way to call an op.

    Attributes:
        op: the op's name in the registry.
        inputs: a Hypothesis strategy of ``(arrays, options)``. An option that is a
            ``numpy.random.Generator`` is copied before every call: each sees the same numbers.
        torch: ``(torch, *tensors, **options) -> tensor or tuple``, or None where PyTorch has none.
        name: tells apart the cases of one op.
        note: what the inputs stay away from, e.g. a kink.
        float32_ulps: how many units of float32 rounding, relative to the array's largest value, the
            float32 result may differ from PyTorch's float64 one.
        keeps_dtype: float32 in gives float32 out.
    """

    op: str
    inputs: st.SearchStrategy[Call]
    torch: Callable[..., Any] | None
    name: str
    note: str = ""
    float32_ulps: float = 32
    keeps_dtype: bool = True

    def __str__(self) -> str:
        return self.name


class Sampler:
    """Builds arrays: Hypothesis chooses shapes, layouts and options, a seeded generator the values.

    (Hypothesis would choose each value too, but a wrong formula is wrong at any generic point, and
    shapes are where the special cases are.)
    """

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    # -- choices -------------------------------------------------------------------------------

    def integer(self, low: int, high: int) -> int:
        """An integer, both ends included."""
        return self.draw(st.integers(low, high))

    def choice(self, *values: Any) -> Any:
        return self.draw(st.sampled_from(values))

    def shape(
        self,
        min_dims: int = 0,
        max_dims: int = 5,
        min_side: int = 0,
        max_side: int = 4,
        max_size: int = 64,
    ) -> tuple[int, ...]:
        """A shape of ``max_size`` elements or not many more (where ``min_side`` wants it so).

        One in ten is empty, if ``min_side`` is 0.
        """
        shape: list[int] = []
        for _ in range(self.integer(min_dims, max_dims)):
            room = max(1, max_size // math.prod(shape))
            shape.append(self.integer(max(1, min_side), max(min_side, min(max_side, room))))
        if shape and not min_side and self.integer(0, 9) == 9:
            shape[self.integer(0, len(shape) - 1)] = 0
        return tuple(shape)

    def axis(self, ndim: int) -> int:
        """An axis, counted from either end."""
        return self.integer(-ndim, ndim - 1)

    def axes(self, ndim: int) -> int | tuple[int, ...] | None:
        """What ``axis=`` of a reduction may be: None, one axis, or several."""
        if not ndim:
            return self.choice(None, ())
        some = self.draw(st.lists(st.integers(0, ndim - 1), unique=True, max_size=ndim))
        some = [axis - self.choice(0, ndim) for axis in some]
        return self.choice(None, self.axis(ndim), tuple(some))

    # -- arrays --------------------------------------------------------------------------------

    def array(
        self,
        *shape: int,
        low: float = -2.0,
        high: float = 2.0,
        away_from: tuple[float, ...] = (),
        margin: float = 0.05,
    ) -> np.ndarray:
        """Uniform float64 values, at least ``margin`` from each kink, in any memory layout."""
        values = self.rng.uniform(low, high, shape)
        for kink in away_from:
            side = np.where(values < kink, -1.0, 1.0)
            values = np.where(np.abs(values - kink) < margin, kink + side * 2 * margin, values)
        return self.layout(values)

    def distinct(self, *shape: int, gap: float = 0.05) -> np.ndarray:
        """Values that differ from each other by at least ``gap``: no ties for max, min, sort."""
        size = math.prod(shape)
        values = (self.rng.permutation(size) - size / 2) * gap * 2 + self.rng.uniform(0, gap, size)
        return self.layout(values.reshape(shape))

    def ids(self, *shape: int, size: int) -> np.ndarray:
        """Integers in ``[0, size)``, duplicates likely."""
        return self.layout(self.rng.integers(0, size, shape))

    def layout(self, x: np.ndarray) -> np.ndarray:
        """The same values as ``x``: contiguous, in Fortran order, strided or reversed."""
        x = np.asarray(x)
        kind = self.choice("contiguous", "fortran", "strided", "reversed")
        if kind == "fortran":
            return x.copy(order="F")
        if kind == "strided":
            wide = np.full((*x.shape, 2), -7, x.dtype)
            wide[..., 0] = x
            return wide[..., 0]
        if kind == "reversed" and x.ndim:
            return x[..., ::-1].copy()[..., ::-1]
        return x.copy()

    def shapes(self, n: int, max_dims: int = 5, max_size: int = 64) -> list[tuple[int, ...]]:
        """``n`` shapes that broadcast against each other."""
        full = self.shape(max_dims=max_dims, max_size=max_size)
        shapes = []
        for _ in range(n):
            kept = full[self.integer(0, len(full)) if self.choice(True, False) else 0 :]
            shapes.append(tuple(1 if self.integer(0, 3) == 3 else side for side in kept))
        return shapes

    def broadcastable(self, n: int, **options: Any) -> list[np.ndarray]:
        """``n`` arrays that broadcast against each other; options as for :meth:`array`."""
        return [self.array(*shape, **options) for shape in self.shapes(n)]


def case(
    cases: list[Case], op: str, *, torch: Callable[..., Any] | None, **attributes: Any
) -> Callable[[Callable[[Sampler], Call]], Callable[[Sampler], Call]]:
    """Append the decorated builder to ``cases``; its name is the case's."""

    def register(build: Callable[[Sampler], Call]) -> Callable[[Sampler], Call]:
        @st.composite
        def inputs(draw: Any) -> Call:
            return build(Sampler(draw))

        cases.append(Case(op, inputs(), torch, build.__name__, **attributes))
        return build

    return register


def all_cases() -> list[Case]:
    """Every case of every op."""
    from ops import cases_general, cases_nn, cases_recurrent

    return [*cases_general.CASES, *cases_nn.CASES, *cases_recurrent.CASES]
