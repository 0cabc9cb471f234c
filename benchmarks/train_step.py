"""One training step of a GPT: scratchlm with kernels and without, PyTorch eager, HIPS autograd.

All have the same weights and see the same batch, so they must agree on the loss, and after a
few AdamW steps still agree; a run in which they don't is refused. HIPS autograd has no AdamW: its
time is that of the loss and the gradients alone.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchlm.models import GPT, GPTConfig
from scratchlm.optim import AdamW
from scratchlm.registry import REFERENCE, all_ops, fused_updates, use

from .timing import in_turns, limited

LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Size:
    vocab: int
    length: int
    width: int
    heads: int
    layers: int
    batch: int


SIZES = {
    "nano": Size(65, 64, 128, 4, 4, 12),
    "mid": Size(65, 256, 384, 6, 6, 4),
    "bpe": Size(8192, 256, 256, 4, 4, 8),
}

Step = Callable[[], float]


def run(names: list[str] | None = None, rounds: int = 9, repeat: int = 3) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for name in names or ["nano"]:
        size = SIZES[name]
        makers = {"scratchlm": _scratchlm, "scratchlm, composed": _composed}
        if importlib.util.find_spec("torch"):
            makers["PyTorch eager"] = _torch
        if importlib.util.find_spec("autograd") and name == "nano":  # seconds a step for the others
            makers["HIPS autograd"] = _autograd
        _agree(makers, size)
        steps = {label: make(size) for label, make in makers.items()}
        for threads in (None, 1):
            with limited(threads) as clock:
                timings = in_turns(steps, rounds=rounds, repeat=repeat, clock=clock)
            row = {"size": name, "threads": threads or "all"}
            rows += [row | timing.as_dict() for timing in timings]
    return {"unit": "ms", "rows": rows}


def _agree(makers: dict[str, Callable[[Size], Step]], size: Size) -> None:
    """The losses of the first steps; float32 rounding grows slowly under AdamW."""
    losses = {}
    for label, make in makers.items():
        step = make(size)
        losses[label] = [step() for _ in range(1 if label == "HIPS autograd" else 5)]
    reference = losses["scratchlm"]
    for label, own in losses.items():
        for number, (ours, theirs) in enumerate(zip(reference, own, strict=False)):
            if not math.isclose(ours, theirs, abs_tol=1e-4):
                raise RuntimeError(
                    f"{label} does not train the same model: step {number} has loss {theirs:.6f}, "
                    f"scratchlm {ours:.6f}"
                )


def _batch(size: Size) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    ids = rng.integers(size.vocab, size=(size.batch, size.length + 1))
    return ids[:, :-1], ids[:, 1:]


def _model(size: Size) -> GPT:
    config = GPTConfig(
        vocab_size=size.vocab,
        block_size=size.length,
        n_layer=size.layers,
        n_head=size.heads,
        n_embd=size.width,
    )
    return GPT(config, rng=0)


def _scratchlm(size: Size) -> Step:
    model, (ids, targets) = _model(size), _batch(size)
    optimizer = AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def step() -> float:
        optimizer.zero_grad()
        _, loss = model(ids, targets)
        loss.backward()
        optimizer.step()
        return float(loss)

    return step


def _composed(size: Size) -> Step:
    """The same without kernels: every op composed of NumPy's."""
    fused = [name for name, op in all_ops().items() if len(op.implementations) > 1]
    step = _scratchlm(size)

    def composed() -> float:
        updates = dict(fused_updates)
        fused_updates.clear()
        try:
            with use(**dict.fromkeys(fused, REFERENCE)):
                return step()
        finally:
            fused_updates.update(updates)

    return composed


