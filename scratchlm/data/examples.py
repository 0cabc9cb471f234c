"""Labelled examples, divided for training, validation and test without a leak."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from ..text.normalize import normalize


class Split(NamedTuple):
    """Three lists of examples, and what was left out."""

    train: list[Any]
    validation: list[Any]
    test: list[Any]
    duplicates: int  # occurrences of a text after its first
    contradictions: int  # occurrences of texts that came with two labels: all of them


def split_examples(
    examples: Iterable[Any],
    *,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    text: Callable[[Any], Any] = lambda example: example[0],
    label: Callable[[Any], Any] | None = lambda example: example[1],
) -> Split:
    """Divide examples such as ``(text, label)``: no text in two parts, each label in all of them.

    Real collections hold the same text many times. What is the same after normalisation (Unicode's
    NFKC, small letters, white space as one blank) is kept once, or a model would be praised for
    what it learned by heart. A text that came with two labels is left out altogether: nobody knows
    which of them is right. Then each label is shared out by itself, so that all parts have the
    labels in the same proportion, up to one example of each. The parts come shuffled.

    Args:
        examples: anything; the seed and their order decide where each goes.
        validation: share of what is left.
        test: share of what is left.
        seed: of the shuffle.
        text: of an example; a str, or a tuple of them.
        label: of an example; None: there are none.

    Raises:
        ValueError: shares below 0 or of more than all, a label that has no example for training.
        TypeError: a text that is no str.
    """
    if validation < 0 or test < 0 or not validation + test < 1:
        raise ValueError(
            f"split_examples: validation={validation} and test={test} must be 0 or more, and leave "
            "something for training"
        )
    examples = list(examples)
    first: dict[Any, int] = {}  # normalised text -> where it stands first
    labels: list[Any] = [None] * len(examples)
    occurrences: dict[int, int] = {}
    contradicted: set[int] = set()
    for i, example in enumerate(examples):
        at = first.setdefault(_key(text(example), i), i)
        occurrences[at] = occurrences.get(at, 0) + 1
        labels[i] = label(example) if label is not None else None
        if labels[i] != labels[at]:
            contradicted.add(at)
    by_label: dict[Any, list[int]] = {}
    for at in occurrences:
        if at not in contradicted:
            by_label.setdefault(labels[at], []).append(at)

    rng = np.random.default_rng(seed)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    seen = given_validation = given_test = 0
    for name, places in by_label.items():
        # rounding the running total, not each label, keeps the parts at their shares as a whole
        seen += len(places)
        n_validation = round(seen * validation) - given_validation
        n_test = round(seen * test) - given_test
        given_validation += n_validation
        given_test += n_test
        if len(places) <= n_validation + n_test:
            raise ValueError(
                f"split_examples: label {name!r} has {len(places)} different examples, which "
                "leaves none for training; give more, or smaller shares"
            )
        order = [places[i] for i in rng.permutation(len(places))]
        parts[1].extend(order[:n_validation])
        parts[2].extend(order[n_validation : n_validation + n_test])
        parts[0].extend(order[n_validation + n_test :])
    train, held_out, last = (
        [examples[part[i]] for i in rng.permutation(len(part))] for part in parts
    )
    repeated = sum(count - 1 for at, count in occurrences.items() if at not in contradicted)
    dropped = sum(occurrences[at] for at in contradicted)
    return Split(train, held_out, last, repeated, dropped)


def _key(text: Any, place: int) -> Any:
    """What is the same for texts that count as the same."""
    if isinstance(text, tuple) and text:
        return tuple(_key(part, place) for part in text)
    if not isinstance(text, str):
        raise TypeError(
            f"split_examples: the text of example {place} is a {type(text).__name__}; give a str, "
            "or a tuple of them, or say with text= how to get at it"
        )
    return " ".join(normalize(text, lowercase=True).split())
