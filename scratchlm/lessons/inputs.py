"""Hypothesis strategies for the inputs of exercises: shapes are drawn, values come from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .exercise import Case

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def shapes(
    min_dims: int = 1, max_dims: int = 3, max_side: int = 5
) -> SearchStrategy[tuple[int, ...]]:
    """Shapes with ``min_dims`` to ``max_dims`` axes of 1 to ``max_side``, small ones first."""
    from hypothesis import strategies as st

    side = st.integers(1, max_side)
    return st.lists(side, min_size=min_dims, max_size=max_dims).map(tuple)


def normal(shape: Any = None, scale: float = 1.0) -> SearchStrategy[np.ndarray]:
    """float64 arrays of normal random numbers; ``shape`` is a tuple or a strategy of tuples."""
    from hypothesis import strategies as st

    def build(sides: tuple[int, ...], seed: int) -> np.ndarray:
        return scale * np.random.default_rng(seed).standard_normal(sides)

    return st.builds(build, _shape(shape), st.integers(0, 2**32 - 1))


def ids(size: int, shape: Any = None) -> SearchStrategy[np.ndarray]:
    """int64 arrays of ids in [0, ``size``)."""
    from hypothesis import strategies as st

    def build(sides: tuple[int, ...], seed: int) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, size, sides)

    return st.builds(build, _shape(shape), st.integers(0, 2**32 - 1))


def cases(*arguments: SearchStrategy[Any], **options: SearchStrategy[Any]) -> SearchStrategy[Case]:
    """A :class:`Case` of independent arguments. Where shapes hang together, write a
    ``@st.composite`` that returns ``Case(q, k, v, causal=True)``.
    """
    from hypothesis import strategies as st

    return st.builds(Case, *arguments, **options)


def _shape(shape: Any) -> SearchStrategy[tuple[int, ...]]:
    from hypothesis import strategies as st

    if shape is None:
        return shapes()
    return st.just(shape) if isinstance(shape, tuple) else shape


def sample(inputs: Any, examples: int) -> list[Case]:
    """The cases of a list, or ``examples`` drawn from a strategy: the same every time, smallest
    first, so that the first failure is the one that is easiest to follow.
    """
    if isinstance(inputs, (list, tuple)):
        return list(inputs)
    from hypothesis import HealthCheck, Phase, given, settings

    drawn: list[Case] = []

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def collect(case: Case) -> None:
        drawn.append(case)

    collect()
    return sorted(drawn, key=lambda case: case.size)
