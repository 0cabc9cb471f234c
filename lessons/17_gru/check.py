"""Check 17: one step of a gated recurrent unit, and what is often done instead."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal


@st.composite
def steps(draw):
    batch, ins, size = (draw(st.integers(1, 4)) for _ in range(3))
    size += size == ins  # a matrix that could be turned unnoticed is in `also`
    shapes = [
        (batch, ins),
        (batch, size),
        (3 * size, ins),
        (3 * size, size),
        (3 * size,),
        (3 * size,),
    ]
    given = [draw(normal(shape, scale=0.7)) for shape in shapes]
    return Case(*given, reset_after=draw(st.booleans()))


def made(seed, batch, ins, size, scale=0.7, **options):
    rng = np.random.default_rng(seed)
    shapes = [
        (batch, ins),
        (batch, size),
        (3 * size, ins),
        (3 * size, size),
        (3 * size,),
        (3 * size,),
    ]
    return Case(*(scale * rng.standard_normal(shape) for shape in shapes), **options)


# ------------------------------------------------ the right steps, each of which a mistake replaces


def sigmoid(s):
    return 0.5 * (1 + np.tanh(0.5 * s))


def overflowing(s):
    e = np.exp(s)
    return e / (1 + e)


def wrong_cell(
    *,
    order=(0, 1, 2),
    bias=lambda b: b,
    W=lambda W: W,
    gate=sigmoid,
    placed=lambda after: after,
    reset=lambda r: r,
    candidate=lambda a, r, m, b, after: np.tanh(a + r * m if after else a + m),
    mix=lambda z, n, h: (1 - z) * n + z * h,
    dn=lambda d, z: d * (1 - z),
    dz=lambda d, n, h: d * (h - n),
    straight=lambda d, z: d * z,
    slope_n=lambda n: 1 - n**2,
    slope=lambda g: g * (1 - g),
    dm=lambda ds, r, after: ds * r if after else ds,
    dq=lambda dm, W: dm @ W,
    dr=lambda ds, dq, m, h, after: ds * m if after else dq * h,
    through=lambda dq, r, after: dq if after else dq * r,
    to_r=lambda dr: dr,
    to_z=lambda dz: dz,
    dgates=lambda dr, dz, Wr, Wz: dr @ Wr + dz @ Wz,
    met=lambda q, h: q,
    total=lambda ds: ds.sum(axis=0),
    db=lambda da, de: de,
    dW=lambda de, h, q, H: np.concatenate([de[:, : 2 * H].T @ h, de[:, 2 * H :].T @ q]),
):
    """A step with one of its parts replaced."""

    def gru_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh, *, reset_after=True):
        after = placed(reset_after)
        H = h.shape[1]
        parts = [slice(i * H, i * H + H) for i in order]  # np.split would take half of the time
        a, b = x @ weight_ih.T + bias_ih, bias(bias_hh)
        ar, az, an = (a[:, part] for part in parts)
        Wr, Wz, Wn = (weight_hh[part] for part in parts)
        br, bz, bn = (b[part] for part in parts)
        r = reset(gate(ar + h @ W(Wr).T + br))
        z = gate(az + h @ W(Wz).T + bz)
        q = h if after else r * h
        m = q @ W(Wn).T + bn
        n = candidate(an, r, m, bn, after)

        def vjp(d):
            ds = dn(d, z) * slope_n(n)
            dmm = dm(ds, r, after)
            dqq = dq(dmm, W(Wn))
            drr = to_r(dr(ds, dqq, m, h, after)) * slope(r)
            dzz = to_z(dz(d, n, h)) * slope(z)
            dh = straight(d, z) + through(dqq, r, after) + dgates(drr, dzz, W(Wr), W(Wz))
            back = np.argsort(order)
            da = np.concatenate([[drr, dzz, ds][i] for i in back], axis=1)
            de = np.concatenate([[drr, dzz, dmm][i] for i in back], axis=1)
            dweight = dW(de, h, met(q, h), h.shape[1])
            return da @ weight_ih, dh, da.T @ x, dweight, total(da), total(db(da, de))

        return mix(z, n, h), vjp

    return gru_cell


def state_in_place(x, h, weight_ih, weight_hh, bias_ih, bias_hh, **options):
    y, vjp = ops.gru_cell(x, h.copy(), weight_ih, weight_hh, bias_ih, bias_hh, **options)
    h[...] = y
    return y, vjp


def bias_unreset(a, r, m, b, after):
    return np.tanh(a + r * (m - b) + b if after else a + m)


MISTAKES = [
    Mistake(
        "gates exchanged",
        wrong_cell(order=(1, 0, 2)),
        "the first part of the weights is used for z and the second for r; the order is r, z, n",
        "compare your slices with the order in which the docstring names the parts",
    ),
    Mistake(
        "z and 1 - z swapped",
        wrong_cell(
            mix=lambda z, n, h: z * n + (1 - z) * h,
            dn=lambda d, z: d * z,
            dz=lambda d, n, h: d * (n - h),
            straight=lambda d, z: d * (1 - z),
        ),
        "z multiplies the candidate: so another paper has it (Chung et al.), here z keeps",
        "let z be 1: is your new state the old one?",
    ),
    Mistake(
        "no update gate",
        wrong_cell(
            mix=lambda z, n, h: n * 1,
            dn=lambda d, z: d,
            to_z=lambda dz: 0 * dz,
            straight=lambda d, z: 0,
        ),
        "the new state is the candidate alone: nothing of the old state is kept as it is",
        "the document leaves the update gate out; which line of the docstring has z in it?",
    ),
    Mistake(
        "no reset gate",
        wrong_cell(reset=lambda r: r * 0 + 1, to_r=lambda dr: 0 * dr),
        "r has no effect on the candidate: it stands as if r were 1",
        "move the first third of a bias a little: does your new state notice?",
    ),
    Mistake(
        "always after",
        wrong_cell(placed=lambda after: True),
        "with reset_after=False the reset gate still acts after the product",
        "which array is multiplied by W_n if reset_after is False? Write it down first",
    ),
    Mistake(
        "always before",
        wrong_cell(placed=lambda after: False),
        "with reset_after=True, the default, the reset gate acts before the product",
        "with reset_after=True, h meets W_n as it is, and then r multiplies, bias and all",
    ),
    Mistake(
        "bias not reset",
        wrong_cell(
            candidate=bias_unreset,
            dr=lambda ds, dq, m, h, after: ds * m if after else dq * h,
            db=lambda da, de: da,
        ),
        "with reset_after=True, r multiplies the product but not b_n, which stands inside too",
        "look for the parenthesis in the line of the candidate: where does it close?",
    ),
    Mistake(
        "input reset too",
        wrong_cell(
            candidate=lambda a, r, m, b, after: np.tanh(r * (a + m)) if after else np.tanh(a + m)
        ),
        "r multiplies the input as well; it may only close the view of the past",
        "let r be 0: does your candidate still see what is read?",
    ),
    Mistake(
        "sigmoid around the candidate",
        wrong_cell(
            candidate=lambda a, r, m, b, after: sigmoid(a + r * m if after else a + m),
            slope_n=lambda n: n * (1 - n),
        ),
        "the candidate goes through σ: no state can be negative then",
        "gates lie between 0 and 1, candidates between -1 and 1: which function gives that?",
    ),
    Mistake(
        "tanh for the gates",
        wrong_cell(gate=np.tanh, slope=lambda g: 1 - g**2),
        "the gates go through tanh: a gate of -1 does not close anything, it turns the sign",
        "a gate says how much, from nothing to all: from 0 to 1",
    ),
    Mistake(
        "one bias only",
        wrong_cell(bias=lambda b: 0 * b),
        "bias_hh is not added",
        "count the arguments, and find each of them in your forward lines",
    ),
    Mistake(
        "recurrent matrices turned",
        wrong_cell(
            W=lambda W: W.T,
            dW=lambda de, h, q, H: np.concatenate(
                [h.T @ de[:, :H], h.T @ de[:, H : 2 * H], q.T @ de[:, 2 * H :]]
            ),
        ),
        "the parts of weight_hh are used untransposed; they are square, so nothing complains",
        "which axis of a part is the new state, which the old one? Both weights are (out, in)",
    ),
    Mistake(
        "sigmoid that overflows",
        wrong_cell(gate=overflowing),
        "exp(s) / (1 + exp(s)) is infinity over infinity for a sum of thousands, which is NaN",
        "lesson 02 has stable forms; one of them uses tanh(s / 2)",
    ),
    Mistake(
        "no straight way back",
        wrong_cell(straight=lambda d, z: 0),
        "dh has no part that comes from z * h itself: the path that makes a GRU remember",
        "h stands in four places of the forward lines; the last line is one of them",
    ),
    Mistake(
        "straight way only",
        wrong_cell(through=lambda dq, r, after: 0, dgates=lambda dr, dz, Wr, Wz: 0),
        "dh is dh' * z alone: h also enters both gates and the candidate",
        "h stands in four places of the forward lines: four summands",
    ),
    Mistake(
        "gates held constant",
        wrong_cell(to_r=lambda dr: 0 * dr, to_z=lambda dz: 0 * dz),
        "the gates get no gradient, as if they were given numbers",
        "a gate is computed from x and h with weights; these learn only through it",
    ),
    Mistake(
        "sign of dz",
        wrong_cell(dz=lambda d, n, h: d * (n - h)),
        "dz has the wrong sign: (1 - z) n + z h grows with z where h is above n",
        "differentiate (1 - z) n + z h by z, one summand after the other",
    ),
    Mistake(
        "dz without the candidate",
        wrong_cell(dz=lambda d, n, h: d * h),
        "dz takes z * h only; z stands in (1 - z) * n as well",
        "cross out nothing: both summands of the last line have a z",
    ),
    Mistake(
        "no slope at the gates",
        wrong_cell(slope=lambda g: 1.0),
        "backward goes past σ as if it were not there",
        "between the gate and its sum stands a function; its slope can be read off the gate",
    ),
    Mistake(
        "tanh's slope at the gates",
        wrong_cell(slope=lambda g: 1 - g**2),
        "1 - g² is the slope of tanh; the gates are sigmoids",
        "what is the slope of σ at 0, where σ is 1/2?",
    ),
    Mistake(
        "no slope at the candidate",
        wrong_cell(slope_n=lambda n: 1.0),
        "backward goes past the tanh of the candidate as if it were not there",
        "what is the derivative of tanh, written with its output n?",
    ),
    Mistake(
        "reset gate forgotten on the way back",
        wrong_cell(dm=lambda ds, r, after: ds),
        "with reset_after=True, what goes back through r * m must be multiplied by r",
        "a product has two factors: each gets the cotangent times the other",
    ),
    Mistake(
        "dr from the other placement",
        wrong_cell(dr=lambda ds, dq, m, h, after: ds * h),
        "dr multiplies with h itself; r has met another array, in either placement",
        "find r in the candidate's line: what does it stand beside?",
    ),
    Mistake(
        "reset gate forgotten in dh",
        wrong_cell(through=lambda dq, r, after: dq),
        "with reset_after=False, what comes back from W_n belongs to r * h, not yet to h",
        "name the product r * h, and undo that line too",
    ),
    Mistake(
        "h in the third part of dweight_hh",
        wrong_cell(met=lambda q, h: h),
        "with reset_after=False, W_n was multiplied by r * h; its gradient has h in its place",
        "the gradient of a weight contains what the weight was multiplied by",
    ),
    Mistake(
        "both biases alike",
        wrong_cell(db=lambda da, de: da),
        "dbias_hh equals dbias_ih: with reset_after=True r stands before b_n, but not before b_ih",
        "move the last number of each bias a little: does the candidate move by the same?",
    ),
    Mistake(
        "W_n turned in dh",
        wrong_cell(dq=lambda dm, W: dm @ W.T),
        "dh goes through W_n the same way round as forward; it is square, so nothing complains",
        "forward multiplies by W_nᵀ: what undoes that?",
    ),
    Mistake(
        "mean over the batch",
        wrong_cell(total=lambda ds: ds.mean(axis=0)),
        "the gradients of the biases are means over the batch; what comes back adds up",
        "every sequence has used the same bias: what happens at a fan-out?",
    ),
    Mistake(
        "state overwritten",
        state_in_place,
        "the new state is written into h: the caller's array, which backward still needs",
        "h[...] = and h *= write into the caller's array; make a new one",
    ),
]

EXERCISES = [
    Exercise(
        name="gru_cell",
        reference=ops.gru_cell,
        inputs=steps(),
        also=[
            made(0, 3, 2, 2),
            made(1, 3, 2, 2, reset_after=False),
            made(2, 2, 3, 3, scale=1.5),
            made(3, 2, 3, 4, scale=1.5, reset_after=False),
            made(7, 3, 2, 2, scale=40.0),  # sums of thousands: exp(s) is infinite there
        ],
        mistakes=MISTAKES,
        hints=(
            (
                "Forward is six short lines: split everything in three, two gates, what of the "
                "past meets W_n, the product, the candidate, the mix. Give each a name. Backward "
                "undoes the names in the opposite order."
            ),
            (
                "Begin with h' = (1 - z) n + z h: it gives dn, dz, and the first part of dh. Then "
                "tanh, with the slope 1 - n². Then r m (or r h): two factors, two gradients. Then "
                "both gates, with the slope g (1 - g). h collects four summands."
            ),
            (
                "After: da_n = dn (1 - n²), dm = da_n r, dr = da_n m, and dh gets dm @ W_n. "
                "Before: dm = da_n, dq = dm @ W_n, dr = dq h, and dh gets dq r. Both: da_r = dr r "
                "(1 - r), da_z = dz z (1 - z), and dh gets dh' z + da_r @ W_r + da_z @ W_z. "
                "bias_hh and the last third of weight_hh take dm, the rest takes da."
            ),
        ),
    ),
]
