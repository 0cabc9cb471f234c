"""The commands about lessons: lessons, read, start, check, hint, solution, progress, formulas."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..lessons import page, student
from ..lessons.index import FILES, Lesson, all_lessons, find_lesson
from ..lessons.student import FOLDER, Progress, Report
from .invocation import invocation
from .screen import console, errors, fail

Number = Annotated[
    int, typer.Argument(metavar="N", help="The number of the lesson.", show_default=False)
]

ME = invocation()  # how the student started this program

MARKS = {
    "done": ("●", "green", "done"),
    "started": ("◐", "yellow", "started"),
    "open": ("○", "cyan", "open"),
    "locked": ("·", "dim", "after"),
}
STATUS = {"right": "green", "misprinted": "red", "no formula": "yellow"}


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    for command in (lessons, read, start, check, hint, solution, progress, formulas):
        app.command(rich_help_panel="Lessons")(command)


# ---------------------------------------------------------------- the map


def lessons() -> None:
    """The lessons, and how far you are."""
    record = _progress()
    everything = all_lessons()
    width = max(len(each.title) for each in everything)
    width_zh = max(2 * len(each.title_zh) for each in everything)
    part = ""
    for each in everything:
        if each.part != part:
            part = each.part
            console.print(f"\n[bold]{part}[/]")
        mark, style, _ = MARKS[record.state(each)]
        row = Table.grid(padding=(0, 2, 0, 0))
        for fixed in (1, 2, width, width_zh, 7, 5):
            row.add_column(width=fixed, no_wrap=True)
        row.add_row(
            Text(mark, style=style),
            f"{each.number:2}",
            each.title,
            Text(each.title_zh, style="dim"),
            Text(f"{each.minutes:3} min", style="dim"),
            Text("★" * each.difficulty, style="yellow"),
        )
        console.print(row)
    console.print(Text.assemble("\n", _legend()))
    _say_next(record)


def progress() -> None:
    """The map: what is done, what is started, what comes next."""
    record = _progress()
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    done = 0
    for each in all_lessons():
        state = record.state(each)
        mark, style, word = MARKS[state]
        passed = [name for name in each.exercises if name in record.passed(each)]
        done += state == "done"
        if state == "locked":
            word = f"after {', '.join(f'{n:02}' for n in record.missing(each))}"
        pieces = Text()
        for name in each.exercises:
            pieces.append(
                f"{'✓' if name in passed else '·'} {name}  ", "green" if name in passed else "dim"
            )
        table.add_row(
            Text(mark, style=style),
            f"{each.number:02}",
            each.title,
            Text(word, style=style),
            pieces,
        )
    console.print()
    console.print(table)
    count = len(all_lessons())
    bar = Text("█" * round(30 * done / count), style="green")
    bar.append("░" * (30 - round(30 * done / count)), style="dim")
    console.print(Text.assemble("\n", bar, f"  {done} of {count} lessons done"))
    _say_next(record)


def _legend() -> Text:
    text = Text()
    for mark, style, word in MARKS.values():
        text.append(f"{mark} ", style).append(
            f"{word if word != 'after' else 'needs an earlier one'}   ", "dim"
        )
    return text


def _say_next(record: Progress) -> None:
    order = ("started", "open")
    for state in order:
        for each in all_lessons():
            if record.state(each) == state:
                verb = "check" if state == "started" else "read"
                console.print(f"\nNext: [bold]{ME} {verb} {each.number}[/]   {each.title}")
                return
    console.print("\n[green]All lessons are done.[/]")


def formulas(
    number: Annotated[
        int | None, typer.Argument(metavar="[N]", help="Of this lesson only.")
    ] = None,
) -> None:
    """Every formula: where the documents print it, whether rightly, and which lesson derives it."""
    chosen = all_lessons() if number is None else (_find(number),)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False)
    table.add_column("formula", overflow="fold")
    table.add_column("as printed", no_wrap=True)
    table.add_column("lesson", justify="right")
    for each in chosen:
        for formula in each.formulas:
            sources = " · ".join(filter(None, [", ".join(formula.documents), formula.published]))
            table.add_row(
                Text.assemble(
                    (formula.name, "bold"), f"\n  {formula.plain}", (f"\n  {sources}\n", "dim")
                ),
                Text(formula.status, style=STATUS[formula.status]),
                str(each.number),
            )
    console.print(table)
    words = "D1 to D5 are the five articles the formulas come from; 'no formula': only named there."
    console.print(Text(words, style="dim"))


# ---------------------------------------------------------------- reading


def read(
    number: Number,
    html: Annotated[
        bool, typer.Option("--html", help="Build the page as HTML and open it.")
    ] = False,
    run: Annotated[bool, typer.Option("--run/--no-run", help="Show what the code shows.")] = True,
    pager: Annotated[bool, typer.Option("--pager/--no-pager", help="Show page by page.")] = True,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where the HTML goes.")
    ] = None,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the HTML page.")] = True,
) -> None:
    """Read a lesson in the terminal, or with --html in the browser."""
    from ..downloads import cache_folder
    from ..lessons import render

    lesson = _find(number, complete=True)
    cells = _executed(lesson) if run else page.read_cells(lesson.folder / "lesson.py")
    if html:
        target = out or cache_folder() / "pages" / f"{lesson.name}.html"
        target.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(target, render.page(lesson, cells))
        console.print(f"[green]✓[/] {target}", soft_wrap=True)
        if browser and sys.stdout.isatty():
            import webbrowser

            webbrowser.open(target.resolve().as_uri())
        return
    shown = Group(*render.terminal(lesson, cells))
    if pager and sys.stdout.isatty() and os.name == "posix":
        os.environ.setdefault("LESS", "-RF")
        with console.pager(styles=True):
            console.print(shown, width=min(console.width, 100))
    else:
        console.print(shown, width=min(console.width, 100))


def _executed(lesson: Lesson) -> list[page.Cell]:
    """The cells with what they show: kept from the last time, or run now."""
    kept = page.load_outputs(lesson)
    if kept is not None:
        return kept
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    os.environ.setdefault("MPLBACKEND", "agg")
    file = lesson.folder / "lesson.py"
    cells = page.read_cells(file)
    columns = (
        TextColumn("running the page, this first time only"),
        BarColumn(),
        TimeElapsedColumn(),
    )
    try:
        quiet = not errors.is_terminal
        with Bar(*columns, console=errors, transient=True, disable=quiet) as bar:
            task = bar.add_task("", total=len(cells))
            for _ in page.run(cells, file):
                bar.advance(task)
    except KeyboardInterrupt:
        errors.print("[yellow]stopped[/]: the rest of the page is shown without its results")
        return cells
    except page.PageError as error:
        errors.print(f"[red]✗[/] {error}\n  the rest of the page is shown without its results")
        return cells
    page.save_outputs(lesson, cells)
    return cells


# ---------------------------------------------------------------- doing


def start(
    number: Number,
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where your exercises go.")
    ] = Path(FOLDER),
    force: Annotated[
        bool, typer.Option("--force", help="Begin again; your file is kept as a backup.")
    ] = False,
) -> None:
    """Copy the stub of a lesson into your own folder."""
    lesson = _find(number, complete=True)
    record = _progress()
    try:
        made = student.start(lesson, folder, force=force)
    except OSError as error:
        fail(
            f"start {number}: {error.filename or folder} can't be written",
            why=str(error.strerror),
            fix=f"choose another folder: {ME} start {number} --dir DIR",
        )
    _save(lambda: record.record_start(lesson, made.file))
    shown = _near(made.file)
    if made.backup is not None:
        console.print(f"[yellow]![/] your former file is kept as [bold]{_near(made.backup)}[/]")
    if made.new:
        console.print(f"[green]✓[/] [bold]{shown}[/] is yours: write {_names(lesson)} in it")
    else:
        console.print(
            f"[yellow]![/] [bold]{shown}[/] is there already and was left as it is\n"
            f"  to begin again, with your file kept as a backup:\n  {ME} start {number} --force"
        )
    missing = record.missing(lesson)
    if missing:
        needed = ", ".join(f"{n} ({find_lesson(n).title})" for n in missing)
        undone = "which is" if len(missing) == 1 else "which are"
        console.print(f"  [dim]this lesson builds on {needed}, {undone} not done yet[/]")
    console.print(
        f"\n  read it    {ME} read {number}"
        f"\n  check it   {ME} check {number} --watch"
        f"\n  stuck?     {ME} hint {number}"
    )


def check(
    number: Number,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Another file than the one that start made."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Check again whenever the file is saved.")
    ] = False,
    limit: Annotated[
        float, typer.Option("--limit", metavar="SECONDS", min=1, help="Stop after this long.")
    ] = student.LIMIT,
) -> None:
    """Check your work: values, gradients, manners; known mistakes are called by name."""
    lesson = _find(number, complete=True)
    record = _progress()
    chosen = file or student.find_file(lesson, record)
    if chosen is None:
        fail(
            f"check {number}: there is no file of yours for lesson {number}",
            why=f"it would be {FOLDER}/{lesson.name}/exercise.py, below this folder",
            fix=f"{ME} start {number}\nor name your file: {ME} check {number} FILE",
        )
    if not chosen.is_file():
        fail(
            f"check {number}: {chosen} is no file",
            fix="name the Python file that holds your functions",
        )
    try:
        if watch:
            _watch(lesson, chosen, record, limit)
        elif not _check_once(lesson, chosen, record, limit):
            raise typer.Exit(1)
    except KeyboardInterrupt:
        console.print("\nstopped")
        raise typer.Exit(130) from None


def _check_once(lesson: Lesson, file: Path, record: Progress, limit: float) -> bool:
    with console.status(f"checking {_near(file)}"):
        report = student.check(lesson, file, limit=limit)
    own = not report.file.is_relative_to(lesson.root)
    if own:  # a lesson's own solution is nobody's progress
        _save(lambda: record.record_check(lesson, report))
    console.print(_report(lesson, report))
    return report.passed


def _watch(lesson: Lesson, file: Path, record: Progress, limit: float) -> None:
    seen = None
    while True:
        stamp = _stamp(file)
        if stamp is not None and stamp != seen:
            seen = stamp
            console.clear()
            _check_once(lesson, file, record, limit)
            console.print(f"[dim]watching {_near(file)}; Ctrl-C ends[/]")
        time.sleep(0.2)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:  # between an editor's delete and its write there may be no file
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _report(lesson: Lesson, report: Report) -> Group:
    """The screen after a check: a line for each exercise, then the first fault in full."""
    shown: list[Any] = [
        Text.assemble(f"{lesson.number:02} · {lesson.title}   ", (_near(report.file), "bold cyan"))
    ]
    fault: dict[str, Any] | None = None
    todo = ""
    for result in report.results:
        line = Text("  ")
        if result["todo"]:
            line.append("○ ", "yellow").append(result["name"], "bold").append(
                "  still the stub", "dim"
            )
            todo = todo or result["name"]
        elif result["fault"] is not None:
            line.append("✗ ", "bold red").append(result["name"], "bold")
            fault = fault or result["fault"]
        else:
            line.append("✓ ", "bold green").append(result["name"], "bold")
            line.append(f"  right on {_count(result['inputs'], 'input')}", "dim")
            if result["gradient"]:
                line.append(f", {result['gradient']}", "dim")
        shown.append(line)
    shown.append(Text(""))
    if report.error is not None:
        shown.append(_error_panel(report.error))
    elif fault is not None:
        shown.append(_fault_panel(lesson, fault))
    elif todo:
        shown.append(Text.assemble(
            "  ", (todo, "bold"), " is yours to write: replace its ",
            ("raise NotImplementedError", "cyan"), " and save.\n",
            (f"  Where to begin: {ME} hint {lesson.number}\n", "dim"),
        ))  # fmt: skip
    else:
        shown.append(_praise(lesson, not report.file.is_relative_to(lesson.root)))
    if report.printed and not report.passed:
        tail = report.printed.splitlines()[-6:]
        shown.append(Padding(Text("\n".join(["your code printed:", *tail]), style="dim"), (0, 2)))
    return Group(*shown)


def _fault_panel(lesson: Lesson, fault: dict[str, Any]) -> Panel:
    grid = Table.grid(padding=(0, 2, 1, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("what", Text(fault["what"], style="bold"))
    grid.add_row("where", Text(fault["where"]))
    if fault["looks_like"]:
        grid.add_row("looks like", Text(fault["looks_like"], style="yellow"))
    grid.add_row("try", Text(fault["hint"], style="green"))
    subtitle = f"[dim]stuck? {ME} hint {lesson.number}[/]"
    return Panel(
        grid, border_style="red", padding=(1, 2, 0, 2), subtitle=subtitle, subtitle_align="right"
    )


def _error_panel(error: dict[str, Any]) -> Panel:
    text = Text.assemble((error["kind"], "bold red"), f": {error['text']}")
    if error["where"]:
        text.append(f"\n{error['where']}", "dim")
    if error["code"]:
        text.append(f"\n\n{error['code']}", "cyan")
    if error.get("hint"):
        text.append(f"\n\n{error['hint']}", "green")
    return Panel(
        text,
        border_style="red",
        padding=(1, 2),
        title="the file can't be checked",
        title_align="left",
    )


def _praise(lesson: Lesson, own: bool) -> Padding:
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("compare", f"{ME} solution {lesson.number}")
    for op in lesson.model_ops:
        grid.add_row("put it to work", f"with scratchlm.use({op}={op}): the GPT trains on yours")
    following = next((each for each in all_lessons() if each.number > lesson.number), None)
    if following is not None:
        grid.add_row("next", f"{ME} read {following.number}   {following.title}")
    words = f"Lesson {lesson.number} is done." if own else "All of it is right."
    return Padding(Group(Text(words, style="bold green"), Text(""), grid), (0, 0, 1, 2))


def hint(
    number: Number,
    level: Annotated[
        int,
        typer.Option("--level", "-l", min=1, max=3, help="1 a nudge, 2 the idea, 3 nearly all."),
    ] = 1,
    exercise: Annotated[
        str | None,
        typer.Option("--exercise", "-e", help="Which function; else the first not yet right."),
    ] = None,
) -> None:
    """A hint for the exercise: level 1, 2 or 3."""
    lesson = _find(number, complete=True)
    declared = {each.name: each for each in lesson.exercise_list()}
    if exercise is not None and exercise not in declared:
        fail(
            f"hint {number}: there is no exercise {exercise!r}",
            fix=f"one of: {', '.join(declared)}",
        )
    passed = _progress().passed(lesson)
    waiting = [name for name in declared if name not in passed]
    name = exercise or (waiting or list(declared))[0]
    from ..lessons.render import markdown

    console.print(Text.assemble((name, "bold"), (f"   hint {level} of 3", "dim")))
    console.print(Padding(Group(*markdown(declared[name].hints[level - 1])), (0, 2)))
    if level < 3:
        more = f"{ME} hint {number} --level {level + 1}" + (f" -e {exercise}" if exercise else "")
        console.print(f"[dim]  more: {more}[/]")


def solution(
    number: Number,
    peek: Annotated[
        bool, typer.Option("--peek", help="Show it before the exercise is done.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """The solution, once yours is right (or with --peek)."""
    from ..lessons.display import Output, to_rich

    lesson = _find(number, complete=True)
    state = _progress().state(lesson)
    if state != "done" and not peek:
        fail(
            f"the solution of lesson {number} opens when yours is right",
            why="one that is read before it is sought is soon forgotten",
            fix=f"{ME} hint {number}\nor look all the same: {ME} solution {number} --peek",
        )
    if state != "done" and not yes and not typer.confirm("Look before yours is right?"):
        raise typer.Exit(1)
    file = lesson.folder / "solution.py"
    console.print(Text(str(file), style="dim"), soft_wrap=True)
    console.print(to_rich(Output("code", file.read_text(encoding="utf-8"))))


# ---------------------------------------------------------------- common


def _find(number: int, *, complete: bool = False) -> Lesson:
    try:
        lesson = find_lesson(number)
    except ValueError as error:
        what, _, fix = str(error).partition("; ")
        fail(what, fix=fix)
    if complete and not lesson.complete:
        missing = [name for name in FILES if not (lesson.folder / name).is_file()]
        fail(
            f"lesson {number} is not complete: {', '.join(missing)} is missing",
            why=f"its folder is {lesson.folder}",
            fix="install scratchlm again",
        )
    return lesson


def _progress() -> Progress:
    try:
        record = Progress()
    except OSError as error:
        fail(
            f"the record of your progress can't be read: {error}",
            fix="SCRATCHLM_HOME names another folder",
        )
    if record.notice:
        errors.print(f"[yellow]![/] {record.notice}")
    return record


def _save(save: Any) -> None:
    try:
        save()
    except OSError as error:
        errors.print(
            f"[yellow]![/] your progress was not recorded: {error.filename}: {error.strerror}; "
            "SCRATCHLM_HOME names another folder"
        )


def _near(file: Path) -> str:
    """A path as short as it can be said from here."""
    try:
        return str(file.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(file)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number != 1 else ''}"


def _names(lesson: Lesson) -> str:
    *others, last = (f"[bold]{name}[/]" for name in lesson.exercises)
    return f"{', '.join(others)} and {last}" if others else last
