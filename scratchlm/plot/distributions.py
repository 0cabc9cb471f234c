"""Distributions: of values in gradients and activations, and of the next token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._arrays import numbers, probabilities
from .look import COLORS, INK, PALE, TICK, cycle, drawing, legend, name_axes, new_axes
from .text import token_labels


@drawing
def histogram(
    values: Any,
    *,
    bins: int = 60,
    log: bool = False,
    xlabel: str = "value",
    title: str | None = None,
    ax: Any = None,
) -> Any:
    """How the numbers of gradients, activations or weights are distributed. Returns the Axes.

    Args:
        values: an array of any shape, or a mapping from name to array; several are drawn over each
            other with the same bins, as densities, each named with its mean ± standard deviation.
        bins: how many.
        log: logarithmic density, to see the tails.
        xlabel: what the numbers are.
        title: written above.
        ax: draw here instead of in a new figure.

    Raises:
        ValueError: nothing to draw, NaN or infinite values (named).
    """
    named = values if isinstance(values, Mapping) else {"": values}
    if not named:
        raise ValueError("plot.histogram: nothing to draw, the mapping is empty")
    if isinstance(bins, bool) or bins < 1:
        raise ValueError(f"plot.histogram: bins is a number from 1 on, not {bins!r}")
    arrays = {
        str(name): numbers(one, f"plot.histogram: {name or 'values'}").ravel()
        for name, one in named.items()
    }
    low = min(float(a.min()) for a in arrays.values())
    high = max(float(a.max()) for a in arrays.values())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    ax = new_axes(ax, "histogram", 6.4, 3.4)
    for (name, array), color in zip(arrays.items(), cycle(len(arrays)), strict=True):
        density, _ = np.histogram(array, bins=edges, density=True)
        label = f"{name}  {_spread(array)}".strip()
        ax.stairs(density, edges, color=color, linewidth=1.4, label=label, zorder=3)
        if len(arrays) <= 3:
            ax.stairs(density, edges, color=color, alpha=0.15, fill=True)
    if low < 0 < high:
        ax.axvline(0.0, color=PALE, linewidth=0.8, zorder=1)
    if log:
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    ax.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    legend(ax)
    name_axes(ax, title, xlabel, "density")
    return ax


@drawing
def distribution(
    probs: Any,
    tokens: Sequence[str | bytes] | None = None,
    *,
    top: int = 12,
    keep: int | None = None,
    chosen: int | None = None,
    title: str | None = None,
    ax: Any = None,
) -> Any:
    """What the next token may be: the most probable as bars, the rest as one. Returns the Axes.

    Args:
        probs: (V,), none below 0, sum 1: ``softmax(logits / temperature)``.
        tokens: V of them, the whole vocabulary; without, ids are shown.
        top: how many bars.
        keep: the ``keep`` most probable are in color, the others pale: what top-k leaves.
        chosen: the id that was drawn, in another color.
        title: written above.
        ax: draw here instead of in a new figure.

    The entropy ``-sum p ln p`` and the perplexity, its exponential, stand above the bars.

    Raises:
        ValueError: probabilities that do not sum to 1, a token too many or too few.
        IndexError: ``chosen`` is no id.
    """
    p = numbers(probs, "plot.distribution: probs", ndim=1, shape="(vocabulary,): one position")
    probabilities(p, "plot.distribution: probs")
    for name, count in (("top", top), ("keep", keep)):
        if count is not None and (isinstance(count, bool) or count < 1):
            raise ValueError(f"plot.distribution: {name} is a number from 1 on, not {count}")
    if chosen is not None and not 0 <= chosen < len(p):
        raise IndexError(
            f"plot.distribution: chosen={chosen} is no id: they go from 0 to {len(p) - 1}"
        )
    labels = (
        [str(i) for i in range(len(p))]
        if tokens is None
        else token_labels(tokens, len(p), "plot.distribution")
    )
    order = np.argsort(-p, kind="stable")
    shown = order[:top]
    if chosen is not None and chosen not in shown:
        shown = np.append(shown, chosen)
    kept = set(order[: keep or len(p)].tolist())
    heights = p[shown].tolist()
    names = [labels[i] for i in shown]
    colors = [
        COLORS[1] if i == chosen else COLORS[0] if i in kept else "#c9c9c9" for i in shown.tolist()
    ]
    left = len(p) - len(shown)
    if left:
        heights.append(max(0.0, float(p.sum() - p[shown].sum())))
        names.append(f"the other {left:,}")
        colors.append("#e2e2e2")
    ax = new_axes(ax, "distribution", 6.4, 0.26 * len(names) + 0.8)
    places = np.arange(len(names))
    ax.barh(places, heights, color=colors, height=0.72)
    for place, height in zip(places, heights, strict=True):
        ax.annotate(
            f"{height:.3f}",
            (height, place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=TICK - 0.5,
            color=INK,
        )
    ax.set_yticks(places, names)
    for text in ax.get_yticklabels():
        text.set_parse_math(False)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(0, 1.12 * max(heights))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="#e4e4e4", linewidth=0.7)
    entropy = float(-(p[p > 0] * np.log(p[p > 0])).sum())
    words = f"entropy {entropy:.2f} nats, perplexity {np.exp(entropy):.1f} of {len(p):,}"
    ax.set_title(words, loc="right", fontsize=TICK, color="#5f5f5f")
    name_axes(ax, title, "probability")
    return ax


def _spread(array: np.ndarray) -> str:
    """Mean ± standard deviation, both to the second digit of the latter."""
    mean, std = float(array.mean()), float(array.std())
    digits = 1 - int(np.floor(np.log10(std))) if std > 0 else 2
    form = f".{digits}f" if 0 <= digits <= 4 else ".1e"
    mean = round(mean, digits) + 0.0  # no "−0.00"
    return f"{mean:{form}} ± {std:{form}}".replace("-", "−")
