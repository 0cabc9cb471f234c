"""What the models share: sizes that are checked, ids that are looked at before they are used."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from ..backend import array_namespace, asarray_like
from ..nn import KVCache
from ..tensor import Tensor

C = TypeVar("C", bound="Config")


class Config:
    """The base of the dataclasses that hold a model's sizes and options."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for a JSON file."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
        """Back from :meth:`to_dict`; a ValueError names every unknown key."""
        known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no {', '.join(map(repr, unknown))}; it has {', '.join(known)}"
            )
        return cls(**values)

    def _uneven_heads(self) -> list[str]:
        """What is wrong if the width cannot be shared out to the heads; [] where either is no
        size at all, which :meth:`_refuse` names.
        """
        values = self.to_dict()
        width, heads = values["n_embd"], values["n_head"]
        try:
            uneven = width % heads
        except (TypeError, ZeroDivisionError):
            return []
        if not uneven:
            return []
        return [f"n_embd={width} does not split evenly into n_head={heads} heads"]

    def _refuse(self, problems: list[str], *, sizes: str, shares: str = "", above_0: str) -> None:
        """One ValueError with all ``problems``, and what is wrong with the fields named here.

        ``sizes`` are integers from 1 on, ``shares`` lie in [0, 1), ``above_0`` are what they say.
        """
        name = type(self).__name__
        found = []
        for field in sizes.split():
            size = getattr(self, field)
            if isinstance(size, bool) or not isinstance(size, int | np.integer):
                raise TypeError(f"{name}: {field} is an integer, not {size!r}")
            if size < 1:
                found.append(f"{field}={size} is below 1")
        for each in dataclasses.fields(self):  # type: ignore[arg-type]
            if each.type == "bool" and not isinstance(getattr(self, each.name), bool):
                raise TypeError(
                    f"{name}: {each.name} is true or false, not {getattr(self, each.name)!r}"
                )
        problems = found or problems  # heads of width 0 divide nothing: say the cause only
        for field in shares.split():
            if not 0 <= getattr(self, field) < 1:
                problems = [*problems, f"{field}={getattr(self, field)} lies outside [0, 1)"]
        for field in above_0.split():
            value = getattr(self, field)
            if not 0 < value < math.inf:
                limits = "finite" if value > 0 else "positive"
                problems = [*problems, f"{field}={value} is not {limits}"]
        if problems:
            raise ValueError(f"{name}: " + "; ".join(problems))


def token_ids(model: str, ids: Any, like: Any, *, longest: int | None = None) -> Any:
    """``ids`` as an array (T,) or (B, T) beside the array ``like``.

    Raises:
        ValueError: another shape, no token, or more than ``longest``.
    """
    if isinstance(ids, Tensor):
        ids = ids.data
    if not hasattr(ids, "dtype"):
        ids = asarray_like(np.asarray(ids), like)
    if ids.ndim not in (1, 2):
        raise ValueError(f"{model}: ids have shape {tuple(ids.shape)}; give (T,) or (B, T)")
    length = ids.shape[-1]
    if not length:
        raise ValueError(f"{model}: ids of shape {tuple(ids.shape)} hold no token")
    if longest is not None and length > longest:
        raise ValueError(
            f"{model}: ids of shape {tuple(ids.shape)} hold {length} tokens, but there are "
            f"positions for 1 to {longest} (block_size); give fewer: ids[..., -{longest}:]"
        )
    return ids


def check_room(model: str, length: int, cache: KVCache | None, longest: int) -> None:
    """A ValueError if ``length`` tokens and those in the cache are more than ``longest``."""
    if cache is not None and cache.length + length > longest:
        raise ValueError(
            f"{model}: {length} tokens more than the {cache.length} in the cache, and there are "
            f"positions for {longest} (block_size): read the last ones anew, with a new cache"
        )


def token_mask(model: str, mask: Any, ids: Any) -> Any:
    """``attention_mask`` (B, T) as what attention takes, (B, 1, 1, T): True may be attended to.

    Raises:
        ValueError: another shape than that of the ids.
        TypeError: neither booleans nor integers.
    """
    if mask is None:
        return None
    if isinstance(mask, Tensor):
        mask = mask.data
    if not hasattr(mask, "dtype"):
        mask = asarray_like(np.asarray(mask), ids)
    xp = array_namespace(mask, ids)
    if tuple(mask.shape) != tuple(ids.shape):
        raise ValueError(
            f"{model}: attention_mask has shape {tuple(mask.shape)}, ids {tuple(ids.shape)}: it "
            "says of each token whether it is one (1) or padding (0)"
        )
    if not xp.isdtype(mask.dtype, ("bool", "integral")):
        raise TypeError(
            f"{model}: attention_mask is {mask.dtype}; it is boolean, or 1 and 0: True is a token, "
            "False padding, as in ids != pad_id"
        )
    return (mask != 0)[..., None, None, :]  # [B, T] -> [B, 1, 1, T]
