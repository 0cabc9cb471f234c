"""The layers without a shape of their own to explain: an op, and the parameters it needs.

Names, shapes, defaults and initial distributions are those of ``torch.nn``. Each layer takes
``rng`` (a ``numpy.random.Generator``, a seed, or None for fresh randomness) and ``dtype``.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .. import functional as F
from .module import Module, Parameter

Rng = np.random.Generator | int | None
M = TypeVar("M", bound=Module)


class _Init(threading.local):
    """Whether weights are drawn, for each thread."""

    skipped = False


_init = _Init()


def skip_init(module_cls: Callable[..., M], *args: Any, **kwargs: Any) -> M:
    """``module_cls(*args, **kwargs)`` with weights that are not drawn, but what memory holds.

    For a module that ``load_state_dict`` overwrites at once, as in PyTorch's
    ``torch.nn.utils.skip_init``. What begins at 0 or 1 still does. The generator has drawn nothing,
    so dropout's masks are others than those of a module whose weights it drew.
    """
    former, _init.skipped = _init.skipped, True
    try:
        return module_cls(*args, **kwargs)
    finally:
        _init.skipped = former


def normal(rng: Rng, shape: tuple[int, ...], std: float, dtype: Any) -> Parameter:
    """A parameter drawn from N(0, std²)."""
    if _init.skipped:
        return _undrawn(shape, dtype)
    values = _draw(np.random.default_rng(rng).standard_normal, shape, dtype)
    values *= std
    return Parameter(values)


def uniform(rng: Rng, shape: tuple[int, ...], bound: float, dtype: Any) -> Parameter:
    """A parameter drawn evenly from [-bound, bound)."""
    if _init.skipped:
        return _undrawn(shape, dtype)
    values = _draw(np.random.default_rng(rng).random, shape, dtype)
    values *= 2 * bound
    values -= bound
    return Parameter(values)


def _undrawn(shape: tuple[int, ...], dtype: Any) -> Parameter:
    return Parameter(np.empty(shape, dtype))


def _draw(sample: Callable[..., np.ndarray], shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    dtype = np.dtype(dtype)
    direct = dtype in (np.float32, np.float64)  # the dtypes that NumPy draws in
    return sample(shape, dtype=dtype) if direct else sample(shape).astype(dtype)


class Linear(Module):
    """``y = x Wᵀ + b``: x (..., in_features), weight (out_features, in_features).

    Weight and bias start uniform in ±1/sqrt(in_features), PyTorch's default; with ``std``, the
    weight starts as N(0, std²) and the bias at 0, as in GPT-2.

    Source: He et al. 2015 (for a leaky ReLU of slope sqrt(5), which PyTorch chose).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        std: float | None = None,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        self.in_features = in_features
        self.out_features = out_features
        rng = np.random.default_rng(rng)
        shape = (out_features, in_features)
        bound = 1 / math.sqrt(max(in_features, 1))
        if std is None:
            self.weight = uniform(rng, shape, bound, dtype)
        else:
            self.weight = normal(rng, shape, std, dtype)
        if not bias:
            self.bias = None
        elif std is None:
            self.bias = uniform(rng, (out_features,), bound, dtype)
        else:
            self.bias = Parameter(np.zeros(out_features, dtype))

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Embedding(Module):
    """Row ``ids`` of a table: ids (...) of integers, weight (num_embeddings, embedding_dim).

    The table starts as N(0, std²), std = 1 as in PyTorch.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        std: float = 1.0,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.weight = normal(rng, (num_embeddings, embedding_dim), std, dtype)

    def forward(self, ids: Any) -> Any:
        return F.embedding(ids, self.weight)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


class LayerNorm(Module):
    """Zero mean and unit variance along the last axis, then ``weight * x̂ + bias``.

    Source: Ba, Kiros and Hinton 2016, eq. 4.
    """

    def __init__(
        self,
        normalized_shape: int,
        eps: float = 1e-5,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        self.normalized_shape = normalized_shape
        self.eps = eps
        self.weight = Parameter(np.ones(normalized_shape, dtype))
        self.bias = Parameter(np.zeros(normalized_shape, dtype)) if bias else None

    def forward(self, x: Any) -> Any:
        return F.layer_norm(x, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        return f"({self.normalized_shape},), eps={self.eps}"


class RMSNorm(Module):
    """``weight * x / sqrt(mean(x²) + eps)`` along the last axis: no mean is taken away.

    Source: Zhang and Sennrich 2019, eq. 4.
    """

    def __init__(
        self, normalized_shape: int, eps: float = 1e-6, *, dtype: Any = np.float32
    ) -> None:
        self.normalized_shape = normalized_shape
        self.eps = eps
        self.weight = Parameter(np.ones(normalized_shape, dtype))

    def forward(self, x: Any) -> Any:
        return F.rms_norm(x, self.weight, eps=self.eps)

    def extra_repr(self) -> str:
        return f"({self.normalized_shape},), eps={self.eps}"


class Dropout(Module):
    """In training, each element becomes 0 with probability ``p``, the others are divided by 1 - p.

    Raises:
        ValueError: ``p`` outside [0, 1).

    Source: Srivastava et al. 2014, in the inverted form.
    """

    def __init__(self, p: float = 0.5, *, rng: Rng = None) -> None:
        self.p = probability(p, "Dropout: p")
        self.rng = np.random.default_rng(rng)

    def forward(self, x: Any) -> Any:
        if not self.training or self.p == 0:
            return x
        return F.dropout(x, p=self.p, rng=self.rng)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def probability(p: float, what: str) -> float:
    """``p``, if it can be the share that is dropped."""
    if not 0 <= p < 1:
        raise ValueError(f"{what} is the share dropped, and {p} lies outside [0, 1)")
    return p


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "sigmoid": F.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": F.tanh,
}


class FeedForward(Module):
    """``y = W₂ f(W₁ x + b₁) + b₂``: two linear layers, an activation between, at each position.

    With ``gated``, a third layer opens and closes what the first one says:
    ``y = W₂ (f(V x + c) * (W₁ x + b₁)) + b₂``; with ``"silu"`` that is SwiGLU.

    Args:
        embed_dim: the last axis of x and y.
        hidden_dim: the axis between, ``4 * embed_dim`` by default.
        activation: a name (:data:`ACTIVATIONS`) or a function of tensors.
        gated: with a gate, ``self.gate``, of the shape of ``self.fc1``.
        dropout: probability of dropping an element of y.

    Source: Vaswani et al. 2017, eq. 2 (with ReLU); Shazeer 2020, eq. 6 (gated).
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int | None = None,
        activation: str | Callable[[Any], Any] = "gelu",
        *,
        gated: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        if isinstance(activation, str) and activation not in ACTIVATIONS:
            raise ValueError(
                f"FeedForward: there is no activation {activation!r}; "
                f"there are {', '.join(ACTIVATIONS)}, or give a function"
            )
        rng = np.random.default_rng(rng)
        hidden_dim = 4 * embed_dim if hidden_dim is None else hidden_dim
        self.activation = activation
        self.fc1 = Linear(embed_dim, hidden_dim, bias, rng=rng, dtype=dtype)
        self.fc2 = Linear(hidden_dim, embed_dim, bias, rng=rng, dtype=dtype)
        self.gate = Linear(embed_dim, hidden_dim, bias, rng=rng, dtype=dtype) if gated else None
        self.drop = Dropout(dropout, rng=rng)

    def forward(self, x: Any) -> Any:
        f = ACTIVATIONS[self.activation] if isinstance(self.activation, str) else self.activation
        if self.gate is None:
            h = f(self.fc1(x))  # [..., C] -> [..., hidden]
        elif self.activation == "silu":
            h = F.swiglu(self.gate(x), self.fc1(x))
        else:
            h = f(self.gate(x)) * self.fc1(x)
        return self.drop(self.fc2(h))  # [..., hidden] -> [..., C]

    def extra_repr(self) -> str:
        name = getattr(self.activation, "__name__", self.activation)
        return f"activation={name}" + (", gated" if self.gate is not None else "")
