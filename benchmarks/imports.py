"""What ``import scratchlm`` costs, each import in a fresh interpreter."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

from .timing import in_turns

MODULES = ("scratchlm", "numpy", "autograd.numpy", "torch")


def run(rounds: int = 9) -> dict[str, Any]:
    present = [name for name in MODULES if importlib.util.find_spec(name.partition(".")[0])]
    empty = [sys.executable, "-c", ""]
    calls = {name: [sys.executable, "-c", f"import {name}"] for name in present}
    candidates = {
        name: (lambda command=command: subprocess.run(command, check=True))
        for name, command in {"python alone": empty, **calls}.items()
    }
    timings = in_turns(candidates, rounds=rounds, repeat=1)
    bare = timings[0].milliseconds
    return {
        "unit": "ms",
        "rows": [{"module": t.name, "ms": t.milliseconds - bare} for t in timings[1:]],
    }


def show(result: dict[str, Any], console: Any) -> None:
    from rich.table import Table

    table = Table(title="Import time, ms above an empty interpreter (aim: scratchlm ≤ 150)")
    table.add_column("import")
    table.add_column("ms", justify="right")
    for row in result["rows"]:
        table.add_row(row["module"], f"{row['ms']:.0f}")
    console.print(table)
