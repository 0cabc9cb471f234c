"""A function at one point: run it, pull cotangents back through it, measure its Jacobian."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import asarray_like, is_floating, to_host
from ..registry import Op, all_ops
from ..tensor import Tensor
from .diagnosis import Diagnosis

MAX_COLUMNS = 1000  # input elements that are measured, for each input; of more, a sample
MAX_ENTRIES = 4_000_000  # of one Jacobian: 32 MB

Measured = tuple[np.ndarray, np.ndarray]  # the columns of J, and which columns these are
Gradients = list[np.ndarray | None]  # one for each input


def flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays laid end to end."""
    return np.concatenate([a.ravel() for a in arrays])


class Point:
    """``f``, an op or a function of tensors, and the inputs at which its gradient is checked.

    ``hosts[i]`` is the float64 value of input ``i``, for ``i`` in ``wrt``; ``outs`` are the
    floating outputs. Every run gets fresh copies, so whatever ``f`` does to them, these stay.
    """

    def __init__(
        self,
        f: Any,
        inputs: Sequence[Any],
        names: Sequence[str] | None,
        wrt: Sequence[int] | None,
        broadcasts: bool | None,
    ) -> None:
        self.function = f.run if isinstance(f, Op) else f
        self.name = _name(f)
        self.broadcasts = _broadcasts(f) if broadcasts is None else broadcasts
        self.inputs = [_array(x) for x in inputs]
        self.names = _names(f, len(inputs)) if names is None else list(names)
        if len(self.names) != len(inputs):
            raise ValueError(f"gradcheck: {len(self.names)} names for {len(inputs)} inputs")
        floating = [i for i, x in enumerate(self.inputs) if x is not None and is_floating(x)]
        self.wrt = [i for i in floating if wrt is None or i in wrt]
        unfit = [i for i in wrt or () if i not in floating]
        if unfit:
            raise ValueError(
                f"gradcheck({self.name}): wrt={list(wrt or ())}, but input {unfit[0]} is none of "
                f"the floating inputs {floating}"
            )
        if not self.wrt:
            raise TypeError(f"gradcheck({self.name}): no floating input to differentiate by")
        for i in self.wrt:
            if self.inputs[i].dtype != np.float64:
                raise TypeError(
                    f"gradcheck({self.name}): input {self.names[i]!r} is {self.inputs[i].dtype}, "
                    "but must be float64: in float32 the differences keep three or four digits, "
                    "and a gradient that is 0.1% wrong would pass; use x.astype('float64')"
                )
        self.hosts = {i: np.array(to_host(self.inputs[i])) for i in self.wrt}
        self.is_op = self._is_op(any(isinstance(x, Tensor) for x in inputs))
        self._inspect()

    # -- running -------------------------------------------------------------------------------

    def args(self, as_tensors: bool, moved: tuple[int, np.ndarray] | None = None) -> list[Any]:
        """Fresh copies of the inputs; input ``moved[0]`` has the values ``moved[1]``."""
        args = list(self.inputs)
        for i, host in self.hosts.items():
            host = moved[1] if moved is not None and moved[0] == i else host
            args[i] = asarray_like(host.copy(), self.inputs[i])
            if as_tensors:
                args[i] = Tensor(args[i], requires_grad=True, name=self.names[i])
        return args

    def run(self, args: list[Any]) -> tuple[list[Any], Any]:
        """The outputs (arrays of an op, tensors of a function of tensors), and the op's vjp."""
        result = self.function(*args)
        if self.is_op:
            out, vjp = result
            return list(out) if type(out) is tuple else [out], vjp
        if not _are_tensors(result):
            raise self._refusal(result)
        return list(result) if isinstance(result, tuple) else [result], None

    def values(self, moved: tuple[int, np.ndarray] | None = None) -> np.ndarray:
        """The floating outputs, laid end to end."""
        outs, _ = self.run(self.args(not self.is_op, moved))
        return flat([h for h in map(_host, outs) if is_floating(h)])

    def _is_op(self, given_tensors: bool) -> bool:
        """Given arrays, does ``f`` return ``(out, vjp)``? If not, it must be one of tensors."""
        result, refusal = None, None
        try:
            result = self.function(*self.args(as_tensors=False))
        except Exception as error:
            refusal = error
        if type(result) is tuple and len(result) == 2 and callable(result[1]):
            return True
        # What failed for want of a method that tensors have (x.softmax) was written for tensors.
        for_tensors = isinstance(refusal, AttributeError) and hasattr(Tensor, str(refusal.name))
        try:
            on_tensors = self.function(*self.args(as_tensors=True))
        except Exception:
            if given_tensors or for_tensors:
                raise
            raise (refusal or self._refusal(result)) from None
        if not _are_tensors(on_tensors):
            raise refusal or self._refusal(result)
        return False

    def _refusal(self, result: Any) -> TypeError:
        return TypeError(
            f"gradcheck: {self.name} returned {type(result).__name__}; an op returns the pair "
            "(out, vjp), a function of tensors returns a tensor or a tuple of tensors"
        )

    def _inspect(self) -> None:
        """Run once, and refuse what would make every comparison meaningless."""
        args = self.args(not self.is_op)
        outs = [_host(out) for out in self.run(args)[0]]
        for i in self.wrt:
            if not np.array_equal(_host(args[i]), self.hosts[i], equal_nan=True):
                raise RuntimeError(
                    f"{self.name} changes its input {self.names[i]!r} in place, which its caller "
                    "still needs: compute into a new array (x = x + 1, not x += 1)"
                )
        self.floating = [is_floating(out) for out in outs]
        self.outs = [out for out in outs if is_floating(out)]
        if not self.outs:
            raise TypeError(f"{self.name}: no floating output, so there is no gradient to check")
        for number, out in enumerate(outs):
            which = f"{self.name}: " + (f"output {number}" if len(outs) > 1 else "the output")
            if is_floating(out) and out.dtype != np.float64:
                raise TypeError(
                    f"{which} is {out.dtype} though the inputs are float64: the digits that the "
                    "differences need are lost; keep the dtype of the inputs"
                )
            if is_floating(out) and not np.isfinite(out).all():
                bad = np.argwhere(~np.isfinite(out))
                raise ValueError(
                    f"{which} has NaN or infinity in {len(bad)} of {out.size} elements, first at "
                    f"{bad[0].tolist()}; check at inputs where the function is defined"
                )
        if not np.array_equal(self.values(), flat(self.outs)):
            raise RuntimeError(
                f"{self.name} gives another result when called again with the same inputs. "
                "Dropout? Fix its random numbers: lambda x: f(x, rng=np.random.default_rng(0))"
            )

    # -- the vjp -------------------------------------------------------------------------------

    def random_cotangent(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Normal random numbers in the shapes of the floating outputs."""
        return [rng.standard_normal(out.shape) for out in self.outs]

    def vjp(self, cotangents: list[list[np.ndarray]]) -> tuple[list[Gradients], Diagnosis | None]:
        """The gradients for each cotangent, and what the vjp does that it should not."""
        if not self.is_op:
            return [self._backward(dy) for dy in cotangents], None
        args = self.args(as_tensors=False)
        outs, vjp = self.run(args)
        changed: set[str] = set()
        first = self._pull(vjp, outs, cotangents[0], changed)
        results = [_hosts(first)]
        results += [_hosts(self._pull(vjp, outs, dy, changed)) for dy in cotangents[1:]]
        reused = not _same(_hosts(first), results[0])
        again = _hosts(self._pull(vjp, outs, cotangents[0], changed))
        changed |= {
            f"input {self.names[i]!r}"
            for i in self.wrt
            if not np.array_equal(_host(args[i]), self.hosts[i])
        }
        if changed:
            return results, Diagnosis(
                "changed in place",
                f"the vjp changes {' and '.join(sorted(changed))} in place, and others need it",
                "compute into a new array: dx = dy * y, not dy *= y",
            )
        if reused:
            return results, Diagnosis(
                "array reused",
                "a second call of the vjp overwrites what the first one returned",
                "return a fresh array at each call, not one kept from the forward pass",
            )
        if not _same(again, results[0]):
            return results, Diagnosis(
                "not repeatable",
                "called again with the same cotangent, the vjp returns something else",
                "the vjp must not change what it keeps from the forward pass (a += on it?)",
            )
        return results, None

    def _pull(
        self, vjp: Any, outs: list[Any], dy: list[np.ndarray], changed: set[str]
    ) -> list[Any]:
        """One call of an op's vjp."""
        sent = iter(dy)
        received = [
            asarray_like(next(sent).copy(), out) if floating else None
            for out, floating in zip(outs, self.floating, strict=True)
        ]
        result = vjp(*received)
        after = [_host(c) for c in received if c is not None]
        if not all(np.array_equal(a, b) for a, b in zip(after, dy, strict=True)):
            changed.add("its cotangent dy")
        gradients = result if type(result) is tuple else (result,)
        if type(result) is list or len(gradients) != len(self.inputs):
            what = "a list" if type(result) is list else f"{len(gradients)} gradient(s)"
            raise ValueError(
                f"{self.name}: vjp returned {what} for {len(self.inputs)} inputs "
                f"({', '.join(self.names)}); return a tuple with one gradient for each input, None "
                "for one that has none"
            )
        return list(gradients)

    def _backward(self, dy: list[np.ndarray]) -> Gradients:
        """The gradients that the tape gives."""
        args = self.args(as_tensors=True)
        outs, _ = self.run(args)
        floating = [out for out, f in zip(outs, self.floating, strict=True) if f]
        for out, cotangent in zip(floating, dy, strict=True):
            if out.requires_grad:
                out.backward(cotangent)
        return _hosts([x.grad if isinstance(x, Tensor) else None for x in args])

    # -- differences ---------------------------------------------------------------------------

    def slopes(self, i: int, j: int, h: float) -> Measured:
        """The slopes of all outputs, left and right of element ``j`` of input ``i``."""
        x = self.hosts[i].copy()
        place = np.unravel_index(j, x.shape)
        center, base = float(x[place]), flat(self.outs)
        slopes = []
        for step in (-h, h):
            x[place] = center + step
            taken = float(x[place]) - center  # the step after rounding
            moved = self.values((i, x))
            if taken == 0.0:
                raise ValueError(f"{self.name}: a step of {h:.1e} is lost beside {center:.3g}")
            if not np.isfinite(moved).all():
                raise ValueError(
                    f"{self.name}: the output is NaN or infinite when {self.names[i]}"
                    f"{[int(k) for k in place]} = {center:.3g} moves by {step:.1e}; check at "
                    "inputs inside the domain of the function"
                )
            slopes.append((moved - base) / taken)
        return slopes[0], slopes[1]

    def step(self, i: int, j: int, eps: float) -> float:
        """``eps``, or more beside an element so large that ``eps`` would drown in its digits."""
        return max(eps, 1e-9 * abs(float(self.hosts[i].ravel()[j])))

    def column(self, i: int, j: int, eps: float) -> np.ndarray:
        """``∂(outputs)/∂(element j of input i)`` by central differences."""
        left, right = self.slopes(i, j, self.step(i, j, eps))
        return (left + right) / 2

    def jacobian(self, i: int, eps: float, rng: np.random.Generator) -> Measured:
        """All columns for input ``i``; of a large input or Jacobian, a random sample."""
        size, rows = self.hosts[i].size, sum(out.size for out in self.outs)
        limit = max(16, min(MAX_COLUMNS, MAX_ENTRIES // max(rows, 1)))
        columns = np.arange(size)
        if size > limit:
            columns = np.sort(rng.choice(size, limit, replace=False))
        jacobian = np.empty((rows, len(columns)))
        for k, j in enumerate(columns):
            jacobian[:, k] = self.column(i, int(j), eps)
        return jacobian, columns

    def is_kink(self, i: int, j: int, eps: float) -> bool:
        """The slopes left and right differ, and by no less when the step is ten times shorter."""
        scale, bends = 0.0, []
        for h in (eps, eps / 10):
            left, right = self.slopes(i, j, self.step(i, j, h))
            scale = max(scale, float(np.max(np.abs([left, right]), initial=0.0)))
            bends.append(float(np.max(np.abs(right - left), initial=0.0)))
        return bends[0] > 1e-4 * scale and bends[1] > 0.5 * bends[0]

    def sizes(self) -> list[tuple[str, int]]:
        """The lengths that turn up as factors in gradients, in words."""
        arrays = [(self.names[i], x.shape) for i, x in self.hosts.items()]
        arrays += [("the output", out.shape) for out in self.outs]
        lengths = []
        for name, shape in arrays:
            lengths += [(f"length of axis {k} of {name}", n) for k, n in enumerate(shape)]
            if len(shape) > 1:
                lengths.append((f"elements of {name}", int(np.prod(shape))))
            if len(shape) > 2:
                lengths.append((f"rows of {name}", int(np.prod(shape[:-1]))))
        return lengths


def _array(x: Any) -> Any:
    """An input: arrays and tensors as they are, nested lists of floats as float64."""
    if isinstance(x, Tensor):
        return x.data
    if x is None or (hasattr(x, "dtype") and hasattr(x, "shape") and not np.isscalar(x)):
        return x
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"gradcheck: an input is {type(x).__name__}, not an array of numbers")
    return array


def _host(x: Any) -> np.ndarray:
    """A copy on the host of an array or tensor."""
    return np.array(to_host(x.data if isinstance(x, Tensor) else x))


def _hosts(gradients: list[Any]) -> Gradients:
    return [None if g is None else _host(g) for g in gradients]


def _same(a: Gradients, b: Gradients) -> bool:
    return all(
        x is y if x is None or y is None else np.array_equal(x, y, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


def _are_tensors(result: Any) -> bool:
    several = result if isinstance(result, tuple) and result else (result,)
    return all(isinstance(t, Tensor) for t in several)


def _inner(f: Any) -> Any:
    while isinstance(f, functools.partial):
        f = f.func
    return inspect.unwrap(f) if callable(f) else f


def _name(f: Any) -> str:
    name = f.name if isinstance(f, Op) else getattr(_inner(f), "__name__", type(f).__name__)
    return "f" if name == "<lambda>" else str(name)


def _names(f: Any, count: int) -> list[str]:
    """The names of the first ``count`` parameters."""
    try:
        signature = f.signature if isinstance(f, Op) else inspect.signature(f)
    except (TypeError, ValueError):
        return [f"input {i}" for i in range(count)]
    names: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{k}]" for k in range(count - len(names))]
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            names.append(parameter.name)
    return (names + [f"input {i}" for i in range(len(names), count)])[:count]


def _broadcasts(f: Any) -> bool:
    """Whether ``f`` is an implementation of a registered op whose inputs broadcast."""
    if isinstance(f, Op):
        return f.broadcasts
    inner = _inner(f)
    return any(
        op.broadcasts and any(inner is known.function for known in op.implementations.values())
        for op in all_ops().values()
    )
