"""Solution 06: one step of Adam, and one of AdamW."""

import numpy as np


def adam_step(p, m, v, g, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    """p, m, v, g alike in shape; t = 1, 2, 3, ...  Returns the new (p, m, v)."""
    beta1, beta2 = betas

    m = beta1 * m + (1 - beta1) * g  # where to: the mean of the last ten gradients or so
    v = beta2 * v + (1 - beta2) * g**2  # how large: the mean of the last thousand squares or so

    # the weights in m sum to 1 - β₁ᵗ, those in v to 1 - β₂ᵗ; divided by it, they are means
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)

    p = p - lr * m_hat / (np.sqrt(v_hat) + eps)  # new arrays: the caller keeps the old ones
    return p, m, v  # m and v go on without their hats


def adamw_step(p, m, v, g, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """As adam_step; each parameter also shrinks by the factor 1 - lr · weight_decay."""
    decayed = p - lr * weight_decay * p  # (1 - lr λ) p; g never hears of it
    return adam_step(decayed, m, v, g, t, lr=lr, betas=betas, eps=eps)
