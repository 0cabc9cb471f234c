"""Check 22: rotary positions in both pairings, and what is often done instead."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, normal


@st.composite
def inputs(draw):
    leading = draw(st.sampled_from([(), (), (3,), (2, 3)]))
    n, d = draw(st.integers(1, 5)), 2 * draw(st.integers(1, 4))
    return Case(
        draw(normal((*leading, n, d))),
        base=draw(st.sampled_from([10000.0, 100.0])),
        offset=draw(st.sampled_from([0, 0, 1, 40])),
        interleaved=draw(st.booleans()),
    )


def made(seed, *shape, **options):
    return Case(np.random.default_rng(seed).standard_normal(shape), **options)


ALSO = [
    Case(np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])),  # one pair, three positions
    made(0, 4, 6),
    made(1, 4, 6, interleaved=False),
    made(2, 2, 3, 4, 8),  # the first axis is neither the positions nor of their number
    made(3, 3, 5, 4, interleaved=False, base=50.0),
    made(4, 1, 8, offset=7),  # a new token beside a cache
    made(5, 2, 3, 1, 4, offset=11, interleaved=False),
    made(6, 0, 4),
]


# ------------------------------------------------ the right steps, each of which a mistake replaces


def places(d, interleaved):
    """Where the first and the second of each pair stand."""
    if interleaved:
        return slice(0, d, 2), slice(1, d, 2)
    return slice(0, d // 2), slice(d // 2, d)


def falling(base, d):
    return base ** (-2 * np.arange(d // 2) / d)


def rows(x, offset):
    return (offset + np.arange(x.shape[-2]))[:, None]


def rotation(x1, x2, cos, sin):
    return x1 * cos - x2 * sin, x1 * sin + x2 * cos


def opposite(x1, x2, cos, sin):
    return rotation(x1, x2, cos, -sin)


def wrong(
    *,
    pairs=places,
    put=None,
    theta=falling,
    position=rows,
    turn=rotation,
    back=opposite,
    dtype=lambda x: x.dtype,
):
    """Rotary positions with one of the steps replaced."""

    def rope(x, *, base=10000.0, offset=0, interleaved=True):
        d = x.shape[-1]
        taken, placed = pairs(d, interleaved), (put or pairs)(d, interleaved)
        angle = position(x, offset) * theta(base, d)
        cos, sin = np.cos(angle).astype(dtype(x)), np.sin(angle).astype(dtype(x))

        def apply(turn, a, source, target):
            b = np.empty(a.shape, dtype(x))
            b[..., target[0]], b[..., target[1]] = turn(
                a[..., source[0]], a[..., source[1]], cos, sin
            )
            return b

        return apply(turn, x, taken, placed), lambda dy: apply(back, dy, placed, taken)

    return rope


def along_the_first_axis(x, offset):
    if x.ndim == 2:
        return rows(x, offset)
    return (offset + np.arange(x.shape[0])).reshape(-1, *(1 for _ in x.shape[1:]))


def written_over(x1, x2, cos, sin):
    y1 = x1 * cos - x2 * sin
    return y1, y1 * sin + x2 * cos


def undone_written_over(y1, y2, cos, sin):
    # y1 = x1 c - x2 s,  y2 = y1 s + x2 c: its own right gradient
    through = y1 + y2 * sin
    return through * cos, y2 * cos - through * sin


def in_place(x, *, base=10000.0, offset=0, interleaved=True):
    y, vjp = wrong()(x, base=base, offset=offset, interleaved=interleaved)
    x[...] = y
    return x, vjp


def cotangent_in_place(x, *, base=10000.0, offset=0, interleaved=True):
    y, right = wrong()(x, base=base, offset=offset, interleaved=interleaved)

    def vjp(dy):
        dy[...] = right(dy)
        return dy

    return y, vjp


def added(x, *, base=10000.0, offset=0, interleaved=True):
    angle = rows(x, offset) * falling(base, x.shape[-1])
    table = np.empty(x.shape[-2:], x.dtype)
    first, second = places(x.shape[-1], interleaved)
    table[:, first], table[:, second] = np.sin(angle), np.cos(angle)
    return x + table, lambda dy: dy


MISTAKES = [
    Mistake(
        "always neighbors",
        wrong(pairs=lambda d, interleaved: places(d, True)),
        "the pairs are always 2i and 2i + 1; with interleaved=False they are i and i + d/2",
        "draw a row of six features twice, and join the partners by arcs: once for each pairing",
    ),
    Mistake(
        "always halves",
        wrong(pairs=lambda d, interleaved: places(d, False)),
        "the pairs are always i and i + d/2; with interleaved=True they are neighbors",
        "draw a row of six features twice, and join the partners by arcs: once for each pairing",
    ),
    Mistake(
        "pairings exchanged",
        wrong(pairs=lambda d, interleaved: places(d, not interleaved)),
        "interleaved=True pairs the halves, and interleaved=False the neighbors",
        "interleaved means that first and second ones take turns: 1 2 1 2 1 2",
    ),
    Mistake(
        "halves put back for neighbors",
        wrong(put=lambda d, interleaved: places(d, False)),
        "neighbors are turned, but the results are laid one half behind the other",
        "y1 belongs where x1 was taken from; np.concatenate does not interleave",
    ),
    Mistake(
        "turned the other way",
        wrong(turn=opposite, back=rotation),
        "every pair is turned by minus its angle: the signs of the sines are exchanged",
        "turn (1, 0) by a small positive angle: which sign must the second number get?",
    ),
    Mistake(
        "a mirror, not a rotation",
        wrong(
            turn=lambda x1, x2, c, s: (x1 * c + x2 * s, x1 * s - x2 * c),
            back=lambda y1, y2, c, s: (y1 * c + y2 * s, y1 * s - y2 * c),
        ),
        "the signs make a mirror of it: at position 0 the second of each pair changes its sign",
        "at position 0 all angles are 0, and y must be x",
    ),
    Mistake(
        "the second from the new first",
        wrong(turn=written_over, back=undone_written_over),
        "the second of each pair is computed from the first after it has been turned",
        "both lines need the old x1: keep it, or compute both before you store either",
    ),
    Mistake(
        "positions from 1",
        wrong(position=lambda x, offset: rows(x, offset + 1)),
        "the first row is turned too: positions are counted from 1",
        "row 0 with offset 0 stands at position 0: what is its angle?",
    ),
    Mistake(
        "offset ignored",
        wrong(position=lambda x, offset: rows(x, 0)),
        "offset is not used: a token that follows a cache of seven believes to be the first",
        "row n stands at position n + offset",
    ),
    Mistake(
        "positions along the first axis",
        wrong(position=along_the_first_axis),
        "positions are counted along axis 0, which is the batch where there is one",
        "the positions are the last axis but one, whatever stands before it",
    ),
    Mistake(
        "base ignored",
        wrong(theta=lambda base, d: falling(10000.0, d)),
        "base is not used: the frequencies are those of 10000, whatever was asked for",
        "Llama 3 has 500000: where does the number enter?",
    ),
    Mistake(
        "frequencies that grow",
        wrong(theta=lambda base, d: 1 / falling(base, d)),
        "the frequencies grow with i: the exponent has lost its minus",
        "the first pair turns by one radian a step; should the last turn faster or slower?",
    ),
    Mistake(
        "half of the exponent",
        wrong(theta=lambda base, d: base ** (-np.arange(d // 2) / d)),
        "the exponent is -i / d; i counts pairs, and a pair is two features: -2i / d",
        "the last of many pairs should turn by nearly 1 / base: compute its frequency",
    ),
    Mistake(
        "one frequency for all pairs",
        wrong(theta=lambda base, d: np.ones(d // 2)),
        "all pairs turn by the same angle, p",
        "a clock needs more than one hand: what does base^(-2i / d) do?",
    ),
    Mistake(
        "backward turns on",
        wrong(back=rotation),
        "vjp turns dy by the same angle as forward, where it must turn it back",
        "write the rotation as a 2 x 2 matrix: backward takes its transpose",
    ),
    Mistake(
        "backward does not turn",
        wrong(back=lambda y1, y2, c, s: (y1, y2)),
        "vjp hands dy on as it is",
        "dx1 is what x1 did to y1, times dy1, plus what x1 did to y2, times dy2",
    ),
    Mistake(
        "backward without the crossed terms",
        wrong(back=lambda y1, y2, c, s: (y1 * c, y2 * c)),
        "dx has the cosines only: but x1 has gone into y2 too, and x2 into y1",
        "x1 stands in both lines of forward; add up both paths",
    ),
    Mistake(
        "one sign in backward",
        wrong(back=lambda y1, y2, c, s: (y1 * c + y2 * s, y2 * c + y1 * s)),
        "in backward, x2 has gone into y1 with a minus, and dx2 has lost it",
        "the derivative of x1 cos - x2 sin by x2: which sign has it?",
    ),
    Mistake(
        "sinusoids added",
        added,
        "sines and cosines are added to x; rotary positions turn x and add nothing",
        "y1 = x1 cos - x2 sin: x is a factor, and a row of zeros stays zero",
    ),
    Mistake(
        "x changed in place",
        in_place,
        "x itself is overwritten; the projection that made it may be needed once more",
        "write into a new array: np.empty_like(x)",
    ),
    Mistake(
        "dy changed in place",
        cotangent_in_place,
        "vjp overwrites the cotangent that it was given; others may still need it",
        "write into a new array, as in forward",
    ),
    Mistake(
        "float64 results",
        wrong(dtype=lambda x: np.dtype(np.float64)),
        "float32 goes in and float64 comes out: the angles are float64 and carry x along",
        "angles in float64 are good; then let cos and sin, or the result, have the dtype of x",
    ),
]

EXERCISES = [
    Exercise(
        name="rope",
        reference=ops.rope,
        inputs=inputs(),
        also=ALSO,
        mistakes=MISTAKES,
        hints=(
            (
                "Begin with a table of angles, [N, d/2]: one row for each position, one column for "
                "each pair. Leading axes of x broadcast against it. Then do one pairing, and find "
                "out what the other one changes: only where the pairs are taken from and put back."
            ),
            (
                "x[..., 0::2] and x[..., 1::2] are the neighbors, x[..., :d//2] and x[..., d//2:] "
                "the halves. For backward, write the rotation of one pair as a 2 x 2 matrix. The "
                "gradient is its transpose times dy. Which rotation is the transpose?"
            ),
            (
                "angle = (offset + np.arange(N))[:, None] * base ** (-2 * np.arange(d // 2) / d). "
                "Write a helper turn(x, sin) that fills np.empty_like(x). Forward is turn(x, sin), "
                "backward turn(dy, -sin). The new array keeps the dtype of x."
            ),
        ),
    ),
]
