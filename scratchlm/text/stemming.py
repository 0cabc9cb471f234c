"""Porter's stemmer: an English word without its endings, by five steps of rules.

Written out since its rules are its whole content: a reader sees here why *university* and
*universe* become one. It gives what the ``porter`` algorithm of ``snowballstemmer`` gives, the
library to take for other languages.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

# The first ending in a list that fits decides, so longer ones stand before their own ends.
_STEP_2 = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"),
    ("abli", "able"), ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"),
    ("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al"), ("iveness", "ive"),
    ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble"),
)  # fmt: skip
_STEP_3 = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""),
    ("ness", ""),
)  # fmt: skip
_STEP_4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou",
    "ism", "ate", "iti", "ous", "ive", "ize",
)  # fmt: skip

_DOUBLED = "bdfgmnprt"  # before ed and ing; Porter 1980 says all but l, s and z: *trekked*


def stem(word: str) -> str:
    """The word without its endings: *connections*, *connected*, *connecting* are all *connect*.

    Args:
        word: in English. Capitals become small; what is not of the letters a to z alone comes back
            as it is.

    Source: Porter 1980, "An algorithm for suffix stripping".
    """
    lower = word.lower()
    return _stem(lower) if lower.isascii() and lower.isalpha() else word


def stem_all(words: Iterable[str]) -> list[str]:
    """``stem`` of each word.

    Raises:
        TypeError: a single string, which would be cut into characters.
    """
    if isinstance(words, str):
        raise TypeError("stem_all: needs a list of words; of a text: split_words(text)")
    return [stem(word) for word in words]


@functools.lru_cache(2**16)
def _stem(word: str) -> str:
    # 1a: plurals
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    # 1b: past and progressive
    if word.endswith("eed"):
        if _measure(word[:-3]) > 0:
            word = word[:-1]
    else:
        ending = next((e for e in ("ed", "ing") if word.endswith(e)), "")
        if ending and "v" in _shape(rest := word.removesuffix(ending)):
            word = _mend(rest)
    # 1c
    if word.endswith("y") and "v" in _shape(word[:-1]):
        word = word[:-1] + "i"
    # 2, 3: endings that stand before others
    for rules in (_STEP_2, _STEP_3):
        for ending, by in rules:
            if word.endswith(ending):
                rest = word.removesuffix(ending)
                if _measure(rest) > 0:
                    word = rest + by
                break
    # 4: what is left of them, from words that are long enough without
    found = [ending for ending in _STEP_4 if word.endswith(ending)]
    if found:
        ending = max(found, key=len)
        rest = word.removesuffix(ending)
        if _measure(rest) > 1 and (ending != "ion" or rest.endswith(("s", "t"))):
            word = rest
    # 5: a last e, a double l
    if word.endswith("e"):
        m = _measure(word[:-1])
        if m > 1 or (m == 1 and not _short(word[:-1])):
            word = word[:-1]
    if word.endswith("ll") and _measure(word[:-1]) > 1:
        word = word[:-1]
    return word


def _mend(rest: str) -> str:
    """What *ed* or *ing* was taken from: hop(p), fil(e), conflat(e)."""
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if len(rest) > 1 and rest[-1] == rest[-2] and rest[-1] in _DOUBLED:
        return rest[:-1]
    if _measure(rest) == 1 and _short(rest):
        return rest + "e"
    return rest


def _shape(word: str) -> str:
    """A ``v`` for each vowel, a ``c`` for each consonant; y is a vowel after a consonant."""
    shape = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if vowel else "c"
    return shape


def _measure(word: str) -> int:
    """The m of [C](VC)^m[V]: about the number of syllables."""
    return _shape(word).count("vc")


def _short(word: str) -> bool:
    """Whether it ends in consonant, vowel, consonant, the last none of w, x, y."""
    return _shape(word).endswith("cvc") and word[-1] not in "wxy"
