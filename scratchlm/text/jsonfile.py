"""JSON files of vocabularies: written whole or not at all, read with distrust."""

from __future__ import annotations

import json
import os
import reprlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

LARGEST = 32 * 2**20  # bytes, some 20 times as many in memory; Llama 3's file has 9 MB


def write_json(path: str | Path, content: Any) -> None:
    """Write under another name, then rename: the file before stays, or the new one is complete.

    Raises:
        OSError: the folder can't be written to, the disk is full.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # as if it had been opened by name
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it can't be read.
        ValueError: it is larger than ``LARGEST``, no UTF-8, or no JSON.
    """
    path = Path(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST:
            raise ValueError(f"{path} is larger than {LARGEST >> 20} MB; no vocabulary is")
        raw = file.read(size)
    try:
        return json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None


class Checked:
    """A value out of a file, with the way to it, for the messages.

    ``Checked(content, path)["model"]["vocab"].of(dict)`` is the value, or a ValueError that says
    which field is missing or is of another kind.
    """

    def __init__(self, value: Any, where: str) -> None:
        self.value, self.where = value, where

    def __getitem__(self, key: str) -> Checked:
        holder = self.of(dict)
        if key not in holder:
            self.fail(f"has no {key!r}")
        return Checked(holder[key], f"{self.where}, {key}")

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a field as it is, or the default if it is absent or null."""
        value = self.of(dict).get(key)
        return default if value is None else value

    def of(self, kind: type) -> Any:
        """The value, if it is of this kind."""
        if not isinstance(self.value, kind) or (kind is int and isinstance(self.value, bool)):
            self.fail(f"must be {kind.__name__}, not {type(self.value).__name__}")
        return self.value

    def only(self, key: str, allowed: Iterable[Any]) -> None:
        """Refuse a field whose value would change the ids and is not known here."""
        value = self.get(key)
        if not any(value is a or (type(value) is type(a) and value == a) for a in allowed):
            self.fail(f"says {key} = {reprlib.repr(value)}, which is not supported")

    def fail(self, why: str) -> NoReturn:
        """Raise the ValueError."""
        raise ValueError(f"{self.where} {why}")


def check_vocabulary(vocab: Checked) -> dict[str, int]:
    """Token → id: strings, ids that are used once and leave few holes.

    An id beyond twice the number of tokens is refused, or a model for this vocabulary would have a
    matrix as large as the file's author likes.
    """
    table = vocab.of(dict)
    if not table:
        vocab.fail("is empty")
    for token, number in table.items():
        if not isinstance(number, int) or isinstance(number, bool):
            vocab.fail(
                f"gives token {reprlib.repr(token)} the id {reprlib.repr(number)}, no integer"
            )
        if not 0 <= number < 2 * len(table):
            vocab.fail(
                f"gives token {reprlib.repr(token)} the id {reprlib.repr(number)}, "
                f"but has {len(table)} tokens"
            )
    if len(set(table.values())) < len(table):
        vocab.fail("gives two tokens the same id")
    return table


def check_added(tokenizer: Checked, vocabulary: dict[str, int]) -> dict[str, Any]:
    """The added tokens, as the arguments of ``AddedTokens``, and those that are special."""
    out: dict[str, Any] = {"ids": {}, "special": [], "lstrip": [], "rstrip": [], "later": []}
    names = {number: token for token, number in vocabulary.items()}
    listed = tokenizer.get("added_tokens", [])
    total = len(vocabulary) + len(Checked(listed, f"{tokenizer.where}, added_tokens").of(list))
    for index, entry in enumerate(listed):
        token = Checked(entry, f"{tokenizer.where}, added_tokens[{index}]")
        content, number = token["content"].of(str), token["id"].of(int)
        if not content:
            token.fail("is empty; it would be found everywhere")
        if content in out["ids"] or names.setdefault(number, content) != content:
            token.fail(
                f"({reprlib.repr(content)}) stands there twice, or takes the id of another token"
            )
        if vocabulary.get(content, number) != number or not 0 <= number < 2 * total:
            token.fail(
                f"({reprlib.repr(content)}) has the id {reprlib.repr(number)}, which can't be"
            )
        token.only("single_word", (None, False))
        out["ids"][content] = number
        for flag, field in (("special", "special"), ("lstrip", "lstrip"), ("rstrip", "rstrip")):
            if token.get(flag, False) is True:
                out[field].append(content)
        if token.get("normalized", True) is True:
            out["later"].append(content)
    return out
