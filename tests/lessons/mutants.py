"""Mutants of a lesson's solution: does the check see every small change?

    python tests/lessons/mutants.py 05        # what survives, with the line and what it became

Each mutant is the solution with one place changed: an operator, a comparison, a constant, an axis,
a bound of a slice, a condition, the order of arguments or of what is returned, a term, a statement
or a call (`.copy()`, `.swapaxes(...)`, `np.sqrt(...)`) left out, max for min, sum for mean. It is
judged as a student's function is, by the same cases and the same comparison, up to the first case
that goes wrong. One that does not end is caught too: its loops and calls are counted, and a million
more than the solution takes are too many; so the count is the same on every machine.

What is left alone, and why:

- what exercise.py holds already: it is given, not asked;
- docstrings, annotations and f-strings, which nobody computes with;
- `raise` and the `if` around nothing but a `raise` (and `strict=` of zip): a student who leaves out
  a refusal that the check never asks for has done what was asked. Where the reference refuses one
  of the cases, refusing is part of the exercise, and the condition is mutated too.

The survivors are listed in survivors/NN_slug.toml, each with its reason. An entry names the
`function`, the `line` as `ast.unparse` writes it, what it `becomes`, and `why`:

    [[equivalent]]            # computes the same: no check could see it
    function = "softmax"
    line = "e = np.exp(x - x.max(axis=axis, keepdims=True))"
    becomes = "e = np.exp(x - x.min(axis=axis, keepdims=True))"
    why = "..."

`[[missed]]` is for one that is wrong, and known not to be caught. At least 98 % of the mutants that
are not equivalent must be caught; a survivor that is not listed, and an entry that fits no
survivor, are errors. So is a mutant that only drawn inputs catch: the cases in `also` stay the
same, what Hypothesis draws may change with its version.
"""

from __future__ import annotations

import ast
import copy
import sys
import tomllib
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from scratchlm.lessons.exercise import Exercise, Observation
from scratchlm.lessons.index import Lesson, find_lesson
from scratchlm.lessons.inputs import Case

SURVIVORS = Path(__file__).with_name("survivors")
LEAST = 0.98
PATIENCE = 1_000_000  # more rounds of loops and calls than the solution takes: a loop without end


@dataclass(frozen=True)
class Mutant:
    """One change, and the whole program with it."""

    function: str
    line: str
    becomes: str
    program: str = field(repr=False)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.function, self.line, self.becomes

    def __str__(self) -> str:
        return f"{self.function}\n  - {self.line}\n  + {self.becomes}"


# ---------------------------------------------------------------- what is changed

OPERATORS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult, ast.FloorDiv),
    ast.FloorDiv: (ast.Mult, ast.Div),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
}
ORDERED = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult)
COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OTHERS = [
    ("max", "min"), ("maximum", "minimum"), ("amax", "amin"), ("argmax", "argmin"),
    ("sum", "mean"), ("cumsum", "cumprod"), ("zeros", "ones"), ("zeros_like", "ones_like"),
    ("tril", "triu"), ("floor", "ceil"), ("any", "all"), ("sin", "cos"), ("exp", "expm1"),
    ("log", "log1p"),
]  # fmt: skip
OTHER = {old: new for one, two in OTHERS for old, new in ((one, two), (two, one))}
BUILTINS = {"max", "min", "any", "all"}
SYMMETRIC = {"maximum", "minimum", "max", "min", "swapaxes", "hypot", "logaddexp"}


def numbers(value: complex) -> Iterator[ast.expr]:
    """The numbers that stand for a number by mistake: ±1, the sign, twice."""
    for other in dict.fromkeys((value + 1, value - 1, -value, 2 * value)):
        if other != value:
            positive = ast.Constant(abs(other))  # type: ignore[arg-type]
            yield ast.UnaryOp(ast.USub(), positive) if other < 0 else positive  # type: ignore[operator]


