"""Writing with a GPT, token by token: scratchlm with its cache and without, transformers' GPT-2.

All have the same random weights and write greedily from the same prompt, and a run in which they do
not write the same tokens is refused. "Products alone" is what remains if all else took no time:
NumPy's products of each weight matrix with one vector, for each token. Prefill is a long prompt and
the first token after it.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchlm.generate import generate
from scratchlm.models import GPT, GPTConfig, to_hf_state

from .timing import in_turns, limited


@dataclass(frozen=True)
class Size:
    vocab: int
    block: int
    layers: int
    heads: int
    width: int
    prompt: int  # before decoding
    tokens: int  # decoded
    long_prompt: int  # prefilled
    no_cache: bool = True  # compare with writing without one


SIZES = {
    "mid": Size(65, 512, 6, 6, 384, prompt=4, tokens=64, long_prompt=384),
    "GPT-2": Size(50257, 1024, 12, 12, 768, prompt=4, tokens=16, long_prompt=256, no_cache=False),
}

WITHOUT = "scratchlm, no cache"
Write = Callable[[np.ndarray, int], np.ndarray]  # (prompt, how many more) -> all ids


def run(rounds: int = 9) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for name, size in SIZES.items():
        writers, products = candidates(size)
        ids = np.random.default_rng(1).integers(size.vocab, size=size.long_prompt)
        for what, prompt, count in (
            ("decode", ids[: size.prompt], size.tokens),
            ("prefill", ids, 1),
        ):
            agree(writers, prompt, count)
            calls = {
                label: functools.partial(write, prompt, count)
                for label, write in writers.items()
                if label != WITHOUT or (what == "decode" and size.no_cache)
            }
            if what == "decode":
                calls["products alone"] = functools.partial(products, count)
            share = count if what == "decode" else len(prompt)
            for threads in (None, 1):
                with limited(threads) as clock:
                    timings = in_turns(calls, rounds=rounds, repeat=1, clock=clock)
                for timing in timings:
                    row = {"size": name, "what": what, "threads": threads or "all"}
                    row |= timing.as_dict()
                    row["ms"] /= share
                    rows.append(row | {"tokens_per_second": 1e3 / row["ms"]})
    return {"unit": "ms per token", "rows": rows}


def candidates(size: Size) -> tuple[dict[str, Write], Callable[[int], None]]:
    """Who writes, by name; and the products of so many tokens."""
    config = GPTConfig(
        vocab_size=size.vocab,
        block_size=size.block,
        n_layer=size.layers,
        n_head=size.heads,
        n_embd=size.width,
    )
    model = GPT(config, rng=0).eval()
    found: dict[str, Write] = {
        "scratchlm": lambda ids, n: generate(model, ids, n, greedy=True),
        WITHOUT: lambda ids, n: generate(model, ids, n, greedy=True, cache=False),
    }
    if importlib.util.find_spec("transformers") and importlib.util.find_spec("torch"):
        found["transformers"] = _transformers(model)
    positions = model.transformer.wpe.weight
    matrices = [p.data for p in model.parameters() if p.ndim == 2 and p is not positions]
    vectors = [np.ones(matrix.shape[1], matrix.dtype) for matrix in matrices]

    def products(tokens: int) -> None:
        for _ in range(tokens):
            for matrix, vector in zip(matrices, vectors, strict=True):
                matrix @ vector

    return found, products


def agree(writers: dict[str, Write], prompt: np.ndarray, count: int) -> None:
    """Refuse writers of different texts."""
    texts = {label: write(prompt, count) for label, write in writers.items()}
    for label, text in texts.items():
        if not np.array_equal(text, texts["scratchlm"]):
            raise RuntimeError(
                f"{label} does not write the same: {text[len(prompt) :].tolist()}, scratchlm "
                f"{texts['scratchlm'][len(prompt) :].tolist()}"
            )


def _transformers(model: GPT) -> Write:
    import torch
    import transformers

    config = transformers.GPT2Config(
        vocab_size=model.config.vocab_size,
        n_positions=model.config.block_size,
        n_layer=model.config.n_layer,
        n_head=model.config.n_head,
        n_embd=model.config.n_embd,
        bos_token_id=None,
        eos_token_id=None,
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    state = to_hf_state(model.state_dict())
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)

    def write(ids: np.ndarray, count: int) -> np.ndarray:
        prompt = torch.from_numpy(ids[None])
        with torch.no_grad():
            out = theirs.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=count,
                do_sample=False,
                use_cache=True,
                pad_token_id=0,
            )
        return out[0].numpy()

    return write


def show(result: dict[str, Any], console: Any) -> None:
    from rich.table import Table

    table = Table(title="Writing with a GPT, float32 (ratio: times scratchlm's)")
    right = ("tokens/s", "ms per token", "ratio", "quartiles")
    for column in ("size", "what", "threads", "library", *right):
        table.add_column(column, justify="right" if column in right else "left")
    for row in result["rows"]:
        table.add_row(
            row["size"],
            row["what"],
            "one, CPU time" if row["threads"] == 1 else "all, wall",
            row["name"],
            f"{row['tokens_per_second']:.0f}",
            f"{row['ms']:.3f}",
            f"{row['ratio']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
        )
    console.print(table)
