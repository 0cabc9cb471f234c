"""Tensors, the tape, and ``backward()``.

A :class:`Tensor` is an array that remembers how it was made. Applying an op runs
``out, vjp = op(*arrays)``, and leaves a :class:`Node` on the tape: the ``vjp``, and an edge to the
maker of each input. ``backward()`` walks the tape from the result back, hands each ``vjp`` the
cotangent of its output, and adds what comes out to the cotangents of the inputs. That is all of
reverse-mode differentiation. Gradients are first-order: a ``vjp`` works on arrays and is not taped.

What an op may leave to the engine, because it happens here and nowhere else: summing the gradient of
a broadcast input back to its shape, adding up over fan-out, checking shapes and dtypes, noticing
arrays changed between forward and backward, and finding the first NaN.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import array_api_compat
import numpy as np

from .backend import Array, array_namespace, asarray_like, is_floating, to_device, to_host
from .registry import Op, get_op

Vjp = Callable[..., Any]


class _Modes(threading.local):
    """What ``no_grad``, ``detect_anomaly`` and ``debug`` switch, for each thread."""

    grad = True
    anomaly = False
    debug = False


_modes = _Modes()


@contextlib.contextmanager
def _mode(name: str, value: bool) -> Iterator[None]:
    former = getattr(_modes, name)
    setattr(_modes, name, value)
    try:
        yield
    finally:
        setattr(_modes, name, former)


def no_grad() -> contextlib.AbstractContextManager[None]:
    """Inside ``with no_grad():`` (or a function so decorated) nothing is taped."""
    return _mode("grad", False)


def enable_grad() -> contextlib.AbstractContextManager[None]:
    """Undo ``no_grad`` inside the block."""
    return _mode("grad", True)


def is_grad_enabled() -> bool:
    """Whether ops are being taped in this thread."""
    return _modes.grad


def detect_anomaly() -> contextlib.AbstractContextManager[None]:
    """Inside the block, the first op whose result or gradient is NaN or infinite raises, by name."""
    return _mode("anomaly", True)


def debug() -> contextlib.AbstractContextManager[None]:
    """Inside the block, arrays that backward will need are read-only until it has run, and nodes
    keep their values and gradients, for :func:`scratchlm.plot.graph` to show."""
    return _mode("debug", True)


class Node:
    """One application of an op on the tape.

    ``edges[i]`` leads to where input ``i`` came from: ``(node, output index)``, a leaf
    :class:`Tensor` that wants its gradient, or None when input ``i`` carries none. The node keeps no
    tensor in between alive, so an array that no ``vjp`` needs is freed at once.
    """

    __slots__ = (
        "__weakref__", "edges", "grads", "inputs", "locked", "op", "outputs", "retained",
        "values", "versions", "vjp",
    )  # fmt: skip

    def __init__(self, op: Op, vjp: Vjp, edges: tuple[Any, ...], inputs: tuple[Any, ...]) -> None:
        self.op = op
        self.vjp = vjp
        self.edges = edges
        self.inputs = inputs  # (shape, dtype) of each, or None
        self.outputs: tuple[Any, ...] = ()  # (shape, dtype) of each
        self.versions: tuple[Any, ...] = ()  # (counter, its value when taped, tensor's name)
        self.retained: dict[int, weakref.ref[Tensor]] | None = None
        self.locked: list[Array] | None = None  # debug mode: arrays made read-only
        self.values: tuple[Array, ...] | None = None  # debug mode: outputs, for drawing
        self.grads: tuple[Array | None, ...] | None = None  # debug mode: their cotangents

    def __repr__(self) -> str:
        return f"<Node {self.op.name}>"

    def __del__(self) -> None:
        if self.locked is not None:
            _unlock(self)


class Tensor:
    """An array with a gradient.

    Args:
        data: a number, nested lists, an array of NumPy or CuPy, or a Tensor. Floating arrays keep
            their dtype; Python floats become float32, the default for models.
        requires_grad: whether ``backward()`` should leave the gradient in ``.grad``.
        dtype: convert to this dtype.
        name: shown in error messages and graphs.

    Raises:
        TypeError: ``requires_grad`` for a dtype that is not floating, or data that are no numbers.
    """

    __slots__ = ("__weakref__", "_index", "_node", "_version", "data", "grad", "name", "requires_grad")
    __array_priority__ = 1000  # so that ndarray + Tensor asks Tensor.__radd__
    __array_ufunc__ = None

    def __init__(
        self, data: Any, requires_grad: bool = False, *, dtype: Any = None, name: str | None = None
    ) -> None:
        self.data: Array = _to_array(data, dtype)
        self.grad: Tensor | None = None
        self.name = name
        self.requires_grad = False
        self._node: Node | None = None
        self._index = 0
        self._version = [0]  # bumped by in-place changes; shared by views of the same memory
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
            raise ValueError(f"item() needs a tensor of one element, this one has shape {self.shape}")
        return to_host(self.data).item()

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array (on the CPU it shares memory; see ``detach``)."""
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
        if self._node is not None:
            if self._node.retained is None:
                self._node.retained = {}
            self._node.retained[self._index] = weakref.ref(self)
        return self

    def detach(self) -> Tensor:
        """The same values (memory shared), cut off from the tape."""
        result = Tensor(self.data, name=self.name)
        result._version = self._version
        return result

    def clone(self) -> Tensor:
        """A copy of the values that passes gradients through."""
        return self + 0.0 if is_floating(self.data) else Tensor(_copy(self.data))

    def astype(self, dtype: Any) -> Tensor:
        """The values in another dtype; the gradient returns in this one's."""
        return apply("astype", self, dtype=np.dtype(dtype))

    def to(self, device: Any) -> Tensor:
        """The values on ``"cpu"`` or ``"cuda"``, cut off from the tape; a leaf like this one."""
        return Tensor(to_device(self.data, device), self.requires_grad, name=self.name)

    def backward(self, gradient: Any = None) -> None:
        """Add d(self)/d(leaf) to ``.grad`` of every leaf that requires it.

        Args:
            gradient: the cotangent of this tensor, of its shape; may be left out for one element.

        Raises:
            RuntimeError: nothing here requires a gradient; several elements and no ``gradient``;
                or an array was changed in place since it was used.
            ValueError, TypeError: a cotangent of the wrong shape or dtype.
        """
        if not self.requires_grad:
            raise RuntimeError(
                "backward: this tensor does not require a gradient: no leaf with "
                "requires_grad=True led to it, or it was made inside no_grad()"
            )
        xp = array_namespace(self.data)
        if gradient is None:
            if self.data.size != 1:
                raise RuntimeError(
                    f"backward: a tensor of shape {self.shape} has no single gradient; reduce it to a "
                    "scalar first (.sum(), .mean()), or give the cotangent: backward(gradient)"
                )
            cotangent = xp.ones_like(self.data)
        else:
            cotangent = gradient.data if isinstance(gradient, Tensor) else gradient
            cotangent = asarray_like(cotangent, self.data, self.dtype)
            if cotangent.shape != self.shape:
                raise ValueError(
                    f"backward: gradient has shape {cotangent.shape}, the tensor {self.shape}; "
                    "a cotangent has the shape of what it belongs to"
                )
        _backward(self, cotangent)

    # -- in place ------------------------------------------------------------------------------

    def copy_(self, source: Any) -> Tensor:
        """Overwrite the values in place; like every in-place change, never taped."""
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
        if self.requires_grad and _modes.grad:
            raise RuntimeError(
                "in-place change of a tensor that requires a gradient: the tape would not see it; "
                "wrap the change in `with no_grad():`, or make a new tensor (x = x + 1)"
            )
        self.data[_plain_index(index)] = _constant(value, self.data)
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
        return Tensor(self.data == _constant(other, self.data))

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
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
            raise ValueError(f".T is for matrices, this tensor has shape {self.shape}; use .mT or .permute")
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
        axes[axis0], axes[axis1] = axes[axis1], axes[axis0]
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


