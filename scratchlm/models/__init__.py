"""Models, made of :mod:`scratchlm.nn`; weights have the names of the published checkpoints."""

from .checkpoints import from_hf_state, gpt_config_from_hf, to_hf_state
from .g2p import G2P
from .gpt import GPT, GPTConfig
from .seq2seq import EncoderDecoder, EncoderDecoderConfig

__all__ = [
    "G2P",
    "GPT",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "GPTConfig",
    "from_hf_state",
    "gpt_config_from_hf",
    "to_hf_state",
]
