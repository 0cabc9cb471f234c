"""Kernels: faster implementations of the ops, with the same signature and the same result.

Importing this registers their names; Numba and CuPy are imported when a kernel first runs.
"""

from . import cpu, cuda

__all__ = ["cpu", "cuda"]
