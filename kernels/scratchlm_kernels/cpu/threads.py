"""How many cores the kernels use, and how they share them with NumPy's matrix products.

The kernels release Python's lock, so plain threads run them side by side. Work is cut into more
pieces than there are threads, and each takes the next one when it is done: a core that another
program is using does fewer of them, and no more than its last is waited for. No thread spins while
it has nothing to do, which is what makes two pools (OpenBLAS's and one of OpenMP's) so slow on the
same cores.

``set_threads(n)``, or the environment variable ``SCRATCHLM_THREADS``, sets the number; otherwise it
is ``OMP_NUM_THREADS``, and without that the number of cores this process may run on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

_count: int | None = None
_pool: ThreadPoolExecutor | None = None


def threads() -> int:
    """How many threads a kernel may use."""
    global _count
    if _count is None:
        _count = _from_environment() or _cores()
    return _count


def set_threads(count: int) -> None:
    """Let kernels use ``count`` threads from now on.

    Raises:
        ValueError: ``count`` is below 1.
    """
    global _count, _pool
    if count < 1:
        raise ValueError(f"set_threads: count={count} must be at least 1")
    _count = count
    _pool = None  # its threads end by themselves


def share(run: Callable[..., None], pieces: int, *arguments: Any, small: bool = False) -> None:
    """Call ``run(counter, pieces, *arguments)`` in several threads, until all pieces are done.

    Each of them takes numbers from the counter while they are below ``pieces``. ``small`` work
    stays in this thread: to wake another one takes some 30 microseconds.
    """
    counter = np.zeros(1, np.int64)
    helpers = 0 if small else min(threads(), pieces) - 1
    if helpers <= 0:
        run(counter, pieces, *arguments)
        return
    pool = _workers()
    others = [pool.submit(run, counter, pieces, *arguments) for _ in range(helpers)]
    try:
        run(counter, pieces, *arguments)
    finally:
        for other in others:
            if not other.cancel():  # one that has not begun has nothing left to do
                other.result()


def _workers() -> ThreadPoolExecutor:
    global _pool
    pool = _pool
    if pool is None:
        pool = _pool = ThreadPoolExecutor(max(1, threads() - 1), "scratchlm-kernel")
    return pool


def _forget_pool() -> None:
    """The threads stay behind in the process that forked."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _from_environment() -> int | None:
    for name in ("SCRATCHLM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "").split(",")[0].strip()
        if value:
            if not value.isdecimal() or int(value) < 1:
                raise ValueError(f"{name}={value!r} must be a number of threads, 1 or more")
            return int(value)
    return None
