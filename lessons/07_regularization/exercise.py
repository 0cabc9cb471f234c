"""Exercise 07: dropout with its gradient, and a schedule with warm-up."""

import numpy as np


def dropout(x, *, p=0.5, rng=None, training=True):
    """y = x · m / (1 - p), each m 0 with probability p, else 1.  x: any shape.

    Draw once, with u = rng.random(x.shape): an element is dropped where u < p.
    When not training, or when p is 0, y is x, and rng may be None.
    Returns (y, vjp); vjp(dy) returns dx, the gradient of x.  float32 stays float32.
    """
    raise NotImplementedError


def warmup_cosine(step, *, total, warmup=0, final=0.0):
    """The factor of the learning rate at a step, counted from 0.  Returns a number.

    Two factors, multiplied: a linear rise and half a cosine.
    The rise: 1/warmup at step 0, 2/warmup at step 1, ..., and 1 from step warmup - 1 on.
    The cosine: 1 until step warmup, then down to final at step total, and final from there on.
    warmup may be 0, and step need not be whole.
    """
    raise NotImplementedError
