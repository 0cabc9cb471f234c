"""Check 29: the loss of a language model, drawing from it, and what is often done instead."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.generate import next_token_probabilities
from scratchlm.lessons import Case, Exercise, Mistake, ids, normal

# ------------------------------------------------------------------------------ next_token_loss


@st.composite
def texts(draw):
    batch, length = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    words = draw(st.integers(2, 5))
    logits = draw(normal((batch, length, words)))
    return Case(logits, draw(ids(words, (batch, length))))


def made(seed, batch, length, words, scale=1.0):
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((batch, length, words))
    return Case(logits, rng.integers(0, words, (batch, length)))


def next_token_reference(logits, ids):
    loss, back = ops.cross_entropy(logits[:, :-1], ids[:, 1:])

    def vjp(dy):
        dlogits = np.zeros_like(logits)
        dlogits[:, :-1] = back(dy)[0]
        return dlogits, None

    return loss, vjp


# The right steps, each of which a mistake replaces.


def but_the_last(x):
    return x[:, :-1]


def but_the_first(x):
    return x[:, 1:]


def everything(x):
    return x


def log_softmax(x):
    z = x - x.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def into(where):
    def place(g, logits):
        dlogits = np.zeros_like(logits)
        where(dlogits)[...] = g
        return dlogits

    return place


def wrong(
    *,
    says=but_the_last,
    wanted=but_the_first,
    log_p=log_softmax,
    count=lambda n, B, T: n,
    count_back=None,
    dx=lambda p, hot: p - hot,
    place=None,
    chain=lambda dy: dy,
    hot_dtype=None,
    sign=1,
):
    """The loss with one of its steps replaced."""
    place = place or into(says)

    def next_token_loss(logits, ids):
        x, t = says(logits), wanted(ids)[..., None]
        hot = np.zeros(x.shape, hot_dtype or x.dtype)
        np.put_along_axis(hot, t, 1, axis=-1)
        log = log_p(x)
        loss = -sign * (log * hot).sum() / count(t.size, *ids.shape)

        def vjp(dy):
            g = sign * dx(np.exp(log), hot)
            g = g * (chain(dy) / (count_back or count)(t.size, *ids.shape))
            return place(g.astype(logits.dtype), logits), None

        return loss, vjp

    return next_token_loss


def over_time(x):
    z = x - x.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def flattened(x):
    return x.reshape(-1, x.shape[-1])[:-1] if x.ndim == 3 else x.reshape(-1)[1:]


def into_flattened(g, logits):
    dlogits = np.zeros_like(logits)
    dlogits.reshape(-1, logits.shape[-1])[:-1] = g
    return dlogits


def last_position_too(logits, ids):
    loss, right = next_token_reference(logits, ids)

    def vjp(dy):
        dlogits, _ = right(dy)
        share = dy / ids[:, 1:].size
        dlogits[:, -1] = share * np.exp(log_softmax(logits[:, -1]))
        return dlogits, None

    return loss, vjp


def log_of_the_mean(logits, ids):
    x, t = logits[:, :-1], ids[:, 1:, None]
    p = np.exp(log_softmax(x))
    at_target = np.take_along_axis(p, t, axis=-1)

    def vjp(dy):
        hot = np.zeros_like(x)
        np.put_along_axis(hot, t, 1, axis=-1)
        dlogits = np.zeros_like(logits)
        dlogits[:, :-1] = dy * at_target * (p - hot) / at_target.sum()
        return dlogits, None

    return -np.log(at_target.mean()), vjp


def changed_in_place(logits, ids):
    loss, _ = next_token_reference(logits, ids)
    p = np.exp(log_softmax(logits[:, :-1]))
    t = ids[:, 1:, None]

    def vjp(dy):
        np.put_along_axis(p, t, np.take_along_axis(p, t, axis=-1) - 1, axis=-1)
        dlogits = np.zeros_like(logits)
        dlogits[:, :-1] = p * (dy / t.size)
        return dlogits, None

    return loss, vjp


def in_bits(logits, ids):
    loss, vjp = next_token_reference(logits, ids)
    ln2 = logits.dtype.type(np.log(2))
    return loss / ln2, lambda dy: (vjp(dy)[0] / ln2, None)


LOSS_MISTAKES = [
    Mistake(
        "no shift",
        wrong(says=everything, wanted=everything),
        "position t is asked for the token that it has just read, not for the one that comes next",
        "write `ids` down, and below each token what the model must say there; what stands below "
        "the first one?",
    ),
    Mistake(
        "shifted the wrong way",
        wrong(says=but_the_first, wanted=but_the_last),
        "position t is asked for token t - 1, which it has read long ago: the shift goes backward",
        "which of the two loses its first entry, and which its last? Try it on a text of 2 tokens",
    ),
    Mistake(
        "rolled round",
        wrong(says=everything, wanted=lambda ids: np.roll(ids, -1, axis=1)),
        "the last position is asked for the first token of the text: the shift wraps around",
        "T tokens hold how many pairs of neighbors? The last position has nothing to be judged by",
    ),
    Mistake(
        "texts joined",
        wrong(says=flattened, wanted=flattened, place=into_flattened),
        "the batch is flattened before the shift: a text's end is asked for the next text's begin",
        "shift along the axis of time, in every text by itself; flatten afterwards if you like",
    ),
    Mistake(
        "sum",
        wrong(count=lambda n, B, T: 1),
        "this is the sum over all predictions: it grows with the batch and with the length",
        "divide by the number of predictions; how many does a batch of B texts hold?",
    ),
    Mistake(
        "mean over the texts",
        wrong(count=lambda n, B, T: B),
        "the sum is divided by the number of texts only: a longer text costs more",
        "each text makes several predictions; the mean goes over all of them",
    ),
    Mistake(
        "mean over the positions",
        wrong(count=lambda n, B, T: T - 1),
        "the sum is divided by the number of positions only: a larger batch costs more",
        "the mean goes over the positions of every text",
    ),
    Mistake(
        "divided by all positions",
        wrong(count=lambda n, B, T: B * T),
        "the sum is divided by all B T positions, but one in each text predicts nothing",
        "count the terms of the sum: T tokens hold how many pairs of neighbors?",
    ),
    Mistake(
        "sign",
        wrong(sign=-1),
        "the loss is negative: it rewards surprise, and descending on it unlearns the text",
        "ln p is never above 0, a loss never below it",
    ),
    Mistake(
        "in bits",
        in_bits,
        "the loss is measured in bits: the logarithm has base 2",
        "the formula has the natural logarithm; np.log is it",
    ),
    Mistake(
        "log of the mean",
        log_of_the_mean,
        "mean and logarithm are exchanged: one good guess hides many bad ones",
        "take the logarithm of every probability first: the log of a product is a sum of logs",
    ),
    Mistake(
        "softmax over time",
        wrong(log_p=over_time, dx=lambda p, hot: p * hot.sum(axis=1, keepdims=True) - hot),
        "the positions of a text share out the 1 among them, instead of the vocabulary's tokens",
        "at one position, which numbers compete? Their probabilities have to sum to 1",
    ),
    Mistake(
        "no maximum",
        wrong(log_p=lambda x: x - np.log(np.exp(x).sum(axis=-1, keepdims=True))),
        "exp overflows on large logits, and the loss is inf or NaN",
        "a number taken off a whole row changes no probability: which one keeps exp at 1 or below?",
    ),
    Mistake(
        "float64 one-hot",
        wrong(hot_dtype=np.float64),
        "float32 goes in and float64 comes out: an array was made without a dtype",
        "np.zeros and np.eye make float64; give them the dtype of logits",
    ),
    Mistake(
        "1/N missing in backward",
        wrong(count_back=lambda n, B, T: 1),
        "the loss is a mean, but its gradient is that of the sum: too large by the number of "
        "predictions",
        "each prediction enters the loss with the factor 1/N, so each gradient has that factor too",
    ),
    Mistake(
        "dy left out",
        wrong(chain=lambda dy: 1),
        "vjp does not use dy: it is right only where the loss is the last number of the program",
        "the chain rule multiplies by what comes from above",
    ),
    Mistake(
        "one-hot left out",
        wrong(dx=lambda p, hot: p),
        "the gradient is the probability alone: it pushes every logit down, the right one too",
        "differentiate -x_target too; which entry of the row gets something extra?",
    ),
    Mistake(
        "gradient at the last position",
        last_position_too,
        "the last position gets a gradient, though no term of the loss contains its logits",
        "change logits[:, -1] and look at the loss: what is the derivative, then?",
    ),
    Mistake(
        "gradient one place late",
        wrong(place=into(but_the_first)),
        "the gradient of position t is put at position t + 1",
        "the slice that forward took from logits is the slice that backward has to fill",
    ),
    Mistake(
        "last position missing",
        wrong(place=lambda g, logits: g),
        "dlogits has the shape of what the slice has left, not of logits",
        "a slice in forward is a filling up with zeros in backward: np.zeros_like(logits) first",
    ),
    Mistake(
        "changed in place",
        changed_in_place,
        "vjp changes what it has kept, so its second call subtracts the one-hot rows again",
        "make a new array inside vjp, at every call",
    ),
]


# --------------------------------------------------------------------------------------- sample


def sample_reference(logits, u, *, temperature=1.0, top_k=None):
    p = next_token_probabilities(logits, temperature=temperature, top_k=top_k)
    end = p.cumsum()
    return int((end <= u * end[-1]).sum())


@st.composite
def draws(draw):
    words = draw(st.integers(2, 6))
    logits = draw(normal((words,), 1.5))
    u = draw(st.integers(0, 999)) / 1000 + 0.000271  # on no edge
    temperature = draw(st.sampled_from([0.4, 1.0, 1.0, 2.5]))
    top_k = draw(st.sampled_from([None, None, *range(1, words + 1)]))
    return Case(logits, u, temperature=temperature, top_k=top_k)


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def the_rest(z, k):
    return np.argsort(z)[: len(z) - k]  # all but the k largest


def among_largest(z, k):
    z = z.copy()
    z[the_rest(z, k)] = -np.inf
    return z


def zero_rest(p, k):
    p = p.copy()
    p[the_rest(p, k)] = 0
    return p


def others_zero(z, k):
    z = z.copy()
    z[the_rest(z, k)] = 0
    return z


def smallest(z, k):
    z = z.copy()
    z[np.argsort(z)[k:]] = -np.inf
    return z


def above_the_kth(z, k):
    return np.where(z > np.sort(z)[len(z) - k], z, -np.inf)


def first_end_beyond(p, u):
    return int(np.searchsorted(np.cumsum(p), u, side="right"))


def wrong_draw(
    *,
    heat=lambda z, t: z / t,
    keep=among_largest,
    weigh=softmax,
    heat_p=lambda p, t: p,
    keep_p=lambda p, k: p,
    pick=first_end_beyond,
):
    """Drawing with one of its steps replaced."""

    def sample(logits, u, *, temperature=1.0, top_k=None):
        z = heat(logits, temperature)
        z = z if top_k is None else keep(z, top_k)
        p = heat_p(weigh(z), temperature)
        return pick(p if top_k is None else keep_p(p, top_k), u)

    return sample


def nothing(value, option):
    return value


def from_the_likeliest(p):
    return np.argsort(-p, kind="stable")


DRAW_MISTAKES = [
    Mistake(
        "temperature multiplied",
        wrong_draw(heat=lambda z, t: z * t),
        "the logits are multiplied by the temperature: hot is cold and cold is hot",
        "a high temperature has to bring the logits nearer to each other",
    ),
    Mistake(
        "temperature after softmax",
        wrong_draw(heat=nothing, heat_p=lambda p, t: p / t),
        "the probabilities are divided by the temperature, so that they no longer sum to 1",
        "the temperature acts on the logits, where it changes their distances",
    ),
    Mistake(
        "temperature without effect",
        wrong_draw(heat=nothing),
        "the temperature has no effect: it is not used, or it divides probabilities that are then "
        "divided by their sum",
        "the temperature has to act before the exponential",
    ),
    Mistake(
        "top_k without effect",
        wrong_draw(keep=nothing),
        "top_k has no effect: the small ones are still drawn",
        "which logit gives the probability 0?",
    ),
    Mistake(
        "not shared out again",
        wrong_draw(keep=nothing, keep_p=zero_rest),
        "top_k strikes out probabilities after the softmax; the rest sums to less than 1, and u "
        "runs past the end",
        "strike out the logits before the softmax, or divide by the new sum",
    ),
    Mistake(
        "not shared out again, back to 0",
        wrong_draw(
            keep=nothing, keep_p=zero_rest, pick=lambda p, u: int((np.cumsum(p) > u).argmax())
        ),
        "top_k strikes out probabilities after the softmax; where u lies past their sum, nothing "
        "is found, and argmax of nothing is 0",
        "strike out the logits before the softmax, or divide by the new sum",
    ),
    Mistake(
        "smallest kept",
        wrong_draw(keep=smallest),
        "the top_k smallest logits are kept: np.argsort sorts upward",
        "print np.argsort(logits); at which end are the likeliest?",
    ),
    Mistake(
        "the others set to zero",
        wrong_draw(keep=others_zero),
        "the logits that are out are set to 0, but exp(0) is 1: they are still drawn",
        "which logit gives the probability 0?",
    ),
    Mistake(
        "one too few",
        wrong_draw(keep=above_the_kth),
        "only top_k - 1 are kept: the k-th largest itself is struck out",
        "compare with the k-th largest: may it stay?",
    ),
    Mistake(
        "always the likeliest",
        wrong_draw(pick=lambda p, u: int(p.argmax())),
        "u has no effect: the likeliest is taken every time",
        "compare u with the running sum of the probabilities",
    ),
    Mistake(
        "place for id",
        wrong_draw(
            pick=lambda p, u: first_end_beyond(p[from_the_likeliest(p)], u),
        ),
        "the place in the sorted order is returned, not the id that stands there",
        "after sorting, place 0 is the likeliest id, whichever that is; better not to sort at all",
    ),
    Mistake(
        "laid out by size",
        wrong_draw(
            pick=lambda p, u: int(
                from_the_likeliest(p)[first_end_beyond(p[from_the_likeliest(p)], u)]
            ),
        ),
        "the pieces are laid out from the likeliest on: a fair draw, but another one for this u",
        "lay them out in the order of the ids; sorting is not needed to draw",
    ),
    Mistake(
        "end taken in",
        wrong_draw(pick=lambda p, u: int(np.searchsorted(np.cumsum(p), u))),
        "an end is counted to its own piece: with u = 0 an id of probability 0 is drawn",
        "u = 0 falls into the first piece that is longer than 0; compare with <= or side='right'",
    ),
    Mistake(
        "no maximum",
        wrong_draw(weigh=lambda z: np.exp(z) / np.exp(z).sum()),
        "exp overflows on large logits or at a low temperature, and inf / inf is NaN",
        "a number taken off all logits changes no probability: which one keeps exp at 1 or below?",
    ),
]

EXERCISES = [
    Exercise(
        name="next_token_loss",
        reference=next_token_reference,
        inputs=texts(),
        also=[
            Case(np.log([[[1.0, 2, 1], [1, 3, 4], [5, 1, 1]]]), np.array([[0, 1, 0]])),
            made(1, 3, 3, 3),
            made(2, 2, 4, 5),
            made(3, 4, 2, 3),
            made(4, 3, 5, 2),
            made(5, 2, 3, 4, scale=5e3),
        ],
        mistakes=LOSS_MISTAKES,
        hints=(
            (
                "How many predictions does a text of T tokens hold, and which positions make "
                "them? Write a text of three tokens down, and below each position what it has "
                "to say."
            ),
            (
                "logits[:, :-1] belong to ids[:, 1:]. From there on it is the cross-entropy of "
                "lesson 05, over B (T - 1) rows. In backward, the position that was cut off "
                "comes back as zeros."
            ),
            (
                "x = logits[:, :-1], log_p = z - ln(sum of exp(z)) with z = x - max(x), the "
                "loss is minus the mean of log_p at ids[:, 1:]. dx = (exp(log_p) - onehot) dy / "
                "N with N = B (T - 1), and dlogits = zeros_like(logits) with dx in [:, :-1]. "
                "Return (dlogits, None)."
            ),
        ),
    ),
    Exercise(
        name="sample",
        reference=sample_reference,
        contract="function",
        inputs=draws(),
        also=[
            Case(np.array([0.0, 1.0, 2.0]), 0.5),
            Case(np.array([0.0, 1.0, 2.0]), 0.4),
            Case(np.array([0.3, 0.0, -0.4]), 0.5),
            Case(np.array([0.0, 1.0, 2.0]), 0.0, top_k=2),
            Case(np.array([2.0, -1.0, 1.0, 0.5]), 0.9, top_k=2),
            Case(np.array([2.0, -1.0, 1.0, 0.5]), 0.5, temperature=3.0),
            Case(np.array([2.0, -1.0, 1.0, 0.5]), 0.85, temperature=0.5),
            Case(np.array([999.0, 1000.0, 998.0]), 0.7),
            Case(np.array([0.0, 1000.0, 999.0]), 0.7),
            Case(np.array([20.0, 21.0, 19.0]), 0.95, temperature=0.02, top_k=3),
        ],
        mistakes=DRAW_MISTAKES,
        hints=(
            (
                "Three steps: the logits become sharper or flatter, some are struck out, and u "
                "picks one of the rest. Which of the steps come before the softmax?"
            ),
            (
                "Divide the logits by the temperature, set all but the top_k largest to -inf, "
                "take the softmax. Its running sum tells where each piece ends; u falls into "
                "the first piece whose end lies beyond u."
            ),
            (
                "z = (logits - max) / temperature; z[np.argsort(z)[:-top_k]] = -inf; p = exp(z) "
                "/ sum; end = np.cumsum(p); the id is the number of ends that are <= u. Since "
                "the last end is 1 only up to rounding, compare with u * end[-1]."
            ),
        ),
    ),
]
