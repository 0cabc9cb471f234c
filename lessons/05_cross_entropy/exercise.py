"""Exercise 05: softmax and cross-entropy, and their gradients."""

import numpy as np


def softmax(x, *, axis=-1):
    """y_i = exp(x_i) / sum_j exp(x_j) along axis.

    x: any shape, logits of any size; axis: the axis whose entries compete

    Returns (y, vjp): y has the shape of x and sums to 1 along axis; vjp(dy) -> dx.
    float32 in, float32 out.
    """
    raise NotImplementedError


def cross_entropy(logits, target):
    """The mean over all rows of -ln softmax(logits)[target].

    logits: [..., C], one score for each of C classes in every row
    target: [...], integers, the right class of every row

    Returns (loss, vjp): loss is one number; vjp(dy) -> (dlogits, None), where dlogits has the
    shape of logits. The None says that class numbers have no gradient.
    float32 in, float32 out.
    """
    raise NotImplementedError