def texts(value: str) -> Iterator[str]:
    """Another text; of an einsum, one in which two neighboring letters are exchanged."""
    if "->" not in value:
        yield "" if value else "x"
        return
    for i, (a, b) in enumerate(pairwise(value)):
        if a.isalpha() and b.isalpha():
            yield value[:i] + b + a + value[i + 2 :]


def is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def moved(node: ast.expr) -> Iterator[ast.expr]:
    """A bound that is off by one. (A constant one is changed as a constant.)"""
    if not is_number(node) and not (isinstance(node, ast.UnaryOp) and is_number(node.operand)):
        for sign in (ast.Add(), ast.Sub()):
            yield ast.BinOp(node, sign, ast.Constant(1))


def swapped(items: list[Any]) -> Iterator[list[Any]]:
    """The list with two neighbors exchanged, for each two."""
    for i in range(len(items) - 1):
        if not any(isinstance(each, ast.Starred) for each in items[i : i + 2]):
            yield [*items[:i], items[i + 1], items[i], *items[i + 2 :]]


def expressions(node: ast.AST) -> Iterator[ast.expr]:
    """What an expression may become."""
    match node:
        case ast.BinOp(left, op, right):
            for other in OPERATORS.get(type(op), ()):
                yield ast.BinOp(left, other(), right)
            yield left
            yield ast.UnaryOp(ast.USub(), right) if isinstance(op, ast.Sub) else right
            if isinstance(op, ORDERED):
                yield ast.BinOp(right, op, left)
        case ast.UnaryOp(ast.USub(), ast.Constant(value)) if is_number(node.operand):
            yield from numbers(-value)  # type: ignore[operator]
        case ast.UnaryOp(_, operand):
            yield operand
        case ast.BoolOp(op, values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for i in range(len(values)):
                rest = values[:i] + values[i + 1 :]
                yield ast.BoolOp(op, rest) if len(rest) > 1 else rest[0]
        case ast.Compare(left, [op], [right]):
            for other in COMPARISONS[type(op)]:
                yield ast.Compare(left, [other()], [right])
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value) if is_number(node):
            yield from numbers(value)  # type: ignore[arg-type]
        case ast.Constant(str(value)):
            yield from (ast.Constant(text) for text in texts(value))
        case ast.IfExp(test, body, orelse):
            yield from (ast.IfExp(ast.UnaryOp(ast.Not(), test), body, orelse), body, orelse)
        case ast.Tuple(items, context) if isinstance(context, ast.Load):
            for order in swapped(items):
                yield ast.Tuple(order, context)
        case ast.Attribute(value, "T" | "mT"):
            yield value
        case ast.Call():
            yield from calls(node)
        case ast.Subscript(value, index, context):
            parts = index.elts if isinstance(index, ast.Tuple) else [index]
            for i, part in enumerate(parts):
                if isinstance(part, ast.Slice):
                    changed: Iterator[ast.expr] = slices(part)
                else:
                    changed = moved(part) if isinstance(part, (ast.Name, ast.BinOp)) else iter(())
                for other_part in changed:
                    new = [*parts[:i], other_part, *parts[i + 1 :]]
                    inner = ast.Tuple(new, ast.Load()) if isinstance(index, ast.Tuple) else new[0]
                    yield ast.Subscript(value, inner, context)


def slices(node: ast.Slice) -> Iterator[ast.expr]:
    lower, upper, step = node.lower, node.upper, node.step
    if lower is None:
        yield ast.Slice(ast.Constant(1), upper, step)
    else:
        yield ast.Slice(None, upper, step)
        for other in moved(lower):
            yield ast.Slice(other, upper, step)
    if upper is None:
        yield ast.Slice(lower, ast.UnaryOp(ast.USub(), ast.Constant(1)), step)
    else:
        yield ast.Slice(lower, None, step)
        for other in moved(upper):
            yield ast.Slice(lower, other, step)
    if step is not None:
        yield ast.Slice(lower, upper, None)


