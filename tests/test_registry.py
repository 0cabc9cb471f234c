"""Which implementation runs: the reference, a kernel, or a student's own."""

from __future__ import annotations

import numpy as np
import pytest

import scratchlm
from scratchlm import Tensor, all_ops, use
from scratchlm import functional as F
from scratchlm.registry import Implementation, Op, get_op, implementation, op


def rows(seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal((2, 3)), requires_grad=True)


def shifted_softmax(x, *, axis=-1):
    """Not softmax at all, so that one sees which ran."""
    return x + 1.0, lambda dy: 5.0 * dy


@pytest.fixture
def made():
    """A fresh op with its reference and three kernels, of which one can't run here."""

    def triple(x, *, axis=-1, mask=None):
        return 3 * x, lambda dy: 3 * dy

    made = Op(triple, "3x", broadcasts=False)
    calls = []

    def kernel(name):
        def run(x, *, axis=-1, mask=None):
            calls.append(name)
            return triple(x)

        return run

    made.add(Implementation("slow", kernel("slow"), priority=1))
    made.add(
        Implementation("rows only", kernel("rows only"), 5, supports=lambda x, **_: x.ndim == 2)
    )
    made.add(Implementation("gpu", kernel("gpu"), 9, unavailable=lambda: "no GPU; pip install x"))
    return made, calls


def test_use_as_a_block_changes_forward_and_backward_until_its_end():
    x = rows()
    before = F.softmax(x).data
    with use(softmax=shifted_softmax):
        y = F.softmax(x)
        np.testing.assert_array_equal(y.data, x.data + 1.0)
        y.backward(np.ones((2, 3)))
        assert (x.grad.data == 5.0).all()
    np.testing.assert_array_equal(F.softmax(x).data, before)


def test_use_for_good_and_back():
    x = rows()
    try:
        use(softmax=shifted_softmax)
        np.testing.assert_array_equal(F.softmax(x).data, x.data + 1.0)
    finally:
        use(softmax="reference")
    np.testing.assert_allclose(F.softmax(x).data.sum(-1), 1.0, rtol=1e-15)
    use(softmax=None)


def test_blocks_nest_and_end_on_errors():
    x = Tensor(np.zeros(1))

    def plus(n):
        return lambda x, *, axis=-1: (x + n, lambda dy: dy)

    with use(softmax=plus(1.0)):
        with use(softmax=plus(2.0), neg=plus(7.0)):
            assert F.softmax(x).item() == 2.0
            assert (-x).item() == 7.0
            with use(softmax="reference"):
                assert F.softmax(x).item() == 1.0
            assert F.softmax(x).item() == 2.0
        assert (-x).item() == 0.0
        with pytest.raises(ZeroDivisionError), use(softmax=plus(2.0)):
            raise ZeroDivisionError
        assert F.softmax(x).item() == 1.0


def test_many_blocks_inside_one_wrap_nothing_anew():
    """An op that leaves options out is adapted once; ending a block must not do it again."""
    with use(softmax=lambda x: (x + 1.0, lambda dy: dy)):
        adapted = get_op("softmax").run
        for _ in range(3):
            with use(softmax="reference"):
                pass
        assert get_op("softmax").run is adapted


def test_a_refused_call_changes_nothing():
    with pytest.raises(ValueError, match="softmax has no implementation 'fast'; it has: reference"):
        use(neg=shifted_softmax, softmax="fast")
    assert (-Tensor([1.0])).item() == -1.0
    with pytest.raises(KeyError, match="no op 'sofmax'; did you mean softmax"):
        use(neg=shifted_softmax, sofmax="reference")
    assert (-Tensor([1.0])).item() == -1.0


def test_an_implementation_that_cannot_run_here_says_why(made):
    op, _ = made
    with pytest.raises(RuntimeError, match="'gpu' cannot run here: no GPU; pip install x"):
        op.resolve("gpu")
    assert op.resolve("slow") is op.implementations["slow"].function


