"""Check 07: dropout with the draw told, and a schedule on steps before, in and after its run."""

import math

import numpy as np
from hypothesis import strategies as st

from scratchlm import optim
from scratchlm.lessons import Case, Exercise, Mistake, normal, shapes


def dropout(x, *, p=0.5, rng=None, training=True):
    """The library's op draws float32 numbers; this one draws what the exercise says."""
    if not training or p == 0:
        return x[...], lambda dy: dy
    factor = (rng.random(x.shape) >= p).astype(x.dtype) / (1 - p)
    return x * factor, lambda dy: dy * factor


def rng(seed=0):
    return np.random.default_rng(seed)


@st.composite
def dropouts(draw):
    """Two axes or more: of few elements most masks would keep all, or none."""
    x = draw(normal(shapes(2, 3, 4)))
    seed, p = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.1, 0.25, 0.5, 0.8]))
    return Case(x, p=p, rng=rng(seed), training=True)


X = rng(7).standard_normal((4, 5))
WITH_ZEROS = np.array([[0.0, 1, -2], [0, 0, 3]])
ALSO = [
    Case(X, p=0.25, rng=rng(1)),
    Case(X, p=0.9, rng=rng(2)),
    Case(X, rng=rng(3)),  # the default p, and training
    Case(X, p=0.25, rng=rng(4), training=False),
    Case(X, p=0.25, rng=None, training=False),
    Case(X, p=0.0, rng=None),
    Case(WITH_ZEROS, p=0.3, rng=rng(5)),  # an element may be 0 without being dropped
    Case(np.ones((2, 3, 4)), p=0.4, rng=rng(6)),
    Case(np.zeros((0, 3)), p=0.5, rng=rng(7)),
    Case(np.array([1e300, -1e300]), p=0.5, rng=rng(8)),
]


# ------------------------------------------ the right dropout, parts of which a mistake replaces


def wrong(
    *,
    keep=lambda u, p: u >= p,
    draw=lambda rng, x: rng.random(x.shape),
    scale=lambda p: 1 / (1 - p),
    back=lambda dy, factor, kept, x, p, rng: dy * factor,
    idle=lambda x, p: (x[...], lambda dy: dy),
    ignores_training=False,
    dtype=None,
    in_place=False,
):
    """Dropout with one of its steps replaced."""

    def dropout(x, *, p=0.5, rng=None, training=True):
        if (not training and not ignores_training) or p == 0:
            return idle(x, p)
        kept = keep(draw(rng, x), p)
        factor = kept.astype(dtype or x.dtype) * np.asarray(scale(p), dtype or x.dtype)
        y = x * factor
        if in_place:
            x *= factor
            y = x
        return y, lambda dy: back(dy, factor, kept, x, p, rng)

    return dropout


def redrawn(dy, factor, kept, x, p, rng):
    return dy * ((rng.random(x.shape) >= p).astype(dy.dtype) / (1 - p))


def dropped_where_zero(dy, factor, kept, x, p, rng):
    return dy * ((x * factor != 0).astype(dy.dtype) / (1 - p))


def no_switch_for_p(x, *, p=0.5, rng=None, training=True):
    if not training:
        return x[...], lambda dy: dy
    return dropout(x, p=p, rng=rng) if p else dropout(x, p=0.0 * rng.random(), rng=rng)


