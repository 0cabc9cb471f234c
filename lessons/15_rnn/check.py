"""Check 15: a recurrent step, and backpropagation through time; and what is often done instead."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal


def rnn(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """The library's op gives the last state too; here it is y[-1]."""
    (y, _), vjp = ops.rnn(x, h, weight_ih, weight_hh, bias_ih, bias_hh)
    return y, lambda dy: vjp(dy, None)


def sizes(draw):
    batch, ins, size = (draw(st.integers(1, 4)) for _ in range(3))
    return batch, ins, size + (size == ins)  # a matrix that could be turned unnoticed is in ALSO


@st.composite
def steps(draw):
    batch, ins, size = sizes(draw)
    shapes = [(batch, ins), (batch, size), (size, ins), (size, size), (size,), (size,)]
    return Case(*(draw(normal(shape, scale=0.7)) for shape in shapes))


@st.composite
def sequences(draw):
    time = draw(st.integers(1, 5))
    batch, ins, size = sizes(draw)
    shapes = [(time, batch, ins), (batch, size), (size, ins), (size, size), (size,), (size,)]
    return Case(*(draw(normal(shape, scale=0.7)) for shape in shapes))


def made(seed, *lead, ins, size, scale=0.7):
    rng = np.random.default_rng(seed)
    shapes = [(*lead, ins), (lead[-1], size), (size, ins), (size, size), (size,), (size,)]
    return Case(*(scale * rng.standard_normal(shape) for shape in shapes))


FAR = made(7, 3, ins=2, size=2, scale=40.0)  # sums of thousands: exp(2z) is infinite there

# ------------------------------------------------ the right steps, each of which a mistake replaces


def wrong_cell(
    *,
    into=lambda x, h, wi, wh, bi, bh: x @ wi.T + bi + h @ wh.T + bh,
    f=np.tanh,
    slope=lambda z, y: 1 - y**2,
    dx=lambda dz, wi, wh: dz @ wi,
    dh=lambda dz, wh, dy: dz @ wh,
    dwi=lambda dz, x, h: dz.T @ x,
    dwh=lambda dz, x, h, y: dz.T @ h,
    db=lambda dz: dz.sum(axis=0),
    last=lambda dbi, dbh: (dbi, dbh),
):
    """A step with one of its parts replaced."""

    def rnn_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
        z = into(x, h, weight_ih, weight_hh, bias_ih, bias_hh)
        y = f(z)

        def vjp(dy):
            dz = dy * slope(z, y)
            return (
                dx(dz, weight_ih, weight_hh),
                dh(dz, weight_hh, dy),
                dwi(dz, x, h),
                dwh(dz, x, h, y),
                *last(db(dz), db(dz)),
            )

        return y, vjp

    return rnn_cell


def as_printed_tanh(z):
    e = np.exp(2 * z)
    return (e - 1) / (e + 1)


