"""Attention maps and heat maps: the image holds the numbers given, the labels the tokens."""

from __future__ import annotations

import numpy as np
import pytest

mpl = pytest.importorskip("matplotlib")

from matplotlib.figure import Figure  # noqa: E402

from scratchlm import Tensor, plot  # noqa: E402
from scratchlm.plot import look  # noqa: E402


def causal(*shape, seed=0):
    w = np.tril(np.random.default_rng(seed).random(shape) + 0.01)
    return w / w.sum(-1, keepdims=True)


class Device:
    """As a CuPy array: it has ``.get()``, and refuses to become NumPy silently."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a host array is not allowed")

    def get(self):
        return self.array


def image(ax):
    (one,) = ax.images
    return np.ma.getdata(one.get_array())


def labels(axis, minor=False):
    return [t.get_text() for t in axis.get_ticklabels(minor=minor)]


@pytest.mark.parametrize("as_given", [np.asarray, Tensor, Device, np.ndarray.tolist])
def test_the_image_is_the_weights(as_given):
    w = causal(5, 5)
    np.testing.assert_array_equal(image(plot.attention(as_given(w), list("abcde"))), w)
    grid = plot.attention_grid([as_given(causal(2, 3, 3)), as_given(causal(2, 3, 3, seed=1))])
    assert len(grid.axes[0].images) == 1


def test_attention_labels_rows_from_the_top_and_columns_from_the_left():
    ax = plot.attention(causal(3, 3), ["a b", "\n", "$x$ $y$"])
    assert labels(ax.xaxis) == labels(ax.yaxis) == ["a␣b", "↵", "$x$␣$y$"]
    assert list(ax.get_yticks()) == [0, 1, 2]
    assert ax.get_ylim() == (2.5, -0.5)
    assert not any(t.get_parse_math() for t in ax.get_xticklabels())


def test_cross_attention_has_two_sets_of_labels():
    w = np.full((2, 4), 0.25)
    ax = plot.attention(w, ["q1", "q2"], keys=["k1", "k2", "k3", "k4"])
    assert labels(ax.yaxis) == ["q1", "q2"]
    assert labels(ax.xaxis) == ["k1", "k2", "k3", "k4"]
    with pytest.raises(ValueError, match=r"2 rows and 4 columns.*keys="):
        plot.attention(w, ["q1", "q2"])


def test_masked_positions_are_grey_and_small_weights_are_not():
    w = np.array([[1.0, 0.0], [1e-9, 1 - 1e-9]])
    (shown,) = plot.attention(w).images
    gray = mpl.colors.to_rgba(look.NOTHING)
    np.testing.assert_allclose(shown.to_rgba(w)[0, 1], gray)
    assert not np.allclose(shown.to_rgba(w)[1, 0], gray)
    # with the square-root scale too
    (shown,) = plot.attention(w, gamma=0.5).images
    np.testing.assert_allclose(shown.to_rgba(w)[0, 1], gray)
    assert not np.allclose(shown.to_rgba(w)[1, 0], gray)


def test_a_row_with_nothing_to_attend_to_may_be_zero():
    w = causal(3, 3)
    w[1] = 0
    np.testing.assert_array_equal(image(plot.attention(w)), w)


def test_numbers_are_written_into_small_maps_and_left_out_where_masked():
    texts = [t.get_text() for t in plot.attention(np.array([[1.0, 0.0], [0.25, 0.75]])).texts]
    assert texts == ["1.00", "0.25", "0.75"]
    assert not plot.attention(causal(9, 9)).texts
    assert len(plot.attention(causal(9, 9), values=True).texts) == 45


def test_limits_are_the_same_for_every_map_and_the_scale_is_named():
    (shown,) = plot.attention(np.full((4, 4), 0.25)).images
    assert shown.norm.vmax == 1.0
    figure = plot.attention(causal(13, 13)).figure
    assert figure.axes[1].get_ylabel() == "weight (square-root scale)"
    assert plot.attention(causal(13, 13), gamma=1).figure.axes[1].get_ylabel() == "weight"


def test_the_grid_is_one_image_with_every_head_in_its_place():
    w = causal(3, 4, 5, 5)
    figure = plot.attention_grid(w, list("abcde"), colorbar=False)
    (ax,) = figure.axes
    whole = np.ma.getdata(ax.images[0].get_array())
    for layer in range(3):
        for head in range(4):
            tile = whole[layer * 6 : layer * 6 + 5, head * 6 : head * 6 + 5]
            np.testing.assert_array_equal(tile, w[layer, head])
    assert np.isnan(whole).sum() == whole.size - w.size  # the gaps, and nothing else
    assert labels(ax.xaxis) == ["head 0", "head 1", "head 2", "head 3"]
    assert labels(ax.yaxis) == ["layer 0", "layer 1", "layer 2"]
    assert labels(ax.xaxis, minor=True) == list("abcde") * 4
    assert list(ax.get_xticks()) == [2, 8, 14, 20]


def test_the_grid_of_144_heads_is_one_image():
    figure = plot.attention_grid([causal(12, 8, 8)] * 12)
    assert [len(ax.images) for ax in figure.axes] == [1, 0]  # and the color bar


def test_the_grid_takes_a_batch_of_one_and_no_other():
    one = plot.attention_grid([causal(1, 2, 3, 3)] * 2)
    plain = plot.attention_grid([causal(2, 3, 3)] * 2)
    np.testing.assert_array_equal(image(one.axes[0]), image(plain.axes[0]))
    with pytest.raises(ValueError, match="2 texts; choose one"):
        plot.attention_grid([causal(2, 2, 3, 3)])


def test_heatmap_of_signed_numbers_is_symmetric_about_white():
    m = np.array([[1.0, -4.0], [2.0, 0.0]])
    (shown,) = plot.heatmap(m).images
    assert shown.get_clim() == (-4.0, 4.0)
    np.testing.assert_allclose(shown.to_rgba(np.array([[0.0]]))[0, 0, :3], 0.97, atol=0.02)
    (shown,) = plot.heatmap(-m, vmax=8).images
    assert shown.get_clim() == (-8.0, 8.0)
    (shown,) = plot.heatmap(abs(m)).images
    assert (shown.get_clim(), shown.cmap.name) == ((0.0, 4.0), "cividis")
    with pytest.raises(ValueError, match="symmetric"):
        plot.heatmap(m, signed=True, vmin=-1, vmax=4)
    with pytest.raises(ValueError, match="wrong way round"):
        plot.heatmap(abs(m), vmin=3, vmax=1)


def test_heatmap_of_one_value_and_of_zeros_has_limits_all_the_same():
    for m in (np.zeros((2, 2)), np.ones((2, 2)), -np.ones((2, 2))):
        low, high = plot.heatmap(m).images[0].get_clim()
        assert low < high


def test_heatmap_writes_its_numbers_in_ink_that_reads():
    ax = plot.heatmap([[0.004, -1.0], [12.5, 3]], rows=["a", "b"], columns=["c", "d"], digits=1)
    assert [t.get_text() for t in ax.texts] == ["0.0", "−1.0", "12.5", "3.0"]
    assert ax.texts[0].get_color() != "white"
    assert ax.texts[2].get_color() == "white"
    assert (labels(ax.yaxis), labels(ax.xaxis)) == (["a", "b"], ["c", "d"])
    assert image(plot.heatmap([1.0, 2.0])).shape == (1, 2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: plot.attention(np.ones((2, 2))), ValueError, r"row 0 sums to 2, not to 1"),
        (lambda: plot.attention([[1.5, -0.5]]), ValueError, r"-0.5 at index \(0, 1\).*softmax"),
        (lambda: plot.attention([[np.nan, 1.0]]), ValueError, r"nan at index \(0, 0\)"),
        (lambda: plot.attention(causal(2, 3, 3)), ValueError, r"\(2, 3, 3\).*one head"),
        (lambda: plot.attention(causal(3, 3), ["a", "b"]), ValueError, "2 tokens for 3 positions"),
        (lambda: plot.attention(causal(3, 3), "abc"), TypeError, r"list\(text\)"),
        (lambda: plot.attention(causal(3, 3), [1, 2, 3]), TypeError, "decode ids first"),
        (lambda: plot.attention(causal(3, 3), vmax=0), ValueError, "vmax"),
        (lambda: plot.attention(causal(3, 3), gamma=0), ValueError, "gamma"),
        (lambda: plot.attention([[1.0], [0.5, 0.5]]), ValueError, "different lengths"),
        (lambda: plot.attention([["a"]]), TypeError, "no real numbers"),
        (lambda: plot.attention(np.zeros((0, 3))), ValueError, "empty"),
        (lambda: plot.attention(causal(2, 2), tokns="ab"), TypeError, "did you mean 'tokens'"),
        (lambda: plot.attention(causal(2, 2), ax=Figure()), TypeError, r"fig\.axes\[0\]"),
        (
            lambda: plot.attention_grid([causal(2, 3, 3), causal(1, 3, 3)]),
            ValueError,
            "different sh",
        ),
        (lambda: plot.attention_grid(causal(3, 3)), ValueError, r"needed is \(layers, heads"),
        (lambda: plot.attention_grid(causal(2, 2, 3, 3) * 2), ValueError, r"\(0, 0, 0\) sums to 2"),
        (lambda: plot.heatmap(np.ones((2, 2, 2))), ValueError, "needed is"),
        (lambda: plot.heatmap([[1, np.inf]]), ValueError, "inf at index"),
        (lambda: plot.heatmap(np.eye(2), rows=["a"]), ValueError, "heatmap: rows: 1 tokens for 2"),
    ],
)
def test_what_is_wrong_is_said(call, error, words):
    with pytest.raises(error, match=words) as raised:
        call()
    assert str(raised.value).startswith("plot.") or "token_label" in str(raised.value)


def test_an_axes_given_is_drawn_into():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot.attention(causal(3, 3), ax=left, colorbar=False) is left
    assert plot.heatmap(np.eye(2), ax=right) is right
    assert figure.axes == [left, right]


def test_nothing_is_left_behind():
    """No change of matplotlib's settings, no figure kept alive."""
    import gc
    import weakref

    def settings():  # reading the backend would choose one
        return {key: mpl.rcParams[key] for key in mpl.rcParams if "backend" not in key}

    before = settings()
    figure = plot.attention_grid(causal(2, 2, 3, 3))
    alive = weakref.ref(figure)
    assert settings() == before
    del figure
    gc.collect()
    assert alive() is None