def test_the_best_that_can_take_the_call_runs(made):
    op, calls = made
    assert op.select(np.ones((2, 3))).name == "rows only"
    assert op.select(np.ones(3)).name == "slow"
    op.run(np.ones((2, 3)))
    op.run(np.ones(3))
    assert calls == ["rows only", "slow"]
    op.choose(op.resolve("reference"))
    op.run(np.ones(3))
    assert calls == ["rows only", "slow"]
    op.choose(None)
    op.run(np.ones(3))
    assert calls[-1] == "slow"
    op.add(Implementation("new", op.reference, priority=7))
    assert op.select(np.ones(3)).name == "new"


def test_an_op_nobody_supports_says_so():
    def never(x):
        return x, lambda dy: dy

    made = Op(never, "", broadcasts=False)
    made.implementations.clear()
    made.add(Implementation("a", never, supports=lambda x: False))
    made.add(Implementation("b", never, supports=lambda x: False))
    with pytest.raises(RuntimeError, match="never: no implementation supports this call"):
        made.run(np.ones(2))


def test_options_may_be_left_out_while_they_have_their_default(made):
    op, _ = made

    def mine(x):
        return 3 * x, lambda dy: 3 * dy

    run = op.resolve(mine)
    assert run.__name__ == "mine"
    assert run(np.ones(2))[0].tolist() == [3.0, 3.0]
    assert run(np.ones(2), axis=-1, mask=None)[0].tolist() == [3.0, 3.0]
    with pytest.raises(
        TypeError, match=r"triple is called with axis=0, but mine takes no option 'axi"
    ):
        run(np.ones(2), axis=0)
    with pytest.raises(TypeError, match=r"called with mask=array.*takes no option 'mask'"):
        run(np.ones(2), mask=np.ones(2))


def test_options_taken_in_any_style_arrive(made):
    op, _ = made
    styles = (
        lambda x, *, axis, mask: (x * axis, None),
        lambda x, axis=-1, mask=None: (x * axis, None),
        lambda x, **options: (x * options["axis"], None),
    )
    for style in styles:
        assert op.resolve(style)(np.ones(2), axis=4, mask=None)[0].tolist() == [4.0, 4.0]


def test_an_option_without_default_cannot_be_left_out():
    with (
        use(pow_scalar=lambda x: (x, lambda dy: dy)),
        pytest.raises(TypeError, match="pow_scalar is called with exponent=3"),
    ):
        rows() ** 3


def test_registering_the_same_name_twice_is_refused():
    with pytest.raises(ValueError, match="op 'softmax' is registered twice"):
        op("again")(scratchlm.ops.softmax)
    with pytest.raises(KeyError, match="no op 'nothing_like_it'"):
        implementation("x", of="nothing_like_it", priority=1)(lambda x: x)


def test_a_kernel_registers_itself():
    target = get_op("neg")
    try:

        @implementation("test kernel", of="neg", priority=3)
        def neg_kernel(x):
            return -x, lambda dy: -dy

        assert target.select(np.ones(1)).function is neg_kernel
        assert target.run is not target.reference
        assert (-Tensor([1.0])).item() == -1.0
    finally:
        target.implementations.pop("test kernel", None)
        target.choose(None)
    assert target.run is target.reference


def test_input_names():
    def some(a, b=None, *, axis=0): ...
    def many(*xs, axis=0): ...
    def mixed(a, *xs): ...

    def names(f, n):
        return [Op(f, "", broadcasts=False).input_name(i) for i in range(n)]

    assert names(some, 2) == ["a", "b"]
    assert names(many, 3) == ["xs[0]", "xs[1]", "xs[2]"]
    assert names(mixed, 3) == ["a", "xs[0]", "xs[1]"]


def test_every_op_has_a_formula_and_a_docstring():
    for name, each in all_ops().items():
        assert each.name == name
        assert each.formula.strip(), f"{name} has no formula"
        assert (each.reference.__doc__ or "").strip(), f"{name} has no docstring"
