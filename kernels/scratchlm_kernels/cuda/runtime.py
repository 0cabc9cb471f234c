"""Compiling and launching, for the arrays of CuPy and of whatever imitates it.

A :class:`Runtime` makes modules out of source, as ``cupy.RawModule`` does. Which one an array
belongs to is told by the package that its type comes from (:data:`runtimes`): CuPy is there, and
the tests add a stand-in that runs the same launchers on a CPU. CuPy is imported with the first
launch.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
OPTIONS = ("-std=c++17",)
NULL = np.uintp(0)  # the pointer to nothing
SHARED_FREE = 48 * 1024  # bytes; a block that needs more shared memory has to ask for it
LONGEST_GRID = 65535  # blocks along the grid's second side


@dataclass(frozen=True)
class Kernel:
    """One kernel of a source file, and how many registers a thread of it may take.

    The budget holds for every architecture and every size of head, with the compilers that the
    tests pin. No kernel spills.
    """

    source: str
    name: str
    registers: int

    def __post_init__(self) -> None:
        all_kernels.append(self)


all_kernels: list[Kernel] = []  # every kernel that a launcher has named


class Runtime:
    """How to compile for arrays of one package, and how to treat them."""

    def __init__(self) -> None:
        self._modules: dict[tuple[str, tuple[str, ...]], Any] = {}

    def compile(self, code: str, options: tuple[str, ...]) -> Any:
        """A module with ``get_function(name)``."""
        raise NotImplementedError

    def contiguous(self, x: Any) -> Any:
        """``x`` in C order; itself if it is."""
        raise NotImplementedError

    def on(self, x: Any) -> contextlib.AbstractContextManager[Any]:
        """Make the device of ``x`` the current one."""
        raise NotImplementedError

    def function(self, kernel: Kernel, defines: tuple[str, ...]) -> Any:
        """The kernel, its source compiled once."""
        key = (kernel.source, defines)
        if key not in self._modules:
            self._modules[key] = self.compile(source(kernel.source), (*OPTIONS, *defines))
        return self._modules[key].get_function(kernel.name)


class _CuPy(Runtime):
    """CuPy compiles with NVRTC and keeps the result on disk, keyed on source and options."""

    def compile(self, code: str, options: tuple[str, ...]) -> Any:
        import cupy

        return cupy.RawModule(code=code, options=options)

    def contiguous(self, x: Any) -> Any:
        import cupy

        return cupy.ascontiguousarray(x)

    def on(self, x: Any) -> contextlib.AbstractContextManager[Any]:
        return x.device


# package of the array's type -> its runtime
runtimes: dict[str, Runtime] = {"cupy": _CuPy()}


def runtime_of(x: Any) -> Runtime | None:
    """The runtime for arrays like ``x``, or None."""
    return runtimes.get(type(x).__module__.partition(".")[0])


def contiguous(x: Any) -> Any:
    """``x`` in C order, as every kernel reads its arrays."""
    runtime = runtime_of(x)
    assert runtime is not None
    return runtime.contiguous(x)


@functools.cache
def source(name: str) -> str:
    """One file and what it includes, as one text: the compiler then needs no search path."""
    parts = []
    for number, line in enumerate((FOLDER / name).read_text("utf-8").splitlines(), start=1):
        included = re.fullmatch(r'#include "(\w+\.cuh)"', line)
        if included:
            text = (FOLDER / included[1]).read_text("utf-8")
            line = f'#line 1 "{included[1]}"\n{text}\n#line {number + 1} "{name}"'
        parts.append(line)
    return f'#line 1 "{name}"\n' + "\n".join(parts) + "\n"


def launch(
    kernel: Kernel,
    like: Any,
    grid: Sequence[int],
    block: Sequence[int],
    args: Sequence[Any],
    *,
    shared: int = 0,
    defines: tuple[str, ...] = (),
) -> None:
    """Start ``kernel`` on the device of ``like``, in its current stream.

    Args:
        kernel: which one.
        like: an array of the device.
        grid: blocks along each side.
        block: threads along each side.
        args: arrays, contiguous and of the dtype that the kernel declares, and NumPy scalars.
        shared: bytes of shared memory for a block.
        defines: ``-DNAME=VALUE`` for the compiler.

    Raises:
        ValueError: more blocks than a grid can have.
    """
    if len(grid) > 1 and grid[1] > LONGEST_GRID:
        raise ValueError(
            f"{kernel.name}: the input is too long, it needs {grid[1]} blocks where a grid has at "
            f"most {LONGEST_GRID}; use the composed op for it"
        )
    runtime = runtime_of(like)
    assert runtime is not None
    with runtime.on(like):
        function = runtime.function(kernel, defines)
        if shared > SHARED_FREE and function.max_dynamic_shared_size_bytes < shared:
            function.max_dynamic_shared_size_bytes = shared
        function(tuple(grid), tuple(block), tuple(args), shared_mem=shared)
