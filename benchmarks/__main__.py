"""``python -m benchmarks [PART …] [--sizes nano,mid,bpe] [--rounds N] [--json F] [--plot F]``.

Parts: engine, ops, attention, train_step, decode, tokenizer, memory, imports; and language_models
(``--minutes M``) and transfer, which train for minutes and run only if they are named.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import numpy as np
from rich.console import Console

from scratchlm.plot.files import FORMATS

from . import (
    attention,
    chart,
    decode,
    engine,
    imports,
    language_models,
    memory,
    ops,
    tokenizer,
    train_step,
    transfer,
)

PARTS = {
    "engine": engine,
    "ops": ops,
    "attention": attention,
    "train_step": train_step,
    "decode": decode,
    "tokenizer": tokenizer,
    "memory": memory,
    "imports": imports,
    "language_models": language_models,
    "transfer": transfer,
}
LONG = ("language_models", "transfer")  # not unless they are named


def main(words: list[str] | None = None, prog: str = "python -m benchmarks") -> None:
    parser = argparse.ArgumentParser(
        prog=prog, description="Time scratchlm beside others, in one run, in turns."
    )
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        help=f"of {', '.join(PARTS)}; default: all but {', '.join(LONG)}",
    )
    parser.add_argument("--sizes", default="nano", help="GPT sizes: nano, mid, bpe, with commas")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each candidate")
    parser.add_argument(
        "--minutes",
        type=float,
        default=language_models.MINUTES,
        help="of training each of the language models",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--plot", type=Path, help="draw them too, as .png or .svg")
    arguments = parser.parse_args(words)
    unknown = [part for part in arguments.parts if part not in PARTS]
    sizes = arguments.sizes.split(",")
    unknown += [size for size in sizes if size not in train_step.SIZES]
    if unknown:
        parser.error(
            f"unknown: {', '.join(unknown)}; parts are {', '.join(PARTS)}, "
            f"sizes {', '.join(train_step.SIZES)}"
        )
    if arguments.rounds < 2:
        parser.error("--rounds needs at least 2, for a spread")

    if not 0 < arguments.minutes < float("inf"):
        parser.error(f"--minutes {arguments.minutes:g} must be positive")

    if arguments.plot and arguments.plot.suffix.lower() not in FORMATS:
        parser.error(f"--plot {arguments.plot}: the name must end in {' or '.join(FORMATS)}")

    console = Console()
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"NumPy {np.__version__}; all in one run, in turns; medians\n",
        highlight=False,
    )
    results = {}
    for name in arguments.parts or [part for part in PARTS if part not in LONG]:
        part = PARTS[name]
        console.print(f"[dim]{name} …[/dim]")
        if part is train_step:
            results[name] = train_step.run(sizes, rounds=arguments.rounds)
        elif part is language_models:
            results[name] = language_models.run(minutes=arguments.minutes)
        else:
            results[name] = part.run(rounds=arguments.rounds)
        part.show(results[name], console)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")
    if arguments.plot:
        console.print(f"drawn: {chart.draw(results, arguments.plot)}")


if __name__ == "__main__":
    main()
