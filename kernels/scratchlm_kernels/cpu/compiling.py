"""From a Python function to a compiled kernel: when, for which types, and where it is kept.

A kernel is compiled when it first runs, for the dtype it runs with, and the machine code is kept in
a folder whose name is a hash of these sources. (Numba's own cache looks at the one file a function
is in, and would go on using what was compiled from a helper in another file before it changed.)
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types

# Sums may be reordered (else none is vectorized) and products fused with sums; but infinities and
# NaN are what they are, so not Numba's fastmath=True.
FASTMATH = {"contract", "reassoc", "nsz"}

config: Any = numba.config
# Division by 0 gives infinity, as in NumPy: a loop that could raise is not vectorized.
OPTIONS: dict[str, Any] = {"fastmath": FASTMATH, "nogil": True, "error_model": "numpy"}
inline = numba.njit(inline="always", **OPTIONS)  # part of the kernels that call it
helper = numba.njit(**OPTIONS)  # a function of its own inside them


OURS = re.compile(r"kernels-[0-9a-f]{16}")  # the folders' names; nothing else is ever deleted
KEPT, HOUR = 4, 3600.0
DELETED = ".deleted"

_one_at_a_time = threading.Lock()  # where to keep code is a global setting of Numba's


class Types:
    """The argument types of a kernel for one dtype."""

    integer = types.intp
    flag = types.boolean
    counter = types.Array(types.int64, 1, "C")
    ids = types.Array(types.int64, 1, "C", readonly=True)
    angles = types.Array(types.float64, 1, "C", readonly=True)
    bits = types.uint64
    bytes = types.Array(types.uint8, 1, "C", readonly=True)

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.real = numba.from_dtype(dtype)

    def given(self, ndim: int) -> Any:
        """An array from outside: any strides, and it may be read-only."""
        return types.Array(self.real, ndim, "A", readonly=True)

    def dense(self, ndim: int) -> Any:
        """A contiguous array from outside, which may be read-only. (Loops over a stride that is not
        known to be one number are not vectorized.)
        """
        return types.Array(self.real, ndim, "C", readonly=True)

    def own(self, ndim: int) -> Any:
        """An array that was made here: contiguous, writable."""
        return types.Array(self.real, ndim, "C")


class Kernel:
    """A function, compiled for a dtype when first asked for it: ``kernel[dtype](...)``."""

    def __init__(self, function: Callable[..., None], signature: Callable[[Types], tuple]) -> None:
        self.function = function
        self.signature = signature
        self._compiled: dict[Any, Callable[..., None]] = {}

    def __getitem__(self, dtype: np.dtype[Any]) -> Callable[..., None]:
        try:
            return self._compiled[dtype]
        except KeyError:
            return self._compile(dtype)

    def _compile(self, dtype: np.dtype[Any]) -> Callable[..., None]:
        with _one_at_a_time:
            if dtype not in self._compiled:
                self._compiled[dtype] = self._make(dtype)
        return self._compiled[dtype]

    def _make(self, dtype: np.dtype[Any]) -> Callable[..., None]:
        folder = cache_folder()
        arguments = self.signature(Types(dtype))
        # Numba reads where to keep things when a function is decorated.
        former, config.CACHE_DIR = config.CACHE_DIR, str(folder)
        try:
            made = numba.njit(cache=True, **OPTIONS)(self.function)
        finally:
            config.CACHE_DIR = former
        if not any(folder.glob(f"**/*.{self.function.__name__}-*.nbc")):
            _notice(str(folder))
        made.compile(types.void(*arguments))
        made.disable_compile()  # other layouts are converted to these types, not compiled for
        return made


def kernel(
    signature: Callable[[Types], tuple[Any, ...]],
) -> Callable[[Callable[..., None]], Kernel]:
    """Make the decorated function a :class:`Kernel`; ``signature`` says its arguments' types."""
    return lambda function: Kernel(function, signature)


@functools.cache
def cache_folder() -> Path:
    """Where compiled kernels are kept; it can be deleted at any time. Those of older sources are.

    Under ``NUMBA_CACHE_DIR`` if that is set, else in ``__pycache__`` beside the sources, or in the
    user's cache folder where that can't be written.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for source in sorted(package.glob("*.py")):
        digest.update(source.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}"
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    places = (
        [Path(chosen)]
        if chosen
        else [
            package / "__pycache__",
            Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scratchlm",
        ]
    )
    for place in places:
        try:
            (place / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(place / name, os.W_OK):
            _prune(place / name)
            return place / name
    import tempfile

    return Path(tempfile.mkdtemp(prefix="scratchlm-"))


def _prune(current: Path) -> None:
    """Delete the folders of older sources beside ``current``: all but the latest ``KEPT``.

    The age of a folder is when a process last chose it. One that was chosen in the last hour stays:
    another process may be at work in it. Two that prune at once meet files that are gone, which is
    what both want.
    """
    with contextlib.suppress(OSError):
        os.utime(current)
    ages = []
    for folder in current.parent.glob("kernels-*"):
        ours = OURS.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink()
        if ours and folder != current:
            with contextlib.suppress(OSError):  # gone by now
                ages.append((time.time() - folder.stat().st_mtime, folder))
    for age, folder in sorted(ages)[KEPT - 1 :]:
        if age > HOUR:
            # half deleted it would look as if it had just been used
            with contextlib.suppress(OSError):
                folder.rename(folder.with_name(folder.name + DELETED))
    for folder in current.parent.glob(f"kernels-*{DELETED}"):
        if OURS.fullmatch(folder.name.removesuffix(DELETED)):
            shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def _notice(folder: str) -> None:
    """Say why it takes so long, once, to someone who waits: not into a file or another program."""
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        print(
            f"scratchlm: compiling the CPU kernels, once (seconds; kept in {folder})",
            file=sys.stderr,
        )
