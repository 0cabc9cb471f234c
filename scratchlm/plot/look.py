"""One look for all figures: colors, sizes, and the frame of every function that draws.

matplotlib is loaded when something is drawn, never on import, and pyplot not at all: a figure is a
plain ``matplotlib.figure.Figure``, which is gone when its last reference is. Pages are white on
purpose, also where a book has a dark theme: the colors are chosen against white.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib.util
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# Okabe & Ito 2008: told apart with any common color blindness; without its yellow, pale on white
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK = "#262626"  # text and axes
PALE = "#8a8a8a"  # what is beside the point: guides, baselines
NOTHING = "#ececec"  # cells that are exactly 0, such as masked positions

MAGNITUDES = "cividis"  # 0 and more: perceptually uniform, the same to the color-blind
SIGNED = "RdBu_r"  # white at 0, limits always symmetric

TITLE, LABEL, TICK = 10.5, 9.5, 8.5  # points, read well at the 6.4 inches of a book page

STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": ["DejaVu Sans"],
    "font.size": LABEL,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.titlesize": TITLE,
    "axes.titlelocation": "left",
    "axes.labelsize": LABEL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": TICK,
    "ytick.labelsize": TICK,
    "legend.fontsize": TICK,
    "legend.frameon": False,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "svg.fonttype": "path",  # an SVG looks the same where the fonts are missing
    "svg.hashsalt": "scratchlm",  # and is the same file each time
}


def require_matplotlib(what: str) -> None:
    """Raise a ModuleNotFoundError that says what to install."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError(
            f"plot.{what} draws with matplotlib, which is not installed: pip install matplotlib",
            name="matplotlib",
        )


def style() -> contextlib.AbstractContextManager[Any]:
    """``with plot.style():`` gives figures of your own this look; undone after the block."""
    require_matplotlib("style")
    import matplotlib as mpl
    from cycler import cycler

    settings: Any = {**STYLE, "axes.prop_cycle": cycler(color=COLORS)}
    return mpl.rc_context(settings)


def drawing(function: Callable[P, R]) -> Callable[P, R]:
    """The frame of a function that draws: unknown options, the style, legible text."""
    signature = inspect.signature(function)
    name = function.__name__
    options = [
        p.name
        for p in signature.parameters.values()
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]

    @functools.wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> R:
        for option in kwargs:
            if option not in options:
                close = difflib.get_close_matches(option, options, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ";"
                raise TypeError(
                    f"plot.{name} has no option {option!r}{hint} It has: {', '.join(options)}"
                )
        require_matplotlib(name)
        from .text import legible

        with style():
            drawn = function(*args, **kwargs)
            legible(drawn)
        return drawn

    return draw


def new_axes(ax: Any, function: str, width: float = 6.4, height: float = 4.0) -> Any:
    """``ax``, or the Axes of a new figure of ``width`` × ``height`` inches; dressed either way."""
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    if ax is None:
        ax = Figure(figsize=(width, height), layout="constrained").subplots()
    elif not isinstance(ax, Axes):
        raise TypeError(
            f"plot.{function}: ax is a matplotlib Axes, not {type(ax).__name__}"
            + ("; take one of its axes, as in fig.axes[0]" if hasattr(ax, "axes") else "")
        )
    # an Axes made elsewhere has taken its look from elsewhere
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=TICK, color=INK, labelcolor=INK)
    ax.set_axisbelow(True)
    return ax


def name_axes(ax: Any, title: str | None, x: str | None = None, y: str | None = None) -> None:
    """Title and axis labels, with the sizes of this style."""
    if title:
        ax.set_title(title, loc="left", fontsize=TITLE, color=INK)
    if x is not None:
        ax.set_xlabel(x, fontsize=LABEL, color=INK)
    if y is not None:
        ax.set_ylabel(y, fontsize=LABEL, color=INK)


def color_map(name: str, nothing: str | None = None) -> Any:
    """A color map, with a color of its own for what lies below its limits."""
    import matplotlib as mpl

    colors = mpl.colormaps[name].with_extremes(bad="white")
    return colors if nothing is None else colors.with_extremes(bad="white", under=nothing)


def color_bar(image: Any, label: str | None = None, shrink: float = 1.0) -> Any:
    """A slim color bar beside the axes of ``image``."""
    bar = image.axes.figure.colorbar(
        image, ax=image.axes, fraction=0.046, pad=0.02, aspect=24, shrink=shrink, panchor=False
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=TICK, length=2, color=INK, labelcolor=INK)
    if label:
        bar.set_label(label, fontsize=LABEL, color=INK)
    return bar


def ink_on(image: Any, value: float) -> str:
    """Black or white, whichever reads better on the color that ``image`` gives ``value``."""
    red, green, blue, _ = image.cmap(image.norm(value))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else INK


def legend(ax: Any, loc: str = "best") -> None:
    """The legend, inside; where it has many lines, beside the axes."""
    count = len(ax.get_legend_handles_labels()[0])
    options = {"fontsize": TICK, "frameon": True, "edgecolor": "none", "framealpha": 0.85}
    if count > 6:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), **options)
    else:
        ax.legend(loc=loc, **options)


def cycle(count: int) -> list[Any]:
    """``count`` colors that are told apart: the categorical ones, beyond them a scale."""
    if count <= len(COLORS):
        return list(COLORS[:count])
    import matplotlib as mpl

    scale = mpl.colormaps["cividis"]
    return [scale(0.85 * i / (count - 1)) for i in range(count)]
