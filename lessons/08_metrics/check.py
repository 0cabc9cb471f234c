"""Check 08: F1, perplexity, BLEU, and what is often computed under these names."""

import math
from collections import Counter

import numpy as np
from hypothesis import strategies as st

from scratchlm import metrics, ops
from scratchlm.lessons import Case, Exercise, Mistake, normal

# ---------------------------------------------------------------- F1


def f1_reference(y_true, y_pred, *, average="binary"):
    if average != "binary":
        return metrics.f1(y_true, y_pred, average=average)
    return metrics.f1(y_true == 1, y_pred == 1, positive=True)


@st.composite
def answers(draw):
    average = draw(st.sampled_from(["binary", "macro", "micro"]))
    classes = draw(st.integers(2, 4))
    n = draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    true = rng.integers(0, classes, n)
    pred = np.where(rng.random(n) < 0.5, true, rng.integers(0, classes, n))
    return Case(true, pred, average=average)


def both(true, pred, *averages):
    return [
        Case(np.array(true), np.array(pred), average=average)
        for average in averages or ("binary", "macro", "micro")
    ]


F1_ALSO = [
    *both([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]),
    *both([0, 0, 0, 1], [0, 0, 0, 0]),  # never called so
    *both([0, 0, 0, 0], [0, 1, 0, 0]),  # never there
    *both([0, 0, 0], [0, 0, 0]),  # neither
    *both([0, 0, 0, 1], [1, 1, 1, 1]),
    *both([0, 1, 2, 2, 2, 1], [0, 2, 1, 2, 2, 1]),
    *both([5, 5, 2, 2, 2], [5, 2, 2, 9, 2], "macro", "micro"),  # classes with gaps
    *both([1], [1]),
    Case(np.array([0, 1, 1, 0, 1]), np.array([0, 1, 0, 1, 1])),  # the default
]


def counted(y_true, y_pred, average, classes=None):
    """Hits, called so, truly so, of each class."""
    if classes is None:
        classes = [1] if average == "binary" else np.union1d(y_true, y_pred)
    counts = np.array(
        [
            (np.sum((y_true == k) & (y_pred == k)), np.sum(y_pred == k), np.sum(y_true == k))
            for k in classes
        ],
        dtype=float,
    ).T
    return counts.sum(axis=1, keepdims=True) if average == "micro" else counts


def divide(a, b):
    return np.where(b == 0, 0.0, a / np.where(b == 0, 1, b))


def harmonic(p, r):
    return divide(2 * p * r, p + r)


def wrong_f1(mean=harmonic, after=np.mean, classes=None, division=divide):
    """F1 with one of its steps replaced."""

    def f1(y_true, y_pred, *, average="binary"):
        use = None if classes is None or average == "binary" else classes(y_true, y_pred)
        hits, called, there = counted(y_true, y_pred, average, use)
        return float(after(mean(division(hits, called), division(hits, there))))

    return f1


def as_printed(y_true, y_pred, *, average="binary"):
    hits, _, there = counted(y_true, y_pred, average)
    return float(np.mean((np.mean(y_true == y_pred) + divide(hits, there)) / 2))


def only_accuracy(y_true, y_pred, *, average="binary"):
    return float(np.mean(y_true == y_pred))


def of_the_means(y_true, y_pred, *, average="binary"):
    hits, called, there = counted(y_true, y_pred, average)
    return float(harmonic(divide(hits, called).mean(), divide(hits, there).mean()))


def weighted(y_true, y_pred, *, average="binary"):
    hits, called, there = counted(y_true, y_pred, average)
    f = harmonic(divide(hits, called), divide(hits, there))
    return float(divide((f * there).sum(), there.sum()) if average == "macro" else f.mean())


def micro_is_macro(y_true, y_pred, *, average="binary"):
    return f1_reference(y_true, y_pred, average="binary" if average == "binary" else "macro")


def negatives_are_hits(y_true, y_pred, *, average="binary"):
    if average != "binary":
        return f1_reference(y_true, y_pred, average=average)
    right = np.sum(y_true == y_pred)
    return float(harmonic(*(divide(right, np.sum(a == 1)) for a in (y_pred, y_true))))


def nan_division(a, b):
    with np.errstate(all="ignore"):
        return a / b


def left_out(each):
    known = ~np.isnan(each)
    return each[known].mean() if known.any() else 0.0


