"""Where text comes from, how it is split, and how batches are cut from it."""

from .batches import batch_at, blocks, sample_batch
from .corpus import BUILTIN, Corpus, corpus, load, split

__all__ = ["BUILTIN", "Corpus", "batch_at", "blocks", "corpus", "load", "sample_batch", "split"]
