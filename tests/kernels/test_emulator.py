"""The emulator of CUDA, by itself: what a kernel may rely on, and what is told when it may not."""

from __future__ import annotations

import functools
import re
import sys
import textwrap

import emulator
import numpy as np
import pytest
from kernels.sanitized import apart, begin, found, sanitized

pytestmark = pytest.mark.skipif(emulator.why_not() is not None, reason=str(emulator.why_not()))

ORDERS = ("forward", "reversed", "shuffled")


def run(code, *args, grid=(1,), block=(64,), shared_mem=0, **options):
    """Compile ``code``, a kernel called k, and launch it."""
    module = emulator.Module('extern "C" __global__ void ' + textwrap.dedent(code), **options)
    module.get_function("k")(grid, block, args, shared_mem=shared_mem)


def floats(*shape):
    return np.zeros(shape, np.float32)


REVERSE = """k(float* x) {
    DYNAMIC_SHARED(float, s);
    const int t = threadIdx.x;
    s[t] = x[blockIdx.x * blockDim.x + t];
    __syncthreads();
    x[blockIdx.x * blockDim.x + t] = s[blockDim.x - 1 - t];
}"""


# -- what works ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_a_barrier_lets_all_threads_see_what_all_wrote(order):
    x = np.arange(192, dtype=np.float32)
    expected = x.reshape(3, 64)[:, ::-1].copy()
    run(REVERSE, x, grid=(3,), shared_mem=256, order=order)
    np.testing.assert_array_equal(x.reshape(3, 64), expected)


def test_without_the_barrier_shared_memory_is_nan():
    x = np.arange(64, dtype=np.float32)
    run(REVERSE.replace("__syncthreads();", ""), x, shared_mem=256)
    assert np.isnan(x[:32]).all()  # read before their other half had written
    assert not np.isnan(x[32:]).any()


def test_every_block_gets_shared_memory_of_nan_anew():
    x = floats(4)
    run(
        """k(float* x) {
            DYNAMIC_SHARED(float, s);
            x[blockIdx.x] = s[0];
            s[0] = 1;
        }""",
        x,
        grid=(4,),
        block=(1,),
        shared_mem=4,
    )
    assert np.isnan(x).all()


def test_indices_of_blocks_and_threads_in_three_dimensions():
    x = np.zeros((2, 3, 2, 2, 3, 4), np.int32)
    run(
        """k(int* x) {
            const dim3 b = blockDim, g = gridDim;
            const int block = (blockIdx.z * g.y + blockIdx.y) * g.x + blockIdx.x;
            const int thread = (threadIdx.z * b.y + threadIdx.y) * b.x + threadIdx.x;
            x[block * b.x * b.y * b.z + thread] = 100 * block + thread;
        }""",
        x,
        grid=(2, 3, 2),
        block=(4, 3, 2),
    )
    expected = 100 * np.arange(12)[:, None] + np.arange(24)
    np.testing.assert_array_equal(x.reshape(12, 24), expected)


LANES = np.arange(32)
SHUFFLES = {
    "__shfl_sync(~0u, t, 5)": np.full(32, 5),
    "__shfl_sync(~0u, t, t + 1)": (LANES + 1) % 32,
    "__shfl_sync(~0u, t, 9, 8)": LANES // 8 * 8 + 1,
    "__shfl_xor_sync(~0u, t, 3)": LANES ^ 3,
    "__shfl_xor_sync(~0u, t, 8, 8)": LANES,  # beyond the group: one's own
    "__shfl_xor_sync(~0u, t, 4, 8)": LANES ^ 4,
    "__shfl_down_sync(~0u, t, 2)": np.where(LANES + 2 < 32, LANES + 2, LANES),
    "__shfl_down_sync(~0u, t, 2, 4)": np.where(LANES % 4 + 2 < 4, LANES + 2, LANES),
    "__shfl_up_sync(~0u, t, 1)": np.where(LANES > 0, LANES - 1, LANES),
    "__shfl_up_sync(~0u, t, 3, 8)": np.where(LANES % 8 >= 3, LANES - 3, LANES),
    "(int)__shfl_xor_sync(~0u, (double)t, 1)": LANES ^ 1,
}


@pytest.mark.parametrize("order", ORDERS)
def test_shuffles_and_their_widths(order):
    x = np.zeros((len(SHUFFLES), 2, 32), np.int32)
    lines = "".join(f"x[{64 * row} + threadIdx.x] = {each};\n" for row, each in enumerate(SHUFFLES))
    run(f"k(int* x) {{ const int t = threadIdx.x % 32; {lines} }}", x, order=order)
    for row, (shuffle, expected) in enumerate(SHUFFLES.items()):
        np.testing.assert_array_equal(x[row], np.tile(expected, (2, 1)), err_msg=shuffle)


