"""Layers: initial values, modes, errors, gradients. (Equality with PyTorch: tests/parity.)"""

from __future__ import annotations

import math

import numpy as np
import pytest

import scratchlm.functional as F
from scratchlm import Tensor, assert_gradients, nn

RNG = np.random.default_rng


def x_of(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(RNG(seed).standard_normal(shape), requires_grad=True)


# Layer, and an input for it; all in float64.
LAYERS = {
    "Linear": (lambda: nn.Linear(5, 3, rng=1, dtype=np.float64), (2, 4, 5)),
    "Linear without bias": (lambda: nn.Linear(5, 3, bias=False, rng=1, dtype=np.float64), (5,)),
    "LayerNorm": (lambda: nn.LayerNorm(5, dtype=np.float64), (2, 3, 5)),
    "LayerNorm without bias": (lambda: nn.LayerNorm(5, bias=False, dtype=np.float64), (3, 5)),
    "RMSNorm": (lambda: nn.RMSNorm(5, dtype=np.float64), (2, 3, 5)),
    "FeedForward": (lambda: nn.FeedForward(3, 7, rng=1, dtype=np.float64), (2, 4, 3)),
    "Conv2d": (
        lambda: nn.Conv2d(4, 6, (3, 2), 2, (1, 0), 2, groups=2, rng=1, dtype=np.float64),
        (2, 4, 5, 6),
    ),
    "Conv2d without bias": (
        lambda: nn.Conv2d(2, 3, 3, bias=False, rng=1, dtype=np.float64),
        (1, 2, 4, 5),
    ),
    "MultiHeadAttention": (lambda: nn.MultiHeadAttention(6, 3, rng=1, dtype=np.float64), (2, 5, 6)),
    "grouped queries, causal": (
        lambda: nn.MultiHeadAttention(
            12, 6, num_kv_heads=2, causal=True, bias=False, rng=1, dtype=np.float64
        ),
        (3, 12),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_input_and_of_every_parameter(name):
    make, shape = LAYERS[name]
    layer = make()
    names = [n for n, _ in layer.named_parameters()]
    values = [RNG(i).standard_normal(p.shape) for i, p in enumerate(layer.parameters())]

    def call(x, *parameters):
        return nn.functional_call(layer, dict(zip(names, parameters, strict=True)), x)

    assert_gradients(call, x_of(*shape).data, *values)


@pytest.mark.parametrize("name", LAYERS)
def test_float32_stays_float32(name):
    make, shape = LAYERS[name]
    layer = make().astype(np.float32)
    x = Tensor(RNG(0).standard_normal(shape, dtype=np.float32), requires_grad=True)
    y = layer(x)
    y.backward(np.ones(y.shape, np.float32))
    assert y.dtype == x.grad.dtype == np.float32
    assert {parameter.grad.dtype for parameter in layer.parameters()} == {np.dtype(np.float32)}


def test_float32_is_the_default_and_seeds_decide():
    def make(rng):
        return [
            nn.Linear(4, 3, rng=rng),
            nn.Conv2d(2, 3, 3, rng=rng),
            nn.Embedding(5, 2, rng=rng),
            nn.MultiHeadAttention(4, 2, rng=rng),
            nn.FeedForward(4, rng=rng),
        ]

    def flat(layers):
        return np.concatenate([p.data.ravel() for layer in layers for p in layer.parameters()])

    assert flat(make(3)).dtype == np.float32
    assert np.array_equal(flat(make(3)), flat(make(3)))
    assert np.array_equal(flat(make(RNG(3))), flat(make(RNG(3))))
    assert not np.array_equal(flat(make(3)), flat(make(4)))
    assert not np.array_equal(flat(make(None)), flat(make(None)))


def test_initial_distributions_are_those_of_pytorch():
    layer = nn.Linear(64, 500, rng=0)
    bound = 1 / math.sqrt(64)
    for parameter in (layer.weight, layer.bias):
        assert np.abs(parameter.data).max() <= bound
        # a uniform variable has the standard deviation bound / sqrt(3); 500 samples or more tell
        # it within 3 × 0.45 / sqrt(500) = 6%
        assert parameter.data.std() == pytest.approx(bound / math.sqrt(3), rel=0.06)
        assert abs(parameter.data.mean()) < bound * 0.08
    conv = nn.Conv2d(4, 500, (4, 8), groups=2, rng=0)  # a filter sees 2 × 4 × 8 = 64 pixels
    for parameter in (conv.weight, conv.bias):
        assert np.abs(parameter.data).max() <= bound
        assert parameter.data.std() == pytest.approx(bound / math.sqrt(3), rel=0.06)
    table = nn.Embedding(200, 50, rng=0).weight.data
    assert table.std() == pytest.approx(1, rel=0.03)  # 3 / sqrt(2 × 10⁴) = 2%
    small = nn.Linear(64, 500, std=0.02, rng=0)
    assert small.weight.data.std() == pytest.approx(0.02, rel=0.03)
    assert not small.bias.data.any()


def test_dropout_drops_in_training_only_and_is_seeded():
    x = Tensor(np.ones(10_000, np.float32), requires_grad=True)
    drop = nn.Dropout(0.25, rng=0)
    y = drop(x)
    # 10⁴ draws with p = 1/4 lie within 4 standard deviations (0.0043 each) of the mean
    assert np.mean(y.data == 0) == pytest.approx(0.25, abs=0.018)
    assert np.allclose(y.data[y.data != 0], 1 / 0.75, rtol=1e-6)
    y.backward(np.ones(10_000, np.float32))
    assert np.array_equal(x.grad.data, y.data)
    assert np.array_equal(nn.Dropout(0.25, rng=0)(x).data, y.data)
    assert not np.array_equal(drop(x).data, y.data)
    assert drop.eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    for p in (-0.1, 1.0, 2):
        with pytest.raises(ValueError, match=r"Dropout: p is the share dropped, and .* outside"):
            nn.Dropout(p)


def test_convolution_says_what_it_is_and_refuses_what_does_not_fit():
    assert repr(nn.Conv2d(2, 4, 3, padding=1, rng=0)).startswith(
        "Conv2d(2, 4, kernel_size=(3, 3), stride=1, padding=1, dilation=1, groups=1, bias=True)"
    )
    with pytest.raises(ValueError, match="groups=2 must divide in_channels=3 and out_channels=4"):
        nn.Conv2d(3, 4, 3, groups=2)
    with pytest.raises(ValueError, match="kernel_size=0: each must be at least 1"):
        nn.Conv2d(3, 4, 0)
    with pytest.raises(ValueError, match=r"one integer or \(height, width\)"):
        nn.Conv2d(3, 4, (1, 2, 3))
    with pytest.raises(TypeError, match="kernel_size must be an integer"):
        nn.Conv2d(3, 4, 2.5)
    with pytest.raises(ValueError, match="each filter sees 2 channels of x"):
        nn.Conv2d(3, 4, 3)(Tensor(np.zeros((1, 2, 5, 5), np.float32)))


def test_embedding_takes_rows_and_refuses_other_ids():
    table = nn.Embedding(4, 3, rng=0)
    ids = np.array([[1, 1], [3, 0]])
    assert np.array_equal(table(ids).data, table.weight.data[ids])
    with pytest.raises(IndexError, match=r"id 4 at index \(0,\) is outside \[0, 4\)"):
        table(np.array([4]))
    with pytest.raises(IndexError, match="id -1"):
        table(np.array([-1]))
    with pytest.raises(TypeError, match="ids must be integers"):
        table(np.array([1.0]))


@pytest.mark.parametrize("activation", nn.ACTIVATIONS)
def test_feed_forward_applies_the_activation_it_names(activation):
    layer = nn.FeedForward(3, 4, activation, rng=0, dtype=np.float64)
    x = x_of(2, 3)
    hidden = x.data @ layer.fc1.weight.data.T + layer.fc1.bias.data
    approximate = {"approximate": "tanh"} if activation == "gelu_tanh" else {}
    f = getattr(F, activation.removesuffix("_tanh"))
    hidden = f(Tensor(hidden), **approximate).data
    want = hidden @ layer.fc2.weight.data.T + layer.fc2.bias.data
    assert np.array_equal(layer(x).data, want)


def test_feed_forward_takes_a_function_and_refuses_an_unknown_name():
    layer = nn.FeedForward(3, activation=lambda h: h * 0.0, rng=0, dtype=np.float64)
    assert layer.fc1.weight.shape == (12, 3)
    assert np.array_equal(layer(x_of(2, 3)).data, np.tile(layer.fc2.bias.data, (2, 1)))
    with pytest.raises(ValueError, match=r"no activation 'gleu'; there are gelu, gelu_tanh"):
        nn.FeedForward(3, activation="gleu")


def test_attention_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="embed_dim=10 does not split evenly into num_heads=4"):
        nn.MultiHeadAttention(10, 4)
    with pytest.raises(ValueError, match="num_heads=4 can not share num_kv_heads=3 evenly"):
        nn.MultiHeadAttention(8, 4, num_kv_heads=3)
    with pytest.raises(ValueError, match="Attention: dropout is the share dropped"):
        nn.MultiHeadAttention(8, 4, dropout=1.5)


def test_grouped_queries_equal_repeated_keys_and_values():
    """Two heads of k and v serve six of q: the same as copying each three times."""
    few = nn.MultiHeadAttention(12, 6, num_kv_heads=2, rng=0, dtype=np.float64)
    all_ = nn.MultiHeadAttention(12, 6, rng=1, dtype=np.float64)
    state = few.state_dict()
    for name in ("k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias"):
        heads = state[name].reshape(2, 2, -1)  # [Hkv, d, ...]
        state[name] = np.repeat(heads, 3, axis=0).reshape(12, *state[name].shape[1:])
    all_.load_state_dict(state)
    x = x_of(2, 5, 12)
    assert np.allclose(few(x).data, all_(x).data, rtol=0, atol=1e-14)


def test_cross_attention_and_masks():
    layer = nn.MultiHeadAttention(6, 2, rng=0, dtype=np.float64)
    query, memory = x_of(2, 3, 6), x_of(2, 5, 6, seed=1)
    assert layer(query, memory).shape == (2, 3, 6)
    mask = np.arange(5) < 4  # the last position of memory is padding
    y = layer(query, memory, mask=mask)
    assert np.allclose(y.data, layer(query, memory[:, :4]).data, rtol=0, atol=1e-14)
    y.backward(np.ones(y.shape))
    assert not memory.grad.data[:, 4].any()
    assert memory.grad.data[:, 3].all()


def test_attention_dropout_is_seeded_and_off_in_evaluation():
    def make():
        return nn.MultiHeadAttention(6, 2, dropout=0.5, rng=0, dtype=np.float64)

    x = x_of(2, 5, 6)
    layer = make()
    y = layer(x)
    assert np.array_equal(make()(x).data, y.data)
    assert not np.array_equal(layer(x).data, y.data)
    plain = nn.MultiHeadAttention(6, 2, rng=0, dtype=np.float64)
    assert np.array_equal(layer.eval()(x).data, plain(x).data)


def test_recording_keeps_the_result_and_the_weights():
    layer = nn.MultiHeadAttention(6, 2, causal=True, rng=0, dtype=np.float64)
    x = x_of(4, 6)
    want = layer(x)
    layer.attend.recorded = []
    y = layer(x)
    (weights,) = layer.attend.recorded
    assert np.array_equal(y.data, want.data)
    assert weights.shape == (2, 4, 4)
    v = (x.data @ layer.v_proj.weight.data.T + layer.v_proj.bias.data).reshape(4, 2, 3)
    merged = np.einsum("hij,jhd->ihd", weights, v).reshape(4, 6)
    merged = merged @ layer.out_proj.weight.data.T + layer.out_proj.bias.data
    assert np.allclose(y.data, merged, rtol=0, atol=1e-14)
