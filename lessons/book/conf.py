"""The lessons as a book: ``make book``. Pages are run; formulas become MathML, with no network."""

import shutil
from pathlib import Path

from docutils import nodes

from scratchlm.lessons import all_lessons
from scratchlm.lessons.math import mathml

project = "scratchlm"
author = "the scratchlm authors"
project_copyright = author
language = "en"

extensions = ["myst_nb"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_dmath_allow_digits = False  # $3 and $4 are prices
suppress_warnings = ["mystnb.unknown_mime_type"]
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

html_theme = "furo"
html_title = "scratchlm"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_copy_source = False
exclude_patterns = ["_build", "conf.py", "pages/contents.md"]


def collect(pages: Path) -> None:
    """Put the pages where Sphinx looks for them, and their table of contents for index.md."""
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir()
    parts: dict[str, list[str]] = {}
    for lesson in all_lessons():
        if lesson.complete:
            shutil.copyfile(lesson.folder / "lesson.py", pages / f"{lesson.name}.py")
            parts.setdefault(lesson.part, []).append(f"/pages/{lesson.name}")
    trees = [
        f"```{{toctree}}\n:caption: {part}\n:maxdepth: 1\n\n{chr(10).join(names)}\n```"
        for part, names in parts.items()
    ]
    (pages / "contents.md").write_text("\n\n".join(trees) + "\n", encoding="utf-8")


collect(Path(__file__).with_name("pages"))


def visit_math(translator, node: nodes.Element) -> None:
    """Write a formula as MathML."""
    block = isinstance(node, nodes.math_block)
    translator.body.append(mathml(node.astext(), block=block))
    raise nodes.SkipNode


def setup(app) -> None:
    """Let Sphinx call it."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    app.config.html_math_renderer = "mathml"
