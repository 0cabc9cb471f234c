"""Modules and layers, with the names and the behavior of ``torch.nn``."""

from .attention import Attention, MultiHeadAttention
from .containers import ModuleList, Sequential
from .convolution import Conv2d
from .layers import ACTIVATIONS, Dropout, Embedding, FeedForward, LayerNorm, Linear, RMSNorm
from .module import Buffer, LoadResult, Module, Parameter, functional_call
from .transformer import (
    Transformer,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)

__all__ = [
    "ACTIVATIONS",
    "Attention",
    "Buffer",
    "Conv2d",
    "Dropout",
    "Embedding",
    "FeedForward",
    "LayerNorm",
    "Linear",
    "LoadResult",
    "Module",
    "ModuleList",
    "MultiHeadAttention",
    "Parameter",
    "RMSNorm",
    "Sequential",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "functional_call",
]
