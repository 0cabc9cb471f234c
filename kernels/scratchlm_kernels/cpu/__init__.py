"""Kernels for NumPy arrays, compiled by Numba; registered here, imported when first run.

``supports`` answers two questions. Can the kernel take this call (plain arrays of float32 or
float64, options it knows)? And does it pay: below some size the composed op is as fast. Asked for
by name, ``use(attention="numba")``, a kernel runs whatever it can take at any size, and leaves the
rest to the composed op, which also finds the words for calls that are wrong.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from scratchlm.registry import get_op, implementation

NAME = "numba"
PRIORITY = 10


@functools.cache
def unavailable() -> str | None:
    """None if Numba is installed, else what to do."""
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed; pip install numba"
    return None


def _register(
    op: str, module: str, can: Callable[..., bool], pays: Callable[..., bool]
) -> Callable[..., Any]:
    reference = get_op(op).reference

    @functools.cache
    def kernel() -> Callable[..., Any]:
        return getattr(importlib.import_module(f".{module}", __name__), op)

    def run(*arrays: Any, **options: Any) -> Any:
        if can(*arrays, **options):
            return kernel()(*arrays, **options)
        return reference(*arrays, **options)

    def supports(*arrays: Any, **options: Any) -> bool:
        return pays(*arrays) and can(*arrays, **options)

    run.__name__ = run.__qualname__ = op
    run.__doc__ = reference.__doc__
    return implementation(
        NAME, of=op, priority=PRIORITY, unavailable=unavailable, supports=supports
    )(run)


def _floats(*arrays: Any) -> bool:
    """Plain NumPy arrays of one dtype, float32 or float64."""
    dtype = getattr(arrays[0], "dtype", None)
    if dtype != np.float32 and dtype != np.float64:
        return False
    return all(type(x) is np.ndarray and x.dtype == dtype for x in arrays)


# -- attention -------------------------------------------------------------------------------------

LONGEST_HEAD = 256


def _can_attend(
    q: Any,
    k: Any,
    v: Any,
    *,
    mask: Any = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    rng: Any = None,
    return_weights: bool = False,
) -> bool:
    if return_weights or dropout_p or not _floats(q, k, v):
        return False
    if not (q.ndim == k.ndim == v.ndim >= 2 and q.size and v.size):
        return False
    heads, shared = (q.shape[-3], k.shape[-3]) if q.ndim > 2 else (1, 1)
    return (
        0 < q.shape[-1] == k.shape[-1] <= LONGEST_HEAD
        and v.shape[-1] <= LONGEST_HEAD
        and k.shape[:-1] == v.shape[:-1]
        and q.shape[:-3] == k.shape[:-3]
        and heads % shared == 0
        and (mask is None or _masks(mask, (*q.shape[:-1], k.shape[-2])))
        and (rng is None or hasattr(rng, "random"))
    )


def _masks(mask: Any, scores: tuple[int, ...]) -> bool:
    """Whether it is a mask that broadcasts to the scores."""
    return (
        type(mask) is np.ndarray
        and (mask.dtype == bool or mask.dtype.kind == "f")
        and mask.ndim <= len(scores)
        and all(
            have in (1, want) for have, want in zip(mask.shape[::-1], scores[::-1], strict=False)
        )
    )


def _attention_pays(q: Any, k: Any, v: Any) -> bool:
    # one query beside many keys is two products of a matrix with a vector, which NumPy does well
    return q.ndim > 2 and q.shape[-2] >= 16 and math.prod(q.shape[:-1]) * k.shape[-2] >= 1 << 15


_register("attention", "attention", _can_attend, _attention_pays)
