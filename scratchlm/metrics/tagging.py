"""Entities in tagged sentences, found and scored as wholes, equal to seqeval's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .classification import Scores, scores

Span = tuple[str, int, int]  # type, first token, one past the last


def entities(tags: Sequence[str], *, strict: bool = False) -> list[Span]:
    """The entities of one sentence: ``["B-PER", "I-PER", "O"]`` has ``[("PER", 0, 2)]``.

    A tag is ``O`` or a letter, a dash and a type; a bare ``B`` has the type ``_``.

    By default every tag that is not ``O`` belongs to an entity, as in conlleval: ``I-X``
    after ``O``, or after another type, begins one. The letters are B (begins), I (inside), E (its
    end) and S (single). With ``strict`` the tags are IOB2: an entity is ``B-X`` and the ``I-X``
    right after it, and an ``I-X`` that follows neither is dropped.

    Raises:
        ValueError: an unknown tag; E or S with ``strict``.
        TypeError: one string where a list of tags belongs.

    Source: Tjong Kim Sang & De Meulder 2003; Ramshaw & Marcus 1995 (the tags).
    """
    if isinstance(tags, str):
        raise TypeError(
            f"entities: tags is the string {tags!r}; give a list with a tag for each token"
        )
    found: list[Span] = []
    letter, kind, first = "O", "", 0  # of the tag before, and where the open entity began
    for i, tag in enumerate([*tags, "O"]):
        now, now_kind = _parse(tag, i, strict)
        inside = now in "IE" and letter in "BI" and now_kind == kind
        if not inside:
            if letter != "O":
                found.append((kind, first, i))
            if strict and now == "I":
                now = "O"  # begun by nobody
            first = i
        letter, kind = now, now_kind
    return found


def entity_scores(
    y_true: Sequence[Sequence[str]],
    y_pred: Sequence[Sequence[str]],
    *,
    average: str | None = "micro",
    strict: bool = False,
    zero_division: float = 0.0,
) -> Scores | dict[str, Scores]:
    """Precision, recall and F1 over entities: right means right type, first and last token.

    Args:
        y_true: sentences, each a list of tags.
        y_pred: the same sentences, tagged by the model.
        average: ``"micro"``: entities of all types together. ``"macro"``, ``"weighted"``: the mean
            over types. ``None``: a dict with the scores of each type.
        strict: see :func:`entities`.
        zero_division: what 0/0 is: 0 or 1; also the result where there is no entity at all.

    Raises:
        ValueError: sentences differ in number or length, none are given, unknown tag or average.
        TypeError: a sentence is no list of tags.
    """
    if len(y_true) != len(y_pred):
        raise ValueError(f"entity_scores: {len(y_true)} true and {len(y_pred)} tagged sentences")
    if not len(y_true):
        raise ValueError("entity_scores: there is no sentence, so there is nothing to count")
    if average not in ("micro", "macro", "weighted", None):
        raise ValueError(
            f"entity_scores: average={average!r} is none of 'micro', 'macro', 'weighted', None"
        )
    true: set[tuple[Any, ...]] = set()
    pred: set[tuple[Any, ...]] = set()
    for i, (t, p) in enumerate(zip(y_true, y_pred, strict=True)):
        if len(t) != len(p):
            raise ValueError(
                f"entity_scores: sentence {i} has {len(t)} true tags and {len(p)} predicted ones; "
                "give one for each token, without padding"
            )
        true |= {(*entity, i) for entity in entities(t, strict=strict)}
        pred |= {(*entity, i) for entity in entities(p, strict=strict)}
    kinds = sorted({entity[0] for entity in true | pred})
    hits, predicted, support = (
        np.array([sum(entity[0] == kind for entity in group) for kind in kinds], np.float64)
        for group in (true & pred, pred, true)
    )
    if average is None:
        by_kind = scores(hits, predicted, support, average=None, zero_division=zero_division)
        return {
            kind: Scores(float(p), float(r), float(f), int(n))
            for kind, p, r, f, n in zip(kinds, *by_kind, strict=True)
        }
    if average == "weighted" and not support.sum():  # nothing to weight with
        empty = zero_division if not predicted.sum() else 0.0
        return Scores(empty, zero_division, empty, 0)
    return scores(hits, predicted, support, average=average, zero_division=zero_division)


def entity_f1(
    y_true: Sequence[Sequence[str]],
    y_pred: Sequence[Sequence[str]],
    *,
    average: str = "micro",
    strict: bool = False,
    zero_division: float = 0.0,
) -> float:
    """The F1 of :func:`entity_scores`."""
    if average is None:
        raise ValueError("entity_f1: for the F1 of each type call entity_scores(..., average=None)")
    found = entity_scores(
        y_true, y_pred, average=average, strict=strict, zero_division=zero_division
    )
    assert isinstance(found, Scores)
    return found.f1


def _parse(tag: str, place: int, strict: bool) -> tuple[str, str]:
    letters = "BI" if strict else "BIES"
    if tag == "O":
        return "O", ""
    if tag[:1] and tag[0] in letters and tag[1:2] in ("", "-"):
        return tag[0], tag[2:] or "_"
    raise ValueError(
        f"entities: tag {tag!r} at token {place} is neither 'O' nor one of "
        + ", ".join(f"'{letter}-TYPE'" for letter in letters)
        + (" (strict: IOB2)" if strict else "")
    )
