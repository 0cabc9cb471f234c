r"""A text cut into words, numbers, marks and spaces; no token of a byte-level BPE crosses a cut.

The published patterns speak of ``\p{L}`` (letters) and ``\p{N}`` (numbers), which Python's ``re``
does not know. So the text is folded first (``codepoints.table``): ASCII stays, any other letter
becomes ``a``, a number ``0``, a space a vertical tab, and the rest ``!``.
"""

from __future__ import annotations

import functools
import re
from itertools import accumulate, pairwise

import numpy as np

from .codepoints import code_points, table

# GPT-2's (Radford et al. 2019), and what later models made of it. The published spelling is the
# one found in tokenizer.json; a pattern from a file is compared with these, never compiled, because
# an evil one can keep `re` busy for ever.
PUBLISHED = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
# With the digits taken out first, the text left of a digit ends there: no space goes with it.
_ENDS_AT_DIGITS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|%s| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
PATTERNS = PUBLISHED | {
    "digit": _ENDS_AT_DIGITS % r"\p{N}",  # SmolLM2: each digit alone, then GPT-2's
    "digits": _ENDS_AT_DIGITS % r"\p{N}+",
}


def pretokens(text: str, pattern: str = "gpt2") -> list[str]:
    """The pieces of a text, in order; joined, they are the text.

    Args:
        text: any text.
        pattern: a name in ``PATTERNS``.

    Raises:
        ValueError: there is no such pattern.
    """
    if pattern not in PATTERNS:
        raise ValueError(f"pretokens: no pattern {pattern!r}; there are {', '.join(PATTERNS)}")
    folded = _fold()[code_points(text)].tobytes().decode("ascii")
    pieces = _compiled(pattern).findall(folded)
    if folded == text:
        return pieces
    return [text[a:b] for a, b in pairwise(accumulate(map(len, pieces), initial=0))]


@functools.cache
def _fold() -> np.ndarray:
    out = table({"letters": "a", "numbers": "0", "spaces": "\x0b"}, "!")
    out[:128] = np.arange(128)
    out[0x17F] = ord("S")  # ſ is an s where case does not count: 'ſ is cut off as 's is
    return out


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """The pattern on folded text."""
    folded = PATTERNS[pattern].replace(r"\p{L}\p{N}]", "A-Za-z0-9]").replace(r"\s\p{N}]", r"\s0-9]")
    return re.compile(folded.replace(r"\p{L}", "[A-Za-z]").replace(r"\p{N}", "[0-9]"), re.ASCII)
