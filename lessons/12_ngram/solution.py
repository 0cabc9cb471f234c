"""Solution 12: n-gram models."""

import numpy as np


def windows(ids, n):
    """Every n tokens that stand together, a row each: [T - n + 1, n]. Given; use it or leave it."""
    return np.array([ids[t : t + n] for t in range(len(ids) - n + 1)], dtype=int).reshape(-1, n)


def followers(grams, context):
    """The last tokens of the rows that begin with the context.  grams [K, m + 1], context [m]."""
    return grams[(grams[:, :-1] == context).all(axis=1), -1]


def mle(ids, context, vocab_size):
    """p(w | context) = c(context w) / sum over v of c(context v).  ids [T], context [m] -> [V]."""
    after = followers(windows(ids, len(context) + 1), context)  # [c(h)], each w that follows
    if len(after) == 0:
        return mle(ids, context[1:], vocab_size)  # the farthest token is dropped
    count = np.bincount(after, minlength=vocab_size)  # [V], c(h w)
    return count / count.sum()  # what follows is counted, not the context itself


def kneser_ney(ids, context, vocab_size, *, discount=0.75):
    """p(w | h) = max(c(h w) - D, 0) / c(h) + D N(h) / c(h) * p(w | h').  [T], [m] -> [V]."""
    p = np.full(vocab_size, 1 / vocab_size)  # [V], below everything
    for m in range(len(context) + 1):  # no token of context first, all of them last
        if m < len(context):
            # with one token more in front; each different one counts once
            grams = np.unique(windows(ids, m + 2), axis=0)[:, 1:]  # [kinds, m + 1]
        else:
            grams = windows(ids, m + 1)  # [T - m, m + 1], each occurrence
        h = context[len(context) - m :]  # the nearest m tokens
        count = np.bincount(followers(grams, h), minlength=vocab_size)  # [V], c(h w)
        total = count.sum()  # c(h)
        if total > 0:  # else p stays as it is
            share = np.maximum(count - discount, 0) / total  # [V]
            rest = discount * (count > 0).sum() / total  # what was taken, in all
            p = share + rest * p
    return p
