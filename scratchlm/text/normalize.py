"""A text as it should be before anything is counted: one form of each character, plain blanks."""

from __future__ import annotations

import unicodedata
from typing import Literal

from .codepoints import code_points, from_code_points


def normalize(
    text: str,
    form: Literal["NFC", "NFD", "NFKC", "NFKD"] = "NFKC",
    *,
    lowercase: bool = False,
    blanks: bool = True,
) -> str:
    """Unicode's normal form, without control characters.

    NFKC makes full-width letters and digits ordinary (``Ａ１`` is ``A1``), takes ligatures apart
    (``ﬁ`` is ``fi``) and joins letters with their accents. It makes ``２⁵`` into ``25``, too: what
    must be written back as it was is not to be normalised.

    Args:
        text: any text.
        form: of Unicode Standard Annex 15.
        lowercase: make letters small.
        blanks: of white space in a row make one blank, or a newline where there was one; none is
            left at the ends of lines.

    Raises:
        TypeError: not a string.
        ValueError: no such form.
    """
    if not isinstance(text, str):
        raise TypeError(f"normalize: needs a text (str), got {type(text).__name__}")
    if form not in {"NFC", "NFD", "NFKC", "NFKD"}:
        raise ValueError(f"normalize: no form {form!r}; there are NFC, NFD, NFKC and NFKD")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    codes = code_points(text)
    control = (codes < 0x20) & (codes != 0x09) & (codes != 0x0A) | (codes >= 0x7F) & (codes < 0xA0)
    text = unicodedata.normalize(form, from_code_points(codes[~control]))
    if lowercase:
        # small letters may have to be brought into the form again: İ
        text = unicodedata.normalize(form, text.lower())
    if blanks:
        lines = (" ".join(line.split()) for line in text.split("\n"))
        text = "\n".join(line for line in lines if line)
    return text
