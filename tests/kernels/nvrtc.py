"""NVRTC, the compiler that CuPy uses, called by itself: it needs no GPU and no driver."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Register counts differ between compilers, so each is pinned (pyproject.toml, group "kernels").
# CUDA 13 no longer knows compute capability 7.0; the last 12 does.
LIBRARIES = {12: ("cuda_nvrtc", "libnvrtc.so.12"), 13: ("cu13", "libnvrtc.so.13")}
ARCHITECTURES = {70: 12, 75: 13, 80: 13, 86: 13, 89: 13, 90: 13, 100: 13, 120: 13}


@functools.cache
def path(major: int) -> Path | None:
    """Where NVRTC of CUDA ``major`` lies, or None."""
    spec = importlib.util.find_spec("nvidia")
    folder, name = LIBRARIES[major]
    for place in (spec.submodule_search_locations or ()) if spec else ():
        library = Path(place) / folder / "lib" / name
        if library.exists():
            return library
    return None


def why_not() -> str | None:
    """Why NVRTC can't be asked here, or None."""
    missing = [str(major) for major in LIBRARIES if path(major) is None]
    if not missing:
        return None
    return f"no NVRTC of CUDA {' and '.join(missing)}: pip install --group kernels (x86-64 Linux)"


@functools.cache
def _library(major: int) -> ctypes.CDLL:
    return ctypes.CDLL(str(path(major)))


@dataclass(frozen=True)
class Usage:
    """What ptxas says of one kernel: registers of a thread; bytes of the rest."""

    registers: int
    spills: int
    stack: int
    static_shared: int


class CompileError(RuntimeError):
    """NVRTC refused the source; the message is its log."""


def compile(source: str, architecture: int, options: Sequence[str] = ()) -> dict[str, Usage]:
    """What each kernel of ``source`` uses on ``sm_<architecture>``."""
    nvrtc = _library(ARCHITECTURES[architecture])
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    all_options = [
        f"--gpu-architecture=sm_{architecture}",
        "--ptxas-options=-v",
        *options,
    ]
    array = (ctypes.c_char_p * len(all_options))(*(o.encode() for o in all_options))
    status = nvrtc.nvrtcCompileProgram(program, len(all_options), array)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    text = log.value.decode()
    if status:
        raise CompileError(text)
    return usages(text)


def usages(log: str) -> dict[str, Usage]:
    """ptxas's words as numbers."""

    def number(pattern: str, text: str) -> int:
        return sum(int(n) for n in re.findall(pattern, text))

    return {
        part.split("'", 1)[0]: Usage(
            registers=number(r"Used (\d+) registers", part),
            spills=number(r"(\d+) bytes spill", part),
            stack=number(r"(\d+) bytes stack frame", part),
            static_shared=number(r"(\d+) bytes smem", part),
        )
        for part in log.split("Compiling entry function '")[1:]
    }
