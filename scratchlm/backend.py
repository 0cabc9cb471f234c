"""NumPy or CuPy: the few things that the array API standard leaves out.

Inside an op, ``xp = array_namespace(x, ...)`` gives the functions for the arrays at hand, and there
is no global to swap. What the standard lacks is here: scatter-add, random numbers (drawn on the CPU
and moved, so a seed means the same on every device), range-checked ids, and copies to the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat
import numpy as np

numpy_namespace: Any = np  # itself a namespace of the standard, from NumPy 2.1 on
if not hasattr(np, "cumulative_sum"):
    import array_api_compat.numpy as numpy_namespace

Array = Any  # an array of NumPy, CuPy, or any library of the array API standard


def array_namespace(*arrays: Array | None) -> Any:
    """The array-API namespace of ``arrays`` (None is skipped).

    Raises:
        TypeError: the arrays live on different devices or in different libraries.
    """
    for x in arrays:
        if type(x) is not np.ndarray and x is not None:
            break
    else:
        return numpy_namespace
    try:
        return array_api_compat.array_namespace(*(x for x in arrays if x is not None))
    except TypeError as error:
        kinds = ", ".join(sorted({f"{type(x).__module__}.{type(x).__name__}" for x in arrays}))
        raise TypeError(
            f"arrays of different libraries or devices meet in one op ({kinds}); "
            "move them to one device first, e.g. with .to(device)"
        ) from error


def asarray_like(values: Any, like: Array, dtype: Any = None) -> Array:
    """``values`` (host data) as an array beside ``like``: same library, same device."""
    if type(like) is np.ndarray:
        return np.asarray(values, dtype=dtype)
    xp = array_namespace(like)
    return xp.asarray(values, dtype=dtype, device=array_api_compat.device(like))


def arange_like(n: int, like: Array) -> Array:
    """``0, 1, ... n - 1`` as int64 beside ``like``."""
    if type(like) is np.ndarray:
        return np.arange(n)
    xp = array_namespace(like)
    return xp.arange(n, dtype=xp.int64, device=array_api_compat.device(like))


def to_host(x: Array) -> np.ndarray:
    """A NumPy array with the values of ``x``; the one place where data leave a device."""
    if type(x) is np.ndarray:
        return x
    get = getattr(x, "get", None)  # CuPy's explicit copy to the host
    return get() if get is not None else np.asarray(x)


def scatter_add(target: Array, index: Any, values: Array) -> None:
    """``target[index] += values`` in place, where an index that occurs twice adds twice."""
    if type(target) is np.ndarray and _is_many_rows(target, index, values):
        # NumPy's add.at goes element by element. Here the rows of one index are brought together,
        # each group is added up, and the sums are added to different rows.
        order = np.argsort(index, kind="stable")
        rows = index[order]
        if rows[0] >= 0:  # a negative index could be another name for a row that is here already
            starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
            target[rows[starts]] += np.add.reduceat(values[order], starts, axis=0)
            return
    array_namespace(target).add.at(target, index, values)


def _is_many_rows(target: Array, index: Any, values: Array) -> bool:
    return (
        isinstance(index, np.ndarray)
        and index.ndim == 1
        and index.dtype.kind in "iu"
        and values.ndim > 1
        and values.size > 2000  # below, sorting takes longer than it saves
        and values.shape == index.shape + target.shape[1:]
    )


def random_uniform(rng: np.random.Generator, shape: tuple[int, ...], like: Array) -> Array:
    """Uniform numbers in [0, 1), float32, drawn on the CPU and moved beside ``like``."""
    return asarray_like(rng.random(shape, dtype=np.float32), like)


def check_ids(ids: Array, size: int, *, what: str) -> None:
    """Refuse ids that are no integers or lie outside ``[0, size)`` (CuPy would wrap them silently).

    Raises:
        TypeError: ids are not integers.
        IndexError: an id is out of range; the message names the first one and its place.
    """
    xp = array_namespace(ids)
    if not xp.isdtype(ids.dtype, "integral"):
        raise TypeError(f"{what}: ids must be integers, got {ids.dtype}; convert with .astype(int)")
    if ids.size == 0 or (int(xp.min(ids)) >= 0 and int(xp.max(ids)) < size):
        return
    host = to_host(ids)
    place = tuple(int(i) for i in np.argwhere((host < 0) | (host >= size))[0])
    raise IndexError(
        f"{what}: id {int(host[place])} at index {place} is outside [0, {size}); "
        f"ids count from 0 to {size - 1}, and negative ids do not wrap around"
    )


def is_floating(x: Array) -> bool:
    """Whether ``x`` has a real floating dtype, the only kind that can carry a gradient."""
    return x.dtype.kind == "f"


def to_device(x: Array, device: str) -> Array:
    """``x`` on ``"cpu"`` (NumPy), ``"cuda"`` or ``"cuda:1"`` (CuPy); itself if it is there.

    Raises:
        ValueError: an unknown device.
        RuntimeError: no CuPy, or no GPU; the message says what to install.
    """
    kind, _, number = str(device).partition(":")
    if kind not in devices or not (number or "0").isdecimal():
        known = ", ".join(map(repr, devices))
        raise ValueError(f"unknown device {device!r}; known are {known}, also as '<name>:<number>'")
    return devices[kind](x, int(number or 0))


def _to_cuda(x: Array, number: int) -> Array:
    try:
        import cupy
    except ImportError:
        raise RuntimeError(
            "device 'cuda' needs CuPy: pip install 'scratchlm[cuda12]' (or cuda13)"
        ) from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:  # no driver at all
        raise RuntimeError(
            f"device 'cuda': CuPy is installed, but finds no GPU ({error})"
        ) from None
    if number >= count:
        raise RuntimeError(f"device 'cuda:{number}': CuPy finds {count} GPUs")
    with cupy.cuda.Device(number):
        return cupy.asarray(x)


# name -> function(array, number): how an array gets there
devices: dict[str, Callable[[Array, int], Array]] = {
    "cpu": lambda x, _: to_host(x),
    "cuda": _to_cuda,
}
