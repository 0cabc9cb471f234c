"""BLEU: how many n-grams of a translation stand in a reference, equal to sacrebleu's numbers."""

from __future__ import annotations

import functools
import math
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Tokenizer = str | Callable[[str], Sequence[str]]

SMOOTHING: dict[str, float | None] = {"none": None, "floor": 0.1, "add-k": 1.0, "exp": None}


@dataclass(frozen=True)
class BLEU:
    """A BLEU score, and what it is made of. ``float(result)`` is the score, 0 to 100."""

    score: float
    precisions: tuple[float, ...]  # in per cent, order 1 first
    brevity_penalty: float
    hypothesis_length: int  # tokens
    reference_length: int  # tokens of the references nearest in length
    hits: tuple[int, ...]  # clipped matches by order
    totals: tuple[int, ...]  # n-grams of the hypotheses by order

    def __float__(self) -> float:
        return self.score


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    tokenize: Tokenizer = "13a",
    lowercase: bool = False,
    smooth: str = "exp",
    smooth_value: float | None = None,
    max_order: int = 4,
    effective_order: bool = False,
) -> BLEU:
    """``BLEU = BP · exp(mean over n of ln p_n)``, ``BP = exp(1 - r / c)`` where c < r, else 1.

    ``p_n`` is the share of the hypotheses' n-grams that stand in a reference, each counted at most
    as often as in the one reference that has it most. Counts and lengths are added up over the
    corpus first: corpus BLEU is no mean of sentence BLEU.

    Args:
        hypotheses: the translations, one text each.
        references: for each of them a text, or a list of texts (their numbers may differ).
        tokenize: ``"13a"`` (of WMT: punctuation is a word, for English and its like), ``"zh"``
            (each Chinese character is a word, the rest as 13a), ``"intl"`` (punctuation and symbols
            of Unicode), ``"char"``, ``"none"`` (split at white space), or a function from a text
            to its tokens. Scores of different tokenizers can't be compared.
        lowercase: before anything else.
        smooth: what an order without a match counts: ``"exp"``: 1/2, 1/4, … of a match, halved for
            each such order; ``"floor"``: ``smooth_value`` of a match (0.1); ``"add-k"``:
            ``smooth_value`` (1) is added to matches and totals of all orders above 1; ``"none"``:
            nothing, so that the score is 0.
        smooth_value: see there.
        max_order: the longest n-grams.
        effective_order: leave out orders that are longer than the hypotheses.

    Raises:
        ValueError: numbers differ, nothing to score, a hypothesis without reference, unknown
            tokenizer or smoothing.
        TypeError: a text is no str, or one text is given where a list of them belongs.

    Source: Papineni et al. 2002, §2.3; Chen & Cherry 2014 (smoothing); Post 2018 (sacrebleu).
    """
    split = _tokenizer(tokenize)
    k = _smoothing(smooth, smooth_value)
    if max_order < 1:
        raise ValueError(f"bleu: max_order={max_order} must be at least 1")
    texts, groups = _checked(hypotheses, references)
    hits, totals = [0] * max_order, [0] * max_order
    c = r = 0
    for text, group in zip(texts, groups, strict=True):
        hypothesis = _tokens(text, split, lowercase)
        candidates = [_tokens(each, split, lowercase) for each in group]
        c += len(hypothesis)
        r += min((abs(len(each) - len(hypothesis)), len(each)) for each in candidates)[1]
        for n in range(1, max_order + 1):
            mine = ngrams(hypothesis, n)
            most: Counter[tuple[str, ...]] = Counter()
            for each in candidates:
                most |= ngrams(each, n)  # for each n-gram the larger count
            hits[n - 1] += sum((mine & most).values())  # the smaller one: the clipping
            totals[n - 1] += sum(mine.values())
    penalty = 1.0 if c >= r else math.exp(1 - r / c) if c else 0.0
    precisions, orders = _precisions(hits, totals, smooth, k)
    counted = precisions[: orders if effective_order else max_order]
    score = 0.0
    if any(hits) and all(p > 0 for p in counted):
        score = penalty * math.exp(sum(map(math.log, counted)) / len(counted))
    return BLEU(score, tuple(precisions), penalty, c, r, tuple(hits), tuple(totals))


def sentence_bleu(
    hypothesis: str,
    references: str | Sequence[str],
    *,
    tokenize: Tokenizer = "13a",
    lowercase: bool = False,
    smooth: str = "exp",
    smooth_value: float | None = None,
    max_order: int = 4,
    effective_order: bool = True,
) -> BLEU:
    """:func:`bleu` of one text, by default without the orders that it is too short for.

    Raises:
        ValueError, TypeError: as :func:`bleu`.
    """
    return bleu(
        [hypothesis],
        [references],
        tokenize=tokenize,
        lowercase=lowercase,
        smooth=smooth,
        smooth_value=smooth_value,
        max_order=max_order,
        effective_order=effective_order,
    )


def ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """How often each sequence of ``n`` tokens occurs."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def _precisions(
    hits: Sequence[int], totals: Sequence[int], smooth: str, k: float
) -> tuple[list[float], int]:
    """The smoothed precisions in per cent, and how many orders have an n-gram at all."""
    precisions = [0.0] * len(hits)
    if not any(hits):
        return precisions, len(hits)
    orders, without = len(hits), 0
    for n, (hit, total) in enumerate(zip(hits, totals, strict=True)):
        extra = k if smooth == "add-k" and n else 0
        if total + extra == 0:
            break
        orders = n + 1
        matches = hit + extra
        if not matches and smooth == "exp":
            without += 1
            matches = 0.5**without
        elif not matches and smooth == "floor":
            matches = k
        precisions[n] = 100 * matches / (total + extra)
    return precisions, orders


def _smoothing(smooth: str, value: float | None) -> float:
    if smooth not in SMOOTHING:
        raise ValueError(f"bleu: smooth={smooth!r} is none of {', '.join(map(repr, SMOOTHING))}")
    default = SMOOTHING[smooth]
    if value is None:
        return default or 0.0
    if default is None:
        raise ValueError(f"bleu: smooth={smooth!r} takes no smooth_value, but {value} is given")
    if not value > 0:
        raise ValueError(f"bleu: smooth_value={value} must be positive; for none, smooth='none'")
    return value


def _checked(
    hypotheses: Sequence[str], references: Sequence[str | Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise TypeError("bleu takes lists of texts; for a single one there is sentence_bleu")
    texts = list(hypotheses)
    groups = [[each] if isinstance(each, str) else list(each) for each in references]
    if len(texts) != len(groups):
        raise ValueError(
            f"bleu: {len(texts)} hypotheses and {len(groups)} (lists of) references; give for each "
            "hypothesis its own, as [[first, second], ...]"
        )
    if not texts:
        raise ValueError("bleu: there is no hypothesis, so there is nothing to score")
    for i, (text, group) in enumerate(zip(texts, groups, strict=True)):
        if not group:
            raise ValueError(f"bleu: hypothesis {i} has no reference")
        for each in (text, *group):
            if not isinstance(each, str):
                raise TypeError(
                    f"bleu: number {i} holds {type(each).__name__}, and texts are str; of tokens, "
                    'give " ".join(tokens) with tokenize="none"'
                )
    return texts, groups


# ---------------------------------------------------------------- from a text to its tokens


def _tokens(text: str, split: Callable[[str], Sequence[str]], lowercase: bool) -> list[str]:
    return list(split((text.lower() if lowercase else text).rstrip()))


def _tokenizer(tokenize: Tokenizer) -> Callable[[str], Sequence[str]]:
    if callable(tokenize):
        return tokenize
    if tokenize not in TOKENIZERS:
        raise ValueError(
            f"bleu: tokenize={tokenize!r} is none of {', '.join(map(repr, TOKENIZERS))}, "
            "and no function"
        )
    return TOKENIZERS[tokenize]


def _spaced(text: str, rules: Sequence[tuple[re.Pattern[str], str]]) -> list[str]:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text.split()


# The rules of NIST's mteval-v13a: a mark becomes a word of its own; point and comma do not inside
# a number, nor does a dash unless a digit stands before it, nor an apostrophe ever.
WESTERN = (
    (re.compile(r"([ !\"#$%&()*+/:;<=>?@\[\\\]^_`{|}~])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))

# What sacrebleu's "zh" sets apart, so that scores agree: ideographs, their punctuation and
# fullwidth forms, but also U+2001 to U+2A6D (dashes, quotes, arrows), and no ideograph above
# U+FFFF.
CHINESE = re.compile(
    "([\u2001-\u2a6d\u2e80-\u2fdf\u2ff0-\u303f\u3100-\u312f\u31a0-\u31bf\u31c0-\u31ef"
    "\u3200-\u33ff\u3400-\u4db5\u4e00-\u9fbb\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9"
    "\ufe10-\ufe1f\ufe30-\ufe4f\uff00-\uffef])"
)


def _thirteen_a(text: str) -> list[str]:
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for name, mark in ENTITIES:
        text = text.replace(name, mark)
    return _spaced(f" {text} ", WESTERN)


def _zh(text: str) -> list[str]:
    return _spaced(CHINESE.sub(r" \1 ", text.strip()), WESTERN)


def _intl(text: str) -> list[str]:
    return _spaced(text, _unicode_rules())


@functools.cache
def _unicode_rules() -> tuple[tuple[re.Pattern[str], str], ...]:
    """The rules of mteval-v14: punctuation beside anything but a number, and every symbol."""
    number, mark, symbol = map(_category, "NPS")
    return (
        (re.compile(f"([^{number}])([{mark}])"), r"\1 \2 "),
        (re.compile(f"([{mark}])([^{number}])"), r" \1 \2"),
        (re.compile(f"([{symbol}])"), r" \1 "),
    )


def _category(major: str) -> str:
    """All characters of a major category of Unicode, for the [ ] of a regular expression."""
    ranges: list[list[int]] = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code))[0] == major:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


TOKENIZERS: dict[str, Callable[[str], list[str]]] = {
    "13a": _thirteen_a,
    "zh": _zh,
    "intl": _intl,
    "char": lambda text: [c for c in text if not c.isspace()],
    "none": str.split,
}
