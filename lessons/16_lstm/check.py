"""Check 16: long short-term memory, a step and a sequence; and what is often done instead."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal


def lstm(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """The library's op gives the last state too; here it is y[-1]."""
    (y, _, last), vjp = ops.lstm(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh)
    return (y, last), lambda dy, dc: vjp(dy, None, dc)


def shapes_of(lead, ins, size):
    states = [(*lead, ins), (lead[-1], size), (lead[-1], size)]
    return [*states, (4 * size, ins), (4 * size, size), (4 * size,), (4 * size,)]


@st.composite
def steps(draw, times=0):
    time = [draw(st.integers(1, times))] if times else []
    batch, ins, size = (draw(st.integers(1, 3)) for _ in range(3))
    return Case(*(draw(normal(s, scale=0.7)) for s in shapes_of((*time, batch), ins, size)))


def made(seed, *lead, ins, size, scale=0.7):
    rng = np.random.default_rng(seed)
    return Case(*(scale * rng.standard_normal(s) for s in shapes_of(lead, ins, size)))


# ----------------------------------------------- the right step, each part of which can be replaced


def sigmoid(z):
    return 0.5 * (1 + np.tanh(0.5 * z))


def tanh_slope(y):
    return 1 - y**2


def sigmoid_slope(y):
    return y * (1 - y)


