"""The switches of the engine, each for the current thread, and the checks that two of them turn on.

``no_grad`` stops taping. ``detect_anomaly`` names the op that makes the first NaN or infinity.
``debug`` makes the arrays that backward needs read-only, and keeps values and gradients to draw.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from .backend import Array, array_namespace, is_floating, to_host
from .registry import Op


class _Modes(threading.local):
    """What ``no_grad``, ``detect_anomaly`` and ``debug`` switch, for each thread."""

    grad = True
    anomaly = False
    debug = False


modes = _Modes()


class _Mode(contextlib.ContextDecorator):
    """``with mode:`` or ``@mode``: one of the switches, set for a while."""

    def __init__(self, name: str, value: bool) -> None:
        self._name, self._value = name, value
        self._former: list[bool] = []  # a stack, because a decorated function may call itself

    def __enter__(self) -> None:
        self._former.append(getattr(modes, self._name))
        setattr(modes, self._name, self._value)

    def __exit__(self, *_: object) -> None:
        setattr(modes, self._name, self._former.pop())

    def _recreate_cm(self) -> _Mode:
        return _Mode(self._name, self._value)  # one for each call: threads share the decorator


def no_grad() -> _Mode:
    """Inside ``with no_grad():`` (or a function decorated ``@no_grad()``) nothing is taped."""
    return _Mode("grad", False)


def enable_grad() -> _Mode:
    """Undo ``no_grad`` inside the block."""
    return _Mode("grad", True)


def is_grad_enabled() -> bool:
    """Whether ops are being taped in this thread."""
    return modes.grad


def detect_anomaly() -> _Mode:
    """Inside the block, the first op that makes a NaN or infinity, forward or backward, raises."""
    return _Mode("anomaly", True)


def debug() -> _Mode:
    """Inside the block, arrays that backward may need are read-only until it has run.

    And nodes keep their values and gradients, for :func:`scratchlm.plot.graph` to show.
    """
    return _Mode("debug", True)


def _finite(x: Array) -> bool:
    return not is_floating(x) or bool(array_namespace(x).all(array_namespace(x).isfinite(x)))


def check_forward_finite(op: Op, arrays: list[Any], results: list[Array]) -> None:
    for index, array in enumerate(arrays):
        if array is not None and not _finite(array):
            raise FloatingPointError(
                f"{op.name}: input {op.input_name(index)!r} already holds {_describe_bad(array)}"
            )
    for out in results:
        if not _finite(out):
            raise FloatingPointError(
                f"{op.name} made {_describe_bad(out)} out of finite inputs: {op.formula}"
            )


def check_backward_finite(
    op: Op, wanted: list[bool], incoming: list[Any], outgoing: tuple[Any, ...]
) -> None:
    for cotangent in incoming:
        if cotangent is not None and not _finite(cotangent):
            raise FloatingPointError(
                f"backward of {op.name}: the gradient that reaches it already holds "
                f"{_describe_bad(cotangent)}"
            )
    for index, gradient in enumerate(outgoing):
        if wanted[index] and gradient is not None and not _finite(gradient):
            raise FloatingPointError(
                f"backward of {op.name}: the gradient of {op.input_name(index)!r} holds "
                f"{_describe_bad(gradient)}, out of a finite cotangent"
            )


def _describe_bad(x: Array) -> str:
    host = np.asarray(to_host(x))
    bad = np.argwhere(~np.isfinite(host))
    place = tuple(int(i) for i in bad[0])
    return f"{host[place]} at index {place} ({len(bad)} of {host.size} elements are not finite)"


class Lock:
    """NumPy arrays made read-only until :meth:`release`, or until the graph is dropped.

    A view can be made writable only after the array that owns its memory. So owners are counted,
    and when the last lock on one is gone, it and all its views are given back together.
    """

    held: ClassVar[dict[int, list[Any]]] = {}  # id(owner) -> [locks, owner, its views]

    def __init__(self, arrays: Iterable[Array]) -> None:
        self._owners: list[int] = []
        for array in arrays:
            if not isinstance(array, np.ndarray):
                continue  # CuPy has no read-only arrays
            owner = array
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            if id(owner) not in self.held:
                if not owner.flags.writeable:
                    continue  # and it was so before
                self.held[id(owner)] = [0, owner, []]
            entry = self.held[id(owner)]
            entry[0] += 1
            if array is not owner and 0 not in array.strides:  # broadcast arrays stay read-only
                entry[2].append(array)
            array.flags.writeable = owner.flags.writeable = False
            self._owners.append(id(owner))

    def release(self) -> None:
        while self._owners:
            entry = self.held[self._owners[-1]]
            entry[0] -= 1
            if not entry[0]:
                del self.held[self._owners[-1]]
                for array in (entry[1], *entry[2]):
                    array.flags.writeable = True
            self._owners.pop()

    __del__ = release