DROPOUT_MISTAKES = [
    Mistake(
        "not scaled",
        wrong(scale=lambda p: 1),
        "what is kept is not scaled up, so in training every sum is 1 - p times what it should be",
        "the mean of y over many masks should be x; what is the mean of m alone?",
    ),
    Mistake(
        "scaled by p",
        wrong(scale=lambda p: 1 / p),
        "what is kept is divided by p, the share that was dropped",
        "with p = 0.1 nearly everything is kept: is the factor near 1 then, or near 10?",
    ),
    Mistake(
        "kept and dropped exchanged",
        wrong(keep=lambda u, p: u < p),
        "the elements with u < p are kept and the others dropped: the share p survives",
        "with p = 0.1, how many of a hundred should become 0?",
    ),
    Mistake(
        "scaled down",
        wrong(scale=lambda p: 1 - p),
        "what is kept is multiplied by 1 - p, which makes it smaller still",
        "some of the sum is gone; the rest has to make up for it",
    ),
    Mistake(
        "mask drawn again",
        wrong(back=redrawn),
        "vjp draws a mask of its own, so gradients reach elements that were dropped",
        "backward belongs to the forward that has happened: one draw, used twice",
    ),
    Mistake(
        "gradient without mask",
        wrong(back=lambda dy, factor, kept, x, p, rng: dy),
        "dy is handed on as it is, to elements too that had no part in y",
        "y is x times something, element by element; what is the derivative of that by x?",
    ),
    Mistake(
        "gradient not scaled",
        wrong(back=lambda dy, factor, kept, x, p, rng: dy * kept.astype(dy.dtype)),
        "the gradient has the mask and lacks the factor 1 / (1 - p) that forward has",
        "multiply dy by just what x was multiplied by",
    ),
    Mistake(
        "gradient scaled, without mask",
        wrong(back=lambda dy, factor, kept, x, p, rng: dy / (1 - p)),
        "the gradient has the factor and lacks the mask",
        "multiply dy by just what x was multiplied by",
    ),
    Mistake(
        "mask read off from y",
        wrong(back=dropped_where_zero),
        "backward takes y == 0 for dropped, but an x of 0 may have been kept",
        "after a ReLU half of x is 0; keep the mask itself",
    ),
    Mistake(
        "still on after training",
        wrong(ignores_training=True),
        "training=False changes nothing: predictions stay random",
        "what should y be when the model is used?",
    ),
    Mistake(
        "scaled when not training",
        wrong(idle=lambda x, p: (x * (1 - p), lambda dy: dy * (1 - p))),
        "with training=False x is multiplied by 1 - p, though training has made up for it already",
        "the scale belongs to one of the two, and here training has it",
    ),
    Mistake(
        "one mask for all rows",
        wrong(draw=lambda rng, x: np.broadcast_to(rng.random(x.shape[-1:]), x.shape)),
        "one row of the mask is drawn and used for all rows",
        "draw a number for each element: the shape is that of x",
    ),
    Mistake(
        "x changed in place",
        wrong(in_place=True),
        "y is right, but x itself was overwritten, and others may still read it",
        "x *= ... writes into the caller's array; y = x * ... makes a new one",
    ),
    Mistake(
        "float64 mask",
        wrong(dtype=np.float64),
        "the factor is float64, so a float32 x comes out as float64",
        "convert the mask to x.dtype before you multiply",
    ),
    Mistake(
        "draws without need",
        no_switch_for_p,
        "with p = 0 a random number is asked for, but there may be no rng then",
        "nothing is dropped with p = 0: treat it as training=False",
    ),
]


# ------------------------------------------ the schedule


@st.composite
def schedules(draw):
    total = draw(st.integers(2, 40))
    warmup = draw(st.integers(0, total - 1))
    step = draw(st.integers(0, total + 10))
    return Case(step, total=total, warmup=warmup, final=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])))


RUN = {"total": 20, "warmup": 5, "final": 0.1}
STEPS = [
    *(Case(step, **RUN) for step in (0, 1, 3, 4, 5, 6, 9, 12.5, 15, 19, 20, 21, 30)),
    *(Case(step, total=10) for step in (0, 3, 5, 10, 14)),
    *(Case(step, total=12, warmup=1, final=0.2) for step in (0, 1, 2, 7, 12, 13)),
    Case(0.5, total=1.0, warmup=0.1),  # a share of the time instead of a number of steps
    Case(0, total=100, warmup=50),
    Case(49, total=100, warmup=50),
]


def shaped(
    *,
    rise=lambda step, warmup: min(1, (step + 1) / warmup) if warmup else 1,
    progress=lambda step, total, warmup: (step - warmup) / (total - warmup),
    low=0.0,
    high=1.0,
    curve=lambda x: (1 + math.cos(math.pi * x)) / 2,
    ends=lambda curve, final: final + (1 - final) * curve,
    join=lambda rise, fall, step, warmup: rise * fall,
):
    """The schedule with one of its steps replaced."""

    def warmup_cosine(step, *, total, warmup=0, final=0.0):
        x = min(high, max(low, progress(step, total, warmup)))
        return join(rise(step, warmup), ends(curve(x), final), step, warmup)

    return warmup_cosine


