"""Decoding beside transformers': its rules for logits, its cached texts, its beams."""

from __future__ import annotations

import numpy as np
import pytest

from scratchlm import sampling
from scratchlm.generate import generate, next_token_probabilities
from scratchlm.models import GPT, from_hf_state, gpt_config_from_hf

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

V = 23


@pytest.fixture(autouse=True)
def quiet():
    former = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(former)


def pair(seed: int = 0):
    """transformers' GPT-2 in float64 and ours, of the same random weights. Biases are small, or
    every text would be of the few words that they favor; and logits, or no rule would matter."""
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=24, n_layer=2, n_head=2, n_embd=14, bos_token_id=None,
        eos_token_id=None, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        attn_implementation="eager", tie_word_embeddings=False,
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).double().eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            values = rng.standard_normal(tuple(parameter.shape))
            values *= 0.1 if parameter.ndim == 1 else 0.3 if name.startswith("lm_head") else 0.7
            values += ".ln_" in name and name.endswith("weight")
            parameter.copy_(torch.from_numpy(values))
    ours = GPT(gpt_config_from_hf(config.to_dict()), dtype=np.float64)
    ours.load_state_dict(from_hf_state(theirs.state_dict()))
    return ours, theirs


def complete(theirs, ids, count, *, mask=None, eos=None, **options):
    """transformers' generate; rows that ended are filled with the first eos."""
    ids = torch.from_numpy(np.asarray(ids))
    mask = torch.ones_like(ids) if mask is None else torch.from_numpy(mask)
    fill = 0 if eos is None else np.atleast_1d(eos)[0].item()
    with torch.no_grad():
        out = theirs.generate(
            ids, attention_mask=mask, max_new_tokens=count, eos_token_id=eos, pad_token_id=fill,
            **options,
        )  # fmt: skip
    return out.numpy()


# -- rules -----------------------------------------------------------------------------------------

LOGITS = 3 * np.random.default_rng(0).standard_normal((5, 101))
READ = np.random.default_rng(1).integers(101, size=(5, 17))

RULES = {
    **{
        f"temperature {t}": (
            lambda x, t=t: sampling.temperature(x, t),
            lambda t=t: transformers.TemperatureLogitsWarper(t),
        )
        for t in (0.3, 1.0, 1.7)
    },
    **{
        f"top-k {k}": (
            lambda x, k=k: sampling.top_k(x, k),
            lambda k=k: transformers.TopKLogitsWarper(k),
        )
        for k in (1, 7, 100, 500)
    },
    **{
        f"top-p {p}": (
            lambda x, p=p: sampling.top_p(x, p),
            lambda p=p: transformers.TopPLogitsWarper(p),
        )
        for p in (0.01, 0.5, 0.9, 0.999)
    },
    **{
        f"min-p {p}": (
            lambda x, p=p: sampling.min_p(x, p),
            lambda p=p: transformers.MinPLogitsWarper(p),
        )
        for p in (0.001, 0.1, 1.0)
    },
    **{
        f"repetition {r}": (
            lambda x, r=r: sampling.repetition_penalty(x, READ, r),
            lambda r=r: transformers.RepetitionPenaltyLogitsProcessor(penalty=r),
        )
        for r in (0.7, 1.0, 1.3)
    },
}


def differs(ours, theirs, logits=LOGITS) -> bool:
    want = theirs()(torch.from_numpy(READ), torch.from_numpy(logits.copy())).numpy()
    return not np.array_equal(ours(logits), want)


@pytest.mark.parametrize("name", RULES)
def test_the_rules_are_those_of_transformers(name):
    assert not differs(*RULES[name])


def test_a_rule_that_is_a_little_off_differs():
    assert differs(RULES["top-k 7"][0], RULES["top-k 1"][1])
    assert differs(lambda x: sampling.top_p(x, 0.91), RULES["top-p 0.9"][1])
    assert differs(lambda x: sampling.min_p(x, 0.11), RULES["min-p 0.1"][1])
    assert differs(lambda x: np.where(x > 0, x / 1.3, x * 1.3), RULES["repetition 1.3"][1])


