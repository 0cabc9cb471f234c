"""``scratchlm generate``: let a trained model write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .screen import console, fail


def generate(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint, or the folder of a run.", show_default=False)
    ],
    prompt: Annotated[str, typer.Option(help="What to go on from.")] = "\n",
    tokens: Annotated[int, typer.Option(help="How many to write.", min=0)] = 500,
    temperature: Annotated[
        float, typer.Option(help="Below 1 careful, above 1 wild; 0 always takes the likeliest.")
    ] = 0.8,
    top_k: Annotated[
        int | None, typer.Option(help="Draw among this many likeliest.", show_default="all")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed writes the same text.", show_default=False)
    ] = None,
) -> None:
    """Write on from a prompt with a trained model."""
    from ..generate import stream
    from ..train import load_model

    model, vocabulary, _ = load_model(checkpoint)
    if vocabulary is None:
        fail(f"{checkpoint} has no vocabulary", why="it was not made by `scratchlm train`")
    ids = vocabulary.encode(prompt)
    options = {"temperature": temperature, "top_k": top_k, "seed": seed}
    console.out(prompt.lstrip("\n"), style="dim", end="", highlight=False)
    try:
        for token in stream(model, ids, tokens, **options):  # type: ignore[arg-type]
            console.out(vocabulary.decode([int(token)]), end="", highlight=False)
    except KeyboardInterrupt:
        pass
    except FloatingPointError as error:
        fail(str(error))
    console.out("")