def wrong_cell(
    *,
    into=lambda x, h, wi, wh, bi, bh: x @ wi.T + bi + h @ wh.T + bh,
    order=(0, 1, 2, 3),
    candidate=np.tanh,
    candidate_slope=tanh_slope,
    gate_slope=sigmoid_slope,
    coupled=False,
    squash=np.tanh,
    squash_slope=tanh_slope,
    dcell=lambda dc, through: dc + through,
    do=lambda dh, t, new_c: dh * t,
    df=lambda d, c, new_c: d * c,
    dc=lambda d, f: d * f,
    dwh=lambda dz, h, new_h: dz.T @ h,
    db=lambda dz: dz.sum(axis=0),
    last=lambda a, b: (a, b),
):
    """A step with one of its parts replaced."""

    def lstm_cell(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
        z = np.split(into(x, h, weight_ih, weight_hh, bias_ih, bias_hh), 4, axis=1)
        z_i, z_f, z_g, z_o = (z[part] for part in order)
        i, f, g, o = sigmoid(z_i), sigmoid(z_f), candidate(z_g), sigmoid(z_o)
        write = 1 - f if coupled else i
        new_c = f * c + write * g
        t = squash(new_c)
        new_h = o * t

        def vjp(dnew_h, dnew_c):
            d = dcell(dnew_c, dnew_h * o * squash_slope(t))
            di = d * g
            parts = [
                0 * di if coupled else di * gate_slope(i),
                (df(d, c, new_c) - di * coupled) * gate_slope(f),
                d * write * candidate_slope(g),
                do(dnew_h, t, new_c) * gate_slope(o),
            ]
            dz = np.concatenate([parts[order.index(k)] for k in range(4)], axis=1)
            return (
                dz @ weight_ih,
                dz @ weight_hh,
                dc(d, f),
                dz.T @ x,
                dwh(dz, h, new_h),
                *last(db(dz), db(dz)),
            )

        return (new_h, new_c), vjp

    return lstm_cell


def no_output_gate(x, h, c, *weights):
    """h' = tanh(c'): the gate o is 1."""
    n = h.shape[1]
    z = x @ weights[0].T + weights[2] + h @ weights[1].T + weights[3]
    i, f, g = sigmoid(z[:, :n]), sigmoid(z[:, n : 2 * n]), np.tanh(z[:, 2 * n : 3 * n])
    new_c = f * c + i * g
    new_h = np.tanh(new_c)

    def vjp(dnew_h, dnew_c):
        d = dnew_c + dnew_h * (1 - new_h**2)
        slopes = [d * g * i * (1 - i), d * c * f * (1 - f), d * i * (1 - g**2), 0 * d]
        dz = np.concatenate(slopes, axis=1)
        db = dz.sum(axis=0)
        return dz @ weights[0], dz @ weights[1], d * f, dz.T @ x, dz.T @ h, db, db.copy()

    return (new_h, new_c), vjp


def as_printed(x, h, c, *weights):
    """h' = i g + f h: no output gate, and no cell; c goes through untouched."""
    n = h.shape[1]
    z = x @ weights[0].T + weights[2] + h @ weights[1].T + weights[3]
    i, f, g = sigmoid(z[:, :n]), sigmoid(z[:, n : 2 * n]), np.tanh(z[:, 2 * n : 3 * n])

    def vjp(dnew_h, dnew_c):
        d = dnew_h
        slopes = [d * g * i * (1 - i), d * h * f * (1 - f), d * i * (1 - g**2), 0 * d]
        dz = np.concatenate(slopes, axis=1)
        db = dz.sum(axis=0)
        dh = dz @ weights[1] + d * f
        return dz @ weights[0], dh, dnew_c.copy(), dz.T @ x, dz.T @ h, db, db.copy()

    return (i * g + f * h, c.copy()), vjp


def cell_overwritten(x, h, c, *weights):
    (new_h, new_c), vjp = ops.lstm_cell(x, h, c.copy(), *weights)
    c[...] = new_c
    return (new_h, new_c), vjp


CELL_MISTAKES = [
    Mistake(
        "as printed",
        as_printed,
        "h' = i g + f h, as in the document: no output gate, and no cell beside the state",
        "there are two lanes, h and c. Which of them is kept by f, and what makes h' of it?",
    ),
    Mistake(
        "no output gate",
        no_output_gate,
        "h' is tanh(c'), all of it: the output gate is missing",
        "z has four parts; which of them have you not used?",
    ),
    Mistake(
        "i, f, o, g",
        wrong_cell(order=(0, 1, 3, 2)),
        "the last two parts of z have changed places: here the order is i, f, g, o",
        "every library has its own order. Which quarter of the rows belongs to tanh?",
    ),
    Mistake(
        "f, i, g, o",
        wrong_cell(order=(1, 0, 2, 3)),
        "the gate that writes keeps, and the one that keeps writes: the order is i, f, g, o",
        "f is for forget, the second quarter of the rows: at f = 1 the old cell stays as it was",
    ),
    Mistake(
        "one gate for both",
        wrong_cell(coupled=True),
        "c' = f c + (1 - f) g: a cell with one gate for keeping and writing; here i is its own",
        "can your cell keep everything and write something as well?",
    ),
    Mistake(
        "candidate through the sigmoid",
        wrong_cell(candidate=sigmoid, candidate_slope=sigmoid_slope),
        "the candidate g goes through the sigmoid: then a cell can only grow",
        "three of the four are gates, between 0 and 1. The fourth is what is written: which range?",
    ),
    Mistake(
        "no tanh around the cell",
        wrong_cell(squash=lambda c: c * 1, squash_slope=lambda t: 1.0),
        "h' is o c': the tanh around the cell is missing",
        "let a cell be 50. How large may the state be?",
    ),
    Mistake(
        "state through the cell only",
        wrong_cell(dcell=lambda dc, through: through),
        "the gradient of c' is what comes from h' alone; dc' itself is left out",
        "c' is made into h', and it is a result of its own: how many ways lead to it?",
    ),
    Mistake(
        "cell not reached from the state",
        wrong_cell(dcell=lambda dc, through: dc),
        "what comes in at h' never reaches c': only the output gate hears of it",
        "h' = o t, and t is made of c': two factors, two gradients",
    ),
    Mistake(
        "no slope of the outer tanh",
        wrong_cell(squash_slope=lambda t: 1.0),
        "backward goes past the tanh around the cell as if it were not there",
        "where c' is 5 tanh is flat; what comes back through it there?",
    ),
    Mistake(
        "dc not through the gate",
        wrong_cell(dc=lambda d, f: d * 1),
        "dc comes back whole; c was multiplied by f, so its gradient is as well",
        "write ∂c'/∂c with the other letters held",
    ),
    Mistake(
        "new cell in df",
        wrong_cell(df=lambda d, c, new_c: d * new_c),
        "df multiplies with the new cell; f has met the cell before",
        "read c' = f c + i g: what is the other factor of f?",
    ),
    Mistake(
        "cell in do",
        wrong_cell(do=lambda dh, t, new_c: dh * new_c),
        "do multiplies with c'; o has met tanh(c')",
        "read h' = o tanh(c'): what is the other factor of o?",
    ),
    Mistake(
        "slope of tanh at the gates",
        wrong_cell(gate_slope=tanh_slope),
        "the gates' slopes are 1 - y², which is for tanh; a sigmoid has y (1 - y)",
        "at σ = 1/2 the sigmoid is steepest: how steep?",
    ),
    Mistake(
        "slope of the sigmoid at g",
        wrong_cell(candidate_slope=sigmoid_slope),
        "the slope at g is y (1 - y), which is for the gates; g is a tanh",
        "for g below 0 your slope is negative. Does tanh ever fall?",
    ),
    Mistake(
        "one bias only",
        wrong_cell(into=lambda x, h, wi, wh, bi, bh: x @ wi.T + bi + h @ wh.T),
        "bias_hh is not added: the sum has four summands, two of them biases",
        "count the arguments, and find each of them in your first line",
    ),
    Mistake(
        "new state in dweight_hh",
        wrong_cell(dwh=lambda dz, h, new_h: dz.T @ new_h),
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
        "only one bias learns",
        wrong_cell(last=lambda a, b: (a, 0 * b)),
        "dbias_hh is 0, but z contains both biases, with the same factor 1",
        "move either bias a little: does h' notice which one it was?",
    ),
    Mistake(
        "cell overwritten",
        cell_overwritten,
        "the new cell is written into c: the caller's array, which df still needs",
        "c *= f and c[...] = write into the caller's array; make a new one",
    ),
]


# -- the sequence ----------------------------------------------------------------------------------


def wrong_lstm(
    *,
    cell=ops.lstm_cell,
    order=lambda T: list(range(T)),
    before=lambda first, now: now,
    outs=lambda hs, cs: (np.stack(hs), cs[-1]),
    back=lambda T: list(reversed(range(T))),
    incoming=lambda dy, dh: dy + dh,
    begin=lambda dc: dc,
    carried=lambda dh, dc, given: (dh, dc),
    add=lambda total, new: total + new,
    first=lambda dh, dc: (dh, dc),
    place=lambda t, T: t,
):
    """A sequence with one of its parts replaced."""

    def lstm(x, h, c, *weights):
        T, start = len(x), (h, c)
        hs, cs, backs = [None] * T, [None] * T, [None] * T
        now = start
        for t in order(T):
            now, backs[t] = cell(x[t], *before(start, now), *weights)
            hs[t], cs[t] = now

        def vjp(dy, dlast):
            dx, dh, dc = np.zeros_like(x), np.zeros_like(h), begin(dlast)
            totals = [np.zeros_like(w) for w in weights]
            for t in back(T):
                dx[place(t, T)], dh, dc, *more = backs[t](incoming(dy[t], dh), dc)
                dh, dc = carried(dh, dc, dlast) if t else (dh, dc)
                totals = [add(total, each) for total, each in zip(totals, more, strict=True)]
            return dx, *first(dh, dc), *totals

        return outs(hs, cs), vjp

    return lstm


def mean_over_time(x, *rest):
    out, right = lstm(x, *rest)

    def vjp(dy, dc):
        dx, dh, dc, *dweights = right(dy, dc)
        return dx, dh, dc, *(each / len(x) for each in dweights)

    return out, vjp


LSTM_MISTAKES = [
    Mistake(
        "never updated",
        wrong_lstm(before=lambda first, now: first),
        "each time starts from the first state and cell again, as the printed loop does",
        "which state and which cell does the step at time 2 start from? Print them",
    ),
    Mistake(
        "cell not carried",
        wrong_lstm(before=lambda first, now: (now[0], first[1])),
        "each time starts from the first cell again: only the state is handed on",
        "a step returns two things, and the next one needs both",
    ),
    Mistake(
        "state not carried",
        wrong_lstm(before=lambda first, now: (first[0], now[1])),
        "each time starts from the first state again: only the cell is handed on",
        "a step returns two things, and the next one needs both",
    ),
    Mistake(
        "state for the cell",
        wrong_lstm(before=lambda first, now: (now[0], now[0]) if now is not first else now),
        "the next step gets the state twice: as its state and as its cell",
        "h and c are two lanes; who hands c on in your loop?",
    ),
    Mistake(
        "read backwards",
        wrong_lstm(
            order=lambda T: list(reversed(range(T))),
            back=lambda T: list(range(T)),
            outs=lambda hs, cs: (np.stack(hs), cs[0]),
        ),
        "the sequence is read from its end",
        "change the last input: which of the states may move?",
    ),
    Mistake(
        "cells as the result",
        wrong_lstm(outs=lambda hs, cs: (np.stack(cs), cs[-1])),
        "y holds the cells; the result at each time is the state, what the cell shows",
        "which of the two has been through the output gate?",
    ),
    Mistake(
        "last state for the last cell",
        wrong_lstm(outs=lambda hs, cs: (np.stack(hs), hs[-1])),
        "the second result is the last state; it should be the last cell",
        "y[-1] is the last state already. What else does a next piece of text need to go on?",
    ),
    Mistake(
        "no gradient along the cell",
        wrong_lstm(carried=lambda dh, dc, given: (dh, 0 * dc)),
        "the gradient of the cell stops at each step: the highway is closed",
        "each step's vjp returns a dc. Which step must hear of it?",
    ),
    Mistake(
        "no gradient along the state",
        wrong_lstm(carried=lambda dh, dc, given: (0 * dh, dc)),
        "the gradient of the state stops at each step; the gates have read it, too",
        "h_t is used in two places: as y_t, and by the step after it",
    ),
    Mistake(
        "no gradient through time",
        wrong_lstm(carried=lambda dh, dc, given: (0 * dh, 0 * dc)),
        "each step is differentiated alone: nothing comes back from the next one",
        "two arrays go from step to step, so two gradients come back",
    ),
    Mistake(
        "last cell's gradient left out",
        wrong_lstm(begin=lambda dc: 0 * dc),
        "the cotangent of the last cell is not used: the walk begins with dc = 0",
        "the last cell is a result: its gradient comes from outside, as dy does",
    ),
    Mistake(
        "last cell's gradient at every time",
        wrong_lstm(carried=lambda dh, dc, given: (dh, dc + given)),
        "the cotangent of the last cell enters at every time; it belongs to the last one",
        "of all the cells, which one has been returned?",
    ),
    Mistake(
        "dy at the end only",
        wrong_lstm(incoming=lambda dy, dh: dy if not dh.any() else dh),
        "only the last time's dy goes in; each time has its own, which joins on the way back",
        "at a fan-out gradients add: what are the two summands at time t?",
    ),
    Mistake(
        "overwritten",
        wrong_lstm(add=lambda total, new: new),
        "the weights' gradients are those of the first time alone: each step overwrites the last",
        "one weight serves all times; replace = by what adds up",
    ),
    Mistake(
        "walked forward",
        wrong_lstm(back=lambda T: list(range(T))),
        "backward walks from the first time to the last; what it needs comes from the other side",
        "which step was the last to use c_3? It must have been undone before",
    ),
    Mistake(
        "dx in the order of the walk",
        wrong_lstm(place=lambda t, T: T - 1 - t),
        "dx comes out reversed: collected on the way back, it was not turned around again",
        "the gradient of x[0] belongs into dx[0]",
    ),
    Mistake(
        "no gradient for the first state and cell",
        wrong_lstm(first=lambda dh, dc: (0 * dh, 0 * dc)),
        "the gradients of the first state and cell are 0, but everything depends on them",
        "after the loop has undone time 1, what is left in your hands?",
    ),
    Mistake(
        "first gradients exchanged",
        wrong_lstm(first=lambda dh, dc: (dc, dh)),
        "the gradients of h and c are returned in the other order",
        "read the order of the inputs: x, h, c",
    ),
    Mistake(
        "mean over time",
        mean_over_time,
        "the weights' gradients are divided by the number of times; they add up over time",
        "if a loss should be a mean, its dy says so already: backward divides by nothing",
    ),
]
EXERCISES = [
    Exercise(
        name="lstm_cell",
        reference=ops.lstm_cell,
        inputs=steps(),
        also=[
            made(0, 3, ins=2, size=2),
            made(1, 2, ins=4, size=3),
            made(2, 4, ins=3, size=1),
            made(7, 3, ins=2, size=2, scale=30.0),  # sums of thousands: exp(-z) is infinite there
        ],
        mistakes=CELL_MISTAKES,
        hints=(
            (
                "Forward is lesson 15's sum, four times as wide; cut it into four, and three short "
                "lines are left. Give every one of them its own name: backward needs them all."
            ),
            (
                "c' has two ways out: into h', and out of the step as it is. So its gradient has "
                "two summands, dc' + dh' o (1 - tanh(c')²). From there c' = f c + i g is four "
                "products. The slopes at the gates are y (1 - y), at g it is 1 - y²."
            ),
            (
                "With d = dc' + dh' o (1 - t²): do = dh' t, df = d c, di = d g, dg = d i, and "
                "dc = d f. Each of the four times its slope, put side by side in the order "
                "i, f, g, o, is dz [B, 4H]. Then dx = dz @ weight_ih, dh = dz @ weight_hh, "
                "dweight_ih = dz.T @ x, dweight_hh = dz.T @ h, both biases dz.sum(axis=0)."
            ),
        ),
    ),
    Exercise(
        name="lstm",
        reference=lstm,
        inputs=steps(times=4),
        also=[
            made(3, 4, 3, ins=2, size=2),
            made(4, 3, 2, ins=3, size=4),
            made(5, 1, 2, ins=3, size=2),
        ],
        mistakes=LSTM_MISTAKES,
        hints=(
            (
                "It is lesson 15's loop with two things handed on. Keep the vjp of each step in a "
                "list, and walk the list from the end: what does backward hand on?"
            ),
            (
                "Two gradients travel back. For the state it is dy[t] + dh, as in lesson 15. The "
                "cells are no results, except the last: dc begins with the cotangent of c_T, and "
                "each step's dc is the next one's."
            ),
            (
                "for t in reversed(range(T)): dx[t], dh, dc, *more = backs[t](dy[t] + dh, dc), "
                "then add each of `more` to its total. Begin with dh = 0 and the given dc; what "
                "dh and dc are at the end belongs to the first state and the first cell."
            ),
        ),
    ),
]
