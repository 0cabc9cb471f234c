"""Check 11: a step of byte-pair encoding's training, and encoding, with what goes wrong in both."""

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from scratchlm.lessons import Case, Exercise, Mistake
from scratchlm.text.bpe import merge

# ---------------------------------------------------------------- one step of training


def joined(ids, pair, new):
    out, i = [], 0
    while i < len(ids):
        here = tuple(ids[i : i + 2]) == pair
        out.append(new if here else ids[i])
        i += 2 if here else 1
    return out


def step(
    *,
    weigh=lambda count: count,
    count,
    choose=lambda pairs: min(pairs, key=lambda pair: (-pairs[pair], pair)),
    replace=joined,
    across=False,
    empty=lambda words: (None, words),
):
    """One step, with one of its parts replaced."""

    def bpe_merge(words, counts, new):
        pairs = Counter()
        if across:
            everything = [i for ids in words for i in ids]
            words_read, weights = [everything], [1]
        else:
            words_read, weights = words, counts
        for ids, weight in zip(words_read, weights, strict=True):
            count(pairs, ids, weigh(weight))
        if not pairs:
            return empty(words)
        best = choose(pairs)
        return best, [replace(ids, best, new) for ids in words]

    return bpe_merge


def every_place(pairs, ids, weight):
    for pair in pairwise(ids):
        pairs[pair] += weight


def once_a_word(pairs, ids, weight):
    for pair in set(pairwise(ids)):
        pairs[pair] += weight


def in_twos(pairs, ids, weight):
    for pair in zip(ids[::2], ids[1::2], strict=False):
        pairs[pair] += weight


def unordered(pairs, ids, weight):
    for pair in pairwise(ids):
        pairs[tuple(sorted(pair))] += weight


def anywhere(pairs, ids, weight):
    for i, a in enumerate(ids):
        for b in ids[i + 1 :]:
            pairs[a, b] += weight


def first_place(ids, pair, new):
    for i in range(len(ids) - 1):
        if tuple(ids[i : i + 2]) == pair:
            return [*ids[:i], new, *ids[i + 2 :]]
    return list(ids)


def overlapping(ids, pair, new):
    out, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            out.append(new)
        elif not (i and tuple(ids[i - 1 : i + 1]) == pair):
            out.append(ids[i])
        i += 1
    return out


def from_the_right(ids, pair, new):
    return joined(ids[::-1], pair[::-1], new)[::-1]


def keeps_the_second(ids, pair, new):
    out, i = [], 0
    while i < len(ids):
        out.append(new if tuple(ids[i : i + 2]) == pair else ids[i])
        i += 1
    return out


reference_merge = step(count=every_place)


def merge_in_place(words, counts, new):
    pair, out = reference_merge(words, counts, new)
    if pair is not None:
        for ids, changed in zip(words, out, strict=True):
            ids[:] = changed
    return pair, words


