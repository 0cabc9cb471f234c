"""Where text comes from, how it is split, and how batches are cut from it."""

from ..downloads import fetch, locate, packages
from .batches import Epochs, batch_at, blocks, buckets, pad, sample_batch
from .corpus import BUILTIN, FETCHED, Corpus, corpus, load, segmented_sentences, split
from .dialogues import dialogues
from .examples import Split, split_examples
from .labelled import LABELLED, Labelled, labelled
from .masking import mask_tokens

__all__ = [
    "BUILTIN",
    "FETCHED",
    "LABELLED",
    "Corpus",
    "Epochs",
    "Labelled",
    "Split",
    "batch_at",
    "blocks",
    "buckets",
    "corpus",
    "dialogues",
    "fetch",
    "labelled",
    "load",
    "locate",
    "mask_tokens",
    "packages",
    "pad",
    "sample_batch",
    "segmented_sentences",
    "split",
    "split_examples",
]
