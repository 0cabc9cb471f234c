"""``scratchlm train``: a GPT, or a recurrent model, on a text of one's own."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any

import typer

from .invocation import invocation, quoted
from .screen import console, fail

RUNS = Path("runs")
MODELS = {
    "gpt": "a GPT",
    "lstm": "an LSTM",
    "gru": "a GRU",
    "rnn": "a plain RNN",
    "llama": "a Llama",
}


def train(
    source: Annotated[
        str,
        typer.Argument(
            help="A text file, a folder of them, or [bold]topics[/], Python's own help texts.",
            show_default=False,
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints and log.", show_default="runs/…")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Begin with the weights and the vocabulary of another run, of a folder of "
            "published ones, or of what was fetched: fine-tuning.",
            metavar="RUN",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run in --out.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Updates.", show_default="2000")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Stop after this time instead.", show_default=False)
    ] = None,
    tokenizer: Annotated[
        str, typer.Option(help="characters, or bpe: learn pieces of words from the text first.")
    ] = "characters",
    vocabulary_size: Annotated[
        int | None,
        typer.Option(help="Tokens of bpe, at least 256.", show_default="1024", metavar="N"),
    ] = None,
    model: Annotated[
        str, typer.Option(help="gpt, or by recurrence: lstm, gru, rnn.", metavar="KIND")
    ] = "gpt",
    layers: Annotated[
        int | None, typer.Option(help="Layers.", show_default="4; by recurrence 1")
    ] = None,
    heads: Annotated[
        int | None, typer.Option(help="Attention heads in each.", show_default="4, of a GPT")
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Width of a layer.", show_default="128; by recurrence 256")
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(help="Tokens of context.", show_default="64; with --from at most its own"),
    ] = None,
    batch: Annotated[int, typer.Option(help="Sequences in a batch.")] = 12,
    accumulate: Annotated[
        int, typer.Option(help="Parts a batch is read in, to save memory.", min=1)
    ] = 1,
    lr: Annotated[
        float | None,
        typer.Option(help="Highest learning rate.", show_default="0.002; with --from 0.0002"),
    ] = None,
    schedule: Annotated[
        str, typer.Option(help="constant, cosine, step_decay or inverse_sqrt.")
    ] = "cosine",
    warmup: Annotated[float, typer.Option(help="Share of the run in which it rises.")] = 0.05,
    dropout: Annotated[float, typer.Option(help="Share of activations left out.")] = 0.0,
    weight_decay: Annotated[float, typer.Option(help="Of matrices.")] = 0.1,
    eval_every: Annotated[int, typer.Option(help="Steps between evaluations.", min=1)] = 200,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many evaluations without a better one; the best weights are kept "
            "in the folder best.",
            min=1,
            show_default=False,
        ),
    ] = None,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 500,
    threads: Annotated[
        int, typer.Option(help="Of matrix products; more than one pays for wide models.", min=1)
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of weights, dropout and batches.", min=0)] = 0,
) -> None:
    """Train a language model on a text, by characters or pieces of words.

    Ctrl-C saves; --resume goes on. Started by mpiexec -n N, N processes share each batch.
    """
    from ..text import CharVocab
    from ..train import TrainConfig, Trainer, blas_threads, load_model
    from ..train.workers import workers

    if workers().rank:  # of several processes, one speaks
        console.quiet = True
    if tokenizer not in {"characters", "bpe"}:
        fail(f"--tokenizer {tokenizer} is not known", fix="choose characters or bpe")
    if tokenizer == "characters" and vocabulary_size is not None:
        fail("--vocabulary-size is for pieces of words", fix="give --tokenizer bpe, too")
    if model not in MODELS or model == "llama":
        fail(f"--model {model} is not known", fix="choose gpt, lstm, gru or rnn")
    if model != "gpt" and heads is not None:
        fail(f"--heads is for a GPT; --model {model} has none", fix="leave it out")
    sizes = {"n_layer": layers, "n_head": heads, "n_embd": width}
    given = {name: size for name, size in sizes.items() if size is not None}
    if start is not None:
        if resume:
            fail("--resume goes on with a run as it is, --from begins a new one", fix="choose one")
        if given or model != "gpt" or tokenizer != "characters":
            fail(
                "--from brings its own model and vocabulary",
                fix="leave out --model, --layers, --heads, --width and --tokenizer",
            )
    if resume:
        if out is None:
            fail("--resume needs --out, the folder of the run to go on with")
        net, vocabulary, state = load_model(out)
        corpus = _corpus(source or state["data"]["source"], vocabulary)
        config = TrainConfig(**state["config"])
        if steps is not None or seconds is not None:
            config = dataclasses.replace(config, steps=steps, seconds=seconds)
    else:
        source = source or "topics"
        out = out or RUNS / Path(source).stem
        if steps is None and seconds is None:
            steps = 2000
        if start is None:
            length = length or 64
            lr = lr or 2e-3
            bpe = (vocabulary_size or 1024) if tokenizer == "bpe" else None
            corpus = _corpus(source, None, bpe)
            net = _model(model, len(corpus.vocabulary), length, seed, dropout=dropout, **given)
        else:
            lr = lr or 2e-4
            net, vocabulary = _trained(start, seed, dropout)
            length = length or min(64, getattr(net.config, "block_size", 64))
            corpus = _corpus(source, vocabulary)
        config = TrainConfig(
            steps=steps, seconds=seconds, batch_size=batch, accumulate=accumulate, length=length,
            lr=lr, schedule=schedule, warmup=warmup, weight_decay=weight_decay,
            eval_every=eval_every, patience=patience, save_every=save_every, seed=seed,
        )  # fmt: skip
    kind = getattr(net.config, "kind", type(net).__name__.lower())
    try:
        trainer = Trainer(net, corpus, config, out=out, resume=resume, overwrite=overwrite)
    except FileExistsError as error:
        fail(str(error), fix="--resume goes on with it, --overwrite replaces it")
    console.print(
        f"[bold]{len(corpus.train):,}[/] "
        f"{'characters' if isinstance(corpus.vocabulary, CharVocab) else 'tokens'} to learn from, "
        f"[bold]{len(corpus.validation):,}[/] kept back, {len(corpus.vocabulary)} different; "
        f"{MODELS[kind]} of [bold]{net.num_parameters():,}[/] parameters"
        + (f"; going on after step {trainer.step}" if resume else "")
    )
    try:
        with blas_threads(threads):
            trainer.fit(console=console)
    except FloatingPointError as error:
        fail(str(error))
    where = quoted(out)
    if trainer.interrupted:
        console.print(
            f"Stopped after step {trainer.step}; all is saved. To go on:\n"
            f"  [bold]{invocation()} train --resume --out {where}[/]",
            soft_wrap=True,
        )
        raise typer.Exit(130)
    if trainer.stopped_early:
        best = trainer.restore_best()
        where = quoted(out / "best")
        console.print(
            f"Stopped after step {trainer.step}: {config.patience} evaluations brought nothing "
            f"better than that of step {best}, whose weights are these:"
        )
    _say_result(trainer, corpus)
    console.print(f"It writes with: [bold]{invocation()} generate {where}[/]", soft_wrap=True)


def _model(kind: str, vocab_size: int, length: int, seed: int, **sizes: Any) -> Any:
    from ..models import GPT, GPTConfig, RecurrentLM, RecurrentLMConfig

    if kind != "gpt":
        sizes = {"n_layer": 1, "n_embd": 256} | sizes
        return RecurrentLM(RecurrentLMConfig(vocab_size, kind, **sizes), rng=seed)
    config = GPTConfig(vocab_size, length, **{"n_layer": 4, "n_head": 4, "n_embd": 128} | sizes)
    # GPT-2's 0.02 belongs to a width of 768; a narrower model learns faster from wider weights
    return GPT(config, rng=seed, std=0.02 * math.sqrt(768 / config.n_embd))


def _trained(start: str, seed: int, dropout: float) -> tuple[Any, Any]:
    """The model and the vocabulary of a run, or published ones, ready to be trained on."""
    from .weights import load

    trained, vocabulary, _ = load(start)
    if type(trained).__name__.lower() not in {*MODELS, "recurrentlm"}:
        fail(
            f"--from {start}: {type(trained).__name__} is no model that writes a text on, which is "
            "what this command trains",
            fix="train it in Python, with a task of scratchlm.train",
        )
    config = trained.config
    if dropout:
        if not hasattr(config, "dropout"):
            fail(f"--dropout: {type(trained).__name__} has none", fix="leave it out")
        config = dataclasses.replace(config, dropout=dropout)
    net = type(trained)(config, rng=seed)  # whose dropout follows the seed
    net.load_state_dict(trained.state_dict())
    return net, vocabulary


def _corpus(source: str, vocabulary: Any, bpe: int | None = None) -> Any:
    from ..data import corpus

    return corpus(source, vocabulary=vocabulary, bpe=bpe)


def _say_result(trainer: Any, corpus: Any) -> None:
    from ..metrics import perplexity
    from ..models import bigram_loss

    with console.status("reading what was kept back"):
        loss = trainer.validation_loss()
    bigram = bigram_loss(corpus.train, corpus.validation, len(corpus.vocabulary))
    console.print(
        f"validation loss [bold]{loss:.3f}[/] nats (perplexity {perplexity(loss):.1f}); "
        f"a bigram model has {bigram:.3f} ({perplexity(bigram):.1f})"
    )
