"""GGUF files taken apart, and the vocabulary in one. (The weights are made of it in
:mod:`scratchlm.models.gguf`.)

A file is its head, as the format's description has it
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): counts; what is said of the model, by
name; the tensors' names, sizes and places; then the tensors' bytes. What these bytes mean, the
package ``gguf`` knows. (Its reader of the head makes an array of each number, 700 times the file,
and goes on for ever where a list is said to be longer than the file.)
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .added import AddedTokens
from .bpe import BPE

PATTERNS = {"gpt-2": "gpt2", "smollm": "digit", "llama-bpe": "llama3"}  # tokenizer.ggml.pre
CONTROL, USER_DEFINED = 3, 4  # tokenizer.ggml.token_type

NUMBERS = {
    0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8",
    11: "<i8", 12: "<f8",
}  # fmt: skip
TEXT, LIST = 8, 9
MOST = 10_000  # names in a head; a Llama of 80 layers has 723 tensors
MOST_AXES = 4


class Stored(NamedTuple):
    """A tensor in a GGUF file: ``data`` are its bytes, rows first; ``shape`` is in the file's
    order, the length of a row first.
    """

    data: np.ndarray
    tensor_type: Any  # a gguf.GGMLQuantizationType
    shape: tuple[int, ...]

    @property
    def n_elements(self) -> int:
        """How many numbers it says."""
        return math.prod(self.shape)


class Texts:
    """A list of texts in a file, each made when it is asked for."""

    def __init__(self, head: _Head, count: int) -> None:
        self._data = head.data
        self._places = np.fromiter((head.text_place() for _ in range(count)), "2i8", count)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return (str(self._data[start:stop], "utf-8") for start, stop in self._places)


class _Head:
    """The head of a GGUF file, read from one place to the next."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def skip(self, size: int) -> int:
        """Where the next ``size`` bytes begin."""
        if size > len(self.data) - self.at:
            raise ValueError("it says more than it has bytes for")
        self.at += size
        return self.at - size

    def numbers(self, kind: str, count: int) -> np.ndarray:
        start = self.skip(count * np.dtype(kind).itemsize)
        return np.frombuffer(self.data, kind, count, start)

    def number(self, kind: str) -> Any:
        return self.numbers(kind, 1).item()

    def text_place(self) -> tuple[int, int]:
        return self.skip(self.number("<u8")), self.at

    def text(self) -> str:
        start, stop = self.text_place()
        return str(self.data[start:stop], "utf-8")

    def value(self, kind: int) -> Any:
        if kind == TEXT:
            return self.text()
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind != LIST:
            raise ValueError(f"it has a value of a kind {kind}, which is not known")
        kind, count = self.number("<u4"), self.number("<u8")
        if kind in NUMBERS:
            return self.numbers(NUMBERS[kind], count)
        if kind != TEXT:
            raise ValueError(f"it has a list of a kind {kind}, which is not known")
        if 8 * count > len(self.data) - self.at:
            raise ValueError("it says more than it has bytes for")
        return Texts(self, count)


def read_gguf(path: str | Path) -> tuple[dict[str, Any], dict[str, Stored]]:
    """What a GGUF file says of itself, and its tensors, both by name.

    Lists of numbers, the bytes of tensors and, until they are asked for, lists of texts stay in the
    file; what is kept of a text in a list are two numbers.

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
        return _taken_apart(_Head(np.memmap(path, np.uint8, "r").data), gguf)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path} is no GGUF file: {error}") from error


def _taken_apart(head: _Head, gguf: Any) -> tuple[dict[str, Any], dict[str, Stored]]:
    if head.numbers("u1", 4).tobytes() != b"GGUF" or head.number("<u4") not in (2, 3):
        raise ValueError("it does not begin as one of version 2 or 3")
    tensors, values = head.number("<u8"), head.number("<u8")
    if tensors + values > MOST:
        raise ValueError(f"it says that it names {tensors + values} things; at most {MOST}")
    about: dict[str, Any] = {}
    for _ in range(values):
        _put(about, head.text(), head.value(head.number("<u4")))
    places: dict[str, Any] = {}
    for _ in range(tensors):
        name, axes = head.text(), head.number("<u4")
        if axes > MOST_AXES:
            raise ValueError(f"{reprlib.repr(name)} has {axes} axes")
        shape = tuple(head.numbers("<u8", axes).tolist())
        _put(places, name, (shape, head.number("<u4"), head.number("<u8")))
    unit = about.get("general.alignment", 32)
    if not isinstance(unit, int) or unit < 1:
        raise ValueError(f"general.alignment is {reprlib.repr(unit)}")
    start, stored = -(-head.at // unit) * unit, {}
    for name, (shape, number, place) in places.items():
        kind = gguf.GGMLQuantizationType(number)
        rows = gguf.quants.quant_shape_to_byte_shape(shape[::-1], kind)
        head.at = min(start + place, len(head.data))
        stored[name] = Stored(head.numbers("u1", math.prod(rows)).reshape(rows), kind, shape)
    if sum(tensor.data.size for tensor in stored.values()) > len(head.data):
        raise ValueError("its tensors are in one another")
    return about, stored


def _put(table: dict[str, Any], name: str, value: Any) -> None:
    if name in table:
        raise ValueError(f"it names {reprlib.repr(name)} twice")
    table[name] = value


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
    for key, kind in {"model": str, "tokens": Texts, "merges": Texts}.items():
        if not isinstance(about.get(key), kind) or not about[key]:
            raise ValueError(f"no tokenizer.ggml.{key}")
    if about["model"] != "gpt2":
        raise ValueError(
            f"a tokenizer of kind {reprlib.repr(about['model'])}; only byte-level BPE (gpt2) is "
            "supported"
        )
    pre = about.get("pre", "gpt-2")
    if pre not in PATTERNS:
        raise ValueError(f"cuts words as {reprlib.repr(pre)} does; known are {', '.join(PATTERNS)}")
    tokens = {token: number for number, token in enumerate(about["tokens"])}
    types = about.get("token_type", np.zeros(0, np.int32))
    if not isinstance(types, np.ndarray) or len(tokens) < len(about["tokens"]):
        raise ValueError("tokenizer.ggml.tokens names one twice, or token_type is no list")
    special, added = (
        {t: n for t, n in tokens.items() if n < len(types) and types[n] == kind}
        for kind in (CONTROL, USER_DEFINED)
    )
    return BPE(
        {token: number for token, number in tokens.items() if token not in special},
        (tuple(merge.split(" ", 1)) if " " in merge else (merge, "") for merge in about["merges"]),
        special_tokens=AddedTokens(special | added),
        skipped=special,
        pattern=PATTERNS[pre],
        whole_words=pre == "llama-bpe",
    )
