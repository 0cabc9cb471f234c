"""What the general ops do where random inputs do not go: ties, kinks, zeros, views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scratchlm import Tensor, ops

nan, inf = np.nan, np.inf


def array(*values: float) -> np.ndarray:
    return np.array(values, float)


# -- ties and kinks: the documented choice ---------------------------------------------------------


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_ties_of_two_share_the_gradient(name: str) -> None:
    a, b, dy = array(1, 2, 3), array(1, 3, 2), array(8, 10, 20)
    _, vjp = getattr(ops, name)(a, b)
    da, db = vjp(dy)
    a_wins = array(4, 0, 20) if name == "maximum" else array(4, 10, 0)
    np.testing.assert_array_equal(da, a_wins)
    np.testing.assert_array_equal(db, dy - a_wins)


@pytest.mark.parametrize("name", ["amax", "amin"])
def test_ties_of_many_share_the_gradient(name: str) -> None:
    x = np.array([[1.0, 1.0, 1.0], [2.0, 5.0, 5.0], [0.0, 0.0, 7.0]])
    y, vjp = getattr(ops, name)(x, axis=1)
    dx = vjp(array(3, 4, 6))
    if name == "amax":
        np.testing.assert_array_equal(y, array(1, 5, 7))
        np.testing.assert_array_equal(dx, [[1, 1, 1], [0, 2, 2], [0, 0, 6]])
    else:
        np.testing.assert_array_equal(y, array(1, 2, 0))
        np.testing.assert_array_equal(dx, [[1, 1, 1], [4, 0, 0], [3, 3, 0]])


@pytest.mark.parity
@pytest.mark.parametrize("name", ["amax", "amin", "maximum", "minimum"])
def test_ties_are_shared_as_in_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    count = 2 if name.endswith("imum") else 1
    arrays = [rng.integers(0, 3, (40, 5)).astype(float) for _ in range(count)]
    options: dict[str, Any] = {} if count == 2 else {"axis": 1}
    y, vjp = getattr(ops, name)(*arrays, **options)
    dy = rng.standard_normal(y.shape)
    tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
    getattr(torch, name)(*tensors, *options.values()).backward(torch.tensor(dy))
    found = vjp(dy) if count == 2 else (vjp(dy),)
    for dx, t in zip(found, tensors, strict=True):
        np.testing.assert_allclose(dx, t.grad.numpy(), rtol=1e-15)


def test_abs_is_flat_at_its_kink() -> None:
    _, vjp = ops.abs(array(-2, 0, 3))
    np.testing.assert_array_equal(vjp(array(5, 5, 5)), array(-5, 0, 5))


def test_clip_passes_the_gradient_at_its_bounds() -> None:
    y, vjp = ops.clip(array(-2, -1, 0, 1, 2), min=-1, max=1)
    np.testing.assert_array_equal(y, array(-1, -1, 0, 1, 1))
    np.testing.assert_array_equal(vjp(np.full(5, 3.0)), array(0, 3, 3, 3, 0))


def test_clip_with_equal_bounds_is_constant_elsewhere() -> None:
    y, vjp = ops.clip(array(0, 1, 2), min=1, max=1)
    np.testing.assert_array_equal(y, array(1, 1, 1))
    np.testing.assert_array_equal(vjp(np.ones(3)), array(0, 1, 0))


# -- powers ----------------------------------------------------------------------------------------


def test_powers_of_zero() -> None:
    a, b = array(0, 0, 0, 2), array(0, 1, 2, 0)
    y, vjp = ops.pow(a, b)
    np.testing.assert_array_equal(y, array(1, 0, 0, 1))
    da, db = vjp(np.ones(4))
    np.testing.assert_array_equal(da, array(0, 1, 0, 0))
    np.testing.assert_allclose(db, array(0, 0, 0, np.log(2)))


def test_power_of_a_negative_base_has_no_derivative_by_the_exponent() -> None:
    y, vjp = ops.pow(array(-2, 2), array(3, 3))
    da, db = vjp(np.ones(2))  # without a warning: pytest makes one an error
    np.testing.assert_array_equal(y, array(-8, 8))
    np.testing.assert_array_equal(da, array(12, 12))
    np.testing.assert_allclose(db, array(nan, 8 * np.log(2)))


def test_broken_power_of_a_negative_base_is_nan() -> None:
    with np.errstate(invalid="ignore"):
        y, _ = ops.pow(array(-2), array(0.5))
    assert np.isnan(y).all()


@pytest.mark.parametrize("exponent", [0, 1, 2, 3])
def test_scalar_powers_of_zero(exponent: int) -> None:
    y, vjp = ops.pow_scalar(array(0), exponent=exponent)
    np.testing.assert_array_equal(y, array(exponent == 0))
    np.testing.assert_array_equal(vjp(array(1)), array(exponent == 1))


@pytest.mark.parametrize(
    ("name", "options"),
    [("pow_scalar", {"exponent": np.float64(1.5)}), ("clip", {"min": np.float64(0.5)})],
)
def test_numpy_numbers_do_not_widen_float32(name: str, options: dict[str, Any]) -> None:
    y, vjp = getattr(ops, name)(np.ones(3, np.float32), **options)
    assert y.dtype == vjp(y.copy()).dtype == np.float32


# -- softmax of rows with nothing in them (pytest makes a warning an error) ------------------------


@pytest.mark.parametrize("rows", [np.full((2, 3), -inf), np.ones((2, 0))], ids=["-inf", "empty"])
@pytest.mark.parametrize(
    ("name", "value", "slope"),
    [("softmax", 0, 0), ("log_softmax", -inf, 1), ("logsumexp", -inf, 0)],
)
def test_softmax_of_nothing(name: str, value: float, slope: float, rows: np.ndarray) -> None:
    y, vjp = getattr(ops, name)(rows)
    np.testing.assert_array_equal(y, np.full(2 if name == "logsumexp" else rows.shape, value))
    np.testing.assert_array_equal(vjp(np.full(y.shape, 5.0)), np.full(rows.shape, 5.0 * slope))


def test_softmax_of_a_row_that_is_partly_forbidden() -> None:
    x = array(-inf, 0, 0)
    np.testing.assert_array_equal(ops.softmax(x)[0], array(0, 0.5, 0.5))
    np.testing.assert_allclose(ops.log_softmax(x)[0], array(-inf, -np.log(2), -np.log(2)))
    np.testing.assert_allclose(ops.logsumexp(x)[0], np.log(2))
    _, vjp = ops.softmax(x)
    assert vjp(array(1, 2, 3))[0] == 0


# -- dtypes ----------------------------------------------------------------------------------------


def test_astype_returns_the_gradient_in_the_dtype_it_came_from() -> None:
    y, vjp = ops.astype(array(1, 2), dtype="float32")
    assert y.dtype == np.float32
    assert vjp(y).dtype == np.float64
    assert ops.astype(array(1.7), dtype=np.int64)[0].dtype == np.int64
    assert ops.astype(array(0, 2), dtype=bool)[0].tolist() == [False, True]


def test_mixed_dtypes_return_each_its_own() -> None:
    a = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    b = Tensor(np.ones((1, 3), np.float64), requires_grad=True)
    for function in (lambda: a + b, lambda: a * b, lambda: a @ b.T):
        function().sum().backward()
        assert a.grad is not None
        assert b.grad is not None
        assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)


# -- einsum beside the ops it can spell ------------------------------------------------------------


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("i,ij,ij,jk,k->", [(3,), (3, 4), (3, 4), (4, 2), (2,)]),
        ("...i,i,...->...i", [(1, 4), (4,), (3, 1)]),
        ("...,...,...->...", [(2, 1), (1, 3), (3,)]),
        ("cab,bd->da", [(2, 3, 4), (4, 5)]),
        ("zx,y", [(2, 3), (4,)]),
    ],
)
def test_einsum_equals_numpys(equation: str, shapes: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(0)
    operands = [rng.standard_normal(shape) for shape in shapes]
    y, _ = ops.einsum(*operands, equation=equation)
    np.testing.assert_allclose(y, np.einsum(equation, *operands), rtol=1e-13, atol=1e-13)


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("reshape", {"shape": (3, 2)}),
        ("permute", {"axes": (1, 0)}),
        ("broadcast_to", {"shape": (4, 2, 3)}),
        ("split", {"sizes": 1, "axis": 1}),
        ("getitem", {"index": (slice(None), 1)}),
        ("getitem", {"index": (1, 1)}),
        ("astype", {"dtype": "float64"}),
    ],
)
def test_result_is_a_view(name: str, options: dict[str, Any]) -> None:
    x = np.ones((2, 3))
    y, _ = getattr(ops, name)(x, **options)
    for piece in y if name == "split" else (y,):
        assert np.shares_memory(piece, x)


@pytest.mark.parametrize(
    ("name", "count", "options", "shape"),
    [
        ("concatenate", 2, {}, (4, 3)),
        ("stack", 2, {"axis": 1}, (2, 2, 3)),
        ("pad", 1, {"pad_width": 1}, (4, 5)),
        ("sum", 1, {}, ()),
        ("mean", 1, {"axis": 0}, (3,)),
        ("reshape", 1, {"shape": -1}, (6,)),
    ],
)
def test_gradient_is_no_copy(
    name: str, count: int, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    _, vjp = getattr(ops, name)(*[np.ones((2, 3))] * count, **options)
    dy = np.ones(shape)
    found = vjp(dy)
    for dx in found if type(found) is tuple else (found,):
        # mean divides first: a few numbers, not as many as x has
        assert np.shares_memory(dx, dy) or (name == "mean" and 0 in dx.strides)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sum", {}),
        ("mean", {}),
        ("cumsum", {"axis": 0}),
        ("reshape", {"shape": -1}),
        ("permute", {"axes": (0,)}),
        ("broadcast_to", {"shape": (2, 6)}),
        ("concatenate", {}),
        ("stack", {}),
        ("pad", {"pad_width": 1}),
        ("getitem", {"index": np.array([0, 0])}),
        ("exp", {}),
        ("neg", {}),
        ("astype", {"dtype": "float32"}),
    ],
)
def test_backward_keeps_no_input_alive(name: str, options: dict[str, Any]) -> None:
    """Whose derivative does not depend on x must not hold on to x: that is a model's memory."""
    x = np.ones(6)
    _, vjp = getattr(ops, name)(x, **options)
    assert not any(cell.cell_contents is x for cell in vjp.__closure__ or ())


