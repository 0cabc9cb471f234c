"""GPT by itself. (Beside transformers' GPT-2: tests/parity/test_gpt2.py.)"""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

import scratchlm
import scratchlm.functional as F
from scratchlm import Tensor, assert_gradients, nn, optim
from scratchlm.models import GPT, GPTConfig

TINY = GPTConfig(vocab_size=11, block_size=7, n_layer=2, n_head=2, n_embd=6)


def tiny(rng=0, dtype=np.float64, **changes) -> GPT:
    return GPT(dataclasses.replace(TINY, **changes), rng=rng, dtype=dtype)


def ids_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(TINY.vocab_size, size=shape)


# -- configuration ---------------------------------------------------------------------------------


def test_a_configuration_survives_json():
    config = GPTConfig(65, 64, 4, 4, 128, dropout=0.1, bias=False)
    assert GPTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.n_layer = 5
    with pytest.raises(ValueError, match="GPTConfig has no 'n_layers', 'width'; it has vocab_size"):
        GPTConfig.from_dict({"n_layers": 3, "width": 3})


def test_a_wrong_configuration_names_every_reason():
    with pytest.raises(ValueError) as caught:
        GPTConfig(vocab_size=0, n_layer=-1, dropout=1.0, eps=0.0)
    assert str(caught.value) == (
        "GPTConfig: vocab_size=0 is below 1; n_layer=-1 is below 1; "
        "dropout=1.0 lies outside [0, 1); eps=0.0 is not positive"
    )
    with pytest.raises(ValueError, match="n_embd=10 does not split evenly into n_head=4 heads"):
        GPTConfig(n_embd=10, n_head=4)
    for wrong in (1.5, "12", True, None):
        with pytest.raises(TypeError, match="n_layer is an integer, not"):
            GPTConfig(n_layer=wrong)


# -- shapes and names ------------------------------------------------------------------------------


def test_names_and_shapes_are_gpt2s():
    shapes = {name: p.shape for name, p in tiny().named_parameters()}
    assert shapes["transformer.wte.weight"] == (11, 6)
    assert shapes["transformer.wpe.weight"] == (7, 6)
    block = {
        name.removeprefix("transformer.h.1."): shape
        for name, shape in shapes.items()
        if name.startswith("transformer.h.1.")
    }
    assert block == {
        "ln_1.weight": (6,),
        "ln_1.bias": (6,),
        "attn.c_attn.weight": (18, 6),
        "attn.c_attn.bias": (18,),
        "attn.c_proj.weight": (6, 6),
        "attn.c_proj.bias": (6,),
        "ln_2.weight": (6,),
        "ln_2.bias": (6,),
        "mlp.c_fc.weight": (24, 6),
        "mlp.c_fc.bias": (24,),
        "mlp.c_proj.weight": (6, 24),
        "mlp.c_proj.bias": (6,),
    }
    assert "lm_head.weight" not in shapes
    assert len(shapes) == 2 + 2 * 12 + 2


def test_number_of_parameters():
    def count(V, T, C, L):
        block = 12 * C * C + 13 * C  # 3C² + C² + 4C² + 4C², biases 3C + C + 4C + C, norms 4C
        return V * C + T * C + L * block + 2 * C

    assert tiny().num_parameters() == count(11, 7, 6, 2)
    assert tiny(tie_weights=False).num_parameters() == count(11, 7, 6, 2) + 66
    assert count(50257, 1024, 768, 12) == 124_439_808  # GPT-2's smallest, as published


def test_without_bias_there_is_none():
    assert not [name for name, _ in tiny(bias=False).named_parameters() if name.endswith("bias")]
    logits, loss = tiny(bias=False)(ids_of(2, 5), ids_of(2, 5, seed=1))
    assert logits.shape == (2, 5, 11)
    assert loss.shape == ()


def test_one_sequence_equals_a_batch_of_one():
    model, ids = tiny(), ids_of(5)
    assert np.array_equal(model(ids).data, model(ids[None]).data[0])
    assert np.array_equal(model(ids.tolist()).data, model(ids).data)
    assert model(ids).shape == (5, 11)


def test_float32_is_the_default_and_stays():
    model = GPT(TINY, rng=0)
    logits, loss = model(ids_of(2, 5), ids_of(2, 5, seed=1))
    loss.backward()
    assert logits.dtype == loss.dtype == np.float32
    assert {p.grad.dtype for p in model.parameters()} == {np.dtype(np.float32)}


