"""What stands in for ``cupy.RawModule`` and ``cupy.RawKernel``."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .build import library

ORDERS = ("forward", "reversed", "shuffled")
SHARED_FREE = 48 * 1024  # more dynamic shared memory than this has to be asked for
BLOCK_LIMIT = (1024, 1024, 64)
GRID_LIMIT = (2**31 - 1, 65535, 65535)


class EmulatorError(RuntimeError):
    """A launch that a device would refuse, or a kernel that waits for ever."""


@dataclass
class Launch:
    """One launch as it was asked for: tests look at them."""

    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_mem: int


@dataclass
class Module:
    """Kernels compiled from ``code``; as CuPy's, but for what follows ``options``.

    Args:
        code: CUDA C++ source, kernels declared ``extern "C" __global__``.
        options: for the compiler; of NVRTC's, ``-D`` and those that mean nothing here are known.
        sanitize: None, ``"thread"`` or ``"address"`` (in a process started for it).
        order: which thread goes first: ``"forward"``, ``"reversed"`` or ``"shuffled"``.
        seed: of the shuffling.
        shared_limit: the most shared memory that a block of this "device" may ask for, in bytes.
    """

    code: str
    options: Sequence[str] = ()
    sanitize: str | None = None
    order: str = "forward"
    seed: int = 0
    shared_limit: int = 64 * 1024  # the least of all: compute capability 7.5
    launches: list[Launch] = field(default_factory=list)

    def __post_init__(self) -> None:
        defines = [o for o in self.options if o.startswith("-D")]
        path = library(self.code, defines, self.sanitize)
        self._library = ctypes.CDLL(str(path))
        self._library.emulator_kernels.restype = ctypes.c_char_p
        self._library.emulator_launch.restype = ctypes.c_char_p
        lines = self._library.emulator_kernels().decode().splitlines()
        self._kernels = {
            name: (index, int(bound), signature.split(",") if signature else [])
            for index, (name, bound, signature) in enumerate(line.split("|") for line in lines)
        }

    def get_function(self, name: str) -> Function:
        """The kernel called ``name``."""
        if name not in self._kernels:
            raise EmulatorError(f"no kernel {name!r}; there are {', '.join(self._kernels)}")
        return Function(self, name)


class Function:
    """A kernel, called as ``function(grid, block, args, shared_mem=...)``."""

    def __init__(self, module: Module, name: str) -> None:
        self._module = module
        self.name = name
        self._index, self._bound, self._signature = module._kernels[name]
        self._shared = SHARED_FREE

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        """How much dynamic shared memory a launch may take; a launcher raises it above 48 KiB."""
        return self._shared

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if size > self._module.shared_limit:
            raise EmulatorError(
                f"{self.name}: {size} bytes of shared memory, the device has "
                f"{self._module.shared_limit}"
            )
        self._shared = size

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
    ) -> None:
        """Run the kernel to its end; ``args`` are NumPy's arrays and scalars, nothing converted."""
        grid, block = tuple(grid), tuple(block)
        self._check(grid, block, shared_mem)
        if len(args) != len(self._signature):
            raise EmulatorError(
                f"{self.name} takes {len(self._signature)} arguments, got {len(args)}"
            )
        values = [
            self._argument(place, kind, value)
            for place, (kind, value) in enumerate(zip(self._signature, args, strict=True))
        ]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        self._module.launches.append(Launch(self.name, grid, block, shared_mem))
        error = self._module._library.emulator_launch(
            self._index,
            (ctypes.c_uint * 3)(*grid, *[1] * (3 - len(grid))),
            (ctypes.c_uint * 3)(*block, *[1] * (3 - len(block))),
            ctypes.c_size_t(shared_mem),
            pointers,
            ORDERS.index(self._module.order),
            self._module.seed,
        )
        if error:
            raise EmulatorError(f"{self.name}: {error.decode()}")

    def _check(self, grid: tuple[int, ...], block: tuple[int, ...], shared_mem: int) -> None:
        for what, sides, limits in (("grid", grid, GRID_LIMIT), ("block", block, BLOCK_LIMIT)):
            if not 1 <= len(sides) <= 3 or not all(
                1 <= side <= limit for side, limit in zip(sides, limits, strict=False)
            ):
                raise EmulatorError(
                    f"{self.name}: a {what} of {sides}; at least 1 and at most {limits}"
                )
        if np.prod(block) > self._bound:
            raise EmulatorError(f"{self.name}: {block} threads, its bound is {self._bound}")
        if shared_mem > self._shared:
            raise EmulatorError(
                f"{self.name}: {shared_mem} bytes of shared memory, {self._shared} are allowed; "
                "set max_dynamic_shared_size_bytes first"
            )

    def _argument(self, place: int, kind: str, value: Any) -> Any:
        """``value`` as the C object that the kernel's parameter is copied from."""
        what = f"{self.name}: argument {place} is declared {kind}"
        pointer = re.fullmatch(r"(const )?(\w+)\*", kind)
        if pointer is None:
            if not isinstance(value, np.generic) or value.dtype.str[1:] != kind:
                raise EmulatorError(f"{what}, got {type(value).__name__}")
            return (ctypes.c_char * value.itemsize).from_buffer_copy(value.tobytes())
        if isinstance(value, np.uintp) and not value:
            return ctypes.c_void_p(None)  # the null pointer
        if not isinstance(value, np.ndarray):
            raise EmulatorError(f"{what}, got {type(value).__name__}")
        if value.dtype.str[1:] != pointer[2]:
            raise EmulatorError(f"{what}, got an array of {value.dtype}")
        if not value.flags.c_contiguous or not value.flags.aligned:
            raise EmulatorError(f"{what}, got an array that is not contiguous")
        if not pointer[1] and not value.flags.writeable:
            raise EmulatorError(f"{what}, so it is written, but the array is read-only")
        return ctypes.c_void_p(value.ctypes.data)
