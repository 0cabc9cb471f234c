"""What a lesson page shows: its card, figures, tables, and code pulled from the source by symbol.

The same page runs in three places. As plain Python, tables and code are printed and figures are
named (no window opens); in a notebook everything is rendered; and ``scratchlm read`` collects it.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Output:
    """Something a cell has shown: ``kind`` is text, code, table, figure, slider or markdown."""

    kind: str
    text: str = ""  # the text, the code, the Markdown; the title of a table; a figure's alt text
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    png: bytes = b""
    frames: list[Output] = field(default_factory=list)  # a slider's figures, one for each value
    value: str = ""  # the value that a frame belongs to
    start: int = 0  # the frame that is seen first


# `scratchlm read` puts a function here while it runs a page
collector: Callable[[Output], None] | None = None


def card(number: int) -> None:
    """The card of lesson ``number``: what it needs, how long it takes, the commands that run it."""
    from .index import find_lesson

    lesson = find_lesson(number)
    needs = ", ".join(f"{n:02}" for n in lesson.prerequisites) or "none"
    rows = [
        ["before it", needs],
        ["time", f"{lesson.minutes} minutes"],
        ["difficulty", "★" * lesson.difficulty + "☆" * (5 - lesson.difficulty)],
        ["documents", ", ".join(lesson.documents) or "none"],
        ["you write", ", ".join(lesson.exercises) or "nothing"],
        ["read it", f"scratchlm read {number} --html"],
        ["do it", f"scratchlm start {number}, then scratchlm check {number} --watch"],
    ]
    table(rows, title=f"{number:02} · {lesson.title} · {lesson.title_zh}")


def figure(
    rows: int = 1, columns: int = 1, *, width: float = 6.4, height: float = 4.0, **options: Any
) -> Any:
    """``(figure, axes)`` as matplotlib's ``subplots`` gives, without pyplot and its windows.

    ``width`` and ``height`` are inches of the whole figure; ``options`` go to ``subplots``.
    """
    from matplotlib.figure import Figure

    new = Figure(figsize=(width, height), layout="constrained")
    return new, new.subplots(rows, columns, **options)


def show(picture: Any, *, alt: str) -> None:
    """Show a matplotlib Figure (or the figure of an Axes). ``alt`` says in words what it shows.

    Raises:
        ValueError: ``alt`` is empty.
    """
    _emit(_drawn(picture, alt, "show"))


def slider(
    values: Sequence[Any],
    draw: Callable[[Any], Any],
    *,
    label: str,
    alt: str | Callable[[Any], str],
    start: int = 0,
    digits: int = 4,
) -> None:
    """A figure with a slider: ``draw(value)`` makes the Figure (or Axes) of each of the values.

    In a notebook and in the book all figures are drawn beforehand, and the slider chooses which
    one is seen: no server, and without JavaScript it is the one at index ``start``, which is also
    all that plain Python draws. ``label`` names the value; ``alt`` is the text of every figure, or
    a function of the value.

    Raises:
        ValueError: no values, ``start`` is not the index of one, or a text is empty.
    """
    if not label.strip():
        raise ValueError("slider: label is empty; name what the slider moves")
    if not 0 <= start < len(values):
        raise ValueError(f"slider: start={start} is no index of the {len(values)} values")
    everything = _is_seen()
    frames = []
    for value in values if everything else [values[start]]:
        frame = _drawn(draw(value), alt(value) if callable(alt) else alt, "slider")
        frame.value = _cell(value, digits)
        frames.append(frame)
    _emit(Output("slider", label, frames=frames, start=start if everything else 0))


def _drawn(picture: Any, alt: str, name: str) -> Output:
    """The figure as a PNG with its words. Plain Python shows the words alone, and draws nothing."""
    if not alt.strip():
        raise ValueError(f"{name}: alt is empty; say in words what the figure shows")
    from ..plot import legible

    drawn = picture.get_figure() if hasattr(picture, "get_figure") else picture
    buffer = io.BytesIO()
    if _is_seen():
        legible(drawn)  # Chinese in a title or a label
        drawn.savefig(buffer, format="png", dpi=150)
    if "matplotlib.pyplot" in sys.modules:  # or a notebook would show it again
        sys.modules["matplotlib.pyplot"].close(drawn)
    return Output("figure", alt, png=buffer.getvalue())


def source(symbol: Any, inner: str | None = None, *, docstring: bool = False) -> None:
    """Show the code of a function or class, taken from the file it stands in.

    ``inner`` names a function inside it, such as ``"vjp"``; the docstring is left out unless asked
    for.

    Raises:
        ValueError: there is no ``inner`` in it.
    """
    symbol = inspect.unwrap(symbol)
    code = textwrap.dedent(inspect.getsource(symbol))
    tree = ast.parse(code)
    node: Any = tree.body[0]
    if inner is not None:
        found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == inner]
        if not found:
            raise ValueError(f"source: there is no {inner!r} in {symbol.__qualname__}")
        node = found[0]
    lines = code.splitlines()
    first = node.lineno if inner else 1
    keep = lines[first - 1 : node.end_lineno]
    has_docstring = ast.get_docstring(node, clean=False) is not None and len(node.body) > 1
    if has_docstring and not docstring:
        text = node.body[0]
        keep = lines[first - 1 : text.lineno - 1] + lines[text.end_lineno : node.end_lineno]
    _emit(Output("code", textwrap.dedent("\n".join(keep))))


def table(
    rows: Iterable[Sequence[Any]], columns: Sequence[str] = (), *, title: str = "", digits: int = 4
) -> None:
    """Show rows of cells. Floats get ``digits`` significant digits; an array is a table by itself.

    Raises:
        ValueError: a row has not as many cells as there are columns.
    """
    cells = [[_cell(value, digits) for value in row] for row in rows]
    width = len(columns) or (len(cells[0]) if cells else 0)
    for number, row in enumerate(cells):
        if len(row) != width:
            raise ValueError(f"table: row {number} has {len(row)} cells, {width} are expected")
    _emit(Output("table", title, columns=list(columns), rows=cells))


def _cell(value: Any, digits: int) -> str:
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------- where it goes


def _emit(output: Output) -> None:
    if collector is not None:
        collector(output)
    elif _in_notebook():
        from IPython.display import HTML, display

        display(HTML(to_html(output)))
    else:
        from rich.console import Console

        console = Console()
        if not console.is_terminal:  # a file has room: code keeps its lines
            longest = max(map(len, output.text.splitlines()), default=0)
            console.width = max(console.width, longest)
        console.print(to_rich(output))


def _is_seen() -> bool:
    """Whether figures will be looked at; as plain Python, a page only names them."""
    return collector is not None or _in_notebook()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def to_rich(output: Output) -> Any:
    """The output as rich shows it in a terminal."""
    from rich.syntax import Syntax
    from rich.table import Table
    from rich.text import Text

    if output.kind == "code":
        return Syntax(
            output.text, "python", theme="ansi_dark", background_color="default", word_wrap=True
        )
    if output.kind == "figure":
        return Text(f"[figure] {output.text}", style="italic cyan")
    if output.kind == "slider":
        frame = output.frames[output.start]
        moved = f" ({len(output.frames)} values with --html)" if len(output.frames) > 1 else ""
        words = f"[figure] {output.text} = {frame.value}{moved}: {frame.text}"
        return Text(words, style="italic cyan")
    if output.kind == "table":
        grid = Table(
            title=output.text or None, title_justify="left", show_header=bool(output.columns)
        )
        for index in range(len(output.columns) or len(output.rows[0]) if output.rows else 0):
            grid.add_column(output.columns[index] if output.columns else "", overflow="fold")
        for row in output.rows:
            grid.add_row(*(Text(cell) for cell in row))
        return grid
    return Text(output.text)


def to_html(output: Output) -> str:
    """The output as HTML."""
    from html import escape

    if output.kind == "figure":
        return _image(output)
    if output.kind == "slider":
        now = escape(output.frames[output.start].value, quote=True)
        frames = [_image(f, hidden=i != output.start) for i, f in enumerate(output.frames)]
        return _SLIDER.format(
            label=escape(output.text),
            last=len(frames) - 1,
            start=output.start,
            now=now,
            frames="".join(frames),
        )
    if output.kind == "table":
        caption = f"<caption>{escape(output.text)}</caption>" if output.text else ""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in output.columns)
        head = f"<thead><tr>{head}</tr></thead>" if head else ""
        body = "".join(f"<tr>{''.join(map(_data, row))}</tr>" for row in output.rows)
        return f"<table>{caption}{head}<tbody>{body}</tbody></table>"
    if output.kind == "code":
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer

        return highlight(output.text, PythonLexer(), HtmlFormatter(noclasses=False))
    return f"<pre>{escape(output.text)}</pre>"


def _data(cell: str) -> str:
    """A cell of a table; a browser would break the number 1e-05 behind its hyphen, and the sizes
    8 × 10 × 10 or (2, 3) at their blanks.
    """
    from html import escape

    whole = re.fullmatch(r"[+-]?[\d.]+e[+-]?\d+|\d+( × \d+)+|\([\d, ]+\)", cell)
    unbroken = ' style="white-space: nowrap"' if whole else ""
    return f"<td{unbroken}>{escape(cell)}</td>"


def _image(figure: Output, *, hidden: bool = False) -> str:
    import base64
    from html import escape

    data = base64.b64encode(figure.png).decode()
    words = escape(figure.text, quote=True)
    value = f' data-value="{escape(figure.value, quote=True)}"' if figure.value else ""
    # a page may say what part of its size a figure keeps on a phone, so that its words are legible
    pixels = int.from_bytes(figure.png[16:20], "big")
    style = f"max-width: 100%; min-width: calc(var(--least, 0) * {pixels}px)"
    style += "; display: none" if hidden else ""
    source = f"data:image/png;base64,{data}"
    return f'<img class="figure" style="{style}"{value} alt="{words}" src="{source}">'


# The handler stands in the element, since a notebook and a book treat scripts differently. Without
# JavaScript the control is hidden and the first figure stays.
_SLIDER = """<div class="slider">\
<style>@media (scripting: none) {{ .slider label {{ display: none }} }}</style>\
<label>{label} <input type="range" min="0" max="{last}" step="1" value="{start}" \
aria-valuetext="{now}" style="vertical-align: middle" oninput="\
const box = this.closest('.slider'), chosen = box.querySelectorAll('img')[this.value]; \
box.querySelectorAll('img').forEach(i => i.style.display = i === chosen ? '' : 'none'); \
box.querySelector('output').value = chosen.dataset.value; \
this.setAttribute('aria-valuetext', chosen.dataset.value)"> \
<output>{now}</output></label><div class="frames">{frames}</div></div>"""
