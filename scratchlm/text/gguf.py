"""GGUF files taken apart, by the package ``gguf``; and the vocabulary in one.

(The weights are read in :mod:`scratchlm.models.gguf`.)
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

from .added import AddedTokens
from .bpe import BPE

PATTERNS = {"gpt-2": "gpt2", "smollm": "digit", "llama-bpe": "llama3"}  # tokenizer.ggml.pre
CONTROL, USER_DEFINED = 3, 4  # tokenizer.ggml.token_type


def read_gguf(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a GGUF file says of itself, and its tensors, both by name; arrays stay in the file.

    Raises:
        OSError: it can't be read.
        RuntimeError: the package gguf is not installed.
        ValueError: a damaged file.
    """
    try:
        import gguf
    except ImportError:
        raise RuntimeError(
            f"{Path(path).name} needs the package gguf: python -m pip install 'scratchlm[gguf]'"
        ) from None
    try:
        reader = gguf.GGUFReader(path)
        about = {name: field.contents() for name, field in reader.fields.items()}
        return about, {tensor.name: tensor for tensor in reader.tensors}
    except OSError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{path} is no GGUF file ({reprlib.repr(str(error))})") from error


def load_gguf_tokenizer(path: str | Path) -> BPE:
    """The byte-level BPE of a GGUF file, with its ``eos_id`` and ``chat_template``.

    Raises:
        OSError: it can't be read.
        RuntimeError: the package gguf is not installed.
        ValueError: a damaged file, or another kind of tokenizer.
    """
    return tokenizer_of(read_gguf(path)[0], path)


def tokenizer_of(about: dict[str, Any], path: str | Path) -> BPE:
    """The tokenizer that a GGUF file speaks of (:func:`read_gguf`); ``path`` is for messages.

    Raises:
        ValueError: a damaged file, or another kind of tokenizer.
    """
    start = "tokenizer.ggml."
    said = {name.removeprefix(start): v for name, v in about.items() if name.startswith(start)}
    try:
        tokenizer = _made(said)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error
    end, template = said.get("eos_token_id"), about.get("tokenizer.chat_template")
    tokenizer.eos_id = end if isinstance(end, int) and 0 <= end < len(tokenizer) else None
    tokenizer.chat_template = template if isinstance(template, str) else None
    return tokenizer


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
