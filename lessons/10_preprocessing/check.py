"""Check 10: the most probable segmentation, and what is found in its place."""

import math

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from scratchlm.lessons import Case, Exercise, Mistake
from scratchlm.text import Lexicon, maximum_match

# ---------------------------------------------------------------- texts and dictionaries


def reference(text, counts):
    return Lexicon(counts).best_path(text)[0]


def ways(text, counts):
    """The log-probability of each way to cut a short text."""
    lexicon = Lexicon(counts)
    edges = lexicon.edges(text)
    sums = [[] for _ in text] + [[0.0]]
    for i in reversed(range(len(text))):
        for j in edges[i]:
            log_p = lexicon.log_probability(text[i:j])
            sums[i] += [log_p + rest for rest in sums[j]]
    return sorted(sums[0])


@st.composite
def texts(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    letters = "abc"[: draw(st.integers(2, 3))]
    text = "".join(rng.choice(list(letters + "x"[: rng.integers(0, 2)]), draw(st.integers(1, 10))))
    counts = {}
    for _ in range(draw(st.integers(1, 9))):
        word = "".join(rng.choice(list(letters), rng.integers(1, 5)))
        counts[word] = int(rng.integers(1, 1000))
    found = ways(text, counts)
    assume(len(found) < 2 or found[-1] - found[-2] > 1e-6)  # no ties
    return Case(text, counts)


SOME = {
    "研究": 40, "研究生": 12, "生命": 25, "命": 3, "起源": 6, "生": 5, "的": 300,
    "结婚": 20, "和": 90, "和尚": 4, "尚未": 8, "未": 6,
}  # fmt: skip
REAL = {
    "南京市": 50, "南京": 80, "市长": 60, "长江": 90, "大桥": 40, "长江大桥": 15, "江": 9,
}  # fmt: skip
RARE = {"ab": 3, "c": 7, "abc": 1, "a": 900, "b": 11, "rare": 90_000_000}

PLACES = [
    ("研究生命起源", SOME),
    ("结婚的和尚未结婚的", SOME),
    ("南京市长江大桥", REAL),
    ("研究生", SOME),
    ("", SOME),
    ("起", SOME),
    ("你研究我", SOME),  # characters that no word begins with, at both ends
    ("你我他", {"他们": 5, "们": 3, "好": 1}),  # 他 begins a word, which is not there
    ("abcd", {"abc": 1, "bcd": 90, "e": 30}),  # a is no word, abc is: a alone is not allowed
    ("abc", {"a": 50, "b": 50, "c": 50, "abc": 1}),  # one rare word or three frequent ones
    ("abc", {"a": 5, "b": 5, "c": 5, "abc": 1, "z": 900}),
    ("abcd", {"ab": 10, "cd": 10, "a": 2, "bcd": 60, "z": 40}),
    ("abcd", {"abc": 10, "d": 2, "ab": 30, "cd": 40}),
    ("abcde", {"ab": 60, "cde": 5, "abc": 7, "de": 9, "a": 1, "z": 200}),
    ("aab", {"aa": 9, "b": 2, "a": 30, "ab": 8, "z": 60}),
    ("abab", {"abab": 2, "ab": 30, "a": 7, "b": 8, "z": 100}),
    ("abcdefgh", {"abcdefgh": 1, "abcd": 3, "efgh": 4, "a": 2, "z": 500}),
    ("abc", {"ab": 10, "a": 3, "bc": 5, "z": 50}),  # c stands alone once, not twice
    ("xxabxx", {"ab": 5, "a": 3, "b": 3, "z": 20}),
    ("ca", {"c": 4, "ca": 2, "a": 5, "z": 60}),
    ("ab c", {"ab": 3, "c": 2, " ": 4, "b c": 1, "a": 9, "z": 70}),
    ("abc" * 100, RARE),  # 300 characters: the product is far below 1e-308
    ("abc" * 100, {"a": 5000, "bc": 5000, "abc": 1, "z": 990_000}),
    ("cabab" * 60, RARE),
]

# ---------------------------------------------------------------- the mistakes


def wrong(
    *,
    score=lambda word, counts, total: math.log(counts.get(word, 1) / total),
    ends=lambda found, i: found or [i + 1],
    add=lambda score, rest: score + rest,
    start=0.0,
    choose=max,
    size=lambda counts: sum(counts.values()),
    last=lambda n: n + 1,
    longest=None,
    out=lambda words, counts: words,
):
    """The best path with one of its steps replaced."""

    def segment(text, counts):
        n, total = len(text), size(counts)
        best, step = [start] * (n + 1), [0] * n
        for i in reversed(range(n)):
            far = last(n) if longest is None else min(n, i + longest) + 1
            found = [j for j in range(i + 1, far) if text[i:j] in counts]
            best[i], step[i] = choose(
                (add(score(text[i:j], counts, total), best[j]), j) for j in ends(found, i)
            )
        words, i = [], 0
        while i < n:
            words.append(text[i : step[i]])
            i = step[i]
        return out(words, counts)

    return segment


def greedy_by_count(text, counts):
    words, i = [], 0
    while i < len(text):
        found = [j for j in range(i + 1, len(text) + 1) if text[i:j] in counts] or [i + 1]
        j = max(found, key=lambda j: (counts.get(text[i:j], 1), j))
        words.append(text[i:j])
        i = j
    return words


def only_words(text, counts):
    """No way through a character that is no word."""
    n, total = len(text), sum(counts.values())
    best, step = [-math.inf] * n + [0.0], [n] * n
    for i in reversed(range(n)):
        for j in range(i + 1, n + 1):
            if text[i:j] in counts:
                score = math.log(counts[text[i:j]] / total) + best[j]
                if score > best[i]:
                    best[i], step[i] = score, j
    words, i = [], 0
    while i < n:
        words.append(text[i : step[i]])
        i = step[i]
    return words


MISTAKES = [
    Mistake(
        "longest match forward",
        lambda text, counts: maximum_match(text, counts, direction="forward"),
        "the longest word that fits is taken at each place, from the left: counts play no part",
        "a word that is taken now may spoil the next one: compare whole ways, not single words",
    ),
    Mistake(
        "longest match backward",
        lambda text, counts: maximum_match(text, counts, direction="backward"),
        "the longest word that fits is taken at each place, from the end: counts play no part",
        "compare the products of whole ways",
    ),
    Mistake(
        "most frequent word at each place",
        greedy_by_count,
        "at each place the most frequent word is taken, whatever comes after it",
        "score of a word plus the best score of what is left: you need the second one first",
    ),
    Mistake(
        "fewest words",
        wrong(score=lambda word, counts, total: -1.0),
        "the way with the fewest words is taken: every word costs the same",
        "a word costs -ln p(word), so a rare one costs more",
    ),
    Mistake(
        "counts added",
        wrong(score=lambda word, counts, total: counts.get(word, 1)),
        "the counts are added up along a way; probabilities multiply",
        "add logarithms: the product of p(word) is largest where the sum of ln p(word) is",
    ),
    Mistake(
        "not divided by the total",
        wrong(score=lambda word, counts, total: math.log(counts.get(word, 1))),
        "the product is of counts, not of probabilities: every further word makes it larger",
        "divide each count by the total before taking the logarithm",
    ),
    Mistake(
        "total of different words",
        wrong(size=len),
        "the divisor is how many different words there are, not how often they occur together",
        "total = sum(counts.values())",
    ),
    Mistake(
        "product without logarithm",
        wrong(
            score=lambda word, counts, total: counts.get(word, 1) / total,
            add=lambda p, rest: p * rest,
            start=1.0,
        ),
        "the probabilities are multiplied as they are: in a long text the product is 0, and so are "
        "all that it should be compared with",
        "add logarithms",
    ),
    Mistake(
        "single characters everywhere",
        wrong(ends=lambda found, i: sorted({i + 1, *found})),
        "a single character is allowed at every place, also where a word of counts begins and the "
        "character itself is none",
        "only where nothing else begins may a character that is no word stand alone",
    ),
    Mistake(
        "unknown characters left out",
        wrong(out=lambda words, counts: [word for word in words if word in counts]),
        "characters that are in no word are missing: joined, the words are not the text",
        "keep them, each as a word of its own",
    ),
    Mistake(
        "unknown characters impossible",
        only_words,
        "a character that is no word has probability 0, so the whole text before it is one piece",
        "where no word begins, the single character counts once",
    ),
    Mistake(
        "unknown characters free",
        wrong(score=lambda word, counts, total: math.log(counts[word] / total)
              if word in counts else 0.0),
        "a character that is no word costs nothing: ways through such characters look too good",
        "it counts as if it had occurred once: p = 1 / total",
    ),
    Mistake(
        "worst way",
        wrong(choose=min),
        "the way with the smallest product is taken",
        "the costs -ln p are to be small, the sums of ln p are to be large",
    ),
    Mistake(
        "words backwards",
        wrong(out=lambda words, counts: words[::-1]),
        "the words are right, but listed from the end to the beginning",
        "put them in the order of the text",
    ),
    Mistake(
        "no word at the end",
        wrong(last=lambda n: n),
        "a word that ends where the text ends is never found",
        "text[i:j] excludes j, so j goes up to len(text) itself",
    ),
    Mistake(
        "at most two characters",
        wrong(longest=2),
        "no word is longer than two characters",
        "try every end up to the end of the text, or to the longest word of counts",
    ),
    Mistake(
        "characters",
        lambda text, counts: list(text),
        "the text is cut into its characters",
        "that is one way of many; which has the largest product?",
    ),
]  # fmt: skip

EXERCISES = [
    Exercise(
        name="segment",
        reference=reference,
        inputs=texts(),
        also=[Case(text, counts) for text, counts in PLACES],
        contract="function",
        mistakes=MISTAKES,
        hints=(
            "if you knew the best way from each later place, how would you find the one from here?",
            (
                "best[len(text)] = 0; go backwards through the places i, and try every word that "
                "begins at i and ends at j: its ln p plus best[j]. Note which j was best"
            ),
            (
                "ends = [j for j in range(i + 1, n + 1) if text[i:j] in counts] or [i + 1]; "
                "best[i], step[i] = max((math.log(counts.get(text[i:j], 1) / total) + best[j], j) "
                "for j in ends); at last walk from 0 along step"
            ),
        ),
    ),
]
