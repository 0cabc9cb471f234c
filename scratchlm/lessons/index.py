"""The index of the lessons, ``lessons/index.toml``, and their files."""

from __future__ import annotations

import importlib.util
import os
import sys
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exercise import Exercise

STATUSES = ("right", "misprinted", "no formula")


@dataclass(frozen=True)
class Formula:
    """A formula of a lesson: as published, where the documents print it, and whether rightly."""

    name: str
    latex: str
    plain: str  # one line that any terminal shows
    documents: tuple[str, ...]  # "D2 §4.2.3"
    status: str  # one of STATUSES, about the printed form
    published: str  # paper and equation
    printed: str = ""  # the LaTeX as printed, where it differs


@dataclass(frozen=True)
class Lesson:
    """A lesson as the index describes it."""

    number: int
    slug: str
    title: str
    title_zh: str
    part: str
    formulas: tuple[Formula, ...]
    prerequisites: tuple[int, ...]
    minutes: int
    difficulty: int  # 1 to 5
    exercises: tuple[str, ...]  # functions that the student writes
    model_ops: tuple[str, ...]  # those that are ops which the GPT runs
    root: Path

    @property
    def name(self) -> str:
        """The name of the folder: ``05_cross_entropy``."""
        return f"{self.number:02}_{self.slug}"

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def complete(self) -> bool:
        """Whether all four files are there."""
        return all((self.folder / name).is_file() for name in FILES)

    @property
    def documents(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(d for f in self.formulas for d in f.documents))

    def load(self, part: str) -> ModuleType:
        """The module ``exercise``, ``solution`` or ``check`` of this lesson."""
        return load_file(self.folder / f"{part}.py", f"scratchlm_lesson_{self.number:02}_{part}")

    def exercise_list(self) -> list[Exercise]:
        """What ``check.py`` declares, in the order of the index."""
        declared = {each.name: each for each in self.load("check").EXERCISES}
        if set(declared) != set(self.exercises):
            raise ValueError(
                f"lesson {self.number}: check.py declares {sorted(declared)}, "
                f"the index names {sorted(self.exercises)}; make them the same"
            )
        return [declared[name] for name in self.exercises]


FILES = ("lesson.py", "exercise.py", "solution.py", "check.py")


def load_file(path: Path, name: str) -> ModuleType:
    """Import the file at ``path`` afresh, under ``name``."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look here
    spec.loader.exec_module(module)
    return module


def lessons_root() -> Path:
    """The folder of the lessons: ``lessons/`` beside the package in a checkout, or what the wheel
    carries. ``SCRATCHLM_LESSONS`` names another.

    Raises:
        FileNotFoundError: none of them holds an ``index.toml``.
    """
    package = Path(__file__).resolve().parents[1]
    named = os.environ.get("SCRATCHLM_LESSONS")
    places = [Path(named)] if named else [package.parent / "lessons", package / "_lessons"]
    for place in places:
        if (place / "index.toml").is_file():
            return place
    raise FileNotFoundError(
        f"no lessons found: there is no index.toml in {' or '.join(map(str, places))}; "
        "install scratchlm again, or let SCRATCHLM_LESSONS name the folder that has it"
    )


def read_index(root: Path) -> tuple[Lesson, ...]:
    """The lessons of ``root/index.toml``, by number.

    Raises:
        ValueError: the file is not right; the message names the lesson and the key.
    """
    path = root / "index.toml"
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("lesson", [])
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no valid TOML: {error}") from error
    lessons = [_lesson(entry, root) for entry in entries]
    numbers = [each.number for each in lessons]
    if numbers != sorted(set(numbers)):
        raise ValueError(f"{path}: the numbers must rise and occur once, they are {numbers}")
    return tuple(lessons)


def _lesson(entry: dict[str, Any], root: Path) -> Lesson:
    label = f"index.toml, lesson {entry.get('number', '?')}"
    tuples = ("prerequisites", "exercises", "model_ops")
    values = {**entry, **{key: tuple(entry.get(key, ())) for key in tuples}, "root": root}
    try:
        formulas = tuple(
            Formula(**{**each, "documents": tuple(each.get("documents", ()))})
            for each in values.pop("formulas", [])
        )
        lesson = Lesson(**values, formulas=formulas)
    except TypeError as error:
        raise ValueError(f"{label}: {str(error).split('() ')[-1]}") from None
    if not formulas:
        raise ValueError(f"{label}: has no [[lesson.formulas]]")
    for each in formulas:
        if each.status not in STATUSES:
            raise ValueError(f"{label}: status {each.status!r}; it is one of {STATUSES}")
    if any(n >= lesson.number for n in lesson.prerequisites):
        raise ValueError(f"{label}: prerequisites {lesson.prerequisites} must be earlier lessons")
    return lesson


@lru_cache
def _lessons(root: Path) -> tuple[Lesson, ...]:
    return read_index(root)


def all_lessons() -> tuple[Lesson, ...]:
    """Every lesson of the index, in order."""
    return _lessons(lessons_root())


def find_lesson(number: int) -> Lesson:
    """The lesson with this number.

    Raises:
        ValueError: there is none; the nearest is named.
    """
    lessons = all_lessons()
    for each in lessons:
        if each.number == number:
            return each
    nearest = min(lessons, key=lambda each: abs(each.number - number))
    raise ValueError(
        f"there is no lesson {number}; the nearest is {nearest.number}, {nearest.title}. "
        f"There are: {', '.join(str(each.number) for each in lessons)}"
    )


def exercises(number: int) -> dict[str, Exercise]:
    """The exercises of a lesson by name, for a page to run their mistakes:
    ``exercises(5)["softmax"].mistake("no maximum").function``.
    """
    return {each.name: each for each in find_lesson(number).exercise_list()}


def solution(number: int) -> ModuleType:
    """The module ``solution.py`` of a lesson, read again only when the file has changed."""
    lesson = find_lesson(number)
    return _solution(lesson, (lesson.folder / "solution.py").stat().st_mtime_ns)


@lru_cache
def _solution(lesson: Lesson, written: int) -> ModuleType:
    return lesson.load("solution")
