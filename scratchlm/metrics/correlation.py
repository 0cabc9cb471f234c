"""Do two lists put things into the same order?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Numbers = Sequence[float] | np.ndarray


def ranks(values: Numbers) -> np.ndarray:
    """The place of each number in rising order, from 1; equal ones share the mean of theirs."""
    values = np.asarray(values, dtype=np.float64)
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)  # a group's places run from last - count + 1 to last
    return (last - (counts - 1) / 2)[which.reshape(-1)]


def spearman(a: Numbers, b: Numbers) -> float:
    """``ρ = cov(r_a, r_b) / (sd(r_a) sd(r_b))``, the correlation of the ranks: from -1 to 1.

    Only the order counts: 1 where the same pair of places is larger in both lists. It is the number
    of ``scipy.stats.spearmanr``. The formula ``1 - 6 Σ d² / (n³ - n)`` is that of lists without
    ties, and wrong with them.

    Raises:
        ValueError: lists of two lengths, fewer than 2 numbers, NaN, or all numbers of one list
            equal, where there is no order to compare.

    Source: Spearman 1904.
    """
    x, y = (np.asarray(each, dtype=np.float64) for each in (a, b))
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise ValueError(
            f"spearman: the lists have shapes {x.shape} and {y.shape}; they must be of one length, "
            "2 or more"
        )
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError("spearman: a number is NaN, which has no place in any order")
    x, y = (r - r.mean() for r in (ranks(x), ranks(y)))
    size = math.sqrt((x @ x) * (y @ y))
    if not size:
        raise ValueError("spearman: all numbers of one list are equal; it puts nothing in order")
    return float(np.clip(x @ y / size, -1, 1))
