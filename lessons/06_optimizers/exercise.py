"""Exercise 06: one step of Adam, and one of AdamW."""

import numpy as np  # you will need it


def adam_step(p, m, v, g, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    """m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²,  p = p - lr · m̂ / (√v̂ + eps).

    p: the parameters, of any shape
    m, v: the running means of the gradient and of its square, shaped like p; 0 before step 1
    g: the gradient at p, shaped like p
    t: the number of this step: 1, 2, 3, ...

    m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) are used in this step and not kept.
    Returns the new (p, m, v). What came in stays as it is.
    """
    raise NotImplementedError


def adamw_step(p, m, v, g, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """p = p - lr · (m̂ / (√v̂ + eps) + weight_decay · p), with the p from before on the right.

    Arguments and results as in adam_step. The decay passes through neither m nor v.
    """
    raise NotImplementedError
