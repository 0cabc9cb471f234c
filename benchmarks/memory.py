"""Peak memory, each figure from a process of its own: what the system had to give at most.

Attention, 12 heads of 64, causal, forward and backward: the megabytes above those held before the
call, inputs aside. A training step at size mid: all that the process takes, weights, gradients
and both averages of AdamW included, above what its imports take.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

LENGTHS = (1024, 2048, 4096, 8192, 16384)
COMPOSED = 4096  # the longest for the composed op: 12 N² numbers, several times
MB = 1e6


def run(rounds: int = 2, lengths: tuple[int, ...] = LENGTHS) -> dict[str, Any]:
    del rounds  # memory does not waver
    labels = {"numba": "scratchlm, numba", "composed": "scratchlm, composed"}
    if importlib.util.find_spec("numba") is None:
        del labels["numba"]
    if importlib.util.find_spec("torch"):
        labels["torch"] = "PyTorch eager"
    attention = [
        {"length": length, "name": label, "mb": _child("attention", library, length)}
        for length in lengths
        for library, label in labels.items()
        if library != "composed" or length <= COMPOSED
    ]
    step = [
        {"size": "mid", "name": label, "mb": _child("step", library, 0)}
        for library, label in labels.items()
    ]
    return {"unit": "MB", "attention": attention, "step": step}


def _child(what: str, library: str, length: int) -> float:
    command = [sys.executable, "-m", __name__, what, library, str(length)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"memory of {what}, {library}, {length}:\n{done.stderr}")
    return float(done.stdout)


def peak() -> float:
    """The most that was resident so far. (Linux's ``ru_maxrss`` would count the parent's too.)"""
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(x for x in status.read_text("utf-8").splitlines() if x.startswith("VmHWM:"))
        return 1024 * int(peak.split()[1]) / MB
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MB  # bytes, on macOS


def _attention(library: str, length: int) -> float:
    import numpy as np

    def inputs(n: int) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        return [rng.standard_normal((1, 12, n, 64), dtype=np.float32) for _ in range(4)]

    if library == "torch":
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        def call(q: Any, k: Any, v: Any, dy: Any) -> object:
            leaves = [torch.from_numpy(x).requires_grad_() for x in (q, k, v)]
            y = scaled_dot_product_attention(*leaves, is_causal=True)
            return torch.autograd.grad(y, leaves, torch.from_numpy(dy))
    else:
        from scratchlm.registry import REFERENCE, get_op

        name = REFERENCE if library == "composed" else library
        f = get_op("attention").implementations[name].function

        def call(q: Any, k: Any, v: Any, dy: Any) -> object:
            return f(q, k, v, causal=True)[1](dy)

    call(*inputs(64))  # compile, start threads
    arrays = inputs(length)
    before = peak()
    call(*arrays)
    return peak() - before


def _step(library: str) -> float:
    from . import train_step

    make = {
        "numba": train_step._scratchlm,
        "composed": train_step._composed,
        "torch": train_step._torch,
    }[library]
    make(train_step.SIZES["nano"])()  # imports, compiling, threads
    before = peak()
    step = make(train_step.SIZES["mid"])
    step()
    step()
    return peak() - before


def show(result: dict[str, Any], console: Any) -> None:
    from rich.table import Table

    names = list(dict.fromkeys(row["name"] for row in result["attention"]))
    table = Table(title="Extra memory of causal attention, forward and backward, MB")
    table.add_column("N", justify="right")
    for name in names:
        table.add_column(name, justify="right")
    for length in dict.fromkeys(row["length"] for row in result["attention"]):
        found = {r["name"]: r["mb"] for r in result["attention"] if r["length"] == length}
        cells = (f"{found[name]:.0f}" if name in found else "" for name in names)
        table.add_row(str(length), *cells)
    console.print(table)
    table = Table(title="Memory of a training step at size mid, MB")
    table.add_column("library")
    table.add_column("MB", justify="right")
    for row in result["step"]:
        table.add_row(row["name"], f"{row['mb']:.0f}")
    console.print(table)


if __name__ == "__main__":
    part, library, length = sys.argv[1:]
    print(_attention(library, int(length)) if part == "attention" else _step(library))
