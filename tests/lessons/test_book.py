"""The HTML book, on the sample lesson."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[2] / "lessons" / "book"


@pytest.mark.slow
def test_book_is_built_with_results_and_without_a_network(sample, tmp_path):
    pytest.importorskip("myst_nb", reason="the book needs the dependency group `book`")
    book, out = tmp_path / "book", tmp_path / "out"
    shutil.copytree(BOOK, book, ignore=shutil.ignore_patterns("pages", "_build"))
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(book), str(out)],
        env={**os.environ, "SCRATCHLM_LESSONS": str(sample.root)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    text = (out / "pages" / "01_scale.html").read_text(encoding="utf-8")
    for piece in ("<mfrac>", "the hook is 0.5", 'alt="a line that rises to two"', "By hand"):
        assert piece in text
    assert "costs $3 and $4" in text
    for script in ("cdn.", "mathjax.js", "katex"):
        assert script not in text.lower()
    assert "Scaling" in (out / "index.html").read_text(encoding="utf-8")
