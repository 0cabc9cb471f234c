"""One process, or several that train one model together (data parallelism, over MPI).

All processes draw the same batch, and each works on its own part of it. Their gradients, each
weighed by what the part counts, add up to the gradient of the whole batch; so all make the same
step, and no weights are ever sent. What must not be done twice (files, the screen) is the first
process's alone.

Source: Goyal et al. 2017, §2.2 and §3 (what to weigh by); MPI 4.1, §6.9.6 (all processes receive
identical sums).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

# what the launchers of MPICH and Intel, of Open MPI and of SLURM tell each process
LAUNCHED = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


class Alone:
    """One process: everything is done here, and there is nothing to add up."""

    rank, size = 0, 1

    def sum(self, buffer: np.ndarray) -> None:
        """Put the sum over all processes in place of ``buffer``, in each."""

    def first(self, work: Callable[[], T]) -> T:
        """What ``work()`` gives in the first process, in each; if it fails there, all fail."""
        return work()

    def gather(self, value: T) -> list[T]:
        """The ``value`` of each process, in the order of their ranks, in each."""
        return [value]

    @contextlib.contextmanager
    def bound(self) -> Iterator[None]:
        """Inside, an error that not all processes have ends all of them, instead of waiting."""
        yield

    def agree(self) -> None:
        """Say that the error about to be raised is raised by all."""


class MPI(Alone):
    """The processes that ``mpiexec -n N`` started.

    Raises:
        RuntimeError: mpi4py, or an MPI library for it, is not installed.
    """

    def __init__(self) -> None:
        try:
            from mpi4py import MPI as mpi
        except (ImportError, RuntimeError) as error:
            raise RuntimeError(
                f"training on several processes needs mpi4py and an MPI library ({error}): "
                "python -m pip install mpi4py mpich"
            ) from None
        self.comm = mpi.COMM_WORLD
        self.rank, self.size = self.comm.rank, self.comm.size
        self._in_place, self._agreed = mpi.IN_PLACE, False
        _end_all_on_errors(self.comm)

    def sum(self, buffer: np.ndarray) -> None:
        self.comm.Allreduce(self._in_place, buffer)

    def first(self, work: Callable[[], T]) -> T:
        outcome: Any = None
        failure: Exception | None = None
        if self.rank == 0:
            try:
                outcome = work(), None
            except Exception as error:  # raised again below, when all know of it
                failure, outcome = error, (None, str(error))
        result, said = self.comm.bcast(outcome)
        if said is not None:
            self.agree()
            raise failure or RuntimeError(f"the first process failed: {said}")
        return result

    def gather(self, value: T) -> list[T]:
        return self.comm.allgather(value)

    @contextlib.contextmanager
    def bound(self) -> Iterator[None]:
        self._agreed = False
        try:
            yield
        except BaseException:
            if not self._agreed:
                traceback.print_exc()
                print(f"process {self.rank} of {self.size} failed, which ends all", file=sys.stderr)
                end_all()
            raise

    def agree(self) -> None:
        self._agreed = True


def end_all() -> None:
    """End the other processes too, if there are any; before this one leaves them waiting.

    Leaving means to wait for all at MPI's end, where one that still trains never comes.
    """
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.COMM_WORLD.size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        # mpiexec needs a moment to pass on what was said, before it ends itself; and if all fail,
        # the first one's words are those to be read
        time.sleep(1.5 if mpi.COMM_WORLD.rank else 0.5)
        mpi.COMM_WORLD.Abort(1)


def _end_all_on_errors(comm: Any) -> None:
    """An error that nobody catches ends all processes once it was printed."""
    former = sys.excepthook
    if comm.size == 1 or getattr(former, "ends_all", False):
        return

    def hook(*error: Any) -> None:
        former(*error)
        end_all()

    hook.ends_all = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def workers() -> Alone:
    """Those this process was started with: by ``mpiexec``, or alone.

    Raises:
        RuntimeError: as :class:`MPI`.
    """
    together = any(os.environ.get(name, "1") != "1" for name in LAUNCHED)
    return MPI() if together else Alone()
