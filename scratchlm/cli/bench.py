"""``scratchlm bench``: the benchmarks of the checkout."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import typer

import scratchlm

from .screen import fail

# `benchmarks` takes the words apart, and explains them, itself
SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def bench(ctx: typer.Context) -> None:
    """Time scratchlm beside what you would run instead: `scratchlm bench --help` lists the parts.

    The benchmarks are in the checkout, not in the installed package.
    """
    checkout = Path(scratchlm.__file__).resolve().parents[1]
    if not (checkout / "benchmarks" / "__main__.py").exists():
        fail(
            "the benchmarks are not here",
            why="they are no part of the installed package, but of the project's folder",
            fix="in a checkout of scratchlm: make bench",
        )
    sys.path.insert(0, str(checkout))
    others = os.environ.get("PYTHONPATH")  # of the processes that it starts, in any folder
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(checkout), others]))
    try:
        importlib.import_module("benchmarks.__main__").main(ctx.args, prog="scratchlm bench")
    except ModuleNotFoundError as error:
        fail(
            f"the benchmarks compare with {error.name}, which is not installed",
            fix="make bench, which installs it, or: python -m pip install --group parity",
        )
