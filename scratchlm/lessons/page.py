"""A lesson page: its cells, its thirteen sections, and what it shows when it runs."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import types
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..downloads import cache_folder
from . import display
from .display import Output
from .index import Lesson

SECTIONS = (
    "1. Card", "2. Hook", "3. Formula", "4. By hand", "5. In code", "6. Backward, derived",
    "7. Gradient check, live", "8. See it", "9. Break it", "10. Your turn", "11. Cost",
    "12. Use it", "13. Recap",
)  # fmt: skip


@dataclass
class Cell:
    """A piece of a page: Markdown or code, and what the code has shown."""

    kind: str  # "markdown" or "code"
    text: str
    line: int  # of its first line in the file
    outputs: list[Output] = field(default_factory=list)


class PageError(RuntimeError):
    """A cell of a page failed."""


def read_cells(path: Path) -> list[Cell]:
    """The cells of a percent-format script."""
    cells: list[Cell] = []
    kind, start, lines = "code", 1, []
    for number, line in enumerate([*path.read_text(encoding="utf-8").splitlines(), "# %%"], 1):
        marker = re.match(r"# %%\s*(\[markdown\])?", line)
        if marker is None:
            lines.append(line)
            continue
        if kind == "markdown":
            lines = [re.sub(r"^# ?", "", each) for each in lines]
        lead = next((i for i, each in enumerate(lines) if each.strip()), len(lines))
        text = "\n".join(lines[lead:]).rstrip()
        if text:
            cells.append(Cell(kind, text, start + lead))
        kind, start, lines = "markdown" if marker[1] else "code", number + 1, []
    return cells


def problems(cells: list[Cell]) -> list[str]:
    """What is wrong with the form of a page: its title and its thirteen sections."""
    found = []
    if not cells or cells[0].kind != "markdown" or not cells[0].text.startswith("# "):
        found.append("the first cell must be Markdown and hold the title, `# 05 · ...`")
    headings = []
    for index, cell in enumerate(cells):
        if cell.kind != "markdown":
            continue
        for number, line in enumerate(_outside_code(cell.text)):
            if line.startswith("## "):
                headings.append(line[3:].strip())
                if number:
                    found.append(f"line {cell.line + number}: `{line}` must open its cell")
                elif index + 1 == len(cells) and "\n" not in cell.text:
                    found.append(f"line {cell.line}: `{line}` has nothing in it")
    if tuple(headings) != SECTIONS:
        found += [
            f"the section `## {each}` is missing" for each in SECTIONS if each not in headings
        ]
        found += [
            f"`## {each}` is no section of a lesson" for each in headings if each not in SECTIONS
        ]
        if not found:
            found.append(f"the sections are out of order: {headings}")
    return found


def _outside_code(text: str) -> Iterator[str]:
    fenced = False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        yield "" if fenced else line


def run(cells: list[Cell], path: Path) -> Iterator[Cell]:
    """Run the cells in one namespace, from top to bottom; yields each with its outputs.

    Raises:
        PageError: a cell raised; the message names file and line.
    """
    module = types.ModuleType("scratchlm_lesson_page")
    former = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module  # `source` of a function of the page looks here
    try:
        for cell in cells:
            if cell.kind == "code":
                cell.outputs = []
                _run_cell(cell, path, module.__dict__)
            yield cell
    finally:
        if former is None:
            sys.modules.pop(module.__name__, None)


def _run_cell(cell: Cell, path: Path, names: dict[str, object]) -> None:
    printed = io.StringIO()

    def flush() -> None:
        if printed.getvalue().strip():
            cell.outputs.append(Output("text", printed.getvalue().rstrip("\n")))
        printed.seek(0)
        printed.truncate()

    def collect(output: Output) -> None:
        flush()
        cell.outputs.append(output)

    former, display.collector = display.collector, collect
    try:
        tree = ast.parse("\n" * (cell.line - 1) + cell.text, str(path))
        last = tree.body[-1] if tree.body else None
        with contextlib.redirect_stdout(printed):
            if isinstance(last, ast.Expr):
                exec(compile(ast.Module(tree.body[:-1], []), str(path), "exec"), names)
                value = eval(compile(ast.Expression(last.value), str(path), "eval"), names)
                if value is not None:
                    print(repr(value))
            else:
                exec(compile(tree, str(path), "exec"), names)
    except Exception as error:
        trace = error.__traceback__
        line = cell.line
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == str(path):
                line = trace.tb_lineno
            trace = trace.tb_next
        raise PageError(f"{path}, line {line}: {type(error).__name__}: {error}") from error
    finally:
        display.collector = former
        flush()


# ---------------------------------------------------------------- what a page showed, kept


def cache_file(lesson: Lesson) -> Path:
    """Where the outputs of this lesson are kept; the name changes with lesson and library."""
    digest = hashlib.sha256()
    package = Path(__file__).resolve().parents[1]
    for path in sorted([*lesson.folder.glob("*.py"), *package.rglob("*.py")]):
        status = path.stat()
        digest.update(f"{path}{status.st_size}{status.st_mtime_ns}".encode())
    return cache_folder() / f"{lesson.name}-{digest.hexdigest()[:16]}.json"


def load_outputs(lesson: Lesson, path: Path | None = None) -> list[Cell] | None:
    """The cells with the outputs of an earlier run, if neither page nor library has changed."""
    try:
        stored = json.loads((path or cache_file(lesson)).read_text(encoding="utf-8"))
        return [
            Cell(c["kind"], c["text"], c["line"], [_output(each) for each in c["outputs"]])
            for c in stored
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_outputs(lesson: Lesson, cells: list[Cell], path: Path | None = None) -> None:
    """Keep the outputs; a cache that can't be written is no misfortune."""
    path = path or cache_file(lesson)
    stored = [{**vars(cell), "outputs": [_stored(each) for each in cell.outputs]} for cell in cells]
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f"{lesson.name}-*.json"):
            old.unlink()
        write_text(path, json.dumps(stored))


def _stored(output: Output) -> dict[str, Any]:
    frames = [_stored(each) for each in output.frames]
    return {**vars(output), "png": b64encode(output.png).decode(), "frames": frames}


def _output(stored: dict[str, Any]) -> Output:
    frames = [_output(each) for each in stored["frames"]]
    return Output(**{**stored, "png": b64decode(stored["png"]), "frames": frames})


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: to a temporary file beside it, then renamed."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
