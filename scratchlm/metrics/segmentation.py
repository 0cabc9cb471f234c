"""Words in a text without blanks: right means right first and last character."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from .classification import Scores, scores


def word_scores(
    y_true: Sequence[Sequence[str]],
    y_pred: Sequence[Sequence[str]],
    *,
    zero_division: float = 0.0,
) -> Scores:
    """Precision, recall and F1 over words.

    A word that was found counts if a true word begins and ends at the same places.

    Args:
        y_true: sentences, each a list of words.
        y_pred: the same sentences, cut by a program.
        zero_division: what 0/0 is: 0 or 1.

    Raises:
        ValueError: sentences differ in number or in their characters, or none are given.
        TypeError: a sentence is no list of words.

    Source: Sproat & Emerson 2003 (the first bakeoff of Chinese segmentation), §3.
    """
    if len(y_true) != len(y_pred):
        raise ValueError(f"word_scores: {len(y_true)} true and {len(y_pred)} segmented sentences")
    if not len(y_true):
        raise ValueError("word_scores: there is no sentence, so there is nothing to count")
    hits = predicted = support = 0
    for i, (true, pred) in enumerate(zip(y_true, y_pred, strict=True)):
        if isinstance(true, str) or isinstance(pred, str):
            raise TypeError(f"word_scores: sentence {i} is a string; give a list of its words")
        if "".join(true) != "".join(pred):
            raise ValueError(
                f"word_scores: sentence {i} is {''.join(true)!r:.40} and {''.join(pred)!r:.40}: "
                "both must have the same characters, or places cannot be compared"
            )
        spans = [set(pairwise(accumulate(map(len, words), initial=0))) for words in (true, pred)]
        hits += len(spans[0] & spans[1])
        support += len(true)
        predicted += len(pred)
    return scores(
        *(np.array([float(n)]) for n in (hits, predicted, support)),
        average="micro",
        zero_division=zero_division,
    )
