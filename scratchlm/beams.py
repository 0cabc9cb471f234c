"""Beam search: the likeliest continuation as a whole, not token by token."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from . import sampling
from .reader import Reader


def search(
    reader: Reader,
    max_new_tokens: int,
    beams: int,
    *,
    eos: tuple[int, ...] = (),
    length_penalty: float = 1.0,
    length_offset: float = 0.0,
    repetition_penalty: float = 1.0,
) -> list[np.ndarray]:
    """For each row of ``reader`` the new ids of the continuation Y with the highest score::

        score(Y) = log P(Y | prompt) / ((offset + |Y|) / (offset + 1))^penalty

    A sum of logarithms falls with every token, so without the penalty short texts win; with penalty
    1 and offset 0 the score is the mean. Wu's has offset 5; transformers' has 0, the default here.

    At every step each of the ``beams`` best beginnings is continued with every token, and the best
    ``beams`` go on. One that ends (``eos``) is put aside, if it is among the best ``beams`` of its
    step. The search ends when ``beams`` were put aside and the best beginning, judged as if it
    ended here, is behind all of these: longer ones could still win, but hardly do.

    A ``repetition_penalty`` here changes log-probabilities, not logits, as in transformers.

    Raises:
        FloatingPointError: the model's logits are NaN or infinite.

    Source: Graves 2012, §2.5 (the search); Wu et al. 2016, eq. 14 (the penalty, without coverage).
    """
    rows = [_Row(beams, length_penalty, length_offset) for _ in reader.ids]
    for length in range(1, max_new_tokens + 1):
        scores = _log_softmax(reader.logits())  # [all beams, V]
        if repetition_penalty != 1:
            scores = sampling.repetition_penalty(scores, reader.ids, repetition_penalty)
        start, parents, tokens = 0, [], []
        for row in rows:
            width = len(row.running)
            if not width:
                continue
            own = scores[start : start + width] + row.scores[:, None]  # [beams, V]
            origin, token = row.step(own, eos, last=length == max_new_tokens)
            parents.append(start + origin)
            tokens.append(token)
            start += width
        parent = np.concatenate(parents)
        if not len(parent):
            break
        reader.select(parent)
        reader.append(np.concatenate(tokens))
    return [np.array(row.best, dtype=np.int64) for row in rows]


@dataclass
class _Row:
    """The search for one prompt: beginnings that go on, and continuations put aside."""

    beams: int
    penalty: float
    offset: float
    running: list[list[int]] = field(default_factory=lambda: [[]])
    scores: np.ndarray = field(default_factory=lambda: np.zeros(1))  # log P of each, best first
    ended: list[tuple[float, list[int]]] = field(default_factory=list)  # best first

    @property
    def best(self) -> list[int]:
        return self.ended[0][1] if self.ended else self.running[0]

    def step(
        self, own: np.ndarray, eos: tuple[int, ...], *, last: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """From log P ``[beams, V]`` of all continuations: the beam and the token of those kept."""
        V = own.shape[1]
        flat = own.reshape(-1)
        # as many as still leave `beams` that go on if all others end
        count = min(max(2, 1 + len(eos)) * self.beams, flat.size)
        few = np.argpartition(-flat, count - 1)[:count]
        few = few[np.lexsort((few, -flat[few]))]  # best first
        few = few[flat[few] > -np.inf]
        length = len(self.running[0]) + 1
        kept: list[int] = []
        for rank, (at, score) in enumerate(zip(few.tolist(), flat[few].tolist(), strict=True)):
            if last or at % V in eos:
                if rank < self.beams:
                    text = [*self.running[at // V], at % V]
                    self.ended.append((self._judged(score, length), text))
            elif len(kept) < self.beams:
                kept.append(at)
        self.ended = sorted(self.ended, key=lambda pair: -pair[0])[: self.beams]
        full = len(self.ended) == self.beams
        if full and kept and self._judged(flat[kept[0]], length) <= self.ended[-1][0]:
            kept = []
        chosen = np.array(kept, dtype=np.int64)
        self.running = [[*self.running[at // V], at % V] for at in kept]
        self.scores = flat[chosen]
        return chosen // V, chosen % V

    def _judged(self, score: float, length: int) -> float:
        return float(score / ((self.offset + length) / (self.offset + 1)) ** self.penalty)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, dtype=np.float64)
    most = logits.max(-1, keepdims=True)
    if not np.isfinite(most).all():
        raise FloatingPointError(
            "generate: the model's logits are not finite, so no continuation is the likeliest; "
            "were its weights damaged in training?"
        )
    logits = logits - most
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))
