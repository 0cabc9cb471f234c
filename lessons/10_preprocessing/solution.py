"""Solution 10: words in a text without blanks."""

import math


def segment(text, counts):
    """The words of the most probable path.  text of n characters, counts: word -> number."""
    n = len(text)
    total = sum(counts.values())
    best = [0.0] * (n + 1)  # [n + 1], ln of the best product from here to the end
    step = [0] * n  # [n], where the first word of that best way ends
    for i in reversed(range(n)):
        ends = [j for j in range(i + 1, n + 1) if text[i:j] in counts] or [i + 1]
        scores = [math.log(counts.get(text[i:j], 1) / total) + best[j] for j in ends]
        best[i] = max(scores)
        step[i] = ends[scores.index(best[i])]
    words, i = [], 0
    while i < n:  # the backward pass: along the steps that were the maximum
        words.append(text[i : step[i]])
        i = step[i]
    return words
