"""From text to ids and back."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .bpe import BPE
from .characters import CharVocab
from .chat import ChatTemplate
from .cleaning import clean, strip_markup
from .gguf import load_gguf_tokenizer
from .jsonfile import Checked, read_tokenizer
from .normalize import normalize
from .segment import Lexicon, maximum_match
from .stemming import stem, stem_all
from .stopwords import STOP_WORDS, remove_stop_words
from .wordpiece import WordPiece
from .words import WordVocab, split_words

__all__ = [
    "BPE",
    "STOP_WORDS",
    "CharVocab",
    "ChatTemplate",
    "Lexicon",
    "Tokenizer",
    "WordPiece",
    "WordVocab",
    "clean",
    "load_gguf_tokenizer",
    "load_tokenizer",
    "maximum_match",
    "normalize",
    "remove_stop_words",
    "split_words",
    "stem",
    "stem_all",
    "strip_markup",
    "tokenizer_from_dict",
]

Tokenizer = BPE | CharVocab | WordPiece | WordVocab


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer that a file holds: a ``tokenizer.json`` (byte-level BPE, WordPiece), what
    another vocabulary's ``save`` wrote, or a GGUF file. Nothing in it is executed.

    A file that is no tokenizer is refused before it takes more than twice its size and 4 MB. A
    vocabulary is Python's strings and tables: GPT-2's 50,257 tokens and 50,000 merges keep 21 MB,
    12 times their file and 430 bytes a token, and 24 MB while they are read; BERT's 30,522 pieces
    keep 5 MB.

    Raises:
        OSError: it can't be read.
        RuntimeError: a GGUF file needs the package gguf.
        ValueError: it is no such file, or needs what is not supported; the message names the field.
    """
    if Path(path).suffix == ".gguf":
        return load_gguf_tokenizer(path)
    return tokenizer_from_dict(read_tokenizer(path), where=str(path))


def tokenizer_from_dict(saved: Mapping[str, Any], *, where: str = "tokenizer") -> Tokenizer:
    """The inverse of any tokenizer's ``as_dict``."""
    content = Checked(saved, where)
    if content.get("kind") == "characters":
        if not content["characters"].of(str):
            content["characters"].fail("is empty")
        return CharVocab.from_dict(content.value)
    if content.get("kind") == "words":
        return WordVocab.from_dict(saved, where=where)
    model = content["model"]
    # old files do not name the model
    kind = model.get("type", "BPE" if "merges" in model.of(dict) else "WordPiece")
    if kind == "BPE":
        return BPE.from_dict(saved, where=where)
    if kind == "WordPiece":
        return WordPiece.from_dict(saved, where=where)
    return model.fail(f"is {reprlib.repr(kind)}; supported are BPE (byte-level) and WordPiece")
