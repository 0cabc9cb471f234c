"""Curves over training steps and step sizes, and norms by layer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..backend import to_host
from ..tensor import Tensor
from ._arrays import numbers
from .look import COLORS, INK, LABEL, PALE, TICK, TITLE, cycle, drawing, legend, name_axes, new_axes

Curve = Any  # losses, or the pair (steps, losses)


@drawing
def loss_curve(
    train: Curve,
    validation: Curve | None = None,
    *,
    baselines: Mapping[str, float] | None = None,
    smooth: int | None = None,
    perplexity: bool = False,
    title: str | None = None,
    ax: Any = None,
) -> Any:
    """Loss against step, beside losses that are easy to reach. Returns the Axes.

    Args:
        train: losses in nats, one for each step from 0; or ``(steps, losses)``.
        validation: the same; give ``(steps, losses)`` where it is measured less often.
        baselines: name → loss, drawn as dashed lines: ``{"bigram": 2.46, "uniform": math.log(V)}``.
        smooth: width of the (centered) running mean drawn over the training losses, which stay
            visible, paler; by default a fiftieth of them from 100 on, 1 is none.
        perplexity: a second scale at the right, ``exp(loss)``.
        title: written above.
        ax: draw here instead of in a new figure.

    Raises:
        ValueError: NaN or infinite losses, steps and losses of different length, nothing to draw.
    """
    steps, losses = _curve(train, "plot.loss_curve: train")
    width = (len(losses) // 50 if len(losses) >= 100 else 1) if smooth is None else smooth
    if isinstance(width, bool) or not 1 <= width <= len(losses):
        raise ValueError(
            f"plot.loss_curve: smooth is a number of steps from 1 to {len(losses)}, not {smooth}"
        )
    ax = new_axes(ax, "loss_curve")
    if width > 1:
        ax.plot(steps, losses, color=COLORS[0], alpha=0.25, linewidth=0.8)
        mean = np.convolve(losses, np.ones(width) / width, mode="valid")
        name = f"training (mean of {width})"
        first = (width - 1) // 2
        ax.plot(steps[first : first + len(mean)], mean, color=COLORS[0], linewidth=1.6, label=name)
    else:
        ax.plot(steps, losses, color=COLORS[0], linewidth=1.6, label="training", **_dot(losses))
    if validation is not None:
        at, values = _curve(validation, "plot.loss_curve: validation")
        marks = {"marker": "o", "markersize": 3.5} if len(values) <= 40 else {}
        ax.plot(at, values, color=COLORS[1], linewidth=1.6, label="validation", **marks)
    _baselines(ax, baselines or {})
    ax.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    ax.margins(x=0.02)
    ax.xaxis.get_major_locator().set_params(integer=True)
    if validation is not None or width > 1:
        legend(ax)
    if perplexity:
        right = ax.secondary_yaxis("right", functions=(np.exp, _safe_log))
        right.tick_params(labelsize=TICK)
        right.set_ylabel("perplexity", fontsize=LABEL)
    name_axes(ax, title, "step", "loss (nats per token)")
    return ax


@drawing
def metric_curves(
    metrics: Mapping[str, Curve],
    *,
    logarithmic: Collection[str] = (),
    columns: int = 2,
    title: str | None = None,
) -> Any:
    """A small panel for each metric, against the same steps. Returns the Figure.

    What is measured in different units shares no axis. A metric whose values are all shares, from 0
    to 1, and not tiny, is drawn on all of that scale, so that panels compare.

    Args:
        metrics: name → values, one for each step from 0; or ``(steps, values)``.
        logarithmic: the names of those with a logarithmic scale.
        columns: panels side by side.
        title: written above.

    Raises:
        ValueError: no metric, one without values, NaN or infinite values, steps and values of
            different length, a logarithmic scale for what is not above 0, columns below 1.
    """
    from matplotlib.figure import Figure

    if not metrics:
        raise ValueError("plot.metric_curves: there is no metric to draw")
    if columns < 1:
        raise ValueError(f"plot.metric_curves: columns={columns!r} must be 1 or more")
    curves = {name: _curve(v, f"plot.metric_curves: {name}") for name, v in metrics.items()}
    last = max(float(steps.max(initial=0)) for steps, _ in curves.values())
    columns = min(columns, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(3.4 * columns + 0.4, 2.1 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for ax, (name, (steps, values)), color in zip(
        axes, curves.items(), itertools.cycle(COLORS), strict=False
    ):
        ax = new_axes(ax, "metric_curves")
        if not len(values):
            raise ValueError(f"plot.metric_curves: {name} has no values")
        ax.plot(steps, values, color=color, linewidth=1.4, **_dot(values))
        ax.set_xlim(-0.02 * last, 1.02 * last or 1)
        if name in logarithmic:
            if values.min() <= 0:
                raise ValueError(
                    f"plot.metric_curves: {name} falls to {values.min():g}, which a logarithmic "
                    "scale can not show"
                )
            ax.set_yscale("log")
        elif values.min() >= 0 and 0.1 <= values.max() <= 1:
            ax.set_ylim(0, 1.02)
        ax.grid(axis="y", color="#e4e4e4", linewidth=0.7)
        ax.xaxis.get_major_locator().set_params(integer=True)
        name_axes(ax, name.replace("_", " "), "step")
    for ax in axes[len(curves) :]:
        ax.remove()
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=TITLE, color=INK)
    return figure


@drawing
def gradient_flow(
    gradients: Any,
    *,
    by: str = "layer",
    title: str | None = None,
    ax: Any = None,
) -> Any:
    """The norm of the gradient in each layer, on a logarithmic scale. Returns the Axes.

    Input side on top, output side at the bottom. Norms that shrink towards the top by orders of
    magnitude are gradients that vanish; a layer marked × has a gradient of 0, or none.

    Args:
        gradients: a model (after ``backward()``), its ``named_parameters()``, or a mapping from
            name to gradient; a tensor that requires a gradient stands for its ``.grad``.
        by: ``"parameter"``; ``"layer"`` joins weight and bias; ``"block"`` joins what is inside the
            same numbered layer, as ``h.0``. Joined norms are ``sqrt(sum of squares)``.
        title: written above.
        ax: draw here instead of in a new figure.

    Raises:
        ValueError: no parameter has a gradient; a gradient is NaN or infinite (named).
    """
    if by not in ("parameter", "layer", "block"):
        raise ValueError(f"plot.gradient_flow: by is 'parameter', 'layer' or 'block', not {by!r}")
    norms: dict[str, float | None] = {}
    for name, gradient in _named_gradients(gradients):
        key = _group(name, by)
        former = norms.get(key)
        if gradient is None:
            norms.setdefault(key, None)
        else:
            g = numbers(gradient, f"plot.gradient_flow: the gradient of {name}")
            norms[key] = float(np.hypot(former or 0.0, np.sqrt((g * g).sum())))
    if all(norm is None for norm in norms.values()):
        raise ValueError(
            "plot.gradient_flow: no parameter has a gradient; call loss.backward() first, and "
            "draw before zero_grad()"
        )
    names = _without_common_prefix(list(norms))
    ax = new_axes(ax, "gradient_flow", 6.4, float(np.clip(0.19 * len(names) + 1.0, 2.0, 11.0)))
    places = np.arange(len(names))
    drawn = np.array([norm or np.nan for norm in norms.values()])
    low = np.nanmin(drawn) if np.isfinite(drawn).any() else 1.0
    ax.set_xscale("log")
    if np.isfinite(drawn).any():
        ax.hlines(places, low / 3, drawn, color="#d5d5d5", linewidth=0.9, zorder=1)
        ax.plot(drawn, places, "o", color=COLORS[0], markersize=5)
        top = np.nanmax(drawn)
        ax.set_xlim(low / 3, top * 3)
    for place, norm in zip(places, norms.values(), strict=True):
        if not norm:
            note = "× 0" if norm == 0 else "× no gradient"
            beside = ax.get_yaxis_transform()
            ax.text(
                0.01, place, note, transform=beside, va="center", color=COLORS[1], fontsize=TICK
            )
    ax.set_yticks(places, names, fontsize=float(np.clip(600 / len(names), 5.0, TICK)))
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="#e4e4e4", linewidth=0.7)
    name_axes(ax, title, "norm of the gradient")
    return ax


@drawing
def gradcheck_curve(
    steps: Any,
    *errors: Any,
    seed: int = 0,
    title: str | None = None,
    ax: Any = None,
) -> Any:
    """The V: error of a difference quotient against its step, both logarithmic. Returns the Axes.

    At the right the step is too long and the Taylor series is cut (the error falls as ``h²``, or as
    ``h`` for forward differences); at the left digits cancel (it grows as ``1/h``).

    ``gradcheck_curve(f, *inputs)`` measures central and forward differences of ``f`` with
    :func:`scratchlm.gradcheck.error_by_step`; ``gradcheck_curve(steps, errors)`` draws given ones.

    Args:
        steps: a function or op; or the steps, above 0.
        errors: the function's inputs; or one array of relative errors, or a mapping from name to
            errors. An error of exactly 0 is drawn at 1e-17, below what float64 can tell.
        seed: of the random cotangent.
        title: written above.
        ax: draw here instead of in a new figure.

    Raises:
        ValueError: lengths that differ, a step that is not above 0, an error below 0, NaN.
    """
    h, curves = _measured(steps, errors, seed) if _is_function(steps) else _given(steps, errors)
    order = np.argsort(h)
    ax = new_axes(ax, "gradcheck_curve")
    ax.set_xscale("log")
    ax.set_yscale("log")
    for (name, values), color in zip(curves.items(), cycle(len(curves)), strict=True):
        ys, xs = np.maximum(values, 1e-17)[order], h[order]
        best = int(np.argmin(ys))
        label = f"{name or 'least'}: {_power(ys[best])} at h = {_power(xs[best])}"
        ax.plot(xs, ys, "o-", color=color, markersize=3.5, linewidth=1.4, label=label)
        ax.plot([xs[best]], [ys[best]], "o", color=color, markersize=9, markerfacecolor="none")
    ax.grid(color="#e4e4e4", linewidth=0.7)
    legend(ax, loc="upper center")
    name_axes(ax, title, "step h", "relative error")
    return ax


@drawing
def schedule(
    schedules: Any,
    steps: int | None = None,
    *,
    lr: float = 1.0,
    title: str | None = None,
    ax: Any = None,
) -> Any:
    """Learning rate against step. Returns the Axes.

    Args:
        schedules: a function from the step to a factor, or the values themselves; or a mapping from
            name to either: ``{"cosine": lambda t: cosine(t, total=1000, warmup=50)}``.
        steps: how many steps; needed for functions.
        lr: what the factors multiply.
        title: written above.
        ax: draw here instead of in a new figure.

    Raises:
        ValueError: no steps for a function; NaN or infinite values.
    """
    named = schedules if isinstance(schedules, Mapping) else {"": schedules}
    if not named:
        raise ValueError("plot.schedule: nothing to draw, the mapping is empty")
    if steps is not None and (isinstance(steps, bool) or steps < 1):
        raise ValueError(f"plot.schedule: steps is a number from 1 on, not {steps}")
    ax = new_axes(ax, "schedule", 6.4, 3.2)
    for (name, one), color in zip(named.items(), cycle(len(named)), strict=True):
        what = f"plot.schedule: {name or 'values'}"
        if callable(one):
            if steps is None:
                raise ValueError("plot.schedule: steps= says how far to draw a function")
            one = [float(one(step)) for step in range(steps)]
        values = numbers(one, what, ndim=1, shape="(steps,)")
        ax.plot(np.arange(len(values)), lr * values, color=color, label=name or None, linewidth=1.6)
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]) if ax.get_ylim()[0] < -1e-12 else 0.0)
    ax.margins(x=0.02)
    ax.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    if len(named) > 1:
        legend(ax)
    name_axes(ax, title, "step", "learning rate" if lr != 1.0 else "learning rate / base rate")
    return ax


# ---------------------------------------------------------------- parts


def _curve(values: Curve, what: str) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(values, tuple) and len(values) == 2 and np.ndim(_plain(values[0])) == 1:
        steps = numbers(values[0], f"{what} steps", ndim=1, shape="(n,)")
        losses = numbers(values[1], f"{what} losses", ndim=1, shape="(n,)")
        if len(steps) != len(losses):
            raise ValueError(f"{what}: {len(steps)} steps, but {len(losses)} losses")
        return steps, losses
    losses = numbers(values, what, ndim=1, shape="(n,), or the pair (steps, losses)")
    return np.arange(len(losses), dtype=np.float64), losses


def _plain(value: Any) -> Any:
    return to_host(value.data if isinstance(value, Tensor) else value)


def _dot(values: np.ndarray) -> dict[str, Any]:
    return {"marker": "o", "markersize": 3.5} if len(values) <= 40 else {}


def _baselines(ax: Any, baselines: Mapping[str, float]) -> None:
    """Dashed lines, each with its name above it at the right, or below where the next is close."""
    if not baselines:
        return
    levels = {
        name: float(numbers(value, f"plot.loss_curve: baseline {name!r}", ndim=0, shape="()"))
        for name, value in baselines.items()
    }
    for level in levels.values():
        ax.axhline(level, color=PALE, linestyle=(0, (4, 3)), linewidth=1.1, zorder=1.5)
    low, high = ax.get_ylim()
    ordered = sorted(levels.items(), key=lambda item: item[1])
    for i, (name, level) in enumerate(ordered):
        crowded = i + 1 < len(ordered) and ordered[i + 1][1] - level < 0.06 * (high - low)
        ax.annotate(
            f"{name} {level:.2f}",
            (0.995, level),
            xycoords=("axes fraction", "data"),
            xytext=(0, -2 if crowded else 2),
            textcoords="offset points",
            ha="right",
            va="top" if crowded else "bottom",
            fontsize=TICK,
            color="#5f5f5f",
        )


def _safe_log(x: Any) -> Any:
    return np.log(np.maximum(x, 1e-300))


def _named_gradients(source: Any) -> Iterable[tuple[str, Any]]:
    if hasattr(source, "named_parameters"):
        source = source.named_parameters()
    pairs = source.items() if isinstance(source, Mapping) else source
    try:
        pairs = [(str(name), value) for name, value in pairs]
    except (TypeError, ValueError):
        raise TypeError(
            "plot.gradient_flow: give a model, its named_parameters(), or a mapping from name to "
            f"gradient, not {type(source).__name__}"
        ) from None
    if not pairs:
        raise ValueError("plot.gradient_flow: there are no parameters")
    # a Tensor that requires a gradient is a parameter, one that does not is a gradient itself
    return [
        (name, value.grad if getattr(value, "requires_grad", False) else value)
        for name, value in pairs
    ]


def _group(name: str, by: str) -> str:
    parts = name.split(".")
    if by == "parameter" or len(parts) == 1:
        return name
    if by == "block":
        for i, part in enumerate(parts):
            if part.isdecimal():
                return ".".join(parts[: i + 1])
    return ".".join(parts[:-1])


def _without_common_prefix(names: list[str]) -> list[str]:
    """Leave out the leading parts that most names share: ``transformer.h.0`` → ``h.0``."""
    heads = [name.split(".")[0] for name in names]
    common = max(set(heads), key=heads.count)
    if len(names) < 3 or heads.count(common) < 0.8 * len(names) or common.isdecimal():
        return names
    shorter = [name.removeprefix(f"{common}.") for name in names]
    return shorter if len(set(shorter)) == len(names) else names


def _is_function(value: Any) -> bool:
    from ..registry import Op

    return callable(value) or isinstance(value, Op)


def _measured(
    f: Callable[..., Any], inputs: tuple[Any, ...], seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    from ..gradcheck import error_by_step

    methods = ("central", "forward")
    steps, curves = error_by_step(f, *inputs, method=methods, seed=seed)
    return steps, {
        f"{method} differences": numbers(errors, "plot.gradcheck_curve: errors")
        for method, errors in zip(methods, curves, strict=True)
    }


def _given(steps: Any, errors: Sequence[Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    if len(errors) != 1:
        raise TypeError(
            f"plot.gradcheck_curve: give (steps, errors) or (f, *inputs), not {1 + len(errors)} "
            "arrays; several curves: {name: errors}"
        )
    h = numbers(steps, "plot.gradcheck_curve: steps", ndim=1, shape="(n,)")
    named = errors[0] if isinstance(errors[0], Mapping) else {"": errors[0]}
    curves = {}
    for name, values in named.items():
        what = f"plot.gradcheck_curve: errors {name!r}" if name else "plot.gradcheck_curve: errors"
        curves[name] = numbers(values, what, ndim=1, shape="(n,)")
        if len(curves[name]) != len(h):
            raise ValueError(f"{what}: {len(curves[name])} errors for {len(h)} steps")
        if (curves[name] < 0).any():
            raise ValueError(
                f"{what}: an error is a magnitude, but the least is {curves[name].min():.3g}"
            )
    if (h <= 0).any():
        raise ValueError(f"plot.gradcheck_curve: steps must be above 0, the least is {h.min():.3g}")
    return h, curves


def _power(value: float) -> str:
    """``2·10⁻⁵``."""
    digits, exponent = f"{value:.0e}".split("e")
    return f"{digits}·10" + str(int(exponent)).translate(
        str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    )
