"""The figures of a run as a picture: ratios with their quartiles, memory by length, how language
models get better while they are trained, and what reading beforehand is worth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .transfer import METHODS, curves

COMPARED = {
    "ops": ("op", "Ops, forward and backward"),
    "attention": ("length", "Causal attention"),
    "train_step": ("size", "Training step of a GPT"),
    "decode": ("size", "Writing with a GPT, per token"),
    "tokenizer": ("case", "Byte-level BPE"),
}


def draw(results: dict[str, Any], path: Path) -> Path:
    """One panel for each part that compares; the format is the path's ending, .png or .svg.

    Raises:
        ValueError: no part that was run has anything to draw.
    """
    from matplotlib.figure import Figure

    from scratchlm.plot import save

    panels: list[tuple[str, float, Callable[[Any], None]]] = []  # title, height, how to draw it
    for part, (key, title) in COMPARED.items():
        if part in results:
            groups = _groups(results[part]["rows"], key)
            for clock, rows in groups.items():
                height = 1.0 + 0.24 * len(rows)
                panels.append((f"{title}, {clock}", height, partial(_bars, rows=rows)))
    if "memory" in results:
        title = "Extra memory of causal attention, forward and backward"
        panels.append((title, 4.0, partial(_memory, rows=results["memory"]["attention"])))
    for language, text in results.get("language_models", {}).items():
        title = f"{language}: {text['source']}, {text['tokens']}"
        panels.append((title, 4.0, partial(_curves, text=text)))
    if "transfer" in results:
        found = results["transfer"]
        panels.append(("Five kinds of news, by labels", 4.0, partial(_labels, rows=found["rows"])))
        title = f"{found['stages'][0]['labels']} labels, by reading"
        panels.append((title, 4.0, partial(_stages, found=found)))
    if not panels:
        drawn = ", ".join([*COMPARED, "memory", "language_models", "transfer"])
        raise ValueError(f"nothing to draw: none of {drawn} was run")

    heights = [height for _, height, _ in panels]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for ax, (title, _, drawn_on) in zip(axes, panels, strict=True):
        ax.set_title(title, loc="left", fontweight="bold")
        drawn_on(ax)
    return save(figure, path)


def _groups(rows: list[dict[str, Any]], key: str) -> dict[str, list[dict[str, Any]]]:
    """By clock: what was measured, by whom, the ratio and its quartiles."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        clock = "one thread, processor time" if row["threads"] == 1 else "all threads, wall time"
        what = f"{'N = ' if key == 'length' else ''}{row[key]}"
        what += f", {row['what']}" if "what" in row else ""
        groups.setdefault(clock, []).append(row | {"label": f"{what}: {row['name']}"})
    return groups


def _bars(ax: Any, rows: list[dict[str, Any]]) -> None:
    """Times relative to scratchlm's, on a logarithmic axis: right of 1 is slower than it."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    for y, row in enumerate(rows):
        ratio, color = row["ratio"], f"C{names.index(row['name'])}"
        ax.barh(y, ratio - 1, left=1, color=color, height=0.7)
        low, high = max(row["low"], 1e-2), max(row["high"], 1e-2)
        ax.plot([low, high], [y, y], color="0.3", linewidth=1.5)
        ax.annotate(
            f"{ratio:.2f}  ({row['ms']:.3g} ms)",
            (max(ratio, high, 1), y),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    ax.set_xscale("log")
    ax.set_xlim(min(0.5, *(row["ratio"] for row in rows)), 1.6 * max(row["high"] for row in rows))
    ax.set_yticks(range(len(rows)), [row["label"] for row in rows], fontsize=8)
    ax.invert_yaxis()
    ax.axvline(1, color="0.3", linewidth=0.8)
    ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50) if ax.get_xlim()[0] <= t <= ax.get_xlim()[1]]
    ax.set_xticks(ticks, [f"{t:g}×" for t in ticks])
    ax.minorticks_off()
    ax.set_xlabel("time, times scratchlm's (line: quartiles)")


def _memory(ax: Any, rows: list[dict[str, Any]]) -> None:
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        ax.plot([r["length"] for r in own], [r["mb"] for r in own], marker="o", label=name)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(lengths := sorted({r["length"] for r in rows}), [str(n) for n in lengths])
    ax.set_xlabel("length N")
    ax.set_ylabel("MB")
    ax.legend()


def _curves(ax: Any, text: dict[str, Any]) -> None:
    """Perplexity per character while they are trained; a dashed line for each n-gram."""
    from scratchlm.metrics import perplexity

    for number, (name, curve) in enumerate(text["curves"].items()):
        minutes, nats = zip(*curve, strict=True)
        ax.plot(minutes, [perplexity(n) for n in nats], marker="o", color=f"C{number}", label=name)
    counts = [row for row in text["rows"] if row["name"].endswith("-gram")]
    scores = [perplexity(row["per_characters"]) for row in counts]
    best = min(scores)
    for row, score in zip(counts, scores, strict=True):
        # those that lie on one line have one label, the best one's
        if score == best or score > 1.1 * best:
            ax.axhline(score, color="0.5", linewidth=1, linestyle="--")
            ax.annotate(
                f"{row['name']}  {score:.3g}",
                (0.01, score),
                xycoords=("axes fraction", "data"),
                xytext=(0, 2),
                textcoords="offset points",
                fontsize=8,
            )
    ax.set_yscale("log")
    low, high = min(0.9 * best, ax.get_ylim()[0]), ax.get_ylim()[1]
    ax.set_ylim(low, high)
    ticks = [
        t
        for t in (2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300)
        if low <= t <= high
    ]
    ax.set_yticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    ax.set_xlabel("processor minutes of training")
    ax.set_ylabel("perplexity per character")
    ax.legend(loc="upper right")


def _labels(ax: Any, rows: list[dict[str, Any]]) -> None:
    """Accuracy by the number of labels: means of the seeds, and from the lowest to the highest."""
    for number, name in enumerate(METHODS):
        own = [(size, values) for size, method, values in curves(rows) if method == name]
        labels = [size for size, _ in own]
        middle = [sum(values) / len(values) for _, values in own]
        low, high = [min(values) for _, values in own], [max(values) for _, values in own]
        ax.plot(labels, middle, marker="o", color=f"C{number}", label=name)
        ax.fill_between(labels, low, high, color=f"C{number}", alpha=0.2, linewidth=0)
    ax.set_xscale("log")
    ax.set_xticks(labels, [f"{n:,}" for n in labels])
    ax.minorticks_off()
    ax.set_xlabel("labelled articles")
    ax.set_ylabel("accuracy on the test part")
    ax.legend(loc="lower right")


def _stages(ax: Any, found: dict[str, Any]) -> None:
    """Accuracy by how long the model had read, over its loss at that time."""
    steps = [each["step"] for each in found["stages"]]
    ax.plot(
        steps,
        [sum(each["accuracies"]) / len(each["accuracies"]) for each in found["stages"]],
        marker="o",
        color="C0",
        label="accuracy (left)",
    )
    losses = [(r["step"], r["validation_loss"]) for r in found["reading"] if "validation_loss" in r]
    other = ax.twinx()
    other.plot(*zip(*losses, strict=True), color="C1", label="loss of reading (right)")
    ax.set_xlabel("steps of reading")
    ax.set_ylabel("accuracy on the test part")
    other.set_ylabel("nats per hidden word")
    ax.legend(handles=[*ax.get_lines(), *other.get_lines()], loc="center right")
