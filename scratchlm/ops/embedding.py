"""Rows of a table by their number."""

from __future__ import annotations

from ..backend import Array, array_namespace, check_ids, scatter_add
from ..registry import op
from ._types import Vjp


@op("y = W[ids]")
def embedding(ids: Array, weight: Array) -> tuple[Array, Vjp]:
    """``y = weight[ids]``, a row of the table for each id.

    Shapes: ids ``[...]``, integers in ``[0, V)``, weight ``[V, d]`` -> y ``[..., d]``.

    A lookup is the product of a one-hot matrix with the table, ``y = O W`` with
    ``O[n, ids[n]] = 1``, so ``dW = Oᵀ dy``: row v receives the sum of ``dy`` over all places where
    v stands. That is a scatter-add: an id that occurs twice adds twice. Ids have no gradient.

    Raises:
        TypeError: ids are not integers.
        IndexError: an id outside ``[0, V)``; negative ids do not count from the end.
        ValueError: weight is not a matrix.

    Source: Bengio 2003, §2; D1 §3.2.1, D2 §3.1.
    """
    if weight.ndim != 2:
        raise ValueError(
            f"embedding: weight has shape {tuple(weight.shape)}; it must be (V, d), a row for "
            "each id"
        )
    check_ids(ids, weight.shape[0], what="embedding")
    xp = array_namespace(ids, weight)
    shape = (*ids.shape, weight.shape[1])
    flat = xp.astype(xp.reshape(ids, (ids.size,)), xp.int64, copy=False)

    def vjp(dy: Array) -> tuple[None, Array]:
        dweight = xp.zeros_like(weight)
        scatter_add(dweight, flat, xp.reshape(dy, (flat.size, weight.shape[1])))
        return None, dweight

    return xp.reshape(xp.take(weight, flat, axis=0), shape), vjp
