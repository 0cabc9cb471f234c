"""The formulas. Each op maps arrays to ``(out, vjp)``; see :mod:`scratchlm.registry`."""

from .activations import gelu, relu, sigmoid, silu, softplus, swiglu, tanh
from .arithmetic import add, div, maximum, minimum, mul, neg, pow, pow_scalar, sub
from .attention import attention
from .convolution import conv2d
from .dropout import dropout
from .elementwise import abs, astype, clip, cos, exp, log, sin, sqrt, where
from .embedding import embedding
from .linalg import einsum, matmul
from .linear import linear
from .losses import binary_cross_entropy_with_logits, cross_entropy, mse, skipgram_loss
from .norm import layer_norm, rms_norm
from .positions import rope
from .recurrent import gru, gru_cell, lstm, lstm_cell, rnn, rnn_cell
from .reduction import amax, amin, cumsum, mean, sum, var
from .shape import (
    broadcast_to,
    concatenate,
    getitem,
    pad,
    permute,
    reshape,
    split,
    stack,
)
from .softmax import log_softmax, logsumexp, softmax

__all__ = [
    "abs",
    "add",
    "amax",
    "amin",
    "astype",
    "attention",
    "binary_cross_entropy_with_logits",
    "broadcast_to",
    "clip",
    "concatenate",
    "conv2d",
    "cos",
    "cross_entropy",
    "cumsum",
    "div",
    "dropout",
    "einsum",
    "embedding",
    "exp",
    "gelu",
    "getitem",
    "gru",
    "gru_cell",
    "layer_norm",
    "linear",
    "log",
    "log_softmax",
    "logsumexp",
    "lstm",
    "lstm_cell",
    "matmul",
    "maximum",
    "mean",
    "minimum",
    "mse",
    "mul",
    "neg",
    "pad",
    "permute",
    "pow",
    "pow_scalar",
    "relu",
    "reshape",
    "rms_norm",
    "rnn",
    "rnn_cell",
    "rope",
    "sigmoid",
    "silu",
    "sin",
    "skipgram_loss",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "stack",
    "sub",
    "sum",
    "swiglu",
    "tanh",
    "var",
    "where",
]
