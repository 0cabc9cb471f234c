"""ROUGE: how much of a reference stands in a summary, equal to rouge-score's numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from .classification import Scores
from .translation import ngrams

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def rouge(
    prediction: str,
    references: str | Sequence[str],
    *,
    kinds: Sequence[str] = KINDS,
    tokenize: Callable[[str], Sequence[str]] | None = None,
    stem: Callable[[str], str] | None = None,
) -> dict[str, Scores]:
    """Precision, recall and F1 of what prediction and reference share, for each kind; 0 to 1.

    ``rouge1`` to ``rouge9``: n-grams, each counted as often as in the text that has it less.
    ``rougeL``: the longest common subsequence, over the whole text. ``rougeLsum``: for each line of
    the reference the words in its longest common subsequence with *some* line of the prediction;
    each word of the prediction counts once.

    Args:
        prediction: the summary.
        references: one text or several; of several, the one with the best F1 counts.
        kinds: which of them.
        tokenize: a function from a text to its tokens. By default lower-case runs of a to z and
            0 to 9, **all else is dropped: a Chinese text has no token**, and scores 0. For Chinese,
            ``tokenize=list`` takes characters.
        stem: a function from a word to its stem, such as ``nltk.stem.PorterStemmer().stem``; the
            default tokenizer applies it to words of more than three letters.

    The support is the number of n-grams, or tokens, of the reference.

    Raises:
        ValueError: unknown kind, no reference; ``stem`` beside ``tokenize``.
        TypeError: a text is no str.

    Source: Lin 2004, §2 (n-grams), §3.1 and §3.2 (subsequences); the clipping of rougeLsum is that
    of the ROUGE 1.5.5 program.
    """
    if tokenize is not None and stem is not None:
        raise ValueError("rouge: stem is for the default tokenizer; stem inside tokenize instead")
    for kind in kinds:
        if not (re.fullmatch("rouge[1-9]", kind) or kind in KINDS):
            raise ValueError(f"rouge: kind {kind!r} is none of rouge1 … rouge9, rougeL, rougeLsum")
    targets = [references] if isinstance(references, str) else list(references)
    if not targets:
        raise ValueError("rouge: there is no reference, so there is nothing to compare with")
    for text in (prediction, *targets):
        if not isinstance(text, str):
            raise TypeError(f"rouge: texts are str, not {type(text).__name__}")

    def split(text: str) -> list[str]:
        return _words(text, stem) if tokenize is None else list(tokenize(text))

    score = {kind: _scorer(kind) for kind in kinds}
    return {
        kind: max((score[kind](prediction, t, split) for t in targets), key=lambda s: s.f1)
        for kind in kinds
    }


Split = Callable[[str], list[str]]


def _scorer(kind: str) -> Callable[[str, str, Split], Scores]:
    if kind == "rougeL":
        return _rouge_l
    if kind == "rougeLsum":
        return _rouge_l_sum
    return lambda prediction, target, split: _rouge_n(prediction, target, split, int(kind[5:]))


def _rouge_n(prediction: str, target: str, split: Split, n: int) -> Scores:
    mine, wanted = ngrams(split(prediction), n), ngrams(split(target), n)
    return _scores(sum((mine & wanted).values()), sum(mine.values()), sum(wanted.values()))


def _rouge_l(prediction: str, target: str, split: Split) -> Scores:
    mine, wanted = split(prediction), split(target)
    return _scores(lcs_table(wanted, mine)[-1][-1], len(mine), len(wanted))


def _rouge_l_sum(prediction: str, target: str, split: Split) -> Scores:
    mine, wanted = ([split(s) for s in text.split("\n") if s] for text in (prediction, target))
    left = Counter(token for sentence in mine for token in sentence)
    common = 0
    for sentence in wanted:
        places = set().union(*(common_places(sentence, other) for other in mine))
        for token in (sentence[i] for i in sorted(places)):
            if left[token]:  # each of the prediction's words is used up once
                left[token] -= 1
                common += 1
    return _scores(common, sum(map(len, mine)), sum(map(len, wanted)))


def lcs_table(a: Sequence[str], b: Sequence[str]) -> list[list[int]]:
    """``t[i][j]``: the length of the longest common subsequence of ``a[:i]`` and ``b[:j]``."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            longer = max(table[i][j + 1], table[i + 1][j])
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else longer
    return table


def common_places(a: Sequence[str], b: Sequence[str]) -> set[int]:
    """The places in ``a`` of one longest common subsequence with ``b``."""
    table = lcs_table(a, b)
    places, i, j = set(), len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            places.add(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return places


def _words(text: str, stem: Callable[[str], str] | None) -> list[str]:
    words = re.findall("[a-z0-9]+", text.lower())
    if stem is None:
        return words
    stems = (stem(word) if len(word) > 3 else word for word in words)
    return [word for word in stems if re.fullmatch("[a-z0-9]+", word)]


def _scores(common: int, mine: int, wanted: int) -> Scores:
    """An empty text shares nothing: all scores 0."""
    f = 2 * common / (mine + wanted) if common else 0.0
    return Scores(common / max(mine, 1), common / max(wanted, 1), f, wanted)
