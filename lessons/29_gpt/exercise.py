"""Exercise 29: what a language model is trained by, and how it writes."""

import numpy as np


def next_token_loss(logits, ids):
    """The mean of -ln p(the next token), over all positions that have a next token.

    logits: [B, T, V], the model's scores at every position of B texts
    ids: [B, T], integers, the very texts that the model has read; T is 2 or more

    Returns (loss, vjp): loss is one number; vjp(dy) -> (dlogits, None), where dlogits has the
    shape of logits. The None says that ids have no gradient.
    float32 in, float32 out.
    """
    raise NotImplementedError


def sample(logits, u, *, temperature=1.0, top_k=None):
    """The id that the random number u picks, with p = softmax(logits / temperature).

    logits: [V], the scores of one position, no two of them equal
    u: a number, 0 <= u < 1
    temperature: above 0
    top_k: if it is given, only the top_k largest logits have a chance

    Lay the probabilities end to end from 0 to 1, id 0 first; return the id (an int) of the piece
    that u falls into. A piece begins where the one before it ends, and its end belongs to the next.
    """
    raise NotImplementedError
