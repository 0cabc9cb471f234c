"""``scratchlm gradcheck FILE:FUNCTION``: is the gradient of a function in a file right?"""

from __future__ import annotations

import ast
import inspect
import json
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from .screen import console, fail

ShapeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--shape", help="Shape of the next input, as 3x4; once for each. 0-d is 'scalar'."
    ),
]
OptionOption = Annotated[
    list[str] | None,
    typer.Option("--option", help="A keyword of the function, as axis=-1. rng=0 is a generator."),
]
IntsOption = Annotated[
    list[str] | None,
    typer.Option("--ints", help="An input of integers, as ids=0:10 (from 0, below 10)."),
]


def gradcheck(
    target: Annotated[
        str, typer.Argument(metavar="FILE:FUNCTION", help="The function; or the name of an op.")
    ],
    shape: ShapeOption = None,
    option: OptionOption = None,
    ints: IntsOption = None,
    positive: Annotated[
        bool, typer.Option("--positive", help="Inputs above 0, e.g. for a logarithm.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the random inputs and cotangents.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compare the gradient of a function with central differences, and say what is wrong with it.

    The function is an op (arrays to `(out, vjp)`) or a function of tensors. The inputs are random:

    `scratchlm gradcheck mine.py:linear --shape 3x4 --shape 5x4 --shape 5`

    `scratchlm gradcheck mine.py:embedding --shape 2x3 --shape 10x4 --ints ids=0:10`

    `scratchlm gradcheck softmax --shape 3x4 --option axis=0`
    """
    file, _, name = target.rpartition(":")
    if not file and name.endswith(".py"):
        fail(f"{name} alone: say which function of it, as {name}:softmax", code=2)
    try:
        report = check_file(
            file or None, name, shape or [], options=option or [], ints=ints or [],
            positive=positive, seed=seed,
        )  # fmt: skip
    except (KeyError, OSError, _Usage) as error:
        what = (
            error.args[0] if isinstance(error, (KeyError, _Usage)) else f"{file}: {error.strerror}"
        )
        fail(str(what), fix="scratchlm gradcheck --help", code=2)
    except Exception as error:
        undefined = "NaN or infinity" in str(error) and not positive
        fix = "--positive draws inputs above 0" if undefined else ""
        fail(f"{type(error).__name__}: {error}", why=_line_of(file, error), fix=fix, code=2)
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        console.print(report)
    raise typer.Exit(0 if report else 1)


def check_file(
    path: str | Path | None,
    function_name: str,
    shapes: Sequence[str],
    *,
    options: Sequence[str] = (),
    ints: Sequence[str] = (),
    positive: bool = False,
    seed: int = 0,
) -> Any:
    """Run :func:`scratchlm.gradcheck` on a function of a file, or without a path on a library op.

    ``shapes`` are those of the positional inputs (``"3x4"``), ``options`` its keywords
    (``"axis=-1"``), ``ints`` the ranges of integer inputs (``"ids=0:10"``, or ``"0:10"`` for the
    first).

    Raises:
        ValueError: a shape, option or range that cannot be read, or names no input; too few shapes.
        KeyError: the file has no such function; there is no such op.
        OSError: the file cannot be read.
    """
    from ..gradcheck import gradcheck
    from ..registry import get_op

    function: Callable[..., Any]
    if path is None:
        op = get_op(function_name)
        function, signature, broadcasts = op.run, op.signature, op.broadcasts
    else:
        function = _load(Path(path), function_name)
        signature, broadcasts = inspect.signature(function), None
    ranges: dict[str, str] = {}
    for text in ints:
        name, _, bounds = text.rpartition("=")
        ranges[name or next(iter(signature.parameters))] = bounds
    names = _input_names(signature, function_name, len(shapes))
    unknown = ranges.keys() - set(names)
    if unknown:
        raise _Usage(f"--ints {min(unknown)}=...: the inputs are {', '.join(names)}")

    rng = np.random.default_rng(seed)
    inputs: list[np.ndarray] = []
    for name, text in zip(names, shapes, strict=True):
        shape = _shape(text)
        if name in ranges:
            low, high = _bounds(ranges[name])
            inputs.append(rng.integers(low, high, shape))
        else:
            x = rng.standard_normal(shape)
            inputs.append(np.abs(x) + 0.1 if positive else x)
    keywords = dict(_option(text) for text in options)
    _check_keywords(signature, function_name, keywords)

    def with_options(*arrays: Any) -> Any:
        fresh = {k: v() if isinstance(v, _Generator) else v for k, v in keywords.items()}
        return function(*arrays, **fresh)

    with_options.__name__ = function_name
    return gradcheck(with_options, *inputs, names=names, seed=seed, broadcasts=broadcasts)


class _Usage(ValueError):
    """The command was not understood."""


class _Generator(int):
    """A seed: each call gets a generator of its own, so that all calls see the same numbers."""

    def __call__(self) -> np.random.Generator:
        return np.random.default_rng(int(self))


def _load(path: Path, name: str) -> Any:
    from ..lessons.index import load_file

    if path.is_dir():
        raise _Usage(f"{path} is a folder; give FILE:FUNCTION, as mine.py:softmax")
    path.read_bytes()  # an OSError here is about the file, not about what it imports
    module = load_file(path, "checked_file")
    function = getattr(module, name, None)
    if not callable(function):
        own = [
            k
            for k, v in vars(module).items()
            if inspect.isfunction(v) and v.__module__ == module.__name__
        ]
        raise KeyError(f"{path} has no function {name!r}; it has: {', '.join(own) or 'none'}")
    return function


def _input_names(signature: inspect.Signature, function: str, count: int) -> list[str]:
    """The names of ``count`` inputs, which must be as many as the function needs."""
    names: list[str] = []
    needed = 0
    for p in signature.parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}[{k}]" for k in range(count - len(names))]
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
            needed += p.default is p.empty
    if not max(needed, 1) <= count <= len(names):
        call = f"{function}({', '.join(names)})"
        raise _Usage(
            f"{call} needs {max(needed, 1)} input(s), {count} shape(s) given; "
            "give one --shape for each input, as --shape 3x4"
        )
    return names[:count]


def _check_keywords(signature: inspect.Signature, function: str, given: dict[str, Any]) -> None:
    """Each keyword that the function needs is given, and no other than it has."""
    parameters = signature.parameters.values()
    own = {p.name: p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    unknown = [name for name in given if name not in own]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        raise _Usage(
            f"--option {unknown[0]}: {function} has no such keyword; "
            f"it has {', '.join(known) or 'none'}"
        )
    for name, p in own.items():
        if p.kind is p.KEYWORD_ONLY and p.default is p.empty and name not in given:
            raise _Usage(f"{function} needs the keyword {name}: give it as --option {name}=...")


def _shape(text: str) -> tuple[int, ...]:
    if text in ("", "scalar"):
        return ()
    try:
        return tuple(int(n) for n in text.lower().replace(",", "x").split("x"))
    except ValueError:
        raise _Usage(f"--shape {text!r}: write it as 3x4, or 'scalar'") from None


def _bounds(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    try:
        bounds = int(low), int(high)
    except ValueError:
        bounds = 0, 0
    if bounds[0] >= bounds[1]:
        raise _Usage(f"--ints {text!r}: write it as 0:10, from 0 and below 10")
    return bounds


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise _Usage(f"--option {text!r}: write it as name=value, axis=-1")
    try:
        read = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        read = value  # a word, as reduction=sum
    return name, _Generator(read) if name == "rng" and isinstance(read, int) else read


def _line_of(file: str, error: Exception) -> str:
    """The line of the student's file that the error came from."""
    if isinstance(error, SyntaxError):
        return f"{file}, line {error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if file and Path(frame.filename).name == Path(file).name:
            return f"{file}, line {frame.lineno}: {frame.line}"
    return ""