def _torch(size: Size) -> Step:
    import torch
    from torch.nn import functional as TF

    ids, targets = (torch.from_numpy(x) for x in _batch(size))
    weights = {
        name: torch.from_numpy(np.array(w)).requires_grad_()
        for name, w in _model(size).state_dict().items()
    }
    optimizer = torch.optim.AdamW(
        weights.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    kit = _Kit(
        embedding=lambda w, i: TF.embedding(i, w),
        norm=lambda x, w, b: TF.layer_norm(x, x.shape[-1:], w, b, 1e-5),
        linear=TF.linear,
        gelu=lambda x: TF.gelu(x, approximate="tanh"),
        heads=lambda x: x.unflatten(-1, (size.heads, -1)).transpose(1, 2),
        merge=lambda x: x.transpose(1, 2).flatten(2),
        attention=lambda q, k, v: TF.scaled_dot_product_attention(q, k, v, is_causal=True),
        split=lambda x: x.chunk(3, dim=-1),
    )

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        logits = _forward(weights, ids, size, kit)
        loss = TF.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _autograd(size: Size) -> Step:
    import autograd.numpy as anp
    from autograd import value_and_grad

    ids, targets = _batch(size)
    weights = _model(size).state_dict()
    hidden = np.triu(np.ones((size.length, size.length), dtype=bool), 1)
    bias = np.where(hidden, np.float32(-np.inf), np.float32(0))

    def norm(x: Any, w: Any, b: Any) -> Any:
        x = x - anp.mean(x, axis=-1, keepdims=True)
        return x / anp.sqrt(anp.mean(x * x, axis=-1, keepdims=True) + 1e-5) * w + b

    def linear(x: Any, w: Any, b: Any = 0.0) -> Any:
        return anp.dot(x, w.T) + b

    def gelu(x: Any) -> Any:
        return 0.5 * x * (1 + anp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))

    def attention(q: Any, k: Any, v: Any) -> Any:
        s = anp.matmul(q, anp.swapaxes(k, -1, -2)) / math.sqrt(q.shape[-1]) + bias
        e = anp.exp(s - anp.max(s, axis=-1, keepdims=True))
        return anp.matmul(e / anp.sum(e, axis=-1, keepdims=True), v)

    kit = _Kit(
        embedding=lambda w, i: w[i],
        norm=norm,
        linear=linear,
        gelu=gelu,
        heads=lambda x: anp.swapaxes(anp.reshape(x, (*x.shape[:-1], size.heads, -1)), 1, 2),
        merge=lambda x: anp.reshape(anp.swapaxes(x, 1, 2), (size.batch, size.length, size.width)),
        attention=attention,
        split=lambda x: anp.split(x, 3, axis=-1),
    )
    rows = np.arange(targets.size)

    def loss(weights: dict[str, Any]) -> Any:
        logits = anp.reshape(_forward(weights, ids, size, kit), (-1, size.vocab))
        z = logits - anp.max(logits, axis=-1, keepdims=True)
        return anp.mean(anp.log(anp.sum(anp.exp(z), axis=-1)) - z[rows, targets.ravel()])

    gradient = value_and_grad(loss)
    return lambda: float(gradient(weights)[0])


@dataclass(frozen=True)
class _Kit:
    """The few functions that differ from library to library."""

    embedding: Callable[..., Any]
    norm: Callable[..., Any]
    linear: Callable[..., Any]
    gelu: Callable[..., Any]
    heads: Callable[..., Any]
    merge: Callable[..., Any]
    attention: Callable[..., Any]
    split: Callable[..., Any]


def _forward(weights: dict[str, Any], ids: Any, size: Size, kit: _Kit) -> Any:
    """The logits of the GPT, from the weights by their names."""
    w = {name.removeprefix("transformer."): value for name, value in weights.items()}
    x = kit.embedding(w["wte.weight"], ids) + w["wpe.weight"]
    for layer in range(size.layers):
        at = f"h.{layer}."
        y = kit.norm(x, w[at + "ln_1.weight"], w[at + "ln_1.bias"])
        y = kit.linear(y, w[at + "attn.c_attn.weight"], w[at + "attn.c_attn.bias"])
        q, k, v = (kit.heads(part) for part in kit.split(y))
        y = kit.merge(kit.attention(q, k, v))
        x = x + kit.linear(y, w[at + "attn.c_proj.weight"], w[at + "attn.c_proj.bias"])
        y = kit.norm(x, w[at + "ln_2.weight"], w[at + "ln_2.bias"])
        y = kit.gelu(kit.linear(y, w[at + "mlp.c_fc.weight"], w[at + "mlp.c_fc.bias"]))
        x = x + kit.linear(y, w[at + "mlp.c_proj.weight"], w[at + "mlp.c_proj.bias"])
    x = kit.norm(x, w["ln_f.weight"], w["ln_f.bias"])
    return kit.linear(x, w["wte.weight"])


def show(result: dict[str, Any], console: Any) -> None:
    from rich.table import Table

    table = Table(title="One training step of a GPT, float32 (ratio: times scratchlm's)")
    for column in ("size", "threads", "library", "ms", "ratio", "quartiles"):
        right = column in ("ms", "ratio", "quartiles")
        table.add_column(column, justify="right" if right else "left")
    for row in result["rows"]:
        table.add_row(
            row["size"],
            "one, CPU time" if row["threads"] == 1 else "all, wall",
            row["name"],
            f"{row['ms']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
        )
    console.print(table)