def calls(node: ast.Call) -> Iterator[ast.expr]:
    function, arguments, keywords = node.func, node.args, node.keywords
    name = getattr(function, "attr", getattr(function, "id", ""))
    if name not in SYMMETRIC:
        for order in swapped(arguments):
            yield ast.Call(function, order, keywords)
    for i, each in enumerate(keywords):
        if each.arg not in (None, "strict") and not name.endswith("_along_axis"):
            yield ast.Call(function, arguments, keywords[:i] + keywords[i + 1 :])
    match function:
        case ast.Name("range" | "slice"):
            for i, each in enumerate(arguments):
                for other in moved(each):
                    yield ast.Call(function, [*arguments[:i], other, *arguments[i + 1 :]], [])
        case ast.Name(name) if name in BUILTINS:
            yield ast.Call(ast.Name(OTHER[name], ast.Load()), arguments, keywords)
        case ast.Attribute(owner, name):
            if name in OTHER:
                yield ast.Call(ast.Attribute(owner, OTHER[name], ast.Load()), arguments, keywords)
            module = isinstance(owner, ast.Name) and owner.id in ("np", "math")
            if not module:
                yield owner  # `.copy()`, `.swapaxes(...)`, `.mean(...)` left out
            elif arguments and not isinstance(arguments[0], ast.Starred):
                yield arguments[0]


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """What a statement may become."""
    match node:
        case ast.AugAssign(target, op, value):
            yield ast.Assign([target], value, lineno=0)
            for other in OPERATORS.get(type(op), ()):
                yield ast.AugAssign(target, other(), value)
        case ast.If(test, body, orelse):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.While(test, body, orelse):
            yield ast.While(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.Break():
            yield ast.Continue()
    dropped = (ast.Assign, ast.AugAssign, ast.Expr, ast.If, ast.For, ast.While, ast.Break,
               ast.Continue, ast.Delete)  # fmt: skip
    if isinstance(node, dropped) or (isinstance(node, ast.AnnAssign) and node.value):
        yield ast.Pass()


# ---------------------------------------------------------------- where it is changed


def is_guard(node: ast.AST) -> bool:
    """An `if` (or an assert) that only refuses."""
    if isinstance(node, ast.If):
        return all(isinstance(each, ast.Raise) for each in node.body)
    return isinstance(node, ast.Assert)


def is_left_alone(node: ast.AST, parent: ast.AST) -> bool:
    match node:
        case ast.Constant() if isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.USub):
            return True  # a negative number is changed as one
        case ast.Expr(ast.Constant(str())) | ast.JoinedStr() | ast.Raise():
            return True
        case ast.keyword("strict"):
            return True
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.expr_context, ast.operator))


