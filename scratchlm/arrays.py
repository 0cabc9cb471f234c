"""Files of arrays in the safetensors format: the package that reads them, and a look at a file's
head before it does.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from .text.jsonfile import ROOM, check_json


def safetensors(what: str) -> Any:
    """The package safetensors.

    Raises:
        RuntimeError: it is not installed; ``what`` needs it.
    """
    try:
        import safetensors.numpy
    except ImportError:
        raise RuntimeError(
            f"{what} need the package safetensors: python -m pip install safetensors"
        ) from None
    return safetensors


def check_head(path: str | os.PathLike[str], *, share: float = 0.5) -> None:
    """Refuse a file whose head, JSON of names, shapes and places, is what fills memory.

    A tensor of no numbers takes 57 bytes there and 33 times as much once it is read. A file whose
    bytes are mostly numbers passes; what else may be wrong with it, the package finds.

    Args:
        path: of the file.
        share: how many times the file the objects in its head may take, beside the 4 MB of some
            thousand tensors, however small.

    Raises:
        OSError: it can't be read.
        ValueError: it is another file, or its head is no JSON or too much of it.
    """
    path = Path(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise ValueError(f"{path} is no safetensors file: it is shorter than its head")
        check_json(io.BytesIO(file.read(length)), path, room=int(share * size) + ROOM)