def test_split_keeps_neither_input_nor_pieces_alive() -> None:
    x = np.ones(6)
    _, vjp = ops.split(x, sizes=2)
    held = [cell.cell_contents for cell in vjp.__closure__]
    assert not any(isinstance(value, np.ndarray) for value in held)
    assert not any(
        isinstance(v, np.ndarray) for value in held if type(value) is tuple for v in value
    )


def test_matmul_of_a_batch_by_one_matrix_sums_its_gradient_itself() -> None:
    """One product of all rows, instead of one for each member of the batch and a sum over them."""
    _, vjp = ops.matmul(np.ones((7, 5, 4)), np.ones((4, 3)))
    da, db = vjp(np.ones((7, 5, 3)))
    assert da.shape == (7, 5, 4)
    assert db.shape == (4, 3)


# -- through tensors -------------------------------------------------------------------------------


def test_results_are_arrays_even_without_axes() -> None:
    x = Tensor(np.float64(2.0), requires_grad=True)
    for y in (
        x + x,
        x * 3,
        x.sum(),
        x.exp(),
        -x,
        x**2,
        Tensor(np.ones(3))[0],
        x.reshape(()),
        x[()],
    ):
        assert type(y.data) is np.ndarray
        assert y.shape == ()


def test_an_element_taken_twice_receives_both() -> None:
    x = Tensor(np.arange(4.0), requires_grad=True)
    (x[[1, 1, 3]] * Tensor(array(1, 10, 100))).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 11, 0, 100]


@pytest.mark.parametrize("lowest", [0, -7])
@pytest.mark.parametrize("count", [9, 1000])  # few and many rows are added in different ways
def test_a_row_taken_many_times_receives_all(count: int, lowest: int) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(lowest, 7, count)
    dy = rng.integers(-9, 9, (count, 5)).astype(np.float32)  # integers: sums are exact in any order
    _, vjp = ops.getitem(np.zeros((7, 5), np.float32), index=ids)
    expected = np.zeros((7, 5), np.float32)
    for row, gradient in zip(ids, dy, strict=True):
        expected[row] += gradient
    np.testing.assert_array_equal(vjp(dy), expected)


def test_unused_pieces_of_a_split_get_zeros() -> None:
    x = Tensor(np.ones((2, 6), np.float32), requires_grad=True)
    _, middle, _ = x.split((1, 2, 3), axis=1)
    (middle * 5.0).sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, [[0, 5, 5, 0, 0, 0]] * 2)
    assert x.grad.dtype == np.float32
