"""Check 18: one window of a recurrent language model, and its way back through time."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal

# ---------------------------------------------------------------- the right one, of library ops


def lm_window(h, table, weight_ih, weight_hh, bias, *, ids, targets):
    x, x_back = ops.embedding(ids.T, table)  # [B, T] -> [T, B, C]
    (y, last), y_back = ops.rnn(x, h, weight_ih, weight_hh, bias, None)
    logits, logits_back = ops.linear(y, table)  # [T, B, V]
    loss, loss_back = ops.cross_entropy(logits, targets.T)

    def vjp(dloss, dlast):
        dy, as_output = logits_back(loss_back(dloss)[0])[:2]
        dx, dh, dweight_ih, dweight_hh, dbias = y_back(dy, dlast)[:5]
        return dh, as_output + x_back(dx)[1], dweight_ih, dweight_hh, dbias

    return (loss, last), vjp


# ---------------------------------------------------------------- inputs


@st.composite
def windows(draw):
    batch, time, size, words = (draw(st.integers(1, n)) for n in (3, 4, 4, 5))
    shapes = [(batch, size), (words, size), (size, size), (size, size), (size,)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ids, targets = rng.integers(0, words, (2, batch, time))
    return Case(*(draw(normal(shape, scale=0.7)) for shape in shapes), ids=ids, targets=targets)


def made(seed, ids, targets, *, size=3, words=4, scale=0.7):
    rng = np.random.default_rng(seed)
    ids, targets = np.array(ids), np.array(targets)
    shapes = [(len(ids), size), (words, size), (size, size), (size, size), (size,)]
    values = [scale * rng.standard_normal(shape) for shape in shapes]
    return Case(*values, ids=ids, targets=targets)


ALSO = [
    made(0, [[0, 1, 2], [2, 2, 0]], [[1, 2, 3], [2, 0, 1]]),
    made(1, [[3, 3, 3, 3]], [[3, 3, 0, 3]]),  # one id again and again
    made(2, [[1], [1], [0]], [[0], [1], [1]], words=2, size=2),  # a window of one token
    made(3, [[0, 1, 2, 3, 0], [1, 1, 2, 2, 3]], [[1, 2, 3, 0, 1], [1, 2, 2, 3, 0]], size=5),
    made(4, [[0, 2], [4, 1]], [[2, 4], [1, 0]], words=5, size=2, scale=30.0),  # far from 0
    made(5, [[0, 0, 0]], [[0, 0, 0]], words=1, size=1),
    made(6, [[0, 2], [4, 1]], [[2, 4], [1, 0]], words=5, size=2, scale=2000.0),  # e^2000
]

# one sequence's logits are near 2000, the other's near -2000
ALSO += [
    Case(
        np.array([[9.0, 9.0], [-9.0, -9.0]]), np.array([[990.0, 1000.0], [1000.0, 991.0]]),
        np.zeros((2, 2)), np.eye(2), np.array([0.1, 0.2]),
        ids=np.array([[0, 1], [1, 0]]), targets=np.array([[1, 1], [0, 1]]),
    )
]  # fmt: skip

# ---------------------------------------------------------------- one step replaced


def wrong(
    *,
    begin=lambda h: h,
    seen=lambda logits: logits,
    top=lambda logits: logits.max(axis=1, keepdims=True),
    count=lambda B, T: B * T,
    asked=lambda ids, targets, t: targets[:, t],
    counts=lambda t, T: True,
    weigh=lambda dloss: dloss,
    from_later=lambda dh, t: dh,
    handed=lambda dlast: dlast,
    slope=lambda y: 1 - y**2,
    scatter=lambda dtable, ids, dx: np.add.at(dtable, ids, dx),
    as_output=lambda dtable, more: dtable.__iadd__(more),
    add=lambda total, new: total + new,
    before=lambda states, t: states[t],
    walk=lambda T: reversed(range(T)),
    dstate=lambda dz, W: dz @ W,
    first=lambda dh: dh,
    last=lambda states: states[-1],
    project=lambda y, table: y @ table.T,
):
    """The window with one of its parts replaced."""

    def lm_window(h, table, weight_ih, weight_hh, bias, *, ids, targets):
        B, T = ids.shape
        rows, loss, states, errors = np.arange(B), table.dtype.type(0), [begin(h)], []
        for t in range(T):
            x = table[ids[:, t]]
            new = np.tanh(x @ weight_ih.T + states[t] @ weight_hh.T + bias)
            logits = seen(project(new, table))
            with np.errstate(all="ignore"):
                logits = logits - top(logits)
                log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            error, which = np.exp(log_p), asked(ids, targets, t)
            error[rows, which] -= 1
            if counts(t, T):
                loss = loss - log_p[rows, which].sum() / count(B, T)
            errors.append(error * bool(counts(t, T)) / count(B, T))
            states.append(new)

        def vjp(dloss, dlast):
            dtable, dbias = np.zeros_like(table), np.zeros_like(bias)
            dweight_ih, dweight_hh = np.zeros_like(weight_ih), np.zeros_like(weight_hh)
            dh = handed(dlast)
            for t in walk(T):
                dlogits = weigh(dloss) * errors[t]
                as_output(dtable, dlogits.T @ states[t + 1])
                dz = (dlogits @ table + from_later(dh, t)) * slope(states[t + 1])
                dweight_ih = add(dweight_ih, dz.T @ table[ids[:, t]])
                dweight_hh = add(dweight_hh, dz.T @ before(states, t))
                dbias = add(dbias, dz.sum(axis=0))
                dh = dstate(dz, weight_hh)
                scatter(dtable, ids[:, t], dz @ weight_ih)
            return first(dh), dtable, dweight_ih, dweight_hh, dbias

        return (loss, last(states) + 0), vjp

    return lm_window


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def assigned(dtable, ids, dx):
    dtable[ids] = dx


def buffered(dtable, ids, dx):
    dtable[ids] += dx


def detached_inside(dh, t):
    return 0 * dh


MISTAKES = [
    Mistake(
        "asked for what it has read",
        wrong(asked=lambda ids, targets, t: ids[:, t]),
        "the loss asks each position for the token that it has just read, as D2 §5.2.3 does: the "
        "model learns to copy",
        "which of the two arrays of ids belongs into the loss?",
    ),
    Mistake(
        "softmax twice",
        wrong(seen=softmax),
        "a softmax is applied to the logits, and then the cross-entropy applies its own, as in D2 "
        "§5.2: the loss can hardly move",
        "cross-entropy wants logits, as they come out of the last product",
    ),
    Mistake(
        "last position only",
        wrong(counts=lambda t, T: t == T - 1, count=lambda B, T: B),
        "only the last position of the window is asked, as in D5 §5.2; the others have read a "
        "context too, and learn nothing",
        "every position has a target: B T of them",
    ),
    Mistake(
        "begins at 0",
        wrong(begin=lambda h: 0 * h),
        "the window begins with a state of 0: what the windows before have left is ignored",
        "the first step starts from the h that was given",
    ),
    Mistake(
        "state before the last token",
        wrong(last=lambda states: states[-2]),
        "the state that is handed over has not read the last token of the window",
        "how many states are there, with the given one? Which comes after the last token?",
    ),
    Mistake(
        "sum, not mean",
        wrong(count=lambda B, T: 1),
        "the loss is the sum over all positions; it should be their mean",
        "divide by B T, in the loss and in what it sends back",
    ),
    Mistake(
        "mean over the batch alone",
        wrong(count=lambda B, T: B),
        "the losses are added over time and averaged over the batch: a longer window would have a "
        "larger loss, and larger gradients",
        "the mean is over all B T positions",
    ),
    Mistake(
        "mean over time alone",
        wrong(count=lambda B, T: T),
        "the losses are averaged over time and added over the batch",
        "the mean is over all B T positions",
    ),
    Mistake(
        "no gradient through time",
        wrong(from_later=detached_inside),
        "nothing comes back from later steps: the window is cut after every token, and not only at "
        "its beginning",
        "h_t is used twice, by the logits and by the next step: two summands",
    ),
    Mistake(
        "what comes after is ignored",
        wrong(handed=lambda dlast: 0 * dlast),
        "dlast is ignored: the last state is a result too, and what used it has a gradient for it",
        "with what should dh begin, before the loop goes back?",
    ),
    Mistake(
        "no gradient for the first state",
        wrong(first=lambda dh: 0 * dh),
        "the gradient of the given state is 0: to cut there is the caller's business, who may not "
        "want to",
        "after the loop has undone the first token, what is left in your hands?",
    ),
    Mistake(
        "the table as output only",
        wrong(scatter=lambda dtable, ids, dx: None),
        "dtable lacks what comes from the lookups: the table is used at both ends",
        "x_t = table[ids_t]: where does dx_t go?",
    ),
    Mistake(
        "the table as input only",
        wrong(as_output=lambda dtable, more: None),
        "dtable lacks what comes from the logits: the table is used at both ends",
        "logits = h tableᵀ is a linear layer: what is the gradient of its weight?",
    ),
    Mistake(
        "duplicates lost",
        wrong(scatter=buffered),
        "where an id stands twice in a column of the batch, dtable[ids] += dx counts it once",
        "np.add.at(dtable, ids, dx) adds as often as the id stands there",
    ),
    Mistake(
        "lookup overwrites",
        wrong(scatter=assigned),
        "the rows of dtable are overwritten by the lookups' gradients instead of added to",
        "the same row gets gradients from the logits and from every place where it is read",
    ),
    Mistake(
        "weights of the first token only",
        wrong(add=lambda total, new: new),
        "the weights' gradients are those of the first token: each step overwrites the last",
        "one set of weights serves all times: add",
    ),
    Mistake(
        "state after in dweight_hh",
        wrong(before=lambda states, t: states[t + 1]),
        "dweight_hh takes h_t, but at time t the matrix has met h_(t-1)",
        "keep the given state in the list too, and mind the index",
    ),
    Mistake(
        "walked forward",
        wrong(walk=range),
        "backward walks from the first token to the last: what it needs comes from the other side",
        "begin with the token that was read last",
    ),
    Mistake(
        "turned in dh",
        wrong(dstate=lambda dz, W: dz @ W.T),
        "dh uses weight_hh the same way round as forward does; it is square, so nothing complains",
        "forward transposes it, so backward does not",
    ),
    Mistake(
        "overflow",
        wrong(top=lambda logits: 0),
        "exp overflows where a logit is large: the maximum is not subtracted before it",
        "subtract logits.max(axis=1, keepdims=True) first; softmax does not change",
    ),
    Mistake(
        "no slope",
        wrong(slope=np.ones_like),
        "the slope of tanh is missing on the way back",
        "dz = dnew * (1 - new**2)",
    ),
    Mistake(
        "dloss ignored",
        wrong(weigh=lambda dloss: 1),
        "the gradients are right for dloss = 1 only: dloss is not used",
        "everything that comes from the loss is multiplied by dloss, what comes from dlast is not",
    ),
]

EXERCISES = [
    Exercise(
        name="lm_window",
        reference=lm_window,
        inputs=windows(),
        also=ALSO,
        mistakes=MISTAKES,
        hints=(
            (
                "Forward is a loop over the columns of ids: look up, step, logits, loss. Keep all "
                "states, the given one first. Backward is the same loop from the end; each h_t has "
                "two users."
            ),
            (
                "What the loss sends to the logits is (softmax - onehot) / (B T), times dloss. "
                "From there to h_t by the table; dh of the step after is added, at the last one "
                "that is dlast. The table gets two gradients: one as a weight, one as rows."
            ),
            (
                "At time t: dtable += dlogits.T @ h_t; dz = (dlogits @ table + dh) * (1 - h_t**2); "
                "dweight_ih += dz.T @ x_t; dweight_hh += dz.T @ h_(t-1); dbias += dz.sum(0); "
                "np.add.at(dtable, ids_t, dz @ weight_ih); dh = dz @ weight_hh."
            ),
        ),
    ),
]
