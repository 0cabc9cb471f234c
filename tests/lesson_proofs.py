"""What must hold of every lesson; ``tests/lessons`` runs these on each, and on planted faults."""

import ast
import os
import subprocess
import sys
import time

import numpy as np

import scratchlm
from scratchlm import optim
from scratchlm.lessons import book, page, student
from scratchlm.models.gpt import GPT, GPTConfig
from scratchlm.registry import get_op

PAGE_LIMIT = 60  # seconds, told to the students; only a page that hangs is ended by it here
MISTAKES = 6


def sections(lesson):
    """The page has its title and the thirteen sections, in order, and says the lesson's title."""
    cells = page.read_cells(lesson.folder / "lesson.py")
    assert page.problems(cells) == []
    title = cells[0].text.splitlines()[0]
    assert title == f"# {lesson.number:02} · {lesson.title} · {lesson.title_zh}"


def runs_as_a_script(lesson):
    """The page runs as plain Python, without a display. Returns the seconds it took.

    In one thread: the tests run side by side, one on each core.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "SCRATCHLM_LESSONS": str(lesson.root)}
    environment.pop("DISPLAY", None)
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", str(lesson.folder / "lesson.py")],
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PAGE_LIMIT * 4,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return time.perf_counter() - begin


def runs_as_a_page(lesson):
    """Every cell runs, and something is shown: text, code from the source, and a figure.

    What is shown is kept until the lesson or the library changes, and the book shows the same.
    """
    cells = book.run_pages([lesson])[lesson.number]
    kinds = {output.kind for cell in cells for output in cell.outputs}
    assert {"text", "table", "code", "figure"} <= kinds
    return cells


def stub_is_kind(lesson):
    """The stub imports, and each of its functions is told to be still a stub, not to be wrong."""
    report = student.check(lesson, lesson.folder / "exercise.py")
    assert report.error is None, report.error
    assert [r["name"] for r in report.results] == list(lesson.exercises)
    assert all(r["todo"] and r["fault"] is None for r in report.results), report.results
    assert not report.passed


def solution_passes(lesson):
    """The solution is right, and the gradients of its ops equal central differences."""
    report = student.check(lesson, lesson.folder / "solution.py", limit=120)
    assert report.error is None, report.error
    assert report.passed, [r["fault"] for r in report.results]
    contracts = {e.name: e.contract for e in lesson.exercise_list()}
    for result in report.results:
        assert contracts[result["name"]] != "op" or result["gradient"], (
            f"{result['name']}: no gradient check; its first drawn input must lie off every kink"
        )


def mistakes_are_caught(lesson):
    """Each mistake gets its own message, and there are at least six."""
    exercises = lesson.exercise_list()
    assert sum(len(each.mistakes) for each in exercises) >= MISTAKES
    for exercise in exercises:
        names = [each.name for each in exercise.mistakes]
        assert len(set(names)) == len(names)
        assert len({each.message for each in exercise.mistakes}) == len(names)
        assert all(each.message.strip() and each.hint.strip() for each in exercise.mistakes)
        for mistake in exercise.mistakes:
            fault = exercise.check(mistake.function).fault
            assert fault is not None, f"{exercise.name}: the mistake {mistake.name!r} passes"
            told = f"{exercise.name}: the mistake {mistake.name!r} is told as {fault.mistake!r}"
            assert fault.mistake == mistake.name, f"{told}: {fault}"
            assert fault.looks_like == mistake.message
            assert fault.hint == mistake.hint
            assert fault.what
            assert fault.where


def hints_rise(lesson):
    """Three hints for each exercise, all different."""
    for exercise in lesson.exercise_list():
        assert len(exercise.hints) == 3
        assert len(set(exercise.hints)) == 3
        assert all(each.strip() for each in exercise.hints)


def looks_back_only(lesson):
    """check.py names no later lesson."""
    tree = ast.parse((lesson.folder / "check.py").read_text(encoding="utf-8"))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    for call in calls:
        if call.func.id in ("exercises", "solution", "find_lesson"):
            assert isinstance(call.args[0], ast.Constant)
            assert call.args[0].value <= lesson.number
    assert set(lesson.model_ops) <= set(lesson.exercises)


def trains_the_gpt(lesson, steps=5):
    """The GPT trained with the student's ops has the library's loss, step by step."""
    solution = lesson.load("solution")
    calls = dict.fromkeys(lesson.model_ops, 0)

    def counted(name):
        function = getattr(solution, name)

        def op(*arrays, **options):
            calls[name] += 1
            return function(*arrays, **options)

        op.__signature__ = __import__("inspect").signature(function)
        return op

    expected = losses(steps)
    with scratchlm.use(**{name: counted(name) for name in lesson.model_ops}):
        found = losses(steps)
    assert expected[-1] < expected[0]  # it does learn, so equal losses mean something
    # float64 rounds at 1e-16; summing in another order, through five steps, leaves far below 1e-10
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert all(calls.values()), f"the GPT never called {calls}"
    assert all(get_op(name).chosen is None for name in lesson.model_ops)


def losses(steps):
    """The losses of a small float64 GPT on a fixed batch."""
    rng = np.random.default_rng(0)
    model = GPT(GPTConfig(vocab_size=11, block_size=7, n_layer=2, n_head=2, n_embd=8), rng=rng)
    model.astype(np.float64)
    ids = rng.integers(0, 11, (3, 8))
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        _, loss = model(ids[:, :-1], ids[:, 1:])
        loss.backward()
        optimizer.step()
        found.append(float(loss))
    return found
