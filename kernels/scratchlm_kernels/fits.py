"""What the kernels for every kind of machine ask of a call, beside arrays of a dtype they know.

Each function takes the arguments of its op and says whether a fused kernel can do what they ask;
what it can't do is left to the composed op, which also finds the words for calls that are wrong.
"""

from __future__ import annotations

from typing import Any


def attention(
    q: Any,
    k: Any,
    v: Any,
    bias: Any = None,
    *,
    widest: int,
    drops: bool = False,
    mask: Any = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    rng: Any = None,
    return_weights: bool = False,
) -> bool:
    """No weights to return, no bias, which has a gradient as large as the weights; dropout only if
    the kernel ``drops``; heads up to ``widest`` features, shapes that agree.
    """
    if return_weights or bias is not None:
        return False
    if dropout_p and not (drops and 0 < dropout_p < 1 and rng is not None):
        return False
    if not (q.ndim == k.ndim == v.ndim >= 2 and q.size and v.size):
        return False
    heads, shared = (q.shape[-3], k.shape[-3]) if q.ndim > 2 else (1, 1)
    return (
        0 < q.shape[-1] == k.shape[-1] <= widest
        and v.shape[-1] <= widest
        and k.shape[:-1] == v.shape[:-1]
        and q.shape[:-3] == k.shape[:-3]
        and heads % shared == 0
        and (mask is None or _masks(mask, (*q.shape[:-1], k.shape[-2]), q))
        and (rng is None or hasattr(rng, "random"))
    )


def _masks(mask: Any, scores: tuple[int, ...], like: Any) -> bool:
    """Whether it is a mask, of the library of ``like``, that broadcasts to the scores."""
    return (
        type(mask) is type(like)
        and mask.dtype.kind in "bf"
        and mask.ndim <= len(scores)
        and all(
            have in (1, want) for have, want in zip(mask.shape[::-1], scores[::-1], strict=False)
        )
    )


def layer_norm(x: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5) -> bool:
    """Rows to normalize, and parameters as long as they are."""
    given = [p for p in (weight, bias) if p is not None]
    return x.size > 0 and x.ndim > 0 and all(p.shape == x.shape[-1:] for p in given)


def cross_entropy(
    logits: Any,
    target: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> bool:
    """The plain loss, one integer target for each row of logits."""
    return (
        weight is None
        and not label_smoothing
        and reduction in ("mean", "sum", "none")
        and type(target) is type(logits)
        and target.dtype.kind in "iu"
        and logits.size > 0
        and logits.ndim > 0
        and target.shape == logits.shape[:-1]
    )
