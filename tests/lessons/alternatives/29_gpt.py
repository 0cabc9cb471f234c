"""Further right solutions of lesson 29, written in other ways."""

import numpy as np


def next_token_loss__text_by_text(logits, ids):
    count = ids.shape[0] * (ids.shape[1] - 1)
    total, slope = 0, np.zeros_like(logits)
    for b, text in enumerate(ids):
        for t in range(len(text) - 1):
            x = logits[b, t]
            e = np.exp(x - x.max())
            total = total + np.log(e.sum()) - (x - x.max())[text[t + 1]]
            slope[b, t] = e / e.sum() / count
            slope[b, t, text[t + 1]] -= 1 / count
    return total / count, lambda dy: (slope * dy, None)


def next_token_loss__padded_one_hot(logits, ids):
    """A weight of 0 for the last position, instead of a slice."""
    T, V = logits.shape[1:]
    hot = np.zeros_like(logits)
    hot[:, :-1] = np.eye(V, dtype=logits.dtype)[ids[:, 1:]]
    weight = hot.sum(axis=-1, keepdims=True)  # 1 where there is a next token
    z = logits - logits.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    loss = -np.einsum("btv,btv->", hot, log_p) / weight.sum()

    def vjp(dy):
        return (weight * np.exp(log_p) - hot) * (dy / (len(ids) * (T - 1))), None

    return loss, vjp


def sample__running_sum(logits, u, *, temperature=1.0, top_k=None):
    keep = set(range(len(logits)))
    if top_k is not None:
        keep = set(sorted(keep, key=lambda i: -logits[i])[:top_k])
    top = max(logits)
    share = [np.exp((x - top) / temperature) if i in keep else 0 for i, x in enumerate(logits)]
    rest = u * sum(share)
    for i, each in enumerate(share):
        if rest < each:
            return i
        rest -= each
    return max(keep)


def sample__count_the_ends(logits, u, *, temperature=1.0, top_k=None):
    z = logits / temperature
    if top_k is not None:
        z = np.where(z >= np.sort(z)[::-1][top_k - 1], z, -np.inf)
    p = np.exp(z - z.max())
    p = p / p.sum()
    return int(np.argmax(p.cumsum() > u))
