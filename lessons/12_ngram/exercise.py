"""Exercise 12: n-gram models. Plain functions: nothing here has a gradient to return."""

import numpy as np


def windows(ids, n):
    """Every n tokens that stand together, a row each: [T - n + 1, n]. Given; use it or leave it."""
    return np.array([ids[t : t + n] for t in range(len(ids) - n + 1)], dtype=int).reshape(-1, n)


def mle(ids, context, vocab_size):
    """p(w | context) = c(context w) / sum over v of c(context v): relative frequencies.

    ids:     [T], the text that is counted, T >= 1
    context: [m], the tokens before w; m = 0 is no context at all
    c(...):  how often these tokens stand together in ids

    If nothing ever follows the context, its first token is dropped, until something does.
    Returns [vocab_size], one probability for each token.
    """
    raise NotImplementedError


def kneser_ney(ids, context, vocab_size, *, discount=0.75):
    """p(w | h) = max(c(h w) - D, 0) / c(h) + D N(h) / c(h) * p(w | h'), interpolated Kneser-Ney.

    ids:     [T], the text that is counted, T > m
    context: [m], the tokens h before w
    D:       discount, above 0, at most 1
    h':      h without its first token; below the empty context stands 1 / vocab_size
    c(h w):  for the full context, how often h w stands in ids; for a shortened one (the empty one
             too), how many *different* tokens stand just before h w
    c(h):    the sum of c(h v) over all tokens v; where it is 0, p(w | h) = p(w | h')
    N(h):    how many tokens v have c(h v) > 0

    Returns [vocab_size], one probability for each token.
    """
    raise NotImplementedError
