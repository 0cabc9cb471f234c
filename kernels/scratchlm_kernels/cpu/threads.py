"""How many cores the kernels use, and how they share them with NumPy's matrix products.

The kernels release Python's lock, so plain threads run them side by side. Work is cut into more
pieces than there are threads, and each takes the next one when it is done: a core that another
program is using does fewer of them, and no more than its last is waited for. A thread that has
nothing to do watches for the next job for some tens of microseconds, the time between two kernels
of a model, and then sleeps: threads that spin for longer are what makes two pools (OpenBLAS's and
one of OpenMP's) so slow on the same cores.

``set_threads(n)``, or the environment variable ``SCRATCHLM_THREADS``, sets the number; otherwise it
is ``OMP_NUM_THREADS``, and without that the number of cores this process may run on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import numpy as np

# Places in a job's counter: pieces taken, how many those were when the job began, how many it has,
# how many of them from the front and from the back; on a cache line of its own, the latest job
# whose workers are waited for, and how often one came back. The first and the last go on rising
# from job to job.
TAKEN, BEGIN, END, FROM_FRONT, FROM_BACK, RELEASED, BACK = 0, 1, 2, 3, 4, 8, 9
OWNER, WORKER = 16, 15  # the lengths by which kernels tell whose counter it is

WATCH = 12000

_count: int | None = None
_pool: _Pool | None = None
_making = threading.Lock()


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
    global _count
    if count < 1:
        raise ValueError(f"set_threads: count={count} must be at least 1")
    _count = count
    _drop_pool()


def share(run: Callable[..., None], pieces: int, *arguments: Any, small: bool = False) -> None:
    """Call ``run(counter, pieces, *arguments)`` in several threads, until all pieces are done.

    Each of them takes numbers from the counter while they are below ``pieces``. ``small`` work
    stays in this thread, as does what a second Python thread asks for at the same time.
    """
    helpers = 0 if small else min(threads(), pieces) - 1
    pool = _workers() if helpers > 0 else None
    if pool is not None and pool.free.acquire(blocking=False):
        try:
            pool.share(_Job(run, pieces, arguments, helpers))
        finally:
            pool.free.release()
    else:
        run(np.zeros(OWNER, np.int64), pieces, *arguments)


class _Job:
    def __init__(
        self, run: Callable[..., None], pieces: int, arguments: tuple[Any, ...], helpers: int
    ) -> None:
        self.run, self.pieces, self.arguments = run, pieces, arguments
        self.helpers = helpers
        self.seats = [None] * helpers  # who pops one takes part; list.pop is atomic
        self.begin = -1
        self.error: BaseException | None = None


class _Pool:
    """Threads that wait for jobs, and the counter that they and the owner of a job take from."""

    def __init__(self, size: int) -> None:
        from .waiting import await_workers, rest

        integer = np.dtype(np.int64)
        self.rest, self.await_workers = rest[integer], await_workers[integer]
        self.counter = np.zeros(OWNER, np.int64)
        self.free = threading.Lock()  # held while somebody's job is being done
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self.size = size
        for _ in range(size):
            threading.Thread(target=self._work, name="scratchlm-kernel", daemon=True).start()

    def share(self, job: _Job) -> None:
        counter = self.counter
        done = False
        counter[BEGIN] = job.begin = int(counter[TAKEN])
        counter[END] = job.pieces
        counter[FROM_FRONT] = counter[FROM_BACK] = 0
        back = int(counter[BACK])
        try:
            for _ in range(job.helpers):
                self.jobs.put(job)
            job.run(counter, job.pieces, *job.arguments)
            while job.seats:  # who has not sat down by now has nothing left to do
                try:
                    job.seats.pop()
                except IndexError:
                    break
                job.helpers -= 1
            back += job.helpers
            self.await_workers(counter, back)
            while counter[BACK] < back:  # another program is on that core
                time.sleep(50e-6)
            done = True
        finally:
            if not done:  # interrupted: someone may still be at it, and use this counter
                _drop_pool()
        if job.error is not None:
            raise job.error

    def _work(self) -> None:
        counter = self.counter[:WORKER]
        seen, worked = -1, False
        while True:
            if worked or self.jobs.empty():
                self.rest(counter, seen, worked)
            job = self.jobs.get()
            if job is None:
                return
            seen = job.begin
            worked = self._join(job, counter)
            del job  # its arrays are not kept while this one rests

    def _join(self, job: _Job, counter: np.ndarray) -> bool:
        try:
            job.seats.pop()
        except IndexError:
            return False  # too late
        try:
            job.run(counter, job.pieces, *job.arguments)
        except BaseException as error:
            job.error = error
        return True

    def close(self) -> None:
        for _ in range(self.size):
            self.jobs.put(None)


def _workers() -> _Pool:
    global _pool
    pool = _pool
    if pool is None:
        with _making:
            pool = _pool = _pool or _Pool(threads() - 1)
    return pool


def _drop_pool() -> None:
    global _pool
    pool, _pool = _pool, None
    if pool is not None:
        pool.close()


def _forget_pool() -> None:
    """The threads stay behind in the process that forked."""
    global _pool, _making
    _pool, _making = None, threading.Lock()


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
