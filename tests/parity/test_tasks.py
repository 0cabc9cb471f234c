"""A step of each task: loss and gradients are those of PyTorch and transformers, in float64."""

import numpy as np
import pytest

from scratchlm import models
from scratchlm.models import load_pretrained
from scratchlm.train import Classification, Instructions, MaskedLM, Pairs, Tagging

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

RNG = np.random.default_rng(0)
BERT = {
    "vocab_size": 40, "max_position_embeddings": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 16, "num_labels": 3,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
T5 = {
    "vocab_size": 40, "num_layers": 2, "num_heads": 2, "d_model": 8, "d_kv": 4, "d_ff": 16,
    "dropout_rate": 0.0, "decoder_start_token_id": 0,
}  # fmt: skip
GPT = {
    "vocab_size": 40, "n_positions": 16, "n_layer": 2, "n_head": 2, "n_embd": 8,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip


def rows(n=6):
    return [RNG.integers(5, 40, RNG.integers(2, 12)) for _ in range(n)]


def masked():
    return MaskedLM(rows(), mask_id=4, pad_id=0, special_ids=range(5), vocab_size=40)


def classes():
    return Classification([(row, i % 3) for i, row in enumerate(rows())])


def tags():
    return Tagging([(row, ["ABC"[i % 3] for i in row]) for row in rows()])


def pairs():
    both = list(zip(rows(), rows(), strict=True))
    return Pairs(both, pad_id=0, start_id=0, end_id=1, source_end_id=1)


def instructions():
    return Instructions([(row, row[:3]) for row in rows()], end_id=1)


def bert(kind):
    return lambda: getattr(transformers, kind)(transformers.BertConfig(**BERT))


CASES = {
    "masked": (masked, bert("BertForMaskedLM")),
    "classes": (classes, bert("BertForSequenceClassification")),
    "tags": (tags, bert("BertForTokenClassification")),
    "pairs": (
        pairs,
        lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(**T5)),
    ),
    "instructions": (
        instructions, lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients(name, tmp_path):
    make, reference = CASES[name]
    torch.manual_seed(0)
    theirs = reference().double()
    for parameter in theirs.parameters():  # as made, norms are 1 and biases 0
        torch.nn.init.normal_(parameter, std=0.3)
    for module in theirs.modules():
        if type(module).__name__ == "T5LayerNorm":  # as it is, it goes through float32
            shape, eps = module.weight.shape, module.variance_epsilon
            module.forward = lambda x, m=module, s=shape, e=eps: torch.nn.functional.rms_norm(
                x, s, m.weight, e
            )
    theirs.save_pretrained(tmp_path)
    ours, task = load_pretrained(tmp_path, dtype=np.float64), make()
    task.check(ours)
    batch = task.sample(6, np.random.default_rng(1))
    loss = task.loss(ours, batch)
    loss.backward()

    there = {key: torch.tensor(value) for key, value in batch.items()}
    labels = there["targets"]
    if name == "instructions":  # their own loss is computed in float32
        logits = theirs(there["ids"]).logits
        expected = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels)
    else:
        expected = theirs(there["ids"], attention_mask=there["mask"].long(), labels=labels).loss
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)

    grads = models.from_hf_state(
        {
            key: value.grad.numpy()
            for key, value in theirs.named_parameters()
            if value.grad is not None
        },
        next(k.layout for k in models.pretrained.PUBLISHED if k.model is type(ours)),
    )
    checked = 0
    for key, parameter in ours.named_parameters():
        if parameter.grad is None:
            continue
        # sums of some hundred float64 terms, in another order
        np.testing.assert_allclose(
            parameter.grad.data, grads[key], rtol=1e-9, atol=1e-12, err_msg=key
        )
        checked += 1
    assert checked == len(list(ours.parameters()))
