"""SGD, Momentum, Adam, AdamW: each rule is a function on arrays, and a class that keeps its state.

The functions change the parameter and the running averages in place. In their formulas g is the
gradient, η the learning rate and t the number of the step, from 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..backend import Array, array_namespace
from ..registry import fused_updates
from ..tensor import Tensor
from .optimizer import Group, Optimizer


def sgd_step(
    p: Array,
    g: Array,
    v: Array | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> None:
    """``v ← μ v + g,  p ← p - η v`` in place; without ``v`` plain ``p ← p - η g``.

    Nesterov's form steps along ``g + μ v``, the gradient where the momentum is about to lead. The
    sources often write ``v ← μ v + η g``: the same path while η is constant.

    Shapes: ``p``, ``g`` and ``v`` are alike.

    Source: Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013 eq. 1-4; D2 §4.2.1, §4.2.2.
    """
    if v is None:
        p -= lr * g
        return
    v *= momentum
    v += g
    p -= lr * (g + momentum * v if nesterov else v)


def adam_step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    t: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> None:
    """One step of Adam, in place::

        m ← β₁ m + (1 - β₁) g        v ← β₂ v + (1 - β₂) g²
        p ← p - η m̂ / (√v̂ + ε)       m̂ = m / (1 - β₁ᵗ),  v̂ = v / (1 - β₂ᵗ)

    The averages start at 0, so early on they are too small by just the factor that the hats undo.

    Shapes: ``p``, ``g``, ``m`` and ``v`` are alike; ``t`` counts from 1.

    Source: Kingma & Ba 2015, Algorithm 1; D2 §4.2.3.
    """
    xp = array_namespace(p)
    beta1, beta2 = betas
    work = (1 - beta1) * g
    m *= beta1
    m += work
    work *= (1 - beta2) / (1 - beta1) * g
    v *= beta2
    v += work
    # η m̂ / (√v̂ + ε) with the scalars drawn together: two passes over the arrays fewer
    root = math.sqrt(1 - beta2**t)
    scale = xp.sqrt(v)
    scale += eps * root
    work = m / scale
    work *= lr * root / (1 - beta1**t)
    p -= work


def adamw_step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    t: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> None:
    """``p ← p - η λ p``, then a step of Adam: the decay does not pass through Adam's averages.

    An L2 term in the gradient would be divided by √v̂ as well, so that weights with large gradients
    would hardly decay at all.

    Source: Loshchilov & Hutter 2019, Algorithm 2 (η there is the schedule's factor times α).
    """
    if weight_decay:
        p *= 1 - lr * weight_decay
    adam_step(p, g, m, v, t, lr=lr, betas=betas, eps=eps)


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked for: see :func:`sgd_step`.

    ``weight_decay`` λ adds ``λ p`` to the gradient, which for SGD is the same as decay.

    Raises:
        ValueError: ``nesterov`` without momentum, or an option out of range.
    """

    state_names = ("momentum_buffer",)

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float = 1e-3,
        momentum: float = 0.0,
        *,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        options = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
        }
        super().__init__(params, options)

    def _check(self, group: Group) -> None:
        super()._check(group)
        self._check_range(group, "momentum", 0.0)
        if group["nesterov"] and not group["momentum"]:
            raise ValueError(
                f"{self._name}: nesterov looks ahead along the momentum, so momentum > 0"
            )

    def _update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p
        v = None
        if group["momentum"]:
            v = state.get("momentum_buffer")
            if v is None:
                v = state["momentum_buffer"] = array_namespace(p).zeros_like(p)
        sgd_step(p, g, v, lr=group["lr"], momentum=group["momentum"], nesterov=group["nesterov"])


class Momentum(SGD):
    """SGD with momentum 0.9, under the name the textbooks give it."""

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float = 1e-3,
        momentum: float = 0.9,
        *,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, momentum, nesterov=nesterov, weight_decay=weight_decay)


class Adam(Optimizer):
    """Adam: see :func:`adam_step`. ``weight_decay`` λ adds ``λ p`` to the gradient, as L2 does."""

    state_names = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, options)

    def _check(self, group: Group) -> None:
        super()._check(group)
        self._check_range(group, "eps", 0.0)
        try:
            beta1, beta2 = (float(beta) for beta in group["betas"])
        except (TypeError, ValueError):
            raise TypeError(
                f"{self._name}: betas must be two numbers, got {group['betas']!r}"
            ) from None
        if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
            raise ValueError(
                f"{self._name}: betas=({beta1}, {beta2}) are out of range, both need 0 <= beta < 1"
            )
        group["betas"] = (beta1, beta2)

    def _update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        m, v, t = self._averages(p, state)
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p
        options = {k: group[k] for k in ("lr", "betas", "eps")}
        if not _fused(p, g, m, v, t, **options, weight_decay=0.0):
            adam_step(p, g, m, v, t, **options)

    def _averages(self, p: Array, state: dict[str, Any]) -> tuple[Array, Array, int]:
        if not state:
            xp = array_namespace(p)
            state.update(step=0, exp_avg=xp.zeros_like(p), exp_avg_sq=xp.zeros_like(p))
        state["step"] += 1
        return state["exp_avg"], state["exp_avg_sq"], state["step"]


class AdamW(Adam):
    """Adam with decoupled weight decay: see :func:`adamw_step`."""

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def _update(self, p: Array, g: Array, state: dict[str, Any], group: Group) -> None:
        m, v, t = self._averages(p, state)
        options = {k: group[k] for k in ("lr", "betas", "eps", "weight_decay")}
        if not _fused(p, g, m, v, t, **options):
            adamw_step(p, g, m, v, t, **options)


def _fused(*arrays: Any, **options: Any) -> bool:
    """Let a kernel do the step of Adam in one pass; False if there is none for these arrays."""
    kernel = fused_updates.get("adam_step")
    return kernel is not None and kernel(*arrays, **options)
