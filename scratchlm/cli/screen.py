"""How the command line speaks: one console, and errors as *what, why, fix*."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def fail(what: str, *, why: str = "", fix: str = "", code: int = 1) -> NoReturn:
    """Say what is wrong, why, and what to do, and end with an exit code."""
    say_failure(what, why=why, fix=fix)
    raise typer.Exit(code)


def say_failure(what: str, *, why: str = "", fix: str = "") -> None:
    """The lines that ``fail`` prints."""
    text = Text()
    text.append("✗ ", style="bold red").append(what, style="bold")
    for label, words in (("why", why), ("fix", fix)):
        if words:
            indented = words.replace("\n", "\n       ")
            text.append(f"\n  {label}  ", style="dim").append(indented)
    errors.print(text)


def say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as a line for people: without its category and the line of code it came from."""
    errors.print(Text("! ", style="yellow").append(str(message), style="default"))


def prepare() -> None:
    """Let a console that knows only an old code page (Windows) print Greek and Chinese."""
    for stream in (sys.stdout, sys.stderr):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        if encoding.lower().replace("-", "") != "utf8" and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
