"""Every mistake that a general op can be called with: the message says op, shapes and way out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from scratchlm import Tensor, ops
from scratchlm.registry import get_op

BINARY = ["add", "sub", "mul", "div", "pow", "maximum", "minimum"]
REDUCTIONS = ["sum", "mean", "var", "amax", "amin"]


def zeros(*shape: int) -> np.ndarray:
    return np.ones(shape)


@pytest.mark.parametrize("name", BINARY)
def test_shapes_that_do_not_broadcast(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^{name}: shapes \(2, 3\) and \(4, 3\) .* axis -2 .* 2 and 4"
    ):
        getattr(ops, name)(zeros(2, 3), zeros(4, 3))
    with pytest.raises(ValueError, match=r"axis -1 has sizes 3 and 5"):
        getattr(ops, name)(zeros(2, 3), zeros(5))


def test_where_shapes_count_the_condition() -> None:
    with pytest.raises(ValueError, match=r"^where: shapes \(4,\) and \(3,\) and \(\) .* 3 and 4"):
        ops.where(zeros(3), zeros(), condition=np.ones(4, bool))


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize(
    ("axis", "error", "words"),
    [
        (2, ValueError, r"there is no axis 2 in shape \(2, 3\); axes run from 0 to 1, or from -2"),
        (-3, ValueError, r"there is no axis -3 in shape \(2, 3\)"),
        ((0, 0), ValueError, r"axis \(0, 0\) names an axis of shape \(2, 3\) twice"),
        ((1, -1), ValueError, r"axis \(1, -1\) names an axis of shape \(2, 3\) twice"),
        (1.0, TypeError, "axis must be an integer, got 1.0"),
        ("rows", TypeError, "axis must be an integer, got 'rows'"),
        ((0, None), TypeError, "axis must be an integer, got None"),
    ],
)
def test_reduction_over_a_wrong_axis(name: str, axis: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=f"^{name}: {words}"):
        getattr(ops, name)(zeros(2, 3), axis=axis)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reduction_of_a_number_over_an_axis(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: axis 0 of a 0-d array"):
        getattr(ops, name)(zeros(), axis=0)


@pytest.mark.parametrize("name", ["mean", "var", "amax", "amin"])
def test_reduction_of_nothing(name: str) -> None:
    words = rf"^{name}: shape \(2, 0\) has no elements along axis 1"
    with pytest.raises(ValueError, match=words):
        getattr(ops, name)(zeros(2, 0), axis=1)


MISTAKES: list[tuple[str, list[Any], dict[str, Any], type, str]] = [
    # arithmetic and elementwise
    (
        "pow_scalar",
        [zeros(3)],
        {"exponent": zeros(3)},
        TypeError,
        "a number, got ndarray; .* pow(a, b)",
    ),
    ("pow_scalar", [zeros(3)], {"exponent": "2"}, TypeError, "must be a number, got str"),
    (
        "pow",
        [np.array([2]), np.array([-1])],
        {},
        ValueError,
        "Integers to negative integer powers are not allowed",
    ),
    ("clip", [zeros(3)], {}, ValueError, "neither min nor max is given"),
    ("clip", [zeros(3)], {"min": 1, "max": 0.5}, ValueError, "min=1 is above max=0.5"),
    (
        "clip",
        [zeros(3)],
        {"min": zeros(3)},
        TypeError,
        "min must be a number, got ndarray; .* maximum",
    ),
    ("where", [zeros(3), zeros(3)], {"condition": zeros(3)}, TypeError, "boolean, got float64"),
    ("astype", [zeros(3)], {"dtype": "float33"}, TypeError, "'float33' is no dtype"),
    ("astype", [zeros(3)], {"dtype": "complex64"}, TypeError, "complex64 is no dtype of a tensor"),
    # linear algebra
    ("matmul", [zeros(), zeros(2)], {}, ValueError, "shapes () and (2,): a number is no matrix"),
    (
        "matmul",
        [zeros(2, 3), zeros(4, 5)],
        {},
        ValueError,
        "shapes (2, 3) and (4, 5) do not fit: axis -1 of a (3) and axis -2 of b (4) must be equal",
    ),
    ("matmul", [zeros(2, 3), zeros(5, 3)], {}, ValueError, "the last axes agree: transpose b"),
    ("matmul", [zeros(3, 2), zeros(3, 5)], {}, ValueError, "transpose a"),
    ("matmul", [zeros(2), zeros(3)], {}, ValueError, "axis -1 of b (3)"),
    ("matmul", [zeros(4, 2), zeros(3)], {}, ValueError, "shapes (4, 2) and (3,) do not fit"),
    (
        "matmul",
        [zeros(2, 3, 4), zeros(5, 4, 6)],
        {},
        ValueError,
        "the leading axes of shapes (2, 3, 4) and (5, 4, 6) do not broadcast: (2,) and (5,)",
    ),
    ("einsum", [zeros(2)], {"equation": 3}, TypeError, "equation must be a string, got int"),
    ("einsum", [], {"equation": "->"}, ValueError, "names 1 operand(s), 0 are given"),
    ("einsum", [zeros(2)], {"equation": "i,i->"}, ValueError, "names 2 operand(s), 1 are given"),
    ("einsum", [zeros(2, 3)], {"equation": "i->i"}, ValueError, "'i' has 1 letter(s), .* 2 axes"),
    ("einsum", [zeros(2)], {"equation": "ij->ij"}, ValueError, "'ij' has 2 letter(s), .* 1 axes"),
    ("einsum", [zeros(2)], {"equation": "...ij->ij"}, ValueError, "'...ij' has 2 letter(s)"),
    ("einsum", [zeros(2, 2)], {"equation": "ii->"}, ValueError, "'i' occurs twice in 'ii'"),
    ("einsum", [zeros(2)], {"equation": "i->ii"}, ValueError, "'i' occurs twice in 'ii'"),
    ("einsum", [zeros(2)], {"equation": "i->j"}, ValueError, "'j' of the result is in no operand"),
    ("einsum", [zeros(2)], {"equation": "1->"}, ValueError, "'1' is no label"),
    ("einsum", [zeros(2)], {"equation": "i->->i"}, ValueError, "'-' is no label"),
    ("einsum", [zeros(2, 2)], {"equation": "..i->i"}, ValueError, "letter(s)"),
    ("einsum", [zeros(2, 3)], {"equation": "...i->i"}, ValueError, "must keep '...'"),
    (
        "einsum",
        [zeros(2, 3), zeros(4, 5)],
        {"equation": "ij,jk->ik"},
        ValueError,
        "einsum 'ij,jk->ik' of shapes (2, 3), (4, 5): axis 'j' has size 3 in one .* 4 in another",
    ),
    (
        "einsum",
        [zeros(1), zeros(3)],
        {"equation": "i,i->i"},
        ValueError,
        "axis 'i' has size 1 in one",
    ),
    (
        "einsum",
        [zeros(2, 3), zeros(4, 3)],
        {"equation": "...i,...i->..."},
        ValueError,
        "axis -1 of '...' has size 2 in one operand and 4 in another",
    ),
    # reductions
    ("var", [zeros(2, 1)], {"axis": 1}, ValueError, "1 element(s) of shape (2, 1) along axis 1"),
    ("var", [zeros(2)], {"correction": 2.5}, ValueError, "would be divided by -0.5"),
    ("cumsum", [zeros(2)], {"axis": 1}, ValueError, "there is no axis 1 in shape (2,)"),
    ("cumsum", [zeros()], {"axis": 0}, ValueError, "axis 0 of a 0-d array"),
    # shapes
    (
        "reshape",
        [zeros(2, 3)],
        {"shape": (4,)},
        ValueError,
        "(2, 3) has 6 elements, shape (4,) has 4",
    ),
    ("reshape", [zeros(2, 3)], {"shape": 4}, ValueError, "shape (4,) has 4"),
    (
        "reshape",
        [zeros(2, 3)],
        {"shape": (4, -1)},
        ValueError,
        "which 4, .* (4, -1), does not divide",
    ),
    ("reshape", [zeros(2, 3)], {"shape": (-1, -1)}, ValueError, "more than one size open"),
    ("reshape", [zeros(2, 3)], {"shape": (-2, -3)}, ValueError, "has a negative size"),
    ("reshape", [zeros(0, 3)], {"shape": (0, -1)}, ValueError, "which 0, .* does not divide"),
    (
        "permute",
        [zeros(2, 3)],
        {"axes": (0,)},
        ValueError,
        "axes (0,) for shape (2, 3): .* 2 axes once",
    ),
    ("permute", [zeros(2, 3)], {"axes": (0, 0)}, ValueError, "axes (0, 0) for shape (2, 3)"),
    ("permute", [zeros(2, 3)], {"axes": (0, 2)}, ValueError, "axes (0, 2) for shape (2, 3)"),
    ("permute", [zeros(2, 3)], {"axes": (1, -1)}, ValueError, "axes (1, -1) for shape (2, 3)"),
    ("broadcast_to", [zeros(2, 3)], {"shape": (2, 4)}, ValueError, "(2, 3) does not .* to (2, 4)"),
    ("broadcast_to", [zeros(2, 3)], {"shape": 3}, ValueError, "(2, 3) does not broadcast to (3,)"),
    ("concatenate", [], {}, ValueError, "no arrays to join"),
    ("concatenate", [zeros(2)], {"axis": 1}, ValueError, "there is no axis 1 in shape (2,)"),
    ("concatenate", [zeros()], {}, ValueError, "axis 0 of a 0-d array"),
    (
        "concatenate",
        [zeros(2, 3), zeros(1, 3), zeros(2, 4)],
        {},
        ValueError,
        "(2, 3) (xs[0]) and (2, 4) (xs[2]) must be equal in all axes but 0",
    ),
    ("concatenate", [zeros(2, 3), zeros(2)], {}, ValueError, "(2, 3) (xs[0]) and (2,) (xs[1])"),
    ("stack", [], {}, ValueError, "no arrays to join"),
    ("stack", [zeros(2), zeros(3)], {}, ValueError, "(2,) (xs[0]) and (3,) (xs[1]) must be equal"),
    ("stack", [zeros(2), zeros(2)], {"axis": 2}, ValueError, "there is no axis 2 in a stack"),
    (
        "split",
        [zeros(5)],
        {"sizes": (2, 2)},
        ValueError,
        "sizes (2, 2) must be 0 or more and add up to 5",
    ),
    ("split", [zeros(5)], {"sizes": (6, -1)}, ValueError, "sizes (6, -1) must be 0 or more"),
    ("split", [zeros(5)], {"sizes": ()}, ValueError, "sizes () must be"),
    ("split", [zeros(0)], {"sizes": ()}, ValueError, "sizes () must be"),
    ("split", [zeros(5)], {"sizes": 0}, ValueError, "a size must be at least 1"),
    ("split", [zeros(5)], {"sizes": 2, "axis": 1}, ValueError, "there is no axis 1"),
    ("split", [zeros(5)], {"sizes": 2.5}, TypeError, "each of sizes must be an integer, got 2.5"),
    (
        "split",
        [zeros(5)],
        {"sizes": (2.5, 2.5)},
        TypeError,
        "each of sizes must be an integer, got 2.5",
    ),
    ("pad", [zeros(2)], {"pad_width": -1}, ValueError, "pad_width -1 is negative"),
    (
        "pad",
        [zeros(2)],
        {"pad_width": ((1, 1), (1, 1))},
        ValueError,
        "or 1 pairs, one for each axis",
    ),
    ("pad", [zeros(2)], {"pad_width": ((1, 1, 1),)}, ValueError, "for shape (2,)"),
    ("pad", [zeros(2)], {"pad_width": 1.5}, TypeError, "pad_width must be an integer, got 1.5"),
    (
        "pad",
        [zeros(2)],
        {"pad_width": ((1.5, 1),)},
        TypeError,
        "each of pad_width must be an integer, got 1.5",
    ),
    ("reshape", [zeros(2, 3)], {"shape": (2.0, 3)}, TypeError, "must be an integer, got 2.0"),
    ("permute", [zeros(2, 3)], {"axes": (0, 1.0)}, TypeError, "must be an integer, got 1.0"),
    ("broadcast_to", [zeros(2, 3)], {"shape": "ab"}, TypeError, "must be an integer, got 'ab'"),
    ("stack", [zeros(2)], {"axis": None}, TypeError, "axis must be an integer, got None"),
    # indexing
    ("getitem", [zeros(2, 3)], {"index": 2}, IndexError, "index 2 .* the shape is (2, 3)"),
    ("getitem", [zeros(2, 3)], {"index": (0, -4)}, IndexError, "index -4 .* the shape is (2, 3)"),
    ("getitem", [zeros(2, 3)], {"index": (0, 0, 0)}, IndexError, "too many indices"),
    ("getitem", [zeros(2, 3)], {"index": (..., ...)}, IndexError, "single ellipsis"),
    ("getitem", [zeros(2, 3)], {"index": [0, 2]}, IndexError, "index 2 is out of range for axis 0"),
    (
        "getitem",
        [zeros(2, 3)],
        {"index": (..., np.array([[0, -4]]))},
        IndexError,
        "index -4 is out of range for axis 1 of shape (2, 3); indices run from -3 to 2",
    ),
    (
        "getitem",
        [zeros(2)],
        {"index": (np.array([0]), np.array([0]))},
        IndexError,
        "too many indices",
    ),
    (
        "getitem",
        [zeros(2, 3)],
        {"index": np.ones(3, bool)},
        IndexError,
        "a mask of shape (3,) for axes of sizes (2,) (shape (2, 3))",
    ),
    ("getitem", [zeros(4, 5)], {"index": ([0, 1], [0, 1, 2])}, IndexError, "shape mismatch"),
    ("getitem", [zeros(2)], {"index": 1.0}, TypeError, "1.0 (float) is no index"),
    ("getitem", [zeros(2)], {"index": "a"}, TypeError, "'a' (str) is no index"),
    ("getitem", [zeros(2)], {"index": True}, TypeError, "True (bool) is no index"),
    ("getitem", [zeros(2)], {"index": np.array(True)}, TypeError, "is no index"),
    (
        "getitem",
        [zeros(2)],
        {"index": np.array([0.0])},
        TypeError,
        "an array of float64 is no index",
    ),
]


@pytest.mark.parametrize(
    ("name", "arrays", "options", "error", "words"),
    MISTAKES,
    ids=[f"{name}{place}" for place, (name, *_) in enumerate(MISTAKES)],
)
def test_mistake_is_explained(
    name: str, arrays: Any, options: dict[str, Any], error: type, words: str
) -> None:
    pattern = re.escape(words).replace(r"\ \.\*\ ", " .*")
    with pytest.raises(error, match=pattern) as caught:
        getattr(ops, name)(*arrays, **options)
    message = caught.value.args[0]
    assert message.startswith((f"{name}:", f"{name} ")), message
    assert "\n" not in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("name", ["sum", "reshape", "where", "getitem", "einsum"])
def test_unknown_option_is_named(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} has no option 'axes_'"):
        get_op(name).explain_options({"axes_": 0})


def test_the_messages_reach_those_who_use_tensors() -> None:
    a, b = Tensor(zeros(2, 3)), Tensor(zeros(4, 5))
    with pytest.raises(ValueError, match=r"matmul: shapes \(2, 3\) and \(4, 5\) do not fit"):
        a @ b
    with pytest.raises(ValueError, match=r"add: shapes \(2, 3\) and \(4, 5\) do not broadcast"):
        a + b
    with pytest.raises(IndexError, match=r"getitem: .* the shape is \(2, 3\)"):
        a[5]
    with pytest.raises(ValueError, match="reshape: shape"):
        a.reshape(7)
    with pytest.raises(ValueError, match="sum: there is no axis 2"):
        a.sum(axis=2)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_softmax_over_a_wrong_axis(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: there is no axis 2 in shape \(2, 3\)"):
        getattr(ops, name)(zeros(2, 3), axis=2)
    with pytest.raises(ValueError, match=rf"^{name}: axis -1 of a 0-d array"):
        getattr(ops, name)(zeros())
    with pytest.raises(TypeError, match=rf"^{name}: axis must be an integer, got None"):
        getattr(ops, name)(zeros(2, 3), axis=None)
