"""Modules: layers that own parameters and other layers.

A module is a plain Python object. Its parameters, buffers and children are those attributes that
are a :class:`Parameter`, a :class:`Buffer` or a :class:`Module`, in the order in which they were
set. Nothing is kept elsewhere, so there is no ``super().__init__()`` to forget.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..backend import Array, array_namespace, asarray_like, is_floating, to_device, to_host
from ..modes import no_grad
from ..tensor import Tensor

M = TypeVar("M", bound="Module")


class Parameter(Tensor):
    """A tensor that is learned: a leaf with a gradient, found by ``Module.parameters()``."""

    __slots__ = ()

    def __init__(
        self, data: Any, requires_grad: bool = True, *, dtype: Any = None, name: str | None = None
    ) -> None:
        super().__init__(data, requires_grad, dtype=dtype, name=name)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Buffer(Tensor):
    """A tensor that belongs to a module but is not learned: saved and moved along with it."""

    __slots__ = ()


class LoadResult(NamedTuple):
    """What ``load_state_dict(strict=False)`` left out."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """A layer, or a model made of layers. Write ``__init__`` (set the parts) and ``forward``."""

    training = True  # train() and eval() set it on the instance

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.forward(*args, **options)

    def forward(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError(
            f"{type(self).__name__} has no forward: write `def forward(self, x): ...`"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse what would silently be left out of ``parameters()``."""
        if isinstance(vars(self).get(name), Parameter) and not isinstance(value, Parameter | None):
            raise TypeError(
                f"{type(self).__name__}.{name} is a parameter, and {type(value).__name__} is none: "
                "wrap it in nn.Parameter, or overwrite the values: "
                f"with no_grad(): layer.{name}.copy_(…)"
            )
        if isinstance(value, Tensor):
            if not isinstance(value, Parameter) and value.requires_grad and value.is_leaf:
                raise TypeError(
                    f"{type(self).__name__}.{name} is a Tensor with requires_grad=True, which "
                    "parameters() does not find: make it an nn.Parameter"
                )
            if isinstance(value, Parameter | Buffer) and value.name is None:
                value.name = name
        elif isinstance(value, list | tuple | dict):
            held = value.values() if isinstance(value, dict) else value
            if any(isinstance(item, Module | Parameter) for item in held):
                raise TypeError(
                    f"{type(self).__name__}.{name} is a {type(value).__name__} of modules or "
                    "parameters, which parameters() does not find: use nn.ModuleList, or attributes"
                )
        super().__setattr__(name, value)

    # -- what it is made of --------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules that are attributes of this one."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Itself (under the name ``prefix``), then all modules below, parents first, each once."""
        seen: set[int] = set()
        for name, module in self._walk(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Dotted name and parameter, each parameter once: a tied weight under its first name."""
        return self._once(Parameter)

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        return self._once(Buffer)

    def num_parameters(self, *, trainable: bool = False) -> int:
        """How many numbers the parameters hold (``trainable``: those that require a gradient)."""
        return sum(p.size for p in self.parameters() if p.requires_grad or not trainable)

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(f"{prefix}.{name}" if prefix else name)

    def _named(self, kind: type) -> Iterator[tuple[str, Any]]:
        """Every name of every tensor of ``kind``; a tied weight comes under each of its names."""
        for prefix, module in self._walk(""):
            for name, value in vars(module).items():
                if isinstance(value, kind):
                    yield f"{prefix}.{name}" if prefix else name, value

    def _once(self, kind: type) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for name, value in self._named(kind):
            if id(value) not in seen:
                seen.add(id(value))
                yield name, value

    # -- its values ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """Dotted name → values of every parameter and buffer, as NumPy arrays.

        The arrays are copies: training on does not change a state taken earlier. A tied weight
        is listed once, under its first name, as published checkpoints do.
        """
        return {name: np.array(to_host(t.data)) for name, t in self._once(Parameter | Buffer)}  # type: ignore[arg-type]

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Overwrite parameters and buffers with ``state`` (name → array or tensor), in place.

        All or nothing: everything is checked before the first value is written. Values are
        converted to the dtype and device at hand. A tied weight may come under any of its names.

        Returns:
            the names left out on either side (both empty when ``strict``).

        Raises:
            ValueError: a wrong shape, values that are no real numbers, two values for one tied
                weight; when ``strict``, missing or unknown names. One message lists them all.
        """
        names = dict(self._named(Parameter | Buffer))  # type: ignore[arg-type]
        first: dict[int, str] = {}
        for name, tensor in names.items():
            first.setdefault(id(tensor), name)
        problems, found = [], {}
        for name, tensor in names.items():
            if name not in state:
                continue
            value = state[name]
            value = to_host(value.data if isinstance(value, Tensor) else value)
            if value.shape != tensor.shape:
                problem = f"{name}: the module has shape {tensor.shape}, the state {value.shape}"
                if value.ndim > 1 and value.shape == tensor.shape[::-1]:
                    problem += " (transposed)"
                problems.append(problem)
            elif value.dtype.kind not in "fiub":
                problems.append(f"{name}: not real numbers but {value.dtype}")
            elif id(tensor) not in found:
                found[id(tensor)] = tensor, value
            elif not np.array_equal(found[id(tensor)][1], value, equal_nan=value.dtype.kind == "f"):
                problems.append(
                    f"{name} is tied to {first[id(tensor)]}, but the state has other values for it"
                )
        given = {id(names[name]) for name in state if name in names}
        missing = [name for key, name in first.items() if key not in given]
        unexpected = [name for name in state if name not in names]
        if strict:
            problems += [f"{name} is missing{_nearest(name, unexpected)}" for name in missing]
            problems += [f"{name} is unknown{_nearest(name, names)}" for name in unexpected]
        if problems:
            lines = "".join(f"\n  {problem}" for problem in problems)
            fix = "; strict=False skips missing and unknown names" if missing or unexpected else ""
            raise ValueError(
                f"load_state_dict: {type(self).__name__} and the state do not fit, nothing was "
                f"loaded{fix}:{lines}"
            )
        with no_grad():
            for tensor, value in found.values():
                tensor.copy_(asarray_like(value, tensor.data, tensor.dtype))
        return LoadResult(missing, unexpected)

    def rng_state(self) -> dict[str, Any]:
        """The state of every random generator in here (dropout's), to resume training exactly."""
        return {name: rng.bit_generator.state for name, rng in self._generators()}

    def load_rng_state(self, state: Mapping[str, Any]) -> None:
        """Set the random generators to a state taken by :meth:`rng_state`."""
        generators = dict(self._generators())
        if generators.keys() != state.keys():
            raise ValueError(
                f"load_rng_state: {type(self).__name__} has the generators {sorted(generators)}, "
                f"the state {sorted(state)}"
            )
        for name, rng in generators.items():
            rng.bit_generator.state = state[name]

    def _generators(self) -> Iterator[tuple[str, np.random.Generator]]:
        return self._once(np.random.Generator)

    # -- modes, devices ------------------------------------------------------------------------

    def train(self: M, mode: bool = True) -> M:
        """Switch to training (dropout drops) or, with False, to evaluation."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Switch to evaluation: dropout passes everything through."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Freeze (False) or thaw all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, so that the next ``backward()`` starts anew."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def to(self: M, device: Any) -> M:
        """Move parameters and buffers to ``"cpu"`` or ``"cuda"``, in place."""
        return self._convert(lambda array: to_device(array, device))

    def astype(self: M, dtype: Any) -> M:
        """Convert floating parameters and buffers to ``dtype``, in place."""
        if np.dtype(dtype).kind != "f":
            raise TypeError(f"astype: parameters must be floating, not {np.dtype(dtype)}")

        def convert(array: Array) -> Array:
            return array_namespace(array).astype(array, dtype) if is_floating(array) else array

        return self._convert(convert)

    def _convert(self: M, convert: Callable[[Array], Array]) -> M:
        """Replace arrays, not tensors: an optimizer or a tied layer that holds them keeps up."""
        for _, tensor in self._once(Parameter | Buffer):  # type: ignore[arg-type]
            tensor.data = convert(tensor.data)
            tensor.bump_version()
            if tensor.grad is not None:
                tensor.grad = Tensor(convert(tensor.grad.data))
        return self

    # -- words ---------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The layer's own line in the repr: its sizes and options."""
        return ""

    def _named_reprs(self) -> Iterator[tuple[str, str]]:
        return ((name, repr(child)) for name, child in self.named_children())

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = [f"({n}): {text}".replace("\n", "\n  ") for n, text in self._named_reprs()]
        if not lines:
            return f"{type(self).__name__}({extra})"
        body = "\n  ".join([extra, *lines] if extra else lines)
        return f"{type(self).__name__}(\n  {body}\n)"


def functional_call(
    module: Module, tensors: Mapping[str, Tensor], *args: Any, **options: Any
) -> Any:
    """``module(*args, **options)`` with other ``tensors`` (by name) in place of its own.

    Gradients reach those tensors, so this makes of a module a function of its parameters, as
    :func:`scratchlm.gradcheck` wants it. A tied weight is replaced wherever it occurs.

    Raises:
        ValueError: the module has no parameter or buffer of some name, or of another shape.
    """
    own = dict(module._named(Parameter | Buffer))  # type: ignore[arg-type]
    for name, tensor in tensors.items():
        if name not in own:
            raise ValueError(
                f"functional_call: {type(module).__name__} has no {name}{_nearest(name, own)}"
            )
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"functional_call: {name} has shape {own[name].shape}, not {tensor.shape}"
            )
    instead = {id(own[name]): tensor for name, tensor in tensors.items()}
    places = [
        (vars(each), name, value)
        for each in module.modules()
        for name, value in vars(each).items()
        if id(value) in instead
    ]
    try:
        for attributes, name, value in places:
            attributes[name] = instead[id(value)]
        return module(*args, **options)
    finally:
        for attributes, name, value in places:
            attributes[name] = value


def _nearest(name: str, names: Any) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""
