"""A corpus from the web without what is not text: markup, addresses, what cannot be seen, rows of
marks.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Literal

from .normalize import normalize

# What cannot be seen and carries no meaning: the soft hyphen, blanks of no width, the mark of byte
# order, and what turns the direction of writing. The joiners U+200C and U+200D stay: Persian is
# spelled with the one, and families of emoji are held together by the other.
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")

# An address goes on to white space or to a character that no address holds; a full stop or bracket
# at its end belongs to the sentence.
_ADDRESS = re.compile(
    r"(?:https?://|www\.)[\w\-.~:/?#\[\]@!$&'()*+,;=%]*[\w/#=&]"
    r"|\b[\w.+\-]+@(?:[\w\-]+\.)+[A-Za-z]{2,}\b",
    re.ASCII | re.IGNORECASE,
)
_REPEATED = re.compile(r"([^\w\s])\1+")

# Their end is the end of a line; the words of other elements go on in it.
_BLOCK_NAMES = """
address article aside blockquote br dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4
h5 h6 header hr li main nav ol option p pre section table td th tr ul title
"""
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_UNREAD = frozenset(["script", "style", "template", "noscript"])


class _Text(HTMLParser):
    """The text of HTML; lines end where a block does."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unread: list[str] = []  # elements that are open and not for reading

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _UNREAD:
            self._unread.append(tag)
        elif tag in _BLOCKS:
            self.handle_data("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unread:
            del self._unread[self._unread.index(tag) :]
        elif tag in _BLOCKS:
            self.handle_data("\n")

    def handle_data(self, data: str) -> None:
        if not self._unread:
            self.parts.append(data)


def strip_markup(text: str) -> str:
    """The text of a piece of HTML: no tags, comments, scripts or styles; ``&amp;`` is ``&``.

    Python's own ``html.parser`` reads it, so broken markup is no error. ``a < b`` stays as it is.
    """
    parser = _Text()
    parser.feed(text)
    parser.close()
    return "".join(parser.parts)


def clean(
    text: str,
    *,
    form: Literal["NFC", "NFD", "NFKC", "NFKD"] = "NFKC",
    lowercase: bool = False,
    markup: bool = False,
    addresses: str | None = None,
    repeats: int | None = None,
) -> str:
    """A text as a corpus needs it: ``normalize``, and no characters that can't be seen.

    Nothing that a reader sees is lost, unless an option says so.

    Args:
        text: any text.
        form: of Unicode, for ``normalize``.
        lowercase: make letters small.
        markup: the text is HTML; keep what a reader sees of it.
        addresses: what stands in the place of web and mail addresses: ``""``, ``"<url>"``; None:
            they stay.
        repeats: of the same mark in a row at most so many stay (``!!!!!!`` becomes ``!!!`` with 3).

    Raises:
        TypeError: not a string.
        ValueError: no such form; ``repeats`` below 1.
    """
    if not isinstance(text, str):
        raise TypeError(f"clean: needs a text (str), got {type(text).__name__}")
    if repeats is not None and repeats < 1:
        raise ValueError(f"clean: repeats={repeats} would delete the mark itself; 1 or more")
    if markup:
        text = strip_markup(text)
    # what is seen may be made of what is not: the form is taken last of all, by `normalize`
    text = normalize(_INVISIBLE.sub("", text), form, lowercase=lowercase, blanks=False)
    if addresses is not None:
        text = _ADDRESS.sub(lambda _: addresses, text)
    if repeats is not None:
        text = _REPEATED.sub(lambda m: m.group()[:repeats], text)
    return normalize(text, form, lowercase=lowercase)
