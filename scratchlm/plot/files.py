"""Pictures as files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from .look import require_matplotlib, style
from .text import legible

FORMATS = (".png", ".svg")


def save(drawn: Any, path: str | os.PathLike[str], *, dpi: int = 150) -> Path:
    """Write a Figure, or that of an Axes, as PNG or SVG; the file appears whole or not at all.

    Folders on the way are made. The same figure gives the same bytes each time.

    Returns:
        the path.

    Raises:
        ValueError: another ending than ``.png`` or ``.svg``.
        TypeError: neither a Figure nor an Axes.
        OSError: the folder can't be made or written to; the message names it.
    """
    require_matplotlib("save")
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

    figure = drawn.figure if isinstance(drawn, Artist) else None
    figure = getattr(figure, "figure", None)  # of a figure in a figure, the outer one
    if not isinstance(figure, Figure):
        raise TypeError(f"plot.save: give a Figure or an Axes, not {type(drawn).__name__}")
    path = Path(path).expanduser()
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"plot.save: {path.name!r} ends in {path.suffix or 'nothing'}; it can be "
            f"{' or '.join(FORMATS)}"
        )
    kind = path.suffix[1:].lower()
    legible(figure)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}.", suffix=".part"
        )
        with os.fdopen(handle, "wb") as file, style():
            # without the date, or an SVG would differ each second
            metadata = {"Date": None} if kind == "svg" else None
            figure.savefig(file, format=kind, dpi=dpi, metadata=metadata)
        _ordinary_permissions(temporary)
        Path(temporary).replace(path)
    except OSError as error:
        raise type(error)(
            f"plot.save: can't write {str(path)!r}: {error.strerror or error}; choose a folder "
            "that you may write to"
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    return path


def _ordinary_permissions(path: str) -> None:
    """``mkstemp`` makes files for the owner alone; a picture is as readable as any new file."""
    mask = os.umask(0)
    os.umask(mask)
    Path(path).chmod(0o666 & ~mask)
