"""Checks a student's file in a process of its own: ``python -m scratchlm.lessons.worker``.

The process may crash, hang, print or exit, and the command line lives on: what is known is written
to a JSON file after each exercise. A watchdog ends it after the time limit and tells the line.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import linecache
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from .exercise import Exercise, Fault, Result
from .index import Lesson, load_file


def main(number: str, file: str, report: str, limit: str) -> None:
    """Check ``file`` against lesson ``number``; write what is found to ``report``."""
    from .index import find_lesson

    lesson = find_lesson(int(number))
    exercises = lesson.exercise_list()
    state: dict[str, Any] = {"results": [], "error": None, "finished": False, "at": ""}

    def save(**changes: Any) -> None:
        state.update(changes)
        Path(report).write_text(json.dumps(state), encoding="utf-8")

    save(at="the import of the file")
    with Path(f"{report}.hang").open("w", encoding="utf-8") as hang:
        faulthandler.dump_traceback_later(float(limit), exit=True, file=hang)
        module, error = import_student(Path(file))
        if module is None:
            save(error=error, finished=True)
        else:
            for exercise in exercises:
                save(at=exercise.name)
                result = check_one(exercise, module, lesson)
                if result.fault is not None and not any(r["fault"] for r in state["results"]):
                    replay(exercise, module, result.fault)
                save(results=[*state["results"], asdict(result)])
            save(finished=True)
        faulthandler.cancel_dump_traceback_later()


def import_student(path: Path) -> tuple[ModuleType | None, dict[str, Any] | None]:
    """The module of the file, or what went wrong on which of its lines."""
    sys.path.insert(0, str(path.parent))
    try:
        return load_file(path, "student_exercise"), None
    except SyntaxError as error:
        place = Path(error.filename or path).name
        code = ""
        if error.lineno is not None:  # a file that is no text has no lines
            place += f", line {error.lineno}"
            code = f"{(error.text or '').rstrip()}\n{' ' * ((error.offset or 1) - 1)}^"
        return None, {"kind": "SyntaxError", "text": error.msg, "where": place, "code": code}
    except (Exception, SystemExit) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        lines = [
            f"line {f.lineno}: {linecache.getline(f.filename, f.lineno or 0).strip()}"
            for f in frames
        ]
        return None, {
            "kind": type(error).__name__,
            "text": str(error) or "the file ended the program",
            "where": path.name,
            "code": "\n".join(lines),
        }


def replay(exercise: Exercise, module: ModuleType, fault: Fault) -> None:
    """Let what the student prints be of the call that failed, not of dozens that went well."""
    function = getattr(module, exercise.name, None)
    if function is None:
        return
    sys.stdout.flush()
    with contextlib.suppress(OSError):  # a terminal or a pipe has no beginning to go back to
        os.ftruncate(1, 0)
        os.lseek(1, 0, os.SEEK_SET)
    exercise.observe(function, exercise.cases[fault.case], fault.case)
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def check_one(exercise: Exercise, module: ModuleType, lesson: Lesson) -> Result:
    """Check the function of this name in the student's module."""
    function = getattr(module, exercise.name, None)
    if function is None:
        own = [
            n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__
        ]
        has = f"it defines {', '.join(own)}" if own else "it defines nothing"
        fault = Fault(
            f"there is no {exercise.name} in the file",
            has,
            "",
            f"define it; its signature is in {lesson.folder.name}/exercise.py",
        )
        return Result(exercise.name, 0, fault)
    if not callable(function):
        fault = Fault(
            f"{exercise.name} is no function",
            f"it is {function!r:.60}",
            "",
            f"def {exercise.name}(...)",
        )
        return Result(exercise.name, 0, fault)
    return exercise.check(function)


if __name__ == "__main__":
    main(*sys.argv[1:])
