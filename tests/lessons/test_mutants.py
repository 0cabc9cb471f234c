"""The check of each exercise sees every small change of the solution that matters."""

import ast
from pathlib import Path

import pytest

from scratchlm.lessons import all_lessons
from scratchlm.lessons.index import lessons_root, load_file

mutants = load_file(Path(__file__).with_name("mutants.py"), "lesson_mutants")

every_lesson = pytest.mark.parametrize(
    "lesson", [each for each in all_lessons() if each.complete], ids=lambda each: each.name
)


@every_lesson
def test_the_check_catches_every_mutant(lesson):
    score = mutants.judge(lesson)
    assert score.caught >= 20  # of a solution that does something
    problems = score.problems(mutants.SURVIVORS / f"{lesson.name}.toml")
    assert not problems, "\n\n".join(problems)


def test_every_list_of_survivors_is_of_a_lesson():
    for each in mutants.SURVIVORS.iterdir():
        assert (lessons_root() / each.stem).is_dir(), each


# ---------------------------------------------------------------- what is changed


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("y = a - b", {"a + b", "a", "-b", "b - a"}),
        ("y = a + b", {"a - b", "a * b", "a", "b"}),
        ("y = a @ b", {"a * b", "a", "b", "b @ a"}),
        ("y = a * b", {"a / b", "a + b", "a", "b"}),
        ("y = a ** 2", {"a * 2", "a", "2", "2 ** a", "a ** 3", "a ** 1", "a ** (-2)", "a ** 4"}),
        ("y = a < b", {"a <= b", "a > b"}),
        ("y = not a", {"a"}),
        ("y = a and b", {"a or b", "a", "b"}),
        ("y = 0", {"1", "-1"}),
        ("y = 1", {"2", "0", "-1"}),
        ("y = True", {"False"}),
        ("y = 'text'", {"''"}),
        ("y = ''", {"'x'"}),
        ("y = f('ij,jk->ik', a)", {"f('ji,jk->ik', a)", "f('ij,kj->ik', a)", "f('ij,jk->ki', a)",
         "f(a, 'ij,jk->ik')"}),
        ("y = f'{a + 1}'", set()),
        ("y = a.T", {"a"}),
        ("y = x.sum(axis=-1)",
         {"x", "x.mean(axis=-1)", "x.sum()", "x.sum(axis=0)", "x.sum(axis=-2)", "x.sum(axis=1)"}),
        ("y = np.max(x, keepdims=True)",
         {"x", "np.min(x, keepdims=True)", "np.max(x)", "np.max(x, keepdims=False)"}),
        ("y = x.swapaxes(i, j)", {"x"}),
        ("y = np.where(a, b, c)", {"a", "np.where(b, a, c)", "np.where(a, c, b)"}),
        ("y = x[:n]", {"x[1:n]", "x[:]", "x[:n + 1]", "x[:n - 1]"}),
        ("y = x[:-1]", {"x[1:-1]", "x[:]", "x[:0]", "x[:-2]", "x[:1]"}),
        ("y = x[i, j]", {"x[i + 1, j]", "x[i - 1, j]", "x[i, j + 1]", "x[i, j - 1]", "x[j, i]"}),
        ("y = range(n)", {"range(n + 1)", "range(n - 1)"}),
        ("y = a if b else c", {"a if not b else c", "a", "c"}),
        ("y = a.reshape(-1, n)", {"a", "a.reshape(n, -1)", "a.reshape(0, n)", "a.reshape(1, n)"}),
        ("y = zip(a, strict=True)", set()),
    ],
)  # fmt: skip
def test_what_a_line_becomes(line, becomes):
    found = {each.becomes for each in mutants.mutants(line)}
    assert found == {"pass", *(f"y = {each}" for each in becomes)}


def test_what_statements_become():
    source = "def f(x):\n x += 1\n if x:\n  y = x\n while x:\n  break\n return (x, y)"
    found = {(each.line, each.becomes) for each in mutants.mutants(source)}
    assert found >= {
        ("x += 1", "x = 1"),
        ("x += 1", "x -= 1"),
        ("x += 1", "pass"),
        ("if x:", "if not x:"),
        ("if x:", "pass"),
        ("y = x", "pass"),
        ("while x:", "while not x:"),
        ("break", "continue"),
        ("return (x, y)", "return (y, x)"),
    }


GUARDED = "def f(x):\n    if x < 0:\n        raise ValueError(f'{x - 1}')\n    return x * 2"


@pytest.mark.parametrize("refuses", [True, False])
def test_refusals_are_mutated_where_they_are_asked_for(refuses):
    found = {each.becomes for each in mutants.mutants(GUARDED, refuses={"f"} if refuses else set())}
    guard = {"if x <= 0:", "if x > 0:", "if x < 1:", "if x < -1:", "if not x < 0:", "pass"}
    assert found & guard == (guard if refuses else set())
    assert "return x / 2" in found
    assert not any("raise" in each for each in found)


