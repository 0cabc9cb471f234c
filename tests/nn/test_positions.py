"""Positions: what each kind promises, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

import scratchlm.functional as F
from scratchlm import Tensor, assert_gradients, nn, ops
from scratchlm.nn.positions import relative_position_bucket

RNG = np.random.default_rng(0)
Z = np.zeros


def attend_all(x, encode):
    """Self-attention of the rows of x, queries and keys passed through ``encode`` first."""
    q = encode(x)
    return ops.attention(q, q, x)[0]


@pytest.mark.parametrize("interleaved", [True, False])
def test_rotated_products_depend_on_the_distance_alone(interleaved):
    q, k = RNG.standard_normal((2, 1, 8))

    def product(n, m, **options):
        turned = [
            ops.rope(x, offset=p, interleaved=interleaved, **options)[0]
            for x, p in ((q, n), (k, m))
        ]
        return (turned[0] @ turned[1].T).item()

    # products of eight numbers near 1; the angle 5000 is rounded at 5e-13
    for options in ({}, {"rotary_dim": 6}, {"base": 100.0}):
        near = product(7, 3, **options)
        assert product(5007, 5003, **options) == pytest.approx(near, abs=1e-11)
        assert abs(product(7, 4, **options) - near) > 1e-3


@pytest.mark.parametrize("interleaved", [True, False])
def test_a_rotation_keeps_lengths_and_is_undone_by_the_opposite_one(interleaved):
    x = RNG.standard_normal((2, 3, 5, 6))
    y, vjp = ops.rope(x, interleaved=interleaved)
    np.testing.assert_allclose((y**2).sum(-1), (x**2).sum(-1), rtol=1e-14)
    np.testing.assert_allclose(vjp(y), x, rtol=0, atol=1e-15 * 8)
    back, _ = ops.rope(y, positions=-np.arange(5), interleaved=interleaved)
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-15 * 8)


def test_the_two_pairings_are_one_under_an_order_of_features():
    x = RNG.standard_normal((4, 10))
    order = np.concatenate([np.arange(0, 10, 2), np.arange(1, 10, 2)])  # first ones, second ones
    halves, _ = ops.rope(x[:, order], interleaved=False)
    neighbors, _ = ops.rope(x)
    np.testing.assert_array_equal(halves, neighbors[:, order])
    assert not np.allclose(ops.rope(x, interleaved=False)[0], neighbors)


def test_float32_keeps_the_angle_of_a_far_position():
    x = RNG.standard_normal((3, 8))
    far, _ = ops.rope(x, offset=100_000)
    single, _ = ops.rope(x.astype(np.float32), offset=100_000)
    # rounding of x, of sine and cosine, and of two products; an angle in float32 is off by 4e-3
    np.testing.assert_allclose(single, far, rtol=0, atol=1e-6)


def test_every_encoding_ends_the_symmetry_under_permutations():
    x = RNG.standard_normal((6, 8))
    order = RNG.permutation(6)
    encodings = {
        "none": lambda x: x,
        "sinusoids": lambda x: x + nn.sinusoids(6, 8),
        "rope": lambda x: ops.rope(x)[0],
    }
    same = {
        name: np.allclose(attend_all(x, e)[order], attend_all(x[order], e))
        for name, e in encodings.items()
    }
    assert same == {"none": True, "sinusoids": False, "rope": False}


def test_a_rotation_moves_between_two_sinusoids():
    """PE(p + k) is PE(p) turned by k, pair by pair: the same matrices as rope's, transposed."""
    table = nn.sinusoids(20, 12)
    # (sin, cos) turns the other way round than (cos, sin)
    turned, _ = ops.rope(table[:13], positions=np.full(13, -7))
    np.testing.assert_allclose(turned, table[7:], rtol=0, atol=1e-14)


def test_tables_add_their_rows_and_refuse_to_run_out():
    x = Tensor(RNG.standard_normal((2, 3, 4)), requires_grad=True)
    learned = nn.LearnedPositions(7, 4, rng=0, dtype=np.float64)
    fixed = nn.SinusoidalPositions(7, 4, dtype=np.float64)
    y = learned(x, offset=2)
    np.testing.assert_array_equal(y.data, x.data + learned.weight.data[2:5])
    np.testing.assert_array_equal(fixed(x, offset=4).data, x.data + nn.sinusoids(3, 4, offset=4))
    dy = RNG.standard_normal(y.shape)
    y.backward(dy)
    np.testing.assert_array_equal(learned.weight.grad.data[2:5], dy.sum(0))
    assert not learned.weight.grad.data[[0, 1, 5, 6]].any()
    assert not list(fixed.parameters())
    for layer in (learned, fixed):
        with pytest.raises(ValueError, match=r"positions 5 to 7 .* rows 0 to 6"):
            layer(x, offset=5)
    with pytest.raises(ValueError, match="dim must be even"):
        nn.sinusoids(3, 5)


def test_gradient_of_the_bias_through_attention():
    q, k, v = RNG.standard_normal((3, 2, 3, 5, 4))
    layer = nn.RelativePositionBias(3, num_buckets=6, max_distance=4, rng=0, dtype=np.float64)

    def call(q, k, v, table):
        bias = nn.functional_call(layer, {"weight": table}, 5)
        return F.attention(q, k, v, bias, causal=True)

    assert_gradients(call, q, k, v, layer.weight.data)


