"""What the commands read: runs of ``scratchlm train``, and weights that others trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .screen import fail

KINDS = (
    "The folder of a run, or a checkpoint; a name from `scratchlm fetch --list`, such as smollm2; "
    "a .gguf file, or a folder with config.json"
)


def load(source: str) -> tuple[Any, Any, dict[str, Any]]:
    """Model and tokenizer, and what a checkpoint keeps besides: nothing, where it is none."""
    from ..data import packages
    from ..models import load_with_tokenizer
    from ..models.pretrained import CONFIG
    from ..train import load_model

    path = Path(source).expanduser()
    if not path.exists() and source not in packages():
        fail(
            f"there is no run, no checkpoint and no model {source}",
            fix="the folder that `scratchlm train --out` wrote to, or a name from "
            "`scratchlm fetch --list`",
        )
    if path.suffix == ".gguf" or (path / CONFIG).exists() or not path.exists():
        return *load_with_tokenizer(source), {}
    model, vocabulary, state = load_model(path)
    if vocabulary is None:
        fail(f"{source} has no vocabulary", why="it was not made by `scratchlm train`")
    return model, vocabulary, state
