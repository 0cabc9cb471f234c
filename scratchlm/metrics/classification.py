"""Right and wrong, counted by class: accuracy, precision, recall, F1, the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

AVERAGES = ("binary", "micro", "macro", "weighted", None)


class Scores(NamedTuple):
    """Precision, recall, F1, and the support: how many there truly are.

    Numbers after averaging, else arrays with one entry for each class.
    """

    precision: Any
    recall: Any
    f1: Any
    support: Any


def accuracy(y_true: Sequence[Any], y_pred: Sequence[Any]) -> float:
    """The share of predictions that are right.

    Raises:
        ValueError: lengths differ, nothing to count.
    """
    true, pred = _pair(y_true, y_pred, "accuracy")
    return float((true == pred).mean())


def confusion_matrix(
    y_true: Sequence[Any], y_pred: Sequence[Any], *, labels: Sequence[Any] | None = None
) -> np.ndarray:
    """``C[i, j]``: how many of class i were taken for class j. int64, (classes, classes).

    Rows and columns are the ``labels`` in the order given, or all that occur, sorted. What is of
    another class, or was taken for one, is left out.

    Raises:
        ValueError: lengths differ, nothing to count, a label named twice, none of them in y_true.
        TypeError: labels of kinds that can't be sorted together.
    """
    true, pred = _pair(y_true, y_pred, "confusion_matrix")
    names = _labels(true, pred, labels, "confusion_matrix")
    if labels is not None and not np.isin(true, names).any():
        raise ValueError(f"confusion_matrix: none of the labels {list(names)} is in y_true")
    place = {name: i for i, name in enumerate(names.tolist())}
    matrix = np.zeros((len(names), len(names)), np.int64)
    for t, p in zip(true.tolist(), pred.tolist(), strict=True):
        if t in place and p in place:
            matrix[place[t], place[p]] += 1
    return matrix


def precision_recall_f1(
    y_true: Sequence[Any],
    y_pred: Sequence[Any],
    *,
    average: str | None = "binary",
    labels: Sequence[Any] | None = None,
    positive: Any = 1,
    zero_division: float = 0.0,
) -> Scores:
    """``P = tp / predicted``, ``R = tp / true``, ``F1 = 2 P R / (P + R)``.

    Args:
        y_true: (n,) the true classes: numbers or strings.
        y_pred: (n,) the predicted ones.
        average: ``"binary"``: of the class ``positive``. ``None``: arrays, one entry for each
            label. ``"macro"``: their plain mean. ``"weighted"``: their mean weighted by support.
            ``"micro"``: the counts of all labels are added up first; over all classes that is the
            accuracy, three times.
        labels: those that count, in this order; all that occur, sorted, if None.
        positive: the class that ``"binary"`` looks at. It may be absent: then its recall is 0/0.
        zero_division: what 0/0 is: a precision where nothing was predicted, a recall where nothing
            is there, an F1 where both hold. ``nan`` leaves such classes out of the averages.

    In counts, ``F1 = 2 tp / (predicted + true)``. "macro" takes the F1 of each class first and then
    their mean; the F1 of the mean precision and the mean recall is another number.

    Raises:
        ValueError: lengths differ, nothing to count, unknown average, more than two classes for
            "binary".

    Source: van Rijsbergen 1979, ch. 7 (E = 1 - F); Lewis & Gale 1994 (F).
    """
    what = "precision_recall_f1"
    true, pred = _pair(y_true, y_pred, what)
    if average not in AVERAGES:
        raise ValueError(f"{what}: average={average!r} is none of {', '.join(map(repr, AVERAGES))}")
    if average == "binary":
        classes = set(true.tolist()) | set(pred.tolist())
        if len(classes | {positive}) > 2:
            raise ValueError(
                f"{what}: average='binary' is for two classes, one of them positive={positive!r}, "
                f"but there are {_some(classes)}; choose 'micro', 'macro', 'weighted' or None"
            )
        names = [positive]
    else:
        names = _labels(true, pred, labels, what).tolist()
    hits = np.array([((true == c) & (pred == c)).sum() for c in names], np.float64)
    predicted = np.array([(pred == c).sum() for c in names], np.float64)
    support = np.array([(true == c).sum() for c in names], np.float64)
    return scores(hits, predicted, support, average=average, zero_division=zero_division)


def precision(y_true: Sequence[Any], y_pred: Sequence[Any], **options: Any) -> Any:
    """Of what was called so, how much is so; options as :func:`precision_recall_f1`."""
    return precision_recall_f1(y_true, y_pred, **options).precision


def recall(y_true: Sequence[Any], y_pred: Sequence[Any], **options: Any) -> Any:
    """Of what is so, how much was called so; options as :func:`precision_recall_f1`."""
    return precision_recall_f1(y_true, y_pred, **options).recall


def f1(y_true: Sequence[Any], y_pred: Sequence[Any], **options: Any) -> Any:
    """The harmonic mean of precision and recall; options as :func:`precision_recall_f1`."""
    return precision_recall_f1(y_true, y_pred, **options).f1


def scores(
    hits: np.ndarray,
    predicted: np.ndarray,
    support: np.ndarray,
    *,
    average: str | None,
    zero_division: float = 0.0,
) -> Scores:
    """Precision, recall and F1 of counts by class, (classes,) each, averaged as asked."""
    if not (zero_division in (0, 1) or np.isnan(zero_division)):
        raise ValueError(f"zero_division is 0, 1 or nan, not {zero_division}")
    total = support.sum()
    if average == "micro":
        hits, predicted, support = (a.sum(keepdims=True) for a in (hits, predicted, support))
    p = _divide(hits, predicted, zero_division)
    r = _divide(hits, support, zero_division)
    f = _divide(2 * hits, predicted + support, zero_division)
    if average is None:
        return Scores(p, r, f, support.astype(np.int64))
    weights = support if average == "weighted" else np.ones_like(support)
    means = [_mean(a, weights, zero_division) for a in (p, r, f)]
    return Scores(means[0], means[1], means[2], int(total))


def _divide(a: np.ndarray, b: np.ndarray, zero_division: float) -> np.ndarray:
    return np.where(b == 0, zero_division, a / np.where(b == 0, 1, b))


def _mean(values: np.ndarray, weights: np.ndarray, zero_division: float) -> float:
    known = ~np.isnan(values)
    values, weights = values[known], weights[known]
    if not values.size:
        return float(zero_division)
    if weights.sum() == 0:  # no class is truly there
        weights = np.ones_like(weights)
    return float((values * weights).sum() / weights.sum())


def _pair(y_true: Any, y_pred: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    true, pred = np.asarray(y_true), np.asarray(y_pred)
    if true.ndim != 1 or pred.ndim != 1 or len(true) != len(pred):
        raise ValueError(
            f"{what}: y_true has shape {true.shape} and y_pred {pred.shape}; they must be two "
            "lists of one length, with one class for each sample (of logits, take the argmax)"
        )
    if not len(true):
        raise ValueError(f"{what}: y_true and y_pred are empty: there is nothing to count")
    for name, array in (("y_true", true), ("y_pred", pred)):
        if array.dtype.kind == "f" and not np.equal(array, np.floor(array)).all():
            raise ValueError(
                f"{what}: {name} holds fractions such as {array[array != np.floor(array)][0]:g}, "
                "and classes are whole numbers or names; of probabilities, take the argmax"
            )
    if (true.dtype.kind in "US") != (pred.dtype.kind in "US"):
        raise TypeError(
            f"{what}: y_true holds {true.dtype} and y_pred {pred.dtype}: no class is in both"
        )
    return true, pred


def _labels(
    true: np.ndarray, pred: np.ndarray, labels: Sequence[Any] | None, what: str
) -> np.ndarray:
    if labels is None:
        return np.unique(np.concatenate([true, pred]))
    names = np.asarray(labels)
    if names.ndim != 1 or not len(names) or len(set(names.tolist())) < len(names):
        raise ValueError(f"{what}: labels={list(labels)!r} must be a list of different classes")
    return names


def _some(classes: set[Any]) -> str:
    names = sorted(classes, key=str)
    return ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")
