"""Batches: of a long sequence of ids, cut anywhere; of examples of different lengths, padded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

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


def pad(rows: Sequence[np.ndarray], value: int) -> np.ndarray:
    """Rows of different lengths as one array (B, longest), filled up at the right with ``value``.

    Raises:
        ValueError: no rows, or one that is not 1-D.
    """
    if not len(rows):
        raise ValueError("pad: there are no rows")
    if any(np.ndim(row) != 1 for row in rows):
        raise ValueError(f"pad: rows are 1-D, one has shape {max(map(np.shape, rows), key=len)}")
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for out, row in zip(padded, rows, strict=True):
        out[: len(row)] = row
    return padded


def buckets(
    lengths: Sequence[int] | np.ndarray,
    batch_size: int,
    rng: np.random.Generator,
    *,
    pool: int = 50,
) -> list[np.ndarray]:
    """The batches of one epoch: each example in just one, those of a batch about equally long.

    What is filled up is computed for nothing. So the examples are shuffled, each ``pool`` batches
    of them are sorted by length and cut, and the batches are shuffled again: near neighbours in
    length, and yet another company in each epoch. One batch may be smaller.

    Args:
        lengths: of the examples.
        batch_size: examples in a batch.
        rng: decides all.
        pool: how many batches are sorted together: 1 sorts nothing, more saves more padding.

    Returns:
        arrays of indices into ``lengths``.

    Raises:
        ValueError: no examples, sizes below 1.
    """
    lengths = np.asarray(lengths)
    if not lengths.size or batch_size < 1 or pool < 1:
        raise ValueError(
            f"buckets: {lengths.size} examples in batches of batch_size={batch_size}, sorted "
            f"{pool} (pool) at a time; each must be at least 1"
        )
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), pool * batch_size):
        some = order[start : start + pool * batch_size]
        some = some[np.argsort(lengths[some], kind="stable")]
        batches += [some[i : i + batch_size] for i in range(0, len(some), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


class Epochs:
    """Which examples come next, epoch after epoch: each once in every epoch, in :func:`buckets`.

    An epoch's order is drawn from a key and the epoch's number. So three small numbers say where in
    the examples one is, and going on from them is going on with the very same batches.

    Args:
        lengths: of the examples.
        pool: as in :func:`buckets`.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, *, pool: int = 50) -> None:
        self.lengths = np.asarray(lengths)
        self.pool = pool
        self.key: int | None = None  # drawn with the first batch
        self.epoch, self.position, self.batch_size = 0, 0, 0
        self._order: list[np.ndarray] = []

    def take(self, batch_size: int, rng: np.random.Generator) -> np.ndarray:
        """Indices of the next batch, at most ``batch_size``; ``rng`` is asked once, for the key.

        Another ``batch_size`` than before begins a new epoch.

        Raises:
            ValueError: as :func:`buckets`.
        """
        if self.key is None:
            self.key = int(rng.integers(2**53))  # what JSON keeps exactly, whoever reads it
        ended = self.position == self._batches(batch_size)
        if self.batch_size and (ended or batch_size != self.batch_size):
            self.epoch, self.position, self._order = self.epoch + 1, 0, []
        self.batch_size = batch_size
        if not self._order:
            own = np.random.default_rng([self.key, self.epoch])
            self._order = buckets(self.lengths, batch_size, own, pool=self.pool)
        self.position += 1
        return self._order[self.position - 1]

    def _batches(self, batch_size: int) -> int:
        return -(-len(self.lengths) // batch_size)  # a pool holds whole batches, but for the last

    def state_dict(self) -> dict[str, int | None]:
        """Where it is, for a checkpoint."""
        names = ("key", "epoch", "position", "batch_size")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, int | None]) -> None:
        """Go on from where another one of the same examples was.

        Raises:
            ValueError: numbers that do not fit these examples.
        """
        key, *numbers = (state[name] for name in ("key", "epoch", "position", "batch_size"))
        for x in [*numbers, key or 0]:
            if isinstance(x, bool) or not isinstance(x, int) or x < 0:
                raise ValueError(f"Epochs: {dict(state)} is no state of it")
        epoch, position, size = (int(x or 0) for x in numbers)
        batches = self._batches(size) if size else 0
        if position > batches:
            raise ValueError(
                f"Epochs: position {position}, but {len(self.lengths)} examples are {batches} "
                f"batches of {size}: these are other examples"
            )
        self.key, self.epoch, self.position, self.batch_size = key, epoch, position, size
        self._order = []


def _check(ids: np.ndarray, batch_size: int, length: int) -> None:
    if batch_size < 1 or length < 1:
        raise ValueError(f"a batch needs batch_size and length >= 1, got {batch_size} and {length}")
    if len(ids) < length + 1:
        raise ValueError(
            f"a batch of length {length} needs {length + 1} ids (the targets are one place further "
            f"on), the text has {len(ids)}; take a longer text or a smaller length"
        )
