"""Memory that is kept from call to call.

Memory fresh from the system costs a page fault for every 4 KB, and in each step again, since large
arrays go back to the system when they are freed: a tenth of a training step. So each thread keeps
its working buffers, each as large as the largest that was asked for under its name; and the C
library is asked to keep what NumPy frees, up to a gigabyte at a time.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from typing import Any

import numpy as np


class _Own(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[tuple[str, np.dtype[Any]], np.ndarray] = {}


_own = _Own()


def scratch(name: str, size: int, dtype: np.dtype[Any]) -> np.ndarray:
    """A flat array of unspecified values, this thread's until it asks for ``name`` again."""
    buffer = _own.buffers.get((name, dtype))
    if buffer is None or buffer.size < size:
        buffer = _own.buffers[name, dtype] = np.empty(size, dtype)
    return buffer


def release() -> None:
    """Free this thread's buffers."""
    _own.buffers.clear()


def keep_freed_memory() -> None:
    """Let glibc reuse large freed arrays. Its own variables (``MALLOC_TRIM_THRESHOLD_`` and others)
    have the last word; another C library is left as it is.
    """
    if not sys.platform.startswith("linux") or any(n.startswith("MALLOC_") for n in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # as in malloc.h
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, 1 << 30)
        mallopt(top_pad, 1 << 26)
