"""How many threads NumPy's matrix products use.

OpenBLAS divides even a small product among all cores, and its threads then wait for each other: a
gain of a third where nothing else runs, and ten times slower where another program takes a core. A
model of a few hundred thousand weights is better off with one thread.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


@contextlib.contextmanager
def blas_threads(count: int) -> Iterator[bool]:
    """Inside the block, OpenBLAS uses ``count`` threads.

    Yields:
        whether that could be set: NumPy's wheels bring an OpenBLAS; another BLAS stays as it is.

    Raises:
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"blas_threads: count={count} must be at least 1")
    library = _openblas()
    if library is None:
        yield False
        return
    get, set_ = library
    former = get()
    set_(count)
    try:
        yield True
    finally:
        set_(former)


def _openblas() -> tuple[Any, Any] | None:
    """The two functions of the OpenBLAS that NumPy brought and has loaded."""
    package = Path(np.__file__).parent
    for folder in (package.with_name("numpy.libs"), package / ".dylibs"):
        for path in folder.glob("*openblas*"):
            with contextlib.suppress(OSError):
                library = ctypes.CDLL(str(path))
                for prefix in ("scipy_openblas", "openblas"):
                    for suffix in ("64_", ""):
                        with contextlib.suppress(AttributeError):
                            return (
                                getattr(library, f"{prefix}_get_num_threads{suffix}"),
                                getattr(library, f"{prefix}_set_num_threads{suffix}"),
                            )
    return None
