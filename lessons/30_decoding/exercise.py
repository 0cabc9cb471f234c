"""Exercise 30: how a language model writes. Plain functions: nothing here has a gradient."""

import numpy as np


def top_p(logits, p):
    """The probabilities that nucleus sampling draws from.

    logits: [V], the scores of one position, no two of them equal
    p: 0 < p <= 1

    Of softmax(logits), keep the likeliest tokens: as few as have p or more together. All others get
    0, and what is left is divided by its sum.

    Returns [V], in the order of logits.
    """
    raise NotImplementedError


def beam_step(scores, log_p, beams):
    """One step of beam search: the best continuations of all beginnings.

    scores: [K], ln of the probability of each of K beginnings
    log_p: [K, V], ln p(next token | that beginning)
    beams: how many to keep, at most K V

    A continuation is a beginning and a token; its score is the sum of both logarithms, no two of
    which are equal. Any number of those kept may come from one beginning.

    Returns (parents, tokens, scores), [beams] each, the best first: which beginning each goes on
    from, by which token, and its score.
    """
    raise NotImplementedError


def attend_with_cache(q, k, v, past_k, past_v):
    """Attention of one new token to itself and to all before it, whose keys and values are kept.

    q, k: [H, d], v: [H, e], the new token's, for each of H heads
    past_k: [H, M, d], past_v: [H, M, e], those of the M tokens before it, M = 0 or more

    y = softmax(q Kᵀ / sqrt(d)) V for each head, K and V being all M + 1 keys and values.

    Returns (y, keys, values): y is [H, e], keys [H, M + 1, d], values [H, M + 1, e], the new ones
    at the end.
    """
    raise NotImplementedError