MERGE_MISTAKES = [
    Mistake(
        "words counted once",
        step(count=every_place, weigh=lambda count: 1),
        "each different word counts once, however often it occurs in the text",
        "a pair counts as often as its word: add counts[k] for each place",
    ),
    Mistake(
        "once in a word",
        step(count=once_a_word),
        "a pair that stands in a word twice is counted once",
        "every place counts",
    ),
    Mistake(
        "every other place",
        step(count=in_twos),
        "the word is cut into twos, so half of its pairs are not seen",
        "a pair begins at every id but the last: zip(ids, ids[1:])",
    ),
    Mistake(
        "pairs that are not neighbours",
        step(count=anywhere),
        "a pair is counted also where other ids stand between its two",
        "only ids that stand side by side can be merged",
    ),
    Mistake(
        "order of the pair lost",
        step(count=unordered),
        "(a, b) and (b, a) are counted together",
        "ab is not ba: keep the order",
    ),
    Mistake(
        "across the ends of words",
        step(count=every_place, across=True),
        "the end of one word and the beginning of the next are counted as a pair",
        "count inside each word; what stands in different words never meets in the text",
    ),
    Mistake(
        "rarest pair",
        step(count=every_place, choose=lambda pairs: min(pairs, key=lambda p: (pairs[p], p))),
        "the rarest pair is merged",
        "the most frequent one shortens the text most",
    ),
    Mistake(
        "largest of equal pairs",
        step(count=every_place, choose=lambda pairs: max(pairs, key=lambda p: (pairs[p], p))),
        "of equally frequent pairs the largest is taken",
        "min(pairs, key=lambda pair: (-pairs[pair], pair)): the smallest of the most frequent ones",
    ),
    Mistake(
        "first seen of equal pairs",
        step(count=every_place, choose=lambda pairs: max(pairs, key=pairs.get)),
        "of equally frequent pairs the one that was seen first is taken: the result depends on the "
        "order of the words",
        "compare the pairs themselves where the counts are equal",
    ),
    Mistake(
        "first place only",
        step(count=every_place, replace=first_place),
        "only the first place in each word is merged",
        "go on behind the merged pair, to the end of the word",
    ),
    Mistake(
        "overlapping places",
        step(count=every_place, replace=overlapping),
        "in [5, 5, 5] both places of (5, 5) are merged, though they share an id",
        "after a merge go two places on",
    ),
    Mistake(
        "second id kept",
        step(count=every_place, replace=keeps_the_second),
        "the new id is put in, and the second id of the pair stays",
        "after a merge go two places on",
    ),
    Mistake(
        "from the right",
        step(count=every_place, replace=from_the_right),
        "[5, 5, 5] becomes [5, new]: the merge goes from the right",
        "read the word from its beginning",
    ),
    Mistake(
        "no pair: error",
        step(count=every_place, empty=lambda words: min([])),
        "where no word has two ids, there is no pair, and min or max of nothing raises an error",
        "look whether there are pairs at all; if not, return None, words",
    ),
    Mistake(
        "words changed in place",
        merge_in_place,
        "the lists that came in are changed",
        "build new lists",
    ),
]

# ---------------------------------------------------------------- encoding


def reference_encode(ids, merges):
    return merge(ids, {(a, b): (rank, new) for rank, (a, b, new) in enumerate(merges)})


def encoder(
    *,
    choose=lambda known, rank: min(known, key=rank.get),
    replace=joined,
    once=False,
    limit=None,
):
    def bpe_encode(ids, merges):
        rank = {(a, b): k for k, (a, b, new) in enumerate(merges)}
        ids, rounds = list(ids), 0
        while limit is None or rounds < limit:
            known = [pair for pair in pairwise(ids) if pair in rank]
            if not known:
                break
            pair = choose(known, rank)
            ids = replace(ids, pair, merges[rank[pair]][2])
            rounds += 1
            if once:
                break
        return ids

    return bpe_encode


def one_pass(ids, merges):
    """Greedy from the left, one time."""
    new = {(a, b): c for a, b, c in merges}
    out, i = [], 0
    while i < len(ids):
        pair = tuple(ids[i : i + 2])
        out.append(new.get(pair, ids[i]))
        i += 2 if pair in new else 1
    return out


def longest_tokens(ids, merges):
    """WordPiece's way: the longest token that fits."""
    spelled = {}
    for a, b, new in merges:
        spelled[new] = spelled.get(a, (a,)) + spelled.get(b, (b,))
    tokens = {spelling: new for new, spelling in spelled.items()}
    out, i = [], 0
    while i < len(ids):
        for j in range(len(ids), i + 1, -1):
            if tuple(ids[i:j]) in tokens:
                out.append(tokens[tuple(ids[i:j])])
                break
        else:
            j = i + 1
            out.append(ids[i])
        i = j
    return out


def backwards(ids, merges):
    for a, b, new in reversed(merges):
        ids = joined(ids, (a, b), new)
    return list(ids)


def in_order_from_the_right(ids, merges):
    for a, b, new in merges:
        ids = from_the_right(ids, (a, b), new)
    return list(ids)


def most_frequent_here(known, rank):
    counts = Counter(known)
    return min(known, key=lambda pair: (-counts[pair], rank[pair]))


