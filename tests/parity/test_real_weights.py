"""Weights that others trained compute here what they compute in transformers.

`scratchlm fetch minilm` and `scratchlm fetch smollm2` bring the files.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from scratchlm import load_pretrained, no_grad
from scratchlm.data import locate
from scratchlm.models import BERT, save_pretrained

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity


def fetched(name: str):
    try:
        return locate(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))


# -- MiniLM: BERT ----------------------------------------------------------------------------------

SENTENCES = [
    "A man is playing a guitar.",
    "Someone plays an instrument on the stage, and the crowd sings along with every word.",
    "The central bank raised interest rates by half a point!",
    "Rates",
    "",
]


@pytest.fixture(scope="module")
def minilm():
    return load_pretrained(fetched("minilm") and "minilm")


@pytest.fixture(scope="module")
def sentences():
    """Ids and mask of SENTENCES, each row padded to the longest."""
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(
        str(fetched("minilm") / "tokenizer.json")
    )
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(SENTENCES)
    return np.array([e.ids for e in encoded]), np.array([e.attention_mask for e in encoded])


def of_transformers(folder, ids, mask):
    """Mean over the tokens, length 1, as the model's own card says."""
    theirs = transformers.BertModel.from_pretrained(folder).eval()
    ids, mask = torch.from_numpy(ids), torch.from_numpy(mask)
    with torch.no_grad():
        x = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    mean = (x * mask[..., None]).sum(1) / mask.sum(1)[:, None]
    return torch.nn.functional.normalize(mean).numpy()


def test_minilm_sentence_embeddings(minilm, sentences):
    ids, mask = sentences
    assert minilm.num_parameters() == 22_713_216
    with no_grad():
        ours = minilm.sentence_embeddings(ids, attention_mask=mask).data
    theirs = of_transformers(fetched("minilm"), ids, mask)
    assert ours.shape == (5, 384)
    assert np.abs(ours - theirs).max() < 1e-6  # elements up to 0.2, in float32
    # and they mean something: two of music are closer than one of music and one of money
    assert ours[0] @ ours[1] > 0.3 > 0.2 > ours[0] @ ours[2]


def test_minilm_with_its_padding_read_is_caught(minilm, sentences):
    ids, mask = sentences
    with no_grad():
        wrong = minilm.sentence_embeddings(ids).data
    assert np.abs(wrong - of_transformers(fetched("minilm"), ids, mask)).max() > 1e-3


def test_minilm_saved_again(minilm, sentences, tmp_path):
    save_pretrained(minilm, tmp_path)
    assert type(minilm) is BERT
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["BertModel"]
    ids, mask = sentences
    want = of_transformers(fetched("minilm"), ids, mask)
    assert np.array_equal(of_transformers(tmp_path, ids, mask), want)


# -- SmolLM2: Llama, from GGUF ---------------------------------------------------------------------

# "The Eiffel Tower is a wrought-iron lattice tower on the Champ de Mars in Paris, France. It is
# named after the engineer Gustave Eiffel, whose company designed and built the tower from 1887 to
# 1889.", in its vocabulary
PARAGRAPH = np.array(
    [
        504, 414, 46682, 18669, 314, 253, 34554, 29, 1009, 27672, 11637, 335, 260, 21633, 367,
        7621, 281, 7042, 28, 4649, 30, 657, 314, 3365, 990, 260, 10776, 26821, 1134, 414, 46682,
        28, 3449, 2727, 2724, 284, 2837, 260, 11637, 429, 216, 33, 40, 40, 39, 288, 216, 33, 40,
        40, 41, 30,
    ]
)  # fmt: skip
FRANCE = np.array([504, 3575, 282, 4649, 314])  # "The capital of France is"
PARIS = 7042  # " Paris"


@pytest.fixture(scope="module")
def smollm2():
    pytest.importorskip("gguf")
    return load_pretrained(fetched("smollm2") and "smollm2")


def loss_of(model) -> float:
    with no_grad():
        return model(PARAGRAPH[:-1], PARAGRAPH[1:])[1].item()


def test_smollm2_goes_on_with_paris(smollm2):
    assert smollm2.num_parameters() == 134_515_008
    with no_grad():
        assert smollm2(FRANCE).data[-1].argmax() == PARIS


@pytest.mark.slow
def test_smollm2_loss(smollm2):
    """transformers takes the same file apart by itself."""
    pytest.importorskip("accelerate")
    folder = fetched("smollm2")
    theirs = transformers.LlamaForCausalLM.from_pretrained(
        folder, gguf_file=next(folder.glob("*.gguf")).name, dtype=torch.float32
    ).eval()
    ids = torch.from_numpy(PARAGRAPH[None])
    with torch.no_grad():
        want = theirs(input_ids=ids, labels=ids).loss.item()
    assert loss_of(smollm2) == pytest.approx(want, abs=1e-4)


def test_smollm2_with_rows_as_they_are_stored_is_caught(smollm2):
    """The rows of q and k left as the file has them, for rotations of neighbors: "Paris" still
    comes, so only the loss can tell."""
    right = loss_of(smollm2)
    assert right == pytest.approx(1.8337, abs=1e-3)
    kept = [
        (projection.weight, projection.weight.data.copy(), heads)
        for block in smollm2.model.layers
        for projection, heads in ((block.self_attn.q_proj, 9), (block.self_attn.k_proj, 3))
    ]
    try:
        for weight, value, heads in kept:
            halves = value.reshape(heads, 2, 32, 576)
            with no_grad():
                weight.copy_(halves.swapaxes(1, 2).reshape(value.shape))
        assert loss_of(smollm2) > right + 1
        with no_grad():
            assert smollm2(FRANCE).data[-1].argmax() == PARIS
    finally:
        with no_grad():
            for weight, value, _ in kept:
                weight.copy_(value)
    assert loss_of(smollm2) == right
