"""Causal attention beside PyTorch's fused one: 12 heads of 64, forward, and forward and backward.

Time is the wall's, with all threads, and again the processor's with one thread: what other programs
do in the meantime hardly touches the second.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from scratchlm.registry import get_op

from .timing import in_turns, limited

LENGTHS = (256, 1024, 2048, 4096)
COMPOSED = 2048  # the longest for the composed op, which needs gigabytes beyond
HEADS, WIDTH = 12, 64

Call = Callable[[], object]


def run(rounds: int = 5, lengths: tuple[int, ...] = LENGTHS) -> dict[str, Any]:
    rows = []
    for length in lengths:
        for threads in (None, 1):
            for what, calls in _calls(length).items():
                with limited(threads) as clock:
                    timings = in_turns(calls, rounds=rounds, repeat=1, clock=clock)
                for timing in timings:
                    row = {"length": length, "threads": threads or "all", "what": what}
                    rows.append(row | timing.as_dict())
    return {"unit": "ms", "rows": rows}


def _calls(length: int) -> dict[str, dict[str, Call]]:
    """Forward, and forward and backward, of each library on the same arrays."""
    op = get_op("attention")
    rng = np.random.default_rng(0)
    q, k, v, dy = (
        rng.standard_normal((1, HEADS, length, WIDTH)).astype(np.float32) for _ in range(4)
    )
    forward: dict[str, Call] = {}
    both: dict[str, Call] = {}
    names = {"scratchlm, numba": "numba", "scratchlm, composed": "reference"}
    for label, name in names.items():
        each = op.implementations[name]
        if each.unavailable() is None and (name != "reference" or length <= COMPOSED):
            f = each.function
            forward[label] = lambda f=f: f(q, k, v, causal=True)
            both[label] = lambda f=f: f(q, k, v, causal=True)[1](dy)
    if importlib.util.find_spec("torch"):
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        inputs = [torch.from_numpy(x).requires_grad_() for x in (q, k, v)]
        gradient = torch.from_numpy(dy)

        def torch_forward() -> object:
            with torch.no_grad():
                return scaled_dot_product_attention(*inputs, is_causal=True)

        def torch_both() -> object:
            y = scaled_dot_product_attention(*inputs, is_causal=True)
            return torch.autograd.grad(y, inputs, gradient)

        forward["PyTorch SDPA"], both["PyTorch SDPA"] = torch_forward, torch_both
        y, vjp = op.run(q, k, v, causal=True)  # the same numbers, or there is nothing to compare
        np.testing.assert_allclose(y, torch_forward().numpy(), rtol=0, atol=1e-4)
        for ours, theirs in zip(vjp(dy), torch_both(), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-3)
    return {"forward": forward, "forward + backward": both}


def show(result: dict[str, Any], console: Any) -> None:
    from rich.table import Table

    table = Table(title=f"Causal attention, {HEADS} heads of {WIDTH}, float32 (ratio: times ours)")
    right = ("N", "ms", "ratio", "quartiles")
    for column in ("N", "threads", "what", "library", "ms", "ratio", "quartiles"):
        table.add_column(column, justify="right" if column in right else "left")
    for row in result["rows"]:
        clock = "one, CPU time" if row["threads"] == 1 else "all, wall"
        table.add_row(
            str(row["length"]),
            clock,
            row["what"],
            row["name"],
            f"{row['ms']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
        )
    console.print(table)