def state_in_place(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    y, vjp = ops.rnn_cell(x, h.copy(), weight_ih, weight_hh, bias_ih, bias_hh)
    h[...] = y
    return y, vjp


CELL_MISTAKES = [
    Mistake(
        "one bias only",
        wrong_cell(into=lambda x, h, wi, wh, bi, bh: x @ wi.T + bi + h @ wh.T),
        "bias_hh is not added: the sum has four summands, two of them biases",
        "count the arguments, and find each of them in your first line",
    ),
    Mistake(
        "no bias",
        wrong_cell(into=lambda x, h, wi, wh, bi, bh: x @ wi.T + h @ wh.T),
        "neither bias is added, as in the document's line, which has no bias vector at all",
        "what would the state be for x = 0 and h = 0, in your code and in the formula?",
    ),
    Mistake(
        "recurrent matrix turned",
        wrong_cell(into=lambda x, h, wi, wh, bi, bh: x @ wi.T + bi + h @ wh + bh),
        "weight_hh is used untransposed; it is square, so the shapes do not complain",
        "which axis of weight_hh is the new state, which the old one? Both matrices are (out, in)",
    ),
    Mistake(
        "turned in dh",
        wrong_cell(dh=lambda dz, wh, dy: dz @ wh.T),
        "dh uses weight_hh the same way round as forward does; it is square, so nothing complains",
        "write dh[j] as a sum over the units k of the new state: which index of weight_hh is j?",
    ),
    Mistake(
        "no nonlinearity",
        wrong_cell(f=lambda z: z * 1, slope=lambda z, y: 1.0),
        "the sum is returned as it is: the tanh is missing",
        "print the largest state for large inputs: where should it stay?",
    ),
    Mistake(
        "no slope",
        wrong_cell(slope=lambda z, y: 1.0),
        "backward goes past the tanh as if it were not there",
        "between h' and the sum stands a function; what does it multiply a small change by?",
    ),
    Mistake(
        "slope of the sum",
        wrong_cell(slope=lambda z, y: 1 - z**2),
        "the slope is taken from z: 1 - z² is no slope of tanh, 1 - tanh(z)² is",
        "tanh's derivative is written with the output. Which of your arrays is that?",
    ),
    Mistake(
        "slope without the square",
        wrong_cell(slope=lambda z, y: 1 - y),
        "the slope is 1 - h' where it should be 1 minus the square",
        "at h' = -1 tanh is flat: what does your slope say there?",
    ),
    Mistake(
        "slope of the sigmoid",
        wrong_cell(slope=lambda z, y: y * (1 - y)),
        "y (1 - y) is the slope of the sigmoid; this is tanh",
        "what is the slope of tanh at 0, where it is steepest?",
    ),
    Mistake(
        "dh past the matrix",
        wrong_cell(dh=lambda dz, wh, dy: dz * 1),
        "dh is dz itself: it did not go through weight_hh",
        "h enters z by a matrix product, like x: treat them alike",
    ),
    Mistake(
        "new state in dweight_hh",
        wrong_cell(dwh=lambda dz, x, h, y: dz.T @ y),
        "dweight_hh multiplies dz with the new state; weight_hh has met the state before",
        "read the line of forward in which weight_hh stands: what is its other factor?",
    ),
    Mistake(
        "mean over the batch",
        wrong_cell(db=lambda dz: dz.mean(axis=0)),
        "the gradients of the biases are means over the batch; what comes back adds up",
        "every sequence has used the same bias: lesson 01 says what happens at a fan-out",
    ),
    Mistake(
        "bias not summed",
        wrong_cell(db=lambda dz: dz * 1),
        "the gradients of the biases have a batch axis: they were not summed over the sequences",
        "a gradient has the shape of what it belongs to",
    ),
    Mistake(
        "only one bias learns",
        wrong_cell(last=lambda a, b: (a, 0 * b)),
        "dbias_hh is 0, but z contains both biases, with the same factor 1",
        "move either bias a little: does h' notice which one it was?",
    ),
    Mistake(
        "gradient shared between the biases",
        wrong_cell(last=lambda a, b: (a / 2, b / 2)),
        "the gradient is split between the two biases; each of them gets all of it",
        "a derivative asks what one input does while the others stay",
    ),
    Mistake(
        "tanh as printed",
        wrong_cell(f=as_printed_tanh),
        "tanh by exp(2z) is infinity over infinity for large z, which is NaN",
        "lesson 02 has the stable forms; np.tanh is one",
    ),
    Mistake(
        "state overwritten",
        state_in_place,
        "the new state is written into h: the caller's array, which dweight_hh still needs",
        "h[...] = and h += write into the caller's array; make a new one",
    ),
]


# -- the sequence ----------------------------------------------------------------------------------


def wrong_rnn(
    *,
    cell=ops.rnn_cell,
    order=lambda T: list(range(T)),
    before=lambda h0, h: h,
    outs=lambda states: np.stack(states),
    back=lambda T: list(reversed(range(T))),
    incoming=lambda dy, dh: dy + dh,
    carried=lambda dh, h: dh,
    add=lambda total, new: total + new,
    first=lambda dh: dh,
    place=lambda t, T: t,
):
    """A sequence with one of its parts replaced."""

    def rnn(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
        T, h0 = len(x), h
        states, backs = [None] * T, [None] * T
        for t in order(T):
            weights = (weight_ih, weight_hh, bias_ih, bias_hh)
            h, backs[t] = cell(x[t], before(h0, h), *weights)
            states[t] = h

        def vjp(dy):
            dx = np.zeros_like(x)
            dh = np.zeros_like(h)
            dweights = [np.zeros_like(w) for w in (weight_ih, weight_hh, bias_ih, bias_hh)]
            for t in back(T):
                dx[place(t, T)], dh, *more = backs[t](incoming(dy[t], carried(dh, h)))
                dweights = [add(total, each) for total, each in zip(dweights, more, strict=True)]
            return dx, first(dh), *dweights

        return outs(states), vjp

    return rnn


def dropped_for_weights(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """dx through all of time, the weights' gradients through one step each."""
    y, right = rnn(x, h, weight_ih, weight_hh, bias_ih, bias_hh)
    _, short = wrong_rnn(carried=lambda dh, h: 0 * dh)(x, h, weight_ih, weight_hh, bias_ih, bias_hh)
    return y, lambda dy: (*right(dy)[:2], *short(dy)[2:])


def states_shifted(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    """dweight_hh from the states h_t where it should be h_(t-1)."""
    y, right = rnn(x, h, weight_ih, weight_hh, bias_ih, bias_hh)

    def vjp(dy):
        dx, dh0, dwi, dwh, dbi, dbh = right(dy)
        dh, dwh = np.zeros_like(h), np.zeros_like(dwh)
        for t in reversed(range(len(x))):
            dz = (dy[t] + dh) * (1 - y[t] ** 2)
            dwh = dwh + dz.T @ y[t]
            dh = dz @ weight_hh
        return dx, dh0, dwi, dwh, dbi, dbh

    return y, vjp


def mean_over_time(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
    y, right = rnn(x, h, weight_ih, weight_hh, bias_ih, bias_hh)

    def vjp(dy):
        dx, dh, *dweights = right(dy)
        return dx, dh, *(each / len(x) for each in dweights)

    return y, vjp


def clipped(dh, h):
    norm = np.sqrt((dh**2).sum())
    return dh * (1 / norm) if norm > 1 else dh


RNN_MISTAKES = [
    Mistake(
        "state not carried",
        wrong_rnn(before=lambda h0, h: h0, incoming=lambda dy, dh: dy),
        "each time starts from the first state again: nothing is remembered",
        "which state does the step at time 2 start from? Print it",
    ),
    Mistake(
        "read backwards",
        wrong_rnn(order=lambda T: list(reversed(range(T))), back=lambda T: list(range(T))),
        "the sequence is read from its end",
        "change the last input: which of the states may move?",
    ),
    Mistake(
        "last state only",
        wrong_rnn(outs=lambda states: np.stack([0 * s for s in states[:-1]] + states[-1:])),
        "only the last state is kept; y holds the state of every time",
        "append the state to a list inside the loop",
    ),
    Mistake(
        "no gradient through time",
        wrong_rnn(carried=lambda dh, h: 0 * dh),
        "each step is differentiated alone: what comes back from the next step is left out",
        "h_t is used in two places: as y_t, and by the step after it",
    ),
    Mistake(
        "dy at the end only",
        wrong_rnn(incoming=lambda dy, dh: dy if not dh.any() else dh),
        "only the last time's dy goes in; each time has its own, which joins on the way back",
        "at a fan-out gradients add: what are the two summands at time t?",
    ),
    Mistake(
        "overwritten",
        wrong_rnn(add=lambda total, new: new),
        "the weights' gradients are those of the first time alone: each step overwrites the last",
        "one weight serves all times; replace = by what adds up",
    ),
    Mistake(
        "walked forward",
        wrong_rnn(back=lambda T: list(range(T))),
        "backward walks from the first time to the last; what it needs comes from the other side",
        "which step was the last to use h_3? It must have been undone before",
    ),
    Mistake(
        "dx in the order of the walk",
        wrong_rnn(place=lambda t, T: T - 1 - t),
        "dx comes out reversed: collected on the way back, it was not turned around again",
        "the gradient of x[0] belongs into dx[0]",
    ),
    Mistake(
        "no gradient for the first state",
        wrong_rnn(first=lambda dh: 0 * dh),
        "the gradient of the first state is 0, but every state depends on it",
        "after the loop has undone time 1, what is left in your hands?",
    ),
    Mistake(
        "weights through one step only",
        dropped_for_weights,
        "the weights' gradients take dy alone, without what comes back from later times",
        "dz_t belongs to dh_t, and that has two summands, for the weights too",
    ),
    Mistake(
        "state after in dweight_hh",
        states_shifted,
        "dweight_hh takes the state h_t; at time t the matrix has met h_(t-1)",
        "what did weight_hh multiply at the first time? That array must occur in its gradient",
    ),
    Mistake(
        "mean over time",
        mean_over_time,
        "the weights' gradients are divided by the number of times; they add up over time",
        "if a loss should be a mean, its dy says so already: backward divides by nothing",
    ),
    Mistake(
        "clipped on the way",
        wrong_rnn(carried=clipped),
        "dh is clipped inside the loop: then it is no gradient any more, of anything",
        "clip what the optimizer gets, all gradients by one factor, after backward",
    ),
]
EXERCISES = [
    Exercise(
        name="rnn_cell",
        reference=ops.rnn_cell,
        inputs=steps(),
        also=[made(0, 3, ins=2, size=2), made(1, 2, ins=3, size=3), made(2, 2, ins=2, size=2), FAR],
        mistakes=CELL_MISTAKES,
        hints=(
            (
                "Two linear layers, of x and of h, are added, and a tanh stands around them. Give "
                "the sum a name, z. Backward undoes the tanh first."
            ),
            (
                "The slope of tanh, written with its output, is 1 - h'². So dz = dh' times that. "
                "From there on it is lesson 04 twice: once with x and weight_ih, once with h and "
                "weight_hh. Each bias is used by every sequence of the batch."
            ),
            (
                "dx = dz @ weight_ih, dh = dz @ weight_hh, dweight_ih = dz.T @ x, dweight_hh = "
                "dz.T @ h, and both biases get dz.sum(axis=0). Forward transposes the weights, so "
                "backward does not."
            ),
        ),
    ),
    Exercise(
        name="rnn",
        reference=rnn,
        inputs=sequences(),
        also=[
            made(3, 4, 3, ins=2, size=2),
            made(4, 3, 2, ins=3, size=3),
            made(5, 1, 2, ins=3, size=2),
        ],
        mistakes=RNN_MISTAKES,
        hints=(
            (
                "Forward is a loop that hands the state on. Keep the vjp of each step in a list. "
                "Backward is the same loop from the end: what does it hand on?"
            ),
            (
                "h_t is used twice: it is y_t, and step t+1 starts from it. So what arrives at h_t "
                "is dy[t] plus the dh that the step after it has returned. And the weights are "
                "used at every time: their gradients add up."
            ),
            (
                "for t in reversed(range(T)): dx[t], dh, *more = backs[t](dy[t] + dh), then add "
                "each of `more` to its total. Begin with dh = 0; what dh is at the end belongs to "
                "the first state."
            ),
        ),
    ),
]
