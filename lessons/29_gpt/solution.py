"""Solution 29: what a language model is trained by, and how it writes."""

import numpy as np


def next_token_loss(logits, ids):
    """The mean of -ln p(ids[:, t+1]) at position t.  logits [B, T, V], ids [B, T].

    Returns (loss, vjp): loss []; vjp(dy) -> (dlogits [B, T, V], None).
    """
    x = logits[:, :-1]  # [B, T-1, V], every position that has a next token
    t = ids[:, 1:, None]  # [B, T-1, 1], the next tokens
    N = t.size  # B (T-1) predictions

    z = x - x.max(axis=-1, keepdims=True)  # [B, T-1, V], no exponent above 0
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))  # [B, T-1, V]
    at_target = np.take_along_axis(log_p, t, axis=-1)  # [B, T-1, 1]
    loss = -at_target.mean()  # []

    def vjp(dy):
        dx = np.exp(log_p)  # [B, T-1, V], softmax(x): a new array at every call
        # at_target = log_p[t]: one-hot rows
        np.put_along_axis(dx, t, np.take_along_axis(dx, t, axis=-1) - 1, axis=-1)
        # loss = -mean: a share of 1/N for each prediction
        dx *= dy / N
        # x = logits[:, :-1]: the last position has said nothing
        dlogits = np.zeros_like(logits)  # [B, T, V]
        dlogits[:, :-1] = dx
        return dlogits, None

    return loss, vjp


def sample(logits, u, *, temperature=1.0, top_k=None):
    """The id whose piece of [0, 1) holds u, with p = softmax(logits / temperature).  logits [V]."""
    z = (logits - logits.max()) / temperature  # [V], before the softmax; no exponent above 0
    if top_k is not None:
        out = np.argsort(z)[:-top_k]  # all but the top_k largest
        z[out] = -np.inf  # before the softmax, so that the rest shares the whole 1
    e = np.exp(z)  # [V]
    end = np.cumsum(e / e.sum())  # [V], where each piece ends
    # the first id whose end lies beyond u; the last end is 1 up to rounding, so u is scaled along
    return int(np.searchsorted(end, u * end[-1], side="right"))
