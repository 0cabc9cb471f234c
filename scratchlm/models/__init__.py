"""Models, made of :mod:`scratchlm.nn`; weights have the names of the published checkpoints."""

from .bert import (
    BERT,
    BERTConfig,
    BERTForMaskedLM,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from .checkpoints import from_hf_state, gpt_config_from_hf, to_hf_state
from .g2p import G2P
from .gpt import GPT, GPTConfig
from .llama import Llama, LlamaConfig
from .ngram import NGram
from .pretrained import load_pretrained, load_with_tokenizer, save_pretrained
from .seq2seq import EncoderDecoder, EncoderDecoderConfig
from .t5 import T5, T5Config

__all__ = [
    "BERT",
    "G2P",
    "GPT",
    "T5",
    "BERTConfig",
    "BERTForMaskedLM",
    "BERTForSequenceClassification",
    "BERTForTokenClassification",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "GPTConfig",
    "Llama",
    "LlamaConfig",
    "NGram",
    "T5Config",
    "from_hf_state",
    "gpt_config_from_hf",
    "load_pretrained",
    "load_with_tokenizer",
    "save_pretrained",
    "to_hf_state",
]
