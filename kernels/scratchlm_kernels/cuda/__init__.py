"""Kernels for CuPy arrays, in CUDA; registered here, compiled by NVRTC when first run.

Asked for by name, ``use(attention="cuda")``, a kernel runs whatever it can take, and leaves the
rest to the composed op, which also finds the words for calls that are wrong. ``"cuda-v1"`` and
``"cuda-v2"`` are slower steps on the way to ``"cuda"``, to be read in order; they run by name only.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from scratchlm.registry import fused_updates, get_op, implementation

from .. import fits
from .runtime import contiguous, runtime_of

NAME = "cuda"
PRIORITY = 10


@functools.cache
def unavailable() -> str | None:
    """None where CuPy and an NVIDIA driver are installed, else what to do."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed; pip install 'scratchlm[cuda12]' (or cuda13)"
    try:  # the driver itself: to ask CuPy would import it, with the first op that runs anywhere
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver on this machine, so no GPU that CuPy could use"
    return None


def _register(
    op: str,
    module: str,
    can: Callable[..., bool],
    *,
    name: str = NAME,
    priority: int = PRIORITY,
    **fixed: Any,
) -> Callable[..., Any]:
    reference = get_op(op).reference

    @functools.cache
    def kernel() -> Callable[..., Any]:
        return getattr(importlib.import_module(f".{module}", __name__), op)

    def run(*arrays: Any, **options: Any) -> Any:
        if can(*arrays, **options):
            return kernel()(*arrays, **options, **fixed)
        return reference(*arrays, **options)

    run.__name__ = run.__qualname__ = op
    run.__doc__ = reference.__doc__
    return implementation(name, of=op, priority=priority, unavailable=unavailable, supports=can)(
        run
    )


def _floats(*arrays: Any) -> bool:
    """float32 on one GPU, and something in them."""
    first = arrays[0]
    return runtime_of(first) is not None and all(
        type(x) is type(first) and x.device == first.device and x.dtype == "float32" and x.size
        for x in arrays
    )


# -- attention -------------------------------------------------------------------------------------

WIDEST_HEAD = 128


def _can_attend(q: Any, k: Any, v: Any, bias: Any = None, **options: Any) -> bool:
    return _floats(q, k, v) and fits.attention(q, k, v, bias, widest=WIDEST_HEAD, **options)


_register("attention", "attention", _can_attend)
for _version in (1, 2):
    # below the reference: never the best
    _register(
        "attention", "attention", _can_attend, name=f"cuda-v{_version}", priority=-1,
        version=_version,
    )  # fmt: skip


# -- rows and elements -----------------------------------------------------------------------------


def _can_normalize(x: Any, weight: Any = None, bias: Any = None, **options: Any) -> bool:
    given = [p for p in (weight, bias) if p is not None]
    return _floats(x, *given) and fits.layer_norm(x, weight, bias, **options)


def _can_compare(logits: Any, target: Any, **options: Any) -> bool:
    return (
        _floats(logits) and _ids(target, logits) and fits.cross_entropy(logits, target, **options)
    )


def _can_gelu(x: Any, *, approximate: str = "none") -> bool:
    return _floats(x) and approximate in ("none", "tanh")


def _can_embed(ids: Any, weight: Any) -> bool:
    return _floats(weight) and _ids(ids, weight) and weight.ndim == 2 and ids.size > 0


def _ids(ids: Any, beside: Any) -> bool:
    """Integers on the same GPU."""
    return type(ids) is type(beside) and ids.device == beside.device and ids.dtype.kind in "iu"


_register("layer_norm", "rows", _can_normalize)
_register("cross_entropy", "rows", _can_compare)
_register("gelu", "rows", _can_gelu)
_register("embedding", "rows", _can_embed)


# -- the optimizer's update ------------------------------------------------------------------------

_of_the_host = fused_updates.get("adam_step")


def adam_step(p: Any, g: Any, m: Any, v: Any, t: int, **options: Any) -> bool:
    """Do the update in one pass if these arrays allow it; whether that was done."""
    if runtime_of(p) is None:
        return _of_the_host is not None and _of_the_host(p, g, m, v, t, **options)
    if not _floats(p, g, m, v) or not p.shape == g.shape == m.shape == v.shape:
        return False
    if not all(contiguous(x) is x for x in (p, m, v)):
        return False
    importlib.import_module(".rows", __name__).adam_step(p, g, m, v, t, **options)
    return True


fused_updates["adam_step"] = adam_step
