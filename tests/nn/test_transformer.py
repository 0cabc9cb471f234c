"""Encoder and decoder layers: masks, modes, gradients, errors. (Equality with PyTorch: parity.)"""

from __future__ import annotations

import numpy as np
import pytest

from scratchlm import Tensor, assert_gradients, nn

RNG = np.random.default_rng
F64 = {"dropout": 0.0, "dtype": np.float64, "rng": 1}


def x_of(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(RNG(seed).standard_normal(shape), requires_grad=True)


def checked(layer, *inputs, **masks):
    """Gradients of every input and of every parameter, beside central differences."""
    names = [name for name, _ in layer.named_parameters()]
    values = [RNG(i).standard_normal(p.shape) for i, p in enumerate(layer.parameters())]
    count = len(inputs)

    def call(*arrays):
        parameters = dict(zip(names, arrays[count:], strict=True))
        return nn.functional_call(layer, parameters, *arrays[:count], **masks)

    assert_gradients(call, *(x.data for x in inputs), *values)


@pytest.mark.parametrize("norm_first", [False, True])
def test_gradients_of_an_encoder_layer(norm_first):
    layer = nn.TransformerEncoderLayer(4, 2, 3, activation="gelu", norm_first=norm_first, **F64)
    padding = np.array([[False, False, False], [False, False, True]])
    checked(layer, x_of(2, 3, 4), src_key_padding_mask=padding)


@pytest.mark.parametrize("norm_first", [False, True])
def test_gradients_of_a_decoder_layer(norm_first):
    layer = nn.TransformerDecoderLayer(4, 2, 3, activation="gelu", norm_first=norm_first, **F64)
    mask = np.array([[True, False], [True, True], [False, True]])
    checked(layer, x_of(3, 4), x_of(2, 4, seed=1), memory_mask=mask)


@pytest.mark.parametrize("activation", ["gelu", "silu", "sigmoid"])
def test_a_gated_feed_forward(activation):
    layer = nn.FeedForward(3, 5, activation, gated=True, dtype=np.float64, rng=0)
    checked(layer, x_of(2, 3))
    x = x_of(7, 3)
    f = nn.ACTIVATIONS[activation]
    want = layer.fc2(f(layer.gate(x)) * layer.fc1(x))
    assert np.abs(layer(x).data - want.data).max() < 1e-15  # the same products, in one order
    assert "gated" in repr(layer)
    assert not any("gate" in name for name, _ in nn.FeedForward(3).named_parameters())


def test_what_stands_at_padding_changes_nothing_elsewhere():
    model = nn.Transformer(8, 2, 2, 2, norm_first=True, **F64)
    source, target = x_of(2, 5, 8), x_of(2, 4, 8, seed=1)
    padding = np.array([[False] * 5, [False] * 3 + [True] * 2])
    before = model(source, target, src_key_padding_mask=padding)
    other = source.data.copy()
    other[1, 3:] = 1e3
    after = model(Tensor(other), target, src_key_padding_mask=padding)
    assert np.array_equal(before.data, after.data)
    assert not np.array_equal(model(source, target).data, model(Tensor(other), target).data)
    before.backward(RNG(2).standard_normal(before.shape))
    assert not source.grad.data[1, 3:].any()
    assert source.grad.data[1, :3].any()


@pytest.mark.parametrize("T", [1, 5])
def test_no_position_of_a_decoder_sees_a_later_one(T):
    model = nn.TransformerDecoder(8, 2, 2, **F64)
    memory, target = x_of(2, 3, 8), x_of(2, T, 8, seed=1)
    y = model(target, memory)
    for t in range(T):
        other = target.data.copy()
        other[:, t:] += 1
        moved = model(Tensor(other), memory).data - y.data
        assert not moved[:, :t].any()
        assert moved[:, t:].any(axis=(0, 2)).all()
    free = nn.TransformerDecoder(8, 2, 2, causal=False, **F64)
    other = target.data.copy()
    other[:, -1] += 1
    assert (free(Tensor(other), memory).data != free(target, memory).data)[:, 0].any()


def test_a_source_of_padding_alone_gives_finite_numbers():
    layer = nn.TransformerDecoderLayer(6, 2, **F64)
    target, memory = x_of(1, 3, 6), x_of(1, 4, 6, seed=1)
    y = layer(target, memory, memory_key_padding_mask=np.ones((1, 4), bool))
    y.backward(np.ones(y.shape))
    assert np.isfinite(y.data).all()
    assert not memory.grad.data.any()
    without = layer.cross_attn.out_proj.bias.data  # attention gives 0, the projection its bias
    got = layer.cross_attn(target, memory, key_padding_mask=np.ones((1, 4), bool)).data
    assert np.array_equal(got, np.broadcast_to(without, got.shape))


@pytest.mark.parametrize("kind", ["boolean", "additive", "a tensor", "float32"])
def test_a_mask_and_padding_together(kind):
    layer = nn.MultiHeadAttention(6, 3, dtype=np.float64, rng=0)
    x = x_of(2, 4, 6)
    may = RNG(1).random((4, 4)) < 0.6
    may[:, 0] = True
    padding = np.array([[False, True, False, False], [False] * 4])
    both = may & ~padding[:, None, None, :]
    mask = may if kind in ("boolean", "a tensor") else np.where(may, 0.0, -np.inf)
    mask = mask.astype(np.float32) if kind == "float32" else mask
    mask = Tensor(mask) if kind == "a tensor" else mask
    got = layer(x, mask=mask, key_padding_mask=padding)
    assert np.array_equal(got.data, layer(x, mask=both).data)
    assert np.array_equal(layer(x, key_padding_mask=padding.tolist()).data,
                          layer(x, mask=~padding[:, None, None, :]).data)  # fmt: skip


def test_a_stack_draws_its_layers_one_by_one_from_a_seed():
    first, again = (nn.TransformerEncoder(6, 2, 2, rng=3).state_dict() for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    name = "self_attn.q_proj.weight"
    assert not np.array_equal(first[f"layers.0.{name}"], first[f"layers.1.{name}"])


def test_a_norm_comes_last_in_pre_norm_and_where_it_is_asked_for():
    assert nn.TransformerEncoder(4, 2, 1).norm is None
    assert nn.TransformerEncoder(4, 2, 1, final_norm=True).norm is not None
    assert nn.TransformerDecoder(4, 2, 1, norm_first=True, bias=False).norm.bias is None
    assert nn.TransformerDecoder(4, 2, 1, norm_first=True, layer_norm_eps=0.1).norm.eps == 0.1
    x = x_of(2, 5, 4)
    y = nn.TransformerEncoder(4, 2, 3, norm_first=True, **F64)(x)
    assert np.abs(y.data.mean(axis=-1)).max() < 1e-12  # a mean of 4 numbers near 1


def test_dropout_is_drawn_in_training_only():
    model = nn.Transformer(8, 2, 1, 1, dropout=0.5, rng=0)
    source, target = x_of(2, 5, 8).astype(np.float32), x_of(2, 4, 8).astype(np.float32)
    assert not np.array_equal(model(source, target).data, model(source, target).data)
    model.eval()
    assert np.array_equal(model(source, target).data, model(source, target).data)
    for name, part in model.named_modules():
        if isinstance(part, nn.Dropout):
            assert part.p == 0.5, name
        if isinstance(part, nn.Attention):
            assert part.dropout == 0.5, name


def test_float32_stays_float32():
    model = nn.Transformer(8, 2, 2, 2, norm_first=True, rng=0)
    source = Tensor(RNG(0).standard_normal((2, 5, 8), dtype=np.float32), requires_grad=True)
    padding = np.arange(5) >= np.array([[5], [3]])
    y = model(source, source, src_key_padding_mask=padding)
    y.backward(np.ones(y.shape, np.float32))
    assert y.dtype == source.grad.dtype == np.float32


ENCODER = {"d_model": 6, "nhead": 2, "rng": 0}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: nn.TransformerEncoderLayer(7, 2),
            ValueError,
            "embed_dim=7 does not split evenly into num_heads=2",
        ),
        (
            lambda: nn.TransformerEncoderLayer(6, 2, activation="swish"),
            ValueError,
            "there is no activation 'swish'",
        ),
        (lambda: nn.TransformerEncoder(6, 2, 1, norm_frist=True), TypeError, "norm_frist"),
        (lambda: nn.TransformerEncoderLayer(6, 2, dropout=1.0), ValueError, "dropout"),
        (
            lambda: nn.TransformerEncoderLayer(**ENCODER)(np.zeros((2, 3, 5), np.float32)),
            ValueError,
            r"query \(2, 3, 5\).*each must be \(\.\.\., length, 6\)",
        ),
        (
            lambda: nn.TransformerEncoderLayer(**ENCODER)(np.zeros(6, np.float32)),
            ValueError,
            r"each must be \(\.\.\., length, 6\)",
        ),
        (
            lambda: nn.TransformerDecoderLayer(**ENCODER)(
                np.zeros((2, 3, 6), np.float32), np.zeros((4, 3, 6), np.float32)
            ),
            ValueError,
            "the axes before the length must agree",
        ),
        (
            lambda: nn.MultiHeadAttention(6, 2)(*(np.zeros((n, 6), np.float32) for n in (2, 3, 4))),
            ValueError,
            "their lengths must agree",
        ),
        (
            lambda: nn.TransformerEncoderLayer(**ENCODER)(
                np.zeros((2, 3, 6), np.float32), src_key_padding_mask=np.zeros((3, 2), bool)
            ),
            ValueError,
            r"key_padding_mask has shape \(3, 2\).*give it \(2, 3\)",
        ),
        (
            lambda: nn.TransformerEncoderLayer(**ENCODER)(
                np.zeros((2, 3, 6), np.float32), src_key_padding_mask=np.zeros((2, 3))
            ),
            TypeError,
            "key_padding_mask is float64; it is boolean",
        ),
        (
            lambda: nn.TransformerEncoderLayer(**ENCODER)(
                np.zeros((2, 3, 6), np.float32), src_mask=np.zeros((2, 3), bool)
            ),
            ValueError,
            "mask has shape",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
