"""Exercise 08: F1, perplexity, BLEU. Plain functions: nothing here has a gradient to return."""

import math
from collections import Counter

import numpy as np


def f1(y_true, y_pred, *, average="binary"):
    """F1 = 2 P R / (P + R), with P = hits / called so, R = hits / truly so.

    y_true, y_pred: [n], the true and the predicted class of each sample, integers
    average:
      "binary"  the F1 of class 1
      "macro"   the mean of the F1 of each class that occurs in y_true or in y_pred
      "micro"   one F1, from the counts of all these classes added up

    Returns a number from 0 to 1. A class without a hit has an F1 of 0, also where P or R is 0/0.
    """
    raise NotImplementedError


def perplexity(logits, targets, *, ignore_index=-100):
    """exp(mean of -ln p(target)), p = softmax(logits) over the last axis.

    logits:  [..., V]
    targets: [...], integers; where it is ignore_index (padding) the position does not count

    Returns one number, 1 at best; inf where it is too large for a float.
    """
    raise NotImplementedError


def ngrams(tokens, n):
    """How often each sequence of n tokens occurs. Given; use it or leave it."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def bleu(hypotheses, references, *, max_order=4):
    """BLEU of a corpus: 100 BP exp(mean over n = 1 ... max_order of ln p_n), not smoothed.

    hypotheses: list of token lists, one for each sentence
    references: for each sentence a list of one or more token lists

    p_n: of all n-grams of all hypotheses, the share that stands in a reference of its sentence,
    each n-gram counted at most as often as in the one reference that has it most.
    BP: exp(1 - r / c) where c < r, else 1. c is the length of all hypotheses together, r that of
    the references nearest in length to theirs (of two equally near ones, the shorter).

    Returns a number from 0 to 100: 0 if some order has no match.
    """
    raise NotImplementedError
