"""Matrices as pictures: one head's attention, all heads at once, small matrices in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._arrays import numbers, probabilities
from .look import (
    INK,
    LABEL,
    MAGNITUDES,
    NOTHING,
    SIGNED,
    TICK,
    TITLE,
    color_bar,
    color_map,
    drawing,
    ink_on,
    name_axes,
    new_axes,
)
from .text import legible, token_labels

# Colors begin just above 0, so that what is exactly 0 (masked) gets the color below the limits.
ABOVE_ZERO = float(np.finfo(np.float32).tiny)


@drawing
def attention(
    weights: Any,
    tokens: Sequence[str | bytes] | None = None,
    *,
    keys: Sequence[str | bytes] | None = None,
    values: bool | None = None,
    vmax: float = 1.0,
    gamma: float | None = None,
    title: str | None = None,
    colorbar: bool = True,
    ax: Any = None,
) -> Any:
    """One head's attention: row = who looks, column = who is looked at. Returns the Axes.

    Args:
        weights: (N, M); each row sums to 1, or is 0 where there is nothing to attend to.
        tokens: N of them, for the rows; for the columns too, unless ``keys`` are given.
        keys: M of them, for the columns, where they differ from the rows (cross-attention).
        values: write the numbers into the cells; by default for at most 8 rows and columns.
        vmax: the weight at the bright end. 1 keeps pictures comparable.
        gamma: the color goes with ``(weight / vmax) ** gamma``. By default 1 up to 12 keys, and
            0.5 for more, where weights of a few per cent would all look black; the color bar says
            so.
        title: written above.
        colorbar: explain the colors at the side.
        ax: draw here instead of in a new figure.

    Weights of exactly 0 (masked positions) are drawn in gray.

    Raises:
        ValueError: not a matrix, rows that do not sum to 1, NaN, a token too many or too few.
        TypeError: unknown option; tokens that are neither str nor bytes.
    """
    w = numbers(
        weights,
        "plot.attention: weights",
        ndim=2,
        shape="(queries, keys): one head, maps[layer][head]",
    )
    probabilities(w, "plot.attention: weights", empty_rows=True)
    N, M = w.shape
    norm = _weight_norm("attention", vmax, gamma, M)
    if tokens is not None and keys is None and N != M:
        raise ValueError(
            f"plot.attention: weights have {N} rows and {M} columns, so they need two lists: "
            "tokens= for the rows, keys= for the columns"
        )
    rows = None if tokens is None else token_labels(tokens, N, "plot.attention: rows")
    columns = keys if keys is not None else tokens
    columns = None if columns is None else token_labels(columns, M, "plot.attention: columns")
    anchor = _anchor(ax)
    ax = new_axes(ax, "attention", *_size(N, M, rows, columns, colorbar, title))
    image = _image(ax, w, MAGNITUDES, norm, anchor, nothing=NOTHING)
    if values or (values is None and max(N, M) <= 8):
        _write_values(image, w, 2, skip_zeros=True)
    _label_cells(ax, rows, columns)
    name_axes(ax, title, "key (attended to)", "query (attending)")
    if colorbar:
        _weight_bar(image)
    _settle(ax.figure)
    return ax


@drawing
def attention_grid(
    maps: Any,
    tokens: Sequence[str | bytes] | None = None,
    *,
    vmax: float = 1.0,
    gamma: float | None = None,
    title: str | None = None,
    colorbar: bool = True,
    figure: Any = None,
) -> Any:
    """Every head of every layer, as one tiled image: layers downward, heads to the right.

    Args:
        maps: (layers, heads, N, M), or a list of (heads, N, M), one for each layer, as
            :func:`scratchlm.interpret.attention_maps` returns them.
        tokens: N of them, written along the last row and column of tiles where there is room.
        vmax: the weight at the bright end.
        gamma: as for :func:`attention`.
        title: written above.
        colorbar: explain the colors at the side.
        figure: draw into this empty Figure instead of a new one.

    Returns:
        the Figure, with one Axes that holds one image. Layers and heads count from 0, as in
        ``model.transformer.h[0]``.

    Raises:
        ValueError: layers that differ in shape, a batch of several texts, and what
            :func:`attention` raises.
    """
    from matplotlib.figure import Figure

    w = _stack(maps)
    probabilities(w, "plot.attention_grid: maps", empty_rows=True)
    L, H, N, M = w.shape
    norm = _weight_norm("attention_grid", vmax, gamma, M)
    if tokens is not None and N != M:
        raise ValueError(f"plot.attention_grid: tokens label square maps, these are {N} × {M}")
    labels = None if tokens is None else token_labels(tokens, N, "plot.attention_grid")
    canvas, (row_step, column_step) = _tile(w)

    tile = float(np.clip(9.6 / max(H, 2), 0.72, 2.4))  # inches
    if labels and 5.6 / 72 * N * H <= 18:
        tile = max(tile, 5.6 / 72 * N)  # room for the tokens
    long = 0.085 * max(map(len, labels)) if labels else 0.0
    size = (H * tile + 1.6 + long, L * tile * row_step / column_step + 0.6 + long)
    if figure is None:
        figure = Figure(figsize=size, layout="constrained")
    elif not isinstance(figure, Figure) or figure.axes:
        raise TypeError("plot.attention_grid: figure is an empty matplotlib Figure")
    ax = figure.subplots()
    image = _image(ax, canvas, MAGNITUDES, norm, _anchor(None), nothing=NOTHING)
    ax.set_xticks(np.arange(H) * column_step + (M - 1) / 2, [f"head {h}" for h in range(H)])
    ax.set_yticks(np.arange(L) * row_step + (N - 1) / 2, [f"layer {i}" for i in range(L)])
    scale = max(1.0, tile / 2.4)  # a large page is looked at from farther away
    ax.tick_params(length=0, labelsize=scale * TICK, top=False, labeltop=True, labelbottom=False)
    room = tile * 72 / max(N, M)  # points for each token
    if labels and room >= 5.5:
        _label_tiles(ax, labels, (L, row_step), (H, column_step), min(TICK, 0.85 * room))
    if colorbar:
        _weight_bar(image, shrink=0.5 if L > 2 else 0.8)
    if title:
        ax.set_title(title, loc="left", fontsize=scale * TITLE, color=INK)
    for bar in figure.axes[1:]:
        bar.tick_params(labelsize=scale * TICK)
        bar.yaxis.label.set_fontsize(scale * LABEL)
    return figure


@drawing
def heatmap(
    matrix: Any,
    *,
    rows: Sequence[str | bytes] | None = None,
    columns: Sequence[str | bytes] | None = None,
    values: bool | None = None,
    digits: int = 2,
    signed: bool | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    title: str | None = None,
    colorbar: bool | None = None,
    ax: Any = None,
) -> Any:
    """A matrix, colored and (where it is small) with its numbers. Returns the Axes.

    Args:
        matrix: (N, M); a vector is one row.
        rows: their labels.
        columns: their labels.
        values: write the numbers into the cells; by default for at most 12 rows and columns.
        digits: after the point.
        signed: colors with white at 0 and limits that are symmetric about it; by default where
            there is a number below 0. Otherwise dark to bright, from 0 (or the least number).
        vmin: the lower limit; signed ones are ``-vmax`` and ``vmax``.
        vmax: the upper limit.
        title: written above.
        colorbar: by default where the numbers are not written.
        ax: draw here instead of in a new figure.

    Raises:
        ValueError: not a matrix, NaN, labels too many or too few, limits the wrong way round.
    """
    from matplotlib.colors import Normalize

    m = numbers(matrix, "plot.heatmap: matrix")
    if m.ndim == 1:
        m = m[None]
    if m.ndim != 2:
        raise ValueError(f"plot.heatmap: matrix has shape {m.shape}, needed is (rows, columns)")
    N, M = m.shape
    row_labels = None if rows is None else token_labels(rows, N, "plot.heatmap: rows")
    column_labels = None if columns is None else token_labels(columns, M, "plot.heatmap: columns")
    low, high = _limits(m, signed, vmin, vmax)
    values = max(N, M) <= 12 if values is None else values
    colorbar = not values if colorbar is None else colorbar
    width, height = _size(N, M, row_labels, column_labels, colorbar, title, 0.52)
    anchor = _anchor(ax)
    ax = new_axes(ax, "heatmap", width, height - 0.2)  # nothing is written below
    image = _image(ax, m, SIGNED if low == -high else MAGNITUDES, Normalize(low, high), anchor)
    if values:
        _write_values(image, m, digits)
    _label_cells(ax, row_labels, column_labels)
    name_axes(ax, title)
    if colorbar:
        color_bar(image)
    _settle(ax.figure)
    return ax


# ---------------------------------------------------------------- parts


def _weight_norm(function: str, vmax: float, gamma: float | None, keys: int) -> Any:
    """From weights to the color scale; what is exactly 0 falls below it."""
    from matplotlib.colors import Normalize, PowerNorm

    if not ABOVE_ZERO < vmax < np.inf:
        raise ValueError(f"plot.{function}: vmax is a weight above 0, not {vmax}")
    if gamma is None:
        gamma = 1.0 if keys <= 12 else 0.5
    if not 0 < gamma < np.inf:
        raise ValueError(f"plot.{function}: gamma is an exponent above 0, not {gamma}")
    return Normalize(ABOVE_ZERO, vmax) if gamma == 1 else PowerNorm(gamma, ABOVE_ZERO, vmax)


def _limits(
    m: np.ndarray, signed: bool | None, vmin: float | None, vmax: float | None
) -> tuple[float, float]:
    least, most = float(m.min()), float(m.max())
    if signed or (signed is None and least < 0 and vmin is None):
        if vmin is not None and vmin != -(vmax or 0):
            raise ValueError(
                f"plot.heatmap: signed limits are symmetric, but vmin={vmin} and vmax={vmax}; "
                "give vmax only, or signed=False"
            )
        high = max(abs(least), abs(most)) if vmax is None else vmax
        low = -(high or 1.0)
        high = high or 1.0
    else:
        low = min(0.0, least) if vmin is None else vmin
        high = most if vmax is None else vmax
        high = low + 1.0 if high == low and vmax is None else high
    if not low < high:
        raise ValueError(f"plot.heatmap: the limits are the wrong way round: {low} to {high}")
    return low, high


def _anchor(ax: Any) -> str:
    """Where cells lie that do not fill their place: by the labels; in a given Axes, by the bar."""
    return "NW" if ax is None else "NE"


def _image(
    ax: Any, data: np.ndarray, colors: str, norm: Any, anchor: str, nothing: str | None = None
) -> Any:
    image = ax.imshow(
        data,
        cmap=color_map(colors, nothing),
        norm=norm,
        aspect="equal",
        interpolation_stage="rgba",
    )
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.grid(False)
    ax.set_anchor(anchor)
    return image


def _stack(maps: Any) -> np.ndarray:
    what = "plot.attention_grid: maps"
    layers = list(maps) if isinstance(maps, list | tuple) else [maps]
    arrays = [numbers(layer, what) for layer in layers]
    shapes = sorted({a.shape for a in arrays})
    if len(shapes) > 1:
        raise ValueError(f"{what}: the layers have different shapes: {', '.join(map(str, shapes))}")
    w = np.stack(arrays) if isinstance(maps, list | tuple) else arrays[0]
    if w.ndim == 5:  # (layers, batch, heads, N, M)
        if w.shape[1] != 1:
            raise ValueError(
                f"{what} have shape {w.shape}: {w.shape[1]} texts; choose one, as in "
                "[layer[0] for layer in maps]"
            )
        w = w[:, 0]
    if w.ndim != 4:
        raise ValueError(
            f"{what} have shape {w.shape}, needed is (layers, heads, queries, keys); "
            "for one head: plot.attention"
        )
    return w


def _weight_bar(image: Any, shrink: float = 1.0) -> None:
    gamma = getattr(image.norm, "gamma", 1)
    words = {1: "weight", 0.5: "weight (square-root scale)"}
    bar = color_bar(image, words.get(gamma, f"weight (to the power {gamma:g})"), shrink)
    top = image.norm.vmax
    bar.set_ticks([top * part for part in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)])
    bar.ax.set_yticklabels([f"{top * part:.2g}" for part in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)])


def _settle(figure: Any) -> None:
    """Lay a figure out once before its first drawing.

    Square cells, and a title above tall labels, move each other: what one pass leaves cut off, the
    next one, when the figure is drawn, finds in its place.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        legible(figure)
        engine.execute(figure)


