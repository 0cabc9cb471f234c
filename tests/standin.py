"""A strict stand-in for a GPU: arrays that behave as CuPy's do, in the memory of the host.

It proves the device path where there is no GPU. An :class:`Array` refuses what would be a silent
copy to the host (``np.asarray``, the buffer protocol, NumPy's functions, iteration) and refuses to
meet a host array in an operation; its namespace holds functions of the array API standard only, and
``add.at``, which CuPy has too. The ways between host and device are counted in :data:`counts`:
``"to device"``, ``"to host"`` (``.get()``) and ``"scalar"`` (``float(x)``, ``bool(x)``, ...), which
makes the CPU wait for the GPU.
"""

from __future__ import annotations

import contextlib
import types
from collections import Counter

import numpy as np

from scratchlm.backend import numpy_namespace

counts: Counter[str] = Counter()


@contextlib.contextmanager
def counting():
    """What goes between host and device inside the block."""
    before = counts.copy()
    seen: Counter[str] = Counter()
    try:
        yield seen
    finally:
        seen.update(counts - before)


class Device:
    def __repr__(self):
        return "<standin device 0>"


DEVICE = Device()
_PLAIN = (bool, int, float, np.generic)


def _unwrap(value):
    """The NumPy array inside, looking into lists and tuples; a host array is refused."""
    if isinstance(value, Array):
        return value._x
    if isinstance(value, np.ndarray):
        raise TypeError("unsupported type numpy.ndarray: a host array meets a device array")
    if isinstance(value, (list, tuple)):
        return type(value)(_unwrap(v) for v in value)
    return value


def _wrap(result, sources=()):
    """A device array around ``result``; one that shares memory with a source has its base."""
    if isinstance(result, tuple):
        return tuple(_wrap(r, sources) for r in result)
    if isinstance(result, (np.ndarray, np.generic)):
        base = None
        for source in sources:
            if source._x is result:
                return source
            if isinstance(result, np.ndarray) and np.may_share_memory(source._x, result):
                base = source if source.base is None else source.base
        return Array(np.asarray(result), base)
    return result


def _arrays_in(values):
    for value in values:
        if isinstance(value, Array):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _arrays_in(value)


def _on_device(function):
    def call(*args, **options):
        if options.pop("device", DEVICE) not in (DEVICE, None):
            raise ValueError("unknown device")
        sources = list(_arrays_in((*args, *options.values())))
        arguments = [_unwrap(a) for a in args]
        return _wrap(function(*arguments, **{k: _unwrap(v) for k, v in options.items()}), sources)

    return call


def _operator(name):
    def method(self, other):
        if isinstance(other, np.ndarray):
            raise TypeError("unsupported type numpy.ndarray: a host array meets a device array")
        if not isinstance(other, (Array, *_PLAIN)):
            return NotImplemented
        result = getattr(self._x, name)(_unwrap(other))
        if result is self._x:  # in place
            return self
        return result if result is NotImplemented else _wrap(result)

    return method


class Array:
    """An array on the stand-in device."""

    __array_ufunc__ = None
    __iter__ = None  # one element after the other is no way to use a GPU
    __hash__ = None

    def __init__(self, x, base=None):
        self._x = x
        self.base = base

    def __array_namespace__(self, api_version=None):
        return namespace

    def __array__(self, dtype=None, copy=None):
        raise TypeError("implicit conversion to a NumPy array is not allowed; use .get()")

    # -- what it is

    shape = property(lambda self: self._x.shape)
    dtype = property(lambda self: self._x.dtype)
    ndim = property(lambda self: self._x.ndim)
    size = property(lambda self: self._x.size)
    device = property(lambda self: DEVICE)
    T = property(lambda self: _wrap(self._x.T, [self]))
    mT = property(lambda self: _wrap(self._x.mT, [self]))

    def __len__(self):
        return len(self._x)

    def __repr__(self):
        return f"standin.Array(shape={self.shape}, dtype={self.dtype})"

    # -- explicit ways to the host

    def get(self):
        counts["to host"] += 1
        return self._x.copy()

    def _scalar(self, kind):
        if self.size != 1:
            raise TypeError("only one element converts to a Python number")
        counts["scalar"] += 1
        return kind(self._x.item())

    def __bool__(self):
        return self._scalar(bool)

    def __int__(self):
        return self._scalar(int)

    def __float__(self):
        return self._scalar(float)

    def __index__(self):
        if self.ndim or self.dtype.kind not in "iu":
            raise TypeError("only a single integer is an index")
        return self._scalar(int)

    # -- on the device

    def copy(self):
        return Array(self._x.copy())

    def astype(self, dtype, copy=True):
        return _wrap(self._x.astype(dtype, copy=copy), [self])

    def __getitem__(self, key):
        return _wrap(self._x[self._key(key)], [self])

    def __setitem__(self, key, value):
        if not isinstance(value, (Array, *_PLAIN)):
            raise TypeError(
                f"only device arrays and numbers are assigned, not {type(value).__name__}"
            )
        self._x[self._key(key)] = _unwrap(value)

    def _key(self, key):
        """The index for NumPy. As on a GPU, out-of-range integers in an array wrap around."""
        items = key if isinstance(key, tuple) else (key,)
        for item in items:
            if not (
                item is None
                or item is Ellipsis
                or isinstance(item, (int, np.integer, slice, Array))
            ):
                raise IndexError(f"an index is no {type(item).__name__} on the device")
        taken = [self._axes(item) for item in items]
        left = self.ndim - sum(t for t in taken if t is not None)
        plain, axis = [], 0
        for item, width in zip(items, taken, strict=True):
            value = _unwrap(item)
            if isinstance(item, Array) and item.dtype.kind in "iu" and self.shape[axis]:
                value = value % self.shape[axis]
            plain.append(value)
            axis += left if width is None else width
        return tuple(plain) if isinstance(key, tuple) else plain[0]

    @staticmethod
    def _axes(item):
        if item is None:
            return 0
        if item is Ellipsis:
            return None
        return item.ndim if isinstance(item, Array) and item.dtype.kind == "b" else 1

    def __neg__(self):
        return _wrap(-self._x)

    def __pos__(self):
        return _wrap(+self._x)

    def __abs__(self):
        return _wrap(abs(self._x))

    def __invert__(self):
        return _wrap(~self._x)