ENCODE_MISTAKES = [
    Mistake(
        "leftmost pair first",
        encoder(choose=lambda known, rank: known[0]),
        "the leftmost pair that is known is merged, not the one that was learned first",
        "look at all pairs, and take the one with the smallest place in merges",
    ),
    Mistake(
        "last learned first",
        encoder(choose=lambda known, rank: max(known, key=rank.get)),
        "of the known pairs the one that was learned last is merged",
        "the order of learning is the order of encoding: min, not max",
    ),
    Mistake(
        "merges from the end of the list",
        backwards,
        "the merges are gone through from the last to the first, so the pairs of late merges are "
        "not there yet",
        "early merges make the tokens that later ones are made of",
    ),
    Mistake(
        "one pass",
        one_pass,
        "the word is read once: tokens that a merge made are not merged any further",
        "repeat until no pair of neighbours is known",
    ),
    Mistake(
        "one merge",
        encoder(once=True),
        "it stops after one merge",
        "repeat until no pair of neighbours is known",
    ),
    Mistake(
        "longest token first",
        longest_tokens,
        "the longest token that fits is taken from the left: that is WordPiece's rule, not BPE's",
        "follow the merges, in the order in which they were learned",
    ),
    Mistake(
        "most frequent pair of this word",
        encoder(choose=most_frequent_here),
        "the pair that is most frequent in this word is merged",
        "frequency decided in training; now the order of merges decides",
    ),
    Mistake(
        "stops early",
        encoder(replace=first_place, limit=2),
        "it stops too early, with pairs left that are known",
        "repeat until no pair of neighbours is known",
    ),
    Mistake(
        "from the right",
        in_order_from_the_right,
        "each merge goes from the right: three equal ids become [id, new]",
        "merge from the left",
    ),
    Mistake(
        "overlapping places",
        encoder(replace=overlapping, limit=40),
        "places that share an id are both merged, and ids come out of nothing",
        "after a merge go two places on",
    ),
    Mistake(
        "nothing merged",
        lambda ids, merges: list(ids),
        "the ids come back as they are",
        "is each pair looked up as a tuple (a, b)?",
    ),
    Mistake(
        "rank in place of the id",
        lambda ids, merges: reference_encode(
            ids, [(a, b, k) for k, (a, b, _) in enumerate(merges)]
        ),
        "the place in the list of merges is put in, not the new id",
        "the third number of each merge is the id of what the pair becomes",
    ),
]  # fmt: skip

# ---------------------------------------------------------------- inputs


def learn(words, counts, first, merges):
    out = []
    for new in range(first, first + merges):
        pair, words = reference_merge(words, counts, new)
        if pair is None:
            break
        out.append((*pair, new))
    return out


