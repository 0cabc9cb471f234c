"""Modules and layers, with the names and the behavior of ``torch.nn``."""

from .attention import Attention, MultiHeadAttention
from .cache import KVCache, StateCache
from .containers import ModuleList, Sequential
from .convolution import Conv2d
from .layers import (
    ACTIVATIONS,
    Dropout,
    Embedding,
    FeedForward,
    LayerNorm,
    Linear,
    RMSNorm,
    skip_init,
)
from .module import Buffer, LoadResult, Module, Parameter, functional_call
from .positions import (
    LearnedPositions,
    RelativePositionBias,
    RotaryPositions,
    SinusoidalPositions,
    sinusoids,
)
from .recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from .transformer import (
    Transformer,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)

__all__ = [
    "ACTIVATIONS",
    "GRU",
    "LSTM",
    "RNN",
    "Attention",
    "Buffer",
    "Conv2d",
    "Dropout",
    "Embedding",
    "FeedForward",
    "GRUCell",
    "KVCache",
    "LSTMCell",
    "LayerNorm",
    "LearnedPositions",
    "Linear",
    "LoadResult",
    "Module",
    "ModuleList",
    "MultiHeadAttention",
    "Parameter",
    "RMSNorm",
    "RNNCell",
    "RelativePositionBias",
    "RotaryPositions",
    "Sequential",
    "SinusoidalPositions",
    "StateCache",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "functional_call",
    "sinusoids",
    "skip_init",
]
