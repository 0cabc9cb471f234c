"""What a language model remembers of the tokens it has read: keys and values, or a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backend import Array, arange_like, array_namespace, asarray_like
from ..tensor import Tensor

FIRST = 64  # tokens that there is room for at first


class _Cache:
    """How many columns were read, and how many of them are padding in each row."""

    def __init__(self, padding: Any = None) -> None:
        self.length = 0  # columns that all layers have read
        self.padding = None if padding is None else np.asarray(padding)
        if self.padding is not None and (self.padding.ndim != 1 or (self.padding < 0).any()):
            raise ValueError(
                f"{type(self).__name__}: padding={self.padding} must hold one number for each row, "
                "none negative"
            )


class KVCache(_Cache):
    """The keys and values of every attention layer, so that a new token costs one row::

        cache = KVCache()
        with no_grad():
            logits = model(prompt, cache=cache)      # [B, T]
            logits = model(next_ids, cache=cache)    # [B, 1], sees all that was read before

    A causal position never sees later ones, so its keys and values stay what they are, and n tokens
    cost n rows instead of ``1 + 2 + ... + n``. A model takes part with four lines: its attention
    passes k and v through :meth:`extend` and gives :attr:`mask` to the scores, positions come from
    :meth:`positions`, and :meth:`advance` says at the end that all layers have read.

    Prompts of unequal lengths are padded on the *left*, so that all rows end in one column:
    ``padding[b]`` columns of row b are no tokens. No token attends to them, and positions are
    counted from the first token, so each row is what it would be alone.

    Args:
        padding: columns to skip in each row, integers (B,); None where there are none.
    """

    def __init__(self, padding: Any = None) -> None:
        super().__init__(padding)
        self._held: dict[Any, tuple[Array, Array]] = {}  # layer -> k, v, each [..., room, d]
        self._mask: Array | None = None

    def extend(self, layer: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of ``layer`` so far, the new ones ``[..., T, d]`` at the end.

        They are views of buffers that grow by doubling: ``[..., length + T, d]``. Each is known by
        the module that asks. Running the same columns again overwrites them: only :meth:`advance`
        moves on.

        Raises:
            RuntimeError: k or v would be taped: buffers are changed in place.
            ValueError: another batch or number of heads than before, or a layer that has not read
                what the others have.
        """
        if k.requires_grad or v.requires_grad:
            raise RuntimeError(
                "KVCache: keys and values are kept in place, which no gradient can go through; "
                "call the model inside `with no_grad():`"
            )
        start, end = self.length, self.length + k.shape[-2]
        held = self._held.get(layer)
        if held is None:
            if start:
                raise ValueError(
                    f"KVCache: {type(layer).__name__} has not read the {start} columns in here; "
                    "a cache belongs to one model, so begin with a new one: KVCache()"
                )
            held = self._held[layer] = (_room(k.data, end), _room(v.data, end))
        elif held[0].shape[-2] < end:
            room = max(end, 2 * held[0].shape[-2])
            held = self._held[layer] = (_moved(held[0], start, room), _moved(held[1], start, room))
        for buffer, new in zip(held, (k.data, v.data), strict=True):
            if buffer.shape[:-2] != new.shape[:-2] or buffer.shape[-1] != new.shape[-1]:
                raise ValueError(
                    f"KVCache: new keys or values {tuple(new.shape)} beside "
                    f"{(*buffer.shape[:-2], start, buffer.shape[-1])} in here: only the number of "
                    "columns (the last axis but one) may differ"
                )
            buffer[..., start:end, :] = new
        if self.padding is not None and (self._mask is None or self._mask.shape[-1] != end):
            self._mask = self._real(end, k.data)
        return Tensor(held[0][..., :end, :]), Tensor(held[1][..., :end, :])

    @property
    def mask(self) -> Array | None:
        """``[B, 1, 1, M]``, True for tokens and False for padding; None without padding."""
        return self._mask

    def positions(self, T: int, like: Array) -> Array:
        """Where the next ``T`` columns stand: integers ``[T]``, or ``[B, T]`` with padding.

        They index a table of positions; for a rotation, ``positions(T, x)[..., None, :]`` fits
        ``[B, H, T]``. A column of padding stands at 0, where nobody looks.
        """
        columns = arange_like(T, like) + self.length
        if self.padding is None:
            return columns
        xp = array_namespace(columns)
        at = columns - asarray_like(self.padding, like)[:, None]  # [B, T]
        return xp.where(at > 0, at, xp.zeros_like(at))

    def advance(self, T: int) -> None:
        """Every layer has read ``T`` more columns (the model says so, as its last act)."""
        self.length += T

    def select(self, rows: Any) -> None:
        """Go on with these rows only, in this order; one may come several times (beam search)."""
        rows = np.asarray(rows)
        for layer, buffers in self._held.items():
            k, v = (array_namespace(x).take(x, asarray_like(rows, x), axis=0) for x in buffers)
            self._held[layer] = k, v
        if self.padding is not None:
            self.padding, self._mask = self.padding[rows], None

    def _real(self, columns: int, like: Array) -> Array:
        real = arange_like(columns, like) >= asarray_like(self.padding, like)[:, None]  # [B, M]
        return real[:, None, None, :]


