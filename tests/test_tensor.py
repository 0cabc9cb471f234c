"""The engine: what backward adds up, what it refuses, and the modes that find mistakes.

Small ops are made here with :func:`made_op`, so these tests need no formula of the library but
arithmetic.
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchlm import Tensor, debug, detect_anomaly, enable_grad, is_grad_enabled, no_grad
from scratchlm import functional as F
from scratchlm.registry import Op
from scratchlm.tensor import apply, unbroadcast


def made_op(function, broadcasts=False):
    """An op that is in no registry."""
    return Op(function, function.__name__, broadcasts)


def leaf(*shape, seed=0, dtype=np.float64, name=None):
    values = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return Tensor(values, requires_grad=True, name=name)


def both(x):
    """Two outputs, ``2x`` and ``3x``; either may go unused."""

    def vjp(dtwice, dthrice):
        total = np.zeros_like(x)
        if dtwice is not None:
            total += 2 * dtwice
        if dthrice is not None:
            total += 3 * dthrice
        return total

    return (2 * x, 3 * x), vjp


def first_row(x):
    """A view of an input."""

    def vjp(dy):
        dx = np.zeros_like(x)
        dx[0] = dy
        return dx

    return x[0], vjp


def but_last_row(x):
    """Another view."""

    def vjp(dy):
        dx = np.zeros_like(x)
        dx[:-1] = dy
        return dx

    return x[:-1], vjp


def identity(x):
    """The input itself: same memory, same object."""
    return x, lambda dy: dy


BOTH, FIRST_ROW, IDENTITY = made_op(both), made_op(first_row), made_op(identity)
BUT_LAST_ROW = made_op(but_last_row)

# -- what backward adds up -------------------------------------------------------------------------


def test_a_chain_of_20000_ops_runs_forward_backward_and_is_deleted():
    x = leaf(3)
    y = x
    for _ in range(20_000):
        y = y + 1.0
    y.backward(np.ones(3))
    assert np.array_equal(x.grad.data, np.ones(3))
    last = weakref.ref(y._node)
    gc.disable()  # reference counting alone must free the chain: no cycle holds an array
    try:
        del y
        assert last() is None
    finally:
        gc.enable()


def test_a_deep_chain_in_debug_mode_is_deleted_too():
    x = leaf(3)
    with debug():
        y = x
        for _ in range(20_000):
            y = y + 1.0
    del y
    x.data[...] = 0.0  # dropping the graph has made it writable again


def test_a_diamond_doubled_40_times_counts_all_2_to_the_40_paths():
    x = leaf()
    y = x
    for _ in range(40):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**40


def test_a_tensor_as_both_operands_receives_both_gradients():
    x = leaf(4)
    (x * x).backward(np.ones(4))
    np.testing.assert_array_equal(x.grad.data, 2 * x.data)


def test_tied_tensors_receive_the_sum_of_their_uses():
    x, w = leaf(5, seed=1), leaf(5, seed=2)
    ((x * w) * w - w).backward(np.ones(5))
    np.testing.assert_allclose(w.grad.data, 2 * x.data * w.data - 1, rtol=1e-15)


def test_a_second_backward_adds_exactly_once_more():
    x = leaf(4)
    y = (x * x + x) * 3.0
    h = x * 2.0
    z = y + h * h
    g = np.arange(4.0)
    h.retain_grad()
    z.backward(g)
    first, retained = x.grad.data.copy(), h.grad.data.copy()
    z.backward(g)
    np.testing.assert_array_equal(x.grad.data, 2 * first)
    np.testing.assert_array_equal(h.grad.data, 2 * retained)


def test_backward_from_a_leaf_is_the_cotangent():
    x = leaf(3)
    x.backward([1.0, 2.0, 3.0])
    x.backward(np.ones(3))
    assert x.grad.tolist() == [2.0, 3.0, 4.0]


@pytest.mark.parametrize(("uses", "slope"), [((0,), 2), ((1,), 3), ((0, 1), 5), ((1, 0, 1), 8)])
def test_outputs_of_one_op_may_go_unused(uses, slope):
    x = leaf(3)
    results = apply(BOTH, x)
    total = results[uses[0]]
    for index in uses[1:]:
        total = total + results[index]
    total.backward(np.ones(3))
    np.testing.assert_array_equal(x.grad.data, np.full(3, float(slope)))


def test_an_integer_output_carries_no_gradient():
    def with_place(x):
        return (x * 2, np.argmax(x)), lambda dy, dplace: 2 * dy

    x = leaf(3)
    y, place = apply(made_op(with_place), x)
    assert y.requires_grad
    assert not place.requires_grad
    assert place.is_leaf
    y.backward(np.ones(3))
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


def test_a_branch_whose_gradient_is_none_still_lets_the_rest_through():
    """A node all of whose cotangents are None must still count as done for its own inputs."""

    def ignores_second(a, b):
        return a * 1, lambda dy: (dy, None)

    x = leaf(3)
    y = x * 2.0  # reached twice: with a gradient, and through a branch with none
    z = apply(made_op(ignores_second), y, y * 5.0)
    z.backward(np.ones(3))
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


def test_a_leaf_that_nothing_reaches_keeps_no_gradient():
    def ignores_second(a, b):
        return a * 1, lambda dy: (dy, None)

    x, unused = leaf(3), leaf(3)
    apply(made_op(ignores_second), x, unused).backward(np.ones(3))
    assert unused.grad is None


def test_inputs_without_gradient_get_none():
    x, c = leaf(3), Tensor(np.ones(3))
    (x * c).backward(np.ones(3))
    assert c.grad is None


def test_retain_grad_keeps_the_gradient_of_an_intermediate_and_only_if_it_lives():
    x = leaf(3)
    h = x * 2.0
    h.retain_grad()
    h.retain_grad()  # asking twice delivers once
    y = h * h
    y.backward(np.ones(3))
    np.testing.assert_array_equal(h.grad.data, 2 * h.data)
    assert (x * 2.0).grad is None
    with pytest.raises(RuntimeError, match="does not require"):
        Tensor(1.0).retain_grad()


def test_intermediate_arrays_are_freed_when_no_vjp_needs_them():
    x = leaf(1000)
    h = x + 1.0
    y = h + 1.0
    array = weakref.ref(h.data)
    del h
    assert array() is None
    assert y.requires_grad


# -- random graphs against an independent reference ------------------------------------------------


@st.composite
def graphs(draw):
    """A program: leaf shapes, and steps (op, input numbers) over all values so far."""
    shapes = draw(
        st.lists(st.sampled_from([(), (1,), (3,), (2, 3), (2, 1)]), min_size=1, max_size=4)
    )
    steps = []
    for count in range(len(shapes), len(shapes) + draw(st.integers(1, 12))):
        value = st.integers(0, count - 1)
        kind = draw(st.sampled_from(["add", "sub", "mul", "neg", "both", "identity"]))
        steps.append((kind, draw(value), draw(value)))
    return shapes, steps, draw(st.integers(0, 2**32 - 1))


BINARY = {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b}


def run_program(values, steps):
    """On anything with operators: tensors, or plain arrays."""
    values = list(values)
    for kind, i, j in steps:
        a, b = values[i], values[j]
        if kind in BINARY:
            values.append(BINARY[kind](a, b))
        elif kind == "neg":
            values.append(-a)
        elif kind == "both":
            pair = apply(BOTH, a) if isinstance(a, Tensor) else (2 * a, 3 * a)
            values.append(pair[j % 2])
        else:
            values.append(apply(IDENTITY, a) if isinstance(a, Tensor) else a)
    return values[-1]


def tangent(leaves, steps, which, direction):
    """The derivative along one direction, by dual numbers: it shares neither tape nor vjp with what
    it checks."""

    class Dual:
        def __init__(self, x, dx):
            self.x, self.dx = x, dx

        def __add__(self, o):
            return Dual(self.x + o.x, self.dx + o.dx)

        def __sub__(self, o):
            return Dual(self.x - o.x, self.dx - o.dx)

        def __mul__(self, o):
            return Dual(self.x * o.x, self.dx * o.x + self.x * o.dx)

        def __rmul__(self, factor):
            return Dual(factor * self.x, factor * self.dx)

        def __neg__(self):
            return Dual(-self.x, -self.dx)

    duals = [Dual(x, direction if i == which else np.zeros_like(x)) for i, x in enumerate(leaves)]
    return run_program(duals, steps)


@given(graphs())
def test_random_graphs_agree_with_forward_mode(program):
    """<cotangent, J t> = <Jᵀ cotangent, t> for a random direction t, leaf by leaf.

    Both sides sum the same products in different orders, some 2^12 of them at worst: rounding stays
    well below 1e-10 of their size.
    """
    shapes, steps, seed = program
    rng = np.random.default_rng(seed)
    arrays = [rng.uniform(-1, 1, s) for s in shapes]
    before = [a.copy() for a in arrays]
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    result = run_program(leaves, steps)
    cotangent = rng.standard_normal(result.shape)
    given_cotangent = cotangent.copy()
    result.backward(cotangent)
    for which, x in enumerate(leaves):
        direction = rng.standard_normal(x.shape)
        dual = tangent(arrays, steps, which, direction)
        want = np.sum(cotangent * np.broadcast_to(dual.dx, result.shape))
        if x.grad is None:
            assert want == 0
            continue
        assert type(x.grad.data) is np.ndarray
        assert x.grad.shape == x.shape
        got = np.sum(x.grad.data * direction)
        size = max(1.0, float(np.sum(np.abs(x.grad.data * direction))))
        assert abs(got - want) <= 1e-10 * size
    # nothing that the caller owns has changed, and no gradient shares memory with anything
    np.testing.assert_array_equal(cotangent, given_cotangent)
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)
    owned = [x.grad.data for x in leaves if x.grad is not None]
    for i, a in enumerate(owned):
        others = [*owned[:i], cotangent, *arrays]
        assert not any(np.shares_memory(a, b) for b in others)


def test_the_property_test_catches_a_wrong_engine(monkeypatch):
    """Planted: gradients overwritten instead of added."""
    monkeypatch.setattr("scratchlm.tensor._add", lambda a, b: b)
    x = leaf(3)
    (x * x * x).backward(np.ones(3))
    assert not np.allclose(x.grad.data, 3 * x.data**2)


# -- memory ----------------------------------------------------------------------------------------


def test_a_gradient_aliases_neither_the_cotangent_nor_another_gradient():
    x, y = leaf(3, seed=1), leaf(3, seed=2)
    cotangent = np.ones(3)
    (x + y).backward(cotangent)
    cotangent[0] = 7.0
    x.grad.data[1] = 5.0
    assert y.grad.tolist() == [1.0, 1.0, 1.0]
    assert x.grad.tolist() == [1.0, 5.0, 1.0]


def test_a_gradient_aliases_no_array_that_the_op_saved():
    saved = np.full(3, 2.0)

    def twice(x):
        return 2 * x, lambda dy: saved  # right for dy = 1, and gives away its own memory

    x = leaf(3)
    y = apply(made_op(twice), x)
    y.backward(np.ones(3))
    y.backward(np.ones(3))
    assert saved.tolist() == [2.0, 2.0, 2.0]
    assert x.grad.tolist() == [4.0, 4.0, 4.0]


def test_accumulating_makes_a_new_array_so_a_kept_gradient_stays():
    x = leaf(3)
    y = x * 2.0
    y.backward(np.ones(3))
    kept = x.grad
    y.backward(np.ones(3))
    assert kept.tolist() == [2.0, 2.0, 2.0]
    assert x.grad.tolist() == [4.0, 4.0, 4.0]


def test_sums_over_fan_out_are_in_place_only_in_memory_of_their_own():
    """Four uses of one leaf whose vjp returns the cotangent itself."""
    x = leaf(3)
    parts = [apply(IDENTITY, x) for _ in range(4)]
    cotangent = np.arange(3.0)
    (parts[0] + parts[1] + parts[2] + parts[3]).backward(cotangent)
    assert x.grad.tolist() == [0.0, 4.0, 8.0]
    assert cotangent.tolist() == [0.0, 1.0, 2.0]


# -- switching gradients off -----------------------------------------------------------------------


def test_no_grad_as_block_and_as_decorator():
    x = leaf(2)

    @no_grad()
    def double(t, depth=0):
        return double(t, depth + 1) if depth < 2 else t * 2.0

    with no_grad():
        assert not is_grad_enabled()
        assert not (x * 2.0).requires_grad
        with enable_grad():
            assert (x * 2.0).requires_grad
        assert not is_grad_enabled()
    assert not double(x).requires_grad
    assert is_grad_enabled()
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert is_grad_enabled()


def test_no_grad_holds_for_one_thread():
    x, seen = leaf(2), []
    inside, done = threading.Event(), threading.Event()

    def other():
        with no_grad():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(10)
    seen.append((x * 2.0).requires_grad)
    done.set()
    thread.join()
    assert seen == [True]


def test_detach_shares_memory_and_leaves_the_tape():
    x = leaf(3)
    d = (x * 2.0).detach()
    assert d.is_leaf
    assert not d.requires_grad
    e = x.detach()
    assert e.data is x.data
    (x * e).backward(np.ones(3))
    np.testing.assert_array_equal(x.grad.data, x.data)


def test_clone_passes_gradients_and_keeps_every_bit():
    x = Tensor(np.array([-0.0, 1.5]), requires_grad=True)
    y = x.clone()
    assert np.signbit(y.data[0])
    assert not np.shares_memory(x.data, y.data)
    y.backward(np.ones(2))
    assert x.grad.tolist() == [1.0, 1.0]
    ids = Tensor([1, 2])
    assert not np.shares_memory(ids.data, ids.clone().data)


# -- changed in place between forward and backward -------------------------------------------------

CHANGES = {
    "itself": lambda t: t.add_(1.0),
    "by index": lambda t: t.__setitem__(0, 5.0),
    "fill": lambda t: t.fill_(0.0),
    "zero": lambda t: t.zero_(),
    "copy": lambda t: t.copy_(np.zeros(t.shape)),
    "sub": lambda t: t.sub_(1.0),
    "mul": lambda t: t.mul_(2.0),
    "a detached copy": lambda t: t.detach().add_(1.0),
    "Tensor(tensor)": lambda t: Tensor(t).add_(1.0),
    "a view": lambda t: apply(FIRST_ROW, t).zero_(),
    "a view of a view": lambda t: apply(FIRST_ROW, apply(BUT_LAST_ROW, t)).zero_(),
    "what an op handed through": lambda t: apply(IDENTITY, t).zero_(),
    "raw, and said so": lambda t: (t.data.__setitem__(0, 9.0), t.bump_version()),
}


@pytest.mark.parametrize("how", CHANGES)
def test_an_input_changed_in_place_raises_and_names_op_and_tensor(how):
    x, w = leaf(2, 3, seed=1, name="wte.weight"), leaf(2, 3, seed=2)
    y = x * w
    with no_grad():
        CHANGES[how](x)
    with pytest.raises(RuntimeError, match=r"mul: input 'a' \(wte.weight\) was changed in place"):
        y.backward(np.ones((2, 3)))
    assert w.grad is None  # nothing has arrived half


@pytest.mark.parametrize("how", CHANGES)
def test_a_result_changed_in_place_raises(how):
    x = leaf(2, 3)
    y = x * x
    z = y + 1.0
    with no_grad():
        CHANGES[how](y)
    with pytest.raises(RuntimeError, match="add: input 'a' was changed in place"):
        z.backward(np.ones((2, 3)))
    with pytest.raises(RuntimeError, match="mul: its result was changed in place"):
        y.backward(np.ones((2, 3)))


def test_the_owner_of_a_view_changed_in_place_raises():
    x = leaf(2, 3)
    row = apply(FIRST_ROW, x)
    y = row * row
    with no_grad():
        x.zero_()
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward(np.ones(3))


def test_a_constant_changed_in_place_raises_too():
    x, mask = leaf(3), Tensor(np.ones(3))
    y = x * mask
    mask.zero_()
    with pytest.raises(RuntimeError, match="mul: input 'b' was changed in place"):
        y.backward(np.ones(3))


def test_changes_after_backward_and_of_copies_are_fine():
    x = leaf(3)
    y = x * x
    with no_grad():
        x.clone().zero_()
    y.backward(np.ones(3))
    with no_grad():
        x.add_(1.0)
    (x * x).backward(np.ones(3))


def test_in_place_changes_are_refused_where_the_tape_would_miss_them():
    x = leaf(3)
    with pytest.raises(RuntimeError, match="no_grad"):
        x.add_(1.0)
    with pytest.raises(RuntimeError, match="no_grad"):
        x[0] = 1.0
    with pytest.raises(TypeError, match="round"):
        Tensor([1, 2]).add_(0.5)
    y = x
    y += 1.0  # makes a new tensor, as x = x + 1 does
    assert y is not x


# -- debug mode ------------------------------------------------------------------------------------


def test_debug_mode_makes_raw_writes_raise_until_backward_has_run():
    x, w = leaf(3, seed=1), leaf(3, seed=2)
    with debug():
        y = x * w
        z = y + y
    for t in (x, w, y, z):
        with pytest.raises(ValueError, match="read-only"):
            t.data[...] = 0.0
    z.backward(np.ones(3))
    for t in (x, w, y, z):
        t.data[...] = 0.0
    x.grad.data[...] = 0.0


def test_without_debug_mode_raw_writes_go_unseen():
    """The planted fault that debug mode is for: here the gradient is wrong, silently."""
    x = leaf(3)
    y = x * x
    x.data[...] = 0.0
    y.backward(np.ones(3))
    assert x.grad.tolist() == [0.0, 0.0, 0.0]


def test_debug_mode_gives_everything_back_when_the_graph_is_dropped():
    x = leaf(2, 3)
    with debug():
        y = x * x
        z = x + 1.0
    del y
    with pytest.raises(ValueError, match="read-only"):
        x.data[0] = 0.0  # z still holds it
    del z
    x.data[0] = 0.0


def test_debug_mode_gives_views_back_in_any_order():
    x = leaf(2, 3)
    with debug():
        row = apply(FIRST_ROW, x)  # a view made while its owner is locked
        again = apply(FIRST_ROW, x)
        y = row * row
    del y
    gc.collect()
    again.backward(np.ones(3))
    row.backward(np.ones(3))
    del again
    row.data[...] = 1.0
    x.data[...] = 1.0


def test_debug_mode_leaves_read_only_what_was_read_only():
    values = np.ones(3)
    values.flags.writeable = False
    x = Tensor(values, requires_grad=True)
    wide = made_op(lambda a: (np.broadcast_to(a, (2, 3)), lambda dy: dy.sum(axis=0)))
    y = leaf(3)
    with debug():
        product = x * x
        stretched = apply(wide, y)
    product.backward(np.ones(3))
    stretched.backward(np.ones((2, 3)))
    assert not values.flags.writeable
    assert not stretched.data.flags.writeable
    assert y.data.flags.writeable


def failing(x):
    def vjp(dy):
        raise ZeroDivisionError("a student's mistake")

    return x * 1, vjp


@pytest.mark.parametrize("mode", [debug, enable_grad])
def test_an_error_in_the_middle_of_backward_leaves_nothing_locked_or_half_written(mode):
    x, w = leaf(3, seed=1), leaf(3, seed=2)
    w.grad = Tensor(np.ones(3))
    with mode():
        h = apply(made_op(failing), x)
        kept = w * 3.0
        kept.retain_grad()
        y = h + kept
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            y.backward(np.ones(3))
        assert x.grad is None
        assert kept.grad is None
        assert w.grad.tolist() == [1.0, 1.0, 1.0]
        for t in (x, w, h, kept, y):
            assert t.data.flags.writeable


def test_debug_mode_records_values_and_gradients():
    x = leaf(3)
    with debug():
        y = x * 2.0
    assert y._node.grads is None
    y.backward(np.ones(3))
    assert y._node.values[0] is y.data
    assert y._node.grads[0].tolist() == [1.0, 1.0, 1.0]


# -- anomaly mode ----------------------------------------------------------------------------------


def bad_vjp(x):
    return x * 1, lambda dy: dy * np.nan


def test_anomaly_mode_names_the_first_bad_op_forward():
    x = Tensor(np.array([1.0, 0.0]), requires_grad=True)
    with np.errstate(divide="ignore"), detect_anomaly():
        h = x * 2.0
        with pytest.raises(FloatingPointError, match=r"^div made inf at index \(1,\) \(1 of 2"):
            1.0 / h


def test_anomaly_mode_names_the_first_bad_op_backward_and_leaves_no_gradient():
    x = leaf(3)
    y = apply(made_op(bad_vjp), x * 2.0) * 3.0
    with (
        detect_anomaly(),
        pytest.raises(FloatingPointError, match=r"backward of bad_vjp: .*'x'.*nan"),
    ):
        y.backward(np.ones(3))
    assert x.grad is None


def test_anomaly_mode_names_a_bad_input_and_a_bad_cotangent():
    with detect_anomaly():
        with pytest.raises(FloatingPointError, match=r"add: input 'b' already holds nan"):
            leaf(2) + Tensor(np.array([1.0, np.nan]))
        y = leaf(2) * 2.0
        with pytest.raises(
            FloatingPointError, match=r"backward of mul: .* reaches it already holds"
        ):
            y.backward([1.0, np.inf])


def test_without_anomaly_mode_nan_passes():
    x = leaf(2)
    apply(made_op(bad_vjp), x).backward(np.ones(2))
    assert np.isnan(x.grad.data).all()


# -- bad input -------------------------------------------------------------------------------------


def test_backward_needs_a_scalar_or_a_cotangent_of_the_right_shape():
    x = leaf(2, 3)
    y = x * 2.0
    with pytest.raises(RuntimeError, match=r"shape \(2, 3\) has no single gradient.*\.sum\(\)"):
        y.backward()
    with pytest.raises(ValueError, match=r"gradient has shape \(3, 2\), the tensor \(2, 3\)"):
        y.backward(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"shape \(\)"):
        y.backward(1.0)
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        Tensor([1.0]).backward()
    with no_grad():
        untaped = x * 2.0
    with pytest.raises(RuntimeError, match="no_grad"):
        untaped.backward(np.ones((2, 3)))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_element_needs_no_cotangent(shape):
    x = leaf(*shape)
    (x * 3.0).backward()
    assert x.grad.shape == shape
    assert x.grad.item() == 3.0


def test_a_cotangent_may_be_a_tensor_a_list_or_of_another_dtype():
    for cotangent in (Tensor([1.0, 2.0]), [1.0, 2.0], np.array([1, 2]), np.float32([1, 2])):
        x = leaf(2)
        (x * 2.0).backward(cotangent)
        assert x.grad.dtype == np.float64
        assert x.grad.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("data", [[1, 2], [True], 3])
def test_integers_require_no_gradient(data):
    with pytest.raises(TypeError, match=r"only floating tensors can require a gradient.*astype"):
        Tensor(data, requires_grad=True)
    with pytest.raises(TypeError, match="only floating"):
        Tensor(data).requires_grad_()


def test_requires_grad_is_switched_off_on_leaves_only():
    x = leaf(2)
    x.requires_grad_(False)
    assert not (x * 2.0).requires_grad
    y = leaf(2) * 2.0
    with pytest.raises(RuntimeError, match="detach"):
        y.requires_grad_(False)


def test_an_unknown_option_is_named_with_the_one_meant():
    x = leaf(2, 3)
    with pytest.raises(TypeError, match=r"softmax has no option 'axes'; did you mean 'axis'\?"):
        apply("softmax", x, axes=0)
    with pytest.raises(TypeError, match=r"neg has no option 'quick'; it has none"):
        apply("neg", x, quick=True)
    with pytest.raises(KeyError, match=r"no op 'sofmax'; did you mean softmax"):
        apply("sofmax", x)


def test_an_option_that_requires_a_gradient_raises():
    def scaled(x, *, by):
        return x * by, lambda dy: dy * by

    op, by = made_op(scaled), leaf()
    with pytest.raises(TypeError, match=r"scaled: option 'by' requires a gradient.*by.detach\(\)"):
        apply(op, leaf(3), by=by)
    assert apply(op, leaf(3), by=by.detach()).requires_grad
    with no_grad():
        apply(op, leaf(3), by=by)


@pytest.mark.parametrize(
    ("result", "match"),
    [
        (lambda x: x, r"must return \(out, vjp\)"),  # an array with two rows is not a pair
        (lambda x: (x, x), r"must return \(out, vjp\)"),
        (lambda x: (x, None), r"must return \(out, vjp\)"),
        (lambda x: ("y", lambda dy: dy), "got str"),
        (lambda x: (Tensor(x), lambda dy: dy), "got Tensor"),
        (lambda x: ([1.0], lambda dy: dy), "got list"),
    ],
)
def test_what_is_no_out_and_vjp_is_refused(result, match):
    with pytest.raises(TypeError, match=match):
        apply(made_op(result), leaf(2, 3))


@pytest.mark.parametrize("returned", [(), (1.0, 2.0, 3.0), 1.0])
def test_a_vjp_of_the_wrong_arity_is_named(returned):
    def two_inputs(a, b):
        return a + b, lambda dy: returned

    y = apply(made_op(two_inputs), leaf(3), leaf(3))
    with pytest.raises(
        ValueError, match=r"two_inputs: vjp returned \d gradients? ?s?.*2 inputs \(a, b\)"
    ):
        y.backward(np.ones(3))


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((3, 2), "it is transposed"),
        ((5, 4, 2, 3), "sum it over the leading 2 axes"),
        ((2,), "has the shape of what it belongs to"),
        ((), "has the shape of what it belongs to"),
    ],
)
def test_a_gradient_of_the_wrong_shape_is_named_with_a_hint(shape, hint):
    def wrong(x):
        return x * 1, lambda dy: np.ones(shape)

    with pytest.raises(ValueError, match=rf"wrong: the gradient of 'x' has shape .*{hint}"):
        apply(made_op(wrong), leaf(2, 3)).backward(np.ones((2, 3)))


def test_a_missing_sum_over_a_kept_axis_is_named():
    def wrong(x):
        return x * np.ones((2, 3)), lambda dy: dy

    with pytest.raises(ValueError, match=r"sum it \(keepdims\) over the axes of length 1"):
        apply(made_op(wrong), leaf(2, 1)).backward(np.ones((2, 3)))


def test_a_broadcasting_op_is_checked_too():
    def wrong(a, b):
        return a + b, lambda dy: (dy.T, dy.sum())

    y = apply(made_op(wrong, broadcasts=True), leaf(2, 3), leaf(3))
    with pytest.raises(ValueError, match=r"'a'.*transposed"):
        y.backward(np.ones((2, 3)))
    z = apply(made_op(wrong, broadcasts=True), Tensor(np.ones((2, 3))), leaf(3))
    with pytest.raises(ValueError, match=r"'b' has shape \(\), the input \(3,\)"):
        z.backward(np.ones((2, 3)))


def test_a_vjp_that_returns_no_array_is_refused():
    y = apply(made_op(lambda x: (x * 1, lambda dy: Tensor(dy))), leaf(3))
    with pytest.raises(TypeError, match="is a Tensor; a vjp takes and returns arrays"):
        y.backward(np.ones(3))
    y = apply(made_op(lambda x: (x * 1, lambda dy: [1.0])), leaf(1))
    with pytest.raises(TypeError, match="is a list"):
        y.backward(np.ones(1))


def test_unbroadcast_sums_over_what_was_stretched():
    g = np.random.default_rng(0).standard_normal((4, 2, 3))
    np.testing.assert_allclose(unbroadcast(g, (2, 3)), g.sum(0), rtol=1e-15)
    np.testing.assert_allclose(unbroadcast(g, (2, 1)), g.sum((0, 2))[:, None], rtol=1e-15)
    np.testing.assert_allclose(unbroadcast(g, ()), g.sum(), rtol=1e-14)
    assert unbroadcast(g, (4, 2, 3)) is g
    assert unbroadcast(np.ones((0, 3)), (1, 3)).tolist() == [[0.0, 0.0, 0.0]]


# -- dtypes ----------------------------------------------------------------------------------------

ARITHMETIC = [
    lambda x, c: x + c,
    lambda x, c: c - x,
    lambda x, c: x * c,
    lambda x, c: c / x,
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("number", [2, 2.5, True, np.float64(2.5), np.float32(2.5), np.int64(2)])
@pytest.mark.parametrize("f", ARITHMETIC)
def test_a_number_never_changes_the_dtype(f, number, dtype):
    x = leaf(3, dtype=dtype)
    y = f(x, number)
    y.backward(np.ones(3))
    assert y.dtype == dtype
    assert x.grad.dtype == dtype
    np.testing.assert_array_equal(y.data, f(x.data, dtype(number)))


def test_integers_keep_their_own_rules():
    ids = Tensor([1, 2])
    assert (ids + 1).dtype == np.int64
    with pytest.raises(TypeError, match="integer input widens it"):
        ids + 0.5
    assert (Tensor([True]) + 1).tolist() == [2]
    assert (Tensor(np.array([1], np.int8)) + 1).dtype == np.int8
    with pytest.raises(OverflowError):
        Tensor(np.array([1], np.int8)) + 300


def test_python_floats_become_float32_and_arrays_keep_their_dtype():
    assert Tensor(1.0).dtype == np.float32
    assert Tensor([[1.0, 2.0]]).dtype == np.float32
    assert Tensor(np.float64(1)).dtype == np.float64
    assert Tensor(np.ones(2)).dtype == np.float64
    assert Tensor([1, 2]).dtype == np.int64
    assert Tensor(1.0, dtype="float64").dtype == np.float64
    # a list of floats beside float64 is read as float64, not through float32
    assert (leaf(1) * 0 + [0.1]).item() == 0.1


@pytest.mark.parametrize("data", ["text", [1j], np.array([1j]), None, np.array(["a"]), object()])
def test_what_is_no_number_is_refused(data):
    with pytest.raises(TypeError, match="real numbers or booleans"):
        Tensor(data)


def test_a_list_of_tensors_is_refused_because_it_would_lose_the_tape():
    with pytest.raises(TypeError, match=r"functional\.stack"):
        Tensor([leaf(), leaf()])


def test_subclasses_of_arrays_become_plain_arrays():
    class Sub(np.ndarray):
        pass

    x = Tensor(np.ones(2).view(Sub))
    assert type(x.data) is np.ndarray


def test_mixed_dtypes_give_each_input_its_own_back():
    x, y = leaf(3, dtype=np.float32), leaf(3, seed=1, dtype=np.float64)
    z = x * y
    assert z.dtype == np.float64
    z.backward(np.ones(3))
    assert x.grad.dtype == np.float32
    assert y.grad.dtype == np.float64


def test_a_float64_constant_in_an_op_is_explained_forward_and_backward():
    def forward(x):
        return x * np.array([np.sqrt(2)]), lambda dy: dy * 2**0.5

    def backward(x):
        return x * 2**0.5, lambda dy: dy * np.array(np.sqrt(2))

    with pytest.raises(TypeError, match=r"forward: the inputs are float32 .*float64.*math\.sqrt"):
        apply(made_op(forward), leaf(3, dtype=np.float32))
    y = apply(made_op(backward), leaf(3, dtype=np.float32))
    with pytest.raises(TypeError, match=r"backward: the gradient of 'x' is float64.*float32.*vjp"):
        y.backward(np.ones(3))
    apply(made_op(forward), leaf(3))  # in float64 there is nothing to widen


def test_other_changes_of_dtype_are_refused():
    def narrow(x):
        return x.astype(np.float32), lambda dy: dy.astype(np.float64)

    with pytest.raises(TypeError, match="precision"):
        apply(made_op(narrow), leaf(3))
    with pytest.raises(TypeError, match=r"integer input widens it.*astype"):
        leaf(2, dtype=np.float32) * Tensor([1, 2])
    mask = made_op(lambda x: (x * 1, lambda dy: dy > 0))
    with pytest.raises(TypeError, match="is bool, the input float64"):
        apply(mask, leaf(2)).backward(np.ones(2))


def test_an_option_may_ask_for_another_dtype():
    def cast(x, *, dtype):
        return x.astype(dtype), lambda dy: dy.astype(x.dtype)

    x = leaf(3)
    y = apply(made_op(cast), x, dtype=np.float32)
    assert y.dtype == np.float32
    y.backward(np.ones(3))
    assert x.grad.dtype == np.float64


def test_scalars_that_numpy_returns_become_arrays():
    def total(x):
        return x.sum(), lambda dy: np.full(x.shape, dy)

    x = leaf(3)
    y = apply(made_op(total), x) * 2.0
    assert type(y.data) is np.ndarray
    y.backward()
    assert type(x.grad.data) is np.ndarray
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


# -- the rest of Tensor ----------------------------------------------------------------------------


def test_comparisons_are_elementwise_and_carry_no_gradient():
    x, y = Tensor([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0], np.float32)
    for other in (y, Tensor(y), 2, 2.0, [2.0, 2.0, 2.0]):
        assert (x == other).tolist() == [False, True, False]
        assert (x != other).tolist() == [True, False, True]
        assert (x < other).tolist() == [True, False, False]
        assert (x <= other).tolist() == [True, True, False]
        assert (x > other).tolist() == [False, False, True]
        assert (x >= other).tolist() == [False, True, True]
    assert not (leaf(2) > 0).requires_grad
    assert (y == x).tolist() == [False, True, False]  # an array on the left gives way
    assert (np.full(3, 2.0) < x).tolist() == [False, False, True]
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711


def test_truth_length_and_hash():
    x = leaf(2, 3)
    assert bool(Tensor(True))
    with pytest.raises(ValueError, match="one element"):
        bool(x > 0)
    assert len(x) == 2
    with pytest.raises(TypeError, match="0-d"):
        len(leaf())
    with pytest.raises(TypeError, match="0-d"):
        iter(leaf())
    assert {x: 1}[x] == 1
    assert len({x, leaf(2, 3)}) == 2


def test_to_numbers_and_arrays():
    x = leaf(2, 3)
    assert x.numpy() is x.data
    assert x.tolist() == x.data.tolist()
    assert np.asarray(x) is x.data
    assert not np.shares_memory(np.array(x), x.data)
    assert np.asarray(x, dtype=np.float32).dtype == np.float32
    assert float(Tensor(2.5)) == 2.5
    assert int(Tensor([3])) == 3
    assert isinstance(Tensor(2.5).item(), float)
    with pytest.raises(ValueError, match=r"one element, this one has shape \(2, 3\)"):
        x.item()
    assert (x.shape, x.ndim, x.size, x.device) == ((2, 3), 2, 6, "cpu")


def test_numpy_functions_do_not_swallow_tensors():
    x = leaf(3)
    with pytest.raises(TypeError):
        np.exp(x)
    y = np.ones(3) + x
    assert isinstance(y, Tensor)
    assert y.requires_grad
    assert isinstance(np.float64(2) * x, Tensor)


def test_repr_shows_values_dtype_and_origin():
    assert repr(Tensor([1.0, 2.5])) == "Tensor([1. , 2.5])"
    assert repr(Tensor([1, 2])) == "Tensor([1, 2], dtype=int64)"
    x = Tensor([1.0], requires_grad=True)
    assert repr(x) == "Tensor([1.], requires_grad=True)"
    assert repr(x + 1) == "Tensor([2.], op=add)"


def test_misspelled_attributes_are_refused():
    with pytest.raises(AttributeError):
        leaf(2).require_grad = False


def test_to_the_same_device_is_the_tensor_itself():
    x = leaf(2)
    assert x.to("cpu") is x
    y = x * 2.0
    assert y.to("cpu") is y


def test_nothing_recurses():
    """A chain far deeper than Python's limit, walked under a small one."""
    x = leaf(2)
    y = x
    for _ in range(3_000):
        y = y * 1.0
    limit = sys.getrecursionlimit()
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    sys.setrecursionlimit(depth + 30)
    try:
        y.backward(np.ones(2))
        del y
    finally:
        sys.setrecursionlimit(limit)
    assert x.grad.tolist() == [1.0, 1.0]


