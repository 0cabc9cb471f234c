"""``scratchlm plot``: the loss curve and the attention maps of a trained model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .screen import console, fail

if TYPE_CHECKING:
    from ..text import Tokenizer

LONGEST = 32  # tokens of a text that the model writes itself


def plot(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint, or the folder of a run.", show_default=False)
    ],
    text: Annotated[
        str | None,
        typer.Option(help="What the model reads.", show_default="what it writes itself"),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER.HEAD", help="This head alone, as 0.3.", show_default="all heads"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the pictures.", show_default="plots/ in the run's folder"),
    ] = None,
) -> None:
    """Draw what a trained model attends to while it reads a text, and how its loss fell."""
    from ..interpret import attention_maps
    from ..plot import attention, attention_grid, save
    from ..train import load_model

    model, vocabulary, _ = load_model(checkpoint)
    if vocabulary is None:
        fail(f"{checkpoint} has no vocabulary", why="it was not made by `scratchlm train`")
    log = _log_of(checkpoint)
    folder = out or (log.parent if log else checkpoint) / "plots"

    ids = _written(model, vocabulary) if text is None else vocabulary.encode(text)
    longest = model.config.block_size
    if not 1 <= len(ids) <= longest:
        fail(
            f"--text has {len(ids)} tokens, the model reads 1 to {longest} at a time",
            fix="give it less text" if len(ids) else "give it some text",
        )
    maps = attention_maps(model, ids)
    tokens = [vocabulary.token(int(i)) for i in ids]
    if head is None:
        drawn: Any = attention_grid(maps, tokens)
        path = save(drawn, folder / "attention.png")
    else:
        layer, number = _chosen(head, len(maps), len(maps[0]))
        title = f"layer {layer}, head {number}"
        drawn = attention(maps[layer][number], tokens, title=title)
        path = save(drawn, folder / f"attention-{layer}.{number}.png")
    _say(path, "row: a token; column: how much it looks at each one before it")

    drawn = _loss_curve(log, len(vocabulary)) if log else None
    if drawn is None:
        console.print("[dim]no loss curve: nothing is logged beside this checkpoint[/]")
    else:
        _say(save(drawn, folder / "loss.png"), "how the loss fell")


def _say(path: Path, words: str) -> None:
    from rich.text import Text

    console.print(Text(str(path), "bold").append(f"  {words}", "not bold dim"), soft_wrap=True)


def _written(model: Any, vocabulary: Tokenizer) -> Any:
    """The ids that the model goes on with after a space or a newline, always the same."""
    from ..generate import generate
    from ..text import CharVocab

    if isinstance(vocabulary, CharVocab):
        first = next((c for c in "\n " if c in vocabulary), vocabulary.characters[0])
    else:
        first = "\n"
    count = min(LONGEST, model.config.block_size)
    return generate(model, vocabulary.encode(first), count, temperature=0.7, seed=0)[1:]


def _chosen(head: str, layers: int, heads: int) -> tuple[int, int]:
    """``"0.3"`` → (0, 3)."""
    layer, _, number = head.partition(".")
    if not (layer.isdecimal() and number.isdecimal()):
        fail(f"--head {head}: give layer and head with a point between", fix="--head 0.3")
    if int(layer) >= layers or int(number) >= heads:
        fail(
            f"--head {head}: the model has {layers} layers of {heads} heads",
            fix=f"both count from 0: --head 0.0 to --head {layers - 1}.{heads - 1}",
        )
    return int(layer), int(number)


def _log_of(checkpoint: Path) -> Path | None:
    """The log of the run that a checkpoint belongs to."""
    from ..train.trainer import LOG

    return next((p for f in (checkpoint, checkpoint.parent) if (p := f / LOG).is_file()), None)


def _loss_curve(log: Path, vocabulary: int) -> Any:
    """The picture of a log; None if it holds no loss yet."""
    from ..plot import loss_curve

    records = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:  # the last line, cut off by a crash
            continue

    def curve(key: str) -> tuple[list[int], list[float]] | None:
        found = [r for r in records if key in r]
        return ([r["step"] for r in found], [r[key] for r in found]) if found else None

    train = curve("loss")
    if train is None:
        return None
    chance = {"chance": math.log(vocabulary)}
    return loss_curve(train, curve("validation_loss"), baselines=chance)
