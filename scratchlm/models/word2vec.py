"""Word vectors learned from a text: skip-gram with negative sampling, with subwords if asked for.

A word's vector is to say which words stand near it. The model has two tables: the vectors ``v`` of
words in the middle, and ``u`` of words around them. With n-grams (FastText), ``v`` is a sum: one
row of the table for the word, one for each n-gram of its letters.

A table has a row for each word, and a batch touches a few hundred. So the leaf of the tape is not
the table, it is the rows that the batch needs: they are taken out, numbered anew, and the ops work
on them as they would on a whole table, whose gradient is zero in every other row. One step of
plain gradient descent is then the same, bit for bit, and costs nothing for the rows in between.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .. import functional as F
from ..tensor import Tensor
from ..text import WordVocab
from .word_vectors import WordVectors, check_words, read_arrays, write_arrays

KIND = "scratchlm word2vec"
LONGEST = 32  # n-gram
CHUNK = 20_000  # words of text whose pairs are made, and mixed, at a time


def hash_ngram(ngram: str) -> int:
    """FNV-1a, 32 bits, of the UTF-8 bytes: ``h ← (h xor byte) · 16777619``, as fastText has it.

    fastText's bytes are signed. From 0x80 on they are negative, and as 32 bits have ones in front:
    for all but ASCII, the published FNV-1a gives another number.
    """
    h = 2166136261
    for byte in ngram.encode("utf-8"):
        h = ((h ^ (byte | 0xFFFFFF00 if byte & 0x80 else byte)) * 16777619) & 0xFFFFFFFF
    return h


def word_ngrams(word: str, shortest: int = 3, longest: int = 6) -> list[str]:
    """The n-grams of ``<word>``, from each place the short ones first: ``<wo  <wor  …  wor  …``.

    ``<`` and ``>`` mark the ends, so that ``her`` in the middle is not the word ``<her>``; alone,
    as n-grams of length 1, they are left out.

    Source: Bojanowski et al. 2017, §3.2; the order and the exception are the program's.
    """
    marked = f"<{word}>"
    return [
        marked[start : start + n]
        for start in range(len(marked))
        for n in range(shortest, min(longest, len(marked) - start) + 1)
        if n > 1 or 0 < start < len(marked) - 1
    ]


class Word2Vec:
    """Skip-gram with negative sampling: two tables, and how they learn.

    ``L = -ln σ(v·u) - Σ_k ln σ(-v·u_k)`` for each pair of a word and one of the words around it;
    ``u_k`` belong to words drawn with ``p(w) ∝ count(w)^0.75``. One is drawn again where it is the
    very word of the pair. Frequent words are left out of the text at random: a word whose share of
    the text is f stays with probability ``min(1, sqrt(subsample / f))``. How far "around" reaches
    is drawn for each word from 1 to ``window``, so that near words count more.

    Args:
        words: the text, as words; those that occur ``min_frequency`` times get a vector.
        dim: d, numbers in a vector.
        min_frequency: rarer words are left out of the text.
        window: how many words on each side, at most.
        negatives: K, noise words for each pair.
        subsample: the threshold t of the formula above; ``inf`` leaves out none.
        ngrams: the shortest and the longest n-gram, ``(3, 6)`` in FastText; None: words alone.
        buckets: rows that all n-grams share; each has the row of its hash.
        seed: of the weights, and of everything drawn in training.
        dtype: float32 or float64.

    Raises:
        ValueError: an option out of range, or fewer than two words that are frequent enough.
        TypeError: a single string (``scratchlm.text.split_words`` cuts it into words).

    Source: Mikolov et al. 2013 (NIPS), eq. 4 and 5 and §2.2; Bojanowski et al. 2017, §3.2. What is
    theirs but only in their programs: the drawn window, and how the tables begin.
    """

    def __init__(
        self,
        words: Iterable[str],
        dim: int = 100,
        *,
        min_frequency: int = 5,
        window: int = 5,
        negatives: int = 5,
        subsample: float = 1e-3,
        ngrams: tuple[int, int] | None = None,
        buckets: int = 100_000,
        seed: int = 0,
        dtype: Any = np.float32,
    ) -> None:
        if not isinstance(words, str):
            words = list(words)
        vocabulary = WordVocab(words, min_frequency=min_frequency)
        counts = np.bincount(vocabulary.encode(words), minlength=len(vocabulary))[1:]
        options = {
            "dim": dim, "min_frequency": min_frequency, "window": window, "negatives": negatives,
            "subsample": subsample, "ngrams": ngrams, "buckets": buckets, "seed": seed,
        }  # fmt: skip
        self._set(vocabulary.words[1:], counts, options)
        self.rng = np.random.default_rng(seed)
        rows = len(self.words) + (buckets if ngrams else 0)
        self.input = self.rng.uniform(-0.5 / dim, 0.5 / dim, (rows, dim)).astype(dtype)
        self.output = np.zeros((len(self.words), dim), dtype)

    def _set(self, words: list[str], counts: np.ndarray, options: dict[str, Any]) -> None:
        """All but the tables and the random numbers."""
        for name, low in (("dim", 1), ("window", 1), ("negatives", 0), ("buckets", 1)):
            if not isinstance(options[name], int) or options[name] < low:
                raise ValueError(f"Word2Vec: {name}={options[name]!r} must be an int ≥ {low}")
        if not options["subsample"] > 0:
            raise ValueError(
                f"Word2Vec: subsample={options['subsample']} must be positive; inf leaves out none"
            )
        ngrams = options["ngrams"]
        if ngrams is not None and not 1 <= ngrams[0] <= ngrams[1] <= LONGEST:
            raise ValueError(
                f"Word2Vec: ngrams={ngrams} must be (shortest, longest), from 1 to {LONGEST}"
            )
        if len(words) < 2:
            raise ValueError(
                f"Word2Vec: {len(words)} words occur {options['min_frequency']} times; it takes "
                "two, one of them as noise: a longer text, or a lower min_frequency"
            )
        self.options, self.words, self.counts = options, words, counts
        self.ids = {word: number for number, word in enumerate(words)}
        self.window, self.negatives, self.ngrams = options["window"], options["negatives"], ngrams
        self.interrupted = False
        self.losses: list[float] = []  # mean over the pairs of each epoch
        share = counts / counts.sum()
        self.keep = np.minimum(1.0, np.sqrt(options["subsample"] / share))
        self._noise_up_to = np.cumsum(counts**0.75)
        # the pieces of all words one after the other; those of word i from _start[i] on
        pieces = [self._pieces_of(word, number) for number, word in enumerate(words)]
        self._length = np.array([len(each) for each in pieces])
        self._start = np.cumsum(self._length) - self._length
        self._pieces = np.concatenate(pieces)

    def _pieces_of(self, word: str, number: int | None) -> np.ndarray:
        """The rows of the table whose sum is the word's vector."""
        rows = [] if number is None else [number]
        if self.ngrams:
            buckets = self.options["buckets"]
            ngrams = word_ngrams(word, *self.ngrams)
            rows += [len(self.words) + hash_ngram(ngram) % buckets for ngram in ngrams]
        return np.array(rows, dtype=np.int64)

    def __repr__(self) -> str:
        subwords = f", n-grams of {self.ngrams[0]} to {self.ngrams[1]}" if self.ngrams else ""
        return f"Word2Vec({len(self.words):,} words of {self.output.shape[1]} numbers{subwords})"

    # ------------------------------------------------------------ what comes out

    def vector(self, word: str) -> np.ndarray:
        """The vector of a word, ``[d]``; with n-grams, also of one that was never seen.

        Raises:
            KeyError: a word that is not in the vocabulary, of a model without n-grams, or too short
                to have any.
        """
        rows = self._pieces_of(word, self.ids.get(word))
        if not rows.size:
            raise KeyError(
                f"there is no vector for {word!r}: it occurs fewer than "
                f"{self.options['min_frequency']} times"
                + (", and has no n-gram" if self.ngrams else "; with ngrams= it would have one")
            )
        return self.input[rows].sum(axis=0)

    def vectors(self, also: Iterable[str] = ()) -> WordVectors:
        """The vectors of all words of the vocabulary, and of other words too.

        Raises:
            KeyError: as :meth:`vector`.
        """
        words = [*self.words, *dict.fromkeys(word for word in also if word not in self.ids)]
        return WordVectors(words, np.array([self.vector(word) for word in words]))

    # ------------------------------------------------------------ learning

    def fit(
        self,
        words: Iterable[str],
        *,
        epochs: int = 5,
        lr: float = 0.025,
        batch_size: int = 256,
        progress: bool = True,
    ) -> Word2Vec:
        """Learn from a text; the learning rate falls to 0 in a straight line.

        Each pair makes a whole step of ``lr``, as in the published programs; those of a batch are
        made at once. So a batch should be small beside the vocabulary: a word that occurs in it 50
        times makes 50 steps from where it is.

        Ctrl-C ends it, ``interrupted`` then says so, and what was learned stays. The same seed,
        text and options give the same vectors.

        Raises:
            ValueError: no two words of the text are in the vocabulary, or an option out of range.
            FloatingPointError: the vectors grew without bound; the learning rate is too high.
        """
        if epochs < 1 or batch_size < 1 or not 0 < lr < math.inf:
            raise ValueError(
                f"Word2Vec.fit: epochs={epochs} and batch_size={batch_size} must be 1 or more, and "
                f"lr={lr} positive"
            )
        found = (self.ids.get(word, -1) for word in words)
        text = np.array([number for number in found if number >= 0], dtype=np.int64)
        if len(text) < 2:
            raise ValueError("Word2Vec.fit: fewer than two words of the text have a vector")
        self.interrupted = False
        with _display(progress, self, epochs) as show:
            try:
                for epoch in range(epochs):
                    loss, pairs = 0.0, 0
                    for done, centers, contexts in self._batches(text, batch_size):
                        now = lr * (1 - (epoch + done) / epochs)
                        loss += self.step(centers, contexts, self.noise(contexts), lr=now)
                        pairs += len(centers)
                        if not math.isfinite(loss):
                            raise FloatingPointError(
                                f"Word2Vec.fit: the loss is {loss} in epoch {epoch + 1}: lower lr, "
                                "or batch_size"
                            )
                        show(epoch + done, loss / pairs)
                    self.losses.append(loss / max(1, pairs))
            except KeyboardInterrupt:
                self.interrupted = True
        return self

    def _batches(
        self, text: np.ndarray, size: int
    ) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
        """The pairs of one epoch in mixed order, and which share of it lies before them."""
        text = text[self.rng.random(len(text)) < self.keep[text]]
        for start in range(0, len(text), CHUNK):
            stop = min(start + CHUNK, len(text))
            centers, contexts = self.pairs(text, start, stop)
            order = self.rng.permutation(len(centers))
            for i in range(0, len(order), size):
                some = order[i : i + size]
                done = (start + (stop - start) * i / len(order)) / len(text)
                yield done, centers[some], contexts[some]

    def pairs(
        self, text: np.ndarray, start: int = 0, stop: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """``(centers, contexts)``: each word at ``[start, stop)``, with each word around it.

        Shapes: text ``[T]`` ids -> ``[N]`` both.
        """
        at = np.arange(start, len(text) if stop is None else stop)
        reach = self.rng.integers(1, self.window + 1, size=len(at))
        places, others = [], []
        for offset in range(-self.window, self.window + 1):
            other = at + offset
            near = (reach >= abs(offset)) & (other >= 0) & (other < len(text)) & (offset != 0)
            places.append(at[near])
            others.append(other[near])
        return text[np.concatenate(places)], text[np.concatenate(others)]

    def noise(self, contexts: np.ndarray) -> np.ndarray:
        """K noise words for each pair, none of them its context.  [N] -> [N, K]."""
        drawn = self._draw((len(contexts), self.negatives))
        while (same := drawn == contexts[:, None]).any():
            drawn[same] = self._draw(int(same.sum()))
        return drawn

    def _draw(self, shape: Any) -> np.ndarray:
        at = self.rng.random(shape) * self._noise_up_to[-1]
        return np.minimum(np.searchsorted(self._noise_up_to, at, "right"), len(self.words) - 1)

    def step(
        self, centers: np.ndarray, contexts: np.ndarray, negatives: np.ndarray, *, lr: float
    ) -> float:
        """One step on the sum of the losses of these pairs; returns that sum.

        Shapes: centers ``[N]``, contexts ``[N]``, negatives ``[N, K]``, ids of words.

        With n-grams, the rows of ``input`` move by ``lr / n``, where n is how many rows a word has
        in the mean. Their sum, the vector, then moves by about ``lr``, as it does without them.
        """
        words, which = _numbered(centers)
        pieces, real = self._padded(words)  # [C, n] both
        rows, place = _numbered(pieces)
        near, near_place = _numbered(np.concatenate([contexts[:, None], negatives], axis=1))
        table = Tensor(self.input[rows], requires_grad=True)
        around = Tensor(self.output[near], requires_grad=True)

        v = F.embedding(place, table)  # [C, n, d]
        if pieces.shape[1] > 1:
            v = v * real[:, :, None].astype(table.dtype)
        v = F.embedding(which, v.sum(axis=1))  # [N, d]
        u = F.embedding(near_place[:, 0], around)  # [N, d]
        noise = F.embedding(near_place[:, 1:], around)  # [N, K, d]
        loss = F.skipgram_loss(v, u, noise) * float(len(centers))
        loss.backward()

        assert table.grad is not None
        assert around.grad is not None
        self.input[rows] -= lr / self._length.mean() * table.grad.data
        self.output[near] -= lr * around.grad.data
        return float(loss.item())

    def _padded(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pieces of words as a matrix, and which of its entries are there."""
        length = self._length[words][:, None]
        column = np.arange(length.max(initial=1))
        real = column < length
        at = self._start[words][:, None] + np.where(real, column, 0)
        return self._pieces[at], real

    # ------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one safetensors file: both tables, the counts, and the rest as JSON in it.

        Raises:
            OSError: it can't be written; what was there before stays.
        """
        arrays = {"input": self.input, "output": self.output, "counts": self.counts}
        about = {
            "kind": KIND, "words": self.words, "options": self.options, "losses": self.losses,
            "rng": self.rng.bit_generator.state,
        }  # fmt: skip
        return write_arrays(path, arrays, about)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Word2Vec:
        """Read what ``save`` wrote; ``fit`` then goes on as it would have.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it is something else, or damaged.
        """
        arrays, about = read_arrays(path, KIND)
        words = check_words(about.get("words"), path)
        model = cls.__new__(cls)
        try:
            model._restore(arrays, words, about)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged, or from another version: {error}") from None
        return model

    def _restore(
        self, arrays: dict[str, np.ndarray], words: list[str], about: dict[str, Any]
    ) -> None:
        options = dict(about["options"])
        if options["ngrams"] is not None:
            options["ngrams"] = tuple(options["ngrams"])
        self.input, self.output, counts = arrays["input"], arrays["output"], arrays["counts"]
        rows, dim = len(words) + (options["buckets"] if options["ngrams"] else 0), options["dim"]
        shapes = [each.shape for each in (self.input, self.output, counts)]
        if shapes != [(rows, dim), (len(words), dim), (len(words),)]:
            raise ValueError(f"{len(words)} words and options {options} do not fit arrays {shapes}")
        kinds = [each.dtype.kind for each in (self.input, self.output, counts)]
        if kinds != ["f", "f", "i"] or self.input.dtype != self.output.dtype:
            raise ValueError(
                f"its arrays are {self.input.dtype}, {self.output.dtype}, {counts.dtype}"
            )
        if len(set(words)) < len(words) or (counts < 1).any():
            raise ValueError("a word stands there twice, or never occurs")
        if not np.isfinite(self.input).all() or not np.isfinite(self.output).all():
            raise ValueError("a number in its tables is not finite")
        self._set(words, counts, options)
        self.losses = [float(loss) for loss in about["losses"]]
        self.rng = np.random.default_rng(0)
        self.rng.bit_generator.state = about["rng"]


def _numbered(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different ids, and the place of each id among them, in the shape of ``ids``."""
    different, place = np.unique(ids, return_inverse=True)
    return different, place.reshape(ids.shape)


@contextmanager
def _display(
    wanted: bool, model: Word2Vec, epochs: int
) -> Iterator[Callable[[float, float], None]]:
    """A progress bar with epoch, loss and time left; or nothing."""
    if not wanted:
        yield lambda done, loss: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("epoch {task.fields[epoch]} of {task.total:.0f}"),
        BarColumn(bar_width=None),
        TextColumn("loss [bold]{task.fields[loss]}[/]"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    with Progress(*columns, expand=True) as bar:
        task = bar.add_task("", total=epochs, epoch=1, loss="…")

        def show(done: float, loss: float) -> None:
            bar.update(task, completed=done, epoch=int(done) + 1, loss=f"{loss:.3f}")

        yield show
