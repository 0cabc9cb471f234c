"""What kind of character a code point is, for every code point at once."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

COUNT = 0x110000
SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B)))
SPACES += "\u2028\u2029\u202f\u205f\u3000"  # Unicode's White_Space; Python's `\s` has 4 more


def code_points(text: str) -> np.ndarray:
    """The code points of a text, shape ``(len(text),)``, 4 bytes each."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def from_code_points(codes: np.ndarray) -> str:
    """The inverse of ``code_points``."""
    return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


@functools.cache
def _ranges() -> dict[str, list[tuple[int, int]]]:
    kinds: dict[str, list[tuple[int, int]]] = {}
    name = ""
    text = Path(__file__).with_name("codepoints.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("["):
            name = line.strip("[]")
            kinds[name] = []
        elif line and not line.startswith("#"):
            for item in line.split():
                first, _, last = item.partition("-")
                kinds[name].append((int(first, 16), int(last or first, 16) + 1))
    kinds["spaces"] = [(ord(c), ord(c) + 1) for c in SPACES]
    return kinds


def table(kinds: Mapping[str, str], otherwise: str) -> np.ndarray:
    """A character for every code point: that of its kind in ``codepoints.txt``, the last one wins.

    ``table(...)[code_points(text)]`` folds a text into a few characters, one for one; what a
    pattern finds in the folded text lies at the same place in the text. So regular expressions can
    speak of letters and numbers as Unicode has them, which Python's ``re`` can't, and fast.
    """
    out = np.full(COUNT, ord(otherwise), np.uint8)
    for kind, character in kinds.items():
        for first, stop in _ranges()[kind]:
            out[first:stop] = ord(character)
    return out
