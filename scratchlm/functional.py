"""The ops on tensors: ``functional.softmax(x)`` runs whichever implementation of softmax is chosen,
and tapes it. Arguments and results are those of :mod:`scratchlm.ops`, with tensors for arrays and
without the ``vjp``, which goes on the tape.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec

from . import ops
from .registry import get_op
from .tensor import apply

P = ParamSpec("P")


def function(reference: Callable[P, tuple[Any, Any]]) -> Callable[P, Any]:
    """The function of tensors for an op."""
    op = get_op(reference.__name__)

    @functools.wraps(reference)
    def on_tensors(*inputs: P.args, **options: P.kwargs) -> Any:
        return apply(op, *inputs, **options)

    return on_tensors


add = function(ops.add)
attention = function(ops.attention)
binary_cross_entropy_with_logits = function(ops.binary_cross_entropy_with_logits)
cross_entropy = function(ops.cross_entropy)
div = function(ops.div)
dropout = function(ops.dropout)
embedding = function(ops.embedding)
gelu = function(ops.gelu)
layer_norm = function(ops.layer_norm)
linear = function(ops.linear)
log_softmax = function(ops.log_softmax)
logsumexp = function(ops.logsumexp)
mse = function(ops.mse)
mul = function(ops.mul)
neg = function(ops.neg)
pow = function(ops.pow)
pow_scalar = function(ops.pow_scalar)
relu = function(ops.relu)
rms_norm = function(ops.rms_norm)
sigmoid = function(ops.sigmoid)
silu = function(ops.silu)
softmax = function(ops.softmax)
softplus = function(ops.softplus)
sub = function(ops.sub)
tanh = function(ops.tanh)
