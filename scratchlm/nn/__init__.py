"""Modules and layers, with the names and the behavior of ``torch.nn``."""

from .attention import Attention, MultiHeadAttention
from .containers import ModuleList, Sequential
from .convolution import Conv2d
from .layers import ACTIVATIONS, Dropout, Embedding, FeedForward, LayerNorm, Linear, RMSNorm
from .module import Buffer, LoadResult, Module, Parameter, functional_call
from .positions import (
    LearnedPositions,
    RelativePositionBias,
    RotaryPositions,
    SinusoidalPositions,
    sinusoids,
)
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
    "LearnedPositions",
    "Linear",
    "LoadResult",
    "Module",
    "ModuleList",
    "MultiHeadAttention",
    "Parameter",
    "RMSNorm",
    "RelativePositionBias",
    "RotaryPositions",
    "Sequential",
    "SinusoidalPositions",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "functional_call",
    "sinusoids",
]
