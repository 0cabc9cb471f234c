"""Solution 11: byte-pair encoding."""

from collections import Counter
from itertools import pairwise


def merged(ids, pair, new):
    """The ids with every pair replaced, from the left.  [n] -> [n - places]."""
    out, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            out.append(new)
            i += 2  # the second of the pair is used up
        else:
            out.append(ids[i])
            i += 1
    return out


def bpe_merge(words, counts, new):
    """The most frequent pair, and the words with it merged.  words: lists of ids, counts [K]."""
    pairs = Counter()
    for ids, count in zip(words, counts, strict=True):
        for pair in pairwise(ids):
            pairs[pair] += count  # each place counts, as often as the word occurs
    if not pairs:
        return None, words
    best = min(pairs, key=lambda pair: (-pairs[pair], pair))  # of equal ones the smallest
    return best, [merged(ids, best, new) for ids in words]


def bpe_encode(ids, merges):
    """The tokens of one word.  ids: list; merges: (a, b, new), first learned first."""
    rank = {(a, b): k for k, (a, b, new) in enumerate(merges)}
    ids = list(ids)
    while True:
        known = [pair for pair in pairwise(ids) if pair in rank]
        if not known:
            return ids
        first = min(known, key=rank.get)  # the one that was learned first, not the leftmost
        ids = merged(ids, first, merges[rank[first]][2])
