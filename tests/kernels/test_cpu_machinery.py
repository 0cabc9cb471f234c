"""Threads and the cache of compiled code."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
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


def _idle(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def old_folders(place: Path, count: int) -> list[Path]:
    """Folders of former sources, the first one the oldest, the last one of a day ago."""
    folders = [place / f"kernels-{i:016x}" for i in range(count)]
    for days, folder in enumerate(reversed(folders), start=1):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "code.nbc").write_bytes(b"code")
        _idle(folder, days * 86400)
    return folders


def test_folders_of_older_sources_are_deleted(tmp_path: Path) -> None:
    folders = old_folders(tmp_path, 6)
    kept = ["kernels-short", "kernels-0123456789ABCDEF", "kernels-0123456789abcdef0", "numba"]
    for name in kept:
        (tmp_path / name).mkdir()
        _idle(tmp_path / name, 1e6)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (tmp_path / "kernels-aaaaaaaaaaaaaaaa").symlink_to(outside)
    (tmp_path / "kernels-bbbbbbbbbbbbbbbb").write_text("a file", encoding="utf-8")
    _idle(tmp_path / "kernels-bbbbbbbbbbbbbbbb", 1e6)
    compiling._prune(folders[0])  # chosen again: it is the latest now
    compiling._prune(folders[0])
    assert [f.exists() for f in folders] == [True, False, False, True, True, True]
    assert all((tmp_path / name).is_dir() for name in kept)
    assert outside.is_dir()
    assert (tmp_path / "kernels-aaaaaaaaaaaaaaaa").is_symlink()
    assert (tmp_path / "kernels-bbbbbbbbbbbbbbbb").is_file()
    busy = tmp_path / "kernels-cccccccccccccccc"
    busy.mkdir()
    for folder in folders[3:]:
        _idle(folder, 10)
    _idle(busy, 3000)
    compiling._prune(folders[0])  # five of them, but none has been idle for an hour
    assert busy.exists()
    _idle(busy, 4000)
    compiling._prune(folders[0])
    assert not busy.exists()


def test_two_processes_may_prune_at_once(tmp_path: Path) -> None:
    folders = old_folders(tmp_path, 200)
    program = (
        "import pathlib, sys; from scratchlm_kernels.cpu import compiling;"
        "sys.stdin.readline(); compiling._prune(pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(folders[-1])]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(2)]
    for each in running:
        assert each.stdin is not None
        each.stdin.write(b"\n")
        each.stdin.flush()
    for each in running:
        each.communicate(timeout=60)
    assert [each.returncode for each in running] == [0, 0]
    assert sorted(tmp_path.iterdir()) == folders[-4:]


def test_a_deleted_folder_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever deletes it while a program runs: the next kernel is compiled and kept as before."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    monkeypatch.setattr(compiling, "cache_folder", lambda: folder)

    def double(x: Any) -> None:
        for i in range(x.size):
            x[i] *= 2

    one = compiling.Kernel(double, lambda t: (t.own(1),))
    for dtype in (np.dtype("float32"), np.dtype("float64")):
        x = np.ones(3, dtype)
        one[dtype](x)
        assert x.tolist() == [2, 2, 2]
        assert any(folder.glob("**/*.nbc"))
        shutil.rmtree(folder)


def test_working_memory_is_reused_and_freed() -> None:
    scratch.release()
    a = scratch.scratch("x", 100, np.dtype("float32"))
    assert scratch.scratch("x", 50, np.dtype("float32")) is a
    assert scratch.scratch("x", 50, np.dtype("float64")) is not a
    assert scratch.scratch("x", 101, np.dtype("float32")).size == 101
    scratch.release()
    assert scratch.scratch("x", 1, np.dtype("float32")).size == 1
