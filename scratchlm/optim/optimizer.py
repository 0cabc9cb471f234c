"""What every optimizer shares: parameter groups, state, and its saving and loading."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any

from ..backend import Array, array_namespace, asarray_like
from ..tensor import Tensor

Group = dict[str, Any]


class Optimizer:
    """The base of all optimizers: walks the parameters that have a gradient and calls ``_update``.

    Args:
        params: tensors, or groups as in PyTorch: dictionaries with ``"params"`` and the options
            that differ from the optimizer's own, ``[{"params": [...], "lr": 0.1}, ...]``.
        defaults: the options of groups that do not name them.

    Raises:
        TypeError: a parameter is no tensor, or an option is unknown.
        ValueError: no parameters, one that occurs twice or has no gradient, an option out of range.
    """

    state_names: tuple[str, ...] = ()  # what is kept for each parameter

    def __init__(self, params: Iterable[Tensor] | Iterable[Group], defaults: Group) -> None:
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        entries: list[Any] = [params] if isinstance(params, (Tensor, dict)) else list(params)
        if not entries:
            raise ValueError(
                f"{self._name}: got no parameters; model.parameters() was empty or used up"
            )
        if all(isinstance(entry, dict) for entry in entries):
            for group in entries:
                self.add_param_group(group)
        else:
            self.add_param_group({"params": entries})

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, group: Group) -> None:
        """Add a dictionary with ``"params"`` and the options in which it differs."""
        unknown = group.keys() - self.defaults.keys() - {"params", "initial_lr"}
        for option in unknown:
            close = difflib.get_close_matches(option, self.defaults, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(self.defaults)}"
            raise TypeError(f"{self._name}: a group has the unknown option {option!r}; {hint}")
        if "params" not in group:
            raise ValueError(f"{self._name}: a group needs its tensors under 'params'")
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        taken = {id(p) for other in self.param_groups for p in other["params"]}
        for index, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise TypeError(
                    f"{self._name}: parameter {index} is a {type(p).__name__}, not a Tensor; "
                    "for model.named_parameters() pass model.parameters()"
                )
            label = repr(p.name) if p.name else f"{index} of shape {p.shape}"
            if not p.is_leaf or not p.requires_grad:
                raise ValueError(
                    f"{self._name}: parameter {label} can't be optimized: "
                    "it must be a leaf with requires_grad=True"
                )
            if id(p) in taken:
                raise ValueError(
                    f"{self._name}: parameter {label} occurs twice, so it would be updated twice; "
                    "tied weights belong into one group, once"
                )
            taken.add(id(p))
        group = {
            "params": params,
            **self.defaults,
            **{k: v for k, v in group.items() if k != "params"},
        }
        self._check(group)
        self.param_groups.append(group)

    def _check(self, group: Group) -> None:
        """Refuse options out of range (subclasses add theirs)."""
        self._check_range(group, "lr", 0.0)
        self._check_range(group, "weight_decay", 0.0)

    def _check_range(self, group: Group, option: str, low: float, below: float = math.inf) -> None:
        value = group[option]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{self._name}: {option} must be a number, got {value!r}")
        if not low <= value < below:
            raise ValueError(
                f"{self._name}: {option}={value} is out of range, "
                f"it needs {low:g} <= {option} < {below:g}"
            )
        group[option] = float(value)  # NumPy's float64 would widen float32 gradients

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or fill them with zeros: the next backward starts afresh."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad.zero_()

    def step(self) -> None:
        """Update every parameter that has a gradient, in place; others and their state stay."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.shape != p.shape:
                    raise ValueError(
                        f"{self._name}: a parameter of shape {p.shape} has a gradient of shape "
                        f"{p.grad.shape}; a gradient has the shape of what it belongs to"
                    )
                self._update(p.data, p.grad.data, self.state.setdefault(p, {}), group)
                p.bump_version()

    def _update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        raise NotImplementedError

    # -- saving and loading --------------------------------------------------------------------

    def _ordered(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        """``{"state": {number: {...}}, "param_groups": [...]}`` as in PyTorch.

        Parameters are numbered in the order of the groups. The arrays are the optimizer's own, not
        copies: a further ``step()`` changes them.
        """
        params = self._ordered()
        number = {id(p): i for i, p in enumerate(params)}
        groups = [
            {**group, "params": [number[id(p)] for p in group["params"]]}
            for group in self.param_groups
        ]
        state = {i: dict(self.state[p]) for i, p in enumerate(params) if p in self.state}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over (copies of) state and options of a ``state_dict()`` of the same groups.

        Raises:
            ValueError: the groups, their sizes or the shapes of the state do not match.
        """
        sizes = [len(group["params"]) for group in self.param_groups]
        saved_sizes = [len(group["params"]) for group in saved["param_groups"]]
        if sizes != saved_sizes:
            raise ValueError(
                f"{self._name}: the saved state has groups of {saved_sizes} parameters, this "
                f"optimizer of {sizes}; make it with the same groups as when it was saved"
            )
        params = self._ordered()
        numbers = [i for group in saved["param_groups"] for i in group["params"]]
        state: dict[Tensor, dict[str, Any]] = {}
        for p, number in zip(params, numbers, strict=True):
            if number in saved["state"]:
                kept = {k: v for k, v in saved["state"][number].items() if v is not None}
                if kept and sorted(kept) != sorted(self.state_names):
                    raise ValueError(
                        f"{self._name}: the saved state holds {', '.join(sorted(kept))}, this "
                        f"optimizer keeps {', '.join(sorted(self.state_names)) or 'nothing'}: "
                        "it was saved by another kind"
                    )
                state[p] = {k: self._own(p, k, v) for k, v in kept.items()}
        groups = []
        for group, other in zip(self.param_groups, saved["param_groups"], strict=True):
            for option in ("amsgrad", "maximize", "dampening"):  # PyTorch's, not known here
                if other.get(option):
                    raise ValueError(f"{self._name}: the saved state was made with {option}")
            known = group.keys() | {"initial_lr"}
            fresh = {**group, **{k: v for k, v in other.items() if k in known and k != "params"}}
            self._check(fresh)
            groups.append(fresh)
        # Nothing can fail any more: all of it takes effect, or none.
        self.state = state
        for group, fresh in zip(self.param_groups, groups, strict=True):
            group.update(fresh)

    def _own(self, p: Tensor, name: str, value: Any) -> Any:
        """A copy of a piece of saved state, beside ``p``."""
        if name == "step":
            return int(value)
        array = asarray_like(value, p.data, p.dtype)
        if array.shape != p.shape:
            raise ValueError(
                f"{self._name}: saved {name!r} has shape {array.shape}, its parameter {p.shape}"
            )
        return array_namespace(p.data).asarray(array, copy=True)

    def __repr__(self) -> str:
        groups = "; ".join(
            f"{len(group['params'])} tensors, "
            + ", ".join(f"{k}={v}" for k, v in group.items() if k != "params")
            for group in self.param_groups
        )
        return f"{self._name}({groups})"


def decay_groups(
    model: Any, weight_decay: float, *, without: Callable[[str, Tensor], bool] | None = None
) -> list[Group]:
    """Two groups: matrices, which decay, and biases and the gains of norms (1-D), which do not.

    Pulling a bias or a gain towards 0 limits nothing that overfits, and a gain belongs near 1.

    Args:
        model: a module with ``named_parameters()``.
        weight_decay: of the first group.
        without: ``(name, parameter) -> bool`` chooses the second group by another rule.
    """
    without = without or (lambda name, p: p.ndim < 2)
    decay: list[Tensor] = []
    rest: list[Tensor] = []
    for name, p in model.named_parameters():
        if p.requires_grad:
            (rest if without(name, p) else decay).append(p)
    groups = [
        {"params": decay, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
