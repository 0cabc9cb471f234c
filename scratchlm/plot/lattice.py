"""A text and the words that may stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .look import COLORS, INK, LABEL, PALE, drawing, name_axes, new_axes
from .text import token_labels

Edge = tuple[int, int]


@drawing
def lattice(
    tokens: str | Sequence[Any],
    edges: Sequence[Edge],
    *,
    path: Sequence[Edge] = (),
    weights: Sequence[float] | None = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    ax: Any = None,
) -> Any:
    """A segmentation lattice: an arc for each word over its characters, one path among them.

    Args:
        tokens: the text, or its parts, from left to right; nodes lie between them.
        edges: of each arc the node where it begins and where it ends, ``0 <= begin < end``.
        path: edges to be drawn strong.
        weights: of each edge, between 0 and 1: how dark it is drawn; by default all alike.
        labels: on each arc; by default the text under it.
        title: above.
        ax: an Axes to draw into; by default a new figure.

    Returns:
        the Axes.

    Raises:
        ValueError: an edge that does not fit, a path that is not of the edges, weights or labels
            that are not one for each edge, a weight outside 0 to 1.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    shown = token_labels(list(tokens), len(tokens), "lattice")
    count = len(shown)
    edges = [(int(begin), int(end)) for begin, end in edges]
    path = [(int(begin), int(end)) for begin, end in path]
    for begin, end in edges:
        if not 0 <= begin < end <= count:
            raise ValueError(f"plot.lattice: edge {begin, end} does not lie on the {count} tokens")
    for edge in path:
        if edge not in edges:
            raise ValueError(f"plot.lattice: {edge} of the path is none of the edges")
    for name, given in (("weights", weights), ("labels", labels)):
        if given is not None and len(given) != len(edges):
            raise ValueError(f"plot.lattice: {len(given)} {name} for {len(edges)} edges")
    if weights is not None and not all(0 <= w <= 1 for w in weights):
        raise ValueError("plot.lattice: a weight outside 0 to 1")
    if labels is None:
        labels = ["".join(shown[begin:end]) for begin, end in edges]

    longest = max((end - begin for begin, end in edges), default=1)
    ax = new_axes(ax, "lattice", width=max(4.0, 0.95 * count + 0.6), height=1.5 + 0.55 * longest)
    for i, token in enumerate(shown):
        ax.text(i + 0.5, -0.30, token, ha="center", va="center", fontsize=15, color=INK)
    ax.plot(np.arange(count + 1), np.zeros(count + 1), "o", markersize=5, color=INK, zorder=3)
    for number, (begin, end) in enumerate(edges):
        strong = (begin, end) in path
        color = COLORS[1] if strong else PALE if weights is None else COLORS[0]
        shade = 1.0 if weights is None or strong else 0.12 + 0.88 * weights[number]
        height = 0.55 * (end - begin) + 0.05
        # a cubic whose middle reaches 3/4 of its control points
        top = 4 / 3 * height
        curve = Path(
            [(begin, 0), (begin + 0.1, top), (end - 0.1, top), (end, 0)],
            [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4],
        )
        ax.add_patch(
            PathPatch(curve, fill=False, color=color, alpha=shade, lw=2.6 if strong else 1.3)
        )
        ax.text(
            (begin + end) / 2, height, labels[number], ha="center", va="center", fontsize=LABEL,
            color=color, alpha=max(shade, 0.75), zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2},
        )  # fmt: skip
    ax.set(xlim=(-0.2, count + 0.2), ylim=(-0.65, 0.55 * longest + 0.4))
    ax.axis("off")
    name_axes(ax, title)
    return ax
