"""The book: what it gathers from the lessons, and the pages that Sphinx reads.

``assemble(folder)`` writes everything: a notebook for each lesson with what its cells have shown,
the glossary, the index of formulas, and the files that a page offers. Nothing of it is typed twice:
terms come from the recaps, formulas from ``index.toml``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import SequenceMatcher
from html import escape
from pathlib import Path
from typing import Any

from . import display, page
from .index import Formula, Lesson, all_lessons, find_lesson
from .page import Cell

ALIKE = 0.9  # a formula of the index and one of a page differ in spaces and names of indices
Pages = Mapping[int, Lesson]  # the lessons that have a page, by number

# what is not prose: code, formulas, links
_NOT_PROSE = re.compile(
    r"(```.*?```|`[^`\n]+`|\$\$.*?\$\$|\$[^$\n]+\$|\[[^\]]*\]\([^)]*\))", re.DOTALL
)
_LESSONS = re.compile(r"\b[Ll]essons?\s+\d\d(?:(?:,|,?\s+(?:and|or|to))\s+\d\d)*\b")
_FORMULA = re.compile(r"\b[Ff]ormula\s+\((\d{1,2})\.(\d{1,2})\)")
_DISPLAY = re.compile(r"^\$\$\n(.*?)\n\$\$[ \t]*$", re.DOTALL | re.MULTILINE)


# ---------------------------------------------------------------- the glossary


@dataclass(frozen=True)
class Term:
    """A line of a recap: the term in both languages, and what is said of it, if anything."""

    english: str
    chinese: str
    note: str
    lesson: Lesson


def terms(lesson: Lesson) -> list[Term]:
    """The terms of a lesson, from the table ``| English | 中文 |`` of its recap.

    Raises:
        ValueError: there is no such table, or a line of it lacks one of the languages.
    """
    cells = page.read_cells(lesson.folder / "lesson.py")
    text = "\n\n".join(cell.text for cell in cells if cell.kind == "markdown")
    recap = text.partition(f"## {page.SECTIONS[-1]}")[2]
    found = []
    for row in _table(recap, "| English | 中文"):
        english, chinese, *rest = row
        if not english or not re.search(r"[\u4e00-\u9fff]", chinese):
            raise ValueError(f"{lesson.name}, recap: the term {row} lacks one of the languages")
        found.append(Term(english, chinese, rest[0] if rest else "", lesson))
    if not found:
        raise ValueError(f"{lesson.name}: the recap has no table that begins | English | 中文 |")
    return found


def _table(text: str, head: str) -> Iterable[list[str]]:
    """The rows of the first Markdown table whose first line begins with ``head``."""
    lines = iter(text.splitlines())
    if not any(line.startswith(head) for line in lines):
        return
    next(lines, None)  # the line below the head
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def glossary(lessons: Sequence[Lesson]) -> str:
    """The page of all terms, in the order of the English ones."""
    entries: dict[str, list[Term]] = {}
    for lesson in lessons:
        for term in terms(lesson):
            entries.setdefault(term.english.casefold(), []).append(term)
    lines = [
        "# Glossary · 术语表", "",
        "The terms of the lessons' recaps in English and Chinese, and where each is explained.",
        "",
        "```{container} glossary", "| English | 中文 | lesson |", "|---|---|---|",
    ]  # fmt: skip
    for key in sorted(entries, key=_sorted_by):
        same = entries[key]
        chinese = "；".join(dict.fromkeys(term.chinese for term in same))
        where = [
            f"[{t.lesson.number:02}](pages/{t.lesson.name}.ipynb)"
            + (f" {t.note}" if t.note else "")
            for t in same
        ]
        lines.append(f"| {same[0].english} | {chinese} | {'; '.join(where)} |")
    return "\n".join([*lines, "```"]) + "\n"


def _sorted_by(english: str) -> tuple[str, str]:
    return re.sub(r"[^a-z0-9 ]", "", english), english


# ---------------------------------------------------------------- formulas: numbers and the index


def numbered(text: str, lesson: Lesson, first: int = 1) -> str:
    """Markdown with a label behind each formula on lines of its own: number k is ``eq-05-k``."""
    count = first - 1

    def label(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return f"$$\n{match[1]}\n$$ (eq-{lesson.number:02}-{count})"

    return _DISPLAY.sub(label, text)


def labeled(cells: Iterable[Cell], lesson: Lesson) -> list[Cell]:
    """The cells, with labels in those that :func:`formula_cells` names."""
    cells = list(cells)
    with_numbers = {id(cell) for cell in formula_cells(cells)}
    ready, first = [], 1
    for cell in cells:
        text = cell.text
        if id(cell) in with_numbers:
            text = numbered(text, lesson, first)
            first += len(_DISPLAY.findall(cell.text))
        ready.append(Cell(cell.kind, text, cell.line, cell.outputs))
    return ready


def shown_number(label: str) -> str:
    """``eq-05-2`` is shown as ``(5.2)``."""
    _, lesson, count = label.split("-")
    return f"({int(lesson)}.{count})"


def formula_cells(cells: Iterable[Cell]) -> list[Cell]:
    """The Markdown cells whose formulas have numbers: the formula itself, and its derivation."""
    found, inside = [], False
    for cell in cells:
        if cell.kind == "markdown":
            heading = re.match(r"## (.*)", cell.text)
            if heading:
                inside = heading[1].strip() in (page.SECTIONS[2], page.SECTIONS[5])
            if inside:
                found.append(cell)
    return found


def numbered_formulas(lesson: Lesson) -> list[str]:
    """The LaTeX of the formulas of a lesson that have numbers, in order."""
    cells = formula_cells(page.read_cells(lesson.folder / "lesson.py"))
    return [match[1] for cell in cells for match in _DISPLAY.finditer(cell.text)]


def place(formula: Formula, lesson: Lesson) -> tuple[str, str]:
    """Where a formula stands on its lesson's page: its anchor, and its number if it has one."""
    wanted = _bare(re.split(r"\\q?quad", formula.latex)[0])
    blocks = numbered_formulas(lesson)
    likeness = [_coverage(wanted, _bare(block)) for block in blocks]
    best = max(range(len(blocks)), key=likeness.__getitem__, default=0)
    if blocks and likeness[best] >= ALIKE:
        label = f"eq-{lesson.number:02}-{best + 1}"
        return f"equation-{label}", shown_number(label)
    return "formula", ""


