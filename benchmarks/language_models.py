"""Language models of one text: n-grams by counting, an LSTM and a GPT at equal training time.

All read the same training text as the same tokens, and all are judged on the whole of the same
validation text, each token given what stands before it: the n-gram by its n - 1 tokens, the GPT by
windows that overlap by half, the LSTM by the state that it carries through the text. Their loss is
counted for each character and for each byte, since tokens are of any length.

Training time is the processor's, one thread, without evaluation: what else the machine does in the
meantime does not count. A step is timed first, which says how many there will be, so that the
learning rate ends where it should.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scratchlm import functional as F
from scratchlm import no_grad
from scratchlm.data import Corpus, load, split
from scratchlm.metrics import bits, perplexity
from scratchlm.models import GPT, GPTConfig, NGram, RecurrentLM, RecurrentLMConfig
from scratchlm.text import BPE, CharVocab
from scratchlm.train import TrainConfig, Trainer

from .timing import limited, per_call

ORDERS = range(1, 7)
MINUTES = 4.0  # what the sizes and the dropout below were chosen for
EVALUATIONS = 10


@dataclass(frozen=True)
class Recipe:
    """A model's sizes and how it is trained."""

    layers: int
    width: int
    batch: int
    length: int
    lr: float
    dropout: float
    heads: int = 0  # of a GPT

    def model(self, vocab_size: int) -> Any:
        if not self.heads:
            config = RecurrentLMConfig(
                vocab_size, "lstm", self.layers, self.width, dropout=self.dropout
            )
            return RecurrentLM(config, rng=0)
        sizes = GPTConfig(
            vocab_size, self.length, self.layers, self.heads, self.width, dropout=self.dropout
        )
        return GPT(sizes, rng=0, std=0.02 * math.sqrt(768 / self.width))


@dataclass(frozen=True)
class Text:
    source: str
    bpe: int | None  # the size of a byte-level BPE; None: characters
    models: dict[str, Recipe] = field(default_factory=dict)


TEXTS = {
    "English": Text(
        "topics",
        None,
        {
            "LSTM": Recipe(1, 384, batch=16, length=64, lr=4e-3, dropout=0.1),
            "GPT": Recipe(2, 128, batch=12, length=64, lr=4e-3, dropout=0.05, heads=4),
        },
    ),
    "Chinese": Text(
        "news-zh",
        None,
        {
            "LSTM": Recipe(1, 256, batch=16, length=64, lr=5e-3, dropout=0.0),
            "GPT": Recipe(2, 128, batch=8, length=64, lr=3e-3, dropout=0.0, heads=4),
        },
    ),
}


def run(minutes: float = MINUTES, texts: dict[str, Text] | None = None) -> dict[str, Any]:
    texts = TEXTS if texts is None else texts
    return {name: measured(text, minutes) for name, text in texts.items()}


def measured(text: Text, minutes: float) -> dict[str, Any]:
    """The rows of one text, and what the trained models scored on the way."""
    training, held_out = split(load(text.source))
    vocabulary = (
        CharVocab(training + held_out) if text.bpe is None else BPE.train(training, text.bpe)
    )
    data = Corpus(vocabulary.encode(training), vocabulary.encode(held_out), vocabulary)
    V = len(vocabulary)
    size = {"characters": len(held_out), "bytes": len(held_out.encode())}
    rows, curves = [], {}

    def row(name: str, losses: np.ndarray, **more: Any) -> None:
        if len(losses) != len(data.validation):
            raise RuntimeError(f"{name} judged {len(losses)} tokens of {len(data.validation)}")
        nats = float(losses.sum())
        units = {f"per_{unit}": nats / count for unit, count in size.items()}
        rows.append({"name": name, "nats_per_token": nats / len(losses), **units, **more})

    for n in ORDERS:
        began = time.process_time()
        counted = NGram(data.train, n, V, discount="modified")
        row(f"{n}-gram", ngram_losses(counted, data), minutes=(time.process_time() - began) / 60)
    for name, recipe in text.models.items():
        model, curve, took = trained(recipe, data, minutes)
        share = len(data.validation) / size["characters"]
        curves[name] = [(at, loss * share) for at, loss in curve]
        row(name, model_losses(model, data, recipe.length), minutes=took,
            parameters=model.num_parameters())  # fmt: skip
    about = {"source": text.source, "tokens": "characters" if text.bpe is None else f"BPE, {V}"}
    sizes = {"training_characters": len(training), "vocabulary": V}
    return {**about, **sizes, **size, "rows": rows, "curves": curves}


