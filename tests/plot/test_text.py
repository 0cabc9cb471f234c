"""Tokens that can be read: white space, half characters, and fonts for Chinese."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from importlib.machinery import ModuleSpec

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib import font_manager
from matplotlib.figure import Figure

from scratchlm import plot
from scratchlm.plot import look, text

HAN = "注意力"


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" the", "␣the"),
        ("a\n\tb", "a↵⇥b"),
        ("", "<empty>"),
        (HAN, HAN),
        (HAN.encode(), HAN),
        ("注".encode()[:1], "<0xE6>"),
        ("注".encode()[1:], "<0xB3><0xA8>"),
        (b"a\xe6", "a<0xE6>"),
        ("\x07", "<0x07>"),
        ("\u200b", "<U+200B>"),
        ("\u3000", "<U+3000>"),
        ("\ud800", "<U+D800>"),
        ("x" * 30, "x" * 19 + "…"),
    ],
)
def test_what_a_token_looks_like(token, shown):
    assert plot.token_label(token) == shown


@pytest.fixture
def no_fonts(monkeypatch):
    """A machine with DejaVu alone, in a process that has not warned yet."""
    ours = [e for e in font_manager.fontManager.ttflist if e.name.startswith("DejaVu")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", ours)
    monkeypatch.setattr(text, "extra_font", lambda: None)
    monkeypatch.setattr(text, "_warned", set())
    glyphs = text._glyphs
    yield
    glyphs.cache_clear()


def map_of(tokens, **options):
    n = len(tokens)
    return plot.attention(np.full((n, n), 1 / n), tokens, **options)


def render(ax, tmp_path):
    """To pixels, where matplotlib itself would warn of a glyph that is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return plot.save(ax, tmp_path / "x.png")


def test_without_a_font_there_is_one_warning_and_a_box(no_fonts, tmp_path):
    with pytest.warns(UserWarning, match=r"pip install 'scratchlm\[cjk\]'") as caught:
        ax = map_of(list(HAN), title=f"{HAN} map")
    assert len(caught) == 1
    assert caught[0].filename == __file__  # it points at the line that called
    assert [t.get_text() for t in ax.get_xticklabels()] == ["□"] * 3
    assert ax.get_title(loc="left") == "□□□ map"
    render(ax, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        map_of(list("中文"))  # said once


def test_without_a_font_tile_labels_and_bars_have_boxes_too(no_fonts, tmp_path):
    with pytest.warns(UserWarning, match="cjk"):
        figure = plot.attention_grid(np.full((1, 1, 2, 2), 0.5), ["注", "a"])
    render(figure, tmp_path)
    labels = [t.get_text() for t in figure.axes[0].get_xticklabels(minor=True)]
    assert labels == ["□", "a"]
    render(plot.distribution([0.5, 0.5], ["注", "a"]), tmp_path)


def test_what_no_font_of_the_extra_would_hold_names_no_command(no_fonts):
    with pytest.warns(UserWarning, match="no installed font holds") as caught:
        map_of(["\U0001f642", "a"])
    assert "cjk" not in str(caught[0].message)


def plant(tmp_path, name):
    """A font under a CJK family's name. DejaVu's file stands in: it holds ∂, and not Han."""
    path = tmp_path / f"{name}.ttf"
    shutil.copy(font_manager.findfont("DejaVu Sans"), path)
    return str(path)


def test_an_installed_font_comes_before_the_extra(no_fonts, monkeypatch, tmp_path):
    installed, extra = plant(tmp_path, "installed"), plant(tmp_path, "extra")
    entry = font_manager.FontEntry(fname=installed, name="SimHei", style="normal", weight=400)
    font_manager.fontManager.ttflist.append(entry)
    monkeypatch.setattr(text, "extra_font", lambda: extra)
    held = {installed: "注意", extra: "注意力"}
    real = text._glyphs
    monkeypatch.setattr(
        text, "_glyphs", lambda path: set(map(ord, held[path])) if path in held else real(path)
    )
    registered = []
    monkeypatch.setattr(text, "_register", lambda path: registered.append(path) or "Extra")
    assert text.families("abc é ∂") == (["DejaVu Sans"], set())
    assert text.families("注意") == (["DejaVu Sans", "SimHei"], set())
    assert not registered
    assert text.families("注意力") == (["DejaVu Sans", "SimHei", "Extra"], set())
    assert registered == [extra]
    assert text.families("注疒") == (["DejaVu Sans", "SimHei"], {"疒"})


def test_a_font_that_was_uninstalled_is_passed_over(no_fonts):
    entry = font_manager.FontEntry(fname="/gone.ttf", name="SimHei", style="normal", weight=400)
    font_manager.fontManager.ttflist.append(entry)
    assert text.families("注") == (["DejaVu Sans"], {"注"})


def test_the_extra_is_found_without_importing_it(monkeypatch, tmp_path):
    package = tmp_path / "zhplot"
    (package / "fonts").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')", encoding="utf-8")
    found = ModuleSpec("zhplot", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr(text.importlib.util, "find_spec", lambda name: found)
    assert text.extra_font() is None
    font = package / "fonts" / "NotoSansSC-Regular.ttf"
    shutil.copy(font_manager.findfont("DejaVu Sans"), font)
    assert text.extra_font() == str(font)
    assert text._register(str(font)) == "DejaVu Sans"
    assert "zhplot" not in sys.modules


def test_chinese_is_drawn_where_a_font_is_there(tmp_path):
    chosen, missing = text.families(HAN)
    if missing:
        pytest.skip("no CJK font here: pip install 'scratchlm[cjk]'")
    ax = map_of(list(HAN), title=HAN)
    assert [t.get_text() for t in ax.get_xticklabels()] == list(HAN)
    assert ax.get_xticklabels()[0].get_fontfamily() == chosen
    render(ax, tmp_path)


def test_text_of_ones_own_is_made_legible_on_saving(no_fonts, tmp_path):
    ax = Figure().subplots()
    ax.set_xlabel("步")
    with pytest.warns(UserWarning, match="cjk"):
        plot.save(ax, tmp_path / "x.png")
    assert ax.get_xlabel() == "□"


def test_import_loads_no_matplotlib():
    code = "import sys, scratchlm.plot; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_drawing_and_saving_load_no_pyplot(tmp_path):
    code = (
        "import sys; from scratchlm import plot\n"
        "plot.save(plot.heatmap([[1.0, 2.0]]), sys.argv[1])\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    assert subprocess.run(command, check=False).returncode == 0


def test_without_matplotlib_a_call_says_what_to_install(monkeypatch):
    monkeypatch.setattr(look.importlib.util, "find_spec", lambda name: None)
    for call in (lambda: plot.heatmap([[1.0]]), lambda: plot.save(None, "x.png"), plot.style):
        with pytest.raises(ModuleNotFoundError, match="pip install matplotlib"):
            call()
