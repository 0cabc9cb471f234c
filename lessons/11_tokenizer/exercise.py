"""Exercise 11: byte-pair encoding. Plain functions: nothing here has a gradient to return."""


def bpe_merge(words, counts, new):
    """One step of training: find the most frequent pair of neighbours, and merge it everywhere.

    words:  list of words, each a list of ids
    counts: how often each word occurs in the text, one number for each
    new:    the id of what the pair becomes

    A pair (a, b) counts counts[k] times for every place of words[k] where a stands right before b.
    Of equally frequent pairs the smallest is taken, compared as tuples: (1, 9) before (2, 3).
    It is merged from the left: in [5, 5, 5] the pair (5, 5) becomes [new, 5].

    Returns (pair, words): the pair as a tuple, and new lists of ids. If no word has two ids left,
    (None, words), with words as they are.
    """
    raise NotImplementedError


def bpe_encode(ids, merges):
    """The tokens of one word.

    ids:    list of ids, such as the bytes of the word
    merges: list of (a, b, new), in the order in which they were learned

    Again and again: of all pairs of neighbours, the one that was learned *first* is merged, at all
    of its places, from the left. Until no pair of neighbours is in merges.

    Returns a new list of ids.
    """
    raise NotImplementedError
