"""What the commands read: runs of ``scratchlm train``, and weights that others trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .screen import fail


def load(source: str) -> tuple[Any, Any]:
    """Model and tokenizer of a run's folder, a checkpoint, or what ``load_pretrained`` reads."""
    from ..models import load_with_tokenizer
    from ..models.pretrained import CONFIG
    from ..train import load_model

    path = Path(source).expanduser()
    if path.suffix == ".gguf" or (path / CONFIG).exists() or not path.exists():
        return load_with_tokenizer(source)
    model, vocabulary, _ = load_model(path)
    if vocabulary is None:
        fail(f"{source} has no vocabulary", why="it was not made by `scratchlm train`")
    return model, vocabulary