def _coverage(wanted: str, text: str) -> float:
    """The share of ``wanted`` that stands in ``text``, in order and in pieces of three or more."""
    matcher = SequenceMatcher(None, wanted, text, autojunk=False)
    return sum(m.size for m in matcher.get_matching_blocks() if m.size >= 3) / len(wanted)


def _bare(latex: str) -> str:
    return re.sub(r"\\[,;!]|\\q?quad|\\left|\\right|\\prime|[\s{}&]", "", latex)


def formula_index(lessons: Sequence[Lesson]) -> str:
    """The page of all formulas, by document and section, with the place that explains each."""
    entries: dict[str, list[tuple[Formula, Lesson]]] = {}
    for lesson in lessons:
        for formula in lesson.formulas:
            for document in formula.documents or ("",):
                entries.setdefault(document, []).append((formula, lesson))
    lines = [
        "# Formulas by document · 公式索引", "",
        "Every formula that the five documents print or name, where they do, whether it is printed",
        "rightly, and the place in a lesson that takes it apart.",
    ]  # fmt: skip
    chapter = ""
    for document in sorted(entries, key=_section):
        name, _, section = document.partition(" ")
        if name != chapter or not document:
            chapter = name
            lines += ["", f"## {name or 'In none of the documents'}"]
        if document:
            lines += ["", f"### {name} {section}"]
        for formula, lesson in entries[document]:
            lines += ["", *_entry(formula, lesson)]
    return "\n".join(lines) + "\n"


def _section(document: str) -> tuple[Any, ...]:
    """D1 §4.10 comes after D1 §4.9, and what is in no document comes last."""
    return (not document, [int(n) for n in re.findall(r"\d+", document)], document)


def _entry(formula: Formula, lesson: Lesson) -> list[str]:
    anchor, number = place(formula, lesson)
    target = f"pages/{lesson.name}.html#{anchor}"
    words = f"lesson {lesson.number:02}{', ' if number else ''}{number}"
    status = "not printed" if formula.status == "no formula" else f"printed {formula.status}"
    status = {"printed right": "printed rightly", "printed misprinted": "misprinted"}.get(
        status, status
    )
    said = f"; {status}" if formula.documents else ""
    source = formula.published[0].upper() + formula.published[1:]
    lines = [
        f'**{formula.name}**: <a href="{target}">{words}</a>{said}. {source}.',
        "", "$$", formula.latex, "$$",
    ]  # fmt: skip
    if formula.printed:
        lines += ["", "As printed:", "", "$$", formula.printed, "$$"]
    return lines


