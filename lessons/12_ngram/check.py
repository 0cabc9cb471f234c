"""Check 12: relative frequencies, interpolated Kneser-Ney, and what is counted in their place."""

import numpy as np
from hypothesis import strategies as st

from scratchlm.lessons import Case, Exercise, Mistake
from scratchlm.models import NGram

# ---------------------------------------------------------------- texts


@st.composite
def texts(draw, discounts=False):
    V, m = draw(st.integers(2, 5)), draw(st.integers(0, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids = rng.integers(0, rng.integers(1, V + 1), rng.integers(m + 1, 30))  # not all of V occur
    start = int(rng.integers(0, len(ids) - m + 1))
    context = ids[start : start + m] if draw(st.booleans()) else rng.integers(0, V, m)
    options = {"discount": draw(st.sampled_from([0.75, 0.5, 0.9, 1.0]))} if discounts else {}
    return Case(ids, context.copy(), V, **options)


def case(text, context, V, **options):
    """``case("ababacbb", "a", 3)``: a is 0, b is 1, and so on."""
    number = lambda letters: np.array([ord(c) - ord("a") for c in letters], dtype=int)
    return Case(number(text), number(context), V, **options)


PLACES = [
    ("ababacbb", "a", 3),
    ("ababacbb", "b", 3),
    ("ababacbb", "", 3),
    ("ababacbb", "ab", 4),  # d never occurs
    ("ababacbbd", "d", 4),  # d is the end: nothing follows it
    ("ababacbbd", "bd", 4),
    ("abcabcabdabd", "ab", 5),
    ("abcabcabdabdcb", "cb", 5),  # ends in its context, which stands elsewhere too
    ("abcabcabdabd", "ea", 5),  # e never occurs, a does
    ("abcabcabdabd", "ae", 5),
    ("abcabcabdabd", "dba", 5),
    ("abcabcabdabd", "cca", 5),
    ("ddabcabcabeab", "dda", 5),  # begins with what never comes again
    ("dabcabcabeab", "cda", 5),
    ("cabababab", "aca", 3),
    ("aaaaaaa", "aa", 2),
    ("aabaacaabaad", "aa", 5),
    ("abracadabraabracadabra", "ra", 26),
    ("abracadabraabracadabra", "abr", 18),
    ("a", "", 3),
    ("ab", "a", 3),
    ("ab", "b", 3),
    ("efefefefefefefabcbdbgb", "", 8),
    ("efefefefefefefabcbdbgb", "a", 8),
]

# ---------------------------------------------------------------- relative frequencies


def mle_reference(ids, context, vocab_size):
    model = NGram(ids, len(context) + 1, vocab_size, smoothing="mle")
    return model.next_token_probabilities(context)


def rows(ids, n, step=1):
    return np.array([ids[t : t + n] for t in range(0, len(ids) - n + 1, step)], int).reshape(-1, n)


def counted(grams, context, V):
    return np.bincount(grams[(grams[:, :-1] == context).all(axis=1), -1], minlength=V)


def wrong_mle(
    *,
    divide=lambda count, ids, context: count / count.sum(),
    unseen=None,
    shorter=lambda context: context[1:],
    step=lambda n: 1,
    turn=lambda context: context,
):
    """Relative frequencies with one of their steps replaced."""

    def mle(ids, context, vocab_size):
        n = len(context) + 1
        count = counted(rows(ids, n, step(n)), turn(context), vocab_size)
        if count.sum() == 0:
            if unseen is not None:
                return unseen(vocab_size)
            return mle(ids, shorter(context), vocab_size)
        return divide(count, ids, context)

    return mle


def by_occurrences(ids, context, vocab_size):
    there = (rows(ids, len(context)) == context).all(axis=1).sum() if len(context) else len(ids)
    if there == 0:
        return by_occurrences(ids, context[1:], vocab_size)
    return counted(rows(ids, len(context) + 1), context, vocab_size) / there


def given_the_token(count, ids, context):
    return count / np.maximum(np.bincount(ids, minlength=len(count)), 1)


MLE_MISTAKES = [
    Mistake(
        "divided by how often the context stands",
        by_occurrences,
        "the divisor counts the context also where it ends the text, with nothing after it: the "
        "probabilities then do not sum to 1",
        "divide by what the counts c(context w) add up to",
    ),
    Mistake(
        "joint probability",
        wrong_mle(divide=lambda count, ids, context: count / (len(ids) - len(context))),
        "the counts are divided by the number of all n-grams: p(context and w), not p(w | context)",
        "only what follows this context may be counted below the line",
    ),
    Mistake(
        "the token given the context turned around",
        wrong_mle(divide=given_the_token),
        "each count is divided by how often w occurs: that is how probable the context is before w",
        "the divisor belongs to the context, so it is one number for all w",
    ),
    Mistake(
        "windows that do not overlap",
        wrong_mle(step=lambda n: n),
        "the text is cut into pieces of n, one after the other, so most n-grams are not seen",
        "an n-gram begins at every token, not at every n-th",
    ),
    Mistake(
        "unseen context: uniform",
        wrong_mle(unseen=lambda V: np.full(V, 1 / V)),
        "after an unseen context every token gets 1 / vocab_size",
        "the shorter context knows more than nothing: drop one token, and count again",
    ),
    Mistake(
        "unseen context: zeros",
        wrong_mle(unseen=np.zeros),
        "after an unseen context every token gets 0",
        "some token will come: drop one token of the context, and count again",
    ),
    Mistake(
        "unseen context: 0/0",
        wrong_mle(unseen=lambda V: np.full(V, np.nan)),
        "after an unseen context all counts are 0, and 0/0 is NaN",
        "look at the sum before you divide by it",
    ),
    Mistake(
        "nearest token dropped",
        wrong_mle(shorter=lambda context: context[:-1]),
        "an unseen context loses its last token, the one that stands right before w",
        "which token of the context is the farthest from w?",
    ),
    Mistake(
        "context backwards",
        wrong_mle(turn=lambda context: context[::-1]),
        "the context is compared from its end to its beginning",
        "context[0] is the token that is farthest from w",
    ),
    Mistake(
        "one added",
        wrong_mle(divide=lambda count, ids, context: (count + 1) / (count.sum() + len(count))),
        "1 is added to each count: this is add-one smoothing, not relative frequencies",
        "what was never seen after a context that was seen has 0 here",
    ),
    Mistake(
        "kinds, not occurrences",
        wrong_mle(divide=lambda count, ids, context: (count > 0) / (count > 0).sum()),
        "each token that follows counts once, however often it does",
        "count occurrences; different ones are for Kneser-Ney",
    ),
]

# ---------------------------------------------------------------- Kneser-Ney


def kneser_ney_reference(ids, context, vocab_size, *, discount=0.75):
    model = NGram(ids, len(context) + 1, vocab_size, discount=discount)
    return model.next_token_probabilities(context)


def occurrences(ids, m):
    return rows(ids, m + 1)


def after_kinds(ids, m):
    return np.unique(rows(ids, m + 2), axis=0)[:, 1:]


def before_kinds(ids, m):
    return np.unique(rows(ids, m + 2), axis=0)[:, :-1]


def wrong_kneser_ney(
    *,
    top=occurrences,
    lower=after_kinds,
    share=lambda c, D: np.maximum(c - D, 0),
    rest=lambda c, D, raw: D * (c > 0).sum(),
    join=lambda c, share, rest, p: share + rest * p,
    bottom=lambda V: np.full(V, 1 / V),
    empty=None,
    unseen=lambda p: p,
    near=lambda context, m: context[len(context) - m :],
    fixed=None,
):
    """Kneser-Ney with one of its steps replaced."""

    def kneser_ney(ids, context, vocab_size, *, discount=0.75):
        D = discount if fixed is None else fixed
        p = bottom(vocab_size)
        for m in range(len(context) + 1):
            h = near(context, m)
            c = counted((lower if m < len(context) else top)(ids, m), h, vocab_size)
            total = c.sum()
            if total == 0:
                p = unseen(p)
            elif m == 0 and empty is not None:
                p = empty(c)
            else:
                raw = counted(occurrences(ids, m), h, vocab_size)
                p = join(c, share(c, D) / total, rest(c, D, raw) / total, p)
        return p

    return kneser_ney


KN_MISTAKES = [
    Mistake(
        "occurrences below the top",
        wrong_kneser_ney(lower=occurrences),
        "the shortened contexts count occurrences too: absolute discounting, not Kneser-Ney",
        "below the full context, ask after how many different tokens h w was seen",
    ),
    Mistake(
        "different tokens at the top",
        wrong_kneser_ney(top=after_kinds),
        "the full context counts different tokens before it, not how often h w occurs",
        "only where something was dropped does the different token in front count",
    ),
    Mistake(
        "different tokens after, not before",
        wrong_kneser_ney(lower=before_kinds),
        "the shortened contexts count how many different tokens stand after h w",
        "the token that was dropped stood *before* h: which different ones were there?",
    ),
    Mistake(
        "discount given back once",
        wrong_kneser_ney(rest=lambda c, D, raw: D),
        "the weight of p(w | h') is D / c(h), as if D had been taken from one token only",
        "D is taken from each token that follows h: how much is that together?",
    ),
    Mistake(
        "discount given back by the vocabulary",
        wrong_kneser_ney(rest=lambda c, D, raw: D * len(c)),
        "the weight of p(w | h') counts all of the vocabulary, also what never follows h",
        "from a token with the count 0 nothing was taken",
    ),
    Mistake(
        "discount not given back",
        wrong_kneser_ney(rest=lambda c, D, raw: 0.0),
        "what the discount takes is lost, and the probabilities sum to less than 1",
        "the shorter context gets what was taken",
    ),
    Mistake(
        "nothing taken",
        wrong_kneser_ney(share=lambda c, D: c),
        "the shorter context is added, but nothing was taken for it: the sum is above 1",
        "take D from each count that is not 0",
    ),
    Mistake(
        "taken from zeros",
        wrong_kneser_ney(share=lambda c, D: c - D),
        "D is taken also from tokens that never follow h, and their share becomes negative",
        "no share is below 0",
    ),
    Mistake(
        "only where unseen",
        wrong_kneser_ney(join=lambda c, share, rest, p: np.where(c > 0, share, rest * p)),
        "p(w | h') is used only for tokens that never follow h: backing off, without renormalizing",
        "interpolation adds the shorter context for every token, seen or not",
    ),
    Mistake(
        "nothing below the empty context",
        wrong_kneser_ney(empty=lambda c: c / c.sum()),
        "the empty context is not discounted, so a token that never occurs has probability 0",
        "treat the empty context as every other; below it stands 1 / vocab_size",
    ),
    Mistake(
        "zero below the empty context",
        wrong_kneser_ney(bottom=np.zeros),
        "what is taken at the empty context goes nowhere",
        "below it stands the uniform distribution, 1 / vocab_size for each token",
    ),
    Mistake(
        "unseen context: uniform",
        wrong_kneser_ney(unseen=lambda p: np.full(len(p), 1 / len(p))),
        "after a context that was never seen, every token gets 1 / vocab_size",
        "p(w | h) = p(w | h') there",
    ),
    Mistake(
        "unseen context: 0/0",
        wrong_kneser_ney(unseen=lambda p: np.full(len(p), np.nan)),
        "a context that was never seen has c(h) = 0, and the division gives NaN",
        "look at c(h) before you divide by it",
    ),
    Mistake(
        "nearest token dropped",
        wrong_kneser_ney(near=lambda context, m: context[:m]),
        "the shortened context keeps its first tokens, and drops the one right before w",
        "h' is h without its *first* token",
    ),
    Mistake(
        "kinds by occurrence",
        wrong_kneser_ney(rest=lambda c, D, raw: D * (raw > 0).sum()),
        "N(h) counts a token also where the text begins with h w, with nothing before it: c(h w) "
        "is 0, and nothing was taken there",
        "take N(h) from the same counts as the shares",
    ),
    Mistake(
        "discount has no effect",
        wrong_kneser_ney(fixed=0.75),
        "D is 0.75, whatever discount says",
        "use the argument",
    ),
]

EXERCISES = [
    Exercise(
        name="mle",
        reference=mle_reference,
        inputs=texts(),
        also=[case(*place) for place in PLACES],
        contract="function",
        mistakes=MLE_MISTAKES,
        hints=(
            "collect the tokens that stand right after each occurrence of the context",
            (
                "windows(ids, m + 1) has one row for each place; compare all columns but the last "
                "with the context, and keep the last one"
            ),
            (
                "np.bincount(those tokens, minlength=vocab_size), divided by its sum; where there "
                "are none, return mle(ids, context[1:], vocab_size)"
            ),
        ),
    ),
    Exercise(
        name="kneser_ney",
        reference=kneser_ney_reference,
        inputs=texts(discounts=True),
        also=[
            *[case(*place) for place in PLACES],
            *[case(*place, discount=0.5) for place in PLACES[:8]],
            case("abracadabraabracadabra", "ra", 26, discount=1.0),
        ],
        contract="function",
        mistakes=KN_MISTAKES,
        hints=(
            (
                "begin with 1 / vocab_size for each token, then improve it by the empty context, "
                "by one token of context, and so on to the full one"
            ),
            (
                "at each length only the counts differ: occurrences for the full context, "
                "different tokens in front for the others; shares and rest are the same two lines"
            ),
            (
                "for different tokens in front: the different rows of windows(ids, m + 2), without "
                "their first column; then p = np.maximum(count - discount, 0) / total "
                "+ discount * (count > 0).sum() / total * p"
            ),
        ),
    ),
]
