import pytest

from scratchlm import plot


def test_an_arc_and_a_label_for_each_edge():
    edges = [(0, 1), (0, 2), (1, 3), (2, 3)]
    ax = plot.lattice("abc", edges, path=[(0, 2), (2, 3)], title="three")
    assert len(ax.patches) == 4
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c", "a", "ab", "bc", "c"]
    wide = [patch.get_linewidth() > 2 for patch in ax.patches]
    assert wide == [False, True, False, True]
    assert ax.get_title(loc="left") == "three"


def test_weights_are_shades():
    ax = plot.lattice("ab", [(0, 1), (1, 2), (0, 2)], weights=[0.1, 0.1, 0.9])
    shades = [patch.get_alpha() for patch in ax.patches]
    assert shades[0] == shades[1] < shades[2] <= 1


def test_parts_of_a_text_and_labels():
    ax = plot.lattice([" a", b"\xe4\xbd"], [(0, 2)], labels=["both"])
    assert [text.get_text() for text in ax.texts] == ["␣a", "<0xE4><0xBD>", "both"]


@pytest.mark.parametrize(("options", "about"), [
    ({"edges": [(0, 3)]}, r"edge \(0, 3\) does not lie on the 2 tokens"),
    ({"edges": [(1, 1)]}, r"edge \(1, 1\)"),
    ({"edges": [(0, 1)], "path": [(1, 2)]}, r"\(1, 2\) of the path is none"),
    ({"edges": [(0, 1)], "weights": [0.1, 0.2]}, "2 weights for 1 edges"),
    ({"edges": [(0, 1)], "labels": []}, "0 labels for 1 edges"),
    ({"edges": [(0, 1)], "weights": [1.5]}, "a weight outside 0 to 1"),
])  # fmt: skip
def test_errors(options, about):
    with pytest.raises(ValueError, match=about):
        plot.lattice("ab", **options)
