"""Optimizers, learning-rate schedules, and gradient clipping, named and behaving as PyTorch's."""

from .clip import clip_grad_norm
from .optimizer import Optimizer, decay_groups
from .optimizers import SGD, Adam, AdamW, Momentum, adam_step, adamw_step, sgd_step
from .schedules import LRScheduler, constant, cosine, inverse_sqrt, step_decay

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "LRScheduler",
    "Momentum",
    "Optimizer",
    "adam_step",
    "adamw_step",
    "clip_grad_norm",
    "constant",
    "cosine",
    "decay_groups",
    "inverse_sqrt",
    "sgd_step",
    "step_decay",
]