@pytest.mark.parametrize("order", ORDERS)
def test_many_shuffles_in_a_row_and_halves_of_a_warp_on_their_own(order):
    x = floats(64)
    run(
        """k(float* x) {
            const int t = threadIdx.x;
            float v = t;
            for (int step = 16; step; step /= 2) v += __shfl_xor_sync(~0u, v, step);
            // each half goes round a different number of times
            const unsigned half = t % 32 < 16 ? 0xffffu : 0xffff0000u;
            for (int n = 0; n < (t % 32 < 16 ? 3 : 5); ++n) v += __shfl_xor_sync(half, v, 1);
            x[t] = v;
        }""",
        x,
        order=order,
    )
    sums = np.arange(64).reshape(2, 32).sum(1)[:, None]
    np.testing.assert_array_equal(x.reshape(2, 32), sums * np.where(LANES < 16, 8, 32))


@pytest.mark.parametrize("order", ORDERS)
def test_atomics(order):
    x, counts = floats(3), np.array([0, -9, 9, 7], np.int32)
    run(
        """k(float* x, int* n) {
            atomicAdd(&x[threadIdx.x % 3], 0.5f);
            const int before = atomicAdd(&n[0], 1);
            atomicMax(&n[1], (int)threadIdx.x);
            atomicMin(&n[2], before);
            atomicCAS(&n[3], 7, (int)blockIdx.x + 40);
        }""",
        x,
        counts,
        grid=(2,),
        order=order,
    )
    np.testing.assert_array_equal(x, [22.0, 21.0, 21.0])
    assert counts[:3].tolist() == [128, 63, 0]
    assert counts[3] in (40, 41)  # whichever block came first


def test_barriers_that_vote():
    x = np.zeros((2, 3), np.int32)
    run(
        """k(int* x) {
            const int t = threadIdx.x, b = blockIdx.x;
            const int count = __syncthreads_count(t < 5 + b);
            const int any = __syncthreads_or(t == 63 + b), all = __syncthreads_and(t >= b);
            if (t == 0) { x[3 * b] = count; x[3 * b + 1] = any; x[3 * b + 2] = all; }
        }""",
        x,
        grid=(2,),
    )
    assert x.tolist() == [[5, 1, 1], [6, 0, 0]]


def test_shuffled_order_is_seeded():
    def first_come(seed):
        x = np.zeros(64, np.int32)
        run(
            "k(int* x) { DYNAMIC_SHARED(int, s); if (!threadIdx.x) s[0] = 0; __syncthreads();"
            " x[atomicAdd(&s[0], 1)] = threadIdx.x; }",
            x,
            shared_mem=4,
            order="shuffled",
            seed=seed,
        )
        return x.tolist()

    assert first_come(1) == first_come(1) != first_come(2)


def test_on_stacks_of_the_c_library_too():
    """What machines other than x86-64 use."""
    x = np.arange(64, dtype=np.float32)
    run(REVERSE, x, shared_mem=256, options=("-DEMULATOR_UCONTEXT",))
    np.testing.assert_array_equal(x, np.arange(64)[::-1])


# -- what is refused -------------------------------------------------------------------------------

DIVERGENT = {
    "in a branch": (
        "k(float*) { if (threadIdx.x != 5) __syncthreads(); }",
        (
            r"divergent barrier: thread \(\d+, 0, 0\) waits in __syncthreads at line 1, "
            r"thread \(5, 0, 0\) has returned \[block \(0, 0, 0\)\]"
        ),
    ),
    "two barriers": (
        "k(float*) {\nif (threadIdx.x == 7)\n__syncthreads();\nelse\n__syncthreads();\n}",
        (
            r"divergent barrier: thread \(7, 0, 0\) waits in __syncthreads at line 3, "
            r"thread \(0, 0, 0\) waits in __syncthreads at line 5"
        ),
    ),
    "returned early": (
        "k(float*) { if (threadIdx.x >= 60) return; __syncthreads(); }",
        r"divergent barrier: .*thread \(60, 0, 0\) has returned",
    ),
    "in one block": (
        "k(float*) { if (blockIdx.x == 0 || threadIdx.x) __syncthreads(); }",
        r"thread \(0, 0, 0\) has returned \[block \(1, 0, 0\)\]",
    ),
    "barrier and shuffle": (
        "k(float* x) { if (threadIdx.x == 3) __syncthreads(); else __shfl_sync(~0u, x[0], 0); }",
        r"thread \(3, 0, 0\) waits in __syncthreads",
    ),
}


@pytest.mark.parametrize("fault", DIVERGENT)
@pytest.mark.parametrize("order", ["forward", "reversed"])
def test_a_divergent_barrier_is_told_with_block_and_thread(fault, order):
    code, message = DIVERGENT[fault]
    if order == "reversed":
        message = "divergent barrier|deadlock"
    with pytest.raises(emulator.EmulatorError, match=message):
        run(code, floats(1), grid=(2,), order=order)
    x = np.arange(64, dtype=np.float32)  # and the next launch is none the worse
    run(REVERSE, x, shared_mem=256)
    assert x[0] == 63


