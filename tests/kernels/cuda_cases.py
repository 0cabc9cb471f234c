"""Calls of the CUDA kernels, beside the composed ops in float64 on the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import standin
from ops.harness import as_tuple, random_cotangents

from scratchlm import optim
from scratchlm.backend import to_host
from scratchlm.registry import fused_updates, get_op

Move = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Case:
    """One call of an op; ``steep`` where rounding is magnified on the way, ``whole`` for cotangents
    that add up exactly in any order."""

    op: str
    label: str
    arrays: tuple[np.ndarray | None, ...]
    options: dict[str, Any] = field(default_factory=dict)
    implementation: str = "cuda"
    steep: bool = False
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.op}-{self.implementation}-{self.label}"


def _moved(value: Any, to: Move) -> Any:
    return to(value) if isinstance(value, np.ndarray) else value


def run(case: Case, to: Move = standin.asarray) -> list[np.ndarray | None]:
    """Result and gradients of the kernel, on the host."""
    if case.op == "adam_step":
        arrays = [_moved(a, to) for a in case.arrays]
        assert fused_updates["adam_step"](*arrays, **case.options)
        return [to_host(x) for x in arrays]
    kernel = get_op(case.op).implementations[case.implementation]
    arrays = [_moved(a, to) for a in case.arrays]
    options = {name: _moved(value, to) for name, value in case.options.items()}
    assert kernel.supports is not None
    assert kernel.supports(*arrays, **options), "the composed op would run"
    out, vjp = kernel.function(*arrays, **options)
    outs = [to_host(y) for y in as_tuple(out)]
    gradients = as_tuple(vjp(*(_moved(c, to) for c in _cotangents(case, outs))))
    return [*outs, *(None if g is None else to_host(g) for g in gradients)]


def _cotangents(case: Case, outs: list[np.ndarray]) -> tuple[Any, ...]:
    cotangents = random_cotangents(tuple(outs), np.random.default_rng(7))
    return tuple(np.round(8 * c) / 8 for c in cotangents) if case.whole else cotangents


def composed(case: Case, dtype: str) -> list[np.ndarray | None]:
    """The same by the composed op on the host, in ``dtype``."""

    def cast(x: Any) -> Any:
        return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x

    if case.op == "adam_step":
        arrays = [cast(a) for a in case.arrays]
        optim.adamw_step(*arrays, **case.options)
        return arrays
    out, vjp = get_op(case.op).reference(
        *map(cast, case.arrays), **{name: cast(value) for name, value in case.options.items()}
    )
    outs = list(as_tuple(out))
    single = [np.asarray(y, np.float32) for y in outs]
    return [*outs, *as_tuple(vjp(*map(cast, _cotangents(case, single))))]


def _error(want: np.ndarray, have: np.ndarray) -> float:
    return float(np.abs(want - have).max(initial=0.0))  # NaN where one is


def differences(case: Case, to: Move = standin.asarray) -> list[str]:
    """What is wrong with the kernel's results; nothing, it is hoped."""
    said = []
    wide, single = composed(case, "float64"), composed(case, "float32") if case.steep else None
    for place, (want, have) in enumerate(zip(wide, run(case, to), strict=True)):
        if want is None or have is None:
            if want is not have:
                said.append(f"{place}: None or not")
            continue
        if have.dtype != np.float32 or have.shape != want.shape:
            said.append(f"{place}: {have.dtype}{have.shape}, not float32{want.shape}")
            continue
        # A float32 rounds by 6e-8; a sum of some hundred terms, one after the other, by a few 1e-6
        # of the largest. Where that is magnified, the composed op in float32 tells by how much;
        # its sums run in several lanes with fused multiply-adds, and round some times less.
        tolerance = 1e-5 * max(1.0, float(np.abs(want).max(initial=0.0)))
        if single is not None:
            tolerance += 8 * _error(want, single[place])
        if not _error(want, have) <= tolerance:
            said.append(f"{place}: differs by {_error(want, have):.1e}, not {tolerance:.1e}")
    return said


# -- attention -------------------------------------------------------------------------------------