# ---------------------------------------------------------------- links


def linked(text: str, lesson: Lesson, pages: Pages) -> str:
    """Markdown in which "lesson 05", "lessons 05 and 19" and "formula (5.2)" are links, where there
    is such a page.

    Raises:
        ValueError: the lesson has no formula of that number.
    """
    parts = _NOT_PROSE.split(text)
    for i in range(0, len(parts), 2):
        parts[i] = _LESSONS.sub(lambda m: _links(m[0], lesson, pages), parts[i])
        parts[i] = _FORMULA.sub(lambda m: _formula_link(m, lesson, pages), parts[i])
    return "".join(parts)


def _formula_link(match: re.Match[str], lesson: Lesson, pages: Pages) -> str:
    target, number = pages.get(int(match[1])), int(match[2])
    if target is None:
        return match[0]
    if not 1 <= number <= (count := len(numbered_formulas(target))):
        raise ValueError(
            f"{lesson.name} names {match[0]}, but {target.name} has {count} numbered formulas"
        )
    file = "" if target == lesson else f"{target.name}.html"
    return f'<a href="{file}#equation-eq-{target.number:02}-{number}">{match[0]}</a>'


def _links(words: str, lesson: Lesson, pages: Pages) -> str:
    numbers = re.findall(r"\d\d", words)
    if len(numbers) == 1:
        target = pages.get(int(numbers[0]))
        known = target is not None and target != lesson
        return f"[{words}]({target.name}.ipynb)" if known and target is not None else words

    def link(match: re.Match[str]) -> str:
        target = pages.get(int(match[0]))
        if target is None or target == lesson:
            return match[0]
        return f"[{match[0]}]({target.name}.ipynb)"

    return re.sub(r"\d\d", link, words)


def linked_card(html: str, lesson: Lesson, pages: Pages) -> str:
    """The card's HTML with links: to its prerequisites, to the index of formulas, and to the files
    that the page offers.
    """
    numbers = ", ".join(f"{n:02}" for n in lesson.prerequisites)
    plain = f"<tr><td>before it</td><td>{numbers or 'none'}</td></tr>"
    if plain not in html:
        return html
    needs = [
        f'<a href="{pages[n].name}.html">{n:02} {escape(pages[n].title)}</a>'
        if n in pages else f"{n:02}"
        for n in lesson.prerequisites
    ]  # fmt: skip
    row = f"<tr><td>before it</td><td>{', '.join(needs) or 'none'}</td></tr>"
    cited = [f'<a href="../formulas.html#{_slug(d)}">{escape(d)}</a>' for d in lesson.documents]
    files = [
        f'<a href="../files/{lesson.name}/{file}" download>{words}</a>'
        for file, words in offered(lesson).items()
    ]
    take = f"<tr><td>take with you</td><td>{', '.join(files)}</td></tr></tbody>"
    html = html.replace(f"<td>{', '.join(lesson.documents)}</td>", f"<td>{', '.join(cited)}</td>")
    return html.replace(plain, row).replace("</tbody>", take)


def _slug(document: str) -> str:
    """The anchor that Sphinx makes of a heading: ``D1 §2.4 step 5`` becomes ``d1-2-4-step-5``."""
    return re.sub(r"[^a-z0-9]+", "-", document.lower()).strip("-")


def offered(lesson: Lesson) -> dict[str, str]:
    """The files that a page offers, and what they are called there."""
    return {f"{lesson.name}.ipynb": "the page as a notebook", "exercise.py": "the exercise"}


# ---------------------------------------------------------------- notebooks


def notebook(cells: Iterable[Cell], *, outputs: bool = False) -> str:
    """The cells as a Jupyter notebook, with what they have shown if that is asked for."""
    written = []
    for number, cell in enumerate(cells):
        lines = cell.text.splitlines(keepends=True)
        entry: dict[str, Any] = {
            "cell_type": cell.kind, "id": f"cell-{number}", "metadata": {}, "source": lines,
        }  # fmt: skip
        if cell.kind == "code":
            shown = [_shown(each) for each in cell.outputs] if outputs else []
            entry |= {"execution_count": None, "outputs": shown}
        written.append(entry)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": written, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, ensure_ascii=False, indent=1)


