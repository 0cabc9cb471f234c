"""``scratchlm plot``: the loss curve and the attention maps of a trained model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .screen import console, fail
from .weights import KINDS, load

if TYPE_CHECKING:
    from ..text import Tokenizer

LONGEST = 32  # tokens of a text that the model writes itself
NO_METRIC = ("step", "seconds", "loss", "validation_loss", "best_step", "best_validation_loss")
LAST = ("gradient_norm", "lr", "tokens_per_second")  # of the training itself, not of its task


def plot(
    source: Annotated[str, typer.Argument(metavar="MODEL", help=f"{KINDS}.", show_default=False)],
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
        typer.Option(
            help="Folder for the pictures.", show_default="plots/ in the run's folder, or here"
        ),
    ] = None,
) -> None:
    """Draw what a trained model attends to while it reads a text, and how its loss fell."""
    from ..plot import save
    from ..train.trainer import read_log

    model, vocabulary, state = load(source)
    checkpoint = Path(source).expanduser()
    log = _log_of(checkpoint)
    folder = out or (log.parent if log else checkpoint if state else Path()) / "plots"

    ids = _read(model, vocabulary, text)
    if ids is None:
        why = f"{type(model).__name__} has none that one text alone would show"
        if text is not None or head is not None:
            fail(f"no attention maps: {why}", fix="leave out --text and --head")
        console.print(f"[dim]no attention maps: {why}[/]")
    else:
        drawn, name = _attention(model, vocabulary, ids, head)
        _say(save(drawn, folder / name), "row: a token; column: how much it looks at each one")

    records = read_log(log) if log else []
    sizes = model.config.to_dict()
    classes = sizes.get("target_vocab_size") or sizes.get("vocab_size") or len(vocabulary)
    drawn = _loss_curve(records, len(state["labels"]) if "labels" in state else classes)
    if drawn is None:
        if state:
            console.print("[dim]no loss curve: nothing is logged beside this checkpoint[/]")
    else:
        if state.get("task") == "Classification":
            drawn.set_ylabel("loss (nats per text)")
        _say(save(drawn, folder / "loss.png"), "how the loss fell")
    drawn = _metric_curves(records)
    if drawn is not None:
        _say(save(drawn, folder / "metrics.png"), "what else was measured")


def _read(model: Any, vocabulary: Tokenizer, text: str | None) -> Any:
    """The ids to draw the attention of; None for a model that has none, or reads two texts."""
    from ..models import BERT, GPT, Llama
    from ..models.bert import Head

    if isinstance(model, BERT | Head):
        if text is None:
            text = "one and two make three"
        ids = vocabulary.inputs(text)[0] if hasattr(vocabulary, "inputs") else None
    elif isinstance(model, GPT | Llama):
        ids = _written(model, vocabulary) if text is None else vocabulary.encode(text)
    else:
        return None
    if ids is None:
        return None
    longest = model.config.block_size
    if not 1 <= len(ids) <= longest:
        fail(
            f"--text has {len(ids)} tokens, the model reads 1 to {longest} at a time",
            fix="give it less text" if len(ids) else "give it some text",
        )
    return ids


def _attention(model: Any, vocabulary: Any, ids: Any, head: str | None) -> tuple[Any, str]:
    """The picture of all heads, or of one; and the name of its file."""
    from ..interpret import attention_maps
    from ..plot import attention, attention_grid

    maps = attention_maps(model, ids)
    tokens = [vocabulary.token(int(i)) for i in ids]
    if head is None:
        return attention_grid(maps, tokens), "attention.png"
    layer, number = _chosen(head, len(maps), len(maps[0]))
    title = f"layer {layer}, head {number}"
    drawn = attention(maps[layer][number], tokens, title=title)
    return drawn, f"attention-{layer}.{number}.png"


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


def _curve(records: list[dict[str, Any]], key: str) -> tuple[list[int], list[float]] | None:
    found = [r for r in records if isinstance(r.get(key), (int, float))]
    return ([r["step"] for r in found], [r[key] for r in found]) if found else None


def _loss_curve(records: list[dict[str, Any]], classes: int) -> Any:
    """The picture of the losses in a log; None if it holds none yet."""
    from ..plot import loss_curve

    train = _curve(records, "loss")
    if train is None:
        return None
    chance = {"chance": math.log(classes)}
    return loss_curve(train, _curve(records, "validation_loss"), baselines=chance)


def _metric_curves(records: list[dict[str, Any]]) -> Any:
    """The picture of all other numbers that a log holds for several steps, of a task first."""
    from ..plot import metric_curves

    names = dict.fromkeys(key for record in records for key in record if key not in NO_METRIC)
    found = {name: _curve(records, name) for name in sorted(names, key=LAST.__contains__)}
    drawn = {name: curve for name, curve in found.items() if curve is not None}
    if not drawn:
        return None
    above_0 = {name for name, (_, values) in drawn.items() if min(values) > 0}
    return metric_curves(drawn, logarithmic={"gradient_norm"} & above_0)
