"""Other right solutions of lesson 12."""

from collections import Counter, defaultdict

import numpy as np


def mle__dictionary(ids, context, vocab_size):
    table = defaultdict(Counter)
    text = ids.tolist()
    for t, w in enumerate(text):
        for m in range(min(t, len(context)) + 1):
            table[tuple(text[t - m : t])][w] += 1
    h = tuple(context.tolist())
    while h not in table:
        h = h[1:]
    total = sum(table[h].values())
    return np.array([table[h][w] / total for w in range(vocab_size)])


def mle__masks(ids, context, vocab_size):
    """Which positions continue the context, one token of it after the other."""
    best = np.ones(len(ids), bool)
    for back in range(1, len(context) + 1):
        shifted = np.full(len(ids), -1)
        shifted[back:] = ids[: len(ids) - back]
        longer = best & (shifted == context[len(context) - back])
        if not longer.any():
            break
        best = longer
    onehot = ids[best][:, None] == np.arange(vocab_size)
    return onehot.mean(axis=0)


def kneser_ney__recursion(ids, context, vocab_size, *, discount=0.75):
    text = tuple(ids.tolist())

    def count(h, w, full):
        gram = (*h, w)
        at = [t for t in range(len(text) - len(gram) + 1) if text[t : t + len(gram)] == gram]
        return len(at) if full else len({text[t - 1] for t in at if t})

    def p(h, w, full):
        below = p(h[1:], w, False) if h else 1 / vocab_size
        counts = [count(h, v, full) for v in range(vocab_size)]
        if not any(counts):
            return below
        kinds = sum(c > 0 for c in counts)
        return (max(counts[w] - discount, 0) + discount * kinds * below) / sum(counts)

    return np.array([p(tuple(context.tolist()), w, True) for w in range(vocab_size)])


def kneser_ney__table(ids, context, vocab_size, *, discount=0.75):
    """All counts first, in dictionaries of whole n-grams; one pass for each length."""
    text, m = ids.tolist(), len(context)
    counts = [Counter() for _ in range(m + 1)]
    counts[m].update(tuple(text[t - m : t + 1]) for t in range(m, len(text)))
    for size in range(m):
        longer = {tuple(text[t - size - 1 : t + 1]) for t in range(size + 1, len(text))}
        counts[size].update(gram[1:] for gram in longer)
    probabilities = np.ones(vocab_size) / vocab_size
    for size in range(m + 1):
        h = tuple(context[m - size :].tolist())
        of_h = {gram[-1]: c for gram, c in counts[size].items() if gram[:-1] == h}
        total = sum(of_h.values())
        if total:
            probabilities *= len(of_h) * discount / total
            for w, c in of_h.items():
                probabilities[w] += (c - discount) / total
    return probabilities
