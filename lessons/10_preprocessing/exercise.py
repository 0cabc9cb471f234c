"""Exercise 10: words in a text without blanks. A plain function: it returns no vjp."""

import math


def segment(text, counts):
    """The most probable words: of all ways to cut the text, the largest product of p(word).

    p(word) = counts[word] / total,  with total = the sum of all counts

    text:   a string, which may be empty
    counts: word -> how often it occurs, 1 or more

    A piece of the text is allowed if it is in counts. Where no word of counts begins, and there
    only, the single character is allowed too, and counts as if it had occurred once (total stays).
    The best way is unique in all inputs of the check. Texts can be hundreds of characters long, so
    trying all ways is too slow, and a product of so many probabilities is 0 in float64.

    Returns a list of strings which, joined, are the text.
    """
    raise NotImplementedError
