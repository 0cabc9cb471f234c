"""What lessons are made of, and what checks a student's work.

A lesson page (``lesson.py``) uses :func:`card`, :func:`figure`, :func:`show`, :func:`slider`,
:func:`source` and :func:`table`; its ``check.py`` declares an :class:`Exercise` with its
:class:`Mistake` s on :class:`Case` s. ``lessons/README.md`` tells how a lesson is written.
"""

from __future__ import annotations

from .display import card, figure, show, slider, source, table
from .exercise import Exercise, Mistake
from .index import Formula, Lesson, all_lessons, exercises, find_lesson, solution
from .inputs import Case, cases, ids, normal, shapes

__all__ = [
    "Case",
    "Exercise",
    "Formula",
    "Lesson",
    "Mistake",
    "all_lessons",
    "card",
    "cases",
    "exercises",
    "figure",
    "find_lesson",
    "ids",
    "normal",
    "shapes",
    "show",
    "slider",
    "solution",
    "source",
    "table",
]
