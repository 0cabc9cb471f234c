"""Timing in turns: medians, and medians of ratios with their spread."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median, quantiles

from scratchlm.train import blas_threads

PAUSE = 0.15  # seconds


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate in each round, and its ratio to the first candidate's."""

    name: str
    seconds: list[float]
    ratios: list[float]

    @property
    def milliseconds(self) -> float:
        return 1e3 * median(self.seconds)

    def as_dict(self) -> dict[str, float | str]:
        low, high = self.spread
        return {
            "name": self.name,
            "ms": self.milliseconds,
            "ratio": self.ratio,
            "low": low,
            "high": high,
        }

    @property
    def ratio(self) -> float:
        """How many times as long as the first candidate."""
        return median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles of the ratio."""
        low, _, high = quantiles(self.ratios, n=4)
        return low, high


def in_turns(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 9,
    repeat: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Time each candidate ``repeat`` times in a row, in each of ``rounds`` rounds.

    Before each turn there is a pause, since idle threads of OpenBLAS's spin for a tenth of a
    second, and the first call is not counted: it finds another candidate's data in the caches. The
    order turns around with every round. With ``time.process_time`` for a clock, what other programs
    do in the meantime hardly counts.
    """
    names = list(candidates)
    for call in candidates.values():
        call()  # compile, allocate
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            call = candidates[name]
            time.sleep(PAUSE)
            call()
            times = []
            for _ in range(repeat):
                start = clock()
                call()
                times.append(clock() - start)
            seconds[name].append(median(times))
    first = seconds[names[0]]
    return [
        Timing(name, own, [a / b for a, b in zip(own, first, strict=True)])
        for name, own in seconds.items()
    ]


def per_call(call: Callable[[], object], number: int) -> float:
    """Processor seconds of one call, the mean over ``number`` of them: what other programs on the
    machine do in the meantime does not count."""
    start = time.process_time()
    for _ in range(number):
        call()
    return (time.process_time() - start) / number


@contextlib.contextmanager
def limited(count: int | None) -> Iterator[Callable[[], float]]:
    """Inside the block all libraries use ``count`` threads (None: as many as they like).

    Yields:
        the clock to read: with one thread the processor's, which other programs hardly touch.
    """
    if count is None:
        yield time.perf_counter
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(blas_threads(count))
        if importlib.util.find_spec("numba"):
            from scratchlm_kernels.cpu import threads

            stack.callback(threads.set_threads, threads.threads())
            threads.set_threads(count)
        if importlib.util.find_spec("torch"):
            import torch

            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(count)
        yield time.process_time if count == 1 else time.perf_counter