F1_MISTAKES = [
    Mistake(
        "mean of accuracy and recall",
        as_printed,
        "accuracy is averaged with recall: the formula of D2 §2.9, not F1",
        "F1 never looks at what is rightly rejected; which two shares does it take?",
    ),
    Mistake(
        "arithmetic mean",
        wrong_f1(mean=lambda p, r: (p + r) / 2),
        "precision and recall are averaged by (P + R) / 2",
        "P = 0.01 and R = 1 must not give a half: which mean stays near the smaller number?",
    ),
    Mistake(
        "geometric mean",
        wrong_f1(mean=lambda p, r: np.sqrt(p * r)),
        "the root of P R is the geometric mean",
        "write 1/F as a mean of 1/P and 1/R",
    ),
    Mistake(
        "factor 2 missing",
        wrong_f1(mean=lambda p, r: harmonic(p, r) / 2),
        "P R / (P + R) is half of it: two perfect numbers would give 0.5",
        "what should come out for P = R = 1?",
    ),
    Mistake(
        "recall alone",
        wrong_f1(mean=lambda p, r: r),
        "both shares are taken of what is truly there, so this is recall",
        "one of the two divides by how often the class was *called*, not by how often it is there",
    ),
    Mistake(
        "precision alone",
        wrong_f1(mean=lambda p, r: p),
        "both shares are taken of what was called so, so this is precision",
        "one of the two divides by how often the class is truly there",
    ),
    Mistake(
        "accuracy",
        only_accuracy,
        "this is the share of right answers, whatever the class",
        "count the hits of one class only, and look up what they are shares of",
    ),
    Mistake(
        "what is rightly rejected counts as a hit",
        negatives_are_hits,
        "a hit is counted wherever both agree, also where both say 0",
        "a hit of class 1 is a sample where both say 1",
    ),
    Mistake(
        "F1 of the means",
        of_the_means,
        "macro takes the mean precision and the mean recall, and then one F1 of them",
        "macro is a mean of F1s: the harmonic mean comes first, for each class, the plain one last",
    ),
    Mistake(
        "weighted for macro",
        weighted,
        "the classes are weighted by how often they occur; macro gives each the same weight",
        "a class of one sample counts as much as a class of a thousand",
    ),
    Mistake(
        "average has no effect",
        lambda y_true, y_pred, *, average="binary": f1_reference(y_true, y_pred),
        "this is the F1 of class 1, whatever average says",
        "do what you do for class 1 for each class, and keep the three counts of all of them",
    ),
    Mistake(
        "macro for micro",
        micro_is_macro,
        "micro is computed as macro",
        "micro adds the counts of all classes up first, and takes one F1 at the end",
    ),
    Mistake(
        "only classes of y_true",
        wrong_f1(classes=lambda t, p: np.unique(t)),
        "a class that is predicted, but never true, is left out",
        "which classes are there to be got wrong? Look at both arrays",
    ),
    Mistake(
        "every number up to the largest",
        wrong_f1(classes=lambda t, p: range(int(max(t.max(), p.max())) + 1)),
        "numbers that occur in neither array are counted as classes with an F1 of 0",
        "take the classes from the arrays, not from a range",
    ),
    Mistake(
        "0/0 is NaN",
        wrong_f1(
            mean=lambda p, r: nan_division(2 * p * r, p + r), division=nan_division
        ),
        "where nothing was called so, or nothing is there, a 0/0 becomes NaN and stays",
        "decide what a class without a hit gets, before you divide",
    ),
    Mistake(
        "class without a hit left out",
        wrong_f1(
            mean=lambda p, r: nan_division(2 * p * r, p + r),
            division=nan_division,
            after=left_out,
        ),
        "a class whose F1 is 0/0 is left out of the mean, so ignoring a class costs nothing",
        "a class without a hit is worth 0, and it counts",
    ),
]  # fmt: skip

# ---------------------------------------------------------------- perplexity


def perplexity_reference(logits, targets, *, ignore_index=-100):
    flat, ids = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    loss, _ = ops.cross_entropy(flat, ids, ignore_index=ignore_index)
    return metrics.perplexity(float(loss))


