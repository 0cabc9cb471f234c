"""Running part of a test in a process of its own, where a sanitizer looks on.

The sanitizers' runtimes must be loaded before everything else, and they report on stderr. One
process runs many cases, each announced by :func:`begin`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from emulator.build import sanitized_environment

ROOT = Path(__file__).parents[2]
_MARK = "=== case: "


def begin(case: str) -> None:
    """What follows on stderr belongs to ``case``."""
    print(f"{_MARK}{case}", file=sys.stderr, flush=True)


def apart(work: Callable[[], object]) -> None:
    """Do ``work`` in a fork: what it writes out of bounds then harms nothing that comes after.

    (ThreadSanitizer says nothing in the fork of a process that has had threads, or fibers.)
    """
    sys.stderr.flush()
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            sys.stderr.flush()
            os._exit(0)
    os.waitpid(child, 0)


def sanitized(sanitize: str, call: str) -> dict[str, str]:
    """What ``call``, of a module of this folder, leaves on stderr: case -> text."""
    module = call.partition(".")[0]
    paths = [str(ROOT / "tests"), str(ROOT / "kernels"), str(ROOT)]
    program = f"import sys; sys.path[:0] = {paths}; from kernels import {module}; {call}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env=sanitized_environment(sanitize),
        capture_output=True,
        text=True,
    )
    head, *parts = done.stderr.split(_MARK)
    assert done.returncode == 0, done.stderr[-4000:]
    assert not found(head), head[:4000]
    return dict(part.split("\n", 1) for part in parts)


def found(said: str) -> bool:
    """Whether a sanitizer found something."""
    return re.search(r"(WARNING|ERROR): \w+Sanitizer|runtime error:", said) is not None
