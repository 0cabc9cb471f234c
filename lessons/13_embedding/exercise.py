"""Exercise 13: the embedding, an op with (out, vjp)."""

import numpy as np


def embedding(ids, weight):
    """y = weight[ids]: for each id, its row of the table.

    ids:    [...], integers in [0, V), any shape
    weight: [V, d]
    y:      [..., d]

    An id outside [0, V), negative ones too, raises IndexError.

    Returns (y, vjp). vjp(dy) takes dy [..., d] and returns (None, dweight): ids have no gradient,
    and dweight [V, d] has in row v the sum of dy over all places where v stands.
    """
    raise NotImplementedError