def apply(op: Op | str, *inputs: Any, **options: Any) -> Any:
    """Run ``op`` on tensors and tape it: the one road from arrays to tensors.

    Inputs may be tensors, arrays, numbers (which take the dtype of the others) or None (an input
    left out); options may not carry gradients.

    Raises:
        TypeError: unknown option, an option that requires a gradient, arrays of two libraries, or a
            result wider than the inputs (float64 out of float32).
    """
    if type(op) is str:
        op = get_op(op)
    tensors = inputs
    for x in inputs:
        if not isinstance(x, Tensor):
            tensors = _as_tensors(inputs)
            break
    arrays = [None if t is None else t.data for t in tensors]
    for name, value in options.items():
        if isinstance(value, Tensor):
            options[name] = _option(op, name, value)
    try:
        result, vjp = op.run(*arrays, **options)
    except TypeError:
        op.explain_options(options)
        raise
    several = type(result) is tuple
    outs = result if several else (result,)
    outs = tuple([out if hasattr(out, "base") else _array_of(op, out, arrays) for out in outs])

    taped = False
    if _modes.grad:
        for t in tensors:
            if t is not None and t.requires_grad:
                taped = True
                break
    widest = _floating_dtype(tensors)
    node = _tape(op, vjp, tensors, arrays) if taped else None
    results = []
    for index, out in enumerate(outs):
        floating = out.dtype.kind == "f"
        if floating and widest is not None and out.dtype is not widest and out.dtype != widest:
            _check_forward_dtype(op, out, widest, options)
        t = Tensor.__new__(Tensor)
        t.data, t.grad, t.name, t._index = out, None, None, index
        t._version = _version_of(out, tensors, arrays) if out.base is not None else [0]
        t.requires_grad = taped and floating
        t._node = node if taped and floating else None
        results.append(t)
    if _modes.anomaly:
        _check_forward_finite(op, outs, arrays)
    if node is not None:
        node.outputs = tuple([(out.shape, out.dtype) for out in outs])
        node.versions += tuple([(t._version, t._version[0], "its result") for t in results])
        if _modes.debug:
            _lock(node, [*(a for a in arrays if a is not None), *outs])
            node.values = outs
    return tuple(results) if several else results[0]