def test_the_rules_come_in_the_same_order():
    """Temperature, top-k, top-p, min-p: the probabilities after all of them."""
    warpers = transformers.LogitsProcessorList(
        [
            transformers.TemperatureLogitsWarper(0.8),
            transformers.TopKLogitsWarper(30),
            transformers.TopPLogitsWarper(0.95),
            transformers.MinPLogitsWarper(0.02),
        ]
    )
    want = warpers(torch.from_numpy(READ), torch.from_numpy(LOGITS.copy())).softmax(-1).numpy()
    got = next_token_probabilities(LOGITS, temperature=0.8, top_k=30, top_p=0.95, min_p=0.02)
    assert 1 < (want > 0).sum(-1).min() < (want > 0).sum(-1).max() < 30  # each rule has a part
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=0)  # rounding of a sum of 30


# -- texts -----------------------------------------------------------------------------------------

PROMPTS = np.array([[3, 1, 4], [1, 5, 9]])


@pytest.mark.parametrize("penalty", [1.0, 1.4])
def test_greedy_texts(penalty):
    words = []
    for seed in range(4):
        ours, theirs = pair(seed)
        got = generate(ours, PROMPTS, 18, greedy=True, repetition_penalty=penalty)
        want = complete(theirs, PROMPTS, 18, do_sample=False, repetition_penalty=penalty)
        assert got.tolist() == want.tolist()
        words.append(len(np.unique(got[:, 3:])))
    assert max(words) > 3  # a text of one word would prove little


def test_unequal_prompts_are_padded_alike():
    ours, theirs = pair(1)
    prompts = [[3, 1, 4, 1, 5], [9], [2, 6]]
    got = generate(ours, prompts, 12, greedy=True)
    padded = np.array([[0] * (5 - len(row)) + row for row in prompts])
    mask = np.array([[0] * (5 - len(row)) + [1] * len(row) for row in prompts])
    want = complete(theirs, padded, 12, mask=mask, do_sample=False)
    for row, full, prompt in zip(got, want, prompts, strict=True):
        assert row.tolist() == full[5 - len(prompt) :].tolist()


BEAMS = [
    {"num_beams": 2, "length_penalty": 1.0},
    {"num_beams": 3, "length_penalty": 0.0},
    {"num_beams": 5, "length_penalty": 2.0},
    {"num_beams": 4, "length_penalty": -1.0},
    {"num_beams": 3, "length_penalty": 1.0, "repetition_penalty": 1.3},
]


@pytest.mark.parametrize("eos", [None, 4, [7, 3, 11]], ids=str)
def test_beam_search(eos):
    ended = 0
    for seed in range(5):
        ours, theirs = pair(seed)
        for options in BEAMS:
            want = complete(theirs, PROMPTS, 10, eos=eos, do_sample=False, **options)
            own = {"beams" if name == "num_beams" else name: x for name, x in options.items()}
            got = generate(ours, PROMPTS, 10, eos_id=eos, **own)
            assert got.tolist() == want.tolist(), (seed, options)
            ended += 0 if eos is None else int(np.isin(got[:, 3:-1], eos).any())
    assert eos is None or ended > 3  # or the end, and the length, were not tested


def test_a_search_that_is_a_little_off_differs():
    """Another penalty, another offset, one beam less: on some seed it shows."""
    for change in ({"length_penalty": 0.0}, {"length_offset": 5.0}, {"beams": 3}):
        seen = False
        for seed in range(8):
            ours, theirs = pair(seed)
            want = complete(
                theirs,
                PROMPTS,
                10,
                eos=[7, 3, 11],
                do_sample=False,
                num_beams=4,
                length_penalty=2.0,
            )
            options = {"beams": 4, "length_penalty": 2.0, "eos_id": [7, 3, 11]}
            assert generate(ours, PROMPTS, 10, **options).tolist() == want.tolist()
            seen |= generate(ours, PROMPTS, 10, **(options | change)).tolist() != want.tolist()
        assert seen, change
