"""Spearman's ρ by hand, by its properties, and against SciPy where that is installed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm.metrics import spearman
from scratchlm.metrics.correlation import ranks

# few values, so that most lists have ties
lists = st.integers(2, 30).flatmap(
    lambda n: st.tuples(
        *[st.lists(st.integers(-3, 3), min_size=n, max_size=n).filter(lambda a: len({*a}) > 1)] * 2
    )
)


def test_ranks_with_ties():
    assert ranks([10, 30, 20, 30, 5]).tolist() == [2, 4.5, 3, 4.5, 1]
    assert ranks([7, 7, 7]).tolist() == [2, 2, 2]


def test_by_hand():
    assert spearman([1, 2, 3, 4], [10, 1000, 100, 10000]) == pytest.approx(1 - 6 * 2 / (64 - 4))
    assert spearman([1, 2, 3], [9, 5, 1]) == -1
    # ranks 1.5, 1.5, 3 and 1, 2, 3: (0.5 + 1) / sqrt(1.5 · 2)
    assert spearman([4, 4, 8], [1, 2, 3]) == pytest.approx(1.5 / 3**0.5, rel=1e-15)


@given(lists)
def test_only_the_order_counts(pair):
    a, b = (np.array(each) for each in pair)
    rho = spearman(a, b)
    assert -1 <= rho <= 1
    assert spearman(b, a) == pytest.approx(rho, abs=1e-14)
    assert spearman(np.exp(a), b**3) == pytest.approx(rho, abs=1e-14)
    assert spearman(-a, b) == pytest.approx(-rho, abs=1e-14)


@pytest.mark.parity
@given(lists)
def test_it_is_scipys(pair):
    stats = pytest.importorskip("scipy.stats")
    # two sums of at most 30 products each: some 1e-15
    assert spearman(*pair) == pytest.approx(stats.spearmanr(*pair).statistic, abs=1e-13)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ([1, 2], [1, 2, 3], r"shapes \(2,\) and \(3,\)"),
        ([1], [1], "2 or more"),
        ([[1, 2]], [[1, 2]], "of one length"),
        ([1, float("nan")], [1, 2], "NaN"),
        ([1, 2, 3], [5, 5, 5], "all numbers of one list are equal"),
    ],
)
def test_refused(a, b, said):
    with pytest.raises(ValueError, match=said):
        spearman(a, b)