SCHEDULE_MISTAKES = [
    Mistake(
        "no warm-up",
        shaped(rise=lambda step, warmup: 1),
        "there is no rise: the first step has the full rate",
        "warmup has to occur twice: in the rise, and where the cosine begins",
    ),
    Mistake(
        "rises from 0",
        shaped(rise=lambda step, warmup: min(1, step / warmup) if warmup else 1),
        "the factor at step 0 is 0, so the first update changes nothing",
        "steps count from 0, and the first is 1 / warmup: how many steps does step 0 make?",
    ),
    Mistake(
        "rise without end",
        shaped(rise=lambda step, warmup: (step + 1) / warmup if warmup else 1),
        "the rise goes on beyond 1 after the warm-up",
        "what holds a growing number at 1?",
    ),
    Mistake(
        "division by warmup 0",
        shaped(rise=lambda step, warmup: min(1, (step + 1) / warmup)),
        "with warmup=0 it divides by 0",
        "without a warm-up the rise is 1 from the start",
    ),
    Mistake(
        "cosine over the whole run",
        shaped(progress=lambda step, total, warmup: step / total),
        "the cosine begins at step 0, so the fall has begun before the rise is over",
        "its progress is 0 at step warmup and 1 at step total",
    ),
    Mistake(
        "cosine over too many steps",
        shaped(progress=lambda step, total, warmup: (step - warmup) / total),
        "the cosine is stretched over total steps though it begins at warmup, so it never arrives",
        "how many steps lie between warmup and total?",
    ),
    Mistake(
        "cosine in the warm-up",
        shaped(low=-math.inf),
        "before the warm-up ends the progress is negative, and the cosine of that is below 1",
        "cos(-x) = cos(x): hold the progress at 0 until the warm-up is over",
    ),
    Mistake(
        "rises again",
        shaped(high=math.inf),
        "after the last step the cosine goes up again",
        "hold the progress at 1 when it is over",
    ),
    Mistake(
        "final forgotten",
        shaped(ends=lambda curve, final: curve),
        "it falls to 0, whatever final is",
        "the curve goes from 1 to final: stretch it, then shift it",
    ),
    Mistake(
        "final on top",
        shaped(ends=lambda curve, final: final + curve),
        "final is added to the whole curve, so it begins at 1 + final",
        "at progress 0 it must be 1, at progress 1 final: two equations for a stretch and a shift",
    ),
    Mistake(
        "cut off at final",
        shaped(ends=lambda curve, final: max(final, curve)),
        "the cosine heads for 0 and is cut off at final, which leaves a corner and a flat piece",
        "the curve itself should end at final: stretch it, then shift it",
    ),
    Mistake(
        "a quarter of a cosine",
        shaped(curve=lambda x: math.cos(math.pi / 2 * x)),
        "it is the first quarter of a cosine, which is steepest at its end",
        "from its top to its bottom a cosine takes π, and goes from 1 to -1",
    ),
    Mistake(
        "a whole cosine",
        shaped(curve=lambda x: (1 + math.cos(2 * math.pi * x)) / 2),
        "the cosine runs through its whole period and is back at 1 in the end",
        "from its top to its bottom a cosine takes π",
    ),
    Mistake(
        "a straight line",
        shaped(curve=lambda x: 1 - x),
        "the fall is a straight line",
        "a cosine from 1 to -1, moved up by 1 and halved",
    ),
    Mistake(
        "whole steps of progress",
        shaped(progress=lambda step, total, warmup: (step - warmup) // (total - warmup)),
        "progress is 0 until the very end: // cuts off all that comes after the point",
        "progress is a share; which division keeps it?",
    ),
    Mistake(
        "degrees",
        shaped(curve=lambda x: (1 + math.cos(180 * x)) / 2),
        "cos is given degrees, but it takes radians",
        "half a turn is math.pi",
    ),
]

EXERCISES = [
    Exercise(
        name="dropout",
        reference=dropout,
        inputs=dropouts(),
        also=ALSO,
        mistakes=DROPOUT_MISTAKES,
        hints=(
            (
                "Do the 2×3 example of the page on paper: what was each x multiplied by? "
                "Then ask how far y moves when one x moves a little."
            ),
            (
                "One array holds all there is to know: 0 where an element is dropped, 1 / (1 - p) "
                "where it is kept. Forward multiplies by it, and so does backward. When not "
                "training, or with p = 0, do neither, and draw nothing."
            ),
            (
                "keep = rng.random(x.shape) >= p, then factor = keep.astype(x.dtype) / (1 - p). "
                "Return x * factor, and a vjp that returns dy * factor."
            ),
        ),
    ),
    Exercise(
        name="warmup_cosine",
        reference=optim.cosine,
        inputs=schedules(),
        also=STEPS,
        contract="function",
        mistakes=SCHEDULE_MISTAKES,
        hints=(
            (
                "Draw it for total=10 and warmup=2, and mark the values at steps 0, 1, 2, 6 and "
                "10. Then write the rise and the fall apart, and multiply."
            ),
            (
                "The progress is the share of the way from warmup to total, held between 0 and 1. "
                "(1 + cos(π · progress)) / 2 goes from 1 to 0. Which stretch and which shift make "
                "it go from 1 to final?"
            ),
            (
                "rise = min(1, (step + 1) / warmup), or 1 without a warm-up. "
                "progress = min(1, max(0, (step - warmup) / (total - warmup))). "
                "fall = final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2."
            ),
        ),
    ),
]
