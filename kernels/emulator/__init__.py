"""CUDA kernels on a CPU, for tests: compiled by g++, run by fibers, called as CuPy calls them.

:class:`Module` and :class:`Function` stand in for ``cupy.RawModule`` and ``cupy.RawKernel``: a
launcher runs on them unchanged. The library never imports this package.
"""

from .build import CompileError, why_not
from .module import EmulatorError, Function, Module

__all__ = ["CompileError", "EmulatorError", "Function", "Module", "why_not"]
