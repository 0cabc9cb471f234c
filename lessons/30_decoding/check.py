"""Check 30: the nucleus, a step of beam search, attention with a cache, and their neighbors."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops, sampling
from scratchlm.lessons import Case, Exercise, Mistake

# ---------------------------------------------------------------- top_p


def scores_of(seed, V, scale=2.0):
    return scale * np.random.default_rng(seed).standard_normal(V)


@st.composite
def positions(draw):
    logits = scores_of(draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 9)))
    return Case(logits, draw(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0])))


PLACES = [
    Case(np.log([0.1, 0.5, 0.05, 0.35]), 0.8),
    Case(np.log([0.1, 0.5, 0.05, 0.35]), 0.9),
    Case(np.log([0.1, 0.5, 0.05, 0.35]), 0.3),  # less than the likeliest has alone
    Case(np.log([0.1, 0.5, 0.05, 0.35]), 1.0),
    Case(np.log([0.3, 0.24, 0.26, 0.2]) + 5, 0.6),
    Case(np.array([1e3, -1e3, 999.0, 997.0]), 0.9),
    Case(np.array([2.0]), 0.5),
    Case(scores_of(1, 50, 0.5), 0.5),
    Case(scores_of(2, 200, 3.0), 0.97),
    Case(scores_of(3, 40, 1.0), 1.0),
]


def top_p_reference(logits, p):
    return sampling.probabilities(sampling.top_p(logits, p))


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def renormalized(kept, probs):
    return kept / kept.sum()


def wrong_top_p(
    *,
    prob=softmax,
    order=lambda probs: np.argsort(-probs),
    inside=lambda falling, p: falling.cumsum() - falling < p,
    put=lambda probs, chosen: np.where(np.isin(np.arange(len(probs)), chosen), probs, 0.0),
    end=renormalized,
):
    """The nucleus with one of its steps replaced."""

    def top_p(logits, p):
        probs = prob(logits)
        falling = order(probs)
        kept = put(probs, falling[inside(probs[falling], p)])
        return end(kept, probs)

    return top_p


def below_only(falling, p):
    return falling.cumsum() <= p


def below_or_first(falling, p):
    inside = falling.cumsum() <= p
    inside[0] = True
    return inside


def share_of_the_words(falling, p):
    return np.arange(len(falling)) < np.ceil(p * len(falling))


def sorted_result(probs, chosen):
    return np.append(probs[chosen], np.zeros(len(probs) - len(chosen)))


def unstable(x):
    e = np.exp(x)
    return e / e.sum()


def softmax_again(kept, probs):
    return softmax(kept)


def evenly(kept, probs):
    return (kept > 0) / (kept > 0).sum()


def one_more(falling, p):
    before = falling.cumsum() - falling
    return np.append(True, before[:-1] < p)


TOP_P_MISTAKES = [
    Mistake(
        "not divided by its sum",
        wrong_top_p(end=lambda kept, probs: kept),
        "the probabilities that are kept do not sum to 1: what was cut off is missing",
        "divide what is kept by its sum",
    ),
    Mistake(
        "the token that reaches p left out",
        wrong_top_p(inside=below_or_first),
        "the set has less than p: the token with which p is reached is cut off",
        "a token belongs to the set as long as those in front of it do not have p yet",
    ),
    Mistake(
        "sometimes nothing is left",
        wrong_top_p(inside=below_only),
        "only tokens up to a running sum of p are kept: if the likeliest alone has more, none is "
        "left, and 0/0 is NaN",
        "the likeliest token always belongs to the set",
    ),
    Mistake(
        "one token too many",
        wrong_top_p(inside=one_more),
        "the set goes on by one token after p was reached",
        "the token with which p is reached is the last one",
    ),
    Mistake(
        "in the order of the vocabulary",
        wrong_top_p(order=lambda probs: np.arange(len(probs))),
        "the probabilities are added up by id, so which tokens stay depends on their numbers",
        "sort them first, the likeliest in front",
    ),
    Mistake(
        "the unlikeliest first",
        wrong_top_p(order=np.argsort),
        "the set begins with the unlikeliest token: argsort rises",
        "argsort of the negative numbers falls",
    ),
    Mistake(
        "left in sorted order",
        wrong_top_p(put=sorted_result),
        "the result is in sorted order: place 0 is the likeliest token, not token 0",
        "write each probability to its token's own place",
    ),
    Mistake(
        "each by itself against p",
        wrong_top_p(inside=lambda falling, p: falling >= p),
        "each token's own probability is compared with p",
        "p is for the sum over the set",
    ),
    Mistake(
        "a share of the largest",
        wrong_top_p(inside=lambda falling, p: falling >= p * falling[0]),
        "tokens are kept that are at least p times as likely as the likeliest: that is min-p",
        "here p is the probability that the kept ones have together",
    ),
    Mistake(
        "a share of the vocabulary",
        wrong_top_p(inside=share_of_the_words),
        "a share p of the *number* of tokens is kept, however likely they are",
        "add up probabilities, not tokens",
    ),
    Mistake(
        "softmax once more",
        wrong_top_p(end=softmax_again),
        "softmax is applied to the kept probabilities: it gives those that were cut off e^0 again",
        "divide by the sum; the zeros stay zeros",
    ),
    Mistake(
        "all that is kept alike",
        wrong_top_p(end=evenly),
        "every token that is kept gets the same probability",
        "among them the likelier ones stay likelier: divide their probabilities by their sum",
    ),
    Mistake(
        "what is outside is kept",
        wrong_top_p(inside=lambda falling, p: falling.cumsum() - falling >= p),
        "the nucleus is cut off, and the rest is kept",
        "turn the comparison around",
    ),
    Mistake(
        "no maximum",
        wrong_top_p(prob=unstable),
        "exp overflows for large logits, and the result is NaN",
        "subtract logits.max() first; softmax does not change",
    ),
]

# ---------------------------------------------------------------- beam_step


def beginnings(seed, K, V, scale=1.0):
    rng = np.random.default_rng(seed)
    log_p = np.log(rng.dirichlet(np.ones(V), K) + 1e-9)
    return scale * np.log(rng.uniform(0.01, 1, K)), log_p


@st.composite
def searches(draw):
    K, V = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    scores, log_p = beginnings(draw(st.integers(0, 2**32 - 1)), K, V)
    return Case(scores, log_p, draw(st.integers(1, K * V)))


SEARCHES = [
    Case(np.log([0.5, 0.4]), np.log([[0.4, 0.35, 0.25], [0.9, 0.06, 0.04]]), 2),
    Case(np.log([0.6, 0.1]), np.log([[0.4, 0.35, 0.25], [0.9, 0.06, 0.04]]), 2),  # both from one
    Case(np.zeros(1), np.log([[0.2, 0.5, 0.3]]), 2),  # the first step: one beginning, empty
    Case(np.log([0.35, 0.2, 0.1]), np.log([[0.8, 0.2], [0.3, 0.7], [0.45, 0.55]]), 4),
    Case(*beginnings(5, 3, 7), 3),
    Case(*beginnings(6, 5, 3), 5),
    Case(*beginnings(7, 4, 40, 9.0), 4),
    Case(*beginnings(8, 2, 3), 6),
    Case(np.array([-2.0, -1.0]), np.log([[0.5, 0.3, 0.2], [0.7, 0.2, 0.1]]), 1),
]


def beam_reference(scores, log_p, beams):
    total = scores[:, None] + log_p
    ranked = sorted(np.ndindex(*total.shape), key=lambda place: -total[place])[:beams]
    parents, tokens = np.array(ranked).T
    return parents, tokens, np.array([total[place] for place in ranked])


def wrong_beams(
    *,
    join=lambda scores, log_p: scores[:, None] + log_p,
    rank=lambda total, beams: np.argsort(-total.ravel())[:beams],
    place=lambda best, K, V: (best // V, best % V),
    new=lambda total, log_p, best: total.ravel()[best],
):
    """A step of beam search with one of its parts replaced."""

    def beam_step(scores, log_p, beams):
        total = join(scores, log_p)
        best = rank(total, beams)
        return *place(best, *log_p.shape), new(total, log_p, best)

    return beam_step


def best_of_each(total, beams):
    V = total.shape[1]
    own = np.arange(len(total)) * V + total.argmax(axis=1)
    return own[np.argsort(-total.ravel()[own])][:beams]


def fair_shares(total, beams):
    K, V = total.shape
    each = -(-beams // K)
    own = np.argsort(-total, axis=1)[:, :each] + V * np.arange(K)[:, None]
    own = own.ravel()
    return own[np.argsort(-total.ravel()[own])][:beams]


def first_beginning(total, beams):
    return np.argsort(-total[0])[:beams]


def columns_first(total, beams):
    return np.argsort(-total.T.ravel())[:beams]


def normalized(total, log_p, best):
    new = total.ravel()[best]
    return new - np.log(np.exp(new).sum())


BEAM_MISTAKES = [
    Mistake(
        "the beginning's score forgotten",
        wrong_beams(join=lambda scores, log_p: 0 * scores[:, None] + log_p),
        "only the last token's probability decides: the beginnings' own scores are left out",
        "a continuation is as likely as its beginning times its last token: add the logarithms",
    ),
    Mistake(
        "logarithms multiplied",
        wrong_beams(join=lambda scores, log_p: scores[:, None] * log_p),
        "the two logarithms are multiplied: two small probabilities make a large product",
        "probabilities multiply, so their logarithms add",
    ),
    Mistake(
        "probabilities added",
        wrong_beams(join=lambda scores, log_p: np.log(np.exp(scores[:, None]) + np.exp(log_p))),
        "the probabilities are added, as if either of the two were enough",
        "both must happen: add the logarithms themselves",
    ),
    Mistake(
        "the mean of both",
        wrong_beams(join=lambda scores, log_p: (scores[:, None] + log_p) / 2),
        "the score is the mean of the two logarithms, so that earlier tokens count less and less",
        "add them; lengths are compared at the end only",
    ),
    Mistake(
        "the best of each beginning",
        wrong_beams(rank=best_of_each),
        "each beginning goes on by its best token only: of two good continuations of one beginning "
        "the second is lost",
        "rank all K V continuations together",
    ),
    Mistake(
        "as many for each beginning",
        wrong_beams(rank=fair_shares),
        "every beginning keeps the same number of continuations, though others are better",
        "a beginning may have all the places, or none",
    ),
    Mistake(
        "the first beginning only",
        wrong_beams(rank=first_beginning),
        "only the first beginning is continued",
        "flatten scores[:, None] + log_p before you rank",
    ),
    Mistake(
        "the worst are kept",
        wrong_beams(rank=lambda total, beams: np.argsort(total.ravel())[:beams]),
        "the unlikeliest continuations are kept: argsort rises",
        "argsort of the negative totals, or the end of it",
    ),
    Mistake(
        "the best last",
        wrong_beams(rank=lambda total, beams: np.argsort(total.ravel())[-beams:]),
        "the right ones are kept, but the best comes last",
        "turn the order around: [::-1]",
    ),
    Mistake(
        "in the order of their places",
        wrong_beams(rank=lambda total, beams: np.sort(np.argsort(-total.ravel())[:beams])),
        "the right ones are kept, but in the order of beginnings and tokens",
        "the best one comes first",
    ),
    Mistake(
        "divided by the number of beginnings",
        wrong_beams(place=lambda best, K, V: (best // K, best % K)),
        "the flat place is taken apart with K: row i begins at i V",
        "divide by the number of tokens, V = log_p.shape[1]",
    ),
    Mistake(
        "parents and tokens exchanged",
        wrong_beams(place=lambda best, K, V: (best % V, best // V)),
        "the quotient is the beginning, the remainder the token; here it is the other way round",
        "place = i V + v",
    ),
    Mistake(
        "column by column",
        wrong_beams(rank=columns_first, new=lambda total, log_p, best: total.T.ravel()[best]),
        "the table was flattened column by column, and the places are read row by row",
        "with ravel() of [K, V], place i V + v is beginning i, token v",
    ),
    Mistake(
        "the score of the last token",
        wrong_beams(new=lambda total, log_p, best: log_p.ravel()[best]),
        "the scores returned are those of the last token, without the beginning",
        "the next step has to know the sum of all logarithms so far",
    ),
    Mistake(
        "scores normalized",
        wrong_beams(new=normalized),
        "the scores are shifted so that the kept ones sum to 1: a total can no longer be compared "
        "with a text that has ended earlier",
        "leave the sums as they are",
    ),
]

# ---------------------------------------------------------------- attend_with_cache


def token(seed, H, d, e, M, scale=1.0):
    rng = np.random.default_rng(seed)
    shapes = [(H, d), (H, d), (H, e), (H, M, d), (H, M, e)]
    q, *others = (rng.standard_normal(shape) for shape in shapes)
    return Case(scale * q, *others)


@st.composite
def tokens(draw):
    seed = draw(st.integers(0, 2**32 - 1))
    return token(seed, *(draw(st.integers(1, 4)) for _ in range(3)), draw(st.integers(0, 5)))


TOKENS = [
    token(1, 2, 4, 4, 3),
    token(2, 3, 2, 5, 6),
    token(3, 2, 4, 4, 0),  # the first token: an empty cache
    token(4, 1, 3, 2, 1),
    token(5, 4, 4, 4, 4),
    token(6, 2, 8, 3, 20),
    token(7, 2, 4, 4, 5, 1000.0),
    token(8, 2, 4, 4, 5, np.array([[1000.0], [1.0]])),  # heads of very different size
]


def attend_reference(q, k, v, past_k, past_v):
    keys, values = (
        np.concatenate([past, new[:, None]], axis=1) for past, new in ((past_k, k), (past_v, v))
    )
    return ops.attention(q[:, None], keys, values)[0][:, 0], keys, values


def appended(past, new):
    return np.concatenate([past, new[:, None]], axis=1)


def along_keys(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def wrong_attend(
    *,
    kept=lambda q, k, v, past_k, past_v: (appended(past_k, k), appended(past_v, v)),
    seen=lambda keys, values, past_k, past_v: (keys, values),
    scale=lambda H, d, M: np.sqrt(d),
    weigh=along_keys,
    returned=lambda keys, values: (keys, values),
):
    """Attention with a cache, one of its parts replaced."""

    def attend_with_cache(q, k, v, past_k, past_v):
        keys, values = kept(q, k, v, past_k, past_v)
        K, V = seen(keys, values, past_k, past_v)
        s = np.einsum("hd,hmd->hm", q, K) / scale(*q.shape, past_k.shape[1] + 1)
        return np.einsum("hm,hme->he", weigh(s), V), *returned(keys, values)

    return attend_with_cache


def past_only(keys, values, past_k, past_v):
    if past_k.shape[1] == 0:
        return keys, values
    return past_k, past_v


def overwritten(past, new):
    return new[:, None] if past.shape[1] == 0 else np.concatenate([past[:, :-1], new[:, None]], 1)


def triangle_of_one(s):
    return along_keys(np.where(np.arange(s.shape[-1]) > 0, -np.inf, s))


def one_maximum(s):
    e = np.exp(s - s.max())
    return e / e.sum(axis=-1, keepdims=True)


def without_maximum(s):
    e = np.exp(s)
    return e / e.sum(axis=-1, keepdims=True)


ATTEND_MISTAKES = [
    Mistake(
        "does not see itself",
        wrong_attend(seen=past_only),
        "the new token attends to those before it only, and not to itself",
        "put its key and value into the cache first, and attend to all of it",
    ),
    Mistake(
        "nothing is added",
        wrong_attend(returned=lambda keys, values: (keys[:, :-1], values[:, :-1])),
        "the cache comes back as it was: the next token will not see this one",
        "return the keys and values with the new ones at the end",
    ),
    Mistake(
        "the newest in front",
        wrong_attend(
            kept=lambda q, k, v, past_k, past_v: (
                np.concatenate([k[:, None], past_k], 1),
                np.concatenate([v[:, None], past_v], 1),
            )
        ),
        "the new key and value stand at the beginning of the cache",
        "time runs along the axis: the newest comes last",
    ),
    Mistake(
        "the last one overwritten",
        wrong_attend(
            kept=lambda q, k, v, past_k, past_v: (overwritten(past_k, k), overwritten(past_v, v))
        ),
        "the new key and value take the place of the last ones, and the cache does not grow",
        "M becomes M + 1: concatenate",
    ),
    Mistake(
        "no scale",
        wrong_attend(scale=lambda H, d, M: 1.0),
        "the scores are not divided by sqrt(d)",
        "a sum of d products has d times the variance of one",
    ),
    Mistake(
        "divided by d",
        wrong_attend(scale=lambda H, d, M: d),
        "the scores are divided by d, not by its square root",
        "the standard deviation of a sum of d products grows by sqrt(d)",
    ),
    Mistake(
        "scaled by the number of keys",
        wrong_attend(scale=lambda H, d, M: np.sqrt(M)),
        "the scores are divided by the square root of the number of keys: the longer the text, the "
        "flatter the weights",
        "d is the length of a query, q.shape[-1]",
    ),
    Mistake(
        "scaled by the width of all heads",
        wrong_attend(scale=lambda H, d, M: np.sqrt(H * d)),
        "the scores are divided by sqrt(H d): d is the width of one head",
        "each head has its own dot product of length d",
    ),
    Mistake(
        "a causal mask for one query",
        wrong_attend(weigh=triangle_of_one),
        "the token sees the first key only: in a triangle of one row, row 0 sees column 0",
        "the one query is the last row of the triangle, and sees all",
    ),
    Mistake(
        "softmax over the heads",
        wrong_attend(weigh=lambda s: along_keys(s.T).T),
        "the weights sum to 1 over the heads, not over the keys",
        "normalize along the axis of the keys, the last one of [H, M + 1]",
    ),
    Mistake(
        "one softmax for all heads",
        wrong_attend(weigh=lambda s: along_keys(s.reshape(1, -1)).reshape(s.shape)),
        "the weights of all heads together sum to 1",
        "each head has its own weights: axis=-1",
    ),
    Mistake(
        "the query is kept",
        wrong_attend(
            kept=lambda q, k, v, past_k, past_v: (appended(past_k, q), appended(past_v, v))
        ),
        "the query was put among the keys",
        "a query is used once and forgotten; it is the key that later tokens look for",
    ),
    Mistake(
        "the value forgotten",
        wrong_attend(
            kept=lambda q, k, v, past_k, past_v: (appended(past_k, k), appended(past_v, 0 * v))
        ),
        "the new token's value is 0 in the cache",
        "keys and values grow together",
    ),
    Mistake(
        "one maximum for all heads",
        wrong_attend(weigh=one_maximum),
        "the largest score of *all* heads is subtracted: where one head's scores are much larger, "
        "all weights of another are e^-1000 = 0, and 0/0 is NaN",
        "each head has its own maximum: axis=-1, keepdims=True",
    ),
    Mistake(
        "not normalized",
        wrong_attend(weigh=lambda s: np.exp(s - s.max(axis=-1, keepdims=True))),
        "the weights do not sum to 1",
        "divide them by their sum over the keys",
    ),
    Mistake(
        "no maximum",
        wrong_attend(weigh=without_maximum),
        "exp overflows at large scores, and the result is NaN",
        "subtract the largest score of each head first",
    ),
]

EXERCISES = [
    Exercise(
        name="top_p",
        reference=top_p_reference,
        inputs=positions(),
        also=PLACES,
        contract="function",
        mistakes=TOP_P_MISTAKES,
        hints=(
            "sort the probabilities, the likeliest first, and add them up as you go",
            (
                "a token is in if those in front of it have less than p: its running sum without "
                "itself; the first one is then always in"
            ),
            (
                "order = np.argsort(-probs); before = np.cumsum(probs[order]) - probs[order]; "
                "nucleus = order[before < p]; copy those into zeros, divide by the sum"
            ),
        ),
    ),
    Exercise(
        name="beam_step",
        reference=beam_reference,
        inputs=searches(),
        also=SEARCHES,
        contract="function",
        mistakes=BEAM_MISTAKES,
        hints=(
            "make the table of all K V continuations first, then look for its largest entries",
            (
                "scores[:, None] + log_p is that table; flattened, beginning i with token v stands "
                "at place i V + v"
            ),
            (
                "best = np.argsort(-total.ravel())[:beams]; parents, tokens = np.divmod(best, V); "
                "the scores are total.ravel()[best]"
            ),
        ),
    ),
    Exercise(
        name="attend_with_cache",
        reference=attend_reference,
        inputs=tokens(),
        also=TOKENS,
        contract="function",
        mistakes=ATTEND_MISTAKES,
        hints=(
            "first make the cache longer by the new key and value, then attend to all of it",
            "k[:, None] is [H, 1, d], which np.concatenate puts behind past_k along axis 1",
            (
                "s = np.einsum('hd,hmd->hm', q, keys) / np.sqrt(d), a softmax along the last axis, "
                "and np.einsum('hm,hme->he', w, values); there is nothing to mask"
            ),
        ),
    ),
]
