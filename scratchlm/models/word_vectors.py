"""A vector for each word: nearest words, analogies, and the files and tests that others published.

Three formats are read: word2vec's binary one (a line ``V d``, then each word, a blank, and d
float32), its text (a line ``V d``, then a line for each word), and GloVe's (the same without the
first line). What a file says of its size is compared with its length before memory is taken for it.
"""

from __future__ import annotations

import array
import difflib
import json
import mmap
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import check_head, safetensors
from ..metrics import spearman

FORMATS = ("binary", "text")
KIND = "scratchlm word vectors"


class WordVectors:
    """Words and their vectors.

    Args:
        words: each one once.
        vectors: shape ``[V, d]``, floating; row i belongs to word i.

    Raises:
        ValueError: none, not as many words as rows, a word that stands there twice, or a number
            that is not finite.
        TypeError: vectors that are not floating.
    """

    def __init__(self, words: Iterable[str], vectors: np.ndarray) -> None:
        self.words = list(words)
        self.vectors = np.asarray(vectors)
        if self.vectors.dtype.kind != "f":
            raise TypeError(f"WordVectors: vectors are {self.vectors.dtype}, they must be floating")
        if self.vectors.ndim != 2 or not self.vectors.size or len(self.words) != len(self.vectors):
            raise ValueError(
                f"WordVectors: {len(self.words)} words and vectors of shape {self.vectors.shape}; "
                "it must be (number of words, d), and not empty"
            )
        self.ids = {word: number for number, word in enumerate(self.words)}
        if len(self.ids) < len(self.words):
            twice = next(w for number, w in enumerate(self.words) if self.ids[w] != number)
            raise ValueError(f"WordVectors: {twice!r} stands among the words twice")
        sizes = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        bad = np.flatnonzero(~np.isfinite(sizes))
        if bad.size:
            raise ValueError(
                f"WordVectors: the vector of {self.words[bad[0]]!r} is not finite, or its length "
                f"is above what {self.vectors.dtype} can hold"
            )
        smallest = np.finfo(self.vectors.dtype).tiny
        self._units = self.vectors / np.maximum(sizes, smallest)  # 0 stays 0

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.ids

    def __getitem__(self, word: str) -> np.ndarray:
        """The vector of a word, ``[d]``.

        Raises:
            KeyError: the word has none; words that look like it are named.
        """
        return self.vectors[self._id(word)]

    def __repr__(self) -> str:
        return f"WordVectors({len(self):,} words of {self.vectors.shape[1]} numbers)"

    def similarity(self, a: str, b: str) -> float:
        """The cosine of the angle between two words, ``a·b / (|a| |b|)``; 0 beside a zero vector.

        Raises:
            KeyError: a word that has no vector.
        """
        return float(self._units[self._id(a)] @ self._units[self._id(b)])

    def nearest(
        self, word: str | np.ndarray, n: int = 10, *, exclude: Iterable[str] = ()
    ) -> list[tuple[str, float]]:
        """The ``n`` words of largest cosine with a word or with a vector ``[d]``, largest first.

        The word itself is left out, and so are those of ``exclude``.

        Raises:
            KeyError: a word that has no vector.
            ValueError: a vector of another shape, ``n`` below 1.
        """
        if n < 1:
            raise ValueError(f"nearest: n={n} must be 1 or more")
        if isinstance(word, str):
            exclude, target = (word, *exclude), self._units[self._id(word)]
        else:
            target = np.asarray(word)
        if target.shape != self.vectors.shape[1:]:
            raise ValueError(
                f"nearest: the vector has shape {target.shape}, those of the words "
                f"{self.vectors.shape[1:]}"
            )
        scores = self._units @ (target / (np.linalg.norm(target) or 1.0))
        scores[[self._id(each) for each in exclude]] = -np.inf
        n = min(n, int(np.isfinite(scores).sum()))
        best = np.argpartition(-scores, n - 1)[:n] if n else np.zeros(0, int)
        best = best[np.argsort(-scores[best], kind="stable")]
        return [(self.words[i], float(scores[i])) for i in best]

    def analogy(self, a: str, b: str, c: str, n: int = 1) -> list[tuple[str, float]]:
        """``a`` is to ``b`` as ``c`` is to these: the words nearest to ``b - a + c``.

        The vectors are taken at length 1, and the three words cannot be the answer (3CosAdd; with
        them, ``b`` or ``c`` itself is nearly always nearest).

        Raises:
            KeyError: a word that has no vector.

        Source: Mikolov, Yih & Zweig 2013; the name is Levy & Goldberg's, 2014.
        """
        one, two, three = (self._units[self._id(word)] for word in (a, b, c))
        return self.nearest(two - one + three, n, exclude=(a, b, c))

    def _id(self, word: str) -> int:
        try:
            return self.ids[word]
        except KeyError:
            near = difflib.get_close_matches(word, self.words[:50_000], 3)
            hint = f"; near it are {', '.join(near)}" if near else ""
            raise KeyError(f"there is no vector for {word!r}{hint}") from None

    # ------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one safetensors file: the vectors, and the words as JSON among its metadata.

        Raises:
            OSError: it can't be written; what was there before stays.
        """
        return write_arrays(path, {"vectors": self.vectors}, {"kind": KIND, "words": self.words})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> WordVectors:
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it is something else, or damaged.
        """
        arrays, about = read_arrays(path, KIND)
        words = check_words(about.get("words"), path)
        try:
            return cls(words, arrays["vectors"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None


# ---------------------------------------------------------------- our own files


def write_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]
) -> Path:
    """Arrays as safetensors, and what JSON can say of them in its metadata: whole or not at all."""
    raw = safetensors("files of vectors").numpy.save(
        {name: np.ascontiguousarray(each) for name, each in arrays.items()},
        metadata={"about": json.dumps(about, ensure_ascii=False)},
    )
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(raw)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_arrays(
    path: str | os.PathLike[str], kind: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The inverse of ``write_arrays``, of a file whose ``kind`` is this one."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    package = safetensors("files of vectors")
    try:
        check_head(path, share=4)  # the words are there
        with package.safe_open(path, framework="np") as file:
            about = json.loads((file.metadata() or {}).get("about", "null"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (package.SafetensorError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no safetensors file of {kind} ({error})") from None
    if not isinstance(about, dict) or about.get("kind") != kind:
        raise ValueError(f"{path} is a safetensors file, but holds no {kind}")
    return arrays, about


def check_words(words: Any, path: str | os.PathLike[str]) -> list[str]:
    """``words`` out of a file, if it is a list of strings."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{path}: its words are no list of strings")
    return words


# ---------------------------------------------------------------- published files


def load_vectors(
    path: str | os.PathLike[str], *, format: str | None = None, limit: int | None = None
) -> WordVectors:
    """The vectors of a file in word2vec's binary format, in its text format, or in GloVe's.

    Args:
        path: the file, not compressed. (What :meth:`WordVectors.save` wrote, its ``load`` reads.)
        format: ``"binary"`` or ``"text"``; by default, ``.bin`` is binary and all else is text. A
            text whose first line is two whole numbers is word2vec's, any other GloVe's.
        limit: only so many words, the first ones; published files begin with the frequent ones.

    A word that stands in the file again is left out, with a warning. Bytes of a word that are no
    UTF-8 become U+FFFD.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, a file that is cut off or says what can't be; the message names
            the word or the line.
    """
    path = Path(path)
    if format is None:
        format = "binary" if path.suffix == ".bin" else "text"
    if format not in FORMATS:
        raise ValueError(f"load_vectors: format={format!r} is none of {', '.join(FORMATS)}")
    if limit is not None and limit < 1:
        raise ValueError(f"load_vectors: limit={limit} must be 1 or more")
    if path.is_dir():
        raise ValueError(f"load_vectors: {path} is a folder; name the file in it")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise ValueError(f"load_vectors: {path} is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                words, vectors = (_binary if format == "binary" else _text)(data, size, limit)
            except ValueError as error:
                raise ValueError(f"load_vectors: {path}: {error}") from None
    first: dict[str, int] = {}
    for number, word in enumerate(words):
        first.setdefault(word, number)
    if len(first) < len(words):
        warnings.warn(
            f"load_vectors: {path}: {len(words) - len(first)} words stand there again; the first "
            "vector of each is kept",
            stacklevel=2,
        )
        vectors = vectors[list(first.values())]
    try:
        return WordVectors(first, vectors)
    except ValueError as error:
        raise ValueError(f"load_vectors: {path}: {error}") from None


def _header(line: bytes) -> tuple[int, int] | None:
    """V and d, of a line that says no more than these."""
    fields = line.split()
    if len(fields) != 2 or not all(each.isdigit() for each in fields):
        return None
    return int(fields[0]), int(fields[1])


def _binary(data: mmap.mmap, size: int, limit: int | None) -> tuple[list[str], np.ndarray]:
    end = data.find(b"\n", 0, 64)
    header = _header(data[: max(0, end)])
    if header is None:
        raise ValueError("is not word2vec's binary format: the first line must be two numbers, V d")
    total, d = header
    place = end + 1
    if not total or not d or total * (4 * d + 2) > size - place:
        raise ValueError(
            f"says it holds {total} vectors of {d} numbers, which does not fit its {size} bytes: "
            "cut off, or damaged"
        )
    rows = min(total, limit or total)
    words, vectors = [], np.empty((rows, d), np.float32)
    for i in range(rows):
        blank = data.find(b" ", place)
        if blank < 0 or blank + 1 + 4 * d > size:
            raise ValueError(f"ends within vector {i + 1} of {total}: cut off, or damaged")
        # some programs end each vector with a new line, some do not
        words.append(data[place:blank].lstrip(b"\n").decode("utf-8", "replace"))
        place = blank + 1 + 4 * d
        vectors[i] = np.frombuffer(data[blank + 1 : place], "<f4")
    if rows == total and data[place : place + 2] not in (b"", b"\n"):
        raise ValueError(f"goes on after the {total} vectors that its first line speaks of")
    return words, vectors


def _text(data: mmap.mmap, size: int, limit: int | None) -> tuple[list[str], np.ndarray]:
    header = _header(data.readline())
    total, d = header or (0, 0)
    if header is None:
        data.seek(0)
    elif not total or not d or total * (2 * d + 2) > size - data.tell() + 1:
        raise ValueError(
            f"says it holds {total} vectors of {d} numbers, which does not fit its {size} bytes: "
            "cut off, or damaged"
        )
    words: list[str] = []
    values = array.array("f")
    number = 0 if header is None else 1
    for line in iter(data.readline, b""):
        number += 1
        line = line.rstrip()
        if not line:
            continue
        if not d:
            d = len(line.split(b" ")) - 1
            if not d:
                raise ValueError(f"line {number} is no word and its numbers")
        # from the right: words of some files have blanks in them
        word, *fields = line.rsplit(b" ", d)
        try:
            row = [float(each) for each in fields]
        except ValueError:
            row = []
        if len(row) != d:
            raise ValueError(f"line {number} is no word and {d} numbers after it")
        words.append(word.decode("utf-8", "replace"))
        values.extend(row)
        if len(words) == limit:
            break
    if not words:
        raise ValueError("holds no vectors")
    if header is not None and len(words) != min(total, limit or total):
        raise ValueError(f"speaks of {total} vectors, and has {len(words)}: cut off, or damaged")
    return words, np.frombuffer(values, np.float32).reshape(len(words), d)


# ---------------------------------------------------------------- published tests


@dataclass(frozen=True)
class SimilarityResult:
    """``rho`` over ``used`` of ``total`` pairs: those whose words both have a vector."""

    rho: float
    used: int
    total: int


@dataclass(frozen=True)
class AnalogyResult:
    """How many of the ``used`` questions, whose four words have a vector, are answered right."""

    correct: int
    used: int
    total: int
    sections: dict[str, tuple[int, int]] = field(default_factory=dict)  # (correct, used) of each

    @property
    def accuracy(self) -> float:
        return self.correct / self.used


Pair = tuple[str, str, float]
Question = tuple[str, str, str, str]


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """Pairs of words and what people say of their similarity, as in WordSim-353.

    A line holds two words and a number with tabs between them; lines that begin with ``#`` are
    none.

    Raises:
        OSError: it can't be read.
        ValueError: a line of another kind, or no UTF-8.
    """
    pairs = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [each.strip() for each in line.split("\t") if each.strip()]
        try:
            a, b, score = fields
            pairs.append((a, b, float(score)))
        except ValueError:
            raise ValueError(f"{path}, line {number}: is no two words and a number") from None
    return pairs


def read_questions(path: str | os.PathLike[str]) -> dict[str, list[Question]]:
    """Questions ``a b c d``, *a is to b as c is to d*, by section, as in questions-words.txt.

    A section begins with a line ``: name``.

    Raises:
        OSError: it can't be read.
        ValueError: a line of another kind, or no UTF-8.
    """
    sections: dict[str, list[Question]] = {}
    name = ""
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith(":"):
            name = line[1:].strip()
        elif line.strip():
            words = line.split()
            if len(words) != 4:
                raise ValueError(f"{path}, line {number}: has {len(words)} words; it must have 4")
            sections.setdefault(name, []).append((words[0], words[1], words[2], words[3]))
    return sections


def evaluate_similarity(vectors: WordVectors, pairs: Sequence[Pair]) -> SimilarityResult:
    """Spearman's ρ between cosines and people's scores.

    Words are looked up as they are spelled. A pair with a word that has no vector is left out, and
    counted as such.

    Raises:
        ValueError: fewer than two pairs are left.

    Source: Finkelstein et al. 2002 (WordSim-353).
    """
    known = [(a, b, score) for a, b, score in pairs if a in vectors and b in vectors]
    if len(known) < 2:
        raise ValueError(
            f"evaluate_similarity: of {len(pairs)} pairs {len(known)} have vectors for both words; "
            "are the words spelled as in the vectors (capitals)?"
        )
    cosines = [vectors.similarity(a, b) for a, b, _ in known]
    return SimilarityResult(spearman(cosines, [each[2] for each in known]), len(known), len(pairs))


def evaluate_analogies(
    vectors: WordVectors, questions: Mapping[str, Sequence[Question]], *, rows: int = 512
) -> AnalogyResult:
    """Which share of the questions :meth:`WordVectors.analogy` answers with the very word.

    Words are looked up as they are spelled; a question with a word that has no vector is left out.
    Every word that has a vector may be the answer, but for the three of the question.

    Args:
        vectors: of the words.
        questions: by section, as :func:`read_questions` gives them.
        rows: so many questions at a time; memory is ``rows × V`` numbers.

    Raises:
        ValueError: no question is left.

    Source: Mikolov et al. 2013 (ICLR workshop), §4.1.
    """
    units, ids = vectors._units, vectors.ids
    sections: dict[str, tuple[int, int]] = {}
    for name, asked in questions.items():
        known = [[ids[word] for word in each] for each in asked if all(w in ids for w in each)]
        correct = 0
        for start in range(0, len(known), rows):
            a, b, c, d = np.array(known[start : start + rows]).T
            scores = (units[b] - units[a] + units[c]) @ units.T  # [rows, V]
            for given in (a, b, c):
                scores[np.arange(len(given)), given] = -np.inf
            correct += int((scores.argmax(axis=1) == d).sum())
        if known:
            sections[name] = (correct, len(known))
    total = sum(map(len, questions.values()))
    used = sum(each for _, each in sections.values())
    if not used:
        raise ValueError(
            f"evaluate_analogies: none of {total} questions has vectors for its four words; are "
            "the words spelled as in the vectors (capitals)?"
        )
    return AnalogyResult(sum(each for each, _ in sections.values()), used, total, sections)