def test_bad_input_is_named():
    model = tiny()
    with pytest.raises(ValueError, match=r"hold 8 tokens, .* 1 to 7 \(block_size\); keep the last"):
        model(ids_of(2, 8))
    with pytest.raises(ValueError, match="hold 0 tokens"):
        model(ids_of(2, 0))
    with pytest.raises(ValueError, match=r"ids have shape \(1, 2, 3\); give \(T,\) or \(B, T\)"):
        model(ids_of(1, 2, 3))
    with pytest.raises(ValueError, match=r"ids have shape \(\)"):
        model(3)
    with pytest.raises(IndexError, match=r"id 11 at index \(0,\) is outside \[0, 11\)"):
        model([11])
    with pytest.raises(IndexError, match="id -1"):
        model([-1])
    with pytest.raises(TypeError, match="ids must be integers"):
        model([0.5])
    with pytest.raises(ValueError, match=r"logits \(2, 5, 11\) need targets of shape \(2, 5\)"):
        model(ids_of(2, 5), ids_of(2, 4))


# -- the initial state -----------------------------------------------------------------------------


def test_a_seed_decides_everything():
    assert all(
        np.array_equal(a.data, b.data)
        for a, b in zip(tiny(3).parameters(), tiny(3).parameters(), strict=True)
    )
    assert not np.array_equal(tiny(3).lm_head.weight.data, tiny(4).lm_head.weight.data)
    drop = [tiny(3, dropout=0.5)(ids_of(2, 5)).data for _ in range(2)]
    assert np.array_equal(*drop)


def test_the_first_loss_is_that_of_guessing():
    """ln V, within 2%: at the start no token is likelier than another."""
    config = GPTConfig(vocab_size=65, block_size=64, n_layer=4, n_head=4, n_embd=128)
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(65, size=(2, 4, 64))
    _, loss = GPT(config, rng=0)(ids, targets)
    assert loss.item() == pytest.approx(math.log(65), rel=0.02)


def test_residual_projections_start_smaller():
    config = GPTConfig(vocab_size=50, block_size=32, n_layer=8, n_head=2, n_embd=64)
    for name, p in GPT(config, rng=0).named_parameters():
        if name.endswith("c_proj.weight"):
            want = 0.02 / math.sqrt(16)
        elif name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")):
            assert np.all(p.data == 1)
            continue
        elif name.endswith("bias"):
            assert np.all(p.data == 0)
            continue
        else:
            want = 0.02
        # 2048 draws or more: 4 / sqrt(2 × 2048) = 6%
        assert p.data.std() == pytest.approx(want, rel=0.06), name


# -- what it computes ------------------------------------------------------------------------------


def test_no_position_sees_a_later_one():
    """Change token t: no logit before t may move, by even one bit, and those from t on must."""
    model = GPT(TINY, rng=0, dtype=np.float64, std=0.5)
    ids = ids_of(7)
    before = model(ids).data
    for t in range(7):
        changed = ids.copy()
        changed[t] = (ids[t] + 1) % TINY.vocab_size
        after = model(changed).data
        assert np.array_equal(after[:t], before[:t])
        assert np.all(np.any(after[t:] != before[t:], axis=-1))


def test_no_gradient_comes_from_a_later_position():
    model = GPT(TINY, rng=0, dtype=np.float64, std=0.5)
    ids, weights = np.arange(7), np.random.default_rng(1).standard_normal(TINY.n_embd)
    for t in range(7):
        model.zero_grad()
        # weighed at random: the plain sum of a layer norm is constant, its gradient rounding alone
        (model.transformer(ids)[t] * weights).sum().backward()
        rows = np.any(model.transformer.wpe.weight.grad.data != 0, axis=-1)
        assert rows[: t + 1].all() or t == 0
        assert not rows[t + 1 :].any()


def test_gradients_of_the_whole_model():
    """Every parameter of a two-layer GPT against central differences, through the loss."""
    model = GPT(TINY, rng=0, dtype=np.float64, std=0.5)
    ids, targets = ids_of(2, 5), ids_of(2, 5, seed=1)
    targets[0, 0] = -100
    names = [name for name, _ in model.named_parameters()]
    rng = np.random.default_rng(2)
    values = [p.data + 0.1 * rng.standard_normal(p.shape) for p in model.parameters()]

    def loss(*tensors):
        return nn.functional_call(model, dict(zip(names, tensors, strict=True)), ids, targets)[1]

    assert_gradients(loss, *values, names=names)