WARP_FAULTS = {
    "a lane is missing": (
        "k(float*) { if (threadIdx.x % 32 != 9) __syncwarp(); else __syncthreads(); }",
        "deadlock",
    ),
    "own lane not in the mask": (
        "k(float*) { __syncwarp(0xffff); }",
        r"thread \(16, 0, 0\).* leaves its own lane out",
    ),
    "reads a lane that takes no part": (
        "k(float* x) { if (threadIdx.x % 32 < 16) x[0] = __shfl_sync(0xffff, x[0], 20); }",
        "reads lane 20, which takes no part",
    ),
    "different operations": (
        "k(float* x) { if (threadIdx.x % 2) __syncwarp(); else x[0] = __shfl_sync(~0u, 1.f, 0); }",
        r"thread \(1, 0, 0\) waits in __syncwarp.*__shfl_sync",
    ),
    "an odd width": (
        "k(float* x) { x[0] = __shfl_sync(~0u, 1.f, 0, 12); }",
        "power of two up to 32, not 12",
    ),
}


@pytest.mark.parametrize("fault", WARP_FAULTS)
def test_misused_warp_operations_are_told(fault):
    code, message = WARP_FAULTS[fault]
    with pytest.raises(emulator.EmulatorError, match=message):
        run(code, floats(1))


SCALE = "__launch_bounds__(64) k(float* x, const float* y, int n, long long m, bool b)"
BODY = " { if (threadIdx.x < n && m && b) x[threadIdx.x] = y ? y[threadIdx.x] : 1; }"
N, M, B = np.int32(4), np.int64(1), np.bool_(True)
READ_ONLY = floats(4)
READ_ONLY.flags.writeable = False
LAUNCHES = {
    "float64": ([floats(4).astype(float), floats(4), N, M, B], {}, "argument 0 .*float64"),
    "strided": ([floats(8)[::2], floats(4), N, M, B], {}, "argument 0 .*not contiguous"),
    "read-only": ([READ_ONLY, floats(4), N, M, B], {}, "argument 0 .*read-only"),
    "a Python number": ([floats(4), floats(4), 4, M, B], {}, "argument 2 is declared i4, got int"),
    "a wide number": ([floats(4), floats(4), M, M, B], {}, "argument 2 is declared i4, got int64"),
    "a list": ([[1.0], floats(4), N, M, B], {}, "argument 0 .*got list"),
    "too few": ([floats(4), floats(4), N], {}, "takes 5 arguments, got 3"),
    "empty grid": ([floats(4), floats(4), N, M, B], {"grid": (0,)}, "a grid of"),
    "tall grid": ([floats(4), floats(4), N, M, B], {"grid": (1, 65536)}, "a grid of"),
    "bound": ([floats(4), floats(4), N, M, B], {"block": (65,)}, "its bound is 64"),
    "shared": (
        [floats(4), floats(4), N, M, B],
        {"shared_mem": 49153},
        "49153 bytes of shared memory, 49152 are allowed; set max_dynamic_shared_size_bytes",
    ),
}


@pytest.mark.parametrize("fault", LAUNCHES)
def test_what_a_device_would_misread_or_refuse_is_told(fault):
    args, options, message = LAUNCHES[fault]
    with pytest.raises(emulator.EmulatorError, match=message):
        run(SCALE + BODY, *args, **options)


def test_a_right_launch_runs_and_is_on_record():
    module = emulator.Module('extern "C" __global__ void ' + SCALE + BODY)
    kernel, x = module.get_function("k"), floats(4)
    kernel((1,), (64,), (x, READ_ONLY + 2, N, M, B))
    assert x.tolist() == [2, 2, 2, 2]
    kernel((1,), (64,), (x, np.uintp(0), N, M, B))
    assert x.tolist() == [1, 1, 1, 1]
    kernel.max_dynamic_shared_size_bytes = 65536
    kernel((1, 2), (32, 2), (x, x, N, M, B), shared_mem=65536)
    last = module.launches[-1]
    assert (last.kernel, last.grid, last.block, last.shared_mem) == ("k", (1, 2), (32, 2), 65536)
    with pytest.raises(emulator.EmulatorError, match="65537 bytes of shared memory, the device"):
        kernel.max_dynamic_shared_size_bytes = 65537
    with pytest.raises(emulator.EmulatorError, match="no kernel 'j'; there are k"):
        module.get_function("j")