def trained(
    recipe: Recipe, data: Corpus, minutes: float
) -> tuple[Any, list[tuple[float, float]], float]:
    """A model, its validation losses (minutes, nats per token), and the minutes it really took."""
    options: dict[str, Any] = {"batch_size": recipe.batch, "length": recipe.length, "lr": recipe.lr}
    with limited(1):
        rehearsal = Trainer(recipe.model(len(data.vocabulary)), data, TrainConfig(**options))
        for _ in range(3):
            rehearsal.train_step()  # compiles the kernels
        steps = max(1, round(60 * minutes / per_call(rehearsal.train_step, 10)))
        config = TrainConfig(steps=steps, eval_every=max(1, steps // EVALUATIONS), **options)
        model = recipe.model(len(data.vocabulary))
        trainer = Timed(model, data, config)
        trainer.fit()
    curve = [
        (record["step"] / steps * trainer.took / 60, record["validation_loss"])
        for record in trainer.history
        if "validation_loss" in record
    ]
    return model, curve, trainer.took / 60


class Timed(Trainer):
    """A trainer that knows how long its steps kept the processor busy."""

    took = 0.0  # seconds

    def train_step(self) -> tuple[float, float]:
        began = time.process_time()
        try:
            return super().train_step()
        finally:
            self.took += time.process_time() - began


def ngram_losses(model: NGram, data: Corpus) -> np.ndarray:
    """Nats of each validation token; the first ones see the end of the training text."""
    before = data.train[len(data.train) - model.n + 1 :]
    return model.token_losses(np.concatenate([before, data.validation]))


def model_losses(model: Any, data: Corpus, length: int) -> np.ndarray:
    """The same for a trained model: windows for a GPT, a carried state where there is one."""
    ids = np.concatenate([data.train[-length:], data.validation])
    model.eval()
    read: Callable[..., Any] = _carried if hasattr(model, "new_cache") else _windows
    with limited(1), no_grad():
        return read(model, ids, length)


def _carried(model: Any, ids: np.ndarray, length: int) -> np.ndarray:
    cache, losses = model.new_cache(), []
    for start in range(0, len(ids) - 1, 512):
        x = ids[start : start + 512]
        x = x[: len(ids) - 1 - start]
        losses.append(_nats(model(x[None], cache=cache), ids[start + 1 : start + 1 + len(x)]))
    return np.concatenate(losses)[length - 1 :]


def _windows(model: Any, ids: np.ndarray, length: int) -> np.ndarray:
    """Each token but those of the first window is judged with half a window before it, or more."""
    losses, step, done = [], max(1, length // 2), length - 1  # done: targets that are not asked
    for start in range(0, len(ids) - 1, step):
        window = ids[start : start + length + 1]
        nats = _nats(model(window[None, :-1]), window[1:])
        fresh = start + len(nats) - done
        if fresh > 0:
            losses.append(nats[-fresh:])
            done += fresh
    return np.concatenate(losses)


def _nats(logits: Any, targets: np.ndarray) -> np.ndarray:
    log_p = F.log_softmax(logits[0]).data
    return -log_p[np.arange(len(targets)), targets].astype(np.float64)


def show(result: dict[str, Any], console: Any) -> None:
    from rich.table import Table

    for name, text in result.items():
        table = Table(
            title=f"{name}: {text['source']}, {text['tokens']}; judged on {text['characters']:,} "
            "characters"
        )
        columns = ("perplexity per character", "per byte", "bits per byte", "parameters", "minutes")
        table.add_column("model")
        for column in columns:
            table.add_column(column, justify="right")
        for row in text["rows"]:
            size = f"{row['parameters']:,}" if "parameters" in row else "counts"
            table.add_row(
                row["name"],
                f"{perplexity(row['per_characters']):.3f}",
                f"{perplexity(row['per_bytes']):.3f}",
                f"{bits(row['per_bytes']):.3f}",
                size,
                f"{row['minutes']:.2f}",
            )
        console.print(table)
