"""The lessons as a book: ``make book``. Formulas become MathML, and nothing needs a network."""

from pathlib import Path

from docutils import nodes

from scratchlm.lessons.book import assemble, shown_number
from scratchlm.lessons.math import mathml, together

project = "scratchlm"
author = "the scratchlm authors"
project_copyright = author
language = "en"

extensions = ["myst_nb"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_dmath_allow_digits = False  # $3 and $4 are prices
suppress_warnings = ["mystnb.unknown_mime_type"]
nb_execution_mode = "off"  # `assemble` has run them, in parallel, and keeps what they showed
nb_merge_streams = True

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "scratchlm"
html_static_path = ["_static"]
html_extra_path = ["extra"]  # the notebooks and exercises that the pages offer
html_css_files = ["book.css"]
html_copy_source = False
html_show_search_summary = False  # it would fetch pages, which a browser refuses from a disk
exclude_patterns = ["_build", "conf.py", "extra", "pages/contents.md"]

assemble(Path(__file__).parent)


def visit_math(translator, node: nodes.Element) -> None:
    """Write a formula as MathML; one with a label has its number beside it."""
    block = isinstance(node, nodes.math_block)
    text = mathml(node.astext(), block=block)
    label = node.get("label")
    if block and label:
        link = f'<a class="number" href="#equation-{label}">{shown_number(label)}</a>'
        text = f'<div class="formula">{text}{link}</div>'
    translator.body.append(text)
    raise nodes.SkipNode


def keep_together(app, name, template, context, doctree) -> None:
    """A formula and the punctuation around it stay in one line."""
    if "body" in context:
        context["body"] = together(context["body"])


def setup(app) -> None:
    """Let Sphinx call it."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    app.config.html_math_renderer = "mathml"
    app.connect("html-page-context", keep_together)
