"""Rules of decoding: what each keeps, counted and added up, and that a wrong one is noticed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scratchlm import sampling
from scratchlm.generate import next_token_probabilities
from scratchlm.sampling import draw, min_p, probabilities, repetition_penalty, temperature
from scratchlm.sampling import top_k as keep_k
from scratchlm.sampling import top_p as keep_p

# few distinct values, so that ties are common; logits of -inf are tokens that can not come
values = st.sampled_from([-np.inf, -30.0, -1.0, -0.5, 0.0, 0.25, 1.0, 3.0]) | st.floats(-8, 8)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 9))
rows = hnp.arrays(np.float64, shapes, elements=values).filter(
    lambda x: np.isfinite(x.max(-1)).all()
)
shares = st.floats(0.01, 1.0)


def kept(logits):
    return np.isfinite(logits)


def only_leaves_out(before, after):
    """The rule keeps logits as they are, or removes them; never the likeliest."""
    np.testing.assert_array_equal(after[kept(after)], before[kept(after)])
    assert (after.max(-1) == before.max(-1)).all()
    assert after is not before


@given(rows, st.integers(1, 12))
def test_top_k_keeps_exactly_the_k_likeliest(logits, k):
    after = keep_k(logits, k)
    only_leaves_out(logits, after)
    np.testing.assert_array_equal(kept(after).sum(-1), np.minimum(k, kept(logits).sum(-1)))
    # those of a stable sort: of equal ones the first
    first = np.argsort(-logits, axis=-1, kind="stable")[:, :k]
    want = np.zeros(logits.shape, bool)
    np.put_along_axis(want, first, True, axis=-1)
    np.testing.assert_array_equal(kept(after), want & kept(logits))


def fault_in_top_p(logits, p, rule=keep_p):
    """What is wrong with a nucleus, or None."""
    after = rule(logits, p)
    for before, row in zip(logits, after, strict=True):
        q, stays = probabilities(before), kept(row)
        if q[stays].sum() < p - 1e-12:
            return "too little mass"
        if stays.sum() > 1 and q[stays].sum() - q[stays].min() >= p + 1e-12:
            return "one could be left out"
        if stays.any() and (q[~stays].max(initial=0) > q[stays].min()):
            return "a likelier one was left out"
        for at in np.flatnonzero(kept(before) & ~stays):
            if (stays[at + 1 :] & (before[at + 1 :] == before[at])).any():
                return "of equals a later one stayed"
    return None


@given(rows, shares)
def test_top_p_is_the_smallest_set_with_the_mass(logits, p):
    only_leaves_out(logits, keep_p(logits, p))
    assert fault_in_top_p(logits, p) is None


def test_wrong_nuclei_are_caught():
    logits = np.log([[0.3, 0.1, 0.4, 0.1, 0.1]])

    def off_by_one(x, p):  # leaves out the token that crosses p
        q = probabilities(x)
        order = np.argsort(-q, axis=-1, kind="stable")
        out = np.full(x.shape, -np.inf)
        count = max(1, int((np.take_along_axis(q, order, -1).cumsum(-1) < p).sum()))
        out[0, order[0, :count]] = x[0, order[0, :count]]
        return out

    assert fault_in_top_p(logits, 0.75) is None
    assert fault_in_top_p(logits, 0.75, off_by_one) == "too little mass"
    assert fault_in_top_p(logits, 0.6, lambda x, p: x.copy()) == "one could be left out"
    last = np.where(np.arange(5) >= 1, logits, -np.inf)
    assert fault_in_top_p(logits, 0.6, lambda x, p: last) == "a likelier one was left out"
    later = np.where([True, False, True, False, True], logits, -np.inf)
    assert fault_in_top_p(logits, 0.75, lambda x, p: later) == "of equals a later one stayed"


@given(rows, shares, shares)
def test_more_mass_keeps_more(logits, p, q):
    small, large = (kept(keep_p(logits, each)) for each in sorted((p, q)))
    assert (small <= large).all()
    few, many = (kept(min_p(logits, each)) for each in sorted((p, q), reverse=True))
    assert (few <= many).all()


@given(rows, st.floats(0, 1))
def test_min_p_keeps_what_is_near_the_likeliest(logits, p):
    after = min_p(logits, p)
    only_leaves_out(logits, after)
    q = probabilities(logits)
    np.testing.assert_array_equal(kept(after), (q >= p * q.max(-1, keepdims=True)) & kept(logits))


@given(rows, st.floats(0.05, 5.0), st.floats(0.05, 5.0))
def test_colder_is_sharper(logits, s, t):
    """The likeliest gets likelier, and the order stays."""
    cold, warm = (probabilities(temperature(logits, each)) for each in sorted((s, t)))
    assert (cold.max(-1) >= warm.max(-1) - 1e-12).all()
    for row, p in zip(logits, cold, strict=True):
        assert (np.diff(p[np.argsort(row, kind="stable")]) >= 0).all()


def test_temperature_0_is_greedy_and_the_first_of_equals():
    np.testing.assert_array_equal(
        probabilities(temperature(np.array([1.0, 3.0, 3.0]), 0)), [0.0, 1.0, 0.0]
    )


@given(rows, st.floats(1.0, 4.0), st.data())
def test_a_penalty_never_raises_what_was_read(logits, penalty, data):
    V = logits.shape[-1]
    ids = data.draw(hnp.arrays(np.int64, (len(logits), 4), elements=st.integers(0, V - 1)))
    after = repetition_penalty(logits, ids, penalty)
    read = np.zeros(logits.shape, bool)
    np.put_along_axis(read, ids, True, axis=-1)
    np.testing.assert_array_equal(after[~read], logits[~read])
    assert (after[read] <= logits[read]).all()
    want = np.where(logits > 0, logits / penalty, logits * penalty)
    np.testing.assert_array_equal(after[read], want[read])  # once, however often it was read


@given(rows, st.floats(0, 1, exclude_max=True))
def test_only_what_can_come_is_drawn(logits, u):
    p = probabilities(logits)
    ids = draw(p, np.full(len(p), u))
    drawn = np.take_along_axis(p, ids[:, None], -1)
    assert (drawn > 0).all()
    below = np.where(np.arange(p.shape[1]) < ids[:, None], p, 0).sum(-1)
    assert (below <= u + 1e-12).all()
    assert (below + drawn[:, 0] >= u - 1e-12).all()


def test_rounding_does_not_lead_past_the_end():
    p = np.array([[0.1] * 10])  # adds up to less than 1
    assert draw(p, np.array([np.nextafter(1, 0)])).tolist() == [9]


def test_the_rules_come_one_after_the_other():
    logits = np.log([[0.4, 0.3, 0.2, 0.06, 0.04]])
    p = next_token_probabilities(logits, top_k=3, top_p=0.75)
    # of the three, 4/9 and 3/9 reach 0.75 = 6.75/9; of all five, three would be needed
    np.testing.assert_allclose(p, [[4 / 7, 3 / 7, 0, 0, 0]], rtol=1e-14)
    p = next_token_probabilities(logits, temperature=0.5, min_p=0.5)  # 16 : 9 : 4
    np.testing.assert_allclose(p, [[16 / 25, 9 / 25, 0, 0, 0]], rtol=1e-14)


@pytest.mark.parametrize("rule", [lambda x: keep_k(x, 2), lambda x: keep_p(x, 0.5)])
def test_dtype_and_input_stay(rule):
    logits = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    before = logits.copy()
    assert rule(logits).dtype == np.float32
    assert min_p(logits, 0.5).dtype == np.float32
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: temperature(x, -1), "temperature=-1"),
        (lambda x: temperature(x, np.nan), "temperature=nan"),
        (lambda x: keep_k(x, 0), "top_k=0"),
        (lambda x: keep_k(x, True), "top_k=True"),
        (lambda x: keep_k(x, 1.5), "top_k=1.5"),
        (lambda x: keep_p(x, 0), "top_p=0 lies outside"),
        (lambda x: keep_p(x, 1.01), "top_p=1.01"),
        (lambda x: keep_p(x, np.nan), "top_p=nan"),
        (lambda x: min_p(x, -0.1), "min_p=-0.1"),
        (lambda x: repetition_penalty(x, np.zeros(1, int), 0), "repetition_penalty=0"),
        (lambda x: sampling.check(top_k=4, vocab_size=3), "at most 3"),
    ],
)
def test_bad_options(call, words):
    with pytest.raises(ValueError, match=words):
        call(np.zeros(3))


def test_the_edges_of_each_rule():
    equal = np.zeros(2)
    assert kept(keep_p(equal, 0.5)).tolist() == [True, False]  # the mass is reached exactly
    assert kept(min_p(np.array([0.0, 1.0, 1.0]), 1.0)).tolist() == [False, True, True]
    assert draw(np.array([[0.0, 1.0]]), np.zeros(1)).tolist() == [1]  # never what can not come
