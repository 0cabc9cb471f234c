"""Writing with a model, token by token: scratchlm with its cache and without, and transformers.

The models are GPTs, and SmolLM2-135M: with the published weights, if ``scratchlm fetch smollm2``
has brought them, else with random ones of the same sizes. All writers have the same weights and
write greedily from the same prompt, and a run in which they do not write the same tokens is
refused. "Products alone" is what remains if all else took no time: NumPy's products of each weight
matrix with one vector, for each token. Prefill is a long prompt and the first token after it.
Memory is what a process takes at most, above its imports, to hold the model (random weights), read
the long prompt and write the tokens.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchlm.generate import generate
from scratchlm.models import GPT, GPTConfig, Llama, LlamaConfig, load_pretrained, to_hf_state
from scratchlm.models.checkpoints import LLAMA

from .memory import peak
from .timing import in_turns, limited


@dataclass(frozen=True)
class Size:
    config: GPTConfig | LlamaConfig
    prompt: int  # before decoding
    tokens: int  # decoded
    long_prompt: int  # prefilled
    no_cache: bool = False  # compare with writing without one
    published: str | None = None  # the weights, if they were fetched


SIZES = {
    "mid": Size(
        GPTConfig(vocab_size=65, block_size=512, n_layer=6, n_head=6, n_embd=384),
        prompt=4, tokens=64, long_prompt=384, no_cache=True,
    ),
    "GPT-2": Size(GPTConfig(), prompt=4, tokens=16, long_prompt=256),
    "SmolLM2": Size(
        LlamaConfig(block_size=2048), prompt=4, tokens=16, long_prompt=256, published="smollm2"
    ),
}  # fmt: skip

WITHOUT = "scratchlm, no cache"
Write = Callable[[np.ndarray, int], np.ndarray]  # (prompt, how many more) -> all ids


def run(rounds: int = 9) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    memory: list[dict[str, Any]] = []
    for name, size in SIZES.items():
        writers, products = candidates(size)
        ids = np.random.default_rng(1).integers(size.config.vocab_size, size=size.long_prompt)
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
        memory += [
            {"size": name, "name": label, "mb": _child(label, size)}
            for label in writers
            if label != WITHOUT
        ]
    return {"unit": "ms per token", "rows": rows, "memory": memory}


def candidates(size: Size) -> tuple[dict[str, Write], Callable[[int], None]]:
    """Who writes, by name; and the products of so many tokens."""
    model = _model(size)
    found: dict[str, Write] = {
        "scratchlm": lambda ids, n: generate(model, ids, n, greedy=True),
        WITHOUT: lambda ids, n: generate(model, ids, n, greedy=True, cache=False),
    }
    if importlib.util.find_spec("transformers") and importlib.util.find_spec("torch"):
        found["transformers"] = _writer(_loaded(_theirs(model.config), model))
    named = model.named_parameters()
    matrices = [p.data for name, p in named if p.ndim == 2 and not name.endswith("wpe.weight")]
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


def _model(size: Size) -> Any:
    if size.published is not None:
        try:
            return load_pretrained(size.published)
        except FileNotFoundError:
            pass  # random weights of the same sizes take as long
    return _random(size.config)


def _random(config: GPTConfig | LlamaConfig) -> Any:
    kind = GPT if isinstance(config, GPTConfig) else Llama
    return kind(config, rng=0).eval()  # type: ignore[arg-type]


def _theirs(config: GPTConfig | LlamaConfig) -> Any:
    """transformers' model of these sizes, with random weights."""
    import transformers

    no_ends = {"bos_token_id": None, "eos_token_id": None}
    if isinstance(config, GPTConfig):
        sizes = {
            "vocab_size": config.vocab_size,
            "n_positions": config.block_size,
            "n_layer": config.n_layer,
            "n_head": config.n_head,
            "n_embd": config.n_embd,
        }
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **no_ends)).eval()
    sizes = {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.block_size,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_inner,
        "rms_norm_eps": config.eps,
        "tie_word_embeddings": config.tie_weights,
    }
    rotary = {"rope_type": "default", "rope_theta": config.rope_base}
    made = transformers.LlamaConfig(**sizes, rope_parameters=rotary, **no_ends)
    return transformers.LlamaForCausalLM(made).eval()


def _loaded(theirs: Any, model: Any) -> Any:
    """``theirs`` with the weights of ``model``."""
    import torch

    state = model.state_dict()
    state = to_hf_state(state) if isinstance(model, GPT) else to_hf_state(state, LLAMA)
    tensors = {name: torch.from_numpy(value) for name, value in state.items()}
    left = theirs.load_state_dict(tensors, strict=False)
    if left.unexpected_keys or set(left.missing_keys) - {"lm_head.weight"}:
        raise RuntimeError(f"transformers' model has other weights: {left}")
    return theirs


def _writer(theirs: Any) -> Write:
    import torch

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


def _child(library: str, size: Size) -> float:
    config = {type(size.config).__name__: size.config.to_dict()}
    counts = (str(size.long_prompt), str(size.tokens))
    command = [sys.executable, "-m", __name__, library, json.dumps(config), *counts]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"memory of writing with {library}, {config}:\n{done.stderr}")
    return float(done.stdout)


def _memory(library: str, given: str, long_prompt: int, tokens: int) -> float:
    ((kind, values),) = json.loads(given).items()
    config: Any = {"GPTConfig": GPTConfig, "LlamaConfig": LlamaConfig}[kind].from_dict(values)
    small: dict[str, Any] = {"n_layer": 1, "n_embd": 64, "n_head": 1, "vocab_size": 50}
    if kind == "LlamaConfig":
        small |= {"n_inner": 64, "n_kv_head": 1, "head_dim": 64}

    def write(config: Any) -> None:
        if library == "scratchlm":
            model = _random(config)
            writer: Write = lambda ids, n: generate(model, ids, n, greedy=True)
        else:
            writer = _writer(_theirs(config))
        writer(np.arange(long_prompt) % config.vocab_size, tokens)

    write(type(config)(**(config.to_dict() | small)))  # imports, compiling, threads
    before = peak()
    write(config)
    return peak() - before


def show(result: dict[str, Any], console: Any) -> None:
    from rich.table import Table

    table = Table(title="Writing with a model, float32 (ratio: times scratchlm's)")
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
    table = Table(title="Memory of the model, a long prompt and what is written, MB")
    for column in ("size", "library", "MB"):
        table.add_column(column, justify="right" if column == "MB" else "left")
    for row in result["memory"]:
        table.add_row(row["size"], row["name"], f"{row['mb']:.0f}")
    console.print(table)


if __name__ == "__main__":
    who, sizes, prompt_length, count = sys.argv[1:]
    print(_memory(who, sizes, int(prompt_length), int(count)))