def _shown(output: display.Output) -> dict[str, Any]:
    if output.kind == "text":
        return {"output_type": "stream", "name": "stdout", "text": output.text + "\n"}
    data = {"text/html": display.to_html(output), "text/plain": output.text}
    return {"output_type": "display_data", "metadata": {}, "data": data}


def book_notebook(lesson: Lesson, cells: Iterable[Cell], pages: Pages) -> str:
    """The notebook that Sphinx reads: numbered formulas, links, and what the cells have shown."""
    ready = labeled(cells, lesson)
    for cell in ready:
        if cell.kind == "markdown":
            cell.text = linked(cell.text, lesson, pages)
    whole = json.loads(notebook(ready, outputs=True))
    for entry in whole["cells"]:
        for output in entry.get("outputs", ()):
            html = output.get("data", {}).get("text/html")
            if html is not None:
                output["data"]["text/html"] = linked_card(html, lesson, pages)
    return json.dumps(whole, ensure_ascii=False)


# ---------------------------------------------------------------- running the pages


def run_pages(lessons: Sequence[Lesson], jobs: int | None = None) -> dict[int, list[Cell]]:
    """The cells of each lesson with what they have shown: kept, or run now, ``jobs`` at a time.

    Each page runs in a process of its own with one thread, so that two cores run two pages. What
    it has shown is kept until the lesson or the library changes, where `scratchlm read` keeps it.

    Raises:
        RuntimeError: a page failed; the message is the page's own.
    """
    environment = {
        **os.environ, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip

    def one(lesson: Lesson) -> list[Cell]:
        file = page.cache_file(lesson)  # asked for once: its name changes with the library
        kept = page.load_outputs(lesson, file)
        if kept is not None:
            return kept
        begin = time.perf_counter()
        command = [sys.executable, "-m", "scratchlm.lessons.book", str(lesson.number), str(file)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, encoding="utf-8"
        )
        kept = page.load_outputs(lesson, file)
        if done.returncode or kept is None:
            raise RuntimeError(f"{lesson.name} did not run: {done.stderr.strip()[-2000:]}")
        print(f"{lesson.name} ran in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
        return kept

    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        return dict(zip((each.number for each in lessons), pool.map(one, lessons), strict=True))


def run_page(lesson: Lesson, kept: Path) -> None:
    """Run a page and keep what it has shown."""
    file = lesson.folder / "lesson.py"
    cells = page.read_cells(file)
    for _ in page.run(cells, file):
        pass
    page.save_outputs(lesson, cells, kept)


# ---------------------------------------------------------------- all of it


def assemble(book: Path) -> None:
    """Write ``pages/``, ``files/`` and the two indexes into the folder of the book."""
    lessons = [lesson for lesson in all_lessons() if lesson.complete]
    pages = {lesson.number: lesson for lesson in lessons}
    for name in ("pages", "extra"):
        shutil.rmtree(book / name, ignore_errors=True)
        (book / name).mkdir()
    parts: dict[str, list[str]] = {}
    for number, cells in run_pages(lessons).items():
        lesson = pages[number]
        _write(book / "pages" / f"{lesson.name}.ipynb", book_notebook(lesson, cells, pages))
        folder = book / "extra" / "files" / lesson.name
        folder.mkdir(parents=True)
        plain = page.read_cells(lesson.folder / "lesson.py")
        _write(folder / f"{lesson.name}.ipynb", notebook(plain))
        shutil.copyfile(lesson.folder / "exercise.py", folder / "exercise.py")
        parts.setdefault(lesson.part, []).append(f"/pages/{lesson.name}")
    trees = [_toctree(part, names) for part, names in parts.items()]
    trees.append(_toctree("To look up", ["/glossary", "/formulas"]))
    _write(book / "pages" / "contents.md", "\n\n".join(trees) + "\n")
    _write(book / "glossary.md", glossary(lessons))
    _write(book / "formulas.md", formula_index(lessons))


def _toctree(caption: str, names: Sequence[str]) -> str:
    return f"```{{toctree}}\n:caption: {caption}\n:maxdepth: 1\n\n{chr(10).join(names)}\n```"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_page(find_lesson(int(sys.argv[1])), Path(sys.argv[2]))
