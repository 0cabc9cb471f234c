"""A vocabulary of whole words: the frequent ones have an id, all others share one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import check_ids
from .jsonfile import Checked, read_tokenizer, write_json
from .pretokens import pretokens


def split_words(text: str) -> list[str]:
    """The words, numbers and marks of a text, without white space.

    Chinese is cut at its marks alone: words there are for segmentation to find.
    """
    return [word for piece in pretokens(text) if (word := piece.strip())]


class WordVocab:
    """Words by how often they occur; equally frequent ones in the order of their characters.

    Args:
        words: of a text, in any order, as often as they occur.
        size: at most so many words get an id, ``unknown`` included; None: all.
        min_frequency: rarer words get none.
        unknown: stands for all other words; its id is 0.

    Raises:
        TypeError: a single string, which would be cut into characters.
        ValueError: ``size`` below 1, no words.
    """

    def __init__(
        self,
        words: Iterable[str],
        *,
        size: int | None = None,
        min_frequency: int = 1,
        unknown: str = "<unk>",
    ) -> None:
        if isinstance(words, str):
            raise TypeError("WordVocab: needs a list of words; of a text: split_words(text)")
        if size is not None and size < 1:
            raise ValueError(f"WordVocab: size={size} has no room for {unknown!r}")
        counts = Counter(words)
        if not counts:
            raise ValueError("WordVocab: there are no words to number")
        counts.pop(unknown, None)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [word for word, count in ranked if count >= min_frequency]
        self._set([unknown, *kept][:size])

    def _set(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self.ids = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self.ids

    def __repr__(self) -> str:
        return f"WordVocab({len(self)} words)"

    @property
    def unknown(self) -> str:
        """What stands for words that have no id of their own."""
        return self.words[0]

    def encode(self, text: str | Iterable[str]) -> np.ndarray:
        """The ids of a text's words (``split_words``), or of words; 1-D, int64."""
        words = split_words(text) if isinstance(text, str) else text
        return np.array([self.ids.get(word, 0) for word in words], dtype=np.int64)

    def decode(self, ids: Iterable[int] | np.ndarray | Any) -> str:
        """The words, with a blank between each two.

        Raises:
            IndexError, TypeError: an id out of range, or not an integer.
        """
        array = np.asarray(ids if hasattr(ids, "dtype") else list(ids)).reshape(-1)
        if not array.size:
            return ""
        check_ids(array, len(self), what="WordVocab.decode")
        return " ".join(self.words[number] for number in array.tolist())

    def token(self, id: int) -> str:
        """The word that has this id."""
        return self.decode([id])

    def save(self, path: str | Path) -> None:
        """Write the vocabulary as JSON."""
        write_json(path, self.as_dict())

    @classmethod
    def load(cls, path: str | Path) -> WordVocab:
        """Read what ``save`` wrote.

        Raises:
            OSError: it can't be read.
            ValueError: it is something else.
        """
        return cls.from_dict(read_tokenizer(path), where=str(path))

    def as_dict(self) -> dict[str, Any]:
        """What ``save`` writes, to be part of another file."""
        return {"kind": "words", "words": self.words}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], *, where: str = "vocabulary") -> WordVocab:
        """The inverse of ``as_dict``."""
        content = Checked(saved, where)
        content.only("kind", ("words",))
        words = content["words"].of(list)
        if not words or not all(isinstance(word, str) for word in words):
            content["words"].fail("must be strings, and not empty")
        if len(set(words)) < len(words):
            content["words"].fail("names a word twice")
        vocabulary = cls.__new__(cls)
        vocabulary._set(words)
        return vocabulary
