"""Each op that has a kernel, forward and backward: kernel, composed of NumPy's, PyTorch eager.

The shapes are those of a GPT of 384 features reading 1,024 tokens, 65 or 8,192 kinds of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scratchlm.optim import AdamW
from scratchlm.registry import REFERENCE, fused_updates, get_op
from scratchlm.tensor import Tensor

from .timing import in_turns, limited

ROWS, WIDTH, VOCAB = 1024, 384, 8192

Call = Callable[[], object]


@dataclass(frozen=True)
class Case:
    op: str
    shapes: tuple[tuple[int, ...], ...]
    torch: Callable[..., Any]  # (torch.nn.functional, *tensors)
    options: dict[str, Any] = field(default_factory=dict)
    ids: int | None = None  # the input that holds ids, below VOCAB


CASES = [
    Case(
        "linear",
        ((ROWS, WIDTH), (4 * WIDTH, WIDTH), (4 * WIDTH,)),
        lambda F, x, w, b: F.linear(x, w, b),
    ),
    Case(
        "gelu",
        ((ROWS, 4 * WIDTH),),
        lambda F, x: F.gelu(x, approximate="tanh"),
        {"approximate": "tanh"},
    ),
    Case(
        "swiglu",
        ((ROWS, 4 * WIDTH), (ROWS, 4 * WIDTH)),
        lambda F, a, b: F.silu(a) * b,
    ),
    Case(
        "layer_norm",
        ((ROWS, WIDTH), (WIDTH,), (WIDTH,)),
        lambda F, x, w, b: F.layer_norm(x, x.shape[-1:], w, b, 1e-5),
    ),
    Case(
        "rms_norm",
        ((ROWS, WIDTH), (WIDTH,)),
        lambda F, x, w: F.rms_norm(x, x.shape[-1:], w, 1e-6),
    ),
    Case("softmax", ((ROWS, 1024),), lambda F, x: F.softmax(x, dim=-1)),
    Case(
        "cross_entropy",
        ((ROWS, VOCAB), (ROWS,)),
        lambda F, x, t: F.cross_entropy(x, t),
        ids=1,
    ),
    Case(
        "embedding",
        ((ROWS,), (VOCAB, WIDTH)),
        lambda F, i, w: F.embedding(i, w),
        ids=0,
    ),
]


def run(rounds: int = 9) -> dict[str, Any]:
    rows = []
    for name, make in {**{case.op: case for case in CASES}, "AdamW": None}.items():
        calls = _adamw() if make is None else _calls(make)
        for threads in (None, 1):
            with limited(threads) as clock:
                timings = in_turns(calls, rounds=rounds, repeat=3, clock=clock)
            rows += [{"op": name, "threads": threads or "all"} | t.as_dict() for t in timings]
    return {"unit": "ms", "rows": rows}


def _inputs(case: Case) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(VOCAB, size=shape)
        if case.ids == index
        else rng.standard_normal(shape).astype(np.float32)
        for index, shape in enumerate(case.shapes)
    ]


def _calls(case: Case) -> dict[str, Call]:
    op, arrays = get_op(case.op), _inputs(case)
    out, _ = op.implementations[REFERENCE].function(*arrays, **case.options)
    dy = np.random.default_rng(1).standard_normal(out.shape).astype(np.float32)
    calls: dict[str, Call] = {}
    labels = {"numba": "scratchlm, numba", REFERENCE: "scratchlm, composed"}
    for name, label in labels.items():
        each = op.implementations.get(name)
        if each is not None and (each.unavailable is None or each.unavailable() is None):
            f = each.function
            calls[label] = lambda f=f: f(*arrays, **case.options)[1](dy)
    if importlib.util.find_spec("torch"):
        import torch
        from torch.nn import functional as TF

        tensors = [torch.from_numpy(x) for x in arrays]
        wanted = [t.requires_grad_() for i, t in enumerate(tensors) if i != case.ids]
        cotangent = torch.from_numpy(dy)

        def rival() -> Any:
            return torch.autograd.grad(case.torch(TF, *tensors), wanted, cotangent)

        first = next(iter(calls.values()))()
        ours = [g for g in (first if isinstance(first, tuple) else (first,)) if g is not None]
        for mine, theirs in zip(ours, rival(), strict=True):  # or there is nothing to compare
            np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-3, atol=1e-3)
        calls["PyTorch eager"] = rival
    return calls


def _adamw() -> dict[str, Call]:
    """One update of 2 million parameters in 24 arrays."""
    rng = np.random.default_rng(0)
    values = [rng.standard_normal((WIDTH, 222)).astype(np.float32) for _ in range(24)]
    gradients = [rng.standard_normal(v.shape).astype(np.float32) for v in values]

    def ours() -> Call:
        parameters = [Tensor(v.copy(), requires_grad=True) for v in values]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = Tensor(gradient)
        return AdamW(parameters, lr=1e-3, weight_decay=0.01).step

    fused, plain = ours(), ours()

    def composed() -> None:
        updates = dict(fused_updates)
        fused_updates.clear()
        try:
            plain()
        finally:
            fused_updates.update(updates)

    calls: dict[str, Call] = {"scratchlm, composed": composed}
    if importlib.util.find_spec("numba"):
        calls = {"scratchlm, numba": fused, **calls}
    if importlib.util.find_spec("torch"):
        import torch

        weights = [torch.from_numpy(v.copy()).requires_grad_() for v in values]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = torch.from_numpy(gradient)
        optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.01, fused=True)
        calls["PyTorch eager"] = optimizer.step
    return calls


def show(result: dict[str, Any], console: Any) -> None:
    from rich.table import Table

    table = Table(title="Ops, forward and backward, float32 (ratio: times the first line's)")
    right = ("ms", "ratio", "quartiles")
    for column in ("op", "threads", "library", "ms", "ratio", "quartiles"):
        table.add_column(column, justify="right" if column in right else "left")
    for row in result["rows"]:
        table.add_row(
            row["op"],
            "one, CPU time" if row["threads"] == 1 else "all, wall",
            row["name"],
            f"{row['ms']:.3f}",
            f"{row['ratio']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
        )
    console.print(table)
