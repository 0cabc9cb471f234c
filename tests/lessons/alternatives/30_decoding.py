"""Further right solutions of lesson 30, written in other ways."""

import heapq
import math

import numpy as np


def top_p__one_after_the_other(logits, p):
    weight = [math.exp(x - max(logits)) for x in logits]
    total = sum(weight)
    kept, left = [0.0] * len(weight), set(range(len(weight)))
    while left and sum(kept) / total < p:
        best = max(left, key=lambda i: weight[i])
        left.discard(best)
        kept[best] = weight[best]
    return np.array(kept) / sum(kept)


def top_p__by_a_threshold(logits, p):
    """The least probability that stays, found by counting what lies above each token."""
    e = np.exp(logits - logits.max())
    probs = e / e.sum()
    above = (probs[None, :] > probs[:, None]) @ probs  # [V], the mass of all likelier tokens
    kept = np.where(above < p, probs, 0)
    return kept / np.sum(kept)


def top_p__search_the_running_sum(logits, p):
    rising = np.sort(logits)
    tail = np.exp(rising - rising[-1]).cumsum()
    tail = tail / tail[-1]  # what a token and all below it have together
    out = np.searchsorted(tail, 1 - p, side="right") if p < 1 else 0
    least = rising[min(out, len(rising) - 1)]
    z = np.where(logits >= least, logits, -np.inf)
    e = np.exp(z - z.max())
    return e / e.sum()


def beam_step__a_heap(scores, log_p, beams):
    total = [(s + x, i, v) for i, s in enumerate(scores) for v, x in enumerate(log_p[i])]
    best = heapq.nlargest(beams, total)
    return tuple(np.array(column) for column in zip(*[(i, v, s) for s, i, v in best], strict=True))


def beam_step__one_at_a_time(scores, log_p, beams):
    total = log_p + scores.reshape(-1, 1)
    found = []
    for _ in range(beams):
        i, v = np.unravel_index(total.argmax(), total.shape)
        found.append((i, v, total[i, v]))
        total[i, v] = -np.inf
    parents, tokens, new = zip(*found, strict=True)
    return np.array(parents), np.array(tokens), np.array(new)


def attend_with_cache__head_by_head(q, k, v, past_k, past_v):
    y, keys, values = [], [], []
    for h in range(len(q)):
        K, V = np.vstack([past_k[h], k[h]]), np.vstack([past_v[h], v[h]])
        s = [sum(a * b for a, b in zip(q[h], row, strict=True)) / len(q[h]) ** 0.5 for row in K]
        w = [math.exp(each - max(s)) for each in s]
        y.append(sum(a * row for a, row in zip(w, V, strict=True)) / sum(w))
        keys.append(K)
        values.append(V)
    return np.array(y), np.array(keys), np.array(values)


def attend_with_cache__running(q, k, v, past_k, past_v):
    """The online softmax of lesson 28: one key after another, beginning with the new one."""
    H, M, d = past_k.shape
    top = (q * k).sum(-1) / math.sqrt(d)  # [H]
    total, y = np.ones(H), v.copy()
    for m in range(M):
        s = (q * past_k[:, m]).sum(-1) / math.sqrt(d)
        high = np.maximum(top, s)
        shrink, own = np.exp(top - high), np.exp(s - high)
        y = y * shrink[:, None] + own[:, None] * past_v[:, m]
        total, top = total * shrink + own, high
    keys, values = np.empty((H, M + 1, d)), np.empty((H, M + 1, v.shape[-1]))
    keys[:, :M], keys[:, M] = past_k, k
    values[:, :M], values[:, M] = past_v, v
    return y / total[:, None], keys, values
