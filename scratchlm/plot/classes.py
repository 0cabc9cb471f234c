"""What a classifier takes for what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._arrays import numbers
from .look import MAGNITUDES, TICK, color_bar, drawing, ink_on, name_axes, new_axes
from .maps import _anchor, _cell_points, _image, _label_cells, _settle, _size
from .text import token_labels


@drawing
def confusion_matrix(
    matrix: Any,
    labels: Sequence[str] | None = None,
    *,
    normalize: str = "true",
    values: bool | None = None,
    title: str | None = None,
    colorbar: bool = True,
    ax: Any = None,
) -> Any:
    """A confusion matrix: row = the true class, column = what it was taken for. Returns the Axes.

    Args:
        matrix: (classes, classes) counts, as of :func:`scratchlm.metrics.confusion_matrix`.
        labels: the names of the classes.
        normalize: what the colors show: ``"true"``: shares of a row, so that its diagonal is the
            recall; ``"pred"``: shares of a column, so that its diagonal is the precision;
            ``"all"``: shares of everything, which hides rare classes.
        values: write the counts into the cells; by default for at most 12 classes.
        title: written above.
        colorbar: explain the colors at the side.
        ax: draw here instead of in a new figure.

    Raises:
        ValueError: not square, counts below 0 or with fractions, none at all, labels too many or
            too few, unknown ``normalize``.
    """
    from matplotlib.colors import Normalize

    what = "plot.confusion_matrix"
    counts = numbers(matrix, f"{what}: matrix", ndim=2, shape="(classes, classes)")
    N, M = counts.shape
    if N != M:
        raise ValueError(f"{what}: matrix has shape {counts.shape}, needed is (classes, classes)")
    if (counts < 0).any() or (counts != np.floor(counts)).any() or not counts.any():
        raise ValueError(
            f"{what}: matrix must hold counts, 0, 1, 2, … and not all 0; give "
            "metrics.confusion_matrix(y_true, y_pred), normalize= does the rest"
        )
    axes = {"true": (1,), "pred": (0,), "all": (0, 1)}
    if normalize not in axes:
        raise ValueError(f"{what}: normalize={normalize!r} is none of 'true', 'pred', 'all'")
    totals = counts.sum(axis=axes[normalize], keepdims=True)
    shares = counts / np.where(totals == 0, 1, totals)  # a class that never occurs has no share
    names = None if labels is None else token_labels(labels, N, f"{what}: labels")

    anchor = _anchor(ax)
    ax = new_axes(ax, "confusion_matrix", *_size(N, N, names, names, colorbar, title, 0.52))
    image = _image(ax, shares, MAGNITUDES, Normalize(0, 1), anchor)
    if N <= 12 if values is None else values:
        longest = len(str(int(counts.max())))
        size = float(np.clip(0.85 * _cell_points(ax) / (0.62 * max(longest, 2)), 4.5, TICK + 1))
        for (i, j), count in np.ndenumerate(counts):
            color = ink_on(image, float(shares[i, j]))
            ax.text(j, i, f"{count:.0f}", ha="center", va="center", fontsize=size, color=color)
    _label_cells(ax, names, names)
    name_axes(ax, title, "taken for", "truly")
    if colorbar:
        words = {"true": "share of the row", "pred": "share of the column", "all": "share of all"}
        color_bar(image, words[normalize])
    _settle(ax.figure)
    return ax