def places(
    node: ast.AST, refuses: set[str], function: str = ""
) -> Iterator[tuple[str, ast.AST, str, int | None, ast.AST]]:
    """For each node: the function it is in, its parent, the field and the index there, itself."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        if is_guard(node) and name in ("test", "body") and function.split(".")[0] not in refuses:
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or is_left_alone(child, node):
                continue
            inside = function
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                inside = f"{function}.{child.name}".lstrip(".")
            if not is_guard(child) or function.split(".")[0] in refuses:
                yield function, node, name, i, child
            yield from places(child, refuses, inside)


def mutants(source: str, given: str = "", refuses: set[str] = frozenset()) -> list[Mutant]:  # type: ignore[assignment]
    """Every mutant of a program. What ``given`` holds alike, the stub, is left alone; ``refuses``
    names the functions whose refusals are asked for.
    """
    tree = ast.parse(source)
    stub = {_without_docstrings(each) for each in ast.parse(given).body}
    before = ast.unparse(tree)
    found: dict[str, Mutant] = {}
    own = [each for each in tree.body if _without_docstrings(each) not in stub]
    for function, parent, name, index, node in list(places(ast.Module(own, []), refuses)):
        holder, key = (tree.body, tree.body.index(node)) if node in own else (None, None)
        value = getattr(parent, name) if holder is None else None
        for new in [*expressions(node), *statements(node)]:
            if _is_rest(parent) and isinstance(new, ast.UnaryOp):
                continue
            if holder is not None:
                holder[key] = new
            elif index is None:
                setattr(parent, name, new)
            else:
                value[index] = new
            after = ast.unparse(tree)
            if after != before and after not in found:
                found[after] = Mutant(function, *_changed(before, after), after)
        if holder is not None:
            holder[key] = node
        elif index is None:
            setattr(parent, name, node)
        else:
            value[index] = node
    assert ast.unparse(tree) == before  # each change was taken back
    return list(found.values())


def _is_rest(parent: ast.AST) -> bool:
    """Whether it is a reshape: any negative number means the rest there, as -1 does."""
    return isinstance(parent, ast.Call) and getattr(parent.func, "attr", "") == "reshape"


def _without_docstrings(node: ast.AST) -> str:
    class Strip(ast.NodeTransformer):
        def visit_Expr(self, each: ast.Expr) -> ast.Expr | None:
            return None if isinstance(each.value, ast.Constant) else each

    return ast.dump(Strip().visit(ast.Module([copy.deepcopy(node)], [])))


def _changed(before: str, after: str) -> tuple[str, str]:
    """The first line that differs, and what it became."""
    old, new = before.splitlines(), after.splitlines()
    first = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    return old[first].strip(), new[first].strip()


# ---------------------------------------------------------------- whether it is seen


class Endless(BaseException):
    """No Exception: nothing on the way may catch it."""


class _Counting(ast.NodeTransformer):
    """A call of the counter in each round of each loop, and in each call of each function."""

    def _counted(self, node: Any) -> Any:
        self.generic_visit(node)
        node.body.insert(0, ast.Expr(ast.Call(ast.Name("_count", ast.Load()), [], [])))
        return node

    visit_FunctionDef = visit_For = visit_While = _counted

    def visit_comprehension(self, node: ast.comprehension) -> ast.comprehension:
        self.generic_visit(node)
        node.ifs.insert(0, ast.Call(ast.Name("_count", ast.Load()), [], []))
        return node


class Counter:
    def __init__(self) -> None:
        self.count, self.limit = 0, float("inf")

    def __call__(self) -> bool:
        self.count += 1
        if self.count > self.limit:
            raise Endless
        return True


def load(program: str, counter: Counter) -> types.ModuleType:
    """The module of a program, whose rounds are counted."""
    module = types.ModuleType("scratchlm_mutant")
    sys.modules[module.__name__] = module
    vars(module)["_count"] = counter
    tree = ast.fix_missing_locations(_Counting().visit(ast.parse(program)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `1 is None`, and the like
        exec(compile(tree, "<mutant>", "exec"), vars(module))
    return module


Expected = dict[str, list[tuple[Case, Observation]]]


def passes(program: str, exercises: list[Exercise], expected: Expected, counter: Counter) -> bool:
    """Whether the check lets the program through. It stops at the first case that is wrong."""
    counter.count = 0
    try:
        module = load(program, counter)
        for each in exercises:
            function = getattr(module, each.name, None)
            if not callable(function):
                return False
            if any(fault for _, fault in each.compare(function, expected[each.name])):
                return False
    except Endless:
        return False
    except Exception:  # the module itself does not load
        return False
    return True


@dataclass
class Score:
    """What became of the mutants of a lesson."""

    caught: int
    survivors: list[Mutant]
    by_chance: list[Mutant] = field(default_factory=list)  # of the caught: by drawn inputs alone

    @property
    def total(self) -> int:
        return self.caught + len(self.survivors)

    def problems(self, file: Path) -> list[str]:
        """What is wrong, the entries in ``file`` considered; nothing, if nothing is."""
        entries = read_survivors(file)
        found = []
        alive = {each.key for each in self.survivors}
        found += [
            f"survives, and is not listed in {file.name}:\n{each}"
            for each in self.survivors
            if each.key not in entries
        ]
        found += [
            f"{file.name} lists what does not survive, or is no mutant any more:\n"
            + str(Mutant(*key, ""))
            for key in entries
            if key not in alive
        ]
        found += [
            f"is caught by drawn inputs alone, which another Hypothesis draws otherwise; put one "
            f"that shows it into `also`:\n{each}"
            for each in self.by_chance
        ]
        score = self.score(entries)
        if score < LEAST:
            found.append(f"only {score:.1%} of the mutants are caught, {LEAST:.0%} must be")
        return found

    def score(self, entries: dict[tuple[str, str, str], str]) -> float:
        wrong = [each for each in self.survivors if entries.get(each.key) != "equivalent"]
        return self.caught / (self.caught + len(wrong)) if self.caught else 0.0


def read_survivors(file: Path) -> dict[tuple[str, str, str], str]:
    """The kind of each listed survivor, by its function, line and what that becomes."""
    if not file.exists():
        return {}
    entries: dict[tuple[str, str, str], str] = {}
    for kind, listed in tomllib.loads(file.read_text(encoding="utf-8")).items():
        if kind not in ("equivalent", "missed"):
            raise ValueError(f"{file.name}: [[{kind}]]; it is [[equivalent]] or [[missed]]")
        for each in listed:
            if set(each) != {"function", "line", "becomes", "why"} or not all(
                isinstance(text, str) and text.strip() for text in each.values()
            ):
                raise ValueError(f"{file.name}: {each} must have function, line, becomes and why")
            key = each["function"], each["line"], each["becomes"]
            if key in entries:
                raise ValueError(f"{file.name} lists twice:\n{Mutant(*key, '')}")
            entries[key] = kind
    return entries


def judge(lesson: Lesson) -> Score:
    """Run every mutant of the lesson's solution through its check."""
    exercises = lesson.exercise_list()
    expected = {each.name: each.expected for each in exercises}
    source, given = (
        (lesson.folder / name).read_text(encoding="utf-8")
        for name in ("solution.py", "exercise.py")
    )
    refusing = {n for n, pairs in expected.items() if any("raised" in seen for _, seen in pairs)}
    names = {each.name for each in exercises}
    if refusing:  # a function of no exercise's name serves them all
        tree = ast.parse(source)
        refusing |= {getattr(each, "name", "") for each in tree.body} - names
    counter = Counter()
    if not passes(ast.unparse(ast.parse(source)), exercises, expected, counter):
        raise ValueError(f"{lesson.name}: its solution does not pass its own check")
    counter.limit = counter.count + PATIENCE
    always = {
        each.name: expected[each.name][: len(each.also) if drawn(each) else None]
        for each in exercises
    }
    score = Score(0, [])
    for each in mutants(source, given, refusing):
        head = each.function.split(".")[0]
        order = sorted(exercises, key=lambda exercise: exercise.name != head)  # its own one first
        if not passes(each.program, order, always, counter):
            score.caught += 1
        elif passes(each.program, order, expected, counter):
            score.survivors.append(each)
        else:
            score.caught += 1
            score.by_chance.append(each)
    return score


def drawn(exercise: Exercise) -> bool:
    """Whether its inputs are drawn from a strategy."""
    return not isinstance(exercise.inputs, (list, tuple))


def main(number: str) -> int:
    lesson = find_lesson(int(number))
    file = SURVIVORS / f"{lesson.name}.toml"
    score, entries = judge(lesson), read_survivors(file)
    for each in score.survivors:
        print(f"{entries.get(each.key, 'NOT LISTED')}: {each}")
    for each in score.by_chance:
        print(f"CAUGHT BY DRAWN INPUTS ALONE: {each}")
    alive = {each.key for each in score.survivors}
    for key in [key for key in entries if key not in alive]:
        print(f"LISTED, BUT CAUGHT OR GONE: {Mutant(*key, '')}")
    print(
        f"{lesson.name}: {score.caught} of {score.total} mutants caught; of those that are not "
        f"equivalent, {score.score(entries):.1%}"
    )
    return bool(score.problems(file))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
