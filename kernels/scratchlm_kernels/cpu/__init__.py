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
import platform
from collections.abc import Callable
from typing import Any

import numpy as np

from scratchlm.registry import fused_updates, get_op, implementation

from .. import fits

NAME = "numba"
PRIORITY = 10


@functools.cache
def unavailable() -> str | None:
    """None if Numba is installed, else what to do."""
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed; pip install numba"
    return None


def _load(module: str) -> Any:
    _prepare()
    return importlib.import_module(f".{module}", __name__)


@functools.cache
def _prepare() -> None:
    from .scratch import keep_freed_memory

    keep_freed_memory()


def _register(
    op: str, module: str, can: Callable[..., bool], pays: Callable[..., bool]
) -> Callable[..., Any]:
    reference = get_op(op).reference

    @functools.cache
    def kernel() -> Callable[..., Any]:
        return getattr(_load(module), op)

    def run(*arrays: Any, **options: Any) -> Any:
        if can(*arrays, **options):
            return kernel()(*arrays, **options)
        return reference(*arrays, **options)

    def supports(*arrays: Any, **options: Any) -> bool:
        return pays(*arrays) and can(*arrays, **options)

    def supported(*arrays: Any, **options: Any) -> Any:
        return kernel()(*arrays, **options)

    run.__name__ = run.__qualname__ = op
    run.__doc__ = reference.__doc__
    return implementation(
        NAME, of=op, priority=PRIORITY, unavailable=unavailable, supports=supports,
        supported=supported,
    )(run)  # fmt: skip


def _floats(*arrays: Any) -> bool:
    """Plain NumPy arrays of one dtype, float32 or float64."""
    dtype = getattr(arrays[0], "dtype", None)
    if dtype != np.float32 and dtype != np.float64:
        return False
    for x in arrays:  # asked at every call, and a loop is quicker than all()
        if type(x) is not np.ndarray or (x.dtype is not dtype and x.dtype != dtype):
            return False
    return True


# -- attention -------------------------------------------------------------------------------------

LONGEST_HEAD = 256


def _can_attend(q: Any, k: Any, v: Any, bias: Any = None, **options: Any) -> bool:
    return _floats(q, k, v) and fits.attention(
        q, k, v, bias, widest=LONGEST_HEAD, drops=True, **options
    )


def _attention_pays(q: Any, k: Any, v: Any, bias: Any = None) -> bool:
    if q.ndim < 3:
        return False
    if q.shape[-2] <= 4:  # to write, token by token
        return k.shape[-1] % 16 == v.shape[-1] % 16 == 0
    return q.shape[-2] >= 16 and math.prod(q.shape[:-1]) * k.shape[-2] >= 1 << 15


# -- linear ----------------------------------------------------------------------------------------

# Elsewhere NumPy's product may run on a unit of its own (Apple's), which no vector code matches.
_X86 = platform.machine().lower() in ("x86_64", "amd64")


def _can_map(x: Any, weight: Any, bias: Any = None) -> bool:
    return (
        (_floats(x, weight) if bias is None else _floats(x, weight, bias))
        and weight.ndim == 2
        and x.ndim > 0
        and x.shape[-1] == weight.shape[1]
        and (bias is None or bias.shape == weight.shape[:1])
        and x.size > 0
        and weight.size > 0
    )


def _linear_pays(x: Any, weight: Any, bias: Any = None) -> bool:
    return _X86 and (weight.size >= 1 << 14 or x.size * weight.shape[0] >= 1 << 20)


# -- activations, norm, loss -----------------------------------------------------------------------


def _can_gelu(x: Any, *, approximate: str = "none") -> bool:
    return approximate == "tanh" and _floats(x) and x.size > 0


def _can_normalize(x: Any, *parameters: Any, eps: float = 1e-5) -> bool:
    given = [p for p in parameters if p is not None]
    return _floats(x, *given) and fits.layer_norm(x, *given)


def _can_gate(a: Any, b: Any) -> bool:
    return _floats(a, b) and a.shape == b.shape and a.size > 0


