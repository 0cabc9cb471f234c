"""Exercise 14: skip-gram with negative sampling, an op with (out, vjp)."""

import numpy as np


def skipgram_loss(center, context, negatives):
    """L = mean over b of  -ln σ(v_b · u_b) - sum over k of ln σ(-v_b · u_bk).

    center:    v, [B, d], the word in the middle of each pair
    context:   u, [B, d], a word that stands near it
    negatives: u_1 ... u_K, [B, K, d], words drawn as noise; K may be 0
    σ(s):      1 / (1 + exp(-s))

    Products may be as large as 1000: no overflow, no infinity.

    Returns (loss, vjp). vjp(dloss), dloss a number, returns (dcenter, dcontext, dnegatives), each
    of the shape of its input.
    """
    raise NotImplementedError
