"""What models are measured by: losses and perplexity, classes, texts, entities, words, orders.

Each function is plain Python and NumPy, written to be read beside its formula, and gives the number
that the field's own tool gives: scikit-learn (classes), sacrebleu (BLEU), rouge-score (ROUGE),
seqeval (entities), SciPy (orders). Lesson 08 derives them.
"""

from .classification import (
    Scores,
    accuracy,
    confusion_matrix,
    f1,
    precision,
    precision_recall_f1,
    recall,
)
from .correlation import spearman
from .language_model import (
    bits,
    evaluation,
    loss_per_byte,
    loss_per_character,
    mean_loss,
    perplexity,
)
from .segmentation import word_scores
from .summary import rouge
from .tagging import entities, entity_f1, entity_scores
from .translation import BLEU, bleu, sentence_bleu

__all__ = [
    "BLEU",
    "Scores",
    "accuracy",
    "bits",
    "bleu",
    "confusion_matrix",
    "entities",
    "entity_f1",
    "entity_scores",
    "evaluation",
    "f1",
    "loss_per_byte",
    "loss_per_character",
    "mean_loss",
    "perplexity",
    "precision",
    "precision_recall_f1",
    "recall",
    "rouge",
    "sentence_bleu",
    "spearman",
    "word_scores",
]
