import shutil
from pathlib import Path

import pytest

pytest.register_assert_rewrite("lesson_proofs")

from scratchlm.lessons.index import read_index  # noqa: E402

SAMPLE = Path(__file__).with_name("sample")


@pytest.fixture
def sample(tmp_path, monkeypatch):
    """A copy of the sample lesson, which may be spoilt, as the only lessons there are."""
    root = tmp_path / "lessons"
    shutil.copytree(SAMPLE, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("SCRATCHLM_LESSONS", str(root))
    monkeypatch.setenv("SCRATCHLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCRATCHLM_CACHE", str(tmp_path / "cache"))
    return read_index(root)[0]


@pytest.fixture
def edit(sample):
    """Replace text in a file of the sample: ``edit("check.py", "old", "new")``."""

    def replace(name, old, new):
        file = sample.folder / name
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf-8")

    return replace