def test_the_tied_table_collects_the_gradients_of_both_its_uses():
    model, apart = tiny(), tiny(tie_weights=False)
    state = model.state_dict()
    apart.load_state_dict({**state, "lm_head.weight": state["transformer.wte.weight"]})
    ids, targets = ids_of(2, 5), ids_of(2, 5, seed=1)
    for each in (model, apart):
        each(ids, targets)[1].backward()
    table = model.transformer.wte.weight
    assert model.lm_head.weight is table
    assert sum(p is table for p in model.parameters()) == 1
    both = apart.transformer.wte.weight.grad.data + apart.lm_head.weight.grad.data
    # the two sums add their three terms or more in another order
    assert np.allclose(table.grad.data, both, rtol=0, atol=1e-15)
    assert apart.lm_head.weight.grad.data.any()


def test_an_optimizer_steps_a_tied_weight_once():
    model = tiny()
    ids, targets = ids_of(2, 5), ids_of(2, 5, seed=1)
    model(ids, targets)[1].backward()
    table = model.transformer.wte.weight
    want = table.data - 0.5 * table.grad.data
    optim.SGD(model.parameters(), lr=0.5).step()
    assert np.array_equal(model.lm_head.weight.data, want)


def test_dropout_acts_in_training_only():
    model = tiny(dropout=0.5)
    ids = ids_of(2, 5)
    assert not np.array_equal(model(ids).data, model(ids).data)
    plain = tiny()
    plain.load_state_dict(model.state_dict())
    assert np.array_equal(model.eval()(ids).data, plain(ids).data)
    assert list(model.rng_state()) == ["transformer.drop.rng"]  # one generator, shared by all


def test_it_learns_one_batch_by_heart():
    """Plain gradient descent by hand, to a loss below 0.1."""
    model = GPT(TINY, rng=0, std=0.2)
    ids = ids_of(2, 7, seed=3)
    targets = np.roll(ids, -1, axis=1)
    first = model(ids, targets)[1].item()
    for _ in range(250):
        model.zero_grad()
        _, loss = model(ids, targets)
        loss.backward()
        with scratchlm.no_grad():
            for p in model.parameters():
                p.sub_(p.grad.data * 0.3)
    assert first > 2
    assert loss.item() < 0.1


def test_a_students_op_trains_the_model():
    """An op that is used by name takes part in training; a broken one is noticed."""

    def softplus_for_gelu(x, *, approximate="none"):
        y = np.logaddexp(0, x)
        return y, lambda dy: dy / (1 + np.exp(-x))

    model, ids = tiny(), ids_of(2, 5)
    usual = model(ids).data
    with scratchlm.use(gelu=softplus_for_gelu):
        assert not np.array_equal(model(ids).data, usual)
    assert np.array_equal(model(ids).data, usual)


def test_state_round_trip():
    model, other = tiny(0), tiny(1)
    ids = ids_of(2, 5)
    assert not np.array_equal(model(ids).data, other(ids).data)
    other.load_state_dict(model.state_dict())
    assert np.array_equal(model(ids).data, other(ids).data)
    with pytest.raises(ValueError, match=r"wte.weight: the module has shape \(12, 6\), the state"):
        tiny(vocab_size=12).load_state_dict(model.state_dict())


def test_errors_speak_of_parameters_by_their_full_name():
    model = tiny()
    _, loss = model(ids_of(2, 5), ids_of(2, 5))
    with scratchlm.no_grad():
        model.transformer.h[1].mlp.c_fc.weight.mul_(2.0)
    with pytest.raises(
        RuntimeError, match=r"linear: .* \(transformer.h.1.mlp.c_fc.weight\) was changed"
    ):
        loss.backward()


def test_repr_shows_the_layers():
    text = repr(tiny())
    assert "(h): ModuleList(\n      (0-1): 2 x Block(" in text
    assert "(c_attn): Linear(in_features=6, out_features=18, bias=True)" in text
    assert "(attend): Attention(causal=True, dropout=0.0)" in text


def test_no_op_is_left_behind_on_the_tape_without_gradients():
    with scratchlm.no_grad():
        logits, loss = tiny()(Tensor(ids_of(2, 5)), ids_of(2, 5))
    assert logits.is_leaf
    assert not loss.requires_grad
    assert loss.item() == F.cross_entropy(logits, ids_of(2, 5)).item()
