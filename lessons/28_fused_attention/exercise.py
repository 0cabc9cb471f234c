"""Exercise 28: the softmax in one pass, and attention that never holds all its scores."""

import math

import numpy as np


def online_softmax(m, l, x):
    """The softmax's maximum and sum of each row, when one more block of scores has been seen.

    m: [...], the largest score of each row so far; -inf if there was none
    l: [...], the sum of exp(score - m) over the scores so far; 0 if there was none
    x: [..., b], the next b scores of each row; some or all of them may be -inf (hidden)

    Returns (m, l), new arrays of shape [...], for the scores so far and those of x together.
    A row that has seen nothing but -inf keeps m = -inf and l = 0.
    """
    raise NotImplementedError


def flash_forward(q, k, v, *, block, causal=False):
    """softmax(q kᵀ / √d) v, tile by tile.

    q: [..., N, d]   k: [..., M, d]   v: [..., M, e]
    block: the rows of q, and of k and v, in one tile; N and M need not be multiples of it
    causal: the last query stands at the last key, so query i sees the keys j <= i + (M - N)

    No array may have room for N x M scores: at most block x block (or N x block) at once, for
    each batch and head.

    Returns (out, lse): out [..., N, e]; lse [..., N], the logarithm (base e) of the sum of
    exp(score) over the keys that the query sees.
    A query that sees no key has out = 0 and lse = -inf.
    """
    raise NotImplementedError
