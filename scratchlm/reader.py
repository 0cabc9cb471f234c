"""A language model at reading: rows of ids, and what may come after them."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from .backend import asarray_like, to_host
from .metrics import evaluation
from .nn import KVCache, StateCache

Cache = KVCache | StateCache


class Reader:
    """The model reads rows of ids, and says of each what may come next.

    Rows of unequal lengths are padded on the left with their first id.
    """

    def __init__(self, model: Any, prompts: list[np.ndarray], cache: bool | Cache) -> None:
        T = max(len(prompt) for prompt in prompts)
        padding = np.array([T - len(prompt) for prompt in prompts])
        rows = [np.pad(p, (n, 0), "edge") for p, n in zip(prompts, padding, strict=True)]
        self.ids = np.stack(rows).astype(np.int64)  # [B, T]
        self.padding = padding if padding.any() else None
        self.model = model
        self.modules = list(model.modules())
        self.like = next(iter(model.parameters())).data
        self.block_size = getattr(getattr(model, "config", None), "block_size", None)
        self.caching = cache is not False
        self.new_cache = getattr(model, "new_cache", KVCache)
        self.cache: Any = None if isinstance(cache, bool) else cache
        self.knows_cache = "cache" in inspect.signature(model.forward).parameters
        if self.cache is not None and not (
            self.knows_cache and self.padding is None and self.cache.length < T
        ):
            raise ValueError(
                f"generate: a cache that has read {self.cache.length} columns does not fit: it is "
                f"for a model that takes one, and for prompts of one length that go on from there "
                f"(the longest has {T})"
            )
        if self.padding is not None and not self.knows_cache:
            raise ValueError(
                f"generate: prompts of unequal lengths need a model that can leave out padding, "
                f"and {type(model).__name__}.forward takes no cache=; continue them one by one"
            )

    def logits(self) -> np.ndarray:
        """``[B, V]``: of the token after the last column."""
        ids, padding = self.ids, self.padding
        beyond = 0 if self.block_size is None else ids.shape[1] - self.block_size
        if beyond > 0:  # only the last block_size, whose positions begin at 0 again
            ids = ids[:, beyond:]
            padding = None if padding is None else np.maximum(padding - beyond, 0)
        options: dict[str, Any] = {}
        if self.knows_cache and (self.caching or padding is not None):
            if self.cache is None or not self.caching or beyond > 0:
                self.cache = self.new_cache(padding)
            ids = ids[:, self.cache.length :]
            options = {"cache": self.cache, "last_only": True}
        with evaluation(self.modules):
            logits = self.model(asarray_like(ids, self.like), **options)  # [B, T, V]
        return to_host(logits.data)[:, -1]

    def append(self, column: np.ndarray) -> None:
        """One more id for each row."""
        self.ids = np.concatenate([self.ids, column[:, None]], axis=1)

    def select(self, rows: np.ndarray) -> None:
        """Go on with these rows only, in this order; one may come several times."""
        if len(rows) == len(self.ids) and (rows == np.arange(len(rows))).all():
            return
        self.ids = self.ids[rows]
        self.padding = None if self.padding is None else self.padding[rows]
        if self.cache is not None:
            self.cache.select(rows)
