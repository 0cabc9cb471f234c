"""``scratchlm tour``: everything once, in about a minute and a half."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from .invocation import invocation, quoted
from .screen import console, fail

if TYPE_CHECKING:
    from ..data import Corpus
    from ..models import GPT
    from ..train import Trainer

FOLDER = Path("scratchlm-tour")
SENTENCE = "the value of the object"
# Two layers learn more in a minute than four: they take twice as many steps. Weights start with
# GPT-2's 0.02, widened for a narrower model as 1/√width.
LENGTH, BATCH, LAYERS, HEADS, WIDTH, LR, STD = 64, 12, 2, 4, 128, 4e-3, 0.06


def tour(
    seconds: Annotated[float, typer.Option(help="How long to train.", min=0.1)] = 60.0,
    out: Annotated[Path, typer.Option(help="Folder for the model and the pictures.")] = FOLDER,
    seed: Annotated[int, typer.Option(help="Of weights, batches and text.", min=0)] = 0,
) -> None:
    """Check gradients, train a small GPT on real text, let it write, draw what it attends to."""
    from ..data import corpus as load_corpus
    from ..models import GPT, GPTConfig
    from ..train import TrainConfig, Trainer, blas_threads

    corpus = load_corpus("topics")
    sizes = GPTConfig(len(corpus.vocabulary), LENGTH, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH)
    model = GPT(sizes, rng=seed, std=STD)
    config = TrainConfig(
        steps=None, seconds=seconds, batch_size=BATCH, length=LENGTH, lr=LR, eval_every=100,
        eval_batches=15, save_every=0, final_lr=0.02, seed=seed,
    )  # fmt: skip
    # before anything else, so that a folder that can't be written is no surprise after a minute
    trainer = Trainer(model, corpus, config, out=out / "model", overwrite=True)

    _title("1", "Derivatives", "each one beside what central differences measure")
    console.print(_gradients())

    _title("2", "A language model", "learns to say which character comes next")
    count = len(corpus.train) + len(corpus.validation)
    console.print(
        f"  text   [bold]{count:,}[/] characters of Python's own help; a tenth is kept back\n"
        f"  model  GPT, {LAYERS} layers of {WIDTH}, {HEADS} heads: "
        f"[bold]{model.num_parameters():,}[/] numbers to learn\n"
    )
    try:
        with blas_threads(1):
            with console.status("  getting ready"):
                _warm_up(model, corpus)
            trainer.fit(console=console)
    except FloatingPointError as error:
        fail(str(error))
    if trainer.interrupted:
        console.print(
            f"\n  Stopped after {trainer.step} steps; all is saved. To go on:\n"
            f"    [bold]{invocation()} train --resume --out {quoted(out / 'model')}[/]",
            soft_wrap=True,  # a command to copy stays in one line
        )
        raise typer.Exit(130)
    with blas_threads(1), console.status("  reading what was kept back"):
        loss = trainer.validation_loss()
    console.print(_result(loss, corpus))

    _title("3", "What it writes", "one character at a time, each drawn from its probabilities")
    with blas_threads(1):
        console.print(_sample(model, corpus, seed))

    _title("4", "What it looks at", "pictures to open")
    for path, words in _pictures(trainer, corpus, out):
        console.print(f"  [bold]{path}[/]  [dim]{words}[/]", soft_wrap=True)

    _title("5", "Now you", "every derivative in there is a lesson")
    for command, words in (
        ("read 1", "the first lesson: what a gradient is"),
        ("start 1", "its exercise, as a file of your own"),
        ("check 1", "check what you wrote"),
        (f"generate {quoted(out / 'model')}", "let the model write more"),
    ):
        console.print(f"  [bold cyan]{invocation()} {command}[/]  [dim]{words}[/]", soft_wrap=True)
    console.print()


def _title(number: str, name: str, words: str) -> None:
    console.print(f"\n[bold reverse] {number} [/] [bold]{name}[/]  [dim]{words}[/]\n")


# ---------------------------------------------------------------- gradients


def _warm_up(model: Any, corpus: Any) -> None:
    """One step without an update: where kernels are still to be compiled, they are now, and the
    minute is for training.
    """
    from ..data import sample_batch

    ids, targets = sample_batch(corpus.train, BATCH, LENGTH, np.random.default_rng(0))
    _, loss = model(ids, targets)
    loss.backward()
    for p in model.parameters():
        p.grad = None


def _gradients() -> Any:
    """The table of gradient checks, the last row a mistake that many make."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from .. import all_ops, gradcheck

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("op", style="bold", no_wrap=True)
    table.add_column("formula")
    table.add_column("error", justify="right", no_wrap=True)
    table.add_column("gradient", no_wrap=True)
    finding = ""
    for name, function, inputs in _checks():
        report = gradcheck(function, *inputs)
        verdict = Text("right", "green") if report else Text("wrong", "bold red")
        op = all_ops().get(name)
        formula = op.formula if op else "softmax, derived as if it were a sigmoid"
        table.add_row(name, Text(formula), f"{report.error:.0e}", verdict)
        finding = ", ".join(str(name) for name in report.diagnosis.values())
    words = Text(f"\n  The last row is a common mistake; the checker names it: {finding}", "dim")
    return Group(Padding(table, (0, 2)), words)