@st.composite
def predictions(draw):
    shape = draw(st.sampled_from([(4,), (2, 3), (3, 2), (2, 1, 3)]))
    V = draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    targets = rng.integers(0, V, shape)
    ignore = draw(st.sampled_from([-100, -1, 0]))
    targets[rng.random(shape) < 0.3] = ignore
    targets.flat[rng.integers(targets.size)] = 1  # at least one counts
    scale = draw(st.sampled_from([1.0, 3.0]))
    return Case(draw(normal((*shape, V), scale=scale)), targets, ignore_index=ignore)


PERPLEXITY_ALSO = [
    Case(np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]), np.array([0, 2])),
    Case(
        np.random.default_rng(0).standard_normal((2, 3, 4)), np.array([[1, 2, 3], [0, -100, -100]])
    ),
    Case(np.random.default_rng(1).standard_normal((3, 3, 3)), np.array([[1, 2, 0]] * 3)),
    Case(np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]]), np.array([0, 1])),
    Case(np.array([[1e4, 0.0, -1e4]]), np.array([1])),  # loss 10000: inf
]


def log_softmax(x, axis=-1):
    z = x - x.max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


def picked(logits, targets, log_p=log_softmax, fill=0):
    """ln p(target) at every position; where there is no target, that of class ``fill``."""
    V = logits.shape[-1]
    ids = np.where((targets < 0) | (targets >= V), fill, targets)
    return np.take_along_axis(log_p(logits), ids[..., None], axis=-1)[..., 0]


def wrong_perplexity(
    *,
    log_p=log_softmax,
    counts=lambda targets, ignore: targets != ignore,
    finish=lambda nll, kept: np.exp(nll[kept].mean()),
):
    def perplexity(logits, targets, *, ignore_index=-100):
        kept = counts(targets, ignore_index)
        return float(finish(-picked(logits, targets, log_p), kept))

    return perplexity


def mean_of_texts(nll, kept):
    """The mean over each text first."""
    nll, kept = np.atleast_2d(nll), np.atleast_2d(kept)
    texts = [row[k].mean() for row, k in zip(nll, kept, strict=True) if k.any()]
    return np.exp(np.mean(texts))


PERPLEXITY_MISTAKES = [
    Mistake(
        "2 to the power of nats",
        wrong_perplexity(finish=lambda nll, kept: 2 ** nll[kept].mean()),
        "the logarithm is natural, but the power is taken of 2",
        "logarithm and power must have the same base: check with a uniform distribution over V",
    ),
    Mistake(
        "e to the power of bits",
        wrong_perplexity(finish=lambda nll, kept: np.exp(nll[kept].mean() / math.log(2))),
        "the logarithm has base 2, but the power is taken of e",
        "logarithm and power must have the same base: check with a uniform distribution over V",
    ),
    Mistake(
        "mean of perplexities",
        wrong_perplexity(finish=lambda nll, kept: np.exp(nll[kept]).mean()),
        "exp is taken at each position, and then the mean: the mean of 1/p",
        "the mean belongs inside exp: which mean of 1/p is that?",
    ),
    Mistake(
        "one over the mean probability",
        wrong_perplexity(finish=lambda nll, kept: 1 / np.exp(-nll[kept]).mean()),
        "the probabilities are averaged, and 1 over it is returned: one sure token hides many",
        "the logarithm comes before the mean",
    ),
    Mistake(
        "sum for mean",
        wrong_perplexity(finish=lambda nll, kept: np.exp(nll[kept].sum())),
        "the losses are added up and not divided: this is 1 / p of everything together",
        "a text twice as long, guessed as well, must have the same perplexity",
    ),
    Mistake(
        "divided by all positions",
        wrong_perplexity(finish=lambda nll, kept: np.exp(nll[kept].sum() / kept.size)),
        "padding adds no loss, but is counted in the mean, so that padding improves the number",
        "divide by the number of positions that count",
    ),
    Mistake(
        "padding scored",
        wrong_perplexity(counts=lambda targets, ignore: np.ones(targets.shape, bool)),
        "positions with ignore_index are scored as if they had a target",
        "choose the positions that count first, logits and targets alike",
    ),
    Mistake(
        "ignore_index has no effect",
        wrong_perplexity(counts=lambda targets, ignore: targets != -100),
        "-100 is always what is left out, whatever ignore_index says",
        "compare with the argument",
    ),
    Mistake(
        "mean of the texts' means",
        wrong_perplexity(finish=mean_of_texts),
        "each text is averaged by itself first, so a token of a short text counts more",
        "every token has the same weight: put all of them into one row",
    ),
    Mistake(
        "probability for surprise",
        wrong_perplexity(finish=lambda nll, kept: np.exp(-nll[kept].mean())),
        "the sign is missing: this is at most 1, and larger is better",
        "p is below 1, so ln p is below 0: what makes the loss positive?",
    ),
    Mistake(
        "the loss itself",
        wrong_perplexity(finish=lambda nll, kept: nll[kept].mean()),
        "this is the cross-entropy; the exp is missing",
        "a model that is sure and right has a perplexity of 1, not 0",
    ),
    Mistake(
        "no softmax",
        wrong_perplexity(log_p=lambda x: x),
        "the logits are used as if they were ln p",
        "add 5 to all logits of a position: nothing may change",
    ),
    Mistake(
        "softmax over the first axis",
        wrong_perplexity(log_p=lambda x: log_softmax(x, axis=0)),
        "the softmax runs over axis 0: over positions, not over the vocabulary",
        "which axis has V entries?",
    ),
    Mistake(
        "no maximum",
        wrong_perplexity(log_p=lambda x: np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True))),
        "exp overflows on large logits, and inf / inf is NaN",
        "lesson 05: take the largest logit off first",
    ),
    Mistake(
        "math.exp",
        wrong_perplexity(finish=lambda nll, kept: math.exp(nll[kept].mean())),
        "math.exp stops with an OverflowError where the perplexity is inf",
        "np.exp gives inf; or catch the error",
    ),
]

