"""From text to ids and back."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .bpe import BPE
from .characters import CharVocab
from .gguf import load_gguf_tokenizer
from .jsonfile import Checked, read_json
from .wordpiece import WordPiece

__all__ = ["BPE", "CharVocab", "Tokenizer", "WordPiece", "load_tokenizer", "tokenizer_from_dict"]

Tokenizer = BPE | CharVocab | WordPiece


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer that a file holds: a ``tokenizer.json`` (byte-level BPE, WordPiece), what
    ``CharVocab.save`` wrote, or a GGUF file. Nothing in it is executed.

    Raises:
        OSError: it can't be read.
        RuntimeError: a GGUF file needs the package gguf.
        ValueError: it is no such file, or needs what is not supported; the message names the field.
    """
    if Path(path).suffix == ".gguf":
        return load_gguf_tokenizer(path)
    return tokenizer_from_dict(read_json(path), where=str(path))


def tokenizer_from_dict(saved: Mapping[str, Any], *, where: str = "tokenizer") -> Tokenizer:
    """The inverse of any tokenizer's ``as_dict``."""
    content = Checked(saved, where)
    if content.get("kind") == "characters":
        if not content["characters"].of(str):
            content["characters"].fail("is empty")
        return CharVocab.from_dict(content.value)
    model = content["model"]
    # old files do not name the model
    kind = model.get("type", "BPE" if "merges" in model.of(dict) else "WordPiece")
    if kind == "BPE":
        return BPE.from_dict(saved, where=where)
    if kind == "WordPiece":
        return WordPiece.from_dict(saved, where=where)
    return model.fail(f"is {reprlib.repr(kind)}; supported are BPE (byte-level) and WordPiece")
