"""One training step of a GPT: scratchlm with kernels and without, PyTorch eager and compiled, JAX,
HIPS autograd; whichever of them are installed.

"Matrix products alone" is what remains if all else took no time: those of forward and backward, by
NumPy. All others have the same weights and see the same batch, so they must agree on the loss, and
over 20 AdamW steps (JAX: 5) still agree; a run in which they don't is refused. HIPS autograd has no
AdamW: its time is that of the loss and the gradients alone.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
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
AGREE = 20  # steps
FEWER = {"HIPS autograd": 1, "JAX jit": 5}  # it has no AdamW; XLA's exp and tanh are rougher


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


def makers(size: str) -> dict[str, Callable[[Size], Step]]:
    """What is compared at this size; the first is what the ratios refer to."""
    found = {"scratchlm": _scratchlm, "scratchlm, composed": _composed}
    if importlib.util.find_spec("torch"):
        found["PyTorch eager"] = _torch
        if shutil.which("g++") or shutil.which("clang++"):
            found["PyTorch compiled"] = _torch_compiled
    if importlib.util.find_spec("jax"):
        found["JAX jit"] = _jax
    if importlib.util.find_spec("autograd") and size == "nano":  # seconds a step for the others
        found["HIPS autograd"] = _autograd
    return found


def run(names: list[str] | None = None, rounds: int = 9, repeat: int = 3) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    apart = {}
    for name in names or ["nano"]:
        size = SIZES[name]
        steps, apart[name] = _agree(makers(name), size)
        steps["matrix products alone"] = _products(size)
        for threads in (None, 1):
            # XLA has as many threads as it had when it started
            fit = {label: s for label, s in steps.items() if threads is None or label != "JAX jit"}
            with limited(threads) as clock:
                timings = in_turns(fit, rounds=rounds, repeat=repeat, clock=clock)
            row = {"size": name, "threads": threads or "all"}
            rows += [row | timing.as_dict() for timing in timings]
    return {"unit": "ms", "rows": rows, "losses": {"steps": AGREE, "apart": apart}}


def _agree(
    makers: dict[str, Callable[[Size], Step]], size: Size
) -> tuple[dict[str, Step], dict[str, float]]:
    """The steps, after some that agreed, and how far each one's losses were from ours at most."""
    steps, losses = {}, {}
    for label, make in makers.items():
        step = steps[label] = make(size)
        losses[label] = [step() for _ in range(FEWER.get(label, AGREE))]
    reference = losses.pop("scratchlm")
    apart = {}
    for label, own in losses.items():
        far = [abs(b - a) for a, b in zip(reference, own, strict=False)]
        apart[label] = max(far)
        if not apart[label] <= 1e-4:
            at = int(np.argmax(far))
            raise RuntimeError(
                f"{label} does not train the same model: step {at} has loss {own[at]:.6f}, "
                f"scratchlm {reference[at]:.6f}"
            )
    return steps, apart


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


def _products(size: Size) -> Callable[[], None]:
    """Every matrix product of a step, of random matrices; those of attention for half of all pairs,
    as causal ones are."""
    rng = np.random.default_rng(0)
    rows, c, d = size.batch * size.length, size.width, size.width // size.heads
    half, heads = size.length // 2, size.batch * size.heads
    linears = [(c, 3 * c), (c, c), (c, 4 * c), (4 * c, c)] * size.layers + [(c, size.vocab)]
    pairs = []
    for ins, outs in linears:  # y = x Wᵀ, dx = dy W, dW = dyᵀ x
        x, w, dy = ((rows, ins), (outs, ins), (rows, outs))
        x, w, dy = (rng.standard_normal(s, dtype=np.float32) for s in (x, w, dy))
        pairs += [(x, w.T), (dy, w), (dy.T, x)]
    for _ in range(size.layers):
        q, s = (heads, size.length, d), (heads, size.length, half)
        k = (heads, half, d)
        q, k, s = (rng.standard_normal(shape, dtype=np.float32) for shape in (q, k, s))
        scores, values, keys = (q, k.swapaxes(1, 2)), (s, k), (s.swapaxes(1, 2), q)
        pairs += [scores, values, scores, keys, values, keys]
    outs = [np.matmul(a, b) for a, b in pairs]

    def products() -> None:
        for (a, b), out in zip(pairs, outs, strict=True):
            np.matmul(a, b, out=out)

    return products


def _torch(size: Size, compiled: bool = False) -> Step:
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

    def compute(weights: dict[str, Any], ids: Any, targets: Any) -> Any:
        logits = _forward(weights, ids, size, kit)
        return TF.cross_entropy(logits.flatten(0, 1), targets.flatten())

    if compiled:
        compute = torch.compile(compute)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = compute(weights, ids, targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _torch_compiled(size: Size) -> Step:
    """With the loss and its gradient through ``torch.compile``; AdamW is PyTorch's fused one."""
    return _torch(size, compiled=True)


def _jax(size: Size) -> Step:
    """Loss, gradient and AdamW as one function, through ``jax.jit``."""
    import jax
    import jax.numpy as jnp

    ids, targets = (jnp.asarray(x) for x in _batch(size))
    hidden = jnp.triu(jnp.ones((size.length, size.length), dtype=bool), 1)

    def norm(x: Any, w: Any, b: Any) -> Any:
        x = x - x.mean(axis=-1, keepdims=True)
        return x * jax.lax.rsqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5) * w + b

    def attention(q: Any, k: Any, v: Any) -> Any:
        s = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
        return jax.nn.softmax(jnp.where(hidden, -jnp.inf, s), axis=-1) @ v

    kit = _Kit(
        embedding=lambda w, i: w[i],
        norm=norm,
        linear=lambda x, w, b=0.0: x @ w.T + b,
        gelu=lambda x: jax.nn.gelu(x, approximate=True),
        heads=lambda x: x.reshape(*x.shape[:-1], size.heads, -1).swapaxes(1, 2),
        merge=lambda x: x.swapaxes(1, 2).reshape(size.batch, size.length, size.width),
        attention=attention,
        split=lambda x: jnp.split(x, 3, axis=-1),
    )

    def compute(weights: Any) -> Any:
        log_p = jax.nn.log_softmax(_forward(weights, ids, size, kit), axis=-1)
        return -jnp.take_along_axis(log_p, targets[..., None], axis=-1).mean()

    def update(weights: Any, m: Any, v: Any, t: Any) -> Any:
        loss, g = jax.value_and_grad(compute)(weights)
        of_all = jax.tree.map
        m = of_all(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = of_all(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)

        def moved(w: Any, m: Any, v: Any) -> Any:
            w = w * (1 - LEARNING_RATE * WEIGHT_DECAY)
            root = jnp.sqrt(v / (1 - 0.999**t)) + 1e-8
            return w - LEARNING_RATE * (m / (1 - 0.9**t)) / root

        return loss, of_all(moved, weights, m, v), m, v

    compiled = jax.jit(update, donate_argnums=(0, 1, 2))
    weights = {name: jnp.array(w) for name, w in _model(size).state_dict().items()}
    zeros = jax.tree.map(jnp.zeros_like, weights)
    state = [weights, zeros, jax.tree.map(jnp.copy, zeros), 0]

    def step() -> float:
        state[3] += 1
        loss, *state[:3] = compiled(*state[:3], jnp.float32(state[3]))
        jax.block_until_ready(state[0])
        return float(loss)

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
    losses = result["losses"]
    for size, apart in losses["apart"].items():
        each = ", ".join(f"{label} {far:.0e}" for label, far in apart.items())
        console.print(f"{size}: over {losses['steps']} steps the losses agree to: {each}.")
    console.print()
