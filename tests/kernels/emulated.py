"""The CUDA launchers on a machine without a GPU: on the stand-in's arrays, through the emulator."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import emulator
import numpy as np
import standin

from scratchlm_kernels.cuda import runtime

Edit = Callable[[str], str]


class _Function:
    """A kernel that takes the stand-in's arrays, and no host's."""

    def __init__(self, function: emulator.Function) -> None:
        self._function = function

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._function.max_dynamic_shared_size_bytes

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        self._function.max_dynamic_shared_size_bytes = size

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
        if any(isinstance(a, np.ndarray) for a in args):
            raise TypeError("a host array is given to a kernel")
        plain = [a._x if isinstance(a, standin.Array) else a for a in args]
        self._function(grid, block, plain, shared_mem=shared_mem)


class _Module:
    def __init__(self, module: emulator.Module) -> None:
        self._module = module

    def get_function(self, name: str) -> _Function:
        return _Function(self._module.get_function(name))


class Emulated(runtime.Runtime):
    """Launches for the stand-in's arrays; ``edit`` changes the source before it is compiled."""

    def __init__(self, edit: Edit = str, **options: Any) -> None:
        super().__init__()
        self.edit = edit
        self.options = options
        self.modules: list[emulator.Module] = []

    def compile(self, code: str, options: tuple[str, ...]) -> Any:
        module = emulator.Module(self.edit(code), options, **self.options)
        self.modules.append(module)
        return _Module(module)

    def contiguous(self, x: Any) -> Any:
        if x._x.flags.c_contiguous:
            return x
        return standin.Array(np.ascontiguousarray(x._x))

    def on(self, x: Any) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    @property
    def launches(self) -> list[emulator.module.Launch]:
        return list(itertools.chain.from_iterable(m.launches for m in self.modules))


def _empty(shape: Any, dtype: Any = None, device: Any = None) -> standin.Array:
    """As an array of NaN: what a kernel leaves out shows."""
    assert device in (standin.DEVICE, None)
    x = np.empty(shape, dtype)
    x.view(np.uint8).fill(0xFF) if x.size else None
    return standin.Array(x)


@contextlib.contextmanager
def emulated(edit: Edit = str, **options: Any) -> Iterator[Emulated]:
    """Inside the block, the CUDA kernels run on the stand-in's arrays."""
    own, former = Emulated(edit, **options), standin.namespace.empty
    runtime.runtimes["standin"] = own
    standin.namespace.empty = _empty
    try:
        yield own
    finally:
        del runtime.runtimes["standin"]
        standin.namespace.empty = former


@dataclass(frozen=True)
class Planted:
    """An edit that plants a fault into one source, at the n-th place where ``old`` stands."""

    source: str
    old: str
    new: str
    nth: int = 0

    def __call__(self, code: str) -> str:
        if f'#line 1 "{self.source}"' not in code:
            return code
        parts = code.split(self.old)
        assert len(parts) > self.nth + 1, f"{self.source} has no longer {self.old!r}"
        head, tail = parts[: self.nth + 1], parts[self.nth + 1 :]
        return self.old.join(head) + self.new + self.old.join(tail)

    def __str__(self) -> str:
        return f"{self.source}: {self.old.strip()} -> {self.new.strip() or 'nothing'}"