def _can_turn(
    x: Any,
    *,
    positions: Any = None,
    offset: Any = 0,
    base: Any = 10000.0,
    rotary_dim: Any = None,
    interleaved: Any = True,
    frequencies: Any = None,
) -> bool:
    if not _floats(x) or not 2 <= x.ndim <= 4 or x.size == 0:
        return False
    r = x.shape[-1] if rotary_dim is None else rotary_dim
    return (
        type(r) is int
        and type(offset) is int
        and r % 2 == 0
        and 0 < r <= x.shape[-1]
        and isinstance(base, int | float)
        and base > 0
        and isinstance(interleaved, bool)
        and (frequencies is None or len(frequencies) == r // 2)
        and (positions is None or _stand(positions, x.shape[:-1]))
    )


def _stand(positions: Any, rows: tuple[int, ...]) -> bool:
    """Whether they are integers that broadcast to the rows of x."""
    return (
        type(positions) is np.ndarray
        and positions.dtype.kind in "iu"
        and positions.ndim <= len(rows)
        and all(
            have in (1, want) for have, want in zip(positions.shape[::-1], rows[::-1], strict=False)
        )
    )


def _can_weigh(x: Any, *, axis: int = -1) -> bool:
    return _floats(x) and x.size > 0 and x.ndim > 0 and axis in (-1, x.ndim - 1)


def _can_look_up(ids: Any, weight: Any) -> bool:
    return (
        type(ids) is np.ndarray
        and ids.dtype.kind in "iu"
        and _floats(weight)
        and weight.ndim == 2
        and ids.size > 0
        and weight.size > 0
    )


def _can_step(
    *arrays: Any, nonlinearity: str = "tanh", reset_after: bool = True, **options: Any
) -> bool:
    return (
        nonlinearity == "tanh"
        and reset_after is True
        and _floats(*(x for x in arrays if x is not None))
        and all(x.size > 0 for x in arrays if x is not None)
    )


def _can_compare(logits: Any, target: Any, **options: Any) -> bool:
    return _floats(logits) and fits.cross_entropy(logits, target, **options)


def _several_thousand(x: Any, *others: Any) -> bool:
    return x.size >= 1 << 13


def _several_thousand_singles(x: Any, *others: Any) -> bool:
    # NumPy's exp of float64 takes several at a time, the C library's, in the kernel, one
    return x.size >= 1 << 13 and x.dtype == np.float32


def _hundreds(x: Any, *others: Any) -> bool:
    return x.size >= 1 << 7


def _hundreds_of_singles(x: Any, *others: Any) -> bool:
    return x.size >= 1 << 8 and x.dtype == np.float32


def _sequences(x: Any, *others: Any) -> bool:
    return _X86 and _several_thousand_singles(x)


def _long_sequences(x: Any, *others: Any) -> bool:
    # the plain cell has little beside its product
    return x.size >= 1 << 15 and _sequences(x)


def _many_rows(ids: Any, weight: Any) -> bool:
    return weight.ndim == 2 and ids.size * weight.shape[1] >= 1 << 13


_register("attention", "attention", _can_attend, _attention_pays)
_register("linear", "linear", _can_map, _linear_pays)
_register("gelu", "activations", _can_gelu, _hundreds)
_register("layer_norm", "norm", _can_normalize, _hundreds)
_register("rms_norm", "norm", _can_normalize, _hundreds)
_register("rope", "positions", _can_turn, _hundreds)
_register("swiglu", "activations", _can_gate, _hundreds_of_singles)
_register("softmax", "softmax", _can_weigh, _several_thousand_singles)
_register("embedding", "embedding", _can_look_up, _many_rows)
_register("rnn", "recurrent", _can_step, _long_sequences)
_register("lstm", "recurrent", _can_step, _sequences)
_register("gru", "recurrent", _can_step, _sequences)
_register("cross_entropy", "losses", _can_compare, _several_thousand)


# -- the optimizer's update ------------------------------------------------------------------------


def adam_step(p: Any, g: Any, m: Any, v: Any, t: int, **options: Any) -> bool:
    """Do the update in one pass if these arrays allow it; whether that was done."""
    if unavailable() is not None or not _floats(p, g, m, v) or p.size < 1 << 12:
        return False
    if not (p.shape == g.shape == m.shape == v.shape):
        return False
    if not all(x.flags.c_contiguous for x in (p, m, v)) or not p.flags.writeable:
        return False
    _adam()(p, g, m, v, t, **options)
    return True


@functools.cache
def _adam() -> Callable[..., None]:
    return _load("adam").adam_step


fused_updates["adam_step"] = adam_step
