"""Positions beside transformers: Llama's and GPT-J's rotations, T5's bias, sinusoids."""

from __future__ import annotations

import math

import numpy as np
import pytest

import scratchlm.functional as F
from scratchlm import Tensor, nn
from scratchlm.nn.positions import relative_position_bucket

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

EXACT = 1e-12  # float64: a rotation adds two products
RNG = np.random.default_rng


def difference(got, want):
    want = np.asarray(want)
    assert got.shape == want.shape
    return np.abs(got - want).max()


def compare(ours, theirs, shape, tolerance):
    """Values and gradients of two functions of one array, under a random cotangent."""
    value, cotangent = (RNG(seed).standard_normal(shape) for seed in (1, 2))
    x, x_ = Tensor(value, requires_grad=True), torch.tensor(value, requires_grad=True)
    y, y_ = ours(x), theirs(x_)
    y.backward(cotangent)
    y_.backward(torch.from_numpy(cotangent))
    assert difference(y.data, y_.detach().numpy()) < tolerance
    assert difference(x.grad.data, x_.grad.numpy()) < tolerance
    return y.data, y_.detach().numpy()


def angles(positions, dim, base=10000.0):
    """``[N, dim / 2]`` in float64: what transformers computes in float32."""
    return np.asarray(positions)[:, None] * base ** (-np.arange(0, dim, 2) / dim)


@pytest.mark.parametrize(("offset", "base"), [(0, 10000.0), (700, 500000.0)])
def test_the_halves_are_llamas(offset, base):
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    angle = torch.from_numpy(np.tile(angles(offset + np.arange(9), 16, base), 2))[None]

    def theirs(x):
        return apply_rotary_pos_emb(x, x, angle.cos(), angle.sin())[0]

    def ours(x):
        return F.rope(x, offset=offset, base=base, interleaved=False)

    compare(ours, theirs, (2, 3, 9, 16), EXACT)
    # planted: the other pairing, and positions that are off by one
    x = Tensor(RNG(1).standard_normal((2, 3, 9, 16)))
    right = theirs(torch.from_numpy(x.data)).numpy()
    assert difference(F.rope(x, offset=offset, base=base).data, right) > 0.1
    assert difference(ours(x[..., :-1, :]).data, right[..., 1:, :]) > 0.1


def test_llamas_own_module_agrees_to_the_rounding_of_its_angles():
    """It computes angles in float32: at position p an angle is off by up to 2^-24 p, and a pair
    of numbers below 6 then by 6 times that."""
    from transformers.models.llama.modeling_llama import (
        LlamaConfig,
        LlamaRotaryEmbedding,
        apply_rotary_pos_emb,
    )

    embedding = LlamaRotaryEmbedding(LlamaConfig(hidden_size=64, num_attention_heads=4))
    x = RNG(0).standard_normal((1, 4, 200, 16))
    x_ = torch.from_numpy(x)
    cos, sin = embedding(x_, torch.arange(200)[None])
    want = apply_rotary_pos_emb(x_, x_, cos, sin)[0].numpy()
    got = nn.RotaryPositions(interleaved=False)(Tensor(x)).data
    assert difference(got, want) < 6 * 200 * 2.0**-23


@pytest.mark.parametrize("rotary_dim", [8, 20])
def test_the_interleaved_pairs_are_gpt_js(rotary_dim):
    """GPT-J has (batch, position, head, feature), and turns a part of the features."""
    from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb

    positions = RNG(3).integers(0, 2000, 7)
    angle = torch.from_numpy(angles(positions, rotary_dim))[None]

    def theirs(x):
        x = x.transpose(1, 2)
        turned = apply_rotary_pos_emb(x[..., :rotary_dim], angle.sin(), angle.cos())
        return torch.cat([turned, x[..., rotary_dim:]], -1).transpose(1, 2)

    def ours(x):
        return F.rope(x, positions=positions, rotary_dim=rotary_dim)

    compare(ours, theirs, (2, 3, 7, 20), EXACT)
    with pytest.raises(AssertionError):  # planted: all features turned, or the wrong pairs
        compare(lambda x: F.rope(x, positions=positions, interleaved=False), theirs,
                (2, 3, 7, 20), EXACT)  # fmt: skip