@st.composite
def trainings(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    letters = int(rng.integers(1, 5))
    words = [
        rng.integers(0, letters, rng.integers(1, 8)).tolist() for _ in range(rng.integers(1, 7))
    ]
    counts = rng.integers(1, 6, len(words)).tolist()
    return Case(words, counts, 256)


@st.composite
def encodings(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    letters = int(rng.integers(1, 5))
    make = lambda n: rng.integers(0, letters, n).tolist()
    words = [make(rng.integers(1, 9)) for _ in range(rng.integers(1, 6))]
    merges = learn(words, rng.integers(1, 6, len(words)).tolist(), 256, int(rng.integers(1, 9)))
    return Case(make(rng.integers(0, 14)), merges)


def spelled(*words):
    return [[ord(c) for c in word] for word in words]


PAPER = [spelled("low", "lower", "newest", "widest"), [5, 2, 6, 3]]
PAPER_MERGES = learn(*PAPER, 256, 10)
A, B, C, D = 1, 2, 3, 4
LISTS = [
    # bc was learned before ab: the leftmost pair is the wrong one
    ([A, B, C], [(B, C, 10), (A, B, 11)]),
    ([A, B, C, D, B, C], [(A, B, 10), (B, C, 11)]),  # bc is there twice, ab was learned first
    ([A, B, C, A, B, B, C], [(B, C, 10), (A, B, 11), (A, 10, 12)]),
    ([A, A, A, A, A], [(A, A, 10), (10, 10, 11)]),
    ([A, A, A], [(A, A, 10)]),
    ([A, A, A, B], [(A, A, 10), (A, B, 11)]),
    ([A, B, A, B, A], [(A, B, 10), (B, A, 11), (10, 10, 12)]),
    ([A, B, A, C, A, C], [(A, B, 10), (A, C, 11), (B, A, 12)]),
    ([A, B, C, D], [(A, B, 10), (C, D, 11), (10, 11, 12)]),
    ([A, B, C, D], [(B, C, 10), (A, 10, 11), (11, D, 12)]),
    # abc is a token, but its way there is blocked: cd is taken first
    ([A, B, C, D], [(C, D, 10), (A, B, 11), (11, C, 12)]),
    ([A, B] * 6 + [A], [(A, B, 10), (10, 10, 11), (11, 11, 12), (12, A, 13)]),
    ([A, B, B, B, A, A], [(B, B, 10), (A, 10, 11), (B, A, 12), (A, A, 13)]),
    ([B, A, A, A, A, A, C], [(A, A, 10), (B, A, 11), (A, C, 12), (10, 12, 13)]),
    ([], [(A, B, 10)]),
    ([A], [(A, B, 10)]),
    ([A, B, C], []),
    ([C, B, A], [(A, B, 10), (B, C, 11)]),
]

EXERCISES = [
    Exercise(
        name="bpe_merge",
        reference=reference_merge,
        inputs=trainings(),
        also=[
            Case(*PAPER, 256),
            Case(spelled("ab", "cd", "ab"), [1, 2, 1], 256),  # a tie: ab before cd
            Case(spelled("cd", "ab"), [2, 2], 256),
            Case([[9, 1], [2, 3]], [4, 4], 300),
            Case([[5, 5, 5]], [1], 256),
            Case([[5, 5, 5, 5], [1, 2]], [1, 2], 256),
            Case([[5, 5, 5, 1, 2, 1, 2]], [1], 256),
            Case([[1, 2, 3, 1, 2, 4, 1, 2]], [3], 256),
            Case([[1, 2, 1, 2], [3, 4], [3, 4]], [1, 1, 1], 256),
            Case([[1, 2], [2, 1], [2, 1], [3, 3]], [3, 1, 1, 4], 256),
            Case([[1, 2], [2, 1], [3, 4]], [2, 2, 3], 256),  # ab and ba together beat cd, alone not
            Case([[1, 9, 2], [1, 8, 2], [3, 4]], [2, 2, 3], 256),  # 1 … 2, with others between
            Case([[1, 2], [2, 3], [2, 3], [5]], [9, 1, 1, 7], 256),
            Case([[4, 1], [2, 4], [1, 3], [1, 3]], [1, 1, 1, 1], 256),
            Case([[1], [2]], [3, 4], 256),
            Case([], [], 256),
            Case([[], [7, 8], [7]], [5, 1, 5], 256),
        ],
        contract="function",
        mistakes=MERGE_MISTAKES,
        hints=(
            "count all pairs of neighbours in all words, then choose one, then rewrite the words",
            (
                "zip(ids, ids[1:]) gives the pairs of a word; each counts counts[k] times. To "
                "rewrite, walk through the ids with an index that goes two places on after a merge"
            ),
            (
                "best = min(pairs, key=lambda pair: (-pairs[pair], pair)); where "
                "tuple(ids[i : i + 2]) == best append new and add 2 to i, else ids[i] and 1"
            ),
        ),
    ),
    Exercise(
        name="bpe_encode",
        reference=reference_encode,
        inputs=encodings(),
        also=[
            *[Case(ids, merges) for ids, merges in LISTS],
            *[Case(ids, PAPER_MERGES) for ids in spelled("lowest", "newer", "wide", "esteest")],
        ],
        contract="function",
        mistakes=ENCODE_MISTAKES,
        hints=(
            "merging is the same as in training; only which pair comes next is decided otherwise",
            (
                "give each pair of merges its place in the list; of the pairs of neighbours that "
                "are in it, take the one with the smallest place, merge it everywhere; again"
            ),
            (
                "rank = {(a, b): k for k, (a, b, new) in enumerate(merges)}; while any pair is in "
                "rank: first = min(those pairs, key=rank.get), and put merges[rank[first]][2] in "
                "its place everywhere"
            ),
        ),
    ),
]
