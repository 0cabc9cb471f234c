"""Check 13: rows of a table, and what is added to them on the way back."""

import numpy as np
from hypothesis import strategies as st

from scratchlm import ops
from scratchlm.lessons import Case, Exercise, Mistake, ids, normal, shapes


@st.composite
def lookups(draw):
    """Few rows, so that most ids occur again."""
    size, d = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    return Case(draw(ids(size, draw(shapes(1, 3)))), draw(normal((size, d))))


def lookup(which, size, d=3, dtype=int):
    rng = np.random.default_rng(size)
    return Case(np.array(which, dtype), rng.standard_normal((size, d)))


def refuse(which, weight):
    if which.size and (which.min() < 0 or which.max() >= len(weight)):
        raise IndexError("out of range")


def added(weight, which, dy):
    dweight = np.zeros_like(weight)
    np.add.at(dweight, which, dy)
    return dweight


def wrong(*, look=refuse, forward=lambda weight, which: weight[which], backward=added):
    """An embedding with one of its parts replaced."""

    def embedding(which, weight):
        look(which, weight)

        def vjp(dy):
            return None, backward(weight, which, dy)

        return forward(weight, which), vjp

    return embedding


def added_once(weight, which, dy):
    dweight = np.zeros_like(weight)
    dweight[which] += dy
    return dweight


def first_kept(weight, which, dy):
    dweight = np.zeros_like(weight)
    dweight[which.ravel()[::-1]] = dy.reshape(-1, weight.shape[1])[::-1]
    return dweight


def averaged(weight, which, dy):
    count = np.bincount(which.ravel(), minlength=len(weight))[:, None]
    return added(weight, which, dy) / np.maximum(count, 1)


def touched_only(weight, which, dy):
    return added(weight, which, dy)[np.unique(which)]


def per_place(weight, which, dy):
    return dy.copy()


def every_row(weight, which, dy):
    return np.zeros_like(weight) + dy.reshape(-1, weight.shape[1]).sum(axis=0)


def into_the_table(weight, which, dy):
    np.add.at(weight, which, dy)
    return weight


def counted(weight, which, dy):
    """The gradient of the sum of y, whatever arrives."""
    return added(weight, which, np.ones_like(dy))


def kept_between_calls(which, weight):
    refuse(which, weight)
    dweight = np.zeros_like(weight)

    def vjp(dy):
        np.add.at(dweight, which, dy)
        return None, dweight.copy()

    return weight[which], vjp


def one_axis(weight, which, dy):
    dweight = np.zeros_like(weight)
    for row, each in zip(which.reshape(len(which), -1)[:, 0], dy, strict=True):
        dweight[row] += each.reshape(-1, weight.shape[1])[0]
    return dweight


MISTAKES = [
    Mistake(
        "added once",
        wrong(backward=added_once),
        "an id that occurs twice gets the gradient of one place only: the others are lost",
        "dweight[ids] += dy reads each row once, adds, and writes it once; np.add.at adds in turn",
    ),
    Mistake(
        "the first place wins",
        wrong(backward=first_kept),
        "an id that occurs twice gets the gradient of its first place only",
        "each place adds to its row: nothing may be overwritten",
    ),
    Mistake(
        "averaged",
        wrong(backward=averaged),
        "the gradients of one id are averaged, not added",
        "y depends on the row at each place by itself; the chain rule adds over all ways",
    ),
    Mistake(
        "rows that were looked up",
        wrong(backward=touched_only),
        "the gradient has rows only for ids that occur; it must have the shape of weight",
        "begin with zeros of weight's shape",
    ),
    Mistake(
        "dy itself",
        wrong(backward=per_place),
        "dy is passed on as it is: a row for each place, not for each id",
        "put row n of dy into row ids[n] of a table of zeros",
    ),
    Mistake(
        "every row",
        wrong(backward=every_row),
        "every row of the table gets the sum of all of dy, also rows that nobody looked up",
        "row v gets dy of the places where v stands, and of no other",
    ),
    Mistake(
        "into the table",
        wrong(backward=into_the_table),
        "the gradient is added to weight itself, which changes the input",
        "collect it in zeros of its own; the optimizer changes the table",
    ),
    Mistake(
        "dy ignored",
        wrong(backward=counted),
        "each place adds 1, whatever dy is: that is the gradient of y.sum() alone",
        "what arrives at a place is dy there",
    ),
    Mistake(
        "one place in a row",
        wrong(backward=one_axis),
        "with ids of two or more axes, only the first place along the further ones counts",
        "flatten ids to (N,) and dy to (N, d), or let np.add.at do it",
    ),
    Mistake(
        "kept between calls",
        kept_between_calls,
        "the second call of vjp returns the sum of both: the zeros are made outside of it",
        "make the zeros inside vjp",
    ),
    Mistake(
        "negative ids wrap",
        wrong(look=lambda which, weight: None),
        "an id of -1 is accepted and means the last row, as NumPy's indices do",
        "compare ids with 0 and len(weight), and raise IndexError",
    ),
    Mistake(
        "clipped",
        wrong(
            look=lambda which, weight: None,
            forward=lambda weight, which: weight[which.clip(0, len(weight) - 1)],
            backward=lambda w, which, dy: added(w, which.clip(0, len(w) - 1), dy),
        ),
        "an id out of range takes the row nearest to it",
        "a wrong id is a bug somewhere else: raise IndexError",
    ),
    Mistake(
        "columns",
        wrong(
            look=lambda which, weight: refuse(which, weight.T),
            forward=lambda weight, which: np.moveaxis(weight[:, which], 0, -1),
            backward=lambda weight, which, dy: added(weight.T, which, dy).T,
        ),
        "the table is read by columns: id v takes weight[:, v]",
        "weight is [V, d], a row for each id",
    ),
]

EXERCISES = [
    Exercise(
        name="embedding",
        reference=ops.embedding,
        inputs=lookups(),
        also=[
            lookup([2, 0, 2], 3, 2),
            lookup([1, 1, 1, 1], 4, 5),
            lookup([[0, 3], [3, 3], [1, 3]], 5, 4),
            lookup([[[4, 0], [4, 4]]], 6, 1),
            lookup(3, 4),
            lookup([], 4),
            lookup(np.zeros((2, 0)), 3),
            lookup(list(range(5)) * 40, 7, 2),
            lookup([0, 1, 2], 3, 3, np.uint8),
            lookup([2, 2, 0], 3, 3, np.int32),
            lookup([0, -1], 3),
            lookup([-3], 3),
            lookup([0, 3], 3),
            lookup([[0, 1], [4, 0]], 4),
        ],
        mistakes=MISTAKES,
        hints=(
            "forward is one indexing; on the way back, think of the one-hot matrix: dW = Oᵀ dy",
            "begin with np.zeros_like(weight), and add each row of dy to the row that ids names",
            (
                "np.add.at(dweight, ids, dy) adds in turn where an id occurs again; return "
                "None, dweight; and NumPy refuses an id that is too large, but reads -1 as the "
                "last row: before all, raise IndexError if (ids < 0).any()"
            ),
        ),
    ),
]
