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
from .ngram import NGram, bigram_loss
from .pretrained import load_pretrained, load_with_tokenizer, save_pretrained
from .recurrent import RecurrentLM, RecurrentLMConfig
from .recurrent_seq2seq import RecurrentEncoderDecoder, RecurrentEncoderDecoderConfig
from .seq2seq import EncoderDecoder, EncoderDecoderConfig
from .t5 import T5, T5Config
from .word2vec import Word2Vec
from .word_vectors import (
    WordVectors,
    evaluate_analogies,
    evaluate_similarity,
    load_vectors,
    read_pairs,
    read_questions,
)

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
    "RecurrentEncoderDecoder",
    "RecurrentEncoderDecoderConfig",
    "RecurrentLM",
    "RecurrentLMConfig",
    "T5Config",
    "Word2Vec",
    "WordVectors",
    "bigram_loss",
    "evaluate_analogies",
    "evaluate_similarity",
    "from_hf_state",
    "gpt_config_from_hf",
    "load_pretrained",
    "load_vectors",
    "load_with_tokenizer",
    "read_pairs",
    "read_questions",
    "save_pretrained",
    "to_hf_state",
]
