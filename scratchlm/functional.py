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


abs = function(ops.abs)
add = function(ops.add)
amax = function(ops.amax)
amin = function(ops.amin)
astype = function(ops.astype)
attention = function(ops.attention)
binary_cross_entropy_with_logits = function(ops.binary_cross_entropy_with_logits)
broadcast_to = function(ops.broadcast_to)
clip = function(ops.clip)
concatenate = function(ops.concatenate)
conv2d = function(ops.conv2d)
cos = function(ops.cos)
cross_entropy = function(ops.cross_entropy)
cumsum = function(ops.cumsum)
div = function(ops.div)
dropout = function(ops.dropout)
einsum = function(ops.einsum)
embedding = function(ops.embedding)
exp = function(ops.exp)
gelu = function(ops.gelu)
getitem = function(ops.getitem)
gru = function(ops.gru)
gru_cell = function(ops.gru_cell)
layer_norm = function(ops.layer_norm)
linear = function(ops.linear)
log = function(ops.log)
log_softmax = function(ops.log_softmax)
logsumexp = function(ops.logsumexp)
lstm = function(ops.lstm)
lstm_cell = function(ops.lstm_cell)
matmul = function(ops.matmul)
maximum = function(ops.maximum)
mean = function(ops.mean)
minimum = function(ops.minimum)
mse = function(ops.mse)
mul = function(ops.mul)
neg = function(ops.neg)
pad = function(ops.pad)
permute = function(ops.permute)
pow = function(ops.pow)
pow_scalar = function(ops.pow_scalar)
relu = function(ops.relu)
reshape = function(ops.reshape)
rms_norm = function(ops.rms_norm)
rope = function(ops.rope)
rnn = function(ops.rnn)
rnn_cell = function(ops.rnn_cell)
sigmoid = function(ops.sigmoid)
silu = function(ops.silu)
sin = function(ops.sin)
skipgram_loss = function(ops.skipgram_loss)
softmax = function(ops.softmax)
softplus = function(ops.softplus)
split = function(ops.split)
sqrt = function(ops.sqrt)
stack = function(ops.stack)
sub = function(ops.sub)
sum = function(ops.sum)
swiglu = function(ops.swiglu)
tanh = function(ops.tanh)
var = function(ops.var)
where = function(ops.where)
