"""Right solutions that are written in another way pass the check of each exercise too.

They stand in alternatives/NN_slug.py, at least two for each exercise, as ``<exercise>__<how>``.
"""

import ast
from pathlib import Path

import pytest

from scratchlm.lessons import all_lessons
from scratchlm.lessons.index import lessons_root, load_file

FOLDER = Path(__file__).with_name("alternatives")
LEAST = 2


def problems(lesson, file):
    """What is wrong with the other solutions of a lesson; nothing, if nothing is."""
    if not file.exists():
        return [f"{file.name} is missing: it holds two further solutions of each exercise"]
    module = load_file(file, f"lesson_alternatives_{lesson.number:02}")
    exercises = {each.name: each for each in lesson.exercise_list()}
    others = {
        name: value
        for name, value in vars(module).items()
        if "__" in name.strip("_") and callable(value)
    }
    found = [
        f"{name}: no exercise is called {name.split('__')[0]}"
        for name in others
        if name.split("__")[0] not in exercises
    ]
    solved = form(lesson.folder / "solution.py")
    written = form(file)
    for name, exercise in exercises.items():
        own = [other for other in others if other.split("__")[0] == name]
        if len(own) < LEAST:
            found.append(f"{name} has {len(own)} further solutions, it should have {LEAST}")
        seen = {"the solution": solved(name)}
        for other in own:
            tree = written(other)
            found += [f"{other} is {what}, with other names" for what in seen if seen[what] == tree]
            seen[other] = tree
            fault = exercise.check(others[other]).fault
            if fault is not None:
                found.append(f"{other} does not pass: {fault.what}: {fault.where}")
    return found


def form(file):
    """For the name of a function in ``file``: how it and what it calls there are written, the names
    and docstrings aside.
    """
    body = ast.parse(file.read_text(encoding="utf-8")).body
    defined = {
        each.name: each for each in body if isinstance(each, (ast.FunctionDef, ast.ClassDef))
    }

    def written(name):
        used, todo = [], [name]
        while todo:
            here = todo.pop()
            if here in defined and here not in used:
                used.append(here)
                todo += [n.id for n in ast.walk(defined[here]) if isinstance(n, ast.Name)]
        nameless = _Nameless()
        return [ast.dump(nameless.visit(ast.parse(ast.unparse(defined[each])))) for each in used]

    return written


class _Nameless(ast.NodeTransformer):
    def __init__(self):
        self.numbers = {}

    def _number(self, name):
        return str(self.numbers.setdefault(name, len(self.numbers)))

    def visit_Name(self, node):
        return ast.Name(self._number(node.id), node.ctx)

    def visit_arg(self, node):
        return ast.arg(self._number(node.arg))

    def visit_FunctionDef(self, node):
        node.name, node.returns = self._number(node.name), None
        return self.generic_visit(node)

    def visit_Expr(self, node):
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)


@pytest.mark.parametrize(
    "lesson", [each for each in all_lessons() if each.complete], ids=lambda each: each.name
)
def test_other_right_solutions_pass(lesson):
    found = problems(lesson, FOLDER / f"{lesson.name}.py")
    assert not found, "\n".join(found)


def test_every_file_is_of_a_lesson():
    for each in FOLDER.glob("*.py"):
        assert (lessons_root() / each.stem).is_dir(), each


# ---------------------------------------------------------------- planted faults

OTHERS = """
import numpy as np

def linear__einsum(x, weight, bias=None):
    y = np.einsum("...i,oi->...o", x, weight)

    def vjp(dy):
        dbias = None if bias is None else dy.reshape(-1, len(bias)).sum(0)
        axes = list(range(x.ndim - 1))
        dweight = np.tensordot(dy, x, (axes, axes))
        return np.einsum("...o,oi->...i", dy, weight), dweight, dbias

    return y if bias is None else y + bias, vjp

def linear__transposed_first(x, weight, bias=None):
    W = weight.T
    y = x @ W if bias is None else bias + x @ W

    def vjp(dy):
        flat, rows = dy.reshape(-1, len(weight)), x.reshape(-1, len(W))
        dbias = None if bias is None else np.ones(len(flat), x.dtype) @ flat
        return dy @ W.T, (rows.T @ flat).T, dbias

    return y, vjp

def mean__loop(values):
    total = 0
    for each in values:
        total += each
    return total / len(values)

def mean__numpy(values):
    return float(np.mean(values))

def descend__in_steps(theta, gradient, *, t, lr):
    rate = lr / t**0.5
    return theta - rate * gradient

def descend__negative(theta, gradient, *, t, lr):
    return -lr * gradient * t**-0.5 + theta

class total__list:
    def __init__(self):
        self.parts = []

    def add(self, x):
        self.parts.append(x)

    @property
    def sum(self):
        return sum(self.parts)

class total__plain:
    sum = 0

    def add(self, x):
        self.sum = self.sum + x
"""


@pytest.fixture
def others(sample, tmp_path):
    def write(old="", new=""):
        file = tmp_path / "others.py"
        assert old in OTHERS
        file.write_text(OTHERS.replace(old, new), encoding="utf-8")
        return problems(sample, file)

    return write


def test_the_other_solutions_of_the_sample_pass(others):
    assert others() == []


RENAMED = "def mean__numpy(numbers):\n    'Told.'\n    return sum(numbers) / len(numbers)"
ALIKE = "def mean__numpy(x):\n    s = 0\n    for y in x:\n        s += y\n    return s / len(x)"
NUMPY = "def mean__numpy(values):\n    return float(np.mean(values))"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (NUMPY, RENAMED, "mean__numpy is the solution, with other names"),
        (NUMPY, ALIKE, "mean__numpy is mean__loop, with other names"),
        (NUMPY, "", "mean has 1 further solutions, it should have 2"),
        ("mean__numpy", "average__numpy", "no exercise is called average"),
        ("theta - rate", "theta + rate", "descend__in_steps does not pass"),
        ("rows.T @ flat).T", "rows.T @ flat)", "linear__transposed_first does not pass"),
    ],
)
def test_planted_faults_are_told(others, old, new, words):
    assert any(words in each for each in others(old, new))


def test_a_missing_file_is_told(sample, tmp_path):
    assert "is missing" in problems(sample, tmp_path / "none.py")[0]
