"""A vocabulary of characters: the simplest tokenizer, with nothing to learn and nothing lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import check_ids
from .codepoints import code_points, from_code_points
from .jsonfile import read_tokenizer, write_json


class CharVocab:
    """Each distinct character is one id; ids follow the order of the code points.

    Args:
        text: any text; its distinct characters become the vocabulary.

    Raises:
        TypeError: ``text`` is no string.
        ValueError: it is empty.
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"CharVocab: needs a text (str), got {type(text).__name__}")
        if not text:
            raise ValueError("CharVocab: the text is empty, so there is no character to number")
        self._codes = np.unique(code_points(text))
        self.characters = from_code_points(self._codes)

    def __len__(self) -> int:
        return len(self._codes)

    def __contains__(self, character: str) -> bool:
        return character in self.characters

    def __repr__(self) -> str:
        return f"CharVocab({len(self)} characters: {self.characters!r:.40})"

    def encode(self, text: str) -> np.ndarray:
        """The ids of the characters, shape ``(len(text),)``, int64.

        Raises:
            ValueError: a character is not in the vocabulary; the message names it and its place.
        """
        codes = code_points(text)
        ids = np.searchsorted(self._codes, codes)
        found = self._codes[np.minimum(ids, len(self) - 1)] == codes
        if not found.all():
            place = int(np.argmin(found))
            character = text[place]
            raise ValueError(
                f"CharVocab: character {character!r} (U+{ord(character):04X}) at index {place} is "
                f"not among the {len(self)} of this vocabulary; leave it out, or build the "
                "vocabulary from a text that has it"
            )
        return ids

    def decode(self, ids: Iterable[int] | np.ndarray | Any) -> str:
        """The text of a sequence of ids.

        Raises:
            IndexError, TypeError: an id out of range, or not an integer.
        """
        array = np.asarray(ids if hasattr(ids, "dtype") else list(ids))
        if not array.size:
            return ""
        check_ids(array, len(self), what="CharVocab.decode")
        return from_code_points(self._codes[array.reshape(-1)])

    def token(self, id: int) -> str:
        """The character that has this id."""
        return self.decode([id])

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The characters of ids as they come."""
        return map(self.token, ids)

    def save(self, path: str | Path) -> None:
        """Write the vocabulary as JSON."""
        write_json(path, self.as_dict())

    @classmethod
    def load(cls, path: str | Path) -> CharVocab:
        """Read what ``save`` wrote."""
        try:
            return cls.from_dict(read_tokenizer(path))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"CharVocab: {path} holds no character vocabulary ({error})"
            ) from error

    def as_dict(self) -> dict[str, str]:
        """What ``save`` writes, to be part of another file."""
        return {"kind": "characters", "characters": self.characters}

    @classmethod
    def from_dict(cls, saved: dict[str, str]) -> CharVocab:
        """The inverse of ``as_dict``."""
        if saved["kind"] != "characters":
            raise ValueError(f"a vocabulary of kind {saved['kind']!r}")
        return cls(saved["characters"])
