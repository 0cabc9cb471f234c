"""How an encoder–decoder learns from pairs, and how it writes.

Its decoder, given a source, is a language model. So all that :func:`scratchlm.generate` does for
one is done for the other; here are the two ways that have a name of their own.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import functional as F
from ..backend import array_namespace
from ..generate import generate
from ..metrics import evaluation
from ..nn import Module, StateCache

States = dict[str, Any]  # tensors with the rows on axis 1, as in a StateCache


def with_columns(states: States, ids: Any) -> Any:
    """The ids (B, T) that were written so far, and the new ones."""
    if "written" not in states:
        return ids
    return array_namespace(ids).concat([states["written"].data.T, ids], axis=-1)


class Writes:
    """Greedy decoding and beam search for a model that says how it begins and how it goes on."""

    def _begin(self, source: Any) -> States:
        """What the decoder knows of the sources (B, S) before it writes."""
        raise NotImplementedError

    def _go_on(self, ids: Any, states: States) -> tuple[Any, States]:
        """Logits (B, T, V) after ``ids`` (B, T), and the states that have changed."""
        raise NotImplementedError

    def greedy(
        self, source: Any, *, start_id: int, max_new_tokens: int, end_id: int | None = None
    ) -> np.ndarray:
        """The likeliest next token, again and again: ids (B, n), n at most ``max_new_tokens``.

        The source is read once. A row that has said ``end_id`` goes on saying it, and when all
        have, the work is done. The start token is not part of the result.

        Raises:
            ValueError: more tokens than there are positions for.
        """
        return self._write(source, start_id, max_new_tokens, end_id, greedy=True)

    def beam(
        self,
        source: Any,
        *,
        start_id: int,
        max_new_tokens: int,
        end_id: int | None = None,
        beams: int = 4,
        length_penalty: float = 1.0,
    ) -> np.ndarray:
        """The likeliest target as a whole, as far as ``beams`` beginnings at a time show it
        (:func:`scratchlm.beams.search`): ids as from :meth:`greedy`.
        """
        options = {"beams": beams, "length_penalty": length_penalty}
        return self._write(source, start_id, max_new_tokens, end_id, **options)

    def _write(
        self, source: Any, start_id: int, count: int, end_id: int | None, **options: Any
    ) -> np.ndarray:
        most = getattr(self.config, "block_size", None)  # type: ignore[attr-defined]
        if most is not None and not 0 <= count <= most:
            raise ValueError(
                f"{type(self).__name__}: max_new_tokens={count}, and there are positions for 0 to "
                f"{most} (block_size)"
            )
        source = np.asarray(source) if isinstance(source, list | tuple) else source
        rows = source if source.ndim == 2 else source[None]
        starts = np.full((rows.shape[0], 1), start_id)
        written = generate(_Given(self, rows), starts, count, eos_id=end_id, **options)[:, 1:]
        return written if source.ndim == 2 else written[0]


class Pairwise(Writes, Module):
    """An encoder–decoder that learns from pairs of ids: ``encode`` and ``decode`` are its own."""

    config: Any

    def encode(self, source: Any) -> tuple[Any, Any]:
        """What the decoder may look at, and where the source is padding (B, S), or None."""
        raise NotImplementedError

    def decode(self, target: Any, memory: Any, padding: Any = None) -> Any:
        """Logits (B, T, V), from the result of :meth:`encode`."""
        raise NotImplementedError

    def _check(self, which: str, ids: Any) -> Any:
        """The ids of a source or a target as an array."""
        raise NotImplementedError

    def forward(self, source: Any, target: Any) -> Any:
        """Logits (B, T, V) for ids (B, S) and (B, T), or without B.

        Teacher forcing: position t sees the right target tokens 0 … t, whatever the model would
        have written, and says what comes at t + 1. So the target begins with a start token.

        Raises:
            ValueError: ids of a wrong shape, empty, longer than there are positions for, or, for a
                recurrent model, padding that is not at the end of a source.
            TypeError, IndexError: ids that are no integers or outside the vocabulary.
        """
        memory, padding = self.encode(source)
        return self.decode(target, memory, padding)

    def loss(self, source: Any, target: Any, *, label_smoothing: float = 0.0) -> Any:
        """Mean cross-entropy in nats of target tokens 1, 2, … given those before each.

        The shift is made here: the decoder reads ``target[:, :-1]`` and is asked for
        ``target[:, 1:]``. The target is whole, from its start token to its end token; padding does
        not count.
        """
        target = self._check("target", target)
        logits = self(source, target[..., :-1])
        ignored = -100 if self.config.pad_id is None else self.config.pad_id
        return F.cross_entropy(
            logits, target[..., 1:], ignore_index=ignored, label_smoothing=label_smoothing
        )


class _Given(Module):
    """The decoder for certain sources, as a language model: what ``generate`` goes on with."""

    def __init__(self, model: Any, source: Any) -> None:
        self.model = model
        sizes = model.config
        words = getattr(sizes, "target_vocab_size", None) or sizes.vocab_size
        self.config = SimpleNamespace(vocab_size=words)
        with evaluation(model):
            self.start = model._begin(source)

    def new_cache(self, padding: Any) -> StateCache:
        """Rows are chosen by the search: what belongs to them goes with them."""
        cache = StateCache(padding)
        cache.states |= self.start
        return cache

    def forward(self, ids: Any, *, cache: StateCache, last_only: bool = False) -> Any:
        logits, after = self.model._go_on(ids, cache.states)
        cache.advance(ids.shape[-1], **after)
        return logits[..., -1:, :] if last_only else logits
