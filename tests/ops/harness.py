"""Numerical derivatives and planted faults, independent of the library's own checker."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

STEP = 1e-3


def call(function: Callable[..., Any], arrays: Any, options: dict[str, Any]) -> Any:
    """``function(*arrays, **options)``; generators of random numbers start anew on each call."""
    fresh = {
        name: copy.deepcopy(value) if isinstance(value, np.random.Generator) else value
        for name, value in options.items()
    }
    return function(*arrays, **fresh)


def as_tuple(x: Any) -> tuple[Any, ...]:
    return x if type(x) is tuple else (x,)


def is_float(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.floating)) and x.dtype.kind == "f"


def random_cotangents(out: Any, rng: np.random.Generator, drop: bool = False) -> tuple[Any, ...]:
    """One per output, of its shape and dtype; None for an output that is no floating array, and
    with ``drop`` for some of several outputs, as if nothing had used them."""
    outs = as_tuple(out)
    dropped = rng.integers(len(outs), size=len(outs) // 2) if drop else ()
    return tuple(
        np.asarray(rng.standard_normal(np.shape(y)), y.dtype)
        if is_float(y) and i not in dropped
        else None
        for i, y in enumerate(outs)
    )


def unbroadcast(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum over the axes that broadcasting stretched (written apart from the engine's)."""
    while gradient.ndim > len(shape):
        gradient = gradient.sum(axis=0)
    for axis, side in enumerate(shape):
        if side == 1 and gradient.shape[axis] != 1:
            gradient = gradient.sum(axis=axis, keepdims=True)
    return gradient


def gradients(
    function: Callable[..., Any],
    arrays: Any,
    options: dict[str, Any],
    cotangents: tuple[Any, ...],
    broadcasts: bool,
) -> list[np.ndarray | None]:
    """What the op's own vjp says, one for each input; None for an input that takes no gradient.

    Raises an AssertionError where the gradient of a floating input has not its shape.
    """
    _, vjp = call(function, arrays, options)
    found = as_tuple(vjp(*cotangents))
    assert len(found) == len(arrays), f"{len(found)} gradients for {len(arrays)} inputs"
    result: list[np.ndarray | None] = []
    for x, dx in zip(arrays, found, strict=True):
        if not is_float(x):
            result.append(None)
            continue
        assert dx is not None, "no gradient for a floating input"
        if broadcasts:
            dx = unbroadcast(dx, x.shape)
        assert dx.shape == x.shape, f"gradient of shape {dx.shape} for an input of {x.shape}"
        result.append(dx)
    return result


@dataclass
class Numerical:
    """A numerical gradient, and the size under which it is lost in rounding."""

    value: np.ndarray
    floor: float

    def error(self, gradient: np.ndarray) -> float:
        """The worst relative error of ``gradient``; under the floor, relative to the floor."""
        if not self.value.size:
            return 0.0
        size = np.maximum(np.maximum(np.abs(self.value), np.abs(gradient)), self.floor)
        error = np.abs(self.value - gradient) / size
        return float(np.where(np.isnan(error), np.inf, error).max())


def numerical_gradient(
    function: Callable[..., Any],
    arrays: Any,
    options: dict[str, Any],
    cotangents: tuple[Any, ...],
    index: int,
) -> Numerical:
    """Central differences of fourth order, of ``sum(cotangent * out)`` by input ``index``.

    With step h = 1e-3 the truncation error is h^4 f'''''/30, about 1e-13 of the function, and so is
    that of rounding, 2^-53 / h: the gradient is good to some 1e-12 of the values around it. The
    floor, 1e-4 of them, makes a relative error of 1e-6 mean 1e-10 of them at least.
    """
    x = arrays[index]
    size = 1.0

    def outputs(moved: np.ndarray) -> list[np.ndarray]:
        out, _ = call(function, [*arrays[:index], moved, *arrays[index + 1 :]], options)
        return [
            np.asarray(y) for y, dy in zip(as_tuple(out), cotangents, strict=True) if dy is not None
        ]

    used = [dy for dy in cotangents if dy is not None]
    for y, dy in zip(outputs(x), used, strict=True):
        if y.size:
            size = max(size, float(np.abs(y).max() * np.abs(dy).max()))
    value = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        for steps, weight in ((1, 8.0), (2, -1.0)):
            up, down = x.copy(), x.copy()
            up[place] += steps * STEP
            down[place] -= steps * STEP
            width = up[place] - down[place]  # as rounded
            for dy, high, low in zip(used, outputs(up), outputs(down), strict=True):
                value[place] += weight / 6 * steps * np.sum(dy * (high - low)) / width
    return Numerical(value, 1e-4 * size)


Fault = Callable[[np.ndarray], np.ndarray]

FAULTS: dict[str, Fault] = {
    "0.1% wrong": lambda dx: dx * 1.001,
    "zero": np.zeros_like,
    "transposed": lambda dx: np.swapaxes(dx, -1, -2),
}


def plant(function: Callable[..., Any], index: int, fault: Fault) -> Callable[..., Any]:
    """The op with a fault in the gradient of input ``index``."""

    def wrong(*arrays: Any, **options: Any) -> Any:
        out, vjp = function(*arrays, **options)

        def wrong_vjp(*cotangents: Any) -> Any:
            found = list(as_tuple(vjp(*cotangents)))
            found[index] = fault(found[index])
            return tuple(found) if len(found) > 1 else found[0]

        return out, wrong_vjp

    return wrong
