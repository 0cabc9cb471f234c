"""The inputs of exercises, and Hypothesis strategies for them: shapes are drawn, values come from a
seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


class Case:
    """The arguments of one call: ``Case(q, k, v, causal=True)``."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.arguments = arguments
        self.options = options

    @property
    def size(self) -> int:
        return sum(np.size(each) for each in _leaves(self.arguments))

    @property
    def telling(self) -> bool:
        """Whether no array has an axis of length 0 or 1, which hides what is summed over what."""
        arrays = [each for each in _leaves(self.arguments) if isinstance(each, np.ndarray)]
        return all(min(each.shape, default=2) > 1 for each in arrays)

    def fresh(self, dtype: Any = None) -> Case:
        """A copy with new arrays, its float64 arrays converted to ``dtype`` if that is given."""

        def copy(value: Any) -> Any:
            if isinstance(value, np.ndarray):
                change = dtype is not None and value.dtype == np.float64
                return value.astype(dtype) if change else value.copy()
            if isinstance(value, np.random.Generator):
                import copy as copying

                return copying.deepcopy(value)
            if type(value) in (list, tuple):
                return type(value)(copy(each) for each in value)
            if type(value) is dict:
                return {key: copy(each) for key, each in value.items()}
            return value

        return Case(*map(copy, self.arguments), **{k: copy(v) for k, v in self.options.items()})

    def describe(self, names: Sequence[str]) -> str:
        """The call in one line, arrays by shape: ``q (2, 3), k (4, 3), causal=True``."""
        parts = [f"{n} {brief(v)}" for n, v in zip(names, self.arguments, strict=False)]
        return ", ".join([*parts, *(f"{k}={brief(v)}" for k, v in self.options.items())])

    def __repr__(self) -> str:
        return f"Case({self.describe([f'#{i}' for i in range(len(self.arguments))])})"


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


def brief(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, np.ndarray):
        return f"{value.shape} of {value.dtype}" if value.dtype != np.float64 else f"{value.shape}"
    if isinstance(value, (list, tuple)) and any(isinstance(v, np.ndarray) for v in value):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _leaves(each)
    else:
        yield value
