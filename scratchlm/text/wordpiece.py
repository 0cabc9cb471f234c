"""WordPiece: words in pieces of a vocabulary, the longest first, as BERT reads them.

Devlin et al. 2019 (§3, "Input/Output Representations"); the algorithm is that of Wu et al. 2016
(§4.1), the greedy match the published BERT code's.
"""

from __future__ import annotations

import functools
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import check_ids
from .added import AddedTokens
from .codepoints import code_points, from_code_points, table
from .jsonfile import LARGEST, Checked, check_added, check_vocabulary, read_tokenizer, write_json

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CACHED = 2**18
LONGEST_WORD = 256  # no file may ask for more: the greedy match is quadratic in it


class WordPiece:
    """BERT's tokenizer: clean, cut into words and marks, then each word into pieces.

    Args:
        vocabulary: piece → id; pieces that go on a word begin with ``prefix``.
        lowercase: make letters small.
        strip_accents: take marks off letters; None: as ``lowercase``.
        ideographs: each Chinese character is a word.
        clean: drop control characters, make any white space a blank.
        unknown: the token for a word that the pieces don't make.
        prefix: of pieces inside a word.
        longest_word: characters; a longer word is unknown.
        special_tokens: found in a text as they stand; by default those of ``[PAD] [UNK] [CLS]
            [SEP] [MASK]`` that the vocabulary has.
        skipped: of the special tokens, those that ``decode(…, special_tokens=False)`` leaves out;
            all of them by default.

    Raises:
        ValueError: the vocabulary is empty or lacks ``unknown``.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        ideographs: bool = True,
        clean: bool = True,
        unknown: str = "[UNK]",
        prefix: str = "##",
        longest_word: int = 100,
        special_tokens: Mapping[str, Any] | None = None,
        skipped: Iterable[str] | None = None,
    ) -> None:
        if unknown not in vocabulary:
            raise ValueError(f"WordPiece: the vocabulary lacks {unknown!r}, for unknown words")
        if not 0 < longest_word <= LONGEST_WORD:
            raise ValueError(f"WordPiece: longest_word={longest_word} outside 1 to {LONGEST_WORD}")
        self.vocabulary = dict(vocabulary)
        self.lowercase, self.strip_accents = lowercase, strip_accents
        self.ideographs, self.clean = ideographs, clean
        self.unknown, self.prefix, self.longest_word = unknown, prefix, longest_word
        about = special_tokens
        if about is None:
            about = {"ids": {t: vocabulary[t] for t in SPECIAL if t in vocabulary}}
        self.added = AddedTokens(**about, normalize=self.normalize)
        self._skipped = {
            self.added.ids[t] for t in (self.added.ids if skipped is None else skipped)
        }
        self._tokens = {number: token for token, number in self.vocabulary.items()}
        self._tokens |= {number: token for token, number in self.added.ids.items()}
        self._longest = max(map(len, self.vocabulary))
        self._cache: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return max(self._tokens) + 1

    def __contains__(self, token: str) -> bool:
        return token in self.vocabulary or token in self.added.ids

    def __repr__(self) -> str:
        return f"WordPiece({len(self)} pieces, lowercase={self.lowercase})"

    # ------------------------------------------------------------------ text to ids

    def normalize(self, text: str) -> str:
        """The text as it is before it is cut into words."""
        if not text.isascii() or not text.isprintable():
            text = self._clean(text)
        if self.lowercase:
            # character by character: at the end of a word too, Σ becomes σ
            text = text.replace("Σ", "σ").lower()
        return text

    def _clean(self, text: str) -> str:
        codes = code_points(text)
        if self.clean:
            kinds = _kinds()[codes]
            codes = np.where(kinds == ord(" "), ord(" "), codes)[kinds != ord("x")]
        text = from_code_points(codes)
        if self.ideographs and (found := _kinds()[codes] == ord("c")).any():
            pairs = zip(text, found.tolist(), strict=True)
            text = "".join(f" {c} " if ideograph else c for c, ideograph in pairs)
        if self.lowercase if self.strip_accents is None else self.strip_accents:
            codes = code_points(unicodedata.normalize("NFD", text))
            text = from_code_points(codes[_accents()[codes] != ord("m")])
        return text

    def words(self, text: str) -> list[str]:
        """The words and marks of a normalised text."""
        folded = _cuts()[code_points(text)].tobytes().decode("ascii")
        return [text[m.start() : m.end()] for m in re.finditer(r"a+|\.", folded)]

    def encode(self, text: str, *, special_tokens: bool = True) -> np.ndarray:
        """The ids of a text, 1-D, int64; ``inputs`` puts ``[CLS]`` and ``[SEP]`` around them.

        Args:
            text: any text; bytes that may be broken UTF-8: ``raw.decode("utf-8", "replace")``.
            special_tokens: False: ``[SEP]`` in the text is ordinary text. Say so for text that
                others wrote.

        Raises:
            TypeError: not a string.
        """
        if not isinstance(text, str):
            raise TypeError(f"WordPiece.encode: needs a text (str), got {type(text).__name__}")
        ids: list[int] = []
        for piece in self.added.split(text) if special_tokens else [self.normalize(text)]:
            if isinstance(piece, int):
                ids.append(piece)
                continue
            for word in self.words(piece):
                ids += self._cache.get(word) or self._word(word)
        return np.array(ids, dtype=np.int64)

    def _word(self, word: str) -> list[int]:
        found = self._pieces(word) if len(word) <= self.longest_word else None
        ids = [self.vocabulary[self.unknown]] if found is None else found
        if len(word) <= self.longest_word:
            if len(self._cache) >= CACHED:
                self._cache.clear()
            self._cache[word] = ids
        return ids

    def _pieces(self, word: str) -> list[int] | None:
        """The longest piece that the word begins with, then the longest that goes on, …"""
        ids, start = [], 0
        while start < len(word):
            before = self.prefix if start else ""
            for stop in range(min(len(word), start + self._longest), start, -1):
                number = self.vocabulary.get(before + word[start:stop])
                if number is not None:
                    break
            else:
                return None
            ids.append(number)
            start = stop
        return ids

    def inputs(
        self, text: str, second: str | None = None, *, max_length: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """What BERT reads: ``[CLS] text [SEP]``, or ``[CLS] text [SEP] second [SEP]``.

        Args:
            text: the text.
            second: a second one.
            max_length: of the ids; what is too much is cut from the end of the longer text, then
                of both.

        Returns:
            the ids, and the number of the text (0 or 1) that each belongs to; both 1-D, int64.

        Raises:
            ValueError: the vocabulary has no ``[CLS]`` or ``[SEP]``; ``max_length`` has no room.
        """
        try:
            first, last = self.vocabulary["[CLS]"], self.vocabulary["[SEP]"]
        except KeyError as error:
            raise ValueError(f"WordPiece.inputs: the vocabulary has no {error}") from None
        parts = [self.encode(part) for part in (text, second) if part is not None]
        if max_length is not None:
            room = max_length - 1 - len(parts)
            if room < 0:
                raise ValueError(f"WordPiece.inputs: max_length={max_length} has no room for text")
            order = sorted(range(len(parts)), key=lambda i: len(parts[i]))
            for left, index in zip(range(len(parts), 0, -1), order, strict=True):
                parts[index] = parts[index][: room // left]
                room -= len(parts[index])
        ids = np.concatenate([[first], *(x for part in parts for x in (part, [last]))])
        types = np.concatenate([[0], *([i] * (len(p) + 1) for i, p in enumerate(parts))])
        return ids.astype(np.int64), types.astype(np.int64)

    # ------------------------------------------------------------------ ids to text

    def token(self, id: int) -> str:
        """A piece as the vocabulary has it.

        Raises:
            IndexError: no piece has this id.
        """
        try:
            return self._tokens[int(id)]
        except KeyError:
            raise IndexError(
                f"WordPiece.token: no piece has the id {id}; there are {len(self)}"
            ) from None

    def decode(self, ids: Iterable[int] | np.ndarray | Any, *, special_tokens: bool = True) -> str:
        """A text with these ids: pieces joined to words, blanks between words, none before marks.

        What ``normalize`` took away, capitals, accents, white space, does not come back.

        Raises:
            IndexError, TypeError: an id out of range, or not an integer.
        """
        array = np.asarray(ids if hasattr(ids, "dtype") else list(ids)).reshape(-1)
        if not array.size:
            return ""
        check_ids(array, len(self), what="WordPiece.decode")
        text = ""
        skipped = set() if special_tokens else self._skipped
        for piece in (self.token(number) for number in array.tolist() if number not in skipped):
            if piece.startswith(self.prefix) and text:
                text += piece[len(self.prefix) :]
            elif piece in {".", "?", "!", ","} or not text:
                text += piece
            else:
                text += " " + piece
        return text

    # ------------------------------------------------------------------ kept

    @classmethod
    def of_characters(cls, texts: Iterable[str], *, at_least: int = 1, **options: Any) -> WordPiece:
        """The vocabulary of the characters in ``texts``: special tokens, then the frequent first.

        Each Chinese character is a token. A character inside a word, such as the second of "ab", is
        another one than the same character where a word begins. What is rarer is unknown, and with
        it the word that it is in.

        Args:
            texts: of the training part.
            at_least: how often a character has to occur.
            options: those of the class, such as ``lowercase``.
        """
        reader = cls({"[UNK]": 0}, **options)
        counts: Counter[str] = Counter()
        for word in reader._words_of(texts):
            counts.update([word[0], *(reader.prefix + c for c in word[1:])])
        frequent = [piece for piece, count in counts.most_common() if count >= at_least]
        return cls({piece: i for i, piece in enumerate([*SPECIAL, *frequent])}, **options)

    @classmethod
    def of_words(
        cls, texts: Iterable[str], *, most: int | None = None, **options: Any
    ) -> WordPiece:
        """The vocabulary of whole words in ``texts``: special tokens, then the frequent first.

        Args:
            texts: of the training part.
            most: how many words at the most; rarer ones are unknown.
            options: those of the class, such as ``lowercase``.
        """
        counts = Counter(cls({"[UNK]": 0}, **options)._words_of(texts))
        words = [word for word, _ in counts.most_common(most)]
        return cls({piece: i for i, piece in enumerate([*SPECIAL, *words])}, **options)

    def _words_of(self, texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            yield from self.words(self.normalize(text))

    @classmethod
    def from_vocab(cls, path: str | Path, **options: Any) -> WordPiece:
        """A ``vocab.txt``: one piece a line, the line's number is its id.

        Args:
            path: of the file.
            options: those of the class, such as ``lowercase``.

        Raises:
            OSError: it can't be read.
            ValueError: a piece stands there twice, it is no UTF-8, or too large.
        """
        path = Path(path)
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path} is larger than {LARGEST >> 20} MB; no vocabulary is")
        vocabulary: dict[str, int] = {}
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file):
                piece = line.removesuffix("\n").rstrip("\r")
                if vocabulary.setdefault(piece, number) != number:
                    raise ValueError(
                        f"{path}, line {number + 1}: {reprlib.repr(piece)} was there before"
                    )
        return cls(vocabulary, **options)

    def save(self, path: str | Path) -> None:
        """Write a ``tokenizer.json``, as the ``tokenizers`` library reads it too."""
        write_json(path, self.as_dict())

    @classmethod
    def load(cls, path: str | Path) -> WordPiece:
        """Read a ``tokenizer.json`` with a WordPiece model. Nothing in it is executed.

        Its template, truncation and padding are not used: see ``inputs``.

        Raises:
            OSError: it can't be read.
            ValueError: it is no such file, or uses what would give other ids than here.
        """
        return cls.from_dict(read_tokenizer(path), where=str(path))

    def as_dict(self) -> dict[str, Any]:
        """What ``save`` writes, to be part of another file."""
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": self.added.as_list(self._skipped),
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": self.clean,
                "handle_chinese_chars": self.ideographs,
                "strip_accents": self.strip_accents,
                "lowercase": self.lowercase,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": None,
            "decoder": {"type": "WordPiece", "prefix": self.prefix, "cleanup": True},
            "model": {
                "type": "WordPiece",
                "unk_token": self.unknown,
                "continuing_subword_prefix": self.prefix,
                "max_input_chars_per_word": self.longest_word,
                "vocab": self.vocabulary,
            },
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], *, where: str = "tokenizer") -> WordPiece:
        """The inverse of ``as_dict``; takes what ``load`` takes."""
        content = Checked(saved, where)
        model, normalizer = content["model"], content["normalizer"]
        model.only("type", ("WordPiece",))
        normalizer.only("type", ("BertNormalizer",))
        for key in ("clean_text", "handle_chinese_chars", "lowercase", "strip_accents"):
            normalizer.only(key, (None, False, True))
        content["pre_tokenizer"].only("type", ("BertPreTokenizer",))
        vocabulary = check_vocabulary(model["vocab"])
        added = check_added(content, vocabulary)
        special = added.pop("special")
        unknown, prefix = model["unk_token"].of(str), model["continuing_subword_prefix"].of(str)
        longest = model["max_input_chars_per_word"]
        if not 0 < longest.of(int) <= LONGEST_WORD:
            longest.fail(f"is outside 1 to {LONGEST_WORD}")
        if unknown not in vocabulary:
            model.fail(f"names {reprlib.repr(unknown)} for unknown words, but has no such piece")
        try:
            return cls(
                vocabulary,
                lowercase=normalizer.get("lowercase", True),
                strip_accents=normalizer.get("strip_accents"),
                ideographs=normalizer.get("handle_chinese_chars", True),
                clean=normalizer.get("clean_text", True),
                unknown=unknown,
                prefix=prefix,
                longest_word=longest.value,
                special_tokens=added,
                skipped=special,
            )
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


@functools.cache
def _kinds() -> np.ndarray:
    return table({"spaces": " ", "bert-removed": "x", "bert-ideographs": "c"}, "a")


@functools.cache
def _accents() -> np.ndarray:
    return table({"bert-accents": "m"}, "a")


@functools.cache
def _cuts() -> np.ndarray:
    return table({"spaces": " ", "bert-punctuation": "."}, "a")
