"""Tasks, the training loop, and checkpoints that it goes on from bit for bit."""

from .checkpoint import Checkpoint, load_checkpoint, load_model, save_checkpoint
from .config import TrainConfig
from .examples import (
    Classification,
    Examples,
    Instructions,
    MaskedLM,
    Pairs,
    Tagging,
)
from .tasks import NextToken, Task
from .threads import blas_threads
from .trainer import Trainer, train

__all__ = [
    "Checkpoint",
    "Classification",
    "Examples",
    "Instructions",
    "MaskedLM",
    "NextToken",
    "Pairs",
    "Tagging",
    "Task",
    "TrainConfig",
    "Trainer",
    "blas_threads",
    "load_checkpoint",
    "load_model",
    "save_checkpoint",
    "train",
]
