"""The formulas. Each op is a function from arrays to ``(out, vjp)``; see :mod:`scratchlm.registry`."""

from .activations import gelu, relu, sigmoid, silu, softplus, tanh
from .arithmetic import add, div, mul, neg, pow, pow_scalar, sub
from .attention import attention
from .dropout import dropout
from .embedding import embedding
from .linear import linear
from .losses import binary_cross_entropy_with_logits, cross_entropy, mse
from .norm import layer_norm, rms_norm
from .softmax import log_softmax, logsumexp, softmax

__all__ = [
    "add",
    "attention",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "div",
    "dropout",
    "embedding",
    "gelu",
    "layer_norm",
    "linear",
    "log_softmax",
    "logsumexp",
    "mse",
    "mul",
    "neg",
    "pow",
    "pow_scalar",
    "relu",
    "rms_norm",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "sub",
    "tanh",
]
