"""The proofs themselves: the sample lesson passes them, and each planted fault fails its own."""

import lesson_proofs as proofs
import pytest

from scratchlm.lessons.index import read_index


@pytest.mark.parametrize(
    "proof",
    [
        proofs.sections, proofs.runs_as_a_script, proofs.runs_as_a_page, proofs.stub_is_kind,
        proofs.solution_passes, proofs.mistakes_are_caught, proofs.hints_rise,
        proofs.looks_back_only, proofs.trains_the_gpt,
    ],
    ids=lambda each: each.__name__,
)  # fmt: skip
def test_sample_passes(sample, proof):
    proof(sample)


NOT_YET = "def mean(values):\n    raise NotImplementedError"
RAISE = "raise NotImplementedError"
MEAN = "return sum(values) / len(values)"
FAULTS = {
    "a section is missing": (proofs.sections, "lesson.py", "# ## 9. Break it", "# gone"),
    "two sections change places": (proofs.sections, "lesson.py", "# ## 2. Hook", "# ## 3. Formula"),
    "a heading is misspelt": (proofs.sections, "lesson.py", "# ## 11. Cost", "# ## 11. Costs"),
    "another title": (proofs.sections, "lesson.py", "# # 01 · Scaling", "# # 01 · Scale"),
    "a cell raises": (proofs.runs_as_a_script, "lesson.py", "1 + 1", "1 / 0"),
    "a cell raises in the page": (proofs.runs_as_a_page, "lesson.py", "1 + 1", "1 / 0"),
    "no figure": (proofs.runs_as_a_page, "lesson.py", "show(fig,", "print(fig, show,"),
    "the stub is done": (proofs.stub_is_kind, "exercise.py", NOT_YET, "def mean(values): ..."),
    "the stub is broken": (proofs.stub_is_kind, "exercise.py", "mean(values):", "mean(values:"),
    "the solution is wrong": (proofs.solution_passes, "solution.py", "dy @ weight", "-dy @ weight"),
    "the solution is a stub": (proofs.solution_passes, "solution.py", MEAN, RAISE),
    "the reference is no op": (proofs.solution_passes, "check.py", "ops.linear,", "real_mean,"),
    "a mistake is right": (proofs.mistakes_are_caught, "check.py", "2 * dw", "dw"),
    "a mistake says nothing": (
        proofs.mistakes_are_caught, "check.py", '"the bias is not added"', '""',
    ),
    "two mistakes are one": (
        proofs.mistakes_are_caught, "check.py", "changes_input,", "to_float64,",
    ),
    "too few mistakes": (
        proofs.mistakes_are_caught, "check.py", "EXERCISES = [", "EXERCISES = []\n_ = [",
    ),
    "a hint is said twice": (proofs.hints_rise, "check.py", '"the idea"', '"nearly the answer"'),
    "a later lesson is used": (
        proofs.looks_back_only, "check.py", "SHARED =", "later = lambda: solution(4)\nSHARED =",
    ),
    "the op is slightly wrong": (
        proofs.trains_the_gpt, "solution.py", "dy @ weight", "dy @ weight * 1.0001",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_found(sample, edit, fault):
    proof, *change = FAULTS[fault]
    edit(*change)
    with pytest.raises((AssertionError, RuntimeError, ValueError)):
        proof(sample)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('status = "misprinted"', 'status = "wrong"', "status 'wrong'"),
        ("prerequisites = [1]", "prerequisites = [5]", "prerequisites"),
        ("number = 1", "number = 5", "numbers must rise"),
        ('title_zh = "缩放"', "", "title_zh"),
        ("minutes = 5", "minutes = ", "no valid TOML"),
        ("difficulty = 1", "difficulty = 1\ncolour = 3", "colour"),
    ],
)
def test_index_says_what_is_wrong(sample, edit, old, new, words):
    file = sample.root / "index.toml"
    file.write_text(file.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        read_index(sample.root)


def test_index_and_check_name_the_same_exercises(sample, edit):
    edit("check.py", '"mean",', '"average",')
    with pytest.raises(ValueError, match="average"):
        sample.exercise_list()
