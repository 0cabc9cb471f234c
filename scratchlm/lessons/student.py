"""A student's work: the folder it is in, running its check, and the record of what is done."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from .index import Lesson
from .page import write_text

FOLDER = "scratchlm-exercises"
LIMIT = 30.0  # seconds that a check may take before it is ended


# ---------------------------------------------------------------- starting


@dataclass(frozen=True)
class Started:
    """What ``start`` did: the file, whether it is new, and where the former one was kept."""

    file: Path
    new: bool
    backup: Path | None = None


def start(lesson: Lesson, folder: Path, *, force: bool = False) -> Started:
    """Copy the stub of a lesson to ``folder/NN_name/exercise.py``. Work is never overwritten:
    ``force`` keeps the former file under a name of its own.

    Raises:
        OSError: the folder can't be written.
    """
    target = folder / lesson.name / "exercise.py"
    stub = lesson.folder / "exercise.py"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(stub, target)
        return Started(target, new=True)
    if not force:
        return Started(target, new=False)
    number = 1
    while (backup := target.with_name(f"exercise.backup{number}.py")).exists():
        number += 1
    target.rename(backup)
    shutil.copyfile(stub, target)
    return Started(target, new=True, backup=backup)


def find_file(lesson: Lesson, progress: Progress) -> Path | None:
    """The student's file: the one below the current folder, or where ``start`` last put it."""
    for folder in (Path.cwd() / FOLDER, Path.cwd()):
        file = folder / lesson.name / "exercise.py"
        if file.is_file() and not file.is_relative_to(lesson.root):
            return file
    recorded = progress.file_of(lesson)
    return recorded if recorded is not None and recorded.is_file() else None


# ---------------------------------------------------------------- checking


@dataclass
class Report:
    """What the check of a file found."""

    file: Path
    results: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None  # the file could not be run at all
    printed: str = ""

    @property
    def passed(self) -> bool:
        return (
            self.error is None
            and bool(self.results)
            and all(not r["todo"] and r["fault"] is None for r in self.results)
        )


def check(lesson: Lesson, file: Path, *, limit: float = LIMIT) -> Report:
    """Check this file, and no other, in a process of its own."""
    file = file.resolve()
    with tempfile.TemporaryDirectory(prefix="scratchlm-") as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-P", "-m", "scratchlm.lessons.worker"]
        command += [str(lesson.number), str(file), str(report), str(limit)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
            ),
            "PYTHONDONTWRITEBYTECODE": "1",  # no __pycache__ in the student's folder
            "PYTHONIOENCODING": "utf-8",
            "MPLBACKEND": "agg",
            "SCRATCHLM_LESSONS": str(lesson.root),
        }
        with (Path(folder) / "printed").open("w+b") as printed:
            process = subprocess.Popen(
                command, cwd=file.parent, env=environment,
                stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                # starting up takes a while on a busy machine; the worker itself watches the limit
                process.wait(limit + 60)
            except subprocess.TimeoutExpired:
                pass
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            size = printed.seek(0, os.SEEK_END)
            printed.seek(max(0, size - 4000))
            output = printed.read().decode("utf-8", "replace")
        return _read(file, report, process.returncode, output, limit)


def _read(file: Path, report: Path, code: int, output: str, limit: float) -> Report:
    if not report.exists():  # the check itself could not start: a fault of this library
        lines = output.strip().splitlines() or ["no message"]
        error = {"kind": "the check could not start", "text": lines[-1], "where": "", "code": ""}
        return Report(file, error=error)
    stored = json.loads(report.read_text(encoding="utf-8"))
    found = Report(file, stored["results"], stored["error"], output.strip())
    if stored["finished"]:
        return found
    hang = report.with_name(f"{report.name}.hang").read_text(encoding="utf-8")
    name = str(file).encode("ascii", "backslashreplace").decode()  # as faulthandler writes it
    line = re.search(rf'File "{re.escape(name)}", line (\d+)', hang)
    if hang.strip():
        found.error = {
            "kind": "too slow",
            "text": f"{stored['at']} was still running after {limit:g} s, so it was stopped",
            "where": f"{file.name}, line {line[1]}" if line else file.name,
            "code": _line(file, int(line[1])) if line else "",
            "hint": "is there a loop that does not end? Print its variable, and check again",
        }
    else:
        found.error = {
            "kind": "the program ended",
            "text": f"Python ended (exit code {code}) in {stored['at']}",
            "where": file.name,
            "code": "",
        }
    return found


def _line(file: Path, number: int) -> str:
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[number - 1].strip() if number <= len(lines) else ""


# ---------------------------------------------------------------- progress


class Progress:
    """What is started and done, in one JSON file in the user's own folder."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or data_folder() / "progress.json"
        self.notice = ""  # something the student should know, such as a file that was damaged
        self._lessons: dict[str, dict[str, Any]] = self._load()

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            lessons = stored["lessons"]
            return {str(number): dict(entry) for number, entry in lessons.items()}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (ValueError, KeyError, TypeError, AttributeError):
            kept = self.path.with_suffix(".damaged.json")
            self.path.replace(kept)
            self.notice = (
                f"the record of your progress could not be read and was set aside as {kept}; "
                "a new one begins. Your exercises are untouched: check them again to record them"
            )
            return {}

    def state(self, lesson: Lesson) -> str:
        """``done``, ``started``, ``open`` or ``locked`` (a prerequisite is not done)."""
        entry = self._lessons.get(str(lesson.number), {})
        if entry.get("done"):
            return "done"
        if entry:
            return "started"
        needs = any(not self._lessons.get(str(n), {}).get("done") for n in lesson.prerequisites)
        return "locked" if needs else "open"

    def missing(self, lesson: Lesson) -> list[int]:
        """The prerequisites that are not done."""
        return [n for n in lesson.prerequisites if not self._lessons.get(str(n), {}).get("done")]

    def passed(self, lesson: Lesson) -> list[str]:
        """The names of the exercises that have passed."""
        return list(self._lessons.get(str(lesson.number), {}).get("passed", []))

    def file_of(self, lesson: Lesson) -> Path | None:
        file = self._lessons.get(str(lesson.number), {}).get("file")
        return Path(file) if file else None

    def record_start(self, lesson: Lesson, file: Path) -> None:
        self._lessons.setdefault(str(lesson.number), {})["file"] = str(file.resolve())
        self.save()

    def record_check(self, lesson: Lesson, report: Report) -> None:
        entry = self._lessons.setdefault(str(lesson.number), {})
        entry["file"] = str(report.file)
        now = [r["name"] for r in report.results if r["fault"] is None and not r["todo"]]
        entry["passed"] = sorted({*entry.get("passed", []), *now})
        if report.passed and not entry.get("done"):
            entry["done"] = datetime.now().astimezone().isoformat(timespec="seconds")
        self.save()

    def save(self) -> None:
        """Write the record.

        Raises:
            OSError: the folder can't be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps({"lessons": self._lessons}, indent=1, ensure_ascii=False))


def data_folder() -> Path:
    """The user's data folder for this library (``SCRATCHLM_HOME`` names another)."""
    named = os.environ.get("SCRATCHLM_HOME")
    if named:
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "scratchlm"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "scratchlm"
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "scratchlm"
