"""Models, made of :mod:`scratchlm.nn`; weights have the names of the published checkpoints."""

from .checkpoints import from_hf_state, gpt_config_from_hf, to_hf_state
from .gpt import GPT, GPTConfig

__all__ = ["GPT", "GPTConfig", "from_hf_state", "gpt_config_from_hf", "to_hf_state"]