def test_what_does_not_compile_is_told_with_the_place_in_the_source():
    with pytest.raises(emulator.CompileError, match=r"shift\.cu:7:.*y. was not declared"):
        emulator.Module('#line 7 "shift.cu"\nextern "C" __global__ void k(float* x) { x[0] = y; }')
    with pytest.raises(emulator.CompileError, match="__shared__"):
        run("k(float* x) { __shared__ float s[4]; x[0] = s[0]; }", floats(1))
    with pytest.raises(emulator.CompileError, match="no kernel"):
        emulator.Module("int main() { return 0; }")


# -- sanitizers ------------------------------------------------------------------------------------

EXCHANGE = """k(float* x) {
    DYNAMIC_SHARED(float, s);
    s[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
    BARRIER;
    x[blockIdx.x * 64 + threadIdx.x] = s[threadIdx.x ^ 1];
}"""
SANITIZED = {
    "right": ("thread", EXCHANGE.replace("BARRIER", "__syncthreads()"), 2, None),
    "right in a warp": ("thread", EXCHANGE.replace("BARRIER", "__syncwarp()"), 2, None),
    "no barrier": ("thread", EXCHANGE.replace("BARRIER", ""), 1, "data race"),
    "no barrier before the next round": (
        "thread",
        """k(float* x) {
            DYNAMIC_SHARED(float, s);
            for (int n = 0; n < 3; ++n) {
                s[threadIdx.x] = n;
                __syncthreads();
                x[threadIdx.x] += s[threadIdx.x ^ 40];
            }
        }""",
        1,
        "data race",
    ),
    "the same in a warp": (
        "thread",
        """k(float* x) {
            DYNAMIC_SHARED(float, s);
            for (int n = 0; n < 3; ++n) {
                s[threadIdx.x] = n;
                __syncwarp();
                x[threadIdx.x] += s[threadIdx.x ^ 4];
            }
        }""",
        1,
        "data race",
    ),
    "a shuffle is no barrier": (
        "thread",
        EXCHANGE.replace("BARRIER", "__shfl_sync(~0u, 1, 0)"),
        1,
        "data race",
    ),
    "two blocks write one place": ("thread", "k(float* x) { x[threadIdx.x] = 1; }", 2, "data race"),
    "atomically": ("thread", "k(float* x) { atomicAdd(&x[threadIdx.x % 3], 1.f); }", 2, None),
    "half atomically": (
        "thread",
        "k(float* x) { if (threadIdx.x) atomicAdd(&x[0], 1.f); else x[0] += 1; }",
        1,
        "data race",
    ),
    "a launch that fails": (
        "thread",
        "k(float* x) { x[threadIdx.x] = 1; if (threadIdx.x) __syncthreads(); }",
        1,
        None,
    ),
    "in bounds": ("address", EXCHANGE.replace("BARRIER", "__syncthreads()"), 2, None),
    "before the array": (
        "address",
        "k(float* x) { x[(int)threadIdx.x - 1] = 1; }",
        1,
        "heap-buffer-overflow",
    ),
    "after the array": (
        "address",
        "k(float* x) { x[blockIdx.x * 64 + threadIdx.x + 1] = 1; }",
        2,
        "heap-buffer-overflow",
    ),
    "after shared memory": (
        "address",
        "k(float* x) { DYNAMIC_SHARED(float, s); s[threadIdx.x + 1] = 1; x[0] = s[0]; }",
        1,
        "heap-buffer-overflow",
    ),
    "a local array": (
        "address",
        "k(float* x) { float a[4] = {}; a[(threadIdx.x + blockDim.x) / 16] = 1; x[0] = a[0]; }",
        1,
        "runtime error: index [4-7] out of bounds",
    ),
    "integer overflow": (
        "address",
        "k(float* x) { x[0] = 2147483647 + (int)threadIdx.x; }",
        1,
        "runtime error: signed integer overflow",
    ),
}


def in_sanitizer(sanitize, order):
    """All of the above for one sanitizer, in this process (started by the test below)."""

    def launch(code, blocks):
        x = floats(64 * blocks)
        try:
            run(code, x, grid=(blocks,), shared_mem=256, sanitize=sanitize, order=order)
        except emulator.EmulatorError as error:
            print(error, file=sys.stderr)

    for fault, (which, code, blocks, _) in SANITIZED.items():
        if which == sanitize:
            begin(fault)
            apart(functools.partial(launch, code, blocks))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["forward", "shuffled"])
@pytest.mark.parametrize("sanitize", ["thread", "address"])
def test_the_sanitizers_see_races_and_bounds(sanitize, order):
    said = sanitized(sanitize, f"test_emulator.in_sanitizer({sanitize!r}, {order!r})")
    for fault, (which, _, _, message) in SANITIZED.items():
        if which != sanitize:
            continue
        if message is None:
            assert not found(said[fault]), said[fault]
        else:
            assert re.search(message, said[fault]), said[fault][:3000]
    if sanitize == "thread":
        assert "divergent barrier" in said["a launch that fails"]
