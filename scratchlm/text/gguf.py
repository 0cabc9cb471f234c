"""The vocabulary in a GGUF file, beside the weights that ``models.gguf`` reads."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

from .added import AddedTokens
from .bpe import BPE

PATTERNS = {"gpt-2": "gpt2", "smollm": "digit", "llama-bpe": "llama3"}  # tokenizer.ggml.pre
CONTROL, USER_DEFINED = 3, 4  # tokenizer.ggml.token_type


def load_gguf_tokenizer(path: str | Path) -> BPE:
    """The byte-level BPE of a GGUF file.

    Raises:
        RuntimeError: the package gguf is not installed.
        ValueError: a damaged file, or another kind of tokenizer.
    """
    try:
        import gguf
    except ImportError:
        raise RuntimeError(
            f"{Path(path).name} needs the package gguf: python -m pip install 'scratchlm[gguf]'"
        ) from None
    try:
        fields = gguf.GGUFReader(path).fields
        about: dict[str, Any] = {
            name.removeprefix("tokenizer.ggml."): field.contents()
            for name, field in fields.items()
            if name.startswith("tokenizer.ggml.")
        }
    except OSError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{path} is no GGUF file ({reprlib.repr(str(error))})") from error
    try:
        return _made(about)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _made(about: dict[str, Any]) -> BPE:
    for key in ("model", "tokens", "merges"):
        if not about.get(key):
            raise ValueError(f"no tokenizer.ggml.{key}")
    if about["model"] != "gpt2":
        raise ValueError(
            f"a tokenizer of kind {reprlib.repr(about['model'])}; only byte-level BPE (gpt2) is "
            "supported"
        )
    pre = about.get("pre", "gpt-2")
    if pre not in PATTERNS:
        raise ValueError(f"cuts words as {reprlib.repr(pre)} does; known are {', '.join(PATTERNS)}")
    tokens, types = about["tokens"], about.get("token_type") or []
    special = {tokens[i]: i for i, kind in enumerate(types[: len(tokens)]) if kind == CONTROL}
    added = {tokens[i]: i for i, kind in enumerate(types[: len(tokens)]) if kind == USER_DEFINED}
    return BPE(
        {token: number for number, token in enumerate(tokens) if token not in special},
        [tuple(merge.split(" ", 1)) if " " in merge else (merge, "") for merge in about["merges"]],
        special_tokens=AddedTokens(special | added),
        skipped=special,
        pattern=PATTERNS[pre],
        whole_words=pre == "llama-bpe",
    )
