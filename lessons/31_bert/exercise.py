"""Exercise 31: what BERT reads, and what it is asked."""

import numpy as np


def mask_tokens(ids, lots, fate, other, *, mask_id, special, share=0.15):
    """Hide some tokens of each text: 80 % become [MASK], 10 % another word, 10 % stay.

    ids: [B, T], integers, B texts
    lots: [B, T], random numbers from 0 to 1: in each text the smallest lots are chosen
    fate: [B, T], random numbers from 0 to 1: what becomes of a token if it is chosen
    other: [B, T], integers: the other word that a token becomes, if it is to become one
    mask_id: an integer, the id of [MASK]
    special: a list of ids that are never chosen: [PAD], [CLS], [SEP], [MASK]
    share: of the ordinary tokens, which are those that are not special

    Of the n ordinary tokens of a text, share n are chosen: rounded to a whole number, but at least
    1, and at most n. A chosen token becomes mask_id where fate < 0.8, the other word where
    0.8 <= fate < 0.9, and stays what it is elsewhere.

    Returns (inputs, targets), both [B, T]: what the model reads, and the ids that it is asked for:
    those that stood at the chosen places, -100 everywhere else. ids itself is not changed.
    """
    raise NotImplementedError


def masked_lm_loss(h, table, bias, targets):
    """The mean of -ln p(the hidden token), over all places that are asked.

    h: [B, T, C], the encoder's vectors
    table: [V, C], a vector for each token; bias: [V]
    targets: [B, T], integers; -100 where nothing is asked

    The logits of a place are z = table h + bias, [V], and p = softmax(z). If no place is asked, the
    loss is 0, and so are its gradients.

    Returns (loss, vjp): loss is one number; vjp(dy) -> (dh, dtable, dbias, None), with the shapes
    of h, table and bias. The None says that targets have no gradient.
    float32 in, float32 out.
    """
    raise NotImplementedError