class StateCache(_Cache):
    """The states of a recurrent model after the last column, so that a new token costs one step::

        cache = StateCache()
        for x, y in windows:                        # one after the other, of one text
            logits, loss = model(x, y, cache=cache)
            loss.backward()
            cache.detach()                          # the past is remembered, and no more learned

    All of the past is in the states, however long it is: they do not grow. In training they carry
    gradients as well, back through every window since :meth:`detach` (truncated backpropagation
    through time; the model takes part by :attr:`states` and :meth:`advance`).

    Padding is on the left, as in :class:`KVCache`: it leaves the states of its row as they were.

    Args:
        padding: columns to skip in each row, integers (B,); None where there are none.
    """

    def __init__(self, padding: Any = None) -> None:
        super().__init__(padding)
        self.states: dict[str, Any] = {}  # name -> tensor or tuple of tensors, each [L, B, ...]

    def skipped(self, T: int) -> np.ndarray | None:
        """How many of the next ``T`` columns are padding in each row, (B,); None if none is."""
        if self.padding is None or self.length >= self.padding.max(initial=0):
            return None
        return np.clip(self.padding - self.length, 0, T)

    def advance(self, T: int, **states: Any) -> None:
        """``T`` more columns are read, and these are the states now. A pass that breaks off before
        this changes nothing.
        """
        self.length += T
        self.states.update(states)

    def detach(self) -> None:
        """Keep the values of the states, and forget where they came from."""
        self._map(lambda state: state.detach())

    def select(self, rows: Any) -> None:
        """Go on with these rows only, in this order; one may come several times (beam search)."""
        rows = np.asarray(rows)

        def chosen(state: Tensor) -> Tensor:
            xp = array_namespace(state.data)
            return Tensor(xp.take(state.data, asarray_like(rows, state.data), axis=1))

        self._map(chosen)
        if self.padding is not None:
            self.padding = self.padding[rows]

    def _map(self, f: Callable[[Tensor], Tensor]) -> None:
        for name, state in self.states.items():
            many = isinstance(state, tuple)
            self.states[name] = tuple(map(f, state)) if many else f(state)


def _room(x: Array, tokens: int) -> Array:
    """An empty buffer ``[..., room, d]`` for arrays such as ``x [..., T, d]``."""
    xp = array_namespace(x)
    shape = (*x.shape[:-2], max(tokens, FIRST), x.shape[-1])
    return xp.empty(shape, dtype=x.dtype, device=x.device)


def _moved(buffer: Array, used: int, room: int) -> Array:
    """A larger buffer with the same first ``used`` columns."""
    larger = _room(buffer, room)
    larger[..., :used, :] = buffer[..., :used, :]
    return larger