LENGTHS = (1, 31, 32, 33, 64, 100, 257)
HEAD_SIZES = (16, 40, 64, 80, 128)
VERSIONS = ("cuda-v1", "cuda-v2", "cuda")
MASKS = ("none", "padding", "boolean", "additive")


def attention(
    n: int,
    m: int | None = None,
    d: int = 16,
    e: int | None = None,
    *,
    batch: tuple[int, ...] = (2,),
    heads: int = 2,
    group: int = 1,
    causal: bool = False,
    mask: str = "none",
    scale: float | None = None,
    size: float = 1.0,
    version: str = "cuda",
) -> Case:
    """Queries [*batch, heads * group, n, d], keys [*batch, heads, m, d], values [.., e]."""
    m, e = m or n, e or d
    rng = np.random.default_rng([n, m, d, e])

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    q = normal(*batch, heads * group, n, d) * np.float32(size)
    k, v = normal(*batch, heads, m, d), normal(*batch, heads, m, e)
    options: dict[str, Any] = {"causal": causal, "scale": scale}
    if mask == "padding":  # each sequence of the batch has an end of its own; one is all padding
        ends = rng.integers(0, m + 1, batch)
        ends.flat[0] = 0
        options["mask"] = np.arange(m) < ends[..., None, None, None]
    elif mask == "boolean":
        options["mask"] = rng.random((*batch, heads * group, n, m)) < 0.6
        options["mask"][..., n // 2, :] = False  # a query that may attend to nothing
    elif mask == "additive":
        options["mask"] = normal(n, m)
        options["mask"][rng.random((n, m)) < 0.3] = -math.inf
    label = f"{n}x{m}x{d}" + (f"x{e}" if e != d else "")
    label += (
        f"-g{group}" * (group > 1)
        + "-causal" * causal
        + f"-{mask}" * (mask != "none")
        + f"-{size:g}" * (size != 1)
    )
    # exp turns the absolute error of a score, 6e-8 of its size, into a relative one of its weight
    return Case("attention", label, (q, k, v), options, version, steep=size > 1)


def attention_few() -> Iterator[Case]:
    """Every edge once, for each version."""
    for version in VERSIONS:
        yield attention(1, version=version)
        yield attention(33, causal=True, mask="padding", version=version)
        yield attention(64, d=64, batch=(1,), causal=True, version=version)
        yield attention(100, d=40, e=24, batch=(1,), mask="boolean", version=version)
        yield attention(31, 70, batch=(), causal=True, mask="additive", version=version)
        yield attention(70, 31, group=3, causal=True, version=version)  # some see no key
        yield attention(5, 257, 128, batch=(1, 1), scale=0.3, version=version)
        yield attention(32, size=1e4, version=version)


def attention_all() -> Iterator[Case]:
    """The whole grid."""
    for version in VERSIONS:
        for n in LENGTHS:
            for causal in (False, True):
                for mask in MASKS:
                    d = HEAD_SIZES[(n + MASKS.index(mask) + causal) % len(HEAD_SIZES)]
                    yield attention(n, d=d, causal=causal, mask=mask, version=version)
        for d in HEAD_SIZES:
            for size in (1.0, 1e3):
                yield attention(65, 100, d, causal=True, size=size, version=version)
                yield attention(65, 100, d, 16, mask="boolean", size=size, version=version)
        for batch in ((), (3,), (2, 2)):
            for group in (1, 2, 4):
                yield attention(17, 40, batch=batch, group=group, mask="boolean", version=version)
                yield attention(40, 17, batch=batch, group=group, causal=True, version=version)


# -- rows and elements -----------------------------------------------------------------------------


def layer_norm(shape: tuple[int, ...], given: str = "wb", **options: Any) -> Case:
    """``given``: which of weight and bias there are."""
    rng = np.random.default_rng([*shape, len(given)])
    arrays = [rng.standard_normal(shape).astype(np.float32) * 3 + 1]
    for which in "wb":
        p = rng.standard_normal(shape[-1]).astype(np.float32)
        arrays.append(p if which in given else None)
    # two numbers that are nearly equal, or one alone, make a norm as steep as 1 / sqrt(eps)
    return Case("layer_norm", f"{shape}-{given}", tuple(arrays), options, steep=shape[-1] < 3)


def cross_entropy(
    shape: tuple[int, ...], ignored: float = 0.0, size: float = 1.0, dtype: Any = np.int64,
    **options: Any,
) -> Case:  # fmt: skip
    """``ignored``: the share of targets that do not count."""
    rng = np.random.default_rng([*shape])
    logits = rng.standard_normal(shape).astype(np.float32) * np.float32(size)
    target = rng.integers(0, shape[-1], shape[:-1]).astype(dtype)
    target = np.where(rng.random(shape[:-1]) < ignored, options.get("ignore_index", -100), target)
    label = f"{shape}-{ignored:g}-{size:g}-{np.dtype(dtype)}-" + "-".join(
        map(str, options.values())
    )
    return Case("cross_entropy", label, (logits, target.astype(dtype)), options, steep=size > 1)


def gelu(shape: tuple[int, ...], approximate: str) -> Case:
    x = np.random.default_rng([*shape]).uniform(-9, 9, shape).astype(np.float32)
    return Case("gelu", f"{shape}-{approximate}", (x,), {"approximate": approximate})


def embedding(shape: tuple[int, ...], rows: int, width: int, dtype: Any = np.int64) -> Case:
    rng = np.random.default_rng([*shape, rows, width])
    ids = rng.integers(0, rows, shape).astype(dtype)
    weight = rng.standard_normal((rows, width)).astype(np.float32)
    label = f"{shape}-{rows}x{width}-{np.dtype(dtype)}"
    return Case("embedding", label, (ids, weight), whole=True)


def adam_step(n: int, t: int, **options: Any) -> Case:
    """Not an op: an update in place of p, m and v by the gradient g."""
    rng = np.random.default_rng([n, t])
    p, g, m = (rng.standard_normal(n).astype(np.float32) for _ in range(3))
    v = rng.uniform(0, 4, n).astype(np.float32)
    return Case("adam_step", f"{n}-{t}-{len(options)}", (p, g, m, v), {"t": t, **options})


def rows_few() -> Iterator[Case]:
    """Every edge once."""
    yield layer_norm((1, 1))
    yield layer_norm((31,), "")
    yield layer_norm((5, 33), "w")
    yield layer_norm((2, 35, 100), eps=0.1)
    yield layer_norm((300, 7), "b")
    yield cross_entropy((1,))
    yield cross_entropy((5, 1))
    yield cross_entropy((3, 4, 33), 0.3)
    yield cross_entropy((4, 1000), reduction="sum", size=1e4)
    yield cross_entropy((2, 3, 128), 0.5, reduction="none", dtype=np.int32)
    yield cross_entropy((4, 10), 1.0, ignore_index=3)
    for approximate in ("none", "tanh"):
        yield gelu((1,), approximate)
        yield gelu((3, 7, 40), approximate)
    yield embedding((1,), 1, 1)
    yield embedding((3, 50), 4, 33)
    yield embedding((7,), 5, 130, np.int32)
    yield adam_step(1, 1)
    yield adam_step(700, 3, lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1)


def rows_all() -> Iterator[Case]:
    """The whole grid."""
    yield from rows_few()
    for n in LENGTHS:
        for width in (1, 2, 31, 32, 33, 64, 257):
            for given in ("", "w", "b", "wb"):
                yield layer_norm((n, width), given)
            for reduction in ("mean", "sum", "none"):
                for ignored in (0.0, 0.4):
                    for size in (1.0, 1e4):
                        yield cross_entropy((n, width), ignored, size, reduction=reduction)
            yield embedding((n,), 5, width)
        for approximate in ("none", "tanh"):
            yield gelu((n, 5), approximate)


def all_few() -> list[Case]:
    """The short list, of every kernel."""
    return [*attention_few(), *rows_few()]


def everything() -> list[Case]:
    """The long list, of every kernel."""
    return [*attention_all(), *rows_all()]
