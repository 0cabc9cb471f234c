"""Writing: the likeliest token by hand, chance with the right frequencies, bad options refused."""

import numpy as np
import pytest

from scratchlm import Tensor
from scratchlm.generate import generate, next_token_probabilities, stream
from scratchlm.models import GPT, GPTConfig
from scratchlm.nn import Module, Parameter

V, BLOCK = 7, 5


@pytest.fixture(scope="module")
def model():
    sizes = GPTConfig(V, BLOCK, n_layer=2, n_head=2, n_embd=8, dropout=0.5)
    return GPT(sizes, rng=0, std=0.5)


class Fixed(Module):
    """Always the same logits."""

    def __init__(self, logits):
        self.logits = Parameter(np.asarray(logits, dtype=np.float64))

    def forward(self, ids):
        return Tensor(np.broadcast_to(self.logits.data, (*ids.shape, len(self.logits.data))).copy())


def by_hand(model, ids, count):
    """Greedy: the last BLOCK ids in, the index of the largest logit out."""
    ids = list(ids)
    modes = [m.training for m in model.modules()]
    model.eval()
    for _ in range(count):
        ids.append(int(np.argmax(model(np.array(ids[-BLOCK:])[None]).data[0, -1])))
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return ids


@pytest.mark.parametrize("options", [{"greedy": True}, {"temperature": 0}, {"top_k": 1}])
def test_greedy_is_argmax_by_hand_also_past_the_block(model, options):
    for prompt in ([3], [1, 2, 3, 4, 5, 6, 0]):
        ids = generate(model, prompt, 12, **options)
        assert ids.tolist() == by_hand(model, prompt, 12)
        assert ids.dtype == np.int64


def test_greedy_is_the_limit_of_low_temperature(model):
    cold = generate(model, [1, 2], 10, temperature=1e-3, seed=0)
    assert cold.tolist() == by_hand(model, [1, 2], 10)


def test_rows_are_independent(model):
    batch = generate(model, [[1, 2], [3, 4]], 6, greedy=True)
    assert batch.shape == (2, 8)
    for row in batch:
        assert row.tolist() == by_hand(model, row[:2], 6)


def test_a_seed_writes_the_same_and_another_one_does_not(model):
    a = generate(model, [1], 30, seed=1)
    assert a.tolist() == generate(model, [1], 30, rng=np.random.default_rng(1)).tolist()
    assert a.tolist() != generate(model, [1], 30, seed=2).tolist()
    assert [int(i) for i in stream(model, [1], 30, seed=1)] == a[1:].tolist()


def test_dropout_is_off_and_the_mode_comes_back(model):
    model.train()
    model.transformer.drop.eval()  # a part frozen on purpose
    before = model.rng_state()
    generate(model, [1], 3, seed=0)
    assert [m.training for m in (model, model.transformer.drop)] == [True, False]
    assert model.rng_state() == before
    model.train()


def test_frequencies_follow_the_probabilities():
    logits = np.array([1.0, -np.inf, 3.0, 2.0, 0.0])
    model = Fixed(logits)
    draws = generate(model, np.zeros((20_000, 1), int), 1, temperature=0.7, seed=0)[:, 1]
    p = np.exp(logits / 0.7)
    p /= p.sum()
    # a standard error is at most 0.5 / sqrt(20000) = 0.0035
    np.testing.assert_allclose(np.bincount(draws, minlength=5) / 20_000, p, atol=0.0175)
    assert not (draws == 1).any()
    draws = generate(model, np.zeros((2000, 1), int), 1, top_k=2, seed=0)[:, 1]
    assert set(draws.tolist()) == {2, 3}


def test_probabilities_by_hand():
    logits = np.log(np.array([[1.0, 2.0, 4.0, 1.0]]))
    p = next_token_probabilities(logits)
    np.testing.assert_allclose(p, [[1 / 8, 2 / 8, 4 / 8, 1 / 8]], rtol=1e-14)
    p = next_token_probabilities(logits, temperature=0.5)  # squares
    np.testing.assert_allclose(p, np.array([[1, 4, 16, 1]]) / 22, rtol=1e-14)
    p = next_token_probabilities(logits, top_k=2)
    np.testing.assert_allclose(p, [[0, 2 / 6, 4 / 6, 0]], rtol=1e-14)
    p = next_token_probabilities(logits, top_k=3)  # a tie: exactly three stay
    np.testing.assert_allclose(p, [[1 / 7, 2 / 7, 4 / 7, 0]], rtol=1e-14)
    p = next_token_probabilities(np.array([1e4, -1e4, 1e4]), temperature=1e-3)
    np.testing.assert_array_equal(p, [0.5, 0, 0.5])
    p = next_token_probabilities(np.array([1.0, 3.0, 3.0]), temperature=0)
    np.testing.assert_array_equal(p, [0, 1, 0])


def test_nothing_to_write(model):
    assert generate(model, [1, 2], 0).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("ids", "options", "error", "words"),
    [
        ([], {}, ValueError, "at least one id"),
        ([[[1]]], {}, ValueError, r"shape \(1, 1, 1\)"),
        ([V], {}, IndexError, r"id 7 at index \(0,\)"),
        ([-1], {}, IndexError, "id -1"),
        ([0.5], {}, TypeError, "ids must be integers"),
        ([1], {"temperature": -1}, ValueError, "temperature=-1 must be finite"),
        ([1], {"temperature": np.nan}, ValueError, "temperature=nan"),
        ([1], {"temperature": np.inf}, ValueError, "temperature=inf"),
        ([1], {"top_k": 0}, ValueError, "top_k=0 .* at most 7"),
        ([1], {"top_k": 8}, ValueError, "top_k=8"),
        ([1], {"top_k": 1.5}, ValueError, "top_k=1.5"),
        ([1], {"greedy": True, "temperature": 0.5}, ValueError, "greedy takes the likeliest"),
        ([1], {"greedy": True, "top_k": 3}, ValueError, "greedy takes the likeliest"),
        ([1], {"rng": np.random.default_rng(0), "seed": 0}, ValueError, "rng or seed, not both"),
        ([1], {"tau": 0.9}, TypeError, "tau"),
    ],
)
def test_bad_input(model, ids, options, error, words):
    with pytest.raises(error, match=words):
        generate(model, ids, 3, **options)


def test_a_negative_number_of_tokens(model):
    with pytest.raises(ValueError, match="max_new_tokens=-1"):
        generate(model, [1], -1)


@pytest.mark.parametrize("bad", [[0.0, np.nan], [np.inf, 0.0], [-np.inf, -np.inf]])
def test_logits_that_are_not_finite(bad):
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        generate(Fixed(bad), [0], 1)
