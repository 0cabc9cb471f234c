"""One small case of each task: a function that makes it, and one that makes a model for it."""

import numpy as np

from scratchlm import data
from scratchlm.models import (
    GPT,
    T5,
    BERTConfig,
    BERTForMaskedLM,
    BERTForSequenceClassification,
    BERTForTokenClassification,
    EncoderDecoder,
    EncoderDecoderConfig,
    GPTConfig,
    T5Config,
)
from scratchlm.text import WordPiece, WordVocab
from scratchlm.train import (
    Classification,
    Instructions,
    MaskedLM,
    NextToken,
    Pairs,
    Tagging,
    TrainConfig,
)

WORDS = ["good", "bad", "film", "the", "was", "very", "not", "a", "of", "it"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "##ly", "fil"]
TOKENIZER = WordPiece({piece: i for i, piece in enumerate(PIECES)})
RNG = np.random.default_rng


def texts(n, seed=0):
    rng = RNG(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(n)]


def labelled(n, seed=0):
    return [(t, "pos" if t.count("good") > t.count("bad") else "neg") for t in texts(n, seed)]


def tagged(n, seed=0):
    return [(t.split(), ["B-F" if w == "film" else "O" for w in t.split()]) for t in texts(n, seed)]


SIZES = {"n_layer": 1, "n_head": 2, "n_embd": 8, "n_inner": 16}
BERT_SIZES = {**SIZES, "vocab_size": len(TOKENIZER), "block_size": 16}
T5_SIZES = {**SIZES, "vocab_size": 20, "head_dim": 4}


def reverse(n, seed=0):
    rng = RNG(seed)
    rows = [rng.integers(3, 12, rng.integers(2, 7)) for _ in range(n)]
    return [(row, row[::-1]) for row in rows]


def bert(kind, dtype=np.float32, dropout=0.1, seed=0, **sizes):
    options = {**BERT_SIZES, "dropout": dropout, "attention_dropout": dropout, **sizes}
    return kind(BERTConfig(**options), rng=seed, dtype=dtype, std=0.3)


def encoder_decoder(dtype=np.float32, dropout=0.1, seed=0):
    sizes = EncoderDecoderConfig(
        12, 12, block_size=10, n_layer=1, n_head=2, n_embd=8, pad_id=0, dropout=dropout
    )
    return EncoderDecoder(sizes, rng=seed, dtype=dtype)


def t5(dtype=np.float32, dropout=0.1, seed=0):
    return T5(T5Config(**T5_SIZES, dropout=dropout), rng=seed, dtype=dtype)


def gpt(dtype=np.float32, dropout=0.1, seed=0):
    sizes = GPTConfig(20, 16, n_layer=1, n_head=2, n_embd=8, dropout=dropout)
    return GPT(sizes, rng=seed, dtype=dtype)


def prompts(n, seed=0):
    return [(a, b % 7) for a, b in reverse(n, seed)]


MAKE = {
    "next token": (
        lambda: NextToken(data.Corpus(*ids(), WordVocab(WORDS)), 8),
        gpt,
    ),
    "masked": (
        lambda: MaskedLM(texts(30), texts(9, 1), TOKENIZER),
        lambda **o: bert(BERTForMaskedLM, **o),
    ),
    "classes": (
        lambda: Classification(labelled(30), labelled(9, 1), TOKENIZER),
        lambda **o: bert(BERTForSequenceClassification, **o),
    ),
    "tags": (
        lambda: Tagging(tagged(30), tagged(9, 1), TOKENIZER),
        lambda **o: bert(BERTForTokenClassification, **o),
    ),
    "pairs": (
        lambda: Pairs(reverse(30), reverse(9, 1), pad_id=0, start_id=1, end_id=2),
        encoder_decoder,
    ),
    "t5": (
        lambda: Pairs(reverse(30), reverse(9, 1), pad_id=0, start_id=0, end_id=1),
        t5,
    ),
    "instructions": (lambda: Instructions(prompts(30), prompts(9, 1), end_id=19), gpt),
}


def ids():
    rng = RNG(0)
    return rng.integers(0, 11, 300), rng.integers(0, 11, 70)


def config(**options):
    return TrainConfig(**{
        "steps": 20, "batch_size": 4, "length": 8, "lr": 1e-2, "log_every": 5, "eval_every": 8,
        "eval_batches": 2, "save_every": 0, **options,
    })  # fmt: skip


def same(a, b):
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)
