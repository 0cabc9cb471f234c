"""Where text comes from, how it is split, and how batches are cut from it."""

from .batches import batch_at, blocks, sample_batch
from .corpus import BUILTIN, FETCHED, Corpus, corpus, load, split
from .downloads import fetch, locate, packages

__all__ = [
    "BUILTIN",
    "FETCHED",
    "Corpus",
    "batch_at",
    "blocks",
    "corpus",
    "fetch",
    "load",
    "locate",
    "packages",
    "sample_batch",
    "split",
]