def _tile(w: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """(L, H, N, M) as one array with white gaps (NaN) between tiles, and the steps of tiles."""
    L, H, N, M = w.shape
    gap = max(1, max(N, M) // 12)
    canvas = np.full((L, N + gap, H, M + gap), np.nan)
    canvas[:, :N, :, :M] = w.transpose(0, 2, 1, 3)
    flat = canvas.reshape(L * (N + gap), H * (M + gap))
    return flat[:-gap, :-gap], (N + gap, M + gap)


def _size(
    N: int,
    M: int,
    rows: list[str] | None,
    columns: list[str] | None,
    colorbar: bool,
    title: str | None,
    cell: float = 0.36,
) -> tuple[float, float]:
    """Inches of a new figure: cells that hold a label, within what a page holds."""
    side = float(np.clip(cell * max(N, M), 1.6, 5.6)) / max(N, M)
    wide = max(map(len, rows or [""])) * 0.085
    high = max(map(len, columns or [""])) * 0.085
    upright = high > side
    width = side * M + 0.5 + wide + (0.8 if colorbar else 0)
    height = side * N + 0.5 + (high if upright else 0.2) + (0.3 if title else 0)
    return max(width, 2.4), max(height, 1.2)


def _label_cells(ax: Any, rows: list[str] | None, columns: list[str] | None) -> None:
    """Labels of rows at the left and of columns on top, as in a table; none at all: indices."""
    ax.tick_params(length=0, labelsize=TICK, labeltop=True, labelbottom=False)
    room = _cell_points(ax)
    size = float(np.clip(0.9 * room, 6.0, TICK))
    step = max(1, int(np.ceil(1.15 * size / room)))  # leave labels out rather than overprint them
    if rows is not None:
        _set_labels(ax.yaxis, rows, step, size)
    else:
        ax.yaxis.get_major_locator().set_params(integer=True)
    if columns is not None:
        upright = max(map(len, columns)) * 0.62 * size > room * step
        _set_labels(ax.xaxis, columns, step, size)
        if upright:
            ax.tick_params(axis="x", labelrotation=90)
    else:
        ax.xaxis.get_major_locator().set_params(integer=True)


def _set_labels(axis: Any, labels: list[str], step: int, size: float) -> None:
    places = range(0, len(labels), step)
    axis.set_ticks(places, [labels[i] for i in places])
    axis.set_tick_params(labelsize=size)
    for text in axis.get_ticklabels():
        text.set_parse_math(False)  # a token "$x$" is no formula


def _label_tiles(
    ax: Any, labels: list[str], down: tuple[int, int], right: tuple[int, int], size: float
) -> None:
    """Tokens below the tiles and to the right of them; ``down`` and ``right``: tiles and step."""
    for axis, (count, step) in ((ax.xaxis, right), (ax.yaxis, down)):
        places = [i * step + j for i in range(count) for j in range(len(labels))]
        axis.remove_overlapping_locs = False  # the middle token stands where the head is named
        axis.set_ticks(places, labels * count, minor=True)
    ax.tick_params(
        which="minor",
        length=0,
        labelsize=size,
        labeltop=False,
        labelbottom=True,
        labelleft=False,
        labelright=True,
    )
    if max(map(len, labels)) > 1:
        ax.tick_params(axis="x", which="minor", labelrotation=90)
    for text in ax.get_xticklabels(minor=True) + ax.get_yticklabels(minor=True):
        text.set_parse_math(False)


def _cell_points(ax: Any) -> float:
    """The height of a cell in points, as far as it is known before the figure is laid out."""
    box = ax.get_position()
    width, height = ax.figure.get_size_inches()
    rows, columns = ax.images[-1].get_array().shape
    return float(72 * min(0.9 * box.height * height / rows, 0.9 * box.width * width / columns))


def _write_values(image: Any, m: np.ndarray, digits: int, skip_zeros: bool = False) -> None:
    """The number in each cell, in ink that reads on its color."""
    texts = [[f"{value:.{digits}f}" for value in row] for row in m + 0.0]
    longest = max(len(text) for row in texts for text in row)
    size = float(np.clip(0.85 * _cell_points(image.axes) / (0.62 * longest), 4.5, TICK + 1))
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            if not (skip_zeros and m[i, j] == 0):
                image.axes.text(
                    j,
                    i,
                    text.replace("-", "−"),
                    ha="center",
                    va="center",
                    fontsize=size,
                    color=ink_on(image, m[i, j]),
                )
