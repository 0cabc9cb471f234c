"""Pieces of work, shared out: each is done once, and all are done when ``share`` returns."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("numba", reason="Numba is not installed")

from scratchlm_kernels.cpu import threads
from scratchlm_kernels.cpu.waiting import take


@pytest.fixture(autouse=True)
def count() -> Iterator[None]:
    former = threads.threads()
    threads.set_threads(2)
    yield
    threads.set_threads(former)


def note(counter: np.ndarray, pieces: int, done: list, seconds: float = 0.0) -> None:
    """A kernel that says which pieces were done, and by whom; appending is atomic."""
    while (piece := take(counter)) < pieces:
        time.sleep(seconds)
        done.append((piece, threading.current_thread().name))


def workers() -> int:
    return sum(thread.name == "scratchlm-kernel" for thread in threading.enumerate())


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_each_piece_is_done_once_in_every_job(number: int) -> None:
    threads.set_threads(number)
    for pieces in [0, 1, 2, 3, 7, 100] * 5:
        done: list = []
        threads.share(note, pieces, done)
        assert sorted(piece for piece, _ in done) == list(range(pieces))


def test_others_take_part_and_are_waited_for() -> None:
    """After a rest too short to fall asleep, and after one that is long enough."""
    for pause in (0.0, 0.05):
        time.sleep(pause)
        done: list = []
        threads.share(note, 8, done, 0.02)
        assert len(done) == 8
        assert {name for _, name in done} == {threading.current_thread().name, "scratchlm-kernel"}


def test_without_waiting_pieces_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests above would see if the owner did not wait."""
    threads.share(note, 2, [], 0.01)
    pool = threads._workers()
    monkeypatch.setattr(pool, "await_workers", lambda counter, back: counter.__setitem__(9, back))
    done: list = []
    late = [0.0, 0.2]

    def uneven(counter: np.ndarray, pieces: int) -> None:
        note(counter, pieces, done, late[threading.current_thread().name == "scratchlm-kernel"])

    for _ in range(20):
        done.clear()
        threads.share(uneven, 50)
        if len(done) < 50:
            break
    assert len(done) < 50
    threads._drop_pool()  # its worker is out of step now


def test_small_work_and_a_second_caller_stay_in_their_thread() -> None:
    done: list = []
    threads.share(note, 9, done, small=True)
    assert {name for _, name in done} == {threading.current_thread().name}

    inner: list = []

    def outer(counter: np.ndarray, pieces: int) -> None:
        while take(counter) < pieces:
            own: list = []
            threads.share(note, 5, own)  # the pool is busy with `outer`
            inner.append(own)

    threads.share(outer, 6)
    assert len(inner) == 6
    for own in inner:
        assert [piece for piece, _ in own] == list(range(5))
        assert len({name for _, name in own}) == 1


def test_two_python_threads_at_once() -> None:
    wrong: list = []

    def many() -> None:
        for _ in range(200):
            done: list = []
            threads.share(note, 11, done)
            if sorted(piece for piece, _ in done) != list(range(11)):
                wrong.append(done)

    callers = [threading.Thread(target=many) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


def test_what_fails_in_a_helper_is_raised_and_the_next_job_runs() -> None:
    def fails(counter: np.ndarray, pieces: int) -> None:
        if threading.current_thread().name == "scratchlm-kernel":
            raise MemoryError("no room for a tile")
        note(counter, pieces, [], 0.02)

    with pytest.raises(MemoryError, match="no room for a tile"):
        threads.share(fails, 8)
    done: list = []
    threads.share(note, 30, done)
    assert len(done) == 30


def test_an_interrupted_job_does_not_disturb_the_next() -> None:
    """Ctrl-C reaches the owner while a helper is still at work."""
    stray: list = []

    def interrupted(counter: np.ndarray, pieces: int) -> None:
        if threading.current_thread().name != "scratchlm-kernel":
            take(counter)
            time.sleep(0.02)
            raise KeyboardInterrupt
        note(counter, pieces, stray, 0.05)

    with pytest.raises(KeyboardInterrupt):
        threads.share(interrupted, 6)
    for _ in range(20):
        done: list = []
        threads.share(note, 10, done, 0.001)
        assert sorted(piece for piece, _ in done) == list(range(10))


def test_threads_that_are_not_needed_end() -> None:
    threads.set_threads(4)
    threads.share(note, 20, [], 0.001)
    assert workers() >= 3
    threads.set_threads(1)
    deadline = time.monotonic() + 30
    while workers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert workers() == 0


def test_arrays_are_not_kept_after_their_job() -> None:
    import weakref

    array = np.ones(1000)
    kept = weakref.ref(array)
    threads.share(lambda counter, pieces, x: note(counter, pieces, [], 0.005), 8, array)
    del array
    assert kept() is None
