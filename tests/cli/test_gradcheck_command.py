"""``scratchlm gradcheck``: right is 0, wrong is 1, not understood is 2, and it says why."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")

from scratchlm.cli import main
from scratchlm.cli.gradcheck import check_file

MINE = """
import numpy as np

def linear(x, w, b):
    return x @ w.T + b, lambda dy: (dy @ w, dy.T @ x, dy)

def right(x, w):
    return x @ w.T, lambda dy: (dy @ w, dy.T @ x)

def embedding(ids, weight):
    def vjp(dy):
        dw = np.zeros_like(weight)
        dw[ids] += dy
        return None, dw
    return weight[ids], vjp

def log(x):
    return np.log(x), lambda dy: dy / x

def scaled(x, *, by, mode="up"):
    assert mode == "up"
    return x * by, lambda dy: dy * by

def dropout(x, *, rng):
    mask = rng.random(x.shape) < 0.5
    return x * mask, lambda dy: dy * mask

def of_tensors(x):
    return x.softmax() * x

def unfinished(x):
    raise NotImplementedError("write me")
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "我的 file.py"
    path.write_text(MINE, encoding="utf-8")
    return path


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["gradcheck", *map(str, arguments)])
    return end.value.code


def test_a_right_function(mine, capsys):
    assert run(f"{mine}:right", "--shape", "3x4", "--shape", "5x4") == 0
    assert "gradients right" in capsys.readouterr().out


def test_a_wrong_function_is_diagnosed(mine, capsys):
    assert run(f"{mine}:linear", "--shape", "3x4", "--shape", "5x4", "--shape", "5") == 1
    out = capsys.readouterr().out
    assert "the gradient of b is WRONG" in out
    assert "MISSING SUM" in out


@pytest.mark.parametrize("ints", ["ids=0:4", "0:4"])
def test_integer_inputs(mine, capsys, ints):
    shapes = ("--shape", "4x3", "--shape", "4x2")
    assert run(f"{mine}:embedding", *shapes, "--ints", ints) == 1
    assert "DUPLICATES LOST" in capsys.readouterr().out


def test_json(mine, capsys):
    assert run(f"{mine}:scaled", "--shape", "scalar", "--option", "by=3", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert report["inputs"][0]["shape"] == []
    assert report["inputs"][0]["name"] == "x"


def test_options_ops_tensors_and_positive_inputs(mine):
    assert run("softmax", "--shape", "3x4", "--option", "axis=0") == 0
    assert run("mul", "--shape", "3x4", "--shape", "4") == 0
    assert run("cross_entropy", "--shape", "3x5", "--shape", "3", "--ints", "target=0:5",
               "--option", "reduction=sum") == 0  # fmt: skip
    assert run(f"{mine}:of_tensors", "--shape", "2x3") == 0
    assert run(f"{mine}:log", "--shape", "2x3", "--positive") == 0
    assert run(f"{mine}:dropout", "--shape", "2x3", "--option", "rng=1") == 0
    assert run(f"{mine}:scaled", "--shape", "3", "--option", "by=2", "--option", "mode=up") == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{}:nothing", "--shape", "3"], "it has: linear, right"),
        (["{}:linear", "--shape", "3x4"], "needs 3 input(s), 1 shape(s) given"),
        (["{}:right", "--shape", "3x4", "--shape", "5q4"], "'5q4': write it as 3x4"),
        (["{}:embedding", "--shape", "3", "--shape", "4x2", "--ints", "9"], "write it as 0:10"),
        (["{}:embedding", "--shape", "3", "--shape", "4x2", "--ints", "i=0:9"], "ids, weight"),
        (["{}:scaled", "--shape", "3", "--option", "by"], "write it as name=value"),
        (["{}:unfinished", "--shape", "3"], "line 32: raise NotImplementedError"),
        (["{}:log", "--shape", "3"], "fix --positive draws inputs above 0"),
        (["{}:scaled", "--shape", "3"], "scaled needs the keyword by: give it as --option by="),
        (["softmax", "--shape", "3", "--option", "axes=1"], "no such keyword; it has axis"),
        (["{}"], "alone: say which function of it"),
        (["{}x:log", "--shape", "3"], "No such file"),
        (["softmx", "--shape", "3"], "did you mean softmax"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_what_is_not_understood(mine, capsys, arguments, words):
    arguments[0] = arguments[0].format(mine)
    assert run(*arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.filterwarnings("always:invalid value encountered:RuntimeWarning")
def test_a_warning_is_a_line_for_people(mine, capsys):
    run(f"{mine}:log", "--shape", "3")
    err = capsys.readouterr().err
    assert "! invalid value encountered in log\n" in err
    assert "RuntimeWarning" not in err


def test_check_file_returns_the_report(mine):
    report = check_file(mine, "linear", ["3x4", "5x4", "5"])
    assert report.diagnosis == {"b": "missing sum"}
