"""Words in a text that has no blanks between them (分词): by longest match, and by the best path.

A dictionary makes a graph of a sentence: a node at each place between two characters, an edge for
each word of the dictionary that stands there. A segmentation is a path from the first node to the
last. Maximum match walks it greedily; with a probability for each word, dynamic programming finds
the most probable path (Viterbi 1967), and sums over all of them for what a word is worth.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

# As jieba has it: what the dictionary is asked about, and what is a blank. U+4E00 to U+9FD5 are the
# ideographs of Unicode 8.
_RUN = re.compile(r"([\u4E00-\u9FD5a-zA-Z0-9+#&\._%\-]+)")
_BLANK = re.compile(r"(\r\n|\s)")
_ALONE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def maximum_match(
    text: str,
    words: Collection[str],
    *,
    direction: Literal["forward", "backward", "both"] = "forward",
    longest: int | None = None,
) -> list[str]:
    """The longest word that fits, then the longest that fits next to it; else a single character.

    Args:
        text: any text.
        words: the dictionary: a set, a dict, a :class:`Lexicon`.
        direction: ``"forward"`` from the beginning; ``"backward"`` from the end, which is better in
            Chinese, where the head of a phrase stands last; ``"both"`` takes the one of fewer
            words, then of fewer single characters, then backward.
        longest: no word is longer; by default as long as the longest of ``words``.

    Raises:
        ValueError: no such direction.

    Source: Liang 1987 (查词典法); Huang & Zhao 2007 for what it misses.
    """
    if longest is None:
        longest = words.longest if isinstance(words, Lexicon) else max(map(len, words), default=1)
    if direction == "forward":
        found, start = [], 0
        while start < len(text):
            stop = min(len(text), start + longest)
            while stop > start + 1 and text[start:stop] not in words:
                stop -= 1
            found.append(text[start:stop])
            start = stop
        return found
    if direction == "backward":
        found, stop = [], len(text)
        while stop > 0:
            start = max(0, stop - longest)
            while start < stop - 1 and text[start:stop] not in words:
                start += 1
            found.append(text[start:stop])
            stop = start
        return found[::-1]
    if direction != "both":
        raise ValueError(
            f"maximum_match: direction={direction!r} is none of 'forward', 'backward', 'both'"
        )
    forward = maximum_match(text, words, direction="forward", longest=longest)
    backward = maximum_match(text, words, direction="backward", longest=longest)
    cost = lambda found: (len(found), sum(len(word) == 1 for word in found))
    return forward if cost(forward) < cost(backward) else backward


class Lexicon:
    """Words and how often they occur: a unigram model, ``p(word) = count / total``.

    Args:
        counts: word → how often it occurs; what occurs 0 times is no word.
        total: of all words; by default the sum of the counts.

    Raises:
        ValueError: no words, the empty word, a count below 0, a total below that of a word.
    """

    def __init__(self, counts: Mapping[str, int], *, total: int | None = None) -> None:
        for word, count in counts.items():
            if not word or count < 0:
                raise ValueError(f"Lexicon: the word {word!r} cannot occur {count} times")
        self.counts = {word: count for word, count in counts.items() if count}
        if not self.counts:
            raise ValueError("Lexicon: there are no words")
        self.total = sum(self.counts.values()) if total is None else total
        if self.total < max(self.counts.values()):
            raise ValueError(f"Lexicon: total={total} is below the count of a word")
        self._log_total = math.log(self.total)
        self._longest: dict[str, int] = {}  # first character → length of the longest such word
        for word in self.counts:
            if len(word) > self._longest.get(word[0], 0):
                self._longest[word[0]] = len(word)
        self.longest = max(self._longest.values())

    def __len__(self) -> int:
        return len(self.counts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.counts)

    def __contains__(self, word: object) -> bool:
        return word in self.counts

    def __repr__(self) -> str:
        return f"Lexicon({len(self)} words, {self.total} occurrences)"

    @classmethod
    def from_words(cls, words: Iterable[str]) -> Lexicon:
        """Counted on a segmented text: its words, as often as they occur.

        Raises:
            TypeError: a single string, which would be cut into characters.
        """
        if isinstance(words, str):
            raise TypeError("Lexicon.from_words: needs a list of words, of a segmented text")
        return cls(Counter(words))

    @classmethod
    def from_file(cls, path: str | Path) -> Lexicon:
        """A dictionary as jieba has it: a word, its count, and what else may follow, a line each.

        Raises:
            OSError: it can't be read.
            ValueError: a line is something else.
        """
        counts: dict[str, int] = {}
        total = 0
        lines = Path(path).read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                word, count = line.strip().split(" ")[:2]
                counts[word] = int(count)
            except ValueError:
                raise ValueError(
                    f"{path}, line {number}: {line!r:.60} is no word and count, as in '你好 25'"
                ) from None
            total += counts[word]
        return cls(counts, total=total)

    @classmethod
    def jieba(cls) -> Lexicon:
        """The dictionary of jieba: 349,045 words, counted in 60 million.

        Only its file is read; the package itself is not imported.

        Raises:
            ModuleNotFoundError: jieba is not installed.
        """
        found = importlib.util.find_spec("jieba")
        if found is None or found.origin is None:
            raise ModuleNotFoundError(
                "Lexicon.jieba: its dictionary comes with the package jieba: "
                "python -m pip install 'scratchlm[chinese]'",
                name="jieba",
            )
        return cls.from_file(Path(found.origin).with_name("dict.txt"))

    def log_probability(self, word: str) -> float:
        """``ln(count / total)``; what is no word counts once."""
        return math.log(self.counts.get(word) or 1) - self._log_total

    def edges(self, text: str) -> list[list[int]]:
        """For each place in the text, where the words end that begin there, in rising order.

        Where none begins, the single character is one: there is a way through any text.
        """
        counts, longest = self.counts, self._longest
        out = []
        for start, character in enumerate(text):
            end = min(len(text), start + longest.get(character, 0))
            stops = [s for s in range(start + 1, end + 1) if text[start:s] in counts]
            out.append(stops or [start + 1])
        return out

    def best_path(self, text: str) -> tuple[list[str], float]:
        """The words of the most probable path, and its log-probability.

        From the end to the beginning, ``best[i] = max over j of ln p(text[i:j]) + best[j]``; of
        equal ones the longest word. As fast as there are edges.
        """
        best = [0.0] * (len(text) + 1)
        step = [0] * len(text)
        edges = self.edges(text)
        for i in range(len(text) - 1, -1, -1):
            best[i], step[i] = max((self.log_probability(text[i:j]) + best[j], j) for j in edges[i])
        found, i = [], 0
        while i < len(text):
            found.append(text[i : step[i]])
            i = step[i]
        return found, best[0]

    def cut(self, text: str) -> list[str]:
        """The words of any text; joined, they are the text. ``jieba.cut(text, HMM=False)``.

        Runs of Chinese, ASCII letters, digits and ``+ # & . _ % -`` go through ``best_path``;
        letters and digits in a row that no word of the dictionary holds stay together. All other
        characters, white space too, are words of their own.
        """
        out: list[str] = []
        for number, run in enumerate(_RUN.split(text)):
            if number % 2:
                letters = ""
                for word in self.best_path(run)[0]:
                    if word in _ALONE:
                        letters += word
                        continue
                    if letters:
                        out.append(letters)
                        letters = ""
                    out.append(word)
                if letters:
                    out.append(letters)
            else:
                for place, part in enumerate(_BLANK.split(run)):
                    out += [part] if place % 2 else part
        return out
