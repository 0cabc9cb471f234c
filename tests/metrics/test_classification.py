"""Counted by hand; tests/parity compares with scikit-learn."""

import math

import numpy as np
import pytest

from scratchlm.metrics import accuracy, confusion_matrix, f1, precision, precision_recall_f1, recall

TRUE = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
PRED = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]  # 3 hits of 5 called so, of 4 that are so
THREE_TRUE = list("aaabbc")
THREE_PRED = list("aabbcb")


def test_binary_by_hand():
    assert accuracy(TRUE, PRED) == 0.7
    assert precision(TRUE, PRED) == 3 / 5
    assert recall(TRUE, PRED) == 3 / 4
    assert f1(TRUE, PRED) == pytest.approx(2 / (5 / 3 + 4 / 3), rel=1e-15)
    assert precision_recall_f1(TRUE, PRED, positive=0) == (4 / 5, 4 / 6, 8 / 11, 6)


def test_averages_by_hand():
    assert confusion_matrix(THREE_TRUE, THREE_PRED).tolist() == [[2, 1, 0], [0, 1, 1], [0, 1, 0]]
    each = precision_recall_f1(THREE_TRUE, THREE_PRED, average=None)
    assert each.precision.tolist() == [1, 1 / 3, 0]
    assert each.recall.tolist() == [2 / 3, 1 / 2, 0]
    assert each.f1.tolist() == [4 / 5, 2 / 5, 0]
    assert each.support.tolist() == [3, 2, 1]
    assert f1(THREE_TRUE, THREE_PRED, average="macro") == pytest.approx(0.4, rel=1e-15)
    weighted = f1(THREE_TRUE, THREE_PRED, average="weighted")
    assert weighted == pytest.approx((3 * 0.8 + 2 * 0.4) / 6, rel=1e-15)
    micro = precision_recall_f1(THREE_TRUE, THREE_PRED, average="micro")
    assert micro == (0.5, 0.5, 0.5, 6)


def test_labels_choose_and_order():
    assert confusion_matrix(THREE_TRUE, THREE_PRED, labels=["b", "a"]).tolist() == [[1, 0], [1, 2]]
    assert f1(THREE_TRUE, THREE_PRED, average=None, labels=["c", "a"]).tolist() == [0, 0.8]


@pytest.mark.parametrize("value", [0.0, 1.0, math.nan])
def test_zero_division(value):
    nobody = precision_recall_f1([0, 0], [0, 0], zero_division=value)
    assert nobody[:3] == pytest.approx((value,) * 3, nan_ok=True)
    missed = precision_recall_f1([1, 0], [0, 0], zero_division=value)
    assert missed[:3] == pytest.approx((value, 0, 0), nan_ok=True)
    with pytest.raises(ValueError, match="0, 1 or nan"):
        f1([1, 0], [0, 0], zero_division=0.5)


@pytest.mark.parametrize("measure", [accuracy, confusion_matrix, f1])
def test_errors(measure):
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        measure([1, 0, 1], [1, 0])
    with pytest.raises(ValueError, match="empty"):
        measure([], [])
    with pytest.raises(ValueError, match="argmax"):
        measure([1, 0], [0.7, 0.2])
    with pytest.raises(TypeError, match="no class is in both"):
        measure([1, 0], ["1", "0"])


def test_errors_of_options():
    with pytest.raises(ValueError, match="'binary' is for two"):
        f1([0, 1, 2], [0, 1, 1])
    with pytest.raises(ValueError, match="average='mean'"):
        f1([0, 1], [0, 1], average="mean")
    with pytest.raises(ValueError, match="different classes"):
        f1([0, 1], [0, 1], average=None, labels=[0, 0])
    with pytest.raises(ValueError, match="none of the labels"):
        confusion_matrix([0, 1], [0, 1], labels=[7])


def test_f1_is_a_mean_weighted_by_what_was_called_and_what_is():
    rng = np.random.default_rng(0)
    for _ in range(50):
        true, pred = rng.integers(0, 2, 20), rng.integers(0, 2, 20)
        called, there = pred.sum(), true.sum()
        p, r, f, _ = precision_recall_f1(true, pred)
        assert f == pytest.approx((called * p + there * r) / (called + there), rel=1e-12)