def test_a_retained_gradient_is_memory_of_its_own() -> None:
    """Sum and add hand their cotangent on as it is: each ``.grad`` must be a copy of it."""
    x = Tensor(np.arange(3.0), requires_grad=True)
    y = x + 1
    y.retain_grad()
    given = np.ones(3)
    y.backward(given)
    assert x.grad is not None
    assert y.grad is not None
    for a, b in ((x.grad.data, y.grad.data), (x.grad.data, given), (y.grad.data, given)):
        assert not np.shares_memory(a, b)
    y.grad.data[...] = np.nan
    assert x.grad.tolist() == given.tolist() == [1, 1, 1]


def test_axes_that_are_not_there_and_values_that_do_not_fit_are_named() -> None:
    x = Tensor(np.ones((2, 3)))
    with pytest.raises(
        ValueError, match=r"transpose: axes 0 and 5 for shape \(2, 3\): it has 2 axes"
    ):
        x.transpose(0, 5)
    with pytest.raises(ValueError, match=r"transpose: axes -1 and -2 for shape \(2,\)"):
        _ = Tensor(np.ones(2)).mT
    with pytest.raises(ValueError, match=r"tensor of shape \(2, 3\) by values of shape \(4,\)"):
        x.copy_(np.zeros(4))
    assert x.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert F.stack(x, x).shape == (2, 2, 3)
    with pytest.raises(TypeError, match=r"one by one: stack\(\*tensors\)"):
        F.stack([x, x])


@pytest.mark.parametrize("name", ["exp", "softmax", "mean"])
def test_integers_do_not_become_float64_by_themselves(name):
    whole = Tensor([1, 2, 3])
    with pytest.raises(TypeError, match=rf"{name}: the inputs are int64 .*\.astype\('float32'\)"):
        getattr(F, name)(whole)
    assert getattr(F, name)(whole.astype("float32")).dtype == np.float32
    assert whole.sum().item() == 6  # an integer stays one
