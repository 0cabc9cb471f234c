"""The training loop, and checkpoints that it goes on from bit for bit."""

from .checkpoint import Checkpoint, load_checkpoint, load_model, save_checkpoint
from .trainer import TrainConfig, Trainer, train

__all__ = [
    "Checkpoint",
    "TrainConfig",
    "Trainer",
    "load_checkpoint",
    "load_model",
    "save_checkpoint",
    "train",
]
