"""A shared library from CUDA source, built by g++ once and then taken from the cache."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

HEADER = Path(__file__).with_name("emulator.h")
CACHE = Path(__file__).parents[2] / "build" / "emulator"

# -O1: to build takes longer than to run. Without -ffp-contract the results would differ between
# machines with and without fused multiply-add.
FLAGS = (
    "-std=c++17", "-O1", "-g1", "-ffp-contract=off", "-shared", "-fPIC",
    "-Wall", "-Werror", "-Wno-unknown-pragmas", "-Wno-sign-compare",
    "-fvisibility=hidden", "-fno-gnu-unique",  # libraries side by side share no state
)  # fmt: skip
SANITIZERS = {
    None: (),
    "thread": ("-fsanitize=thread", "-Wno-tsan"),
    "address": ("-fsanitize=address,undefined", "-fsanitize-recover=address,undefined"),
}
# what must be in the process before everything else
PRELOADED = {"thread": "libtsan.so", "address": "libasan.so"}

KERNEL = re.compile(
    r"__global__\s+void\s+(?:__launch_bounds__\((?P<bound>[^(),]*)[^()]*\)\s+)?(?P<name>\w+)\s*\("
)


class CompileError(RuntimeError):
    """g++ refused the source; the message holds what it said."""


@functools.cache
def why_not() -> str | None:
    """Why the emulator can't run here, or None where it can."""
    if platform.system() != "Linux":
        return f"the CUDA emulator needs Linux (this is {platform.system()})"
    if shutil.which("g++") is None:
        return "the CUDA emulator needs g++ (Debian, Ubuntu: apt install g++)"
    return None


@functools.cache
def _compiler() -> str:
    return subprocess.run(["g++", "--version"], check=True, capture_output=True, text=True).stdout


def with_table(source: str) -> str:
    """The source, and behind it the functions that Python calls."""
    kernels = [(m["name"], m["bound"] or "1024") for m in KERNEL.finditer(source)]
    if not kernels:
        raise CompileError("the source has no kernel: no `__global__ void name(`")
    entries = ",\n  ".join(f"EMULATOR_ENTRY({name}, {bound})" for name, bound in kernels)
    return f"""{source}
#line 1 "table of kernels"
#define EXPORTED extern "C" __attribute__((visibility("default")))
static const emulator::Entry kernels[] = {{
  {entries}
}};
EXPORTED const char* emulator_kernels() {{
  static std::string all;
  all.clear();
  for (const auto& k : kernels)
    all += std::string(k.name) + "|" + std::to_string(k.bound) + "|" + k.signature + "\\n";
  return all.c_str();
}}
EXPORTED const char* emulator_launch(unsigned kernel, const unsigned* grid, const unsigned* block,
                                     size_t shared, void** arguments, int order, unsigned seed) {{
  emulator::launch(kernels[kernel].call, arguments, dim3{{grid[0], grid[1], grid[2]}},
                   dim3{{block[0], block[1], block[2]}}, shared,
                   static_cast<emulator::Order>(order), seed);
  return emulator::state.error;
}}
"""


def library(source: str, options: Sequence[str] = (), sanitize: str | None = None) -> Path:
    """The path of the library for ``source``, which is compiled unless the cache has it.

    Raises:
        CompileError: g++ is absent, or does not accept the source.
    """
    reason = why_not()
    if reason is not None:
        raise CompileError(reason)
    text = with_table(source)
    command = ["g++", *FLAGS, *SANITIZERS[sanitize], *options, "-include", str(HEADER)]
    key = hashlib.sha256(
        "\0".join([_compiler(), HEADER.read_text("utf-8"), *command, text]).encode()
    ).hexdigest()[:32]
    target = CACHE / f"{key}.so"
    if not target.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with _only_one(CACHE / f"{key}.lock"):
            if not target.exists():
                _compile(command, text, target)
    return target


def _compile(command: list[str], text: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        made = Path(folder) / "made.so"
        done = subprocess.run(
            [*command, "-x", "c++", "-", "-o", str(made)],
            check=False,
            input=text,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise CompileError(f"g++ does not accept the kernel:\n{done.stderr[:4000]}")
        made.replace(target)  # at once: nobody loads half a library


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Processes that want the same library wait for the first to build it."""
    import fcntl  # Linux, as the emulator itself

    with lock.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sanitized_environment(sanitize: str) -> dict[str, str]:
    """The environment of a process that loads libraries built with ``sanitize``.

    What a sanitizer finds it writes to stderr, and the process goes on.
    """
    runtime = subprocess.run(
        ["g++", f"-print-file-name={PRELOADED[sanitize]}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    return {
        **os.environ,
        "LD_PRELOAD": runtime,
        "TSAN_OPTIONS": "exitcode=0:halt_on_error=0:suppress_equal_addresses=0",
        "ASAN_OPTIONS": "halt_on_error=0:detect_leaks=0",  # an interpreter "leaks" as it ends
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OPENBLAS_NUM_THREADS": "1",
    }
