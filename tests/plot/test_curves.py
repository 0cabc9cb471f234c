"""Curves, norms, paths and distributions: what is drawn is what was given."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from scratchlm import Tensor, nn, ops, plot

RNG = np.random.default_rng(0)


def lines(ax):
    return {line.get_label(): np.asarray(line.get_data(), float) for line in ax.lines}


def test_metric_curves_have_a_panel_each():
    metrics = {"accuracy": [0.1, 0.4, 0.7], "lr": ([0, 5], [1e-3, 1e-4]), "steps_per_second": [9]}
    figure = plot.metric_curves(metrics, logarithmic={"lr"}, title="a run")
    a, b, c = figure.axes
    assert [ax.get_title("left") for ax in (a, b, c)] == ["accuracy", "lr", "steps per second"]
    assert list(b.lines[0].get_xdata()) == [0, 5]
    assert list(a.lines[0].get_ydata()) == [0.1, 0.4, 0.7]
    assert a.get_ylim() == (0, 1.02)  # a share, on the scale of shares
    assert b.get_yscale() == "log"
    assert a.get_xlim() == b.get_xlim() == c.get_xlim()
    assert len(plot.metric_curves(metrics, columns=3).axes) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metrics": {}}, "there is no metric"),
        ({"metrics": {"f1": []}}, "f1"),
        ({"metrics": {"f1": [0.0, math.nan]}}, "f1"),
        ({"metrics": {"f1": ([1], [1, 2])}}, "1 steps, but 2"),
        ({"metrics": {"lr": [0.0, 1.0]}, "logarithmic": {"lr"}}, "falls to 0, which"),
        ({"metrics": {"lr": [1.0]}, "columns": 0}, "columns=0"),
    ],
)
def test_metrics_that_can_not_be_drawn(options, words):
    with pytest.raises(ValueError, match=words):
        plot.metric_curves(**options)


def test_loss_curve_draws_both_curves_and_the_baselines():
    ax = plot.loss_curve([3.0, 2.0, 1.5], ([0, 2], [3.1, 1.9]), baselines={"bigram": 2.46})
    drawn = lines(ax)
    np.testing.assert_array_equal(drawn["training"], [[0, 1, 2], [3.0, 2.0, 1.5]])
    np.testing.assert_array_equal(drawn["validation"], [[0, 2], [3.1, 1.9]])
    assert [t.get_text() for t in ax.texts] == ["bigram 2.46"]
    assert any(np.all(np.asarray(line.get_ydata()) == 2.46) for line in ax.lines)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["training", "validation"]


def test_the_running_mean_is_centred_and_the_losses_stay():
    losses = np.arange(200.0) + 1
    raw, mean = plot.loss_curve(losses).lines
    np.testing.assert_array_equal(raw.get_ydata(), losses)
    # a straight line's centered mean is the line; half a step off, as the width 4 is even
    np.testing.assert_allclose(mean.get_ydata() - mean.get_xdata(), 1.5, rtol=0, atol=1e-10)
    assert len(plot.loss_curve(losses, smooth=1).lines) == 1
    with pytest.raises(ValueError, match="smooth is a number of steps from 1 to 200"):
        plot.loss_curve(losses, smooth=201)


def test_baselines_close_together_stand_apart():
    ax = plot.loss_curve([5.0, 1.0], baselines={"a": 2.0, "b": 2.05})
    assert [t.get_verticalalignment() for t in ax.texts] == ["top", "bottom"]


def test_the_perplexity_scale_is_the_exponential():
    ax = plot.loss_curve([3.0, 1.0], perplexity=True)
    (right,) = ax.child_axes
    ax.figure.draw_without_rendering()
    np.testing.assert_allclose(right.get_ylim(), np.exp(ax.get_ylim()))


def model():
    layers = nn.Sequential(nn.Linear(3, 4, rng=0), nn.Linear(4, 2, rng=0))
    (layers(Tensor(RNG.standard_normal((5, 3)).astype(np.float32))) ** 2).sum().backward()
    return layers


def test_gradient_flow_joins_weight_and_bias():
    layers = model()
    ax = plot.gradient_flow(layers)
    norms = [
        math.sqrt(sum(float((p.grad.numpy().astype(float) ** 2).sum()) for p in layer.parameters()))
        for layer in (layers[0], layers[1])
    ]
    np.testing.assert_allclose(ax.lines[0].get_xdata(), norms, rtol=1e-12)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0", "1"]
    assert ax.get_xscale() == "log"
    names = [t.get_text() for t in plot.gradient_flow(layers, by="parameter").get_yticklabels()]
    assert names == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_gradient_flow_groups_blocks_and_leaves_out_what_all_names_share():
    gradients = {
        f"transformer.h.{i}.{part}.weight": np.full(4, 10.0**-i)
        for i in range(3)
        for part in ("attn.c_attn", "mlp.c_fc")
    }
    ax = plot.gradient_flow(gradients, by="block")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["h.0", "h.1", "h.2"]
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [math.sqrt(8) * 10.0**-i for i in range(3)])


def test_gradient_flow_shows_what_has_no_gradient():
    frozen = nn.Linear(2, 2, rng=0)
    pairs = [*model().named_parameters(), *((f"f.{n}", p) for n, p in frozen.named_parameters())]
    pairs.append(("dead.weight", np.zeros(3)))
    ax = plot.gradient_flow(pairs)
    assert [t.get_text() for t in ax.texts] == ["× no gradient", "× 0"]
    with pytest.raises(ValueError, match=r"loss\.backward\(\) first"):
        plot.gradient_flow(frozen)
    with pytest.raises(ValueError, match="the gradient of a has nan at index 1"):
        plot.gradient_flow({"a": [1.0, np.nan]})


def test_the_v_curve_of_given_errors():
    h = np.logspace(-8, -1, 8)
    ax = plot.gradcheck_curve(h[::-1], (3e-17 / h + h**2)[::-1])
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), h)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_legend().get_texts()[0].get_text() == "least: 3·10⁻¹¹ at h = 1·10⁻⁶"
    drawn = plot.gradcheck_curve([1e-3, 1e-2], [0.0, 1e-5]).lines[0].get_ydata()
    np.testing.assert_array_equal(drawn, [1e-17, 1e-5])


def test_the_v_curve_of_a_function_has_the_two_slopes():
    """Right of the least error, central differences fall as h², forward ones as h."""
    ax = plot.gradcheck_curve(ops.exp, RNG.standard_normal(3))
    for name, slope in (("central", 2), ("forward", 1)):
        ((x, y),) = [d for label, d in lines(ax).items() if label.startswith(name)]
        right = (x > 1e-3) & (x < 0.09)
        assert abs(np.polyfit(np.log(x[right]), np.log(y[right]), 1)[0] - slope) < 0.1


def test_schedule_draws_functions_and_values():
    ax = plot.schedule({"half": lambda t: 0.5**t, "given": [1, 0.5]}, 3, lr=2.0)
    drawn = lines(ax)
    np.testing.assert_array_equal(drawn["half"], [[0, 1, 2], [2.0, 1.0, 0.5]])
    np.testing.assert_array_equal(drawn["given"], [[0, 1], [2.0, 1.0]])
    with pytest.raises(ValueError, match="steps="):
        plot.schedule(lambda t: t)


def test_optimizer_paths_keep_every_point_in_sight():
    path = np.array([[2.0, 1.0], [0.5, -0.3], [0.1, 0.0]])
    ax = plot.optimizer_paths(lambda x, y: x**2 + 9 * y**2, {"SGD": path}, minimum=(0, 0))
    np.testing.assert_array_equal(lines(ax)["SGD"], path.T)
    (low, high), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert low < 0 < 2 < high
    assert bottom < -0.3 < 1 < top
    contours = [c for c in ax.collections if c.get_paths()]
    assert len(contours) == 2  # the fill and the lines
    plot.optimizer_paths(lambda x, y: 0 * x, {"stays": [[1.0, 1.0]]})  # a plain, and a single point


def test_histogram_is_a_density_with_the_same_bins():
    a, b = RNG.standard_normal(500), RNG.standard_normal((20, 30)) * 3
    ax = plot.histogram({"a": a, "b": b}, bins=20)
    steps = [p for p in ax.patches if not p.get_fill()]
    assert len(steps) == 2
    for stairs in steps:
        heights, edges, _ = stairs.get_data()
        assert math.isclose((heights * np.diff(edges)).sum(), 1.0)
        assert (edges[0], edges[-1]) == (b.min(), b.max())
    assert len(plot.histogram(np.zeros(4)).patches) == 2


def test_distribution_sorts_and_gathers_the_rest():
    p = np.array([0.1, 0.4, 0.05, 0.3, 0.15])
    ax = plot.distribution(p, list("abcd") + [" "], top=2, keep=1, chosen=4)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b", "d", "␣", "the other 2"]
    widths = [bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(widths, [0.4, 0.3, 0.15, 0.15])
    colors = [bar.get_facecolor() for bar in ax.patches]
    assert len(set(colors)) == 4  # kept, not kept, chosen, the rest
    entropy = -(p * np.log(p)).sum()
    assert f"entropy {entropy:.2f} nats" in ax.get_title(loc="right")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: plot.loss_curve([1.0, np.nan]), ValueError, "train has nan at index 1"),
        (lambda: plot.loss_curve([]), ValueError, "train is empty"),
        (lambda: plot.loss_curve(([0, 1], [1.0])), ValueError, "2 steps, but 1 losses"),
        (lambda: plot.loss_curve([[1.0]]), ValueError, r"\(1, 1\)"),
        (
            lambda: plot.loss_curve([1.0], baselines={"b": np.inf}),
            ValueError,
            "baseline 'b' has inf",
        ),
        (lambda: plot.loss_curve([1.0], valid=[1.0]), TypeError, "did you mean 'validation'"),
        (lambda: plot.gradient_flow(3), TypeError, "not int"),
        (lambda: plot.gradient_flow({}), ValueError, "no parameters"),
        (lambda: plot.gradient_flow({"a": [1.0]}, by="head"), ValueError, "by is"),
        (lambda: plot.gradcheck_curve([1.0, 2.0], [1.0]), ValueError, "1 errors for 2 steps"),
        (lambda: plot.gradcheck_curve([0.0], [1.0]), ValueError, "steps must be above 0"),
        (lambda: plot.gradcheck_curve([1.0], [-1.0]), ValueError, "a magnitude"),
        (lambda: plot.gradcheck_curve([1.0], {"a": [-1.0]}), ValueError, "errors 'a'.*a magnitude"),
        (lambda: plot.gradcheck_curve([1.0]), TypeError, r"\(steps, errors\)"),
        (lambda: plot.schedule({}), ValueError, "empty"),
        (lambda: plot.schedule([1.0], 0), ValueError, "steps is a number"),
        (lambda: plot.optimizer_paths(max, {}), ValueError, "no paths"),
        (lambda: plot.optimizer_paths(max, [[1, 2]]), TypeError, "for one"),
        (lambda: plot.optimizer_paths(max, {"a": [[1, 2, 3]]}), ValueError, r"\(steps, 2\)"),
        (
            lambda: plot.optimizer_paths(lambda x, y: 1.0, {"a": [[1, 2]]}),
            ValueError,
            "element by element",
        ),
        (
            lambda: plot.optimizer_paths(lambda x, y: x, {"a": [[1, 2], [np.inf, 0]]}),
            ValueError,
            r"path 'a' has inf at index \(1, 0\)",
        ),
        (
            lambda: plot.optimizer_paths(lambda x, y: x, {"a": [[1, 2]]}, xlim=(2, 1)),
            ValueError,
            "xlim",
        ),
        (lambda: plot.histogram({}), ValueError, "nothing to draw"),
        (lambda: plot.histogram({"g": [np.nan]}), ValueError, "g has nan"),
        (lambda: plot.histogram([1.0], bins=0), ValueError, "bins"),
        (lambda: plot.distribution([0.5, 0.4]), ValueError, "sums to 0.9"),
        (lambda: plot.distribution([2.0, -1.0]), ValueError, "no probability is below 0"),
        (lambda: plot.distribution([0.5, 0.5], ["a"]), ValueError, "1 tokens for 2"),
        (lambda: plot.distribution([0.5, 0.5], chosen=2), IndexError, "chosen=2 is no id"),
        (lambda: plot.distribution([0.5, 0.5], top=0), ValueError, "top is a number"),
    ],
)
def test_what_is_wrong_is_said(call, error, words):
    with pytest.raises(error, match=words) as raised:
        call()
    assert str(raised.value).startswith("plot.")
