"""The formulas. Each op is a function from arrays to ``(out, vjp)``; see :mod:`scratchlm.registry`."""

from .arithmetic import add, div, mul, neg, pow, pow_scalar, sub
from .softmax import log_softmax, logsumexp, softmax

__all__ = [
    "add",
    "div",
    "log_softmax",
    "logsumexp",
    "mul",
    "neg",
    "pow",
    "pow_scalar",
    "softmax",
    "sub",
]
