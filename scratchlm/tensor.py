"""Tensors, the tape, and ``backward()``.

A :class:`Tensor` is an array that remembers how it was made. Applying an op runs
``out, vjp = op(*arrays)``, and leaves a :class:`Node` on the tape: the ``vjp``, and an edge to the
maker of each input. ``backward()`` walks the tape from the result back, hands each ``vjp`` the
cotangent of its output, and adds what comes out to the cotangents of the inputs. That is all of
reverse-mode differentiation. Gradients are first-order: a ``vjp`` works on arrays and is not taped.

What an op may leave to the engine, because it happens here and nowhere else: summing the gradient
of a broadcast input back to its shape, adding up over fan-out, checking shapes and dtypes, noticing
arrays changed between forward and backward, and finding the first NaN.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import array_api_compat
import numpy as np

from .backend import Array, array_namespace, asarray_like, is_floating, to_device, to_host
from .modes import Lock, check_backward_finite, check_forward_finite, modes
from .registry import Op, get_op

Vjp = Callable[..., Any]
_NUMBERS = (bool, int, float, np.generic)  # what takes the dtype of the tensor it meets


class Node:
    """One application of an op on the tape.

    For each input, ``inputs`` holds ``(maker, index, shape, dtype, version, taped)``: the maker is
    the node whose output number ``index`` it is, or the leaf :class:`Tensor` itself, or None where
    no gradient is wanted; ``version[0]`` was ``taped`` when the op ran. An input left out is None.
    ``outputs`` holds ``(version, taped)`` of each result. No tensor in between is kept alive, so an
    array that no ``vjp`` needs is freed at once.
    """

    # Rarely set, so not set by __init__:
    retained: tuple[weakref.ref[Tensor], ...] = ()  # results that asked for retain_grad()
    lock: Lock | None = None  # debug mode: the arrays made read-only,
    arguments: tuple[Array | None, ...] | None = None  # the inputs,
    values: tuple[Array, ...] | None = None  # the results,
    grads: tuple[Array | None, ...] | None = None  # and, after backward, their cotangents

    def __init__(self, op: Op, vjp: Vjp, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        self.op = op
        self.vjp = vjp
        self.inputs = inputs
        self.outputs = outputs

    def __repr__(self) -> str:
        return f"<Node {self.op.name}>"


class Tensor:
    """An array with a gradient.

    Args:
        data: a number, nested lists, an array of NumPy or CuPy, or a Tensor. Arrays are shared, not
            copied, and keep their dtype; Python floats become float32, the default for models.
        requires_grad: whether ``backward()`` should leave the gradient in ``.grad``.
        dtype: convert to this dtype.
        name: shown in error messages and graphs.

    Raises:
        TypeError: ``requires_grad`` for a dtype that is not floating, or data that are no numbers.
    """

    __slots__ = (
        "__weakref__",
        "_index",
        "_node",
        "_version",
        "data",
        "grad",
        "name",
        "requires_grad",
    )
    __array_ufunc__ = None  # so that ndarray + Tensor asks Tensor.__radd__

    def __init__(
        self, data: Any, requires_grad: bool = False, *, dtype: Any = None, name: str | None = None
    ) -> None:
        self.data: Array = _to_array(data, dtype)
        self.grad: Tensor | None = None
        self.name = name
        self.requires_grad = False
        self._node: Node | None = None
        self._index = 0  # which of the node's outputs this is
        shared = isinstance(data, Tensor) and data.data is self.data
        # A counter, bumped by in-place changes; tensors that share memory share it.
        self._version: list[int] = data._version if shared else [0]
        if requires_grad:
            self.requires_grad_()

    # -- what it is ----------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def device(self) -> Any:
        return array_api_compat.device(self.data)

    @property
    def is_leaf(self) -> bool:
        return self._node is None

    def __len__(self) -> int:
        if not self.data.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.data.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """For ``np.asarray`` and matplotlib: the values, without their history. CPU only."""
        if not isinstance(self.data, np.ndarray):
            raise TypeError(f"a tensor on {self.device} is not converted silently; use .numpy()")
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    def __repr__(self) -> str:
        body = np.array2string(to_host(self.data), precision=4, separator=", ", prefix="Tensor(")
        notes = f", dtype={self.dtype}" if self.dtype != np.float32 else ""
        if self._node is not None:
            notes += f", op={self._node.op.name}"
        elif self.requires_grad:
            notes += ", requires_grad=True"
        return f"Tensor({body}{notes})"

    def item(self) -> Any:
        """The value of a tensor of one element, as a Python number."""
        if self.data.size != 1:
            raise ValueError(
                f"item() needs a tensor of one element, this one has shape {self.shape}"
            )
        return to_host(self.data).item()

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array (from the CPU it shares memory; from a GPU it is a copy)."""
        return to_host(self.data)

    def tolist(self) -> Any:
        return to_host(self.data).tolist()

    # -- gradients -----------------------------------------------------------------------------

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Switch on (or off) the gradient of a leaf, in place."""
        if requires_grad and not is_floating(self.data):
            raise TypeError(
                f"only floating tensors can require a gradient, this one is {self.dtype}: "
                "a derivative needs small changes, which integers have not; use .astype('float32')"
            )
        if self._node is not None and not requires_grad:
            raise RuntimeError("requires_grad can be switched off on leaves only; use .detach()")
        self.requires_grad = requires_grad
        return self

    def retain_grad(self) -> Tensor:
        """Keep the gradient of this intermediate result in ``.grad`` too."""
        if not self.requires_grad:
            raise RuntimeError("retain_grad: this tensor does not require a gradient")
        if self._node is not None and all(r() is not self for r in self._node.retained):
            self._node.retained += (weakref.ref(self),)
        return self

    def detach(self) -> Tensor:
        """The same values (memory shared), cut off from the tape."""
        return Tensor(self, name=self.name)

    def clone(self) -> Tensor:
        """A copy of the values that passes gradients through."""
        return self * 1.0 if is_floating(self.data) else Tensor(self.data.copy())

    def astype(self, dtype: Any) -> Tensor:
        """The values in another dtype; the gradient returns in this one's."""
        return apply("astype", self, dtype=np.dtype(dtype))

    def to(self, device: Any) -> Tensor:
        """A leaf with the values on ``"cpu"`` or ``"cuda"``; this tensor itself if it is there.

        Raises:
            RuntimeError: the move would cut this tensor off from the tape.
        """
        moved = to_device(self.data, device)
        if moved is self.data:
            return self
        if self._node is not None and modes.grad:
            raise RuntimeError(
                f"to({device!r}): a result of {self._node.op.name} would lose its gradient, since "
                "moves are not taped; move the leaves it is made of, or use .detach().to(...)"
            )
        return Tensor(moved, self.requires_grad, name=self.name)

    def backward(self, gradient: Any = None) -> None:
        """Add d(self)/d(leaf) to ``.grad`` of every leaf that requires it.

        Args:
            gradient: the cotangent of this tensor, of its shape; may be left out for one element.

        Raises:
            RuntimeError: nothing here requires a gradient; several elements and no ``gradient``;
                or an array was changed in place since it was used.
            ValueError, TypeError: the shape or dtype of a cotangent (given, or from a ``vjp``).
        """
        if not self.requires_grad:
            raise RuntimeError(
                "backward: this tensor does not require a gradient: no leaf with "
                "requires_grad=True led to it, or it was made inside no_grad()"
            )
        if gradient is None:
            if self.data.size != 1:
                raise RuntimeError(
                    f"backward: a tensor of shape {self.shape} has no single gradient; reduce it "
                    "to a scalar (.sum(), .mean()), or give the cotangent: backward(gradient)"
                )
            cotangent = array_namespace(self.data).ones_like(self.data)
        else:
            cotangent = _beside(gradient, self.data, self.dtype)
            if cotangent.shape != self.shape:
                raise ValueError(
                    f"backward: gradient has shape {cotangent.shape}, the tensor {self.shape}; "
                    "a cotangent has the shape of what it belongs to"
                )
        _backward(self, cotangent)

    # -- in place: never taped -----------------------------------------------------------------

    def copy_(self, source: Any) -> Tensor:
        """Overwrite the values in place."""
        return self._write(..., source)

    def fill_(self, value: float) -> Tensor:
        return self._write(..., value)

    def zero_(self) -> Tensor:
        return self._write(..., 0)

    def add_(self, other: Any) -> Tensor:
        return self._write(..., self.data + _constant(other, self.data))

    def sub_(self, other: Any) -> Tensor:
        return self._write(..., self.data - _constant(other, self.data))

    def mul_(self, other: Any) -> Tensor:
        return self._write(..., self.data * _constant(other, self.data))

    def __setitem__(self, index: Any, value: Any) -> None:
        self._write(index, value)

    def _write(self, index: Any, value: Any) -> Tensor:
        if self.requires_grad and modes.grad:
            raise RuntimeError(
                "in-place change of a tensor that requires a gradient: the tape would not see it; "
                "wrap the change in `with no_grad():`, or make a new tensor (x = x + 1)"
            )
        value = _constant(value, self.data)
        if is_floating(value) and not is_floating(self.data):
            raise TypeError(
                f"in-place change of {self.dtype} values by {value.dtype} would round them"
            )
        try:
            self.data[_plain_index(index)] = value
        except ValueError as error:
            raise ValueError(
                f"in-place change of a tensor of shape {self.shape} by values of shape "
                f"{value.shape}: {error}"
            ) from None
        self.bump_version()
        return self

    def bump_version(self) -> None:
        """Say that ``.data`` was changed in place, so that a backward that needed it raises."""
        self._version[0] += 1

    # -- operators: each is one op -------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> Tensor:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> Tensor:
        return apply("sub", self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return apply("sub", other, self)

    def __mul__(self, other: Any) -> Tensor:
        return apply("mul", self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return apply("mul", other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return apply("div", self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return apply("div", other, self)

    def __pow__(self, exponent: Any) -> Tensor:
        if isinstance(exponent, (int, float)):
            return apply("pow_scalar", self, exponent=exponent)
        return apply("pow", self, exponent)

    def __rpow__(self, base: Any) -> Tensor:
        return apply("pow", base, self)

    def __matmul__(self, other: Any) -> Tensor:
        return apply("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return apply("matmul", other, self)

    def __neg__(self) -> Tensor:
        return apply("neg", self)

    def __abs__(self) -> Tensor:
        return apply("abs", self)

    def __getitem__(self, index: Any) -> Tensor:
        return apply("getitem", self, index=_plain_index(index))

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        if other is None:
            return NotImplemented  # so that `t == None` is False
        return Tensor(self.data == _constant(other, self.data))

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        if other is None:
            return NotImplemented
        return Tensor(self.data != _constant(other, self.data))

    def __lt__(self, other: Any) -> Tensor:
        return Tensor(self.data < _constant(other, self.data))

    def __le__(self, other: Any) -> Tensor:
        return Tensor(self.data <= _constant(other, self.data))

    def __gt__(self, other: Any) -> Tensor:
        return Tensor(self.data > _constant(other, self.data))

    def __ge__(self, other: Any) -> Tensor:
        return Tensor(self.data >= _constant(other, self.data))

    __hash__ = object.__hash__  # == compares elements; as a key, a tensor is itself

    # -- methods: PyTorch's names --------------------------------------------------------------

    @property
    def T(self) -> Tensor:
        """The transpose of a matrix."""
        if self.ndim != 2:
            raise ValueError(
                f".T is for matrices, this tensor has shape {self.shape}; use .mT or .permute"
            )
        return apply("permute", self, axes=(1, 0))

    @property
    def mT(self) -> Tensor:
        """The last two axes swapped."""
        return self.transpose(-1, -2)

    def reshape(self, *shape: Any) -> Tensor:
        return apply("reshape", self, shape=_flat(shape))

    def permute(self, *axes: Any) -> Tensor:
        return apply("permute", self, axes=_flat(axes))

    def transpose(self, axis0: int, axis1: int) -> Tensor:
        """Two axes swapped."""
        axes = list(range(self.ndim))
        try:
            axes[axis0], axes[axis1] = axes[axis1], axes[axis0]
        except IndexError:
            raise ValueError(
                f"transpose: axes {axis0} and {axis1} for shape {self.shape}: it has {self.ndim} "
                "axes, counted from 0 (or from -1, backwards)"
            ) from None
        return apply("permute", self, axes=tuple(axes))

    def broadcast_to(self, *shape: Any) -> Tensor:
        return apply("broadcast_to", self, shape=_flat(shape))

    def split(self, sizes: int | tuple[int, ...], axis: int = 0) -> tuple[Tensor, ...]:
        return apply("split", self, sizes=sizes, axis=axis)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return apply("sum", self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return apply("mean", self, axis=axis, keepdims=keepdims)

    def var(self, axis: Any = None, correction: float = 1, keepdims: bool = False) -> Tensor:
        return apply("var", self, axis=axis, correction=correction, keepdims=keepdims)

    def amax(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return apply("amax", self, axis=axis, keepdims=keepdims)

    def amin(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        return apply("amin", self, axis=axis, keepdims=keepdims)

    def cumsum(self, axis: int) -> Tensor:
        return apply("cumsum", self, axis=axis)

    def argmax(self, axis: int | None = None) -> Tensor:
        xp = array_namespace(self.data)
        return Tensor(xp.argmax(self.data, axis=axis))

    def exp(self) -> Tensor:
        return apply("exp", self)

    def log(self) -> Tensor:
        return apply("log", self)

    def sqrt(self) -> Tensor:
        return apply("sqrt", self)

    def abs(self) -> Tensor:
        return apply("abs", self)

    def clip(self, min: float | None = None, max: float | None = None) -> Tensor:
        return apply("clip", self, min=min, max=max)

    def sigmoid(self) -> Tensor:
        return apply("sigmoid", self)

    def tanh(self) -> Tensor:
        return apply("tanh", self)

    def relu(self) -> Tensor:
        return apply("relu", self)

    def softmax(self, axis: int = -1) -> Tensor:
        return apply("softmax", self, axis=axis)


# -- forward: run an op, and tape it ---------------------------------------------------------------


def apply(op: Any, *inputs: Any, **options: Any) -> Any:
    """Run ``op`` (an :class:`Op`, or its name) on tensors and tape it.

    It is the one road from arrays to tensors. Inputs may be tensors, arrays, numbers (which take
    the dtype of the others) or None (an input left out); options may not carry gradients.

    Raises:
        TypeError: unknown option, an option that requires a gradient, arrays of two libraries, a
            result that is not ``(out, vjp)``, or that is float64 out of float32.
    """
    if type(op) is str:
        op = get_op(op)
    for x in inputs:
        if x is not None and not isinstance(x, Tensor):
            inputs = _as_tensors(inputs)
            break
    arrays = [None if t is None else t.data for t in inputs]
    for name, value in options.items():
        if isinstance(value, Tensor):
            options[name] = _option(op, name, value)
    try:
        made = op.run(*arrays, **options)
    except TypeError:
        op.explain_options(options)
        raise
    if type(made) is not tuple or len(made) != 2 or not callable(made[1]):
        raise TypeError(
            f"{op.name} must return (out, vjp), vjp a function; it returned {made!r:.60}"
        )
    result, vjp = made

    node = None
    if modes.grad:
        for t in inputs:
            if t is not None and t.requires_grad:
                node = Node(op, vjp, _record(inputs), ())
                break
    dtype = arrays[0].dtype if arrays and arrays[0] is not None else None
    results = []
    for index, out in enumerate(result if type(result) is tuple else (result,)):
        if type(out) is not np.ndarray:
            out = _as_array(op, out, arrays)
        if out.dtype is not dtype:
            _check_dtype(op, out, arrays, options)
        t = Tensor.__new__(Tensor)
        t.data, t.grad, t.name, t._index = out, None, None, index
        t.requires_grad = node is not None and out.dtype.kind == "f"
        t._node = node if t.requires_grad else None
        t._version = [0]
        base = out.base
        for x in inputs:  # a view of an input (or the input itself) is the same memory
            if x is not None and (
                x.data is out or (base is not None and (x.data is base or x.data.base is base))
            ):
                t._version = x._version
        results.append(t)
    if node is not None:
        node.outputs = tuple([(t._version, t._version[0]) for t in results])
    if modes.anomaly:
        check_forward_finite(op, arrays, [t.data for t in results])
    if modes.debug and node is not None:
        node.arguments, node.values = tuple(arrays), tuple(t.data for t in results)
        node.lock = Lock([*(a for a in arrays if a is not None), *node.values])
    return tuple(results) if type(result) is tuple else results[0]


def _record(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """What :class:`Node` keeps of its inputs."""
    return tuple(
        [
            None
            if t is None
            else (
                (t if t._node is None else t._node) if t.requires_grad else None,
                t._index,
                t.data.shape,
                t.data.dtype,
                t._version,
                t._version[0],
            )
            for t in inputs
        ]
    )


def _as_tensors(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Wrap what is no tensor; numbers go beside the first floating array among the inputs."""
    like = None
    for x in inputs:
        array = x.data if isinstance(x, Tensor) else x
        if _is_array(array) and (like is None or is_floating(array)):
            like = array
            if is_floating(array):
                break
    tensors = []
    for x in inputs:
        if x is not None and not isinstance(x, Tensor):
            x = Tensor(x if like is None else _constant(x, like))
        tensors.append(x)
    return tuple(tensors)


def _option(op: Op, name: str, value: Tensor) -> Array:
    if value.requires_grad and modes.grad:
        raise TypeError(
            f"{op.name}: option {name!r} requires a gradient, but options carry none: "
            f"pass {name}.detach() if that is meant"
        )
    return value.data


def _as_array(op: Op, out: Any, arrays: list[Any]) -> Array:
    """NumPy's reductions return scalars: make them 0-d arrays; refuse what is no array at all."""
    if isinstance(out, _NUMBERS):
        return asarray_like(out, next(a for a in arrays if a is not None))
    if hasattr(out, "base") and hasattr(out, "dtype"):
        return out
    raise TypeError(
        f"{op.name} must return (out, vjp) with out an array or a tuple of arrays, "
        f"got {type(out).__name__}"
    )


def _check_dtype(op: Op, out: Array, arrays: list[Any], options: dict[str, Any]) -> None:
    """Floating results have the widest floating dtype of the inputs, or what an option says."""
    dtypes = [a.dtype for a in arrays if a is not None]
    floats = [d for d in dtypes if d.kind == "f"]
    if out.dtype.kind != "f" or not dtypes or "dtype" in options:
        return
    if not floats:
        raise TypeError(
            f"{op.name}: the inputs are {dtypes[0]} but the result is {out.dtype}: say which "
            "floating dtype is meant, with .astype('float32') first"
        )
    widest = max(floats, key=lambda d: d.itemsize)
    if out.dtype == widest:
        return
    if out.dtype.itemsize < widest.itemsize:
        why = "precision got lost inside; keep the dtype of the inputs"
    elif len(floats) < len(dtypes):
        why = "an integer input widens it; convert that first, with .astype"
    else:
        why = (
            "a float64 constant slipped in. np.sqrt(2), np.pi * 1 and np.float64 widen the dtype; "
            "math.sqrt(2), 2 ** 0.5 and Python floats do not"
        )
    raise TypeError(f"{op.name}: the inputs are {widest} but the result is {out.dtype}: {why}")


# -- backward --------------------------------------------------------------------------------------


def _backward(root: Tensor, cotangent: Array) -> None:
    """Run every vjp from ``root`` back, each once all cotangents of its results have arrived."""
    start = root._node
    if start is None:
        _deliver([(root, cotangent, False)])
        return
    # Keyed by (id of the maker, which output): the sum of the cotangents that have arrived; and the
    # sums whose memory was allocated here, which may be added to in place.
    total: dict[tuple[int, int], Array] = {(id(start), root._index): cotangent}
    ours: set[tuple[int, int]] = set()
    leaves: dict[int, Tensor] = {}
    gradients: list[tuple[Tensor, Array | None, bool]] = []
    pending = _count_consumers(start)
    ready = [start]
    try:
        while ready:
            node = ready.pop()
            incoming = [total.pop((id(node), i), None) for i in range(len(node.outputs))]
            if node.retained:
                kept = [t for t in (reference() for reference in node.retained) if t is not None]
                gradients += [(t, incoming[t._index], False) for t in kept]
            for index, gradient in enumerate(_run_vjp(node, incoming)):
                entry = node.inputs[index]
                if entry is None or entry[0] is None:
                    continue
                maker, position, shape, dtype, _, _ = entry
                if gradient is not None:
                    if (
                        type(gradient) is not np.ndarray
                        or gradient.shape != shape
                        or gradient.dtype is not dtype
                    ):
                        gradient = _check_gradient(node, index, gradient)
                    key = (id(maker), position)
                    if key not in total:
                        total[key] = gradient
                    elif key in ours:
                        total[key] += gradient
                    else:
                        total[key] = _add(total[key], gradient)
                        ours.add(key)
                if type(maker) is Node:
                    pending[maker] -= 1
                    if not pending[maker]:
                        ready.append(maker)
                else:
                    leaves[id(maker)] = maker
    finally:
        for node in pending:
            if node.lock is not None:
                node.lock.release()
    for leaf in leaves.values():
        key = (id(leaf), 0)
        gradients.append((leaf, total.get(key), key in ours))
    _deliver(gradients)


def _count_consumers(start: Node) -> dict[Node, int]:
    """How many edges lead to each node reachable from ``start``.

    A loop, not a recursion: depth is no limit, and a node met along 2^40 paths is visited once.
    """
    pending: dict[Node, int] = {start: 0}
    stack = [start]
    while stack:
        for entry in stack.pop().inputs:
            if entry is not None and type(entry[0]) is Node:
                maker = entry[0]
                if maker in pending:
                    pending[maker] += 1
                else:
                    pending[maker] = 1
                    stack.append(maker)
    return pending


def _deliver(gradients: list[tuple[Tensor, Array | None, bool]]) -> None:
    """Add to ``.grad``, as the last step: if anything fails before, no gradient has arrived.

    Memory that is not ours (a cotangent may be the caller's, or another leaf's too) is copied.
    """
    sums = [
        (tensor, Tensor((g if ours else g.copy()) if tensor.grad is None else tensor.grad.data + g))
        for tensor, g, ours in gradients
        if g is not None
    ]
    for tensor, gradient in sums:
        tensor.grad = gradient


def _run_vjp(node: Node, incoming: list[Array | None]) -> tuple[Array | None, ...]:
    """The cotangents of the inputs of ``node``, as many as it has."""
    for index, entry in enumerate(node.inputs):
        if entry is not None and entry[4][0] != entry[5]:
            _raise_changed(node, f"input {node.op.input_name(index)!r}", entry[0])
    for version, taped in node.outputs:
        if version[0] != taped:
            _raise_changed(node, "its result", None)
    if node.values is not None:
        node.grads = tuple(incoming)
    for cotangent in incoming:
        if cotangent is not None:
            break
    else:
        return (None,) * len(node.inputs)
    result = node.vjp(*incoming)
    outgoing = result if type(result) is tuple else (result,)
    if len(outgoing) > len(node.inputs) and all(g is None for g in outgoing[len(node.inputs) :]):
        outgoing = outgoing[: len(node.inputs)]  # optional inputs that were left out
    while len(outgoing) < len(node.inputs) and node.inputs[len(outgoing)] is None:
        outgoing = (*outgoing, None)  # optional inputs given as None
    if len(outgoing) != len(node.inputs):
        names = ", ".join(node.op.input_name(i) for i in range(len(node.inputs)))
        raise ValueError(
            f"{node.op.name}: vjp returned {len(outgoing)} gradients for {len(node.inputs)} inputs "
            f"({names}); return one per input, None for one that has none"
        )
    if modes.anomaly:
        wanted = [entry is not None and entry[0] is not None for entry in node.inputs]
        check_backward_finite(node.op, wanted, incoming, outgoing)
    return outgoing


def _check_gradient(node: Node, index: int, gradient: Any) -> Array:
    """The gradient of input ``index``, with its shape and dtype; broadcast axes summed."""
    _, _, shape, dtype, _, _ = node.inputs[index]
    name = f"{node.op.name}: the gradient of {node.op.input_name(index)!r}"
    if isinstance(gradient, np.generic):
        gradient = np.asarray(gradient)
    if not hasattr(gradient, "dtype") or isinstance(gradient, Tensor):
        raise TypeError(f"{name} is a {type(gradient).__name__}; a vjp takes and returns arrays")
    if gradient.dtype != dtype:
        floats = {entry[3] for entry in node.inputs if entry is not None and entry[3].kind == "f"}
        if len(floats) == 1 or gradient.dtype.kind != "f":
            why = "a float64 constant slipped into vjp; use Python floats (math.sqrt, not np.sqrt)"
            if gradient.dtype != np.float64:
                why = "a gradient has the dtype of what it belongs to"
            raise TypeError(f"{name} is {gradient.dtype}, the input {dtype}: {why}")
        gradient = gradient.astype(dtype)  # inputs of mixed dtypes: each gets its own back
    if gradient.shape != shape:
        if not node.op.broadcasts or not _broadcasts_to(shape, gradient.shape):
            why = _shape_hint(gradient.shape, shape)
            raise ValueError(f"{name} has shape {gradient.shape}, the input {shape}: {why}")
        gradient = unbroadcast(gradient, shape)
    return gradient


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum ``gradient`` over the axes along which an input of ``shape`` was broadcast.

    An element that was used many times receives the sum of what each use passes back.
    """
    xp = array_namespace(gradient)
    extra = gradient.ndim - len(shape)
    stretched = [extra + i for i, n in enumerate(shape) if n == 1 != gradient.shape[extra + i]]
    axes = (*range(extra), *stretched)
    return xp.reshape(xp.sum(gradient, axis=axes), shape) if axes else gradient


def _broadcasts_to(shape: tuple[int, ...], wider: tuple[int, ...]) -> bool:
    aligned = wider[len(wider) - len(shape) :]
    return len(shape) <= len(wider) and all(
        n in (1, m) for n, m in zip(shape, aligned, strict=True)
    )


def _shape_hint(got: tuple[int, ...], want: tuple[int, ...]) -> str:
    if got == want[::-1]:
        return "it is transposed"
    if len(got) > len(want) and got[len(got) - len(want) :] == want:
        return (
            f"sum it over the leading {len(got) - len(want)} axes, along which the input was reused"
        )
    if len(got) == len(want) and _broadcasts_to(want, got):
        return "sum it (keepdims) over the axes of length 1, along which the input was reused"
    return "a gradient has the shape of what it belongs to"


def _add(a: Array, b: Array) -> Array:
    total = a + b
    return np.asarray(total) if isinstance(total, np.generic) else total  # 0-d, in NumPy


def _raise_changed(node: Node, what: str, maker: Any) -> None:
    named = f" ({maker.name})" if isinstance(maker, Tensor) and maker.name else ""
    raise RuntimeError(
        f"{node.op.name}: {what}{named} was changed in place between forward and backward, so its "
        "gradient would be wrong; change it after backward(), or change a copy (.clone())"
    )


# -- small conversions -----------------------------------------------------------------------------


def _is_array(x: Any) -> bool:
    return hasattr(x, "dtype") and hasattr(x, "shape") and not isinstance(x, np.generic)


def _to_array(data: Any, dtype: Any) -> Array:
    if isinstance(data, Tensor):
        data = data.data
    elif isinstance(data, (list, tuple)) and any(isinstance(x, Tensor) for x in data):
        raise TypeError(
            "a list of tensors is no tensor, and made one it would lose their gradients; "
            "functional.stack and concatenate take them one by one: stack(*tensors)"
        )
    if _is_array(data):
        array = np.asarray(data) if isinstance(data, np.ndarray) else data  # no subclasses
    else:
        array = np.asarray(data, dtype=dtype)
        if dtype is None and array.dtype == np.float64 and not isinstance(data, np.generic):
            array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"a tensor holds real numbers or booleans, not {array.dtype} ({data!r:.60})"
        )
    return array if dtype is None or array.dtype == dtype else array.astype(dtype)


def _constant(value: Any, like: Array) -> Array:
    """``value`` as an array beside ``like``.

    Numbers, and lists of floats, take the dtype of ``like`` (but a float never an integer's);
    arrays keep their own.
    """
    if isinstance(value, Tensor):
        return value.data
    if isinstance(value, _NUMBERS):
        value = value.item() if isinstance(value, np.generic) else value
        if is_floating(like):
            return asarray_like(value, like, like.dtype)
        real = isinstance(value, float)
        return asarray_like(value, like, np.float32 if real else np.result_type(like.dtype, value))
    if _is_array(value):
        return value
    array = _to_array(value, None)
    return asarray_like(
        value, like, like.dtype if is_floating(like) and is_floating(array) else None
    )


def _beside(value: Any, like: Array, dtype: Any) -> Array:
    """``value`` as an array of ``dtype`` beside ``like``; arrays of another library are refused."""
    value = value.data if isinstance(value, Tensor) else value
    if not _is_array(value):
        return asarray_like(value, like, dtype)
    array_namespace(value, like)
    return value if value.dtype == dtype else value.astype(dtype)


def _plain_index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_plain_index(i) for i in index)
    return index.data if isinstance(index, Tensor) else index


def _flat(shape: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
