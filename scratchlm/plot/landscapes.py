"""How optimizers walk over a function of two variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ._arrays import numbers, unchecked
from .look import INK, cycle, drawing, legend, name_axes, new_axes


@drawing
def optimizer_paths(
    function: Callable[[Any, Any], Any],
    paths: Mapping[str, Any],
    *,
    minimum: tuple[float, float] | None = None,
    xlim: tuple[float, float] | None = None,
    ylim: tuple[float, float] | None = None,
    levels: int = 18,
    title: str | None = None,
    ax: Any = None,
) -> Any:
    """Contours of ``function`` and the paths of optimizers over it. Returns the Axes.

    Args:
        function: ``f(x, y)`` of two arrays of the same shape, elementwise.
        paths: name → points (T, 2), from the start (ringed) to the last step (a filled dot).
        minimum: marked by a star.
        xlim: what is shown; by default all the paths and the minimum.
        ylim: likewise.
        levels: how many contours. They are spaced evenly in the logarithm of ``f - min f``, so that
            narrow valleys show.
        title: written above.
        ax: draw here instead of in a new figure.

    Raises:
        ValueError: no paths, points that are no (T, 2), NaN (a path that diverged: cut it there), a
            function that does not keep the shape.
    """
    if not isinstance(paths, Mapping):
        raise TypeError(
            f"plot.optimizer_paths: paths map names to points, not {type(paths).__name__}; "
            "for one: {'SGD': points}"
        )
    if not paths:
        raise ValueError("plot.optimizer_paths: there are no paths")
    points = {}
    for name, path in paths.items():
        what = f"plot.optimizer_paths: path {name!r}"
        points[name] = numbers(path, what, ndim=2, shape="(steps, 2)")
        if points[name].shape[1] != 2:
            raise ValueError(f"{what} has shape {points[name].shape}, needed is (steps, 2)")
    seen = np.concatenate([*points.values(), *([np.array([minimum])] if minimum else [])])
    xlim = _limits("xlim", xlim, seen[:, 0])
    ylim = _limits("ylim", ylim, seen[:, 1])
    x, y = np.meshgrid(np.linspace(*xlim, 240), np.linspace(*ylim, 240))
    z = unchecked(function(x, y), "plot.optimizer_paths: function")
    if z.shape != x.shape:
        raise ValueError(
            f"plot.optimizer_paths: function gave shape {z.shape} for two arrays of shape "
            f"{x.shape}; it must work element by element"
        )
    if not np.isfinite(z).any():
        raise ValueError("plot.optimizer_paths: function is finite nowhere in what is shown")
    ax = new_axes(ax, "optimizer_paths", 6.4, 4.6)
    _contours(ax, x, y, z, levels)
    for (name, path), color in zip(points.items(), cycle(len(points)), strict=True):
        many = len(path) > 60
        ax.plot(
            *path.T,
            "-" if many else ".-",
            color=color,
            linewidth=1.5,
            markersize=5,
            label=name,
            zorder=3,
        )
        ax.plot(*path[-1], "o", color=color, markersize=6.5, zorder=4)
    for start in {tuple(path[0]) for path in points.values()}:
        ax.plot(*start, "o", color=INK, markerfacecolor="white", markersize=7, zorder=5)
    if minimum is not None:
        ax.plot(*minimum, "*", color=INK, markerfacecolor="#f7d038", markersize=13, zorder=5)
    ax.set_xlim(*xlim)
    ax.set_ylim(*ylim)
    ax.grid(False)
    legend(ax)
    name_axes(ax, title, "x", "y")
    return ax


def _limits(name: str, limits: tuple[float, float] | None, seen: np.ndarray) -> tuple[float, float]:
    if limits is None:
        low, high = float(seen.min()), float(seen.max())
        margin = 0.12 * (high - low) or 1.0
        return low - margin, high + margin
    low, high = map(float, limits)
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"plot.optimizer_paths: {name} is (low, high), not {limits}")
    return low, high


def _contours(ax: Any, x: np.ndarray, y: np.ndarray, z: np.ndarray, levels: int) -> None:
    """Light gray fill, darker upwards, and thin lines: the paths carry the color."""
    from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap

    finite = z[np.isfinite(z)]
    least, most = float(finite.min()), float(finite.max())
    if least == most:
        return  # a plain has no contours
    spread = most - least
    typical = max(float(np.quantile(finite, 0.01)) - least, 1e-4 * spread)
    at = least + np.concatenate([[0.0], np.geomspace(typical, spread, levels)])
    grays = LinearSegmentedColormap.from_list("grays", ["#ffffff", "#dcdcdc"])
    z = np.ma.masked_invalid(z)
    ax.contourf(x, y, z, levels=at, cmap=grays, norm=BoundaryNorm(at, grays.N), zorder=0)
    ax.contour(x, y, z, levels=at[1:-1], colors="#b4b4b4", linewidths=0.6, zorder=1)
