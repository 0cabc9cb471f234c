"""Check 31: hiding tokens, asking for them, and what is often done instead."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal

# ----------------------------------------------------------------------------------- mask_tokens

PAD, CLS, SEP, MASK = SPECIAL = (0, 1, 2, 3)


def texts_made(seed, lengths, words=9, special=SPECIAL, **options):
    """[CLS] words [SEP], padded; ids of special tokens are the lowest."""
    rng = np.random.default_rng(seed)
    ids = np.full((len(lengths), max(lengths) + 2), PAD)
    for row, n in zip(ids, lengths, strict=True):
        row[: n + 2] = [CLS, *rng.integers(4, 4 + words, n), SEP]
    lots, fate = rng.random(ids.shape), rng.random(ids.shape)
    other = rng.integers(4, 4 + words, ids.shape)
    return Case(ids, lots, fate, other, mask_id=MASK, special=list(special), **options)


@st.composite
def texts(draw):
    lengths = draw(
        st.lists(st.sampled_from([1, 2, 3, 4, 5, 8, 10, 11, 13]), min_size=1, max_size=4)
    )
    share = draw(st.sampled_from([0.15, 0.15, 0.4]))
    return texts_made(draw(st.integers(0, 2**32 - 1)), lengths, share=share)


def cases_of_texts():
    all_there = texts_made(5, [20, 13, 1, 7])
    fates = np.linspace(0, 0.999, all_there.arguments[0].size).reshape(4, -1)
    spread = Case(*all_there.arguments[:2], fates, all_there.arguments[3], **all_there.options)
    edges = texts_made(6, [12, 12], share=1.0)
    edges.arguments[2][...] = np.resize(
        [0.0, 0.8, 0.9, 0.7999, 0.8999, 0.81], edges.arguments[2].shape
    )
    empty = texts_made(7, [0, 4])
    own_special = texts_made(8, [9, 6], special=[*SPECIAL, 4, 5, 6])
    text = np.array([[7, 4, 9, 5, 8, 6, 4, 7, 9, 5]])
    lots = np.array([[0.5, 0.9, 0.1, 0.8, 0.3, 0.7, 0.2, 0.6, 0.95, 0.4]])
    by_hand = Case(text, lots, 1 - lots, text[:, ::-1].copy(), mask_id=3, special=[0, 1, 2, 3])
    return [
        by_hand,
        spread,
        edges,
        empty,
        own_special,
        texts_made(9, [13, 10, 8, 11, 5], share=0.6),
    ]


def mask_reference(ids, lots, fate, other, *, mask_id, special, share=0.15):
    inputs, targets = ids.copy(), np.full(ids.shape, -100)
    for b, row in enumerate(ids):
        ordinary = [t for t in range(len(row)) if row[t] not in special]
        count = min(len(ordinary), max(1, round(share * len(ordinary))))
        for t in sorted(ordinary, key=lambda t: lots[b, t])[:count]:
            targets[b, t] = row[t]
            if fate[b, t] < 0.8:
                inputs[b, t] = mask_id
            elif fate[b, t] < 0.9:
                inputs[b, t] = other[b, t]
    return inputs, targets


# The right steps, each of which a mistake replaces.


def smallest_lots(ids, lots, ordinary, share, *, round_to=np.rint, least=1, most=None, n=None):
    n = ordinary.sum(axis=-1, keepdims=True) if n is None else n
    wanted = np.minimum(np.maximum(round_to(share * n), least), n if most is None else most)
    lots = np.where(ordinary, lots, np.inf)
    return lots.argsort(axis=-1).argsort(axis=-1) < wanted


def fates(ids, fate, other, mask_id, chosen):
    inputs = np.where(chosen & (fate < 0.9), other, ids)
    return np.where(chosen & (fate < 0.8), mask_id, inputs)


def wrong(
    *,
    ordinary=lambda ids, special: ~np.isin(ids, special),
    choose=smallest_lots,
    become=fates,
    ask=lambda ids, inputs, chosen, mask_id: np.where(chosen, ids, -100),
    shares=lambda share: share,
):
    """Hiding tokens with one of its steps replaced."""

    def mask_tokens(ids, lots, fate, other, *, mask_id, special, share=0.15):
        chosen = choose(ids, lots, ordinary(ids, special), shares(share))
        inputs = become(ids, fate, other, mask_id, chosen)
        return inputs, ask(ids, inputs, chosen, mask_id)

    return mask_tokens


def largest_lots(ids, lots, ordinary, share):
    return smallest_lots(ids, -lots, ordinary, share)


def first_ones(ids, lots, ordinary, share):
    return smallest_lots(ids, np.broadcast_to(np.arange(ids.shape[1]), ids.shape), ordinary, share)


def whole_batch(ids, lots, ordinary, share):
    flat = [x.reshape(1, -1) for x in (ids, lots, ordinary)]
    return smallest_lots(*flat, share).reshape(ids.shape)


def coins(ids, lots, ordinary, share):
    return ordinary & (lots < share)


def sorted_once(ids, lots, ordinary, share):
    n = ordinary.sum(axis=-1, keepdims=True)
    wanted = np.minimum(np.maximum(np.rint(share * n), 1), n)
    return np.where(ordinary, lots, np.inf).argsort(axis=-1) < wanted


def all_counted(ids, lots, ordinary, share):
    n = ordinary.sum(axis=-1, keepdims=True)
    wanted = np.minimum(np.maximum(np.rint(share * ids.shape[1]), 1), n)
    return np.where(ordinary, lots, np.inf).argsort(axis=-1).argsort(axis=-1) < wanted


def options(**changed):
    return lambda ids, lots, ordinary, share: smallest_lots(ids, lots, ordinary, share, **changed)


def by_pieces(first, second):
    """Fates by their pieces: [MASK] where ``first``, another word where ``second``."""

    def become(ids, fate, other, mask_id, chosen):
        inputs = np.where(chosen & second(fate), other, ids)
        return np.where(chosen & first(fate), mask_id, inputs)

    return become


def below_80(fate):
    return fate < 0.8


def nowhere(fate):
    return np.zeros(fate.shape, bool)


def without_chosen(ids, fate, other, mask_id, chosen):
    return fates(ids, fate, other, mask_id, np.ones_like(chosen))


def words_anywhere(ids, fate, other, mask_id, chosen):
    inputs = np.where((fate >= 0.8) & (fate < 0.9), other, ids)
    return np.where(chosen & (fate < 0.8), mask_id, inputs)


def in_place(ids, lots, fate, other, *, mask_id, special, share=0.15):
    inputs, targets = mask_reference(
        ids, lots, fate, other, mask_id=mask_id, special=special, share=share
    )
    ids[...] = inputs
    return ids, targets


def in_place_and_asked(ids, lots, fate, other, *, mask_id, special, share=0.15):
    inputs, targets = mask_reference(
        ids, lots, fate, other, mask_id=mask_id, special=special, share=share
    )
    ids[...] = inputs
    return ids, np.where(targets != -100, ids, -100)


MASK_MISTAKES = [
    Mistake(
        "special tokens chosen",
        wrong(ordinary=lambda ids, special: np.ones(ids.shape, bool)),
        "padding, [CLS] and [SEP] are chosen like any word; their places are known beforehand, so "
        "there is nothing to learn from them",
        "np.isin(ids, special) says where they are; which lot must they draw, so as not to win?",
    ),
    Mistake(
        "padding counted",
        wrong(choose=all_counted),
        "the share is taken of all T places, padding and all: a short text in a long batch is "
        "hidden nearly whole",
        "count the ordinary tokens of each text, and take the share of that",
    ),
    Mistake(
        "everything asked",
        wrong(ask=lambda ids, inputs, chosen, mask_id: ids.copy()),
        "every place is asked, though most tokens stand there to be read: copying them is no task",
        "-100 wherever a token was not chosen",
    ),
    Mistake(
        "only [MASK] asked",
        wrong(ask=lambda ids, inputs, chosen, mask_id: np.where(inputs == mask_id, ids, -100)),
        "only the places that show [MASK] are asked; then the other 20 % serve no end",
        "what was chosen is asked, whatever became of it: that is why no token can be trusted",
    ),
    Mistake(
        "only changes asked",
        wrong(ask=lambda ids, inputs, chosen, mask_id: np.where(inputs != ids, ids, -100)),
        "the tokens that were chosen and stay what they are are not asked; then a word that is "
        "seen at an asked place is always wrong",
        "what was chosen is asked, whatever became of it",
    ),
    Mistake(
        "asked for what is read",
        wrong(ask=lambda ids, inputs, chosen, mask_id: np.where(chosen, inputs, -100)),
        "the targets are taken from what the model reads, so it is asked to say [MASK]",
        "the targets are what stood there before",
    ),
    Mistake(
        "0 for -100",
        wrong(ask=lambda ids, inputs, chosen, mask_id: np.where(chosen, ids, 0)),
        "places that are not asked have the target 0, but 0 is a token: the model learns to say it "
        "nearly everywhere",
        "-100 is no token, and the loss leaves it out",
    ),
    Mistake(
        "everything becomes [MASK]",
        wrong(become=by_pieces(lambda fate: fate >= 0, nowhere)),
        "every chosen token becomes [MASK]: no visible word is ever asked about, and so none needs "
        "to be understood; no text in later use has a [MASK]",
        "fate decides: below 0.8, from 0.8 to 0.9, and the rest",
    ),
    Mistake(
        "none stays",
        wrong(become=by_pieces(below_80, lambda fate: fate >= 0.8)),
        "every chosen token that is not [MASK] becomes another word: what the model sees at such a "
        "place is then always wrong, and it learns to distrust every word",
        "one in ten of the chosen stays what it is: fate from 0.9 on",
    ),
    Mistake(
        "no other words",
        wrong(become=by_pieces(below_80, nowhere)),
        "no chosen token becomes another word: what is not [MASK] is then always right, and to "
        "copy it is enough",
        "one in ten of the chosen: fate from 0.8 to 0.9",
    ),
    Mistake(
        "a tenth of the rest",
        wrong(become=by_pieces(below_80, lambda fate: (fate >= 0.8) & (fate < 0.82))),
        "another word is put at a tenth of what [MASK] has left over: 2 % of the chosen, not 10 %",
        "the shares 0.8, 0.1 and 0.1 are all of the chosen; where do they end, laid side by side?",
    ),
    Mistake(
        "pieces in another order",
        wrong(become=by_pieces(lambda f: f >= 0.2, lambda f: f < 0.1)),
        "the shares are right, but laid out in another order than the stub says",
        "[MASK] first, from 0 to 0.8",
    ),
    Mistake(
        "shares exchanged",
        wrong(become=by_pieces(lambda f: (f >= 0.8) & (f < 0.9), below_80)),
        "80 % become another word and 10 % [MASK]: the model reads nonsense",
        "which of the two is the rule, and which the exception?",
    ),
    Mistake(
        "ends taken in",
        wrong(become=by_pieces(lambda f: f <= 0.8, lambda f: f <= 0.9)),
        "an end is counted to the piece before it: 0.8 itself belongs to the other words, 0.9 to "
        "those that stay",
        "compare with <, not <=",
    ),
    Mistake(
        "not only the chosen",
        wrong(become=without_chosen),
        "every token of the text meets its fate, chosen or not: 90 % of the text is gone",
        "two questions: is the token chosen, and what becomes of it? The second is for those alone",
    ),
    Mistake(
        "words anywhere",
        wrong(become=words_anywhere),
        "other words are put at a tenth of all places, not of the chosen ones: most of them are "
        "never asked about, the text is just spoilt",
        "chosen & (0.8 <= fate) & (fate < 0.9)",
    ),
    Mistake(
        "largest lots",
        wrong(choose=largest_lots, ordinary=lambda ids, special: ~np.isin(ids, special)),
        "the largest lots win",
        "the smallest lots are chosen; a fair draw, but the stub has to say which",
    ),
    Mistake(
        "first tokens",
        wrong(choose=first_ones),
        "the first tokens of each text are chosen, whatever their lots: the rest is never asked",
        "who is chosen is decided by the lots: order them",
    ),
    Mistake(
        "places for ranks",
        wrong(choose=sorted_once),
        "argsort says which token is first, second, third; what is compared here has to be the "
        "rank of each token",
        "argsort of argsort gives ranks; or compare each lot with the largest one that wins",
    ),
    Mistake(
        "the batch as one text",
        wrong(choose=whole_batch),
        "the lots of the whole batch compete: some texts are hidden twice over, others not at all",
        "each text by itself: axis=-1, and a count for each row",
    ),
    Mistake(
        "a coin for each token",
        wrong(choose=coins),
        "each token is chosen by itself, where its lot is below the share: how many there are is "
        "left to chance, and a short text often has none",
        "first how many, then which: those with the smallest lots",
    ),
    Mistake(
        "rounded down",
        wrong(choose=options(round_to=np.floor)),
        "the number of chosen tokens is rounded down: of 13 tokens 1.95 should be 2, not 1",
        "round to the nearest whole number: np.rint",
    ),
    Mistake(
        "rounded up",
        wrong(choose=options(round_to=np.ceil)),
        "the number of chosen tokens is rounded up: of 8 tokens 1.2 should be 1, not 2",
        "round to the nearest whole number: np.rint",
    ),
    Mistake(
        "none of a short text",
        wrong(choose=options(least=0)),
        "of a text with 3 tokens or fewer none is chosen, since 0.45 is rounded to 0: it teaches "
        "nothing",
        "at least 1",
    ),
    Mistake(
        "one of nothing",
        wrong(choose=options(most=np.inf)),
        "a text without ordinary tokens has one chosen all the same, and that is a special one",
        "at most n, and n may be 0",
    ),
    Mistake(
        "share without effect",
        wrong(shares=lambda share: 0.15),
        "share has no effect: it is always 15 %",
        "use the option where you count how many are to be chosen",
    ),
    Mistake(
        "ids changed",
        in_place,
        "the texts themselves are changed: in the next epoch they are full of [MASK]",
        "write into a copy, or make the result with np.where",
    ),
    Mistake(
        "ids changed, then asked",
        in_place_and_asked,
        "the texts are changed first and the targets read from them afterward, so the model is "
        "asked to say [MASK]",
        "write into a copy, and take the targets from what stood there before",
    ),
]

# -------------------------------------------------------------------------------- masked_lm_loss


def asked_for(seed, batch, length, width, words, targets=None, scale=1.0):
    rng = np.random.default_rng(seed)
    h, table = rng.standard_normal((batch, length, width)), rng.standard_normal((words, width))
    bias = rng.standard_normal(words)
    if targets is None:
        targets = rng.integers(0, words, (batch, length))
        targets[rng.random(targets.shape) < 0.6] = -100
        targets[0, -1] = rng.integers(words)  # at least one
    return Case(scale * h, table, bias, np.array(targets))


@st.composite
def encoded(draw):
    batch, length = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    width, words = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    case = asked_for(draw(st.integers(0, 2**32 - 1)), batch, length, width, words)
    return Case(draw(normal((batch, length, width))), *case.arguments[1:])


def loss_reference(h, table, bias, targets):
    z, back_z = ops.linear(h, table, bias)
    loss, back_loss = ops.cross_entropy(z, targets)
    return loss, lambda dy: (*back_z(back_loss(dy)[0]), None)


def log_softmax(z, axis=-1):
    z = z - z.max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


def back_in_place(dx, h, asked):
    dh = np.zeros_like(h)
    dh[asked] = dx
    return dh


def wrong_loss(
    *,
    asked=lambda targets: targets != -100,
    wanted=lambda targets: targets,
    log_p=log_softmax,
    count=lambda asked: max(asked.sum(), 1),
    count_back=None,
    dz=lambda p, hot: p - hot,
    add=lambda bias: bias,
    dtable=lambda dz, x, table: dz.T @ x,
    dbias=lambda dz, bias: dz.sum(axis=0),
    place=back_in_place,
    chain=lambda dy: dy,
    hot_dtype=None,
    sign=1,
):
    """The loss with one of its steps replaced."""

    def masked_lm_loss(h, table, bias, targets):
        where = asked(targets)
        x, t = h[where], wanted(targets)[where][:, None]
        z = x @ table.T + add(bias)
        hot = np.zeros(z.shape, hot_dtype or z.dtype)
        np.put_along_axis(hot, t, 1, axis=-1)
        log = log_p(z) if len(z) else z
        loss = -sign * (log * hot).sum() / count(where)

        def vjp(dy):
            g = sign * dz(np.exp(log), hot) * (chain(dy) / (count_back or count)(where))
            g = g.astype(h.dtype)
            dh = place((g @ table).astype(h.dtype), h, where)
            return dh, dtable(g, x, table), dbias(g, bias), None

        return loss, vjp

    return masked_lm_loss


def everywhere(targets):
    return np.ones(targets.shape, bool)


def all_places(h, table, bias, targets):
    """Zero loss where nothing is asked, but a gradient all the same."""
    loss, _ = loss_reference(h, table, bias, targets)
    where = targets != -100

    def vjp(dy):
        p = np.exp(log_softmax(h @ table.T + bias))
        dz = p * (dy / max(where.sum(), 1))
        hot = np.zeros_like(dz)
        np.put_along_axis(hot, np.where(where, targets, 0)[..., None], 1, axis=-1)
        dz -= hot * where[..., None] * (dy / max(where.sum(), 1))
        rows = dz.reshape(-1, dz.shape[-1])
        return dz @ table, rows.T @ h.reshape(-1, h.shape[-1]), rows.sum(axis=0), None

    return loss, vjp


def mean_of_means(h, table, bias, targets):
    where = targets != -100
    texts = max(int(where.any(axis=1).sum()), 1)
    weight = where / np.maximum(where.sum(axis=1, keepdims=True), 1) / texts
    weight = weight.astype(h.dtype)
    log = log_softmax(h @ table.T + bias)
    t = np.where(where, targets, 0)[..., None]
    loss = -(weight * np.take_along_axis(log, t, axis=-1)[..., 0]).sum()

    def vjp(dy):
        dz = np.exp(log)
        np.put_along_axis(dz, t, np.take_along_axis(dz, t, axis=-1) - 1, axis=-1)
        dz *= dy * weight[..., None]
        rows = dz.reshape(-1, dz.shape[-1])
        return dz @ table, rows.T @ h.reshape(-1, h.shape[-1]), rows.sum(axis=0), None

    return loss, vjp


def log_of_the_mean(h, table, bias, targets):
    where = targets != -100
    x, t = h[where], targets[where][:, None]
    if not len(x):
        return loss_reference(h, table, bias, targets)
    p = np.exp(log_softmax(x @ table.T + bias))
    at = np.take_along_axis(p, t, axis=-1)

    def vjp(dy):
        hot = np.zeros_like(p)
        np.put_along_axis(hot, t, 1, axis=-1)
        dz = dy * at * (p - hot) / at.sum()
        return back_in_place(dz @ table, h, where), dz.T @ x, dz.sum(axis=0), None

    return -np.log(at.mean()), vjp


def in_bits(h, table, bias, targets):
    loss, vjp = loss_reference(h, table, bias, targets)
    ln2 = h.dtype.type(np.log(2))
    return loss / ln2, lambda dy: (*(g / ln2 for g in vjp(dy)[:3]), None)


def minus_hundred(h, table, bias, targets):
    log = log_softmax(h @ table.T + bias)
    rows, t = log.reshape(-1, log.shape[-1]), targets.reshape(-1)
    return -rows[np.arange(len(t)), t].mean(), lambda dy: (h, table, bias, None)


def forgets_dtable(h, table, bias, targets):
    loss, vjp = loss_reference(h, table, bias, targets)

    def only_h(dy):
        dh, _, dbias, _ = vjp(dy)
        return dh, None, dbias, None

    return loss, only_h


def changed_in_place(h, table, bias, targets):
    where = targets != -100
    x, t = h[where], targets[where][:, None]
    N = max(len(t), 1)
    log = log_softmax(x @ table.T + bias) if len(t) else np.zeros((0, len(bias)), h.dtype)
    p = np.exp(log)

    def vjp(dy):
        np.put_along_axis(p, t, np.take_along_axis(p, t, axis=-1) - 1, axis=-1)
        dz = p * (dy / N)
        return back_in_place(dz @ table, h, where), dz.T @ x, dz.sum(axis=0), None

    return -np.take_along_axis(log, t, axis=-1).sum() / N, vjp


LOSS_MISTAKES = [
    Mistake(
        "-100 as a place",
        minus_hundred,
        "-100 is used as an index, as if it were a token",
        "strike those places out before you look anything up: targets != -100",
    ),
    Mistake(
        "not asked, but token 0",
        wrong_loss(asked=everywhere, wanted=lambda targets: np.maximum(targets, 0)),
        "places that are not asked count as if token 0 had been hidden there",
        "strike those places out: they are in no term of the sum",
    ),
    Mistake(
        "divided by all places",
        wrong_loss(count=lambda asked: asked.size),
        "the sum is divided by all B T places, though only some were asked: the loss is too small, "
        "the more so the fewer are asked",
        "count the terms of the sum",
    ),
    Mistake(
        "sum",
        wrong_loss(count=lambda asked: 1),
        "this is the sum over the asked places, not their mean",
        "divide by the number of places that are asked",
    ),
    Mistake(
        "divided by the texts",
        wrong_loss(count=lambda asked: len(asked)),
        "the sum is divided by the number of texts; each of them is asked at several places",
        "divide by the number of places that are asked",
    ),
    Mistake(
        "mean of the texts' means",
        mean_of_means,
        "the mean is taken in each text first: a place in a text with few gaps counts for more",
        "all the asked places of the batch are one heap: one sum, one number",
    ),
    Mistake(
        "0/0",
        wrong_loss(count=lambda asked: asked.sum()),
        "where nothing is asked, 0 is divided by 0: NaN, and one such batch destroys all weights",
        "divide by max(N, 1)",
    ),
    Mistake(
        "sign",
        wrong_loss(sign=-1),
        "the loss is negative: descending on it makes the hidden tokens unlikely",
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
        "take the logarithm of every probability first",
    ),
    Mistake(
        "softmax over the places",
        wrong_loss(
            log_p=lambda z: log_softmax(z, axis=0),
            dz=lambda p, hot: p * hot.sum(axis=0) - hot,
        ),
        "the asked places share out the 1 among them, instead of the vocabulary's tokens",
        "at one place, which numbers compete? Their probabilities have to sum to 1",
    ),
    Mistake(
        "no maximum",
        wrong_loss(log_p=lambda z: z - np.log(np.exp(z).sum(axis=-1, keepdims=True))),
        "exp overflows on large logits, and the loss is inf or NaN",
        "a number taken off a whole row changes no probability: which one keeps exp at 1 or below?",
    ),
    Mistake(
        "no bias",
        wrong_loss(add=lambda bias: 0 * bias),
        "the bias is not added: it says how frequent each token is, whatever the text",
        "z = table h + bias",
    ),
    Mistake(
        "float64 one-hot",
        wrong_loss(hot_dtype=np.float64, dtable=lambda dz, x, table: dz.T.astype(np.float64) @ x),
        "float32 goes in and float64 comes out: an array was made without a dtype",
        "np.zeros and np.eye make float64; give them the dtype of h",
    ),
    Mistake(
        "1/N missing in backward",
        wrong_loss(count_back=lambda asked: 1),
        "the loss is a mean, but its gradients are those of the sum",
        "each asked place enters the loss with the factor 1/N, and so each gradient",
    ),
    Mistake(
        "dy left out",
        wrong_loss(chain=lambda dy: 1),
        "vjp does not use dy: it is right only where the loss is the last number of the program",
        "the chain rule multiplies by what comes from above",
    ),
    Mistake(
        "one-hot left out",
        wrong_loss(dz=lambda p, hot: p),
        "the gradient of the logits is p alone: it pushes every token down, the right one too",
        "differentiate -z_target too; which entry of the row gets something extra?",
    ),
    Mistake(
        "gradient where nothing is asked",
        all_places,
        "places that are not asked get a gradient, though no term of the loss contains them",
        "change h at such a place and look at the loss: what is the derivative, then?",
    ),
    Mistake(
        "gradient of the asked places only",
        wrong_loss(place=lambda dx, h, asked: dx),
        "dh has a row for each asked place, not the shape of h",
        "h[asked] in forward is a filling up with zeros in backward: np.zeros_like(h) first",
    ),
    Mistake(
        "gradient at the front",
        wrong_loss(
            place=lambda dx, h, asked: np.concatenate(
                [dx, np.zeros((asked.size - len(dx), h.shape[-1]), h.dtype)]
            ).reshape(h.shape)
        ),
        "the rows of the gradient are put at the first places, not at those that were asked",
        "dh[asked] = ..., with the same array of booleans that took the rows out of h",
    ),
    Mistake(
        "table without gradient",
        forgets_dtable,
        "the table gets no gradient: but its rows are what the vectors are compared with",
        "z = x tableᵀ: differentiate by the table too, as in lesson 04",
    ),
    Mistake(
        "table's gradient transposed",
        wrong_loss(dtable=lambda dz, x, table: x.T @ dz),
        "dtable is transposed: its shape is [C, V]",
        "a row of dtable for each token: which of dz and x has to be turned?",
    ),
    Mistake(
        "bias's gradient not summed",
        wrong_loss(dbias=lambda dz, bias: dz),
        "dbias has a row for each asked place; but there is one bias for all of them",
        "what was broadcast forward is summed backward (lesson 04)",
    ),
    Mistake(
        "bias's gradient a mean",
        wrong_loss(dbias=lambda dz, bias: dz.sum(axis=0) / max(len(dz), 1)),
        "dbias is divided by N twice: dz has that factor already",
        "sum over the asked places",
    ),
    Mistake(
        "changed in place",
        changed_in_place,
        "vjp changes what it has kept, so its second call subtracts the one-hot rows again",
        "make a new array inside vjp, at every call",
    ),
]

EXERCISES = [
    Exercise(
        name="mask_tokens",
        reference=mask_reference,
        contract="function",
        inputs=texts(),
        also=cases_of_texts(),
        mistakes=MASK_MISTAKES,
        hints=(
            (
                "Two questions, one after the other. Which tokens are chosen? And what becomes of "
                "each of them? The targets need the answer to the first question only."
            ),
            (
                "Let special tokens draw the lot np.inf. The rank of each lot in its row, compared "
                "with the number that is wanted, says who is chosen. Then three pieces of fate: "
                "below 0.8, from 0.8 to 0.9, and the rest, for chosen tokens alone."
            ),
            (
                "n = ordinary.sum(axis=-1, keepdims=True); wanted = minimum(maximum(rint(share n), "
                "1), n); rank = lots.argsort(axis=-1).argsort(axis=-1); chosen = rank < wanted. "
                "inputs with two np.where, targets = np.where(chosen, ids, -100)."
            ),
        ),
    ),
    Exercise(
        name="masked_lm_loss",
        reference=loss_reference,
        inputs=encoded(),
        also=[
            asked_for(1, 1, 3, 2, 3, [[-100, 1, -100]]),
            asked_for(2, 2, 3, 4, 3, [[-100, 1, 2], [0, -100, -100]]),
            asked_for(3, 3, 4, 2, 5),
            asked_for(4, 2, 2, 3, 4, [[-100, -100], [-100, -100]]),
            asked_for(5, 2, 3, 3, 4, scale=2e3),
            asked_for(6, 3, 2, 3, 3, [[0, 1], [-100, -100], [2, -100]]),
        ],
        mistakes=LOSS_MISTAKES,
        hints=(
            (
                "How many terms has the sum? Places with -100 are in none of them, so nothing of "
                "theirs is needed: not their logits, and not their gradients."
            ),
            (
                "asked = targets != -100 is an array of booleans, and h[asked] has a row for each "
                "asked place: [N, C]. From there on it is a linear layer (lesson 04) and a "
                "cross-entropy (lesson 05). In backward, dh is zero but for dh[asked]."
            ),
            (
                "z = h[asked] @ table.T + bias; the loss is minus the mean of log_softmax(z) at "
                "the targets. dz = (softmax(z) - onehot) dy / N; dh[asked] = dz @ table, dtable = "
                "dz.T @ h[asked], dbias = dz.sum(axis=0). With N = max(number of rows, 1)."
            ),
        ),
    ),
]