def _checks() -> list[tuple[str, Any, tuple[np.ndarray, ...]]]:
    from .. import ops

    rng = np.random.default_rng(0)

    def x(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape)

    def cross_entropy(logits: Any) -> Any:
        loss, vjp = ops.cross_entropy(logits, np.array([1, 0, 3]))
        return loss, lambda dy: vjp(dy)[0]

    def attention(q: Any, k: Any, v: Any) -> Any:
        return ops.attention(q, k, v, causal=True)

    def mistaken(logits: Any) -> Any:
        y, _ = ops.softmax(logits)
        return y, lambda dy: dy * y * (1 - y)

    return [
        ("linear", ops.linear, (x(3, 4), x(2, 4), x(2))),
        ("gelu", ops.gelu, (x(3, 4),)),
        ("softmax", ops.softmax, (x(3, 4),)),
        ("layer_norm", ops.layer_norm, (x(3, 4), x(4), x(4))),
        ("attention", attention, (x(2, 4, 3), x(2, 4, 3), x(2, 4, 3))),
        ("cross_entropy", cross_entropy, (x(3, 4),)),
        ("a mistake", mistaken, (x(3, 4),)),
    ]


# ---------------------------------------------------------------- results


def _bigram(corpus: Corpus) -> float:
    from ..models import bigram_loss

    return bigram_loss(corpus.train, corpus.validation, len(corpus.vocabulary))


def _result(loss: float, corpus: Corpus) -> Any:
    from rich.padding import Padding
    from rich.table import Table

    bigram = _bigram(corpus)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    table.add_column("nats", justify="right", style="bold")
    table.add_column("perplexity", justify="right")
    table.add_column("", style="dim")
    rows = (
        ("chance", math.log(len(corpus.vocabulary)), "every character alike"),
        ("bigram model", bigram, "knows the last character"),
        ("[bold]this GPT[/]", loss, f"knows the last {LENGTH}"),
    )
    for name, value, words in rows:
        table.add_row(name, f"{value:.3f}", f"{math.exp(value):.1f}", words)
    gain = bigram - loss
    verdict = "better than the bigram model" if gain > 0 else "worse: train longer, --seconds"
    table.add_row("", f"{gain:+.3f}", "", verdict)
    return Padding(table, (1, 2))


def _sample(model: GPT, corpus: Corpus, seed: int) -> Any:
    from rich.padding import Padding
    from rich.text import Text

    from ..generate import generate

    vocabulary = corpus.vocabulary
    prompt = "The "
    ids = generate(model, vocabulary.encode(prompt), 320, temperature=0.7, seed=seed)
    text = Text(prompt, "dim").append(vocabulary.decode(ids)[len(prompt) :], "default")
    return Padding(text, (0, 2))


def _pictures(trainer: Trainer, corpus: Corpus, out: Path) -> list[tuple[Path, str]]:
    """Draw the loss curve and the attention maps; the paths, and what each one shows."""
    from ..interpret import attention_maps
    from ..plot import attention_grid, loss_curve, save

    def curve(key: str) -> tuple[list[int], list[float]]:
        records = [r for r in trainer.history if key in r]
        return [r["step"] for r in records], [r[key] for r in records]

    pictures = []
    steps, losses = curve("loss")
    if steps:
        drawn = loss_curve(
            (steps, losses),
            curve("validation_loss"),
            baselines={"bigram model": _bigram(corpus)},
            smooth=1,  # a record is the mean of ten steps already
            title="Learning which character comes next",
        )
        path = save(drawn, out / "loss.png")
        pictures.append((path, "how the loss fell, beside the bigram model's"))
    sentence = "".join(c for c in SENTENCE if c in corpus.vocabulary)[:LENGTH]
    maps = attention_maps(trainer.model, corpus.vocabulary.encode(sentence))
    drawn = attention_grid(maps, list(sentence), title=f"“{sentence}”")
    path = save(drawn, out / "attention.png")
    pictures.append((path, "row: a character; column: how much it looks at each one before it"))
    return pictures
