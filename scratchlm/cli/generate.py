"""``scratchlm generate``: let a trained model write."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .screen import console, fail
from .weights import KINDS, load

DRAWING = "How the next token is drawn"
SEARCHING = "Searching instead of drawing"
TEMPERATURE = 0.8


def generate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help=f"{KINDS}.",
            show_default=False,
        ),
    ],
    prompt: Annotated[str, typer.Option(help="What to go on from.")] = "\n",
    tokens: Annotated[int, typer.Option(help="How many to write at most.", min=0)] = 500,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="End before this text; may be given several times.", show_default=False),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Below 1 careful, above 1 wild; 0 always takes the likeliest.",
            rich_help_panel=DRAWING,
            show_default=str(TEMPERATURE),
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            help="Draw among this many likeliest.", rich_help_panel=DRAWING, show_default="all"
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="Draw among the fewest likeliest that together have this probability: 0.9 leaves "
            "out the unlikely tenth.",
            rich_help_panel=DRAWING,
            show_default="all",
        ),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(
            help="Draw among those at least this share as likely as the likeliest, such as 0.05.",
            rich_help_panel=DRAWING,
            show_default="all",
        ),
    ] = None,
    repetition_penalty: Annotated[
        float,
        typer.Option(
            help="Above 1, such as 1.2: what was written already becomes less likely. 1: as it is.",
            rich_help_panel=DRAWING,
        ),
    ] = 1.0,
    seed: Annotated[
        int | None,
        typer.Option(
            help="The same seed writes the same text.",
            rich_help_panel=DRAWING,
            show_default=False,
        ),
    ] = None,
    beams: Annotated[
        int,
        typer.Option(
            help="Search for the likeliest text as a whole, with so many beginnings at a time. "
            "Nothing is drawn, and it is shown when it is complete.",
            rich_help_panel=SEARCHING,
            min=1,
        ),
    ] = 1,
    length_penalty: Annotated[
        float,
        typer.Option(
            help="Of beams: log-probabilities are divided by the length to this power. Above 0 "
            "longer texts are favored.",
            rich_help_panel=SEARCHING,
        ),
    ] = 1.0,
    cache: Annotated[
        bool,
        typer.Option(
            help="Keep what attention knows of earlier tokens; without it each token reads all "
            "again, and the text is the same."
        ),
    ] = True,
) -> None:
    """Write on from a prompt with a trained model. Ctrl-C ends it and keeps what is there."""
    from ..generate import generate as complete
    from ..generate import stream_text
    from ..models import GPT, Llama, RecurrentLM

    drawing: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
    }
    given = [name for name, value in (drawing | {"seed": seed}).items() if value is not None]
    if beams > 1 and given:
        fail(
            f"--beams {beams} draws nothing, so --{given[0].replace('_', '-')} would do nothing",
            fix="leave out one of the two",
        )
    if beams > 1 and stop:
        fail(f"--beams {beams} knows no --stop", fix="leave out one of the two")
    if beams == 1 and length_penalty != 1:
        fail("--length-penalty is for beam search", fix="give --beams, too")
    model, vocabulary, _ = load(source)
    if not isinstance(model, GPT | Llama | RecurrentLM):
        fail(
            f"{source} holds a {type(model).__name__}, which does not write on from a prompt",
            why="it was not trained to say what comes next in one text",
            fix=f"models that do: {', '.join(m.__name__ for m in (GPT, Llama, RecurrentLM))}",
        )
    options: dict[str, Any] = {
        "repetition_penalty": repetition_penalty,
        "eos_id": getattr(vocabulary, "eos_id", None),
        "cache": cache,
    }
    if beams == 1:
        if temperature is None:
            drawing["temperature"] = TEMPERATURE
        pieces = stream_text(
            model, vocabulary, prompt, tokens, stop=stop or (), seed=seed, **drawing, **options
        )
    else:
        ids = vocabulary.encode(prompt)
        options |= {"beams": beams, "length_penalty": length_penalty}
        found = complete(model, ids, tokens, **options)[len(ids) :]
        if len(found) and found[-1] == options["eos_id"]:
            found = found[:-1]
        pieces = iter([vocabulary.decode(found)])
    console.out(prompt.lstrip("\n"), style="dim", end="", highlight=False)
    try:
        for piece in pieces:
            console.out(piece, end="", highlight=False)
    except KeyboardInterrupt:
        pass
    except FloatingPointError as error:
        fail(str(error))
    console.out("")