def test_sinusoids_are_marians_with_sines_and_cosines_side_by_side():
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

    table = nn.sinusoids(300, 24)
    want = MarianSinusoidalPositionalEmbedding(300, 24).create_weight().numpy()  # sines, cosines
    assert difference(np.concatenate([table[:, 0::2], table[:, 1::2]], axis=1), want) < 2.0**-24
    for p, i in [(0, 0), (1, 0), (299, 5), (123, 11)]:
        angle = p / 10000 ** (2 * i / 24)
        assert table[p, 2 * i] == pytest.approx(math.sin(angle), abs=1e-13)
        assert table[p, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-13)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(
    ("num_buckets", "max_distance"), [(32, 128), (32, 256), (64, 128), (16, 1000), (8, 20), (6, 7)]
)
def test_buckets_are_t5s(num_buckets, max_distance, bidirectional):
    from transformers.models.t5.modeling_t5 import T5Attention

    relative = np.arange(-3000, 3001)
    options = (bidirectional, num_buckets, max_distance)
    want = T5Attention._relative_position_bucket(torch.from_numpy(relative), *options).numpy()
    np.testing.assert_array_equal(relative_position_bucket(relative, *options), want)
    # planted: query minus key
    assert (relative_position_bucket(-relative, *options) != want).any()


@pytest.mark.parametrize("decoder", [False, True])
@pytest.mark.parametrize("queries", [40, 3])
def test_the_bias_is_t5s_and_so_is_its_gradient(queries, decoder):
    """In T5's own attention, without a scale; 3 queries stand at the end of 40 keys, as with a
    cache."""
    from transformers.models.t5.modeling_t5 import T5Attention, T5Config

    config = T5Config(d_model=12, d_kv=4, num_heads=3, is_decoder=decoder, dropout_rate=0.0)
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0).double()
    ours = nn.RelativePositionBias(3, bidirectional=not decoder, dtype=np.float64)
    attention = nn.MultiHeadAttention(12, 3, scale=1.0, bias=False, dtype=np.float64)
    table = RNG(0).standard_normal((32, 3))
    projections = [RNG(i).standard_normal((12, 12)) / 4 for i in range(1, 5)]
    ours.weight.data[...] = table
    with torch.no_grad():
        theirs.relative_attention_bias.weight.copy_(torch.from_numpy(table))
        for mine, name, values in zip(("q_proj", "k_proj", "v_proj", "out_proj"), "qkvo",
                                      projections, strict=True):  # fmt: skip
            getattr(attention, mine).weight.data[...] = values
            getattr(theirs, name).weight.copy_(torch.from_numpy(values))

    bias = ours(queries, 40)
    bias_ = theirs.compute_bias(queries, 40, past_seen_tokens=40 - queries)
    assert difference(bias.data, bias_[0].detach().numpy()) == 0

    x, dy = RNG(5).standard_normal((2, 40, 12)), RNG(6).standard_normal((2, queries, 12))
    x_ = torch.from_numpy(x)
    q, k, v = (getattr(theirs, n)(y).unflatten(-1, (3, 4)).transpose(1, 2)
               for n, y in zip("qkv", (x_[:, 40 - queries :], x_, x_), strict=True))  # fmt: skip
    y_ = torch.softmax(q @ k.mT + bias_, -1) @ v
    y_ = theirs.o(y_.transpose(1, 2).flatten(-2))
    if queries == 40 and not decoder:  # the module as a whole
        assert difference(y_.detach().numpy(), theirs(x_)[0].detach().numpy()) < EXACT
    y_.backward(torch.from_numpy(dy))
    y = attention(Tensor(x[:, 40 - queries :]), Tensor(x), bias=bias)
    y.backward(dy)
    assert difference(y.data, y_.detach().numpy()) < 1e-11
    # each entry adds up the cotangents of some hundred scores
    found, want = ours.weight.grad.data, theirs.relative_attention_bias.weight.grad.numpy()
    assert difference(found, want) < 1e-10
    # planted: duplicate buckets that overwrite instead of adding
    assert np.abs(want).max() > 1e-3
