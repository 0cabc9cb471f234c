"""The list that `scratchlm formulas` shows, held against what the articles print."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from scratchlm.cli import main
from scratchlm.cli.screen import console
from scratchlm.lessons import all_lessons
from scratchlm.lessons.index import lessons_root

ROWS = tomllib.loads(Path(__file__).with_name("inventory.toml").read_text(encoding="utf-8"))["row"]
LESSONS = sorted({each["lesson"] for each in ROWS})


def plain(latex):
    """LaTeX without what is only for the eye."""
    latex = re.sub(r"\\(?:text|mathrm)\{([^{}]*)\}", r"\1", latex)
    latex = re.sub(r"\\left|\\right|\\,|\s", "", latex)
    return re.sub(r"_\{(\\?\w+)\}", r"_\1", latex)


def fits(row, formula):
    return (
        set(row["documents"]) <= set(formula.documents)
        and row["status"] == formula.status
        and plain(row.get("printed", "")) in plain(formula.printed or formula.latex)
        and (formula.status == "misprinted") == bool(formula.printed)
    )


def problems(rows, formulas):
    """What is wrong with the formulas of a lesson, given what is printed."""
    found = [
        f"{', '.join(row['documents'])}, {row['status']}: {row['what']}: no formula of the index "
        "has these documents, this status and this printed form"
        for row in rows
        if not any(fits(row, formula) for formula in formulas)
    ]
    absent = {section for row in rows for section in row.get("absent", ())}
    listed = {(section, row["status"]) for row in rows for section in row["documents"]}
    for formula in formulas:
        found += [
            f"{formula.name}: {section} does not hold it"
            for section in formula.documents
            if section in absent
        ]
        if formula.status == "misprinted":
            found += [
                f"{formula.name}: {section} is said to misprint it; the inventory knows of nothing"
                for section in formula.documents
                if (section, "misprinted") not in listed
            ]
    return found


def rows_of(name):
    return [each for each in ROWS if each["lesson"] == name]


@pytest.mark.parametrize("name", LESSONS)
def test_what_is_printed_is_in_the_index(name):
    lesson = next((each for each in all_lessons() if each.name == name), None)
    if lesson is None:
        assert not (lessons_root() / name).exists(), f"{name} is there, but not in the index"
        pytest.skip("this lesson is not written yet")
    found = problems(rows_of(name), lesson.formulas)
    assert not found, "\n".join(found)


def test_every_lesson_of_the_first_four_parts_is_in_the_inventory():
    assert {int(each[:2]) for each in LESSONS} >= set(range(1, 29))
    assert {each.name for each in all_lessons() if each.number <= 28} <= set(LESSONS)


def test_the_command_shows_them_all(monkeypatch, capsys):
    monkeypatch.setattr(console, "width", 400)
    with pytest.raises(SystemExit) as ended:
        main(["formulas"])
    assert not ended.value.code
    screen = re.sub(r" +", " ", capsys.readouterr().out)
    shown = re.findall(r"^ ?(.*) (right|misprinted|no formula) (\d+) ?\n ?(.*?) ?\n", screen, re.M)
    assert shown == [
        (formula.name, formula.status, str(lesson.number), re.sub(r" +", " ", formula.plain))
        for lesson in all_lessons()
        for formula in lesson.formulas
    ]
    for lesson in all_lessons():
        for formula in lesson.formulas:
            assert ", ".join(formula.documents) in screen


# ---------------------------------------------------------------- planted faults


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": "right", "printed": ""}, "no formula of the index"),
        ({"documents": ("D2 §4.2.2",)}, "no formula of the index"),
        ({"printed": r"m_t = \sum_{i=1}^{t} \nabla_\theta J(\theta_i)"}, "no formula of the index"),
        ({"printed": ""}, "no formula of the index"),
        ({"documents": ("D2 §4.2.3", "D4 §3.2.4", "D3 §4.1")}, "D3 §4.1 is said to misprint it"),
    ],
)
def test_a_changed_formula_is_told(change, words):
    (lesson,) = [each for each in all_lessons() if each.number == 6]
    spoilt = [replace(each, **change) if each.name == "Adam" else each for each in lesson.formulas]
    rows = rows_of("06_optimizers")
    assert problems(rows, lesson.formulas) == []
    assert any(words in each for each in problems(rows, spoilt))


def test_a_section_that_does_not_hold_it_is_told():
    (lesson,) = [each for each in all_lessons() if each.number == 1]
    spoilt = [replace(each, documents=(*each.documents, "D2 §2.7")) for each in lesson.formulas]
    assert "does not hold it" in problems(rows_of("01_gradient"), spoilt)[0]
