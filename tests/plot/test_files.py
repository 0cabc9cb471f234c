"""Pictures as files: whole or not at all, the same each time, and clear about what went wrong."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from scratchlm import plot


@pytest.fixture(scope="module")
def ax():
    return plot.heatmap(np.eye(2), title="x")


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG\r\n"), ("b.SVG", b"<?xml")])
def test_a_picture_is_written_into_a_folder_that_it_makes(ax, tmp_path, name, start):
    path = plot.save(ax, tmp_path / "图 1" / "deep" / name)
    assert path.read_bytes().startswith(start)
    assert [p.name for p in path.parent.iterdir()] == [name]
    again = plot.save(ax.figure, tmp_path / f"again{path.suffix}")
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_picture_is_as_readable_as_any_file(ax, tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    path = plot.save(ax, tmp_path / "a.png")
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_failure_leaves_the_former_picture_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_text("former", encoding="utf-8")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    figure = Figure()
    monkeypatch.setattr(figure, "savefig", full)
    with pytest.raises(OSError, match=r"can't write .*a\.png.*No space left"):
        plot.save(figure, path)
    assert path.read_text(encoding="utf-8") == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(ax, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match=r"plot\.save: can't write .*file.*choose a folder"):
        plot.save(ax, tmp_path / "file" / "a.png")


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.pdf"])
def test_other_formats_are_refused(ax, tmp_path, name):
    with pytest.raises(ValueError, match=r"\.png or \.svg"):
        plot.save(ax, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_only_a_figure_or_an_axes_is_saved(tmp_path):
    with pytest.raises(TypeError, match="not ndarray"):
        plot.save(np.eye(2), tmp_path / "a.png")


def test_every_plot_renders(tmp_path):
    w = np.tril(np.ones((4, 4))) / np.arange(1, 5)[:, None]
    drawn = {
        "attention": plot.attention(w, ["a", " ", b"\xe6", "$"], title="t"),
        "grid": plot.attention_grid([w[None]] * 2, list("abcd"), title="t"),
        "heatmap": plot.heatmap(w - 0.5, colorbar=True),
        "loss": plot.loss_curve(np.ones(150), [1.0], baselines={"b": 2.0}, perplexity=True),
        "flow": plot.gradient_flow({"a.weight": [1.0], "b.weight": [0.0]}),
        "v": plot.gradcheck_curve([1e-3, 1e-2], {"a": [1e-5, 1e-4], "b": [0.0, 1e-4]}),
        "schedule": plot.schedule({"a": [1.0, 0.5], "b": [0.5, 0.1]}),
        "paths": plot.optimizer_paths(lambda x, y: x**2 + y**2, {"a": [[1, 2], [0, 0]]}),
        "histogram": plot.histogram({f"l{i}": np.arange(9.0) * i for i in range(9)}, log=True),
        "distribution": plot.distribution([0.5, 0.3, 0.2], top=2, title="t"),
    }
    for name, one in drawn.items():
        for kind in ("png", "svg"):
            assert plot.save(one, tmp_path / f"{name}.{kind}", dpi=50).stat().st_size > 1000
