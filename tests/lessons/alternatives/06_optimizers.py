"""Further right solutions of lesson 06, written in other ways."""

import numpy as np


def adam_step__corrected_rate(p, m, v, g, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    """The corrections go into the rate and into epsilon, as at the end of §2 of the article."""
    b1, b2 = betas
    m = m + (1 - b1) * (g - m)
    v = v + (1 - b2) * (g * g - v)
    root = (1 - b2**t) ** 0.5
    rate = lr * root / (1 - b1**t)
    return p - rate * m / (np.sqrt(v) + eps * root), m, v


def adam_step__number_by_number(p, m, v, g, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    new_p, new_m, new_v = np.empty_like(p), np.empty_like(m), np.empty_like(v)
    for i in np.ndindex(p.shape):
        new_m[i] = betas[0] * m[i] + (1 - betas[0]) * g[i]
        new_v[i] = betas[1] * v[i] + (1 - betas[1]) * g[i] * g[i]
        direction = new_m[i] / (1 - betas[0] ** t)
        size = (new_v[i] / (1 - betas[1] ** t)) ** 0.5
        new_p[i] = p[i] - lr * direction / (size + eps)
    return new_p, new_m, new_v


def adamw_step__decay_last(
    p, m, v, g, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01
):
    """The two subtractions commute, as long as the decay takes the old p."""
    new, m, v = adam_step__corrected_rate(p, m, v, g, t, lr=lr, betas=betas, eps=eps)
    return new - lr * weight_decay * p, m, v


def adamw_step__in_one_piece(
    p, m, v, g, t, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01
):
    (b1, b2), shrink = betas, 1 - lr * weight_decay
    m, v = b1 * m + g - b1 * g, b2 * v + g**2 - b2 * g**2
    step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return shrink * p - lr * step, m, v
