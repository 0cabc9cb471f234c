"""Tokens that are found in a text as they stand, before it is cut into words: ``<|endoftext|>``."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping

from .codepoints import SPACES

MOST, MOST_CHARACTERS = 10_000, 1_000_000  # more would take long to compile; no model has as many


class AddedTokens:
    """A text cut at whole tokens: the leftmost first, of those the longest.

    Args:
        ids: token → id.
        lstrip, rstrip: of these, tokens that take the white space before or after them along.
        later: of these, tokens that are looked for in what the others leave, once it is normalised.
        normalize: how the text between tokens is normalised.

    Raises:
        ValueError: a token is empty, or no text that UTF-8 can say, or there are too many.
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        *,
        lstrip: Collection[str] = (),
        rstrip: Collection[str] = (),
        later: Collection[str] = (),
        normalize: Callable[[str], str] | None = None,
    ) -> None:
        if len(ids) > MOST or sum(map(len, ids)) > MOST_CHARACTERS:
            raise ValueError(
                f"{len(ids)} added tokens of {sum(map(len, ids))} characters; at most {MOST} of "
                f"{MOST_CHARACTERS} are supported"
            )
        self.ids = dict(ids)
        self.lstrip, self.rstrip, self.later = (
            frozenset(lstrip),
            frozenset(rstrip),
            frozenset(later),
        )
        self.normalize = normalize or str
        for token in ids:
            try:
                token.encode()
            except UnicodeEncodeError:
                raise ValueError(
                    f"added token {reprlib.repr(token)} holds half a surrogate pair"
                ) from None
        self._at_once = {token: token for token in ids if token not in self.later}
        self._afterwards = {self.normalize(token): token for token in ids if token in self.later}
        if "" in self._at_once or "" in self._afterwards:
            raise ValueError("an added token is empty; it would be found everywhere")
        self._patterns = [
            re.compile("|".join(re.escape(t) for t in sorted(turn, key=len, reverse=True)))
            if turn
            else None
            for turn in (self._at_once, self._afterwards)
        ]

    def split(self, text: str) -> Iterator[str | int]:
        """The text's pieces in order: an id for an added token, what lies between normalised."""
        for piece in self._find(text, self._patterns[0], self._at_once):
            if isinstance(piece, int):
                yield piece
            else:
                yield from self._find(self.normalize(piece), self._patterns[1], self._afterwards)

    def _find(
        self, text: str, pattern: re.Pattern[str] | None, tokens: Mapping[str, str]
    ) -> Iterator[str | int]:
        end = 0
        for match in pattern.finditer(text) if pattern else ():
            token, (start, stop) = tokens[match[0]], match.span()
            if start < end:  # the token before took it along with the white space
                continue
            between = text[end:start]
            if token in self.lstrip:
                between = between.rstrip(SPACES)
            if between:
                yield between
            yield self.ids[token]
            if token in self.rstrip:
                while stop < len(text) and text[stop] in SPACES:
                    stop += 1
            end = stop
        if end < len(text):
            yield text[end:]

    def as_list(self, special: Collection[int]) -> list[dict[str, object]]:
        """The ``added_tokens`` of a ``tokenizer.json``."""
        return [
            {
                "id": number,
                "content": token,
                "single_word": False,
                "lstrip": token in self.lstrip,
                "rstrip": token in self.rstrip,
                "normalized": token in self.later,
                "special": number in special,
            }
            for token, number in sorted(self.ids.items(), key=lambda item: item[1])
        ]
