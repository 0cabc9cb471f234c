"""Figures: what a model attends to, how it learns, where gradients go.

Each function takes arrays (Tensors, NumPy, CuPy, lists) and an optional ``ax=`` to draw into, and
returns the Axes, or a Figure where it draws a grid. Nothing is shown or written until you say so:

    ax = plot.attention(maps[0][2], tokens)
    plot.save(ax, "attention.png")

matplotlib is loaded by the first call, and pyplot never.
"""

from __future__ import annotations

from .classes import confusion_matrix
from .curves import gradcheck_curve, gradient_flow, loss_curve, metric_curves, schedule
from .distributions import distribution, histogram
from .files import save
from .graph import graph, to_dot
from .landscapes import optimizer_paths
from .lattice import lattice
from .look import style
from .maps import attention, attention_grid, heatmap
from .text import legible, token_label

__all__ = [
    "attention",
    "attention_grid",
    "confusion_matrix",
    "distribution",
    "gradcheck_curve",
    "gradient_flow",
    "graph",
    "heatmap",
    "histogram",
    "lattice",
    "legible",
    "loss_curve",
    "metric_curves",
    "optimizer_paths",
    "save",
    "schedule",
    "style",
    "to_dot",
    "token_label",
]