# ---------------------------------------------------------------- BLEU


def bleu_reference(hypotheses, references, *, max_order=4):
    join = " ".join
    found = metrics.bleu(
        [join(h) for h in hypotheses],
        [[join(g) for g in group] for group in references],
        tokenize="none",
        smooth="none",
        max_order=max_order,
    )
    return found.score


@st.composite
def translations(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    order = draw(st.sampled_from([1, 2, 2, 3, 4]))
    hypotheses, references = [], []
    for _ in range(draw(st.integers(1, 3))):
        text = [str(w) for w in rng.choice(list("abcd"), rng.integers(4, 11))]
        group = []
        for _ in range(rng.integers(1, 4)):
            start, stop = rng.integers(0, 2), len(text) - rng.integers(0, 2)
            other = text[start:stop] + [str(w) for w in rng.choice(list("abe"), rng.integers(0, 3))]
            group.append(other)
        hypotheses.append(text[: len(text) - rng.integers(0, 3)])
        references.append(group)
    return Case(hypotheses, references, max_order=order)


def words(text):
    return text.split()


BLEU_ALSO = [
    Case(
        [words("the cat sat on the the mat"), words("it rained")],
        [[words("the cat sat on the mat today")], [words("it rained all day"), words("rain")]],
        max_order=2,
    ),
    Case(
        [words("the the the the the the the")],
        [[words("the cat is on the mat"), words("there is a cat on the mat")]],
        max_order=1,
    ),
    Case([words("a b c d")], [[words("a b c d e"), words("a b c")]], max_order=2),
    Case([words("a b c d")], [[words("a b c"), words("a b c d e")]], max_order=2),
    Case([words("a b c d")], [[words("a b"), words("a b c d e f g h")]], max_order=2),
    Case([words("a b c d e f")], [[words("a b c d")]]),  # too long
    Case([words("a b c")], [[words("a b c d e f")]], max_order=3),  # too short
    Case([words("a b c d")], [[words("a b"), words("a b c d e")]], max_order=2),
    Case([words("a b c"), words("d e f")], [[words("a b c x")], [words("d e f y")]], max_order=2),
    Case([words("a b c")], [[words("a b c")]]),  # has no 4-gram at all
    Case([words("a b c d e")], [[words("a x c y e")]]),  # no bigram matches
    Case([words("a b c d e f"), words("x")], [[words("a b c d e f")], [words("y")]], max_order=3),
    Case([words("a a b"), []], [[words("a a"), words("a b")], [words("c")]], max_order=2),
    Case([[]], [[words("a b")]]),
    Case([words("a b c d e a b")], [[words("a b c d e"), words("e a b")]]),  # the default order
]


def grams(tokens, n):
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def clipped(mine, group, n):
    most = Counter()
    for g in group:
        most |= grams(g, n)
    return sum((mine & most).values()), sum(mine.values())


def nearest(h, group):
    return min((abs(len(g) - len(h)), len(g)) for g in group)[1]


def nearest_but_longer(h, group):
    return max((-abs(len(g) - len(h)), len(g)) for g in group)[1]


def brevity(c, r):
    return 1.0 if c >= r else math.exp(1 - r / c)


def geometric(hits, totals):
    return float(np.exp(np.mean(np.log(hits / totals))))


def wrong_bleu(
    *,
    match=clipped,
    length=nearest,
    penalty=brevity,
    mean=geometric,
    orders=lambda most: range(1, most + 1),
    scale=100.0,
    stop=lambda hits, totals: hits.min() == 0,
):
    def bleu(hypotheses, references, *, max_order=4):
        pairs = list(zip(hypotheses, references, strict=True))
        counts = [[match(grams(h, n), group, n) for h, group in pairs] for n in orders(max_order)]
        hits, totals = np.array(counts, float).sum(axis=1).T.reshape(2, -1)
        c, r = sum(len(h) for h, _ in pairs), sum(length(h, group) for h, group in pairs)
        if not hits.size or stop(hits, totals):
            return 0.0
        return scale * penalty(c, r) * mean(hits, totals)

    return bleu


def all_that_stand_there(mine, group, n):
    known = {gram for g in group for gram in grams(g, n)}
    return sum(times for gram, times in mine.items() if gram in known), sum(mine.values())


def clipped_by_the_sum(mine, group, n):
    total = sum((grams(g, n) for g in group), Counter())
    return sum((mine & total).values()), sum(mine.values())


def first_only(mine, group, n):
    return clipped(mine, group[:1], n)


def different_ones(mine, group, n):
    known = {gram for g in group for gram in grams(g, n)}
    return len(mine.keys() & known), len(mine)


def mean_of_sentences(hypotheses, references, *, max_order=4):
    right = wrong_bleu()
    each = [
        right([h], [group], max_order=max_order)
        for h, group in zip(hypotheses, references, strict=True)
    ]
    return float(np.mean(each))


def only_orders_with_a_match(hits, totals):
    return geometric(hits[hits > 0], totals[hits > 0])


BLEU_MISTAKES = [
    Mistake(
        "no clipping",
        wrong_bleu(match=all_that_stand_there),
        "an n-gram counts as often as the hypothesis repeats it: \"the the the\" scores 100",
        "each n-gram counts at most as often as a reference has it",
    ),
    Mistake(
        "clipped by the sum of references",
        wrong_bleu(match=clipped_by_the_sum),
        "the limit of an n-gram is its count in all references together",
        "the limit is its count in the *one* reference that has it most: max, not sum",
    ),
    Mistake(
        "first reference only",
        wrong_bleu(match=first_only),
        "n-grams are looked up in the first reference alone",
        "a translation may take a word from one reference and the next from another",
    ),
    Mistake(
        "different n-grams counted",
        wrong_bleu(match=different_ones),
        "repeated n-grams are counted once: sets, where counts belong",
        "use a Counter, not a set",
    ),
    Mistake(
        "arithmetic mean",
        wrong_bleu(mean=lambda hits, totals: float(np.mean(hits / totals))),
        "the precisions are averaged by a plain mean, so the easy single words decide",
        "the mean is taken of ln p_n, and exp comes after it",
    ),
    Mistake(
        "product without root",
        wrong_bleu(mean=lambda hits, totals: float(np.prod(hits / totals))),
        "the precisions are multiplied, but no root is taken of it",
        "a mean of logarithms is the sum divided by max_order",
    ),
    Mistake(
        "no brevity penalty",
        wrong_bleu(penalty=lambda c, r: 1.0),
        "a hypothesis of one right word scores 100: nothing asks what is missing",
        "precision alone rewards silence; compare the lengths c and r",
    ),
    Mistake(
        "bonus for long hypotheses",
        wrong_bleu(penalty=lambda c, r: math.exp(1 - r / c)),
        "exp(1 - r / c) is also used where c > r, and is above 1 there",
        "the penalty is never above 1",
    ),
    Mistake(
        "long ones punished",
        wrong_bleu(penalty=lambda c, r: 1.0 if c <= r else math.exp(1 - c / r)),
        "c and r are exchanged: what is too long is punished, what is too short is not",
        "precision punishes what is too long already",
    ),
    Mistake(
        "ratio of lengths",
        wrong_bleu(penalty=lambda c, r: min(1.0, c / r)),
        "the penalty is c / r itself",
        "look at the exponential in the formula again",
    ),
    Mistake(
        "shortest reference",
        wrong_bleu(length=lambda h, group: min(map(len, group))),
        "r takes the shortest reference of each sentence",
        "r takes the one whose length is nearest to the hypothesis",
    ),
    Mistake(
        "longest reference",
        wrong_bleu(length=lambda h, group: max(map(len, group))),
        "r takes the longest reference of each sentence",
        "r takes the one whose length is nearest to the hypothesis",
    ),
    Mistake(
        "longer of two equally near",
        wrong_bleu(length=nearest_but_longer),
        "of two references that are equally near in length, the longer one is taken",
        "the hypothesis gets the benefit of the doubt: take the shorter one",
    ),
    Mistake(
        "mean of sentence scores",
        mean_of_sentences,
        "each sentence gets a score of its own, and the scores are averaged",
        "add the counts of all sentences up first; there is one division for each n",
    ),
    Mistake(
        "orders without a match left out",
        wrong_bleu(mean=only_orders_with_a_match, stop=lambda hits, totals: not hits.any()),
        "orders in which nothing matches are skipped, so having no long match costs nothing",
        "unsmoothed, one precision of 0 makes the geometric mean 0",
    ),
    Mistake(
        "one order too few",
        wrong_bleu(orders=lambda most: range(1, most)),
        "the orders end at max_order - 1",
        "range excludes its end",
    ),
    Mistake(
        "0 to 1",
        wrong_bleu(scale=1.0),
        "the score runs from 0 to 1; asked for is 0 to 100",
        "multiply at the end",
    ),
]  # fmt: skip

EXERCISES = [
    Exercise(
        name="f1",
        reference=f1_reference,
        contract="function",
        inputs=answers(),
        also=F1_ALSO,
        mistakes=F1_MISTAKES,
        hints=(
            (
                "For one class count three things: how often both say it (hits), how often "
                "y_pred says it, how often y_true does. Everything else is made of these."
            ),
            (
                "Put P = hits / called and R = hits / there into 2 P R / (P + R) and simplify: "
                "P and R disappear, and with them two of the three places where 0/0 may happen."
            ),
            (
                "F = 2 hits / (called + there), 0 where the denominator is 0. macro: the mean of "
                "F over np.union1d(y_true, y_pred). micro: sum hits, called and there over these "
                "classes, then one F."
            ),
        ),
    ),
    Exercise(
        name="perplexity",
        reference=perplexity_reference,
        contract="function",
        inputs=predictions(),
        also=PERPLEXITY_ALSO,
        mistakes=PERPLEXITY_MISTAKES,
        hints=(
            (
                "It is the cross-entropy of lesson 05, and then one more step. First throw away "
                "what does not count."
            ),
            (
                "logits[targets != ignore_index] has shape [n, V], whatever the shape before. "
                "Take ln softmax of it, the entry of each target, the mean of all n."
            ),
            (
                "z = x - max(x), log_p = z - ln(sum of exp(z)), loss = -mean of log_p at the "
                "targets, np.exp(loss). np.exp, since math.exp raises an error beyond 709."
            ),
        ),
    ),
    Exercise(
        name="bleu",
        reference=bleu_reference,
        contract="function",
        inputs=translations(),
        also=BLEU_ALSO,
        mistakes=BLEU_MISTAKES,
        hints=(
            (
                "For each order keep two numbers for the whole corpus, hits and totals, and for "
                "the lengths two more. Go through the sentences and add to them; divide at the "
                "very end."
            ),
            (
                "An n-gram that the hypothesis has `times` times adds min(times, most) hits, "
                "where most is the largest of its counts in the single references. All its times "
                "go into the total."
            ),
            (
                "r adds min((abs(len(g) - len(h)), len(g)) for g in group)[1]. At the end: 0 if a "
                "hit count is 0, else 100 min(1, exp(1 - r / c)) exp(mean of ln(hits / totals))."
            ),
        ),
    ),
]
