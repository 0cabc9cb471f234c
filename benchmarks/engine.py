"""What the engine costs: microseconds above the same mathematics without it, on a small array."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from scratchlm import Tensor, no_grad
from scratchlm import functional as F
from scratchlm.ops import softmax

from .timing import per_call


def run(rounds: int = 15, number: int = 2000) -> dict[str, Any]:
    """For each op: NumPy alone (softmax: the op on bare arrays), what a tensor adds to it, untaped
    and taped, and what going backward takes in all."""
    a = np.linspace(0.5, 1.5, 16, dtype=np.float32).reshape(4, 4)
    x, leaf = Tensor(a), Tensor(a, requires_grad=True)
    ops: dict[str, tuple[Callable[[], Any], Callable[[Tensor], Tensor]]] = {
        "add": (lambda: a + a, lambda t: t + t),
        "mul": (lambda: a * a, lambda t: t * t),
        "matmul": (lambda: a @ a, lambda t: t @ t),
        "exp": (lambda: np.exp(a), lambda t: t.exp()),
        "sum": (lambda: a.sum(), lambda t: t.sum()),
        "reshape": (lambda: a.reshape(2, 8), lambda t: t.reshape(2, 8)),
        "getitem": (lambda: a[1:], lambda t: t[1:]),
        "softmax": (lambda: softmax(a), F.softmax),
    }
    rows = []
    for name, (bare, on) in ops.items():
        times: dict[str, list[float]] = {"numpy": [], "untaped": [], "taped": [], "backward": []}
        for _ in range(rounds):
            numpy = per_call(bare, number)
            with no_grad():
                untaped = per_call(lambda on=on: on(x), number)
            taped = per_call(lambda on=on: on(leaf), number)
            results = [on(leaf) for _ in range(number // 10)]
            one = np.ones(results[0].shape, np.float32)
            pending = iter(results)
            backward = per_call(lambda p=pending, one=one: next(p).backward(one), len(results))
            leaf.grad = None
            times["numpy"].append(numpy)
            times["untaped"].append(untaped - numpy)
            times["taped"].append(taped - numpy)
            times["backward"].append(backward)
        rows.append({"op": name, **{key: 1e6 * median(values) for key, values in times.items()}})
    return {"unit": "µs", "rows": rows, "chain": _chain()}


def _chain(length: int = 2000, rounds: int = 15) -> dict[str, float]:
    """A long chain of additions: what forward and backward cost for each op of a real graph."""
    leaf = Tensor(np.ones(4, np.float32), requires_grad=True)
    forward, backward = [], []
    for _ in range(rounds):
        made: list[Tensor] = []

        def build(made: list[Tensor] = made) -> None:
            y = leaf
            for _ in range(length):
                y = y + leaf
            made.append(y)

        forward.append(per_call(build, 1) / length)
        backward.append(per_call(lambda made=made: made[0].backward(np.ones(4, np.float32)), 1))
    return {"forward": 1e6 * median(forward), "backward": 1e6 * median(backward) / length}


def show(result: dict[str, Any], console: Any) -> None:
    from rich.table import Table

    table = Table(title="Engine overhead, µs for one op on a 4 x 4 float32 array (aim: taped ≤ 4)")
    for column in ("op", "NumPy alone", "+ untaped", "+ taped", "backward()"):
        table.add_column(column, justify="left" if column == "op" else "right")
    for row in result["rows"]:
        numbers = (row[key] for key in ("numpy", "untaped", "taped", "backward"))
        table.add_row(row["op"], *(f"{value:.2f}" for value in numbers))
    console.print(table)
    chain = result["chain"]
    console.print(
        f"In a chain of 2,000 additions: forward {chain['forward']:.2f} µs an op, "
        f"backward {chain['backward']:.2f} µs an op.\n"
    )
