"""Other right ways: with a table of counts in NumPy, with text and its separators, rank by rank."""

from collections import defaultdict
from itertools import pairwise

import numpy as np


def bpe_merge__arrays(words, counts, new):
    """All words in one array, -1 between them; equal pairs of the array are counted by sorting."""
    flat = np.array([i for ids in words for i in [*ids, -1]], dtype=np.int64)
    weight = np.repeat(np.array(counts, dtype=np.int64), [len(ids) + 1 for ids in words])
    inside = (flat[:-1] >= 0) & (flat[1:] >= 0)
    if not inside.any():
        return None, words
    pairs = np.stack([flat[:-1], flat[1:]], axis=1)[inside]
    kinds, which = np.unique(pairs, axis=0, return_inverse=True)  # in rising order
    total = np.bincount(which.reshape(-1), weights=weight[:-1][inside])
    a, b = kinds[total.argmax()].tolist()  # the first of the largest
    out = []
    for ids in words:
        done = []
        for i in ids:
            # the last one is free to be merged unless it is new itself
            if done and done[-1] == a and i == b:
                done[-1] = new
            else:
                done.append(i)
        out.append(done)
    return (a, b), out


def bpe_merge__places(words, counts, new):
    """Where each pair stands is noted; only there the words are changed."""
    places = defaultdict(list)
    for k, ids in enumerate(words):
        for i, pair in enumerate(pairwise(ids)):
            places[pair].append((k, i))
    if not places:
        return None, words
    value = {pair: sum(counts[k] for k, _ in where) for pair, where in places.items()}
    top = max(value.values())
    best = sorted(pair for pair in value if value[pair] == top)[0]
    out = [list(ids) for ids in words]
    for k, i in places[best]:
        if tuple(out[k][i : i + 2]) == best:  # else its first id was taken by the place before
            out[k][i : i + 2] = [new, None]
    return best, [[i for i in ids if i is not None] for ids in out]


def bpe_encode__rank_by_rank(ids, merges):
    """Each merge in its turn, whether it is there or not: as Sennrich's own program begins."""
    ids = list(ids)
    for a, b, new in merges:
        done = []
        for i in ids:
            if done and done[-1] == a and i == b:
                done[-1] = new
            else:
                done.append(i)
        ids = done
    return ids


def bpe_encode__recursive(ids, merges):
    """Split at the places of the first-learned pair; what lies between them is shorter."""
    order = {merge[:2]: merge for merge in reversed([tuple(merge) for merge in merges])}
    ranks = {merge[:2]: k for k, merge in enumerate(map(tuple, merges))}
    here = sorted(set(pairwise(ids)) & set(order), key=ranks.__getitem__)
    if not here:
        return list(ids)
    a, b, new = order[here[0]]
    out = []
    i = 0
    while i < len(ids):
        hit = ids[i] == a and i + 1 < len(ids) and ids[i + 1] == b
        out.append(new if hit else ids[i])
        i += 1 + hit
    return bpe_encode__recursive(out, merges)
