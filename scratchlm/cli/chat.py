"""``scratchlm chat``: a conversation in the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .screen import console, errors, fail, say_failure

if TYPE_CHECKING:
    from ..chat import Chat

DRAWING = "How the next token is drawn"
PROMPT = "› "
HELP = """\
[bold]/help[/]        this list
[bold]/reset[/]       forget what was said, and begin anew
[bold]/save FILE[/]   keep the conversation: as messages if FILE ends in .json, else as text
[bold]/exit[/]        end; so does Ctrl-D
[dim]Ctrl-C stops an answer; what is there of it stays.
A line that ends in \\ goes on in the next one.[/]
"""
# a model may write any byte, those that move a terminal's cursor too
UNPRINTABLE = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)))


def chat(
    model: Annotated[
        str,
        typer.Argument(
            help="A name from `scratchlm fetch --list`, a .gguf file, or a folder with config.json."
        ),
    ] = "smollm2",
    ask: Annotated[
        str | None,
        typer.Option(help="Answer this one question, and end.", show_default=False),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            help="What the model is told about its task, before anything else.",
            show_default="the model's own",
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="The longest answer.", min=1)] = 512,
    context: Annotated[
        int | None,
        typer.Option(
            help="Tokens that it remembers; then the oldest turns are dropped.",
            min=2,
            show_default="what it was trained for",
        ),
    ] = None,
    temperature: Annotated[
        float,
        typer.Option(
            help="0 always takes the likeliest; 0.2 to 0.8 varies.",
            rich_help_panel=DRAWING,
            min=0,
        ),
    ] = 0.0,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Draw among the fewest likeliest that together have this probability.",
            rich_help_panel=DRAWING,
            show_default="all",
        ),
    ] = None,
    repetition_penalty: Annotated[
        float,
        typer.Option(
            help="Above 1, such as 1.1: what was said already becomes less likely.",
            rich_help_panel=DRAWING,
        ),
    ] = 1.0,
    seed: Annotated[
        int | None,
        typer.Option(
            help="The same seed draws the same answers.",
            rich_help_panel=DRAWING,
            show_default=False,
        ),
    ] = None,
    chatml: Annotated[
        bool,
        typer.Option(
            "--chatml", help="Write messages as ChatML does, whatever the model's files say."
        ),
    ] = False,
) -> None:
    """Talk with a model that was trained to answer. Ctrl-C stops an answer, Ctrl-D ends.

    Questions that come through a pipe are answered line by line.
    """
    from ..chat import Chat
    from ..text import ChatTemplate

    with _busy(f"reading {model}"):
        talk = Chat.load(
            model,
            template=ChatTemplate() if chatml else None,
            system=system,
            context=context,
            max_tokens=max_tokens,
            seed=seed,
            temperature=temperature,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
        )
    if ask is not None:
        if not _answer(talk, ask):
            raise typer.Exit(1)
        return
    if sys.stdin.isatty():
        size = f"{talk.model.num_parameters() / 1e6:,.1f}M parameters"
        console.print(f"[bold]{model}[/], {size}. [dim]/help lists the commands.[/]")
    saved: set[Path] = set()
    for line in _lines():
        command, _, rest = line.partition(" ")
        if not line:
            continue
        if command == "/exit":
            return
        if command == "/help":
            console.print(HELP)
        elif command == "/reset":
            talk.reset()
            console.print("[dim]forgotten; a new conversation begins[/]")
        elif command == "/save":
            _save(talk, rest.strip(), saved)
        elif command.startswith("/"):
            say_failure(f"no command {command}", fix="/help lists what there is")
        else:
            _answer(talk, line)


def _lines() -> Iterator[str]:
    """What is typed, or comes through a pipe, until its end."""
    typed = sys.stdin.isatty()
    if typed:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  arrows, history: `input` uses it where it is loaded
    while True:
        parts: list[str] = []
        while not parts or parts[-1].endswith("\\"):
            try:
                part = input(("  " if parts else PROMPT) if typed else "")
            except EOFError:
                if typed:
                    console.print()
                if parts:
                    break
                return
            except KeyboardInterrupt:  # what was typed is thrown away
                if not typed:
                    return
                console.print("[dim]  Ctrl-D or /exit ends[/]")
                parts = []
                continue
            parts.append(part)
        yield "\n".join(part.removesuffix("\\") for part in parts).strip()


def _answer(talk: Chat, question: str) -> bool:
    """Print an answer as it is written; whether there is one."""
    try:
        dropped = talk.hear(question)
    except ValueError as error:
        say_failure(str(error))
        return False
    if dropped:
        turns = "the oldest turn was" if dropped == 2 else f"the {dropped // 2} oldest turns were"
        errors.print(f"[dim]{turns} dropped: the conversation had outgrown the context[/]")
    with contextlib.closing(talk.answer()) as pieces:
        try:
            with _busy("thinking"):
                piece: str | None = next(pieces, None)
            while piece is not None:
                console.out(piece.translate(UNPRINTABLE), end="", highlight=False)
                piece = next(pieces, None)
        except KeyboardInterrupt:
            pass
        except FloatingPointError as error:
            fail(str(error))
    console.out("")
    _tell(talk)
    return talk.pace is not None and talk.pace.written > 0


def _tell(talk: Chat) -> None:
    """How fast it went, for people: not into a pipe."""
    pace = talk.pace
    assert pace is not None
    if not errors.is_terminal:
        return
    if not pace.written:
        errors.print("[dim]stopped before the first word; the question is forgotten[/]\n")
        return
    about = f"{pace.written} tokens"
    if pace.tokens_per_second:
        about += f", {pace.tokens_per_second:.1f} a second"
    about += f"; {pace.read} read in {pace.read_seconds:.1f} s"
    if pace.ended == "length":
        about += f"; cut off: --max-tokens is {talk.max_tokens}"
    elif pace.ended == "stopped":
        about += "; stopped"
    errors.print(f"[dim]{about}[/]\n")


@contextlib.contextmanager
def _busy(words: str) -> Iterator[None]:
    """A turning wheel while nothing else can be seen, on a terminal only."""
    if errors.is_terminal:
        with errors.status(f"[dim]{words}[/]"):
            yield
    else:
        yield


def _save(talk: Chat, name: str, saved: set[Path]) -> None:
    """Write the conversation, whole or not at all; never over a file of something else."""
    if not name:
        say_failure("/save needs the name of a file", fix="/save talk.txt")
        return
    path = Path(name).expanduser().absolute()
    if path.exists() and path not in saved:
        say_failure(f"{name} is there already", fix="choose another name")
        return
    begin = [{"role": "system", "content": talk.system}] if talk.system is not None else []
    messages: list[dict[str, Any]] = [*begin, *talk.messages]
    if path.suffix == ".json":
        text = json.dumps(messages, ensure_ascii=False, indent=1) + "\n"
    else:
        text = "\n\n".join(f"{m['role']}: {m['content']}" for m in messages) + "\n"
    try:
        _write(path, text)
    except OSError as error:
        say_failure(f"{name} cannot be written: {error.strerror}")
        return
    saved.add(path)
    console.print(f"[dim]{len(talk.messages)} messages in[/] {name}", soft_wrap=True)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
