"""Batches of a long sequence of ids: inputs, and targets one place further on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Batch = tuple[np.ndarray, np.ndarray]


def batch_at(ids: np.ndarray, starts: np.ndarray, length: int) -> Batch:
    """Inputs ``ids[s : s + length]`` and targets ``ids[s + 1 : s + length + 1]`` for each start.

    Shapes: ``(len(starts), length)`` both.
    """
    windows = ids[starts[:, None] + np.arange(length + 1)]
    return windows[:, :-1], windows[:, 1:]


def sample_batch(ids: np.ndarray, batch_size: int, length: int, rng: np.random.Generator) -> Batch:
    """A batch at random starts.

    Raises:
        ValueError: fewer than ``length + 1`` ids, or a size below 1.
    """
    _check(ids, batch_size, length)
    return batch_at(ids, rng.integers(0, len(ids) - length, size=batch_size), length)


def blocks(
    ids: np.ndarray, batch_size: int, length: int, *, batches: int | None = None
) -> Iterator[Batch]:
    """The whole sequence in order, so that each id but the first is a target just once.

    The last batch may have fewer rows, and what is left over comes as one shorter row. ``batches``
    takes no more than so many, of rows evenly spread over the sequence.
    """
    _check(ids, batch_size, max(1, min(length, len(ids) - 1)))
    starts = np.arange(0, len(ids) - length, length)
    rest = len(starts) * length
    if batches is not None and len(starts) > batches * batch_size:
        starts = starts[np.linspace(0, len(starts) - 1, batches * batch_size).astype(int)]
        rest = len(ids)
    for i in range(0, len(starts), batch_size):
        yield batch_at(ids, starts[i : i + batch_size], length)
    if rest < len(ids) - 1:
        yield ids[None, rest:-1], ids[None, rest + 1 :]


def _check(ids: np.ndarray, batch_size: int, length: int) -> None:
    if batch_size < 1 or length < 1:
        raise ValueError(f"a batch needs batch_size and length >= 1, got {batch_size} and {length}")
    if len(ids) < length + 1:
        raise ValueError(
            f"a batch of length {length} needs {length + 1} ids (the targets are one place further "
            f"on), the text has {len(ids)}; take a longer text or a smaller length"
        )
