"""The confusion matrix: colors are shares, the cells hold the counts."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from scratchlm import plot

COUNTS = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("normalize", "shares"),
    [
        ("true", [[0.8, 0.2, 0], [0.25, 0.75, 0], [0, 0, 0]]),
        ("pred", [[8 / 9, 2 / 5, 0], [1 / 9, 3 / 5, 0], [0, 0, 0]]),
        ("all", COUNTS / 14),
    ],
)
def test_colors_are_shares_and_cells_hold_counts(normalize, shares):
    ax = plot.confusion_matrix(COUNTS, ["a", "b", "c"], normalize=normalize)
    np.testing.assert_allclose(np.asarray(ax.images[0].get_array()), shares, rtol=1e-12)
    assert [t.get_text() for t in ax.texts] == list("820130000")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("taken for", "truly")
    assert ax.images[0].get_clim() == (0, 1)


def test_many_classes_have_colors_only():
    assert not plot.confusion_matrix(np.eye(13)).texts
    assert len(plot.confusion_matrix(np.eye(13), values=True).texts) == 169


@pytest.mark.parametrize(
    ("matrix", "options", "words"),
    [
        (np.ones((2, 3)), {}, r"\(2, 3\)"),
        (np.ones(3), {}, r"\(3,\)"),
        ([[1, -1], [0, 1]], {}, "must hold counts"),
        ([[0.5, 0.5], [0, 1]], {}, "must hold counts"),
        (np.zeros((2, 2)), {}, "not all 0"),
        (COUNTS, {"labels": ["a"]}, "labels"),
        (COUNTS, {"normalize": "rows"}, "normalize='rows'"),
    ],
)
def test_errors(matrix, options, words):
    with pytest.raises(ValueError, match=words):
        plot.confusion_matrix(matrix, **options)
