"""Solution 30: how a language model writes."""

import numpy as np


def top_p(logits, p):
    """The fewest likeliest tokens that have p or more together, as probabilities.  [V] -> [V]."""
    e = np.exp(logits - logits.max())  # [V]
    probs = e / e.sum()  # [V]
    order = np.argsort(-probs)  # [V], the likeliest first
    sorted_probs = probs[order]
    before = np.cumsum(sorted_probs) - sorted_probs  # what those in front of it have together
    nucleus = order[before < p]  # in it comes, as long as p is not reached without it
    kept = np.zeros_like(probs)
    kept[nucleus] = probs[nucleus]  # back in the order of the vocabulary
    return kept / kept.sum()


def beam_step(scores, log_p, beams):
    """The best continuations.  scores [K], log_p [K, V] -> parents, tokens, scores, [beams]."""
    total = scores[:, None] + log_p  # [K, 1] + [K, V] -> [K, V]
    best = np.argsort(-total.ravel())[:beams]  # [beams], among all K V at once
    parents, tokens = np.divmod(best, total.shape[1])  # place i V + v is beginning i, token v
    return parents, tokens, total.ravel()[best]


def attend_with_cache(q, k, v, past_k, past_v):
    """One query beside all keys so far.  q, k [H, d], v [H, e] -> y [H, e], keys, values."""
    keys = np.concatenate([past_k, k[:, None]], axis=1)  # [H, M, d] and [H, 1, d]
    values = np.concatenate([past_v, v[:, None]], axis=1)  # [H, M + 1, e]
    s = np.einsum("hd,hmd->hm", q, keys) / np.sqrt(q.shape[-1])  # [H, M + 1]
    w = np.exp(s - s.max(axis=-1, keepdims=True))
    w = w / w.sum(axis=-1, keepdims=True)  # no mask: there is nothing later to hide
    return np.einsum("hm,hme->he", w, values), keys, values
