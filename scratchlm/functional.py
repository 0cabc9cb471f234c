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
div = function(ops.div)
log_softmax = function(ops.log_softmax)
logsumexp = function(ops.logsumexp)
mul = function(ops.mul)
neg = function(ops.neg)
pow = function(ops.pow)
pow_scalar = function(ops.pow_scalar)
softmax = function(ops.softmax)
sub = function(ops.sub)
