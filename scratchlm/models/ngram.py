"""n-gram language models: what comes next, judged by the last n − 1 tokens, by counting.

Three estimates, and one form for all of them. With ``h`` for the context and ``h'`` for the context
without its first token,

    ``p(w | h) = share(h w) + rest(h) · p(w | h')``

down to no context at all, and below that ``p(w) = 1 / V``. The shares are what the counts of
``h w`` earn, the rest is what they leave for the shorter context; a context that was never seen
leaves all.

The counts are sorted arrays. An n-gram is known by its place among the n-grams of its order, and
its key is ``place of its first n − 1 tokens · V + last token``. So a key is below tokens · V for
any n, all tokens that follow one context are neighbours, and a whole text is looked up by ``n``
binary searches of arrays.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..backend import check_ids
from ..metrics.language_model import perplexity

SMOOTHINGS = ("kneser-ney", "add-k", "mle")
FALLBACK = (0.5, 1.0, 1.5)  # discounts where counts cannot tell them


class _Order(NamedTuple):
    """The n-grams of one length. Both numbers have one entry more, for what was never seen, where
    the place -1 finds it.
    """

    keys: np.ndarray  # [grams], rising
    share: np.ndarray  # [grams + 1]
    rest: np.ndarray  # [contexts + 1]


class NGram:
    """An n-gram model, counted on ``ids``.

    ==============  ===============================================================================
    smoothing       ``p(w | h)``, with ``c(h) = Σ_v c(h v)``
    ==============  ===============================================================================
    ``mle``         ``c(h w) / c(h)``: relative frequencies; what was never seen has 0. After an
                    unseen context, that of the longest end of it that was seen.
    ``add-k``       ``(c(h w) + k) / (c(h) + k V)`` of the full context alone
    ``kneser-ney``  ``(c(h w) − D) / c(h) + D · N(h) / c(h) · p(w | h')``, interpolated, where
                    ``N(h)`` is the number of different tokens after ``h``. Below the full length
                    ``c`` counts *different tokens before* ``h w``, not occurrences. At the bottom
                    stands ``1 / V``.
    ==============  ===============================================================================

    Args:
        ids: the training text, shape ``(T,)``, integers in ``[0, vocab_size)``, ``T >= n``.
        n: the length of the n-grams, 1 or more: ``n - 1`` tokens of context.
        vocab_size: ``V``; every estimate but ``mle`` has a probability for all of them.
        smoothing: ``"kneser-ney"``, ``"add-k"`` or ``"mle"``.
        k: of ``add-k``, positive; 0.1 if not given.
        discount: of ``kneser-ney``: a number in (0, 1] for all lengths; ``None`` for
            ``D = n₁ / (n₁ + 2 n₂)`` of each length, with ``n_j`` n-grams counted ``j`` times; or
            ``"modified"`` for three of them, for counts of 1, 2, and 3 or more. Where too few
            n-grams are there to estimate them, they are 0.5, 1 and 1.5.

    Raises:
        TypeError: ids that are not integers.
        ValueError: ``n``, ``vocab_size``, ``k`` or ``discount`` out of range, an option of another
            smoothing, ids that are not 1-D, or fewer than ``n``.
        IndexError: an id outside the vocabulary.

    Source: Chen & Goodman 1998, §1 (relative frequencies), §2.1 (add-k), §2.7 (Kneser–Ney), §3
    (interpolated, and with three discounts), after Kneser & Ney 1995. The discounts that stand in
    where there is nothing to estimate from are those of KenLM's ``lmplz --discount_fallback``.
    """

    def __init__(
        self,
        ids: np.ndarray | Sequence[int],
        n: int,
        vocab_size: int,
        *,
        smoothing: str = "kneser-ney",
        k: float | None = None,
        discount: float | str | None = None,
    ) -> None:
        self.n, self.vocab_size = operator.index(n), operator.index(vocab_size)
        if self.n < 1:
            raise ValueError(f"NGram: n={n} must be 1 or more; n=1 counts single tokens")
        if self.vocab_size < 1:
            raise ValueError(f"NGram: vocab_size={vocab_size} must be 1 or more")
        if smoothing not in SMOOTHINGS:
            raise ValueError(f"NGram: smoothing={smoothing!r} is none of {', '.join(SMOOTHINGS)}")
        for name, value, owner in (("k", k, "add-k"), ("discount", discount, "kneser-ney")):
            if value is not None and smoothing != owner:
                raise ValueError(f"NGram: {name} belongs to {owner}, not to {smoothing}")
        if k is not None and not 0 < k < np.inf:
            raise ValueError(f"NGram: k={k} must be positive; without any, smoothing='mle'")
        if isinstance(discount, str) and discount != "modified":
            raise ValueError(f"NGram: discount={discount!r} must be a number, 'modified' or None")
        if isinstance(discount, (int, float)) and not 0 < discount <= 1:
            raise ValueError(f"NGram: discount={discount} must be above 0 and at most 1")
        self.smoothing, self.k = smoothing, 0.1 if k is None else float(k)
        self.discounts: list[tuple[float, ...]] = []  # of each length; empty but for kneser-ney

        text = self._text(ids, self.n)
        self._orders: list[_Order] = []
        contexts = 1  # the empty one
        for keys, counts in self._count(text, continuations=smoothing == "kneser-ney"):
            share, rest = self._estimate(counts, keys // self.vocab_size, contexts, discount)
            self._orders.append(_Order(keys, np.append(share, 0.0), np.append(rest, 1.0)))
            contexts = len(keys)

    def __repr__(self) -> str:
        return (
            f"NGram(n={self.n}, vocab_size={self.vocab_size}, smoothing={self.smoothing!r}: "
            f"{', '.join(map(str, self.sizes))} different n-grams)"
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many different n-grams of each length, from 1 to ``n``, the text has."""
        return tuple(len(order.keys) for order in self._orders)

    # ------------------------------------------------------------ counting

    def _count(
        self, text: np.ndarray, continuations: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The keys of each length, and the count of each key."""
        keys = counts = np.zeros(0, np.int64)
        place = np.zeros(len(text), np.int64)  # of the n-gram at each position: all empty so far
        for m in range(1, self.n + 1):
            at = place[: len(text) - m + 1] * self.vocab_size + text[m - 1 :]
            longer, first, longer_place, longer_counts = np.unique(
                at, return_index=True, return_inverse=True, return_counts=True
            )
            if m > 1:
                if continuations:
                    # of each longer n-gram, the end without its first token: one position further
                    counts = np.bincount(place[first + 1], minlength=len(keys))
                yield keys, counts.astype(float)
            keys, counts, place = longer, longer_counts, longer_place
        yield keys, counts.astype(float)

    def _estimate(
        self,
        count: np.ndarray,
        prefix: np.ndarray,
        contexts: int,
        discount: float | str | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The share of each n-gram of one length, and the rest of each context."""
        total = np.bincount(prefix, weights=count, minlength=contexts)  # [contexts]
        if self.smoothing == "add-k":
            added = self.k * self.vocab_size
            return count / (total + added)[prefix], added / (total + added)
        taken = np.zeros_like(count)
        if self.smoothing == "kneser-ney":
            self.discounts.append(_discounts(count, discount))
            steps = np.array([0.0, *self.discounts[-1]])
            taken = steps[np.minimum(count, len(steps) - 1).astype(np.int64)]
        reserved = np.bincount(prefix, weights=taken, minlength=contexts)
        divisor = np.maximum(total, 1)  # nothing counted after it: no share, and all is left
        return (count - taken) / divisor[prefix], np.where(total > 0, reserved / divisor, 1.0)

    # ------------------------------------------------------------ using

    def token_losses(self, ids: np.ndarray | Sequence[int]) -> np.ndarray:
        """``−ln p(ids[t] | ids[t−n+1], …, ids[t−1])`` for ``t = n−1, …, T−1``: ``(T − n + 1,)``.

        ``inf`` where the model thinks it impossible, which only ``mle`` does. The first ``n − 1``
        tokens are read as context only.

        Raises:
            TypeError, ValueError, IndexError: as the training text.
        """
        text = self._text(ids, self.n)
        T, n = len(text), self.n
        places = list(self._places(text))
        p = np.full(T - n + 1, 1 / self.vocab_size)
        for m in self._used(n):
            order = self._orders[m - 1]
            rest = order.rest[places[m - 1][n - m : T - m + 1]]
            p = order.share[places[m][n - m :]] + rest * p
        with np.errstate(divide="ignore"):
            return -np.log(p)

    def loss(self, ids: np.ndarray | Sequence[int]) -> float:
        """The mean of :meth:`token_losses`: nats per token."""
        return float(self.token_losses(ids).mean())

    def perplexity(self, ids: np.ndarray | Sequence[int]) -> float:
        """``exp(loss)``: among how many equally likely tokens the model wavers."""
        return perplexity(self.loss(ids))

    def next_token_probabilities(self, context: np.ndarray | Sequence[int] = ()) -> np.ndarray:
        """The probability of each token after ``context``, of which the last ``n − 1`` count.

        A context of fewer tokens is judged by the n-grams that are as much shorter, as they stand
        in the formula.

        Returns:
            shape ``(vocab_size,)``, float64, of sum 1.
        """
        V = self.vocab_size
        text = self._text(context, 0)
        text = text[max(len(text) - self.n + 1, 0) :]
        known = list(self._places(text))
        p = np.full(V, 1 / V)
        for m in self._used(len(text) + 1):
            order, place = self._orders[m - 1], known[m - 1][-1]  # of the last m - 1 tokens
            p *= order.rest[place]
            low, high = np.searchsorted(order.keys, [place * V, place * V + V])
            p[order.keys[low:high] - place * V] += order.share[low:high]
        return p

    def sample(
        self,
        length: int,
        *,
        rng: np.random.Generator | int,
        context: np.ndarray | Sequence[int] = (),
    ) -> np.ndarray:
        """``length`` tokens, each drawn given those before it, ``context`` first: ``(length,)``."""
        if length < 0:
            raise ValueError(f"NGram.sample: length={length} must not be negative")
        rng = np.random.default_rng(rng)
        written = self._text(context, 0).tolist()
        read = len(written)
        for _ in range(length):
            ends = self.next_token_probabilities(written[max(len(written) - self.n + 1, 0) :])
            ends = ends.cumsum()
            written.append(int(np.searchsorted(ends, rng.random() * ends[-1], side="right")))
        return np.array(written[read:], np.int64)

    def _used(self, longest: int) -> range:
        """The lengths that are interpolated: add-k knows the longest alone."""
        return range(longest if self.smoothing == "add-k" else 1, longest + 1)

    def _places(self, text: np.ndarray) -> Iterator[np.ndarray]:
        """For each length ``m`` from 0 on, the place of the n-gram at each position, or -1."""
        place = np.zeros(len(text) + 1, np.int64)
        yield place
        for m, (keys, _, _) in enumerate(self._orders[: len(text)], 1):
            key = place[: len(text) - m + 1] * self.vocab_size + text[m - 1 :]  # < 0 after a -1
            place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
            place = np.where(keys[place] == key, place, -1)
            yield place

    def _text(self, ids: np.ndarray | Sequence[int], least: int) -> np.ndarray:
        text = np.asarray(ids)
        if text.ndim != 1:
            raise ValueError(f"NGram: ids must be 1-D, one text, got shape {text.shape}")
        if len(text) < least:
            raise ValueError(
                f"NGram: {len(text)} ids are fewer than n={self.n}, so no n-gram is in them; "
                "give a longer text or a smaller n"
            )
        if len(text):
            check_ids(text, self.vocab_size, what="NGram")
        return text.astype(np.int64)


def bigram_loss(
    train: np.ndarray, ids: np.ndarray, vocab_size: int, *, smoothing: float = 0.1
) -> float:
    """The mean loss in nats on ``ids`` of the bigram model counted on ``train``.

    ``P(b | a) = (count(a b) + s) / (count(a ·) + s |V|)``: what comes next, judged by the last
    token alone. A model that does no better has learned nothing from its context.

    Source: Jurafsky & Martin, Speech and Language Processing, 3rd ed., §3.1 and §3.6.
    """
    if not smoothing > 0:
        raise ValueError(
            f"bigram_loss: smoothing={smoothing} must be positive, or an unseen pair costs infinity"
        )
    return NGram(train, 2, vocab_size, smoothing="add-k", k=smoothing).loss(ids)


def _discounts(count: np.ndarray, discount: float | str | None) -> tuple[float, ...]:
    """What is taken from a count of 1, of 2, … ; the last one from all larger counts too.

    Source: Chen & Goodman 1998, §3 (three discounts); Ney, Essen & Kneser 1994 (one).
    """
    if isinstance(discount, (int, float)):
        return (float(discount),)
    n1, n2, n3, n4 = (float(np.count_nonzero(count == j)) for j in (1, 2, 3, 4))
    if discount is None:
        return (n1 / (n1 + 2 * n2),) if n1 and n2 else FALLBACK[:1]
    if not (n1 and n2 and n3 and n4):
        return FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 <= d <= j for j, d in enumerate(found, 1)) else FALLBACK
