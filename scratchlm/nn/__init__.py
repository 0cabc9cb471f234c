"""Modules and layers, with the names and the behaviour of ``torch.nn``."""

from .module import Buffer, LoadResult, Module, Parameter

__all__ = [
    "Buffer",
    "LoadResult",
    "Module",
    "Parameter",
]
