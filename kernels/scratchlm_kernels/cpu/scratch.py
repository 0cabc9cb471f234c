"""Working memory that is kept from call to call.

Memory fresh from the system costs a page fault for every 4 KB, in each step again, since large
arrays go back to the system when they are freed. Each thread keeps its own buffers, each as large
as the largest that was asked for under its name.
"""

from __future__ import annotations

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
