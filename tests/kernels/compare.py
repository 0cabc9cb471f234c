"""A kernel beside the composed op, on the same arrays."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ops.harness import as_tuple, call, random_cotangents

from scratchlm.registry import get_op

# Relative to the largest value of the array. Both round, in sums of different order: float64 by
# 1e-16 for each of some hundred terms, float32 by 6e-8; the kernels' exp is good to 1e-7.
TOLERANCE = {np.dtype("float64"): 1e-12, np.dtype("float32"): 5e-6}


def differences(expected: Sequence[Any], found: Sequence[Any], scale: float = 1.0) -> list[str]:
    """What differs; ``scale`` widens the tolerance, where rounding is known to be magnified."""
    said = []
    for index, (a, b) in enumerate(zip(expected, found, strict=True)):
        if a is None or b is None:
            if a is not b:
                said.append(f"{index}: None or not")
            continue
        a, b = np.asarray(a), np.asarray(b)
        if a.dtype != b.dtype or a.shape != b.shape:
            said.append(f"{index}: {a.dtype}{a.shape} and {b.dtype}{b.shape}")
            continue
        if not a.size:
            continue
        finite = np.isfinite(a)
        extremes = [np.where(np.isfinite(x), 0, x) for x in (a, b)]
        if not np.array_equal(*extremes, equal_nan=True):
            said.append(f"{index}: not finite in different places")
            continue
        size = max(1.0, float(np.abs(a[finite]).max(initial=0.0)))
        error = float(np.abs(a[finite] - b[finite]).max(initial=0.0)) / size
        if error > scale * TOLERANCE[a.dtype]:
            said.append(f"{index}: differs by {error:.1e} of {size:.1e}")
    return said


def compare(
    name: str,
    arrays: Sequence[Any],
    options: dict[str, Any],
    seed: int = 0,
    kernel: Callable[..., Any] | None = None,
    scale: float = 1.0,
) -> list[str]:
    """How the result and the gradients of op ``name``'s kernel differ from the composed op's."""
    op = get_op(name)
    kernel = kernel or op.implementations["numba"].function
    out, vjp = call(op.reference, arrays, options)
    cotangents = random_cotangents(out, np.random.default_rng(seed))
    _spoil_free_memory(as_tuple(out))
    own, own_vjp = call(kernel, arrays, options)
    found = differences(as_tuple(out), as_tuple(own), scale)
    if found:
        return [f"result {each}" for each in found]
    expected = as_tuple(vjp(*cotangents))
    _spoil_free_memory(expected)
    got = as_tuple(own_vjp(*cotangents))
    return [f"gradient {each}" for each in differences(expected, got, scale)]


def _spoil_free_memory(like: Sequence[Any]) -> None:
    """NaN in what is allocated next: a number that a kernel forgets to write must not be the right
    one, left there by the composed op."""
    arrays = [x for x in like if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
    _ = [np.full(x.shape, np.nan, x.dtype) for x in arrays for _ in range(4)]


def agrees(
    name: str, arrays: Sequence[Any], options: dict[str, Any], seed: int = 0, **how: Any
) -> None:
    found = compare(name, arrays, options, seed, **how)
    shapes = [getattr(x, "shape", None) for x in arrays]
    assert not found, f"{name} {shapes} {options}: {'; '.join(found)}"


def with_fault(module: str, right: str, wrong: str, folder: Path, monkeypatch: Any) -> Any:
    """Module ``module`` of the CPU kernels with ``wrong`` for ``right`` in its source."""
    from scratchlm_kernels.cpu import compiling

    monkeypatch.setattr(compiling, "cache_folder", lambda: folder)
    real = importlib.import_module(f"scratchlm_kernels.cpu.{module}")
    source = Path(str(real.__file__)).read_text(encoding="utf-8")
    assert right in source
    path = folder / "faulty.py"
    path.write_text(source.replace(right, wrong), encoding="utf-8")
    name = "scratchlm_kernels.cpu.faulty"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    faulty = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, faulty)
    spec.loader.exec_module(faulty)
    return faulty
