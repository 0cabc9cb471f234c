"""Byte-level byte-pair encoding: any text, in any language, as ids, and back without a loss.

Sennrich, Haddow & Birch 2016 (Algorithm 1) merge the most frequent pair of symbols again and again;
Radford et al. 2019 (GPT-2, §2.2) start from the 256 bytes of UTF-8, so no character is unknown, and
cut the text into words first, so no token reaches across them.
"""

from __future__ import annotations

import codecs
import heapq
import reprlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..backend import check_ids
from .added import AddedTokens
from .jsonfile import (
    Checked,
    Unread,
    check_added,
    check_vocabulary,
    read_json,
    read_tokenizer,
    write_json,
)
from .pretokens import PATTERNS, PUBLISHED, pretokens

Pair = tuple[int, int]

FORMS = (None, "NFC", "NFD", "NFKC", "NFKD")
CACHED = 2**18  # words whose ids are kept; then the cache starts anew
LONGEST_CACHED = 64  # characters


def byte_alphabet() -> dict[int, str]:
    """Byte → the character that stands for it in GPT-2's files.

    The 188 bytes that Latin-1 can print stand for themselves, the others, in order, for U+0100 and
    on: a space is ``Ġ``, a newline ``Ċ``.
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {byte: chr(byte) for byte in own} | {b: chr(256 + i) for i, b in enumerate(others)}


ALPHABET = byte_alphabet()
_BYTE = {character: byte for byte, character in ALPHABET.items()}


class BPE:
    """A byte-level byte-pair encoding.

    Of the pairs that can be merged in a word, the one with the lowest rank is, and of its places
    the leftmost; until there is none.

    Args:
        vocabulary: token, in the characters of ``byte_alphabet``, → id.
        merges: pairs of tokens, lowest rank first.
        special_tokens: tokens that are found in a text as they stand → id, or ``AddedTokens``.
        pattern: how a text is cut into words: a name in ``pretokens.PATTERNS``.
        form: of Unicode, ``"NFC"`` …, that a text is brought into first; none by default, and only
            then is nothing lost.
        add_prefix_space: put a space before a text that begins with none.
        unknown: the token for a byte that the vocabulary has none for.
        whole_words: a word that is a token is taken as it is, whatever the merges make of it.
        skipped: of the special tokens, those that ``decode(…, special_tokens=False)`` leaves out;
            all of them by default.

    Raises:
        ValueError: a token or a merge that can't be.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Iterable[tuple[str, str]],
        *,
        special_tokens: Mapping[str, int] | AddedTokens = {},  # noqa: B006  (never changed)
        pattern: str = "gpt2",
        form: Literal["NFC", "NFD", "NFKC", "NFKD"] | None = None,
        add_prefix_space: bool = False,
        unknown: str | None = None,
        whole_words: bool = False,
        skipped: Iterable[str] | None = None,
    ) -> None:
        if pattern not in PATTERNS:
            raise ValueError(f"BPE: no pattern {pattern!r}; there are {', '.join(PATTERNS)}")
        if form not in FORMS:
            raise ValueError(f"BPE: no form {form!r} of Unicode; there are {FORMS[1:]}")
        added = special_tokens
        if not isinstance(added, AddedTokens):
            added = AddedTokens(added, normalize=form and partial(unicodedata.normalize, form))
        self.added, self.pattern, self.form = added, pattern, form
        # of the model that this came with, where its files say so
        self.eos_id: int | None = None  # ends a text
        self.chat_template: str | None = None  # see scratchlm.text.chat
        self.add_prefix_space, self.whole_words = add_prefix_space, whole_words
        self._skipped = {
            self.added.ids[t] for t in (self.added.ids if skipped is None else skipped)
        }
        self.vocabulary = dict(vocabulary)
        self._bytes: dict[int, bytes] = {}
        for token, number in self.vocabulary.items():
            try:
                self._bytes[number] = bytes([_BYTE[character] for character in token])
            except KeyError as error:
                if token not in self.added.ids:
                    raise ValueError(
                        f"BPE: token {reprlib.repr(token)} has the character {error}, which "
                        "stands for no byte; this is no byte-level vocabulary"
                    ) from None
        for token, number in self.added.ids.items():
            self._bytes[number] = token.encode()
        if unknown is not None and unknown not in self:
            raise ValueError(f"BPE: {reprlib.repr(unknown)}, for unknown bytes, is no token")
        self.unknown = unknown
        other = None
        if unknown is not None:
            other = self.added.ids.get(unknown, self.vocabulary.get(unknown))
        self._first = [self.vocabulary.get(ALPHABET[byte], other) for byte in range(256)]
        self._merged: dict[Pair, tuple[int, int]] = {}  # pair → rank, id
        for rank, (a, b) in enumerate(merges):
            try:
                pair, number = (self.vocabulary[a], self.vocabulary[b]), self.vocabulary[a + b]
            except KeyError as error:
                raise ValueError(
                    f"BPE: merge {rank} needs the token {reprlib.repr(error.args[0])}, which is "
                    "not in the vocabulary"
                ) from None
            self._merged[pair] = rank, number
        self._cache: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return max(self._bytes) + 1

    @property
    def merges(self) -> list[tuple[str, str]]:
        """Pairs of tokens, lowest rank first."""
        names = {number: token for token, number in self.vocabulary.items()}
        ranked = sorted(self._merged.items(), key=lambda item: item[1])
        return [(names[a], names[b]) for (a, b), _ in ranked]

    def __contains__(self, token: str) -> bool:
        return token in self.vocabulary or token in self.added.ids

    def __repr__(self) -> str:
        return f"BPE({len(self)} tokens, {len(self._merged)} merges, pattern {self.pattern!r})"

    # ------------------------------------------------------------------ text to ids

    def encode(self, text: str, *, special_tokens: bool = True) -> np.ndarray:
        """The ids of a text, 1-D, int64.

        Args:
            text: any text; bytes that may be broken UTF-8: ``raw.decode("utf-8", "replace")``.
            special_tokens: False: ``<|endoftext|>`` in the text is ordinary text. Say so for text
                that others wrote, or they can end your document.

        Raises:
            TypeError: not a string.
            ValueError: the text holds half a surrogate pair, which UTF-8 cannot say, or a byte that
                the vocabulary has no token for.
        """
        if not isinstance(text, str):
            raise TypeError(
                f"BPE.encode: needs a text (str), got {type(text).__name__}; bytes: "
                'raw.decode("utf-8", "replace")'
            )
        ids: list[int] = []
        for piece in self.added.split(text) if special_tokens else [self.added.normalize(text)]:
            if isinstance(piece, int):
                ids.append(piece)
                continue
            if self.add_prefix_space and not piece.startswith(" "):
                piece = " " + piece
            cache = self._cache
            for word in pretokens(piece, self.pattern):
                ids += cache.get(word) or self._word(word)
        return np.array(ids, dtype=np.int64)

    def clear_cache(self) -> None:
        """Forget the words met so far."""
        self._cache.clear()

    def _word(self, word: str) -> list[int]:
        try:
            raw = word.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"BPE.encode: {reprlib.repr(word)} holds half a surrogate pair "
                f"(U+{ord(word[error.start]):04X}), which UTF-8 cannot say; read the text with "
                'errors="replace"'
            ) from None
        ids = [self._first[byte] for byte in raw]
        if None in ids:
            raise ValueError(
                f"BPE.encode: no token for the byte 0x{raw[ids.index(None)]:02X} of "
                f"{reprlib.repr(word)}; the vocabulary was not made from all 256 bytes"
            )
        whole = self.vocabulary.get("".join(ALPHABET[b] for b in raw)) if self.whole_words else None
        found = [whole] if whole is not None else merge(ids, self._merged)  # type: ignore[arg-type]
        if len(word) <= LONGEST_CACHED:
            if len(self._cache) >= CACHED:
                self._cache.clear()
            self._cache[word] = found
        return found

    # ------------------------------------------------------------------ ids to text

    def token(self, id: int) -> bytes:
        """The bytes of a token; not always whole characters.

        Raises:
            IndexError: no token has this id.
        """
        try:
            return self._bytes[int(id)]
        except KeyError:
            raise IndexError(
                f"BPE.token: no token has the id {id}; there are {len(self)}"
            ) from None

    def decode(
        self,
        ids: Iterable[int] | np.ndarray | Any,
        *,
        special_tokens: bool = True,
        errors: str = "replace",
    ) -> str:
        """The text of a sequence of ids; ``decode(encode(text))`` is the text.

        Args:
            ids: integers.
            special_tokens: False: leave them out.
            errors: for bytes that are no UTF-8, as of ``bytes.decode``; each becomes U+FFFD.

        Raises:
            IndexError, TypeError: an id out of range, or not an integer.
        """
        return b"".join(self._tokens(ids, special_tokens)).decode("utf-8", errors)

    def stream(self, ids: Iterable[int], *, special_tokens: bool = True) -> Iterator[str]:
        """The text of ids as they come, one piece for each id: empty while a character is
        incomplete. Joined, the pieces are ``decode(ids)``; one more follows if the last character
        is cut off.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for number in ids:
            yield decoder.decode(b"".join(self._tokens([number], special_tokens)))
        if rest := decoder.decode(b"", final=True):
            yield rest

    def _tokens(self, ids: Any, special_tokens: bool) -> list[bytes]:
        array = np.asarray(ids if hasattr(ids, "dtype") else list(ids)).reshape(-1)
        if not array.size:
            return []
        check_ids(array, len(self), what="BPE.decode")
        skipped = set() if special_tokens else self._skipped
        return [self.token(number) for number in array.tolist() if number not in skipped]

    # ------------------------------------------------------------------ made and kept

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        size: int,
        *,
        special_tokens: Sequence[str] = (),
        min_frequency: int = 2,
        pattern: str = "gpt2",
    ) -> BPE:
        """Learn a vocabulary: special tokens, the 256 bytes in the order of their characters, then
        a token for each merge.

        The most frequent pair is merged first; of equals the one with the lower ids, first part
        first. So the result is determined by the text, whatever its order. A pair that makes a
        token which exists already is merged, with no new id.

        Args:
            texts: one text, or several; no token reaches across their ends.
            size: of the vocabulary. It ends up smaller if no pair is frequent enough any more.
            special_tokens: get the ids from 0 on.
            min_frequency: how often a pair must occur to be merged.
            pattern: how texts are cut into words: a name in ``pretokens.PATTERNS``.

        Raises:
            TypeError: the texts are no strings.
            ValueError: ``size`` has no room for the 256 bytes; a special token stands there twice.
        """
        if size < 256 + len(special_tokens):
            raise ValueError(
                f"BPE.train: size {size} has no room for the 256 bytes and {len(special_tokens)} "
                "special tokens"
            )
        if len(set(special_tokens)) < len(special_tokens):
            raise ValueError(f"BPE.train: a special token twice: {special_tokens}")
        added = {token: index for index, token in enumerate(special_tokens)}
        find = AddedTokens(added)
        words: Counter[str] = Counter()
        for text in [texts] if isinstance(texts, str) else texts:
            if not isinstance(text, str):
                raise TypeError(f"BPE.train: a text must be str, not {type(text).__name__}")
            for piece in find.split(text):
                if isinstance(piece, str):
                    words.update(pretokens(piece, pattern))
        characters = sorted(ALPHABET.values())
        vocabulary = added | {c: len(added) + i for i, c in enumerate(characters) if c not in added}
        merges = _learn(words, vocabulary, size, max(min_frequency, 1))
        return cls(vocabulary, merges, special_tokens=added, pattern=pattern)

    @classmethod
    def gpt2(cls, folder: str | Path | None = None) -> BPE:
        """GPT-2's published vocabulary: ``encoder.json`` and ``vocab.bpe`` in a folder.

        Without a folder, those of ``scratchlm fetch gpt2-vocabulary``.

        Raises:
            FileNotFoundError: they are not there.
            ValueError: they are something else.
        """
        if folder is None:
            from ..downloads import locate

            folder = locate("gpt2-vocabulary")
        path = Path(folder) / "encoder.json"
        vocabulary = check_vocabulary(Checked(read_json(path, vocabulary=((),)), str(path)))
        special = {t: vocabulary[t] for t in ("<|endoftext|>",) if t in vocabulary}
        path = Path(folder) / "vocab.bpe"
        with path.open(encoding="utf-8", newline="\n") as file:
            lines = (line.removesuffix("\n") for line in file)
            told = (line for i, line in enumerate(lines) if line and (i or line[:8] != "#version"))
            return cls(vocabulary, _pairs(told, f"{path}, line"), special_tokens=special)

    def save(self, path: str | Path) -> None:
        """Write a ``tokenizer.json``, as the ``tokenizers`` library reads it too."""
        write_json(path, self.as_dict())

    @classmethod
    def load(cls, path: str | Path) -> BPE:
        """Read a ``tokenizer.json`` with a byte-level BPE. Nothing in it is executed.

        Raises:
            OSError: it can't be read.
            ValueError: it is no such file, or uses what would give other ids than here.
        """
        return cls.from_dict(read_tokenizer(path), where=str(path))

    def as_dict(self) -> dict[str, Any]:
        """What ``save`` writes, to be part of another file."""
        level = {"type": "ByteLevel", "add_prefix_space": self.add_prefix_space}
        level |= {"trim_offsets": True, "use_regex": True}
        first: dict[str, Any] | None = None
        if self.pattern in {"digit", "digits"}:
            first = {"type": "Digits", "individual_digits": self.pattern == "digit"}
        elif self.pattern != "gpt2":
            regex = {"Regex": PUBLISHED[self.pattern]}
            first = {"type": "Split", "pattern": regex, "behavior": "Isolated", "invert": False}
            level["use_regex"] = False
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": self.added.as_list(self._skipped),
            "normalizer": self.form and {"type": self.form},
            "pre_tokenizer": level
            if first is None
            else {"type": "Sequence", "pretokenizers": [first, level]},
            "post_processor": None,
            "decoder": {"type": "ByteLevel", **{k: level[k] for k in list(level)[1:]}},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": self.unknown,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": self.whole_words,
                # `tokenizers` numbers added tokens anew, but for those that stand here too
                "vocab": self.vocabulary | self.added.ids,
                "merges": [list(pair) for pair in self.merges],
            },
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], *, where: str = "tokenizer") -> BPE:
        """The inverse of ``as_dict``; takes what ``load`` takes."""
        content = Checked(saved, where)
        model = content["model"]
        if model.get("type", "BPE") != "BPE":
            model.fail(f"is {reprlib.repr(model.get('type'))}, not 'BPE'")
        model.only("dropout", (None, 0, 0.0))
        for key in ("continuing_subword_prefix", "end_of_word_suffix"):
            model.only(key, (None, ""))
        model.only("byte_fallback", (None, False))
        model.only("ignore_merges", (None, False, True))
        unknown = None
        if model.get("unk_token") is not None:
            unknown = model["unk_token"].of(str)
            model.only("fuse_unk", (None, False))
        form = None
        if content.get("normalizer") is not None:
            content["normalizer"].only("type", FORMS[1:])
            form = content["normalizer"].get("type")
        if content.get("decoder") is not None:
            content["decoder"].only("type", ("ByteLevel",))
        pattern, prefix = _pattern(content["pre_tokenizer"])
        vocabulary = check_vocabulary(model["vocab"])
        added = check_added(content, vocabulary)
        special = added.pop("special")
        merges = _pairs(model["merges"].of(list, Unread), "model, merges")
        try:
            return cls(
                vocabulary,
                merges,
                special_tokens=AddedTokens(
                    **added, normalize=form and partial(unicodedata.normalize, form)
                ),
                skipped=special,
                pattern=pattern,
                form=form,
                add_prefix_space=prefix,
                unknown=unknown,
                whole_words=model.get("ignore_merges", False),
            )
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def merge(ids: Sequence[int], merges: Mapping[Pair, tuple[int, int]]) -> list[int]:
    """Merge the pair of the lowest rank, leftmost first, until no pair is known.

    A heap of places, so that a word of n symbols costs n log n.

    Args:
        ids: of the symbols.
        merges: pair → rank, id of what it makes.
    """
    heap = [(*merges[pair], place) for place, pair in enumerate(pairwise(ids)) if pair in merges]
    if not heap:
        return list(ids)
    heapq.heapify(heap)
    symbols: list[int] = [*ids, -1]  # -1: none, or merged into the one before
    end = len(ids)
    after = list(range(1, end + 2))
    before = list(range(-1, end))
    while heap:
        rank, made, place = heapq.heappop(heap)
        other = after[place]
        # what was noted may be gone: then the pair at this place is another one, or none
        if merges.get((symbols[place], symbols[other])) != (rank, made):
            continue
        symbols[place], symbols[other] = made, -1
        follows = after[place] = after[other]
        if follows < end:
            before[follows] = place
            if found := merges.get((made, symbols[follows])):
                heapq.heappush(heap, (*found, place))
        if (left := before[place]) >= 0 and (found := merges.get((symbols[left], made))):
            heapq.heappush(heap, (*found, left))
    return [symbol for symbol in symbols if symbol >= 0]


def _learn(
    words: Mapping[str, int], vocabulary: dict[str, int], size: int, min_frequency: int
) -> list[tuple[str, str]]:
    """Extend the vocabulary by merges, and return them.

    All distinct words lie behind one another in one list. Each pair knows its count and the places
    where it begins, and a merge changes only its neighbours, so the work is a few steps for each
    symbol that disappears, however many merges there are.
    """
    names = {number: token for token, number in vocabulary.items()}
    first = [vocabulary[ALPHABET[byte]] for byte in range(256)]
    symbols, weights = [-1], [0]  # -1: the end of a word
    for word, count in words.items():
        raw = [first[byte] for byte in word.encode()]
        symbols += [*raw, -1]
        weights += [count] * (len(raw) + 1)
    after = list(range(1, len(symbols) + 1))
    before = list(range(-1, len(symbols) - 1))
    counts: dict[Pair, int] = defaultdict(int)
    places: dict[Pair, list[int]] = defaultdict(list)
    for place, pair in enumerate(pairwise(symbols)):
        if pair[0] >= 0 and pair[1] >= 0:
            counts[pair] += weights[place]
            places[pair].append(place)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: list[tuple[str, str]] = []
    while heap and len(vocabulary) < size:
        noted, pair = heapq.heappop(heap)
        count = counts.get(pair, 0)
        if count != -noted:  # it has become rarer since
            if count > 0:
                heapq.heappush(heap, (-count, pair))
            continue
        if count < min_frequency:
            break
        a, b = pair
        token = names[a] + names[b]
        made = vocabulary.setdefault(token, len(vocabulary))
        names[made] = token
        merges.append((names[a], names[b]))
        changed: set[Pair] = set()
        for place in sorted(places.pop(pair)):
            other = after[place]
            if symbols[place] != a or symbols[other] != b:
                continue
            weight = weights[place]
            left, right = before[place], after[other]
            if (symbol := symbols[left]) >= 0:
                counts[symbol, a] -= weight
                counts[symbol, made] += weight
                places[symbol, made].append(left)
                changed.add((symbol, made))
            if (symbol := symbols[right]) >= 0:
                counts[b, symbol] -= weight
                counts[made, symbol] += weight
                places[made, symbol].append(place)
                changed.add((made, symbol))
            symbols[place], symbols[other] = made, -2
            after[place], before[right] = right, place
        counts.pop(pair, None)
        for new in changed:
            if (count := counts[new]) > 0:
                heapq.heappush(heap, (-count, new))
    return merges


def _pairs(listed: Iterable[Any], where: str) -> Iterator[tuple[str, str]]:
    """Merges out of a file: ``"a b"`` or ``["a", "b"]``."""
    for index, entry in enumerate(listed):
        parts = entry.split(" ") if isinstance(entry, str) else entry
        if not (
            isinstance(parts, list) and len(parts) == 2 and all(isinstance(p, str) for p in parts)
        ):
            raise ValueError(f"{where} {index} is no pair of tokens: {reprlib.repr(entry)}")
        yield parts[0], parts[1]


def _pattern(setting: Checked) -> tuple[str, bool]:
    """The name of the pattern that a ``pre_tokenizer`` means, and whether it adds a space."""
    steps = [setting]
    if setting.get("type") == "Sequence":
        listed = setting["pretokenizers"].of(list)
        steps = [Checked(s, f"{setting.where}[{i}]") for i, s in enumerate(listed)]
    if not 1 <= len(steps) <= 2:
        setting.fail(f"has {len(steps)} steps; supported are ByteLevel alone, or after one other")
    level, prefix = steps[-1], False
    if level.get("type") != "ByteLevel":
        level.fail(f"is {reprlib.repr(level.get('type'))}; only byte-level BPE is supported")
    for key in ("add_prefix_space", "use_regex"):
        level.only(key, (None, False, True))
    prefix, regex = level.get("add_prefix_space", True), level.get("use_regex", True)
    if len(steps) == 1 and regex:
        return "gpt2", prefix
    if len(steps) == 2:
        first = steps[0]
        kind = first.get("type")
        if kind == "Digits" and regex:
            first.only("individual_digits", (None, False, True))
            return "digit" if first.get("individual_digits", False) else "digits", prefix
        if kind == "Split" and not regex:
            first.only("behavior", ("Isolated",))
            first.only("invert", (None, False))
            spelled = first["pattern"]["Regex"].of(str)
            for name, known in PUBLISHED.items():
                if spelled == known:
                    return name, prefix
            first.fail(f"has a pattern that is not known here: {reprlib.repr(spelled)}")
    return setting.fail("is a combination that is not known here")
