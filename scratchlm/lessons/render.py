"""A page in the terminal and as an HTML file."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from rich.cells import cell_len

from . import display, math
from .book import labeled, shown_number
from .index import Lesson
from .page import Cell

WIDTH = 72  # columns of a formula, so that it fits an ordinary terminal, indented

# a formula, and the label behind it if it has a number
_BLOCK = re.compile(
    r"^[ \t]*\$\$(.+?)\$\$(?:[ \t]*\((eq-[\d-]+)\))?[ \t]*$", re.DOTALL | re.MULTILINE
)
# a formula may go on in the next line, but not beyond a paragraph
_INLINE = re.compile(r"(?<![\\$`\w])\$(?!\s)((?:[^$\n]|\n(?!\s*\n))+?)(?<!\s)\$(?![\d$])")
_CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)


def terminal(lesson: Lesson, cells: list[Cell]) -> list[Any]:
    """What rich prints for a page."""
    from rich.padding import Padding

    shown: list[Any] = []
    for cell in labeled(cells, lesson):
        if cell.kind == "markdown":
            shown += markdown(cell.text)
            continue
        code = display.to_rich(display.Output("code", cell.text))
        shown.append(Padding(code, (0, 0, 1, 2)))
        shown += [Padding(display.to_rich(output), (0, 0, 1, 4)) for output in cell.outputs]
    return shown


def markdown(text: str) -> list[Any]:
    """Markdown for the terminal: formulas in Unicode, those on lines of their own drawn large."""
    from rich.markdown import Markdown
    from rich.padding import Padding
    from rich.table import Column, Table
    from rich.text import Text

    shown: list[Any] = []
    pieces = _BLOCK.split(text)  # text, formula, label or None, text, ...
    for index, piece in enumerate(pieces):
        if index % 3 == 1:
            drawn, label = _legible(piece, _drawn), pieces[index + 1]
            number = shown_number(label) if label else ""
            formula: Any = Text(drawn, style="bold cyan")
            if number and _columns(drawn) <= WIDTH - 12:  # there is room for it at the side
                line = Table.grid(Column(), Column(vertical="middle"), padding=(0, 4))
                line.add_row(formula, Text(number, style="dim"))
                formula = line
            elif number:
                formula.append(f"\n{number}", style="not bold dim")
            shown.append(Padding(formula, (0, 0, 1, 6)))
        elif index % 3 == 0 and piece.strip():
            parts = _CODE.split(piece)
            parts[::2] = [_INLINE.sub(_inline, part) for part in parts[::2]]
            shown.append(Padding(Markdown("".join(parts), code_theme="ansi_dark"), (0, 0, 1, 0)))
    return shown


def _drawn(latex: str) -> str:
    """A formula drawn large. One that is too wide is cut at its gaps, or else written in a line."""
    pieces = [latex]
    if _columns(math.display(latex)) > WIDTH and "\\begin" not in latex:
        pieces = re.split(r"\\q?quad", latex)
    drawn = [math.display(piece) for piece in pieces]
    drawn = [
        d if _columns(d) <= WIDTH else math.inline(p) for d, p in zip(drawn, pieces, strict=True)
    ]
    return "\n\n".join(drawn)


def _columns(text: str) -> int:
    return max(map(cell_len, text.splitlines()), default=0)


def _inline(match: re.Match[str]) -> str:
    text = _legible(match[1], math.inline)
    return re.sub(
        r"([*_\[\]<>`|\\])", r"\\\1", text
    )  # it stands in Markdown: not emphasis, not links


def _legible(latex: str, convert: Any) -> str:
    """The formula converted, or as it stands if the converter does not know it."""
    try:
        return str(convert(latex))
    except Exception:  # any formula is better read raw than not at all
        return latex.strip()


def page(lesson: Lesson, cells: list[Cell]) -> str:
    """One HTML file that needs nothing else: formulas are MathML, figures are inside it."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin
    from pygments.formatters import HtmlFormatter

    def formula(latex: str, options: dict[str, Any]) -> str:
        block = bool(options.get("display_mode"))
        return _legible(latex, lambda text: math.mathml(text, block=block))

    def highlighted(code: str, language: str, _: str) -> str:
        output = display.Output("code" if language in ("python", "py") else "text", code)
        return display.to_html(output)

    reader = MarkdownIt("commonmark", {"highlight": highlighted}).enable("table")
    reader.use(
        dollarmath_plugin, renderer=formula, double_inline=True, allow_digits=False,
        label_renderer=lambda label: f'<span class="number">{shown_number(label)}</span>',
    )  # fmt: skip
    body = []
    for cell in labeled(cells, lesson):
        if cell.kind == "markdown":
            body.append(math.together(reader.render(cell.text)))
            continue
        shown = [display.to_html(display.Output("code", cell.text))]
        shown += [f'<div class="output">{display.to_html(each)}</div>' for each in cell.outputs]
        body.append(f'<div class="cell">{"".join(shown)}</div>')
    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    return _PAGE.format(
        title=escape(f"{lesson.number:02} · {lesson.title}"),
        light=light,
        dark=dark,
        body="\n".join(body),
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; --faint: #8881; }}
body {{ font: 17px/1.6 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto 6rem;
  padding: 0 1rem; }}
h1, h2, h3 {{ line-height: 1.25; margin: 2.2em 0 .6em; }}
h2 {{ border-top: 1px solid var(--line); padding-top: 1em; }}
pre {{ overflow-x: auto; padding: .7em 1em; border-radius: 6px; background: var(--faint) !important;
  font: 13.5px/1.5 ui-monospace, Consolas, monospace; }}
code {{ font: .88em ui-monospace, Consolas, monospace; }}
.output {{ border-left: 3px solid var(--line); margin: .4em 0; padding-left: 1em;
  overflow-x: auto; }}
.output pre {{ background: none !important; padding-left: 0; }}
table {{ border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto; }}
caption {{ text-align: left; font-weight: 600; padding-bottom: .3em; }}
th, td {{ border: 1px solid var(--line); padding: .25em .7em; text-align: left; }}
math {{
  font-family: "STIX Two Math", "Cambria Math", "Latin Modern Math", "TeX Gyre Termes Math",
    "DejaVu Math TeX Gyre", "Noto Sans Math", math;
}}
.math.block {{ display: flex; flex-direction: row-reverse; align-items: center; gap: 1em; }}
.math.block > math, .math.block > .pieces {{ flex: 1 1 auto; min-width: 0; }}
.number {{ flex: none; opacity: .6; }}
math[display=block], .pieces {{
  margin: 1em 0; padding: .3em 0; font-size: 1.15em; overflow: auto hidden;
}}
math[display=block] mtable {{ math-style: normal; }}
mtd[columnalign=right] {{ text-align: -webkit-right; padding-right: 0; }}
mtd[columnalign=left] {{ text-align: -webkit-left; padding-left: 0; }}
.pieces {{ text-align: center; line-height: 1.6; }}
.pieces > span {{ display: inline-block; }}
.pieces math {{ padding-block: .2em; }}
.together {{ white-space: nowrap; }}
@media (max-width: 30em) {{
  math[display=block], .pieces {{ font-size: 1em; }}
  .slider .frames {{ overflow-x: auto; }}
  img.figure {{ --least: .36; }}
}}
img.figure {{ background: white; border-radius: 6px; }}
{light}
@media (prefers-color-scheme: dark) {{ {dark} }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
