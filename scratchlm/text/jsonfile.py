"""JSON files: written whole or not at all, read with distrust."""

from __future__ import annotations

import json
import os
import re
import reprlib
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

LARGEST = 32 * 2**20  # bytes; Llama 3's tokenizer.json has 9 MB
LONGEST = 2**20  # bytes of one value: a text, a number, the white space before it
LONG_NUMBER = re.compile(rb"[0-9]{1000}")
DEEPEST = 32  # lists in lists
ROOM = 4 * 2**20  # bytes, for a small file with large objects in it
TOKEN = 256  # bytes, for a token and its id as Python's objects, in a table of a million

Way = tuple[str, ...]


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


def read_json(
    path: str | Path, *, vocabulary: Collection[Way] = (), later: Collection[Way] = ()
) -> Any:
    """The content of a JSON file, in memory that the file's size bounds.

    Python's objects are up to 30 times as large as the JSON that they are made from (``[[],[],…``).
    So the file is read piece by piece (by the package ijson), what is made of it is counted, and
    beyond twice the file's size and 4 MB it is refused. A vocabulary is meant to hold millions of
    small things: at those places, a token and its id have 256 bytes for themselves.

    Args:
        path: of the file.
        vocabulary: the ways, such as ``("model", "vocab")``, to objects or lists of tokens.
        later: the ways to lists that are not read yet: each becomes an :class:`Unread`.

    Raises:
        OSError: it can't be read.
        RuntimeError: ijson is not installed.
        ValueError: it is larger than ``LARGEST``, no JSON, or has one value larger than 1 MB, too
            many values, or lists in lists more than 32 deep.
    """
    path = Path(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST:
            raise ValueError(
                f"{path} is larger than {LARGEST >> 20} MB; no vocabulary or configuration is"
            )
        return _Reading(file, path, 2 * size + ROOM, vocabulary, later).whole()


def check_json(file: IO[bytes], path: Path, *, room: int) -> None:
    """Refuse JSON of which more than ``room`` bytes would be made; ``path`` is for the message.

    One text in it may be as large as it likes.

    Raises:
        RuntimeError: ijson is not installed.
        ValueError: it is no JSON, or too much.
    """
    _Reading(file, path, room, longest=room).whole()


def read_tokenizer(path: str | Path) -> Any:
    """The content of a vocabulary's file, its merges an :class:`Unread`; raises as ``read_json``.

    A token and its id take 100 to 150 bytes, as the vocabulary is read; a merge takes none.
    """
    places = (("model", "vocab"), ("words",))
    return read_json(path, vocabulary=places, later=(("model", "merges"),))


class Unread:
    """A list in a JSON file, read anew and item by item each time that it is gone through."""

    def __init__(self, path: Path, way: Way) -> None:
        self.path, self.way = path, way

    def __iter__(self) -> Iterator[Any]:
        with self.path.open("rb") as file:
            reading = _Reading(file, self.path, ROOM)
            reading.go_to(self.way)
            while (event := reading.next())[0] != "end_array":
                reading.room = ROOM
                yield reading.made(event, self.way)


class _RefusedError(ValueError):
    """JSON that is too much."""


class _Reading:
    """A JSON file's events and the values that they say; ``room`` is what these may still take."""

    def __init__(
        self,
        file: IO[bytes],
        path: Path,
        room: int,
        vocabulary: Collection[Way] = (),
        later: Collection[Way] = (),
        longest: int = LONGEST,
    ) -> None:
        try:
            import ijson
        except ImportError:
            raise RuntimeError(
                f"{path.name} needs the package ijson: python -m pip install ijson"
            ) from None
        self.file, self.path, self.room = file, path, room
        self.vocabulary, self.later, self.longest = vocabulary, later, longest
        self._silent = 0
        self._damaged = (ijson.JSONError, ValueError, ArithmeticError)
        self._events = ijson.basic_parse(self, buf_size=2**14)  # numbers as large as they are
        self._keys: dict[str, str] = {}  # the same few, in thousands of objects

    def read(self, size: int) -> bytes:
        """Some bytes, for ijson, which keeps those of a value that has not ended."""
        if self._silent > self.longest:
            self._refuse(f"has a value of more than {self.longest >> 20} MB")
        self._silent += size
        some = self.file.read(size)
        if LONG_NUMBER.search(some):  # ijson loses the error of `int` for what has 4300
            self._refuse("has a number of a thousand digits")
        return some

    def _refuse(self, why: str) -> NoReturn:
        raise _RefusedError(f"{self.path} {why}; no file of a model has")

    def next(self) -> tuple[str, Any]:
        """What comes next, as ijson calls it, and its value if it has one."""
        try:
            event: tuple[str, Any] = next(self._events, ("end", None))
        except _RefusedError:
            raise
        except self._damaged as error:
            raise ValueError(f"{self.path} is no JSON: {error}") from None
        self._silent = 0
        return event

    def whole(self) -> Any:
        """The one value of the file."""
        content = self.made(self.next(), ())
        if self.next()[0] != "end":
            raise ValueError(f"{self.path} is no JSON: it goes on after its end")
        return content

    def made(self, event: tuple[str, Any], way: Way, *, free: int = 0) -> Any:
        """The value that begins with this event; ``free`` bytes of it are not counted."""
        kind, value = event
        if kind not in {"start_map", "start_array"}:
            if isinstance(value, Decimal):
                value = float(value)
            if value is not None and not isinstance(value, bool):
                self._take(sys.getsizeof(value) - free)
            return value
        if len(way) == DEEPEST:
            self._refuse(f"has lists in lists, {DEEPEST} deep")
        if kind == "start_array" and way in self.later:
            self._pass(event)
            return Unread(self.path, way)
        self._take(150)  # of a list or an object with one entry; what it grows by is below
        free = TOKEN if way in self.vocabulary else 0
        if kind == "start_array":
            listed = []
            while (event := self.next())[0] != "end_array":
                self._take(16 - free)
                listed.append(self.made(event, (*way, "[]"), free=free))
            return listed
        table = {}
        while (event := self.next())[0] != "end_map":
            key = event[1]
            if free:
                self._take(sys.getsizeof(key) + 100 - free)
            else:
                key = self._known(key)
            table[key] = self.made(self.next(), (*way, key), free=32 if free else 0)
        return table

    def _known(self, key: str) -> str:
        self._take(50)
        if key not in self._keys:
            self._take(sys.getsizeof(key) + 100)
        return self._keys.setdefault(key, key)

    def go_to(self, way: Way) -> None:
        """Read on to the first item of the list at this place, where ``whole`` has found it."""
        for key in way:
            self.next()  # the object that has this key
            while self.next() != ("map_key", key):
                self._pass(self.next())
        self.next()

    def _pass(self, event: tuple[str, Any]) -> None:
        """Read over the value that begins with this event."""
        depth = 0
        while True:
            depth += event[0].startswith("start_")
            depth -= event[0].startswith("end_")
            if not depth:
                return
            event = self.next()

    def _take(self, size: int) -> None:
        self.room -= max(size, 0)
        if self.room < 0:
            self._refuse("has many more values than its size lets expect")


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

    def of(self, kind: type, *or_else: type) -> Any:
        """The value, if it is of this kind, or of another that is named."""
        if not isinstance(self.value, (kind, *or_else)) or (
            kind is int and isinstance(self.value, bool)
        ):
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
    if len(np.unique(np.fromiter(table.values(), np.int64, len(table)))) < len(table):
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