def test_what_the_stub_holds_is_given():
    source = "def given(x):\n    return x + 1\n\ndef asked(x):\n    return x + 1"
    stub = "def given(x):\n    'Told.'\n    return x + 1\n\ndef asked(x):\n    raise"
    assert {each.function for each in mutants.mutants(source, stub)} == {"asked"}


def test_every_mutant_is_another_program_that_can_be_read():
    source = (lessons_root() / "28_fused_attention" / "solution.py").read_text(encoding="utf-8")
    found = mutants.mutants(source)
    assert len(found) > 200
    programs = {each.program for each in found}
    assert len(programs) == len(found)
    assert ast.unparse(ast.parse(source)) not in programs
    for each in found[::10]:
        ast.parse(each.program)


def test_the_mutants_are_the_same_each_time():
    assert mutants.mutants(GUARDED) == mutants.mutants(GUARDED)


# ---------------------------------------------------------------- planted faults


def test_the_sample_is_checked_well(sample, tmp_path):
    score = mutants.judge(sample)
    assert score.caught >= 20
    assert score.problems(tmp_path / "none.toml") == []


def test_a_weak_check_lets_mutants_through(sample, edit, tmp_path):
    whole = mutants.judge(sample)
    edit("check.py", "        layers(),\n", "        [Case(np.ones((2, 2)), np.ones((2, 2)))],\n")
    edit("check.py", "also=[", "also=[] and [")
    score = mutants.judge(sample)
    assert score.total == whole.total
    assert score.caught < whole.caught
    problems = score.problems(tmp_path / "none.toml")
    # every weight is 1 and the matrices are square: a transpose more or less shows nowhere
    unseen = mutants.Mutant("linear", "y = x @ weight.T", "y = x @ weight", "")
    assert f"survives, and is not listed in none.toml:\n{unseen}" in problems
    assert "must be" in problems[-1]


def test_what_only_drawn_inputs_catch_is_told(sample, edit, tmp_path):
    edit("check.py", "also=[", "also=[] and [")
    problems = mutants.judge(sample).problems(tmp_path / "none.toml")
    unseen = mutants.Mutant("linear", "y = x @ weight.T", "y = x @ weight", "")
    assert any("drawn inputs alone" in each and str(unseen) in each for each in problems)


def test_a_step_checked_once_hides_the_time(sample, edit, tmp_path):
    edit("check.py", "np.arange(6.0).reshape(3, 2)", "np.ones((1, 2))")
    problems = mutants.judge(sample).problems(tmp_path / "none.toml")
    assert any("np.sqrt(t)" in each for each in problems)


def test_a_mutant_without_end_is_caught(sample, edit):
    edit(
        "solution.py",
        "    return sum(values) / len(values)",
        "    total, i = 0, 0\n    while i < len(values):\n        total += values[i]\n"
        "        i += 1\n    return total / len(values)",
    )
    # without `i += 1` it adds for ever; the sum alone does not mind at which end it begins
    assert [each.becomes for each in mutants.judge(sample).survivors] == ["total += values[i - 1]"]


def test_a_solution_that_is_wrong_is_not_judged(sample, edit):
    edit("solution.py", "dy @ weight", "-dy @ weight")
    with pytest.raises(ValueError, match="does not pass its own check"):
        mutants.judge(sample)


LISTED = """
[[equivalent]]
function = "linear"
line = "y = x @ weight.T"
becomes = "{becomes}"
why = "{why}"
"""


def survivors(tmp_path, becomes="y = x @ weight", why="planted"):
    file = tmp_path / "list.toml"
    file.write_text(LISTED.format(becomes=becomes, why=why), encoding="utf-8")
    return file


def score_with(*survivors, caught=100):
    return mutants.Score(caught, [mutants.Mutant(*each, "") for each in survivors])


KEY = ("linear", "y = x @ weight.T", "y = x @ weight")


def test_a_listed_survivor_is_accepted(tmp_path):
    assert score_with(KEY).problems(survivors(tmp_path)) == []


def test_a_listed_one_that_is_caught_is_told(tmp_path):
    assert "does not survive" in score_with().problems(survivors(tmp_path))[0]


def test_a_listed_one_that_is_no_mutant_is_told(tmp_path):
    problems = score_with(KEY).problems(survivors(tmp_path, becomes="y = x @ other"))
    assert [each.split(",")[0] for each in problems] == [
        "survives",
        "list.toml lists what does not survive",
    ]


def test_what_is_missed_counts_and_what_is_equivalent_does_not(tmp_path):
    file = survivors(tmp_path)
    assert score_with(KEY, caught=10).problems(file) == []
    file.write_text(
        file.read_text(encoding="utf-8").replace("equivalent", "missed"), encoding="utf-8"
    )
    assert score_with(KEY, caught=49).problems(file) == []
    assert "98% must be" in score_with(KEY, caught=48).problems(file)[0]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("planted", " ", "why"),
        ("why = ", "reason = ", "why"),
        ("equivalent", "same", r"\[\[same\]\]"),
    ],
)
def test_a_list_says_what_is_wrong_with_it(tmp_path, old, new, words):
    file = survivors(tmp_path)
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        score_with(KEY).problems(file)
