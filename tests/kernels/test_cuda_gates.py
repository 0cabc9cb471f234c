"""What every CUDA kernel must pass, and for each gate the faults that it must not let through.

1. The compiler: every architecture, no spill, registers within budget, no static shared memory.
2. Values (test_cuda.py), through the launchers with their own grids, blocks and shared memory.
3. Three orders of threads and blocks, bit for bit.
4. ThreadSanitizer, AddressSanitizer and UBSan.

Each fault is planted into the source, or into a launcher, and the gate that is named for it fails.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import emulator
import numpy as np
import pytest
from kernels.cuda_cases import Case, attention, differences, run
from kernels.emulated import Planted, emulated
from kernels.sanitized import apart, begin, found, sanitized

from kernels import cuda_cases, nvrtc
from scratchlm_kernels.cuda import attention as launcher
from scratchlm_kernels.cuda import rows, runtime

needs_emulator = pytest.mark.skipif(emulator.why_not() is not None, reason=str(emulator.why_not()))
needs_nvrtc = pytest.mark.skipif(nvrtc.why_not() is not None, reason=str(nvrtc.why_not()))

# one call that reaches every barrier and every tail, for each source
CALLS: dict[str, Case] = {
    "attention_v1.cu": attention(
        5, 40, e=24, batch=(), causal=True, mask="boolean", version="cuda-v1"
    ),
    "attention_v2.cu": attention(
        11, 40, e=24, batch=(), causal=True, mask="boolean", version="cuda-v2"
    ),
    "attention.cu": attention(70, 75, e=24, batch=(), heads=1, group=2, mask="boolean"),
    "norm.cu": cuda_cases.layer_norm((70, 33)),
    "losses.cu": cuda_cases.cross_entropy((5, 300), 0.3),
    "elementwise.cu": cuda_cases.gelu((300,), "none"),
    "embedding.cu": cuda_cases.embedding((11,), 4, 33),
    "adam.cu": cuda_cases.adam_step(300, 3, lr=0.1),
}

# -- faults ----------------------------------------------------------------------------------------

VALUES = [
    Planted("attention_v1.cu", "k[(size_t)j * d + c]", "k[(size_t)c + j]"),
    Planted("attention_v1.cu", "m = over_block(m, true, scratch);", ""),
    Planted("attention_v2.cu", "__shfl_sync(ALL_LANES, p, t)", "__shfl_sync(ALL_LANES, p, t ^ 1)"),
    Planted("attention_v2.cu", "l = l * shrink +", "l = l +"),
    Planted("attention.cu", "(lane + c * LANES) * STRIDE + f", "(lane * C + c) * STRIDE + f"),
    Planted("attention.cu", "sum[r][f] *= shrink", "(void)shrink"),
    Planted("attention.cu", "i < N && j < M ? masked", "i < N ? masked"),
    Planted("attention.cu", "dp[r][c] - delta_tile[column]", "dp[r][c]"),
    Planted("attention.cu", "head < (shared_head + 1) * group", "head < shared_head * group + 1"),
    Planted("attention.cu", "if (j > i + mask.past)", "if (false)"),
    Planted("norm.cu", "sum_of_lanes(sum) / width + eps", "sum_of_lanes(sum) / (width - 1) + eps"),
    Planted("norm.cu", "row += (long long)gridDim.y * ROWS", "row += ROWS"),
    Planted("losses.cu", " - (c == t ? 1.f : 0.f)", ""),
    Planted("losses.cu", "sums[w] * shrink(tops[w], m)", "sums[w]"),
    Planted("elementwise.cu", "0.39894228f", "0.3989f"),
    Planted("embedding.cu", "dy[n * width + c]);", "dy[n * width]);"),
    Planted("adam.cu", "sqrtf(v_new)", "sqrtf(v[0])"),
]
ORDERS = [
    Planted("attention_v1.cu", "scratch[threadIdx.x / WARP] = x;\n  __syncthreads();",
            "scratch[threadIdx.x / WARP] = x;"),
    Planted("attention_v2.cu", "load(values, v, KEYS, start, M, e);\n    __syncthreads();",
            "load(values, v, KEYS, start, M, e);"),
    Planted("attention.cu", "load<COLUMNS>(tile, k, start, M, d);\n    __syncthreads();",
            "load<COLUMNS>(tile, k, start, M, d);"),
    Planted("norm.cu", "__syncthreads();", ""),
    Planted("losses.cu", "__syncthreads();", ""),
]  # fmt: skip
THREAD = [
    Planted("attention_v1.cu", "__syncthreads();  // the next call writes scratch", ""),
    Planted("attention_v2.cu", "__syncthreads();  // all warps are done with this tile", ""),
    Planted("attention.cu", "__syncthreads();  // all are done with the keys", ""),
    Planted("attention.cu", "__syncthreads();  // and with the values", ""),
    Planted("attention.cu", "__syncwarp();  // what a row needs", "//"),
    Planted("attention.cu", "__syncwarp();  // what a row needs", "//", nth=1),
    Planted("norm.cu", "__syncthreads();", ""),
    Planted("losses.cu", "__syncthreads();", ""),
    Planted(
        "embedding.cu",
        "atomicAdd(&dweight[ids[n] * width + c], dy[n * width + c])",
        "dweight[ids[n] * width + c] += dy[n * width + c]",
    ),
]
ADDRESS = [
    Planted("attention_v1.cu", "j < M; j += THREADS", "j <= M; j += THREADS"),
    Planted("attention_v2.cu", "if (i >= N) return;", ""),
    Planted("attention_v2.cu", "first + r < length && c < width", "c < width"),
    Planted("attention.cu", "row < length && c < width", "c < width"),
    Planted("attention.cu", "first + r < length && c < width", "c < width"),
    Planted("attention.cu", "if (lane == 0 && i < N)", "if (lane == 0)"),
    Planted("norm.cu", "if (row >= rows) return;  // all", "//"),
    Planted("norm.cu", "|| c >= width", ""),
    Planted("losses.cu", "c < classes; c += THREADS", "c <= classes; c += THREADS"),
    Planted("elementwise.cu", "if (i >= n) return;", ""),
    Planted("embedding.cu", "c < width", "c <= width"),
    Planted("adam.cu", "if (i >= n) return;", ""),
]


# -- values and orders -----------------------------------------------------------------------------


@needs_emulator
@pytest.mark.slow
@pytest.mark.parametrize("fault", VALUES, ids=str)
def test_a_wrong_formula_or_index_shows_in_the_values(fault):
    if fault.old == "if (j > i + mask.past)":
        case = attention(20, causal=True)
        fault = dataclasses.replace(fault, source="attention.cuh")
    else:
        case = CALLS[fault.source]
    with emulated(fault):
        assert differences(case)


def bits(case: Case, edit: Any, order: str, seed: int = 0) -> list[np.ndarray | None]:
    with emulated(edit, order=order, seed=seed):
        return run(case)


def differs_between_orders(case: Case, edit: Any = str) -> bool:
    forward = bits(case, edit, "forward")
    for order, seed in (("reversed", 0), ("shuffled", 1), ("shuffled", 2)):
        for a, b in zip(forward, bits(case, edit, order, seed), strict=True):
            if (a is None) != (b is None) or (a is not None and a.tobytes() != b.tobytes()):
                return True
    return False


@needs_emulator
@pytest.mark.parametrize("source", CALLS)
def test_the_order_of_threads_and_blocks_changes_no_bit(source):
    assert not differs_between_orders(CALLS[source])


@needs_emulator
@pytest.mark.slow
@pytest.mark.parametrize("fault", ORDERS, ids=str)
def test_a_missing_barrier_shows_in_the_order_or_the_values(fault):
    case = CALLS[fault.source]
    with emulated(fault, order="reversed"):
        wrong = differences(case)
    assert wrong or differs_between_orders(case, fault)


# -- launchers -------------------------------------------------------------------------------------


@needs_emulator
@pytest.mark.parametrize("source", [s for s in CALLS if s.startswith("attention")])
def test_a_grid_too_small_shows_in_the_values(source, monkeypatch):
    version = {"attention_v1.cu": 1, "attention_v2.cu": 2, "attention.cu": 3}[source]
    right = launcher.FORWARD[version]
    wrong = dataclasses.replace(right, rows=2 * right.rows)
    monkeypatch.setitem(launcher.FORWARD, version, wrong)
    with emulated():
        assert differences(CALLS[source])


@needs_emulator
def test_shared_memory_not_asked_for_is_refused(monkeypatch):
    monkeypatch.setattr(runtime, "SHARED_FREE", 10**6)
    with emulated(), pytest.raises(emulator.EmulatorError, match="set max_dynamic_shared"):
        run(attention(20, d=128))


@needs_emulator
def test_a_wrong_dtype_is_refused(monkeypatch):
    def wide(xp, mask, *_):
        return [xp.astype(mask, xp.float64), runtime.NULL, *[np.int64(0)] * 4]

    monkeypatch.setattr(launcher, "_mask_arguments", wide)
    with emulated(), pytest.raises(emulator.EmulatorError, match=r"declared const b1\*"):
        run(CALLS["attention.cu"])


# -- sanitizers ------------------------------------------------------------------------------------


def in_sanitizer(sanitize: str) -> None:
    """Every call, and every fault planted for this sanitizer (in a process of its own)."""
    for source, case in CALLS.items():
        for order in ("forward", "shuffled"):
            begin(f"{source} {order}")
            with emulated(sanitize=sanitize, order=order):
                run(case)
    for fault in {"thread": THREAD, "address": ADDRESS}[sanitize]:
        begin(f"{fault} {fault.nth}")
        with emulated(fault, sanitize=sanitize):
            faulty = functools.partial(run, CALLS[fault.source])
            apart(faulty) if sanitize == "address" else faulty()
    if sanitize == "address":
        begin("too little shared memory")
        launcher.shared_keys = lambda head: 100
        with emulated(sanitize=sanitize):
            apart(functools.partial(run, CALLS["attention.cu"]))


@needs_emulator
@pytest.mark.slow
@pytest.mark.parametrize(("sanitize", "message"), [
    ("thread", "WARNING: ThreadSanitizer: data race"),
    ("address", "ERROR: AddressSanitizer: "),
])  # fmt: skip
def test_the_sanitizers_find_nothing_but_what_was_planted(sanitize, message):
    said = sanitized(sanitize, f"test_cuda_gates.in_sanitizer({sanitize!r})")
    clean = {name for name in said if name.endswith((".cu forward", ".cu shuffled"))}
    assert len(clean) == 2 * len(CALLS)
    assert {name: said[name][:3000] for name in clean if found(said[name])} == {}
    faults = said.keys() - clean
    assert len(faults) >= 6
    assert {name for name in faults if message not in said[name]} == set()


# -- the compiler ----------------------------------------------------------------------------------


def variants(source: str) -> list[tuple[str, ...]]:
    """What a source is compiled with."""
    if source.startswith("attention"):
        return [(f"-DHEAD={head}",) for head in launcher.HEAD_SIZES]
    return [()]


def violations(
    source: str, architecture: int, defines: tuple[str, ...], edit: Any = str
) -> list[str]:
    """What the compiler has against a source, on one architecture."""
    budget = {k.name: k.registers for k in runtime.all_kernels if k.source == source}
    options = (*runtime.OPTIONS, *defines)
    said = []
    for name, usage in nvrtc.compile(edit(runtime.source(source)), architecture, options).items():
        where = f"{name} {' '.join(defines)} sm_{architecture}"
        if name not in budget:
            said.append(f"{where}: no launcher knows it")
        elif usage.registers > budget[name]:
            said.append(f"{where}: {usage.registers} registers, the budget is {budget[name]}")
        if usage.spills or usage.stack:
            said.append(f"{where}: {usage.spills} bytes of spills, {usage.stack} of stack")
        if usage.static_shared:
            said.append(f"{where}: {usage.static_shared} bytes of static shared memory")
    return said


SOURCES = sorted(path.name for path in runtime.FOLDER.glob("*.cu"))


def test_every_source_is_tested_and_every_kernel_has_its_launcher():
    assert rows.NORM in runtime.all_kernels
    assert set(SOURCES) == CALLS.keys() == {k.source for k in runtime.all_kernels}
    for source in SOURCES:
        kernels = re.findall(r"__global__ void (?:\w+\([^)]*\) )?(\w+)\(", runtime.source(source))
        assert sorted(kernels) == sorted(
            {k.name for k in runtime.all_kernels if k.source == source}
        )
        for faults in (VALUES, ADDRESS, *([ORDERS, THREAD] if barriers(source) else [])):
            assert source in {fault.source for fault in faults}


def barriers(source: str) -> bool:
    return "__sync" in (runtime.FOLDER / source).read_text("utf-8")


@needs_nvrtc
@pytest.mark.parametrize("source", SOURCES)
def test_the_compiler_keeps_within_the_budget(source):
    """On two architectures; the test below takes them all."""
    for architecture in (70, 90):
        assert violations(source, architecture, variants(source)[-1]) == []


@needs_nvrtc
@pytest.mark.slow
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("source", SOURCES)
def test_the_compiler_keeps_within_the_budget_everywhere(source, architecture):
    for defines in variants(source):
        assert violations(source, architecture, defines) == []


COMPILER = {
    "spills": Planted("attention.cu", "int R = 4, C = 4, ROWS", "int R = 16, C = 4, ROWS"),
    "stack": Planted(
        "attention.cu",
        "for (int f = 0; f < FEATURES; ++f) sum[r][f] *= shrink;",
        "sum[r][threadIdx.y] *= shrink;",
    ),
    "static shared memory": Planted(
        "attention.cu", "DYNAMIC_SHARED(float, shared);",
        "__shared__ float more[8]; more[threadIdx.x % 8] = scale;"
        " if (more[3] > 0) scale = more[4]; DYNAMIC_SHARED(float, shared);",
    ),
    "registers, the budget": Planted(
        "attention.cu", "int R_BACK = 2, C_BACK = HEAD > 64 ? 2 : 4", "int R_BACK = 4, C_BACK = 4"
    ),
    "no launcher knows it": Planted(
        "attention.cu", 'extern "C" __global__',
        'extern "C" __global__ void another(float* x) { *x = 1; }\nextern "C" __global__',
    ),
}  # fmt: skip


@needs_nvrtc
@pytest.mark.parametrize("what", COMPILER)
def test_the_compilers_gate_sees(what):
    said = violations("attention.cu", 80, ("-DHEAD=128",), COMPILER[what])
    assert any(what in each for each in said), said


@needs_nvrtc
def test_the_compilers_gate_sees_what_only_a_host_has():
    edit = Planted("attention.cu", "constexpr int LANES", "#include <cmath>\nconstexpr int LANES")
    with pytest.raises(nvrtc.CompileError, match="cmath"):
        violations("attention.cu", 80, ("-DHEAD=64",), edit)


def test_what_is_said_by_ptxas_is_read():
    log = """ptxas info    : Compiling entry function 'k' for 'sm_90'
ptxas info    : Function properties for k
    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 32 bytes smem, 400 bytes cmem[0]"""
    assert nvrtc.usages(log) == {"k": nvrtc.Usage(40, spills=28, stack=8, static_shared=32)}


def test_every_case_of_the_short_list_is_told_apart():
    names = [str(case) for case in cuda_cases.all_few()]
    assert len(names) == len(set(names))