for _name in (
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
):
    for _prefix in ("", "r", "i"):
        setattr(Array, f"__{_prefix}{_name}__", _operator(f"__{_prefix}{_name}__"))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Array, f"__{_name}__", _operator(f"__{_name}__"))


def asarray(values, dtype=None, device=None, copy=None):
    """The one explicit way onto the device."""
    if isinstance(values, Array):
        result = values.astype(dtype, copy=False) if dtype is not None else values
        return result.copy() if copy and result is values else result
    if isinstance(values, (list, tuple)) and any(True for _ in _arrays_in(values)):
        raise TypeError("a list of device arrays is not converted silently; use stack")
    counts["to device"] += 1
    return Array(np.array(values, dtype=dtype))


class _Add:
    """``add``, with the scatter-add that CuPy has as NumPy does."""

    def __call__(self, a, b):
        return _on_device(np.add)(a, b)

    @staticmethod
    def at(target, index, values):
        if not isinstance(target, Array) or not isinstance(values, (Array, *_PLAIN)):
            raise TypeError("add.at takes device arrays")
        np.add.at(target._x, target._key(index), _unwrap(values))


STANDARD = """
    abs acos acosh all any arange argmax argmin argsort asin asinh atan atan2 atanh
    bitwise_and bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor
    broadcast_arrays broadcast_to can_cast ceil clip concat conj copysign cos cosh
    count_nonzero cumulative_prod cumulative_sum diff divide empty empty_like equal exp
    expand_dims expm1 eye finfo flip floor floor_divide full full_like greater greater_equal
    hypot iinfo isdtype isfinite isinf isnan less less_equal linspace log log10 log1p log2
    logaddexp logical_and logical_not logical_or logical_xor matmul matrix_transpose max
    maximum mean meshgrid min minimum moveaxis multiply negative nextafter nonzero not_equal
    ones ones_like permute_dims positive pow prod real reciprocal remainder repeat reshape
    result_type roll round searchsorted sign signbit sin sinh sort sqrt square squeeze stack
    std subtract sum take take_along_axis tan tanh tensordot tile tril triu trunc unstack var
    vecdot where zeros zeros_like
""".split()  # noqa: SIM905 (a table of a hundred names reads best so)

DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32",
    "float64",
)  # fmt: skip

namespace = types.ModuleType("standin")
for _name in STANDARD:
    if hasattr(numpy_namespace, _name):
        setattr(namespace, _name, _on_device(getattr(numpy_namespace, _name)))
for _name in DTYPES:
    setattr(namespace, _name, np.dtype(_name))
for _name in ("pi", "e", "inf", "nan", "newaxis"):
    setattr(namespace, _name, getattr(np, _name))
namespace.asarray = asarray
namespace.add = _Add()
namespace.astype = lambda x, dtype, copy=True, device=None: x.astype(dtype, copy=copy)
namespace.result_type = lambda *xs: np.result_type(*[getattr(x, "_x", x) for x in xs])
namespace.__array_api_version__ = "2024.12"