def _tape(op: Op, vjp: Vjp, tensors: tuple[Any, ...], arrays: list[Any]) -> Node:
    edges: list[Any] = []
    versions = []
    for index, t in enumerate(tensors):
        if t is None:
            edges.append(None)
            continue
        if not t.requires_grad:
            edges.append(None)
        else:
            edges.append(t if t._node is None else (t._node, t._index))
        versions.append((t._version, t._version[0], t.name or index))
    node = Node(op, vjp, tuple(edges), tuple([None if a is None else (a.shape, a.dtype) for a in arrays]))
    node.versions = tuple(versions)
    return node


def _as_tensors(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Wrap arrays; give Python numbers the dtype (and device) of the first array among the inputs."""
    like = None
    for x in inputs:
        if isinstance(x, Tensor):
            like = x.data
        elif hasattr(x, "dtype") and hasattr(x, "shape"):
            like = x
        if like is not None and is_floating(like):
            break
    wrapped: list[Tensor | None] = []
    for x in inputs:
        if x is None or isinstance(x, Tensor):
            wrapped.append(x)
        elif like is not None and isinstance(x, (bool, int, float)):
            wrapped.append(Tensor(_constant(x, like)))
        else:
            wrapped.append(Tensor(x))
    return tuple(wrapped)


def _option(op: Op, name: str, value: Tensor) -> Array:
    if value.requires_grad and _modes.grad:
        raise TypeError(
            f"{op.name}: option {name!r} requires a gradient, but options carry none: "
            f"pass {name}.detach() if that is meant"
        )
    return value.data


def _array_of(op: Op, out: Any, arrays: list[Any]) -> Array:
    """NumPy's reductions return scalars: make them 0-d arrays; refuse what is no array at all."""
    if isinstance(out, (np.generic, float, int)):
        return asarray_like(out, next(a for a in arrays if a is not None))
    if hasattr(out, "dtype") and hasattr(out, "shape"):
        return out
    raise TypeError(
        f"{op.name} must return (out, vjp) with out an array or a tuple of arrays, "
        f"got {type(out).__name__}"
    )


def _floating_dtype(tensors: tuple[Any, ...]) -> Any:
    """The widest floating dtype among the inputs; None without any."""
    widest = None
    for t in tensors:
        if t is None:
            continue
        dtype = t.data.dtype
        if dtype is widest or dtype.kind != "f":
            continue
        if widest is None or dtype.itemsize > widest.itemsize:
            widest = dtype
    return widest


def _check_forward_dtype(op: Op, out: Array, widest: Any, options: dict[str, Any]) -> None:
    if op.name == "astype" or out.dtype.itemsize <= widest.itemsize:
        return
    raise TypeError(
        f"{op.name}: the inputs are {widest} but the result is {out.dtype}: a float64 constant "
        "slipped in. np.sqrt(2), np.pi * 1 and np.float64 widen the dtype; math.sqrt(2), 2 ** 0.5 "
        "and Python floats do not"
    )


def _version_of(out: Array, tensors: tuple[Any, ...], arrays: list[Any]) -> list[int]:
    """A result that is a view of an input's memory shares its version counter."""
    base = out.base
    for t, array in zip(tensors, arrays, strict=True):
        if array is not None and (array is base or array is out or (array.base is base)):
            return t._version
    return [0]


# -- backward --------------------------------------------------------------------------------------


def _backward(root: Tensor, cotangent: Array) -> None:
    leaves: dict[int, list[Any]] = {}  # id -> [tensor, gradient, whether the sum is ours alone]
    if root._node is None:
        leaves[id(root)] = [root, cotangent, False]
    else:
        visited = _walk(root, cotangent, leaves)
        for node in visited:
            if node.locked is not None:
                _unlock(node)
    # Only now, with nothing left that can fail, do the gradients arrive: all of them or none.
    for tensor, gradient, owned in leaves.values():
        if tensor.grad is not None:
            tensor.grad.data += gradient
        else:
            tensor.grad = Tensor(gradient if owned else _copy(gradient))


def _walk(root: Tensor, cotangent: Array, leaves: dict[int, list[Any]]) -> list[Node]:
    """Run every vjp from ``root`` back, each once all cotangents of its results have arrived."""
    start = root._node
    assert start is not None
    pending = _count_consumers(start)
    # node -> for each output [cotangent, whether the sum is ours alone] or None
    cotangents: dict[Node, list[Any]] = {start: [None] * len(start.outputs)}
    cotangents[start][root._index] = [cotangent, False]
    ready, visited = [start], []
    while ready:
        node = ready.pop()
        visited.append(node)
        incoming = [None if entry is None else entry[0] for entry in cotangents.pop(node)]
        outgoing = _run_vjp(node, incoming)
        for index, edge in enumerate(node.edges):
            if edge is None:
                continue
            gradient = outgoing[index]
            if gradient is not None:
                gradient = _check_gradient(node, index, gradient)
                fresh = gradient.base is None and not any(gradient is c for c in incoming)
                fresh = fresh and not any(gradient is g for g in outgoing[:index])
            if isinstance(edge, Tensor):
                if gradient is not None:
                    slot = leaves.setdefault(id(edge), [edge, None, False])
                    _accumulate(slot, 1, gradient, fresh)
                continue
            maker, position = edge
            if gradient is not None:
                slots = cotangents.setdefault(maker, [None] * len(maker.outputs))
                if slots[position] is None:
                    slots[position] = [None, False]
                _accumulate(slots[position], 0, gradient, False)
            pending[maker] -= 1
            if pending[maker] == 0:
                cotangents.setdefault(maker, [None] * len(maker.outputs))
                ready.append(maker)
    return visited


def _count_consumers(start: Node) -> dict[Node, int]:
    """How many edges lead to each node reachable from ``start`` (a loop, not a recursion: depth is
    no limit, and a node met along 2^40 paths is visited once)."""
    pending: dict[Node, int] = {start: 0}
    stack = [start]
    while stack:
        for edge in stack.pop().edges:
            if type(edge) is tuple:
                maker = edge[0]
                if maker in pending:
                    pending[maker] += 1
                else:
                    pending[maker] = 1
                    stack.append(maker)
    return pending


def _accumulate(slot: list[Any], at: int, gradient: Array, fresh: bool) -> None:
    """``slot[at] += gradient``, in place only where the memory is a sum made here."""
    total = slot[at]
    if total is None:
        slot[at], slot[at + 1] = gradient, fresh
    elif slot[at + 1] and total.ndim and total.dtype == gradient.dtype:
        total += gradient
    else:
        slot[at], slot[at + 1] = total + gradient, True


def _run_vjp(node: Node, incoming: list[Array | None]) -> tuple[Array | None, ...]:
    """The cotangents of the inputs of ``node``, as many as it has."""
    for version, taped, name in node.versions:
        if version[0] != taped:
            _raise_changed(node, name)
    if _modes.debug or node.values is not None:
        node.grads = tuple(incoming)
    if node.retained is not None:
        for index, reference in node.retained.items():
            tensor, gradient = reference(), incoming[index]
            if tensor is not None and gradient is not None:
                if tensor.grad is None:
                    tensor.grad = Tensor(_copy(gradient))
                else:
                    tensor.grad = Tensor(tensor.grad.data + gradient)
    if all(cotangent is None for cotangent in incoming):
        return (None,) * len(node.edges)
    result = node.vjp(*incoming)
    outgoing = result if type(result) is tuple else (result,)
    if len(outgoing) > len(node.edges) and all(g is None for g in outgoing[len(node.edges) :]):
        outgoing = outgoing[: len(node.edges)]  # optional inputs that were left out
    if len(outgoing) != len(node.edges):
        names = ", ".join(node.op.input_name(i) for i in range(len(node.edges)))
        raise ValueError(
            f"{node.op.name}: vjp returned {len(outgoing)} gradients for {len(node.edges)} inputs "
            f"({names}); return one per input, None for one that has none"
        )
    if _modes.anomaly:
        _check_backward_finite(node, incoming, outgoing)
    return outgoing


def _check_gradient(node: Node, index: int, gradient: Array) -> Array:
    """The gradient of input ``index``, with its shape and dtype; broadcast axes summed."""
    shape, dtype = node.inputs[index]
    if not hasattr(gradient, "shape") or not hasattr(gradient, "base"):
        gradient = asarray_like(gradient, _any_array(node, gradient), dtype)
    if gradient.shape != shape:
        if not node.op.broadcasts:
            _raise_shape(node, index, gradient.shape, shape)
        gradient = unbroadcast(gradient, shape)
    if gradient.dtype is not dtype and gradient.dtype != dtype:
        floats = {entry[1] for entry in node.inputs if entry is not None and entry[1].kind == "f"}
        if len(floats) == 1 and node.op.name != "astype":
            raise TypeError(
                f"{node.op.name}: the gradient of {node.op.input_name(index)!r} is {gradient.dtype}, "
                f"the input {dtype}: a float64 constant slipped into vjp; use Python floats "
                "(math.sqrt, not np.sqrt)"
            )
        gradient = gradient.astype(dtype)  # inputs of mixed dtypes: each gets its own back
    return gradient


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum ``gradient`` over the axes along which an input of ``shape`` was broadcast.

    An element that was used many times receives the sum of what each use passes back.
    """
    xp = array_namespace(gradient)
    extra = gradient.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i
        for i, (have, want) in enumerate(zip(gradient.shape[extra:], shape, strict=True))
        if want == 1 and have != 1
    )
    if axes:
        gradient = xp.sum(gradient, axis=axes, keepdims=True)
    return xp.reshape(gradient, shape)


def _raise_changed(node: Node, name: str | int) -> None:
    what = f"input {node.op.input_name(name)!r}" if isinstance(name, int) else name
    raise RuntimeError(
        f"{node.op.name}: {what} was changed in place between forward and backward, so its gradient "
        "would be wrong; change it after backward(), or change a copy (.clone())"
    )


def _raise_shape(node: Node, index: int, got: tuple[int, ...], want: tuple[int, ...]) -> None:
    name = node.op.input_name(index)
    hint = "a gradient has the shape of what it belongs to"
    if got == want[::-1]:
        hint = "it is transposed"
    elif len(got) > len(want) and got[len(got) - len(want) :] == want:
        hint = f"sum it over the leading {len(got) - len(want)} axes, along which {name!r} was reused"
    raise ValueError(
        f"{node.op.name}: the gradient of {name!r} has shape {got}, the input {want}: {hint}"
    )


# -- anomaly and debug mode ------------------------------------------------------------------------


def _finite(x: Array) -> bool:
    return not is_floating(x) or bool(array_namespace(x).all(array_namespace(x).isfinite(x)))


def _check_forward_finite(op: Op, outs: tuple[Array, ...], arrays: list[Any]) -> None:
    for index, array in enumerate(arrays):
        if array is not None and not _finite(array):
            raise FloatingPointError(
                f"{op.name}: input {op.input_name(index)!r} already holds {_describe_bad(array)}"
            )
    for out in outs:
        if not _finite(out):
            raise FloatingPointError(
                f"{op.name} made {_describe_bad(out)} out of finite inputs: {op.formula}"
            )


def _check_backward_finite(node: Node, incoming: list[Any], outgoing: tuple[Any, ...]) -> None:
    if not all(c is None or _finite(c) for c in incoming):
        raise FloatingPointError(f"{node.op.name}: the gradient that reaches it is not finite")
    for index, gradient in enumerate(outgoing):
        if gradient is not None and node.edges[index] is not None and not _finite(gradient):
            raise FloatingPointError(
                f"backward of {node.op.name}: the gradient of {node.op.input_name(index)!r} holds "
                f"{_describe_bad(gradient)}, out of a finite cotangent"
            )


def _describe_bad(x: Array) -> str:
    host = to_host(x)
    bad = np.argwhere(~np.isfinite(host))
    place = tuple(int(i) for i in bad[0])
    return f"{host[place]} at index {place} ({len(bad)} of {host.size} elements are not finite)"


_lock_counts: dict[int, int] = {}


def _lock(node: Node, arrays: list[Array]) -> None:
    node.locked = []
    for array in arrays:
        flags = getattr(array, "flags", None)
        if flags is None or not hasattr(flags, "writeable"):
            continue  # CuPy has no read-only arrays
        if id(array) in _lock_counts:
            _lock_counts[id(array)] += 1
        elif flags.writeable:
            flags.writeable = False
            _lock_counts[id(array)] = 1
        else:
            continue
        node.locked.append(array)


def _unlock(node: Node) -> None:
    for array in node.locked or ():
        _lock_counts[id(array)] -= 1
        if _lock_counts[id(array)] == 0:
            del _lock_counts[id(array)]
            array.flags.writeable = True
    node.locked = None


# -- small conversions -----------------------------------------------------------------------------


def _to_array(data: Any, dtype: Any) -> Array:
    if isinstance(data, Tensor):
        data = data.data
    if hasattr(data, "dtype") and hasattr(data, "shape") and not isinstance(data, np.generic):
        return data if dtype is None or data.dtype == dtype else data.astype(dtype)
    array = np.asarray(data, dtype=dtype)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a tensor holds real numbers or booleans, not {array.dtype} ({data!r:.60})")
    if dtype is None and array.dtype == np.float64 and not isinstance(data, np.generic):
        array = array.astype(np.float32)
    return array


def _constant(value: Any, like: Array) -> Array:
    """``value`` beside ``like``; a Python number takes its dtype (but a float never an integer's)."""
    if isinstance(value, Tensor):
        return value.data
    if isinstance(value, (bool, int, float)):
        if is_floating(like) or isinstance(value, bool) or not isinstance(value, float):
            return asarray_like(value, like, like.dtype if not isinstance(value, bool) else None)
        return asarray_like(value, like, np.float32)
    return value if hasattr(value, "dtype") else asarray_like(value, like, like.dtype)


def _plain_index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_plain_index(i) for i in index)
    return index.data if isinstance(index, Tensor) else index


def _flat(shape: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape


def _copy(x: Array) -> Array:
    return array_namespace(x).asarray(x, copy=True)


def _any_array(node: Node, gradient: Any) -> Array:
    for edge in node.edges:
        if isinstance(edge, Tensor):
            return edge.data
    return np.asarray(gradient)
