"""Byte-level BPE beside Hugging Face's `tokenizers`: encoding in MB/s, training in seconds.

One thread each, the same texts, the same ids: they are compared before anything is timed. Texts
are encoded paragraph by paragraph, all in one call where `tokenizers` has such a call.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from scratchlm.data import load, locate
from scratchlm.text import BPE

from .timing import in_turns

BYTES = 1_000_000
MERGES = 8192

Call = Callable[[], object]


def run(rounds: int = 9) -> dict[str, Any]:
    # read when `tokenizers` first looks at its thread pool
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    rows = []
    for case, size, calls in _cases():
        for timing in in_turns(calls, rounds=rounds, repeat=1, clock=time.process_time):
            row = {"case": case, "threads": 1, "megabytes": size} | timing.as_dict()
            rows.append(row | {"speed": size / timing.milliseconds * 1e3})
    return {"unit": "ms", "rows": rows}


def _texts() -> dict[str, str]:
    """As many of the texts as were fetched, at most ``BYTES`` of each."""
    texts = {}
    for language, names in {"English": ("shakespeare", "topics"), "Chinese": ("hsk-zh",)}.items():
        for name in names:
            try:
                text = load(name)
            except FileNotFoundError:
                continue
            texts[language] = text.encode()[:BYTES].decode("utf-8", "ignore")
            break
    return texts


def _cases() -> Iterator[tuple[str, float, dict[str, Call]]]:
    texts = _texts()
    sizes = {name: len(text.encode()) / 1e6 for name, text in texts.items()}
    for name, text in texts.items():
        calls: dict[str, Call] = {"scratchlm": lambda text=text: _train(text)}
        if importlib.util.find_spec("tokenizers"):
            calls["tokenizers"] = lambda text=text: _their_training(text)
            ours, theirs = _train(text).as_dict(), json.loads(_their_training(text).to_str())
            _same(
                *([found["model"][key] for key in ("vocab", "merges")] for found in (ours, theirs))
            )
        yield f"train, {name}", sizes[name], calls
    bpe, vocabulary = _vocabulary(next(iter(texts.values())))
    for name, text in texts.items():
        paragraphs = text.split("\n\n")
        for reading in ("first", "again"):
            yield (
                f"{vocabulary}, {name}, {reading}",
                sizes[name],
                _encoding(bpe, paragraphs, fresh=reading == "first"),
            )


def _vocabulary(text: str) -> tuple[BPE, str]:
    try:
        locate("gpt2-vocabulary")
    except FileNotFoundError:
        return _train(text), "encode"
    return BPE.gpt2(), "GPT-2"


def _encoding(bpe: BPE, paragraphs: list[str], *, fresh: bool) -> dict[str, Call]:
    """Both keep the words they have met; ``fresh`` empties that cache before each reading."""

    def ours() -> list[Any]:
        if fresh:
            bpe.clear_cache()
        return [bpe.encode(paragraph) for paragraph in paragraphs]

    calls: dict[str, Call] = {"scratchlm": ours}
    if importlib.util.find_spec("tokenizers"):
        import tokenizers

        rival = tokenizers.Tokenizer.from_str(json.dumps(bpe.as_dict()))

        def theirs() -> list[Any]:
            if fresh:
                rival.model._clear_cache()
            return rival.encode_batch_fast(paragraphs)

        calls["tokenizers"] = theirs
        _same([ids.tolist() for ids in ours()], [found.ids for found in theirs()])
    return calls


def _train(text: str) -> BPE:
    return BPE.train(text, 256 + MERGES)


def _their_training(text: str) -> Any:
    import tokenizers

    rival = tokenizers.Tokenizer(tokenizers.models.BPE())
    rival.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + MERGES,
        min_frequency=2,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rival.train_from_iterator([text], trainer)
    return rival


def _same(ours: Any, theirs: Any) -> None:
    """Raises ValueError: what is to be timed does not give the same."""
    if ours != theirs:
        raise ValueError("tokenizer: scratchlm and tokenizers differ, so there is nothing to time")


def show(result: dict[str, Any], console: Any) -> None:
    from rich.table import Table

    table = Table(title="Byte-level BPE, one thread, CPU time (ratio: times scratchlm's)")
    right = ("MB", "seconds", "MB/s", "ratio", "quartiles")
    for column in ("case", "MB", "library", *right[1:]):
        table.add_column(column, justify="right" if column in right else "left")
    for row in result["rows"]:
        table.add_row(
            row["case"],
            f"{row['megabytes']:.2f}",
            row["name"],
            f"{row['ms'] / 1e3:.3f}",
            f"{row['speed']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
        )
    console.print(table)
