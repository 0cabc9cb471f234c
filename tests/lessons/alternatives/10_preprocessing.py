"""Other right ways to find the best path: forward, by memory, by powers of a matrix."""

import math
from functools import cache

import numpy as np


def _edges(text, counts):
    total = sum(counts.values())
    for i in range(len(text)):
        ends = [j for j in range(i + 1, len(text) + 1) if text[i:j] in counts]
        for j in ends or [i + 1]:
            yield i, j, math.log(counts.get(text[i:j], 1)) - math.log(total)


def segment__forward(text, counts):
    best = np.full(len(text) + 1, -np.inf)
    best[0] = 0
    came = [0] * (len(text) + 1)
    for i, j, score in _edges(text, counts):  # places in rising order: best[i] is final
        if best[i] + score > best[j]:
            best[j], came[j] = best[i] + score, i
    words, j = [], len(text)
    while j:
        words.insert(0, text[came[j] : j])
        j = came[j]
    return words


def segment__memory(text, counts):
    following = {}
    for i, j, score in _edges(text, counts):
        following.setdefault(i, []).append((j, -score))

    @cache
    def cost(i):
        if i == len(text):
            return 0.0, None
        return min((price + cost(j)[0], j) for j, price in following[i])

    for i in range(len(text), -1, -50):  # not too deep at once
        cost(max(i, 0))
    words, i = [], 0
    while i < len(text):
        j = cost(i)[1]
        words.append(text[i:j])
        i = j
    return words


def segment__relaxation(text, counts):
    """Bellman & Ford: improve all edges at once until nothing changes."""
    if not text:
        return []
    i, j, score = (np.array(column) for column in zip(*_edges(text, counts), strict=True))
    best = np.full(len(text) + 1, -np.inf)
    best[-1] = 0
    while True:
        new = best.copy()
        np.maximum.at(new, i, score + best[j])
        if (new == best).all():
            break
        best = new
    words, place = [], 0
    while place < len(text):
        here = np.flatnonzero(i == place)
        stop = int(j[here[np.argmax(score[here] + best[j[here]])]])
        words.append(text[place:stop])
        place = stop
    return words
