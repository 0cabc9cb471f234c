"""Threads and the cache of compiled code."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from scratchlm_kernels.cpu import compiling, scratch, threads


@pytest.fixture(autouse=True)
def _restored() -> Any:
    former = threads.threads()
    yield
    threads.set_threads(former)


def test_every_piece_is_done_once() -> None:
    done: list[int] = []

    def run(counter: np.ndarray, pieces: int) -> None:
        while counter[0] < pieces:  # Python's own lock makes this safe enough, one line at a time
            done.append(int(counter[0]))
            counter[0] += 1

    threads.set_threads(1)
    threads.share(run, 5)
    assert done == [0, 1, 2, 3, 4]
    threads.set_threads(3)
    threads.share(run, 5, small=True)
    assert done == [0, 1, 2, 3, 4] * 2


def test_errors_of_any_thread_arrive() -> None:
    def fail(counter: np.ndarray, pieces: int) -> None:
        raise ZeroDivisionError

    for count in (1, 3):
        threads.set_threads(count)
        with pytest.raises(ZeroDivisionError):
            threads.share(fail, 5)


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="count=0 must be at least 1"):
        threads.set_threads(0)
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    monkeypatch.delenv("SCRATCHLM_THREADS", raising=False)
    assert threads._from_environment() == 3
    monkeypatch.setenv("SCRATCHLM_THREADS", "5")
    assert threads._from_environment() == 5
    monkeypatch.setenv("SCRATCHLM_THREADS", "many")
    with pytest.raises(ValueError, match="SCRATCHLM_THREADS='many' must be a number"):
        threads._from_environment()


def test_a_changed_source_is_compiled_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder's name hangs on every source, the callees' as well as the kernel's."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    for source in Path(compiling.__file__).parent.glob("*.py"):
        shutil.copy(source, tmp_path)
    spec = importlib.util.spec_from_file_location("copied_compiling", tmp_path / "compiling.py")
    assert spec is not None
    assert spec.loader is not None
    copied = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copied)
    first = copied.cache_folder()
    assert first.parent == tmp_path / "__pycache__"
    assert first.name == compiling.cache_folder().name  # the same sources
    simd = tmp_path / "simd.py"
    simd.write_text(simd.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
    copied.cache_folder.cache_clear()
    assert copied.cache_folder() != first
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "chosen"))
    copied.cache_folder.cache_clear()
    assert copied.cache_folder().parent == tmp_path / "chosen"


def test_working_memory_is_reused_and_freed() -> None:
    scratch.release()
    a = scratch.scratch("x", 100, np.dtype("float32"))
    assert scratch.scratch("x", 50, np.dtype("float32")) is a
    assert scratch.scratch("x", 50, np.dtype("float64")) is not a
    assert scratch.scratch("x", 101, np.dtype("float32")).size == 101
    scratch.release()
    assert scratch.scratch("x", 1, np.dtype("float32")).size == 1
