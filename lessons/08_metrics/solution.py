"""Solution 08: F1, perplexity, BLEU."""

import math
from collections import Counter

import numpy as np


def f1(y_true, y_pred, *, average="binary"):
    """F1 = 2 P R / (P + R) = 2 hits / (called so + truly so).  y_true, y_pred [n], integers."""
    classes = [1] if average == "binary" else np.union1d(y_true, y_pred)  # [K]
    hits = np.array([np.sum((y_true == k) & (y_pred == k)) for k in classes])  # [K]
    called = np.array([np.sum(y_pred == k) for k in classes])  # [K]
    there = np.array([np.sum(y_true == k) for k in classes])  # [K]
    if average == "micro":
        hits, called, there = hits.sum(), called.sum(), there.sum()  # counts first, then F1
    # where nothing was called so and nothing is there: 0 / 1
    each = 2 * hits / np.maximum(called + there, 1)  # [K], or one number
    return float(np.mean(each))


def perplexity(logits, targets, *, ignore_index=-100):
    """exp(mean of -ln softmax(logits)[target]).  logits [..., V], targets [...]."""
    counts = targets != ignore_index  # [...]
    x, t = logits[counts], targets[counts]  # [n, V], [n]: all texts in one row
    z = x - x.max(axis=-1, keepdims=True)  # [n, V], exp stays at 1 or below
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))  # [n, V]
    loss = -log_p[np.arange(len(t)), t].mean()  # nats: the logarithm is natural, and so is exp
    return float(np.exp(loss))


def ngrams(tokens, n):
    """How often each sequence of n tokens occurs. Given; use it or leave it."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def bleu(hypotheses, references, *, max_order=4):
    """100 BP exp(mean of ln p_n).  hypotheses: token lists; references: a list of them for each."""
    hits, totals = np.zeros(max_order), np.zeros(max_order)  # by order, over the whole corpus
    c = r = 0
    for hypothesis, group in zip(hypotheses, references, strict=True):
        c += len(hypothesis)
        r += min((abs(len(g) - len(hypothesis)), len(g)) for g in group)[1]  # nearest, then shorter
        for n in range(1, max_order + 1):
            for gram, times in ngrams(hypothesis, n).items():
                most = max(ngrams(g, n)[gram] for g in group)  # in the one that has it most
                hits[n - 1] += min(times, most)  # clipped
                totals[n - 1] += times
    if hits.min() == 0:  # ln 0: one factor of the geometric mean is 0
        return 0.0
    penalty = min(1.0, math.exp(1 - r / c))
    return float(100 * penalty * np.exp(np.log(hits / totals).mean()))