def test_causal_buckets_give_later_keys_no_place_of_their_own():
    relative = np.arange(-200, 201)
    causal = relative_position_bucket(relative, bidirectional=False)
    assert set(causal[relative >= 0]) == {0}
    assert set(causal) == set(range(32))
    both = relative_position_bucket(relative)
    assert set(both) == set(range(32)) - {16}  # a later key at distance 0 there is none
    for bucket, sign in ((both, 1), (both, -1), (causal, -1)):
        inside = bucket[np.sign(relative) == sign]
        assert (np.diff(inside) * sign >= 0).all()  # farther away, never a smaller bucket


def test_multi_head_attention_with_rotary_positions():
    x = Tensor(RNG.standard_normal((2, 5, 12)))
    rotary = nn.RotaryPositions(interleaved=False)
    layer = nn.MultiHeadAttention(
        12, 3, num_kv_heads=1, causal=True, rotary=rotary, rng=0, dtype=np.float64
    )
    y = layer(x)
    q, k, v = (
        projection(x).reshape(2, 5, heads, 4).transpose(1, 2)
        for projection, heads in ((layer.q_proj, 3), (layer.k_proj, 1), (layer.v_proj, 1))
    )
    q, k = F.rope(q, interleaved=False), F.rope(k, interleaved=False)
    heads = F.attention(q, k, v, causal=True).transpose(1, 2).reshape(2, 5, 12)
    np.testing.assert_allclose(y.data, layer.out_proj(heads).data, rtol=1e-13, atol=1e-14)
    # later all at once: only distances count
    np.testing.assert_allclose(layer(x, positions=np.arange(5) + 90).data, y.data, atol=1e-12)
    # the last two queries beside all keys, as with a cache
    last = layer(x[:, 3:], x)
    np.testing.assert_allclose(last.data, y.data[:, 3:], rtol=1e-13, atol=1e-14)
    plain = nn.MultiHeadAttention(12, 3, rng=0)
    with pytest.raises(ValueError, match="positions are for rotary="):
        plain(x, positions=np.arange(5))


ERRORS = [
    (lambda: ops.rope(Z(4)), ValueError, r"rope: x has shape \(4,\)"),
    (lambda: ops.rope(Z((2, 3))), ValueError, "d is 3, .* even"),
    (lambda: ops.rope(Z((2, 4)), rotary_dim=6), ValueError, "rotary_dim is 6, .* at most 4"),
    (lambda: ops.rope(Z((2, 4)), rotary_dim=1), ValueError, "rotary_dim is 1"),
    (lambda: ops.rope(Z((2, 4)), rotary_dim=2.0), TypeError, "rotary_dim must be an integer"),
    (lambda: ops.rope(Z((2, 4)), offset=0.5), TypeError, "offset must be an integer"),
    (lambda: ops.rope(Z((2, 4)), base=0), ValueError, "base is 0"),
    (lambda: ops.rope(Z((2, 4)), frequencies=[1.0]), ValueError, "1 frequencies, .* has 2 pairs"),
    (lambda: ops.rope(Z((2, 4)), positions=Z(2)), TypeError, "positions are float64"),
    (lambda: ops.rope(Z((2, 4)), positions=Z(3, int)), ValueError, r"positions \(3,\) and x"),
    (lambda: ops.rope(Z((2, 4)), positions=Z((1, 2), int)), ValueError, "without its last axis"),
    (
        lambda: ops.attention(Z((2, 5, 8)), Z((2, 5, 8)), Z((2, 5, 8)), Z((4, 5))),
        ValueError,
        r"bias has shape \(4, 5\), the weights \(2, 5, 5\)",
    ),
    (
        lambda: ops.attention(Z((2, 5, 8)), Z((2, 5, 8)), Z((2, 5, 8)), Z((5, 5), bool)),
        TypeError,
        "bias is bool; .*mask=",
    ),
    (lambda: nn.RelativePositionBias(2, num_buckets=2), ValueError, "at least one"),
    (lambda: nn.RelativePositionBias(2, max_distance=8), ValueError, "must be larger"),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[e[2] for e in ERRORS])
def test_bad_input_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("choice", ["numba", "reference", None])
def test_a_bias_is_heard_whatever_runs(choice):
    """Kernels that know no bias must leave the call to the composed op, and not drop it."""
    import scratchlm
    from scratchlm.registry import get_op

    q, k, v = RNG.standard_normal((3, 2, 4, 200, 8), dtype=np.float32)
    bias = RNG.standard_normal((4, 1, 200), dtype=np.float32)
    if choice == "numba" and get_op("attention").implementations["numba"].unavailable():
        pytest.skip("no Numba")
    with scratchlm.use(attention=choice):
        inputs = [Tensor(x, requires_grad=True) for x in (q, k, v, bias)]
        y = F.attention(*inputs)
        y.backward(np.ones(y.shape, np.float32))
        left_out = F.attention(*inputs[:3], None)
        left_out.backward(np.ones(y.shape, np.float32))  # None in its place is no bias
    want, vjp = ops.attention(q, k, v, bias)
    np.testing.assert_allclose(y.data, want, rtol=0, atol=1e-6)
    assert inputs[3].grad.shape == bias.shape
    np.testing.assert_allclose(inputs[3].grad.data, vjp(np.ones_like(want))[3], atol=1e-5)
    np.testing.assert_allclose(left_out.data, ops.attention(q, k, v)[0], rtol=0, atol=1e-5)
    assert np.abs(left_out.data - y.data).max() > 0.1
