"""What to type to start this program again."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def invocation() -> str:
    """``scratchlm`` where the shell finds the one that is running, else the way through Python.

    After ``make tour`` the environment is not activated, so its ``scratchlm`` is not on the path;
    and a folder with a space in its name breaks the script, while ``python -m`` always works.
    """
    found = shutil.which("scratchlm")
    here = Path(sys.executable).parent
    if found and Path(found).parent == here and " " not in str(here):
        return "scratchlm"
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    name = str(python)
    if os.name == "nt" and not python.is_absolute():
        name = f".\\{name}"
    return (f'"{name}"' if " " in name else name) + " -m scratchlm"


def quoted(path: Path) -> str:
    """The path as it is typed in a shell."""
    return f'"{path}"' if " " in str(path) else str(path)
