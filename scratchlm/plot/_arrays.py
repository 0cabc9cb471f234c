"""What every plot asks of its numbers before it draws any."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import to_host
from ..tensor import Tensor


def numbers(values: Any, what: str, *, ndim: int | None = None, shape: str = "") -> np.ndarray:
    """``values`` (a Tensor, an array of NumPy or CuPy, numbers in lists) as finite float64.

    ``what`` names function and argument for messages (``"plot.heatmap: matrix"``), ``ndim`` is how
    many axes there must be and ``shape`` what they are.

    Raises:
        TypeError: no real numbers.
        ValueError: rows of different lengths, wrong number of axes, empty, NaN or infinite.
    """
    array = unchecked(values, what)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{what} has shape {array.shape}, needed is {shape}")
    if not array.size:
        raise ValueError(f"{what} is empty: shape {array.shape}")
    bad = ~np.isfinite(array)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        place = index[0] if len(index) == 1 else index
        raise ValueError(
            f"{what} has {array[index]} at index {place} ({int(bad.sum())} of {array.size} are not "
            "finite); find the op that made it with scratchlm.detect_anomaly()"
        )
    return array


def unchecked(values: Any, what: str) -> np.ndarray:
    """``values`` as float64, whatever they are and however many."""
    if isinstance(values, list | tuple):
        values = [_host(value) for value in values]
    try:
        array = np.asarray(_host(values))
    except ValueError:
        raise ValueError(
            f"{what} has rows of different lengths; give a rectangular array"
        ) from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what} holds no real numbers but {array.dtype}")
    return array.astype(np.float64)


def probabilities(array: np.ndarray, what: str, *, empty_rows: bool = False) -> None:
    """Check that the last axis holds probabilities: none below 0, sum 1.

    With ``empty_rows`` a row may be all zeros, as where attention has nothing to attend to.

    Raises:
        ValueError: naming the row and its sum.
    """
    low = array.min()
    if low < 0:
        index = tuple(int(i) for i in np.argwhere(array == low)[0])
        raise ValueError(
            f"{what} has {low:.4g} at index {index}, and no probability is below 0; "
            "if these are logits, give softmax(logits)"
        )
    sums = array.sum(-1)
    wrong = np.abs(sums - 1) > 2e-3  # rounding of half precision over a thousand entries
    if empty_rows:
        wrong &= (array != 0).any(-1)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        row = f"row {index[0] if len(index) == 1 else index}" if index else "it"
        raise ValueError(
            f"{what}: {row} sums to {float(sums[index]):.4g}, not to 1; give the softmax's own "
            "output, before dropout"
        )


def _host(values: Any) -> Any:
    if isinstance(values, Tensor):
        values = values.data
    if isinstance(values, list | tuple):
        return [_host(value) for value in values]
    if hasattr(values, "detach"):  # a PyTorch tensor may still be on its tape
        values = values.detach()
    return to_host(values) if hasattr(values, "shape") else values
