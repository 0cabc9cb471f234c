"""Every lesson of the index keeps what a lesson promises."""

import lesson_proofs as proofs
import pytest

from scratchlm.lessons import all_lessons

every_lesson = pytest.mark.parametrize("lesson", all_lessons(), ids=lambda each: each.name)


@every_lesson
@pytest.mark.parametrize(
    "proof",
    [
        proofs.sections, proofs.stub_is_kind, proofs.solution_passes, proofs.mistakes_are_caught,
        proofs.hints_rise, proofs.looks_back_only, proofs.trains_the_gpt,
    ],
    ids=lambda each: each.__name__,
)  # fmt: skip
def test_lesson(lesson, proof):
    assert lesson.complete, f"{lesson.folder} lacks one of its four files"
    proof(lesson)


@every_lesson
@pytest.mark.slow
@pytest.mark.lesson
def test_page_runs_as_a_script(lesson, record_property, capsys):
    seconds = proofs.runs_as_a_script(lesson)
    record_property("seconds", seconds)
    with capsys.disabled():
        print(f"  {lesson.name}: {seconds:.1f} s", end=" ")


@every_lesson
@pytest.mark.slow
@pytest.mark.lesson
def test_page_shows_text_code_tables_and_figures(lesson):
    proofs.runs_as_a_page(lesson)
