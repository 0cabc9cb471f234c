import contextlib

import numpy as np
import pytest

from scratchlm import metrics
from scratchlm.models import GPT, GPTConfig


def test_perplexity():
    assert metrics.perplexity(np.log(7.0)) == pytest.approx(7)
    assert metrics.perplexity(1e5) == np.inf


def gpt():
    sizes = GPTConfig(5, 4, n_layer=1, n_head=1, n_embd=4, dropout=0.5)
    return GPT(sizes, rng=0, dtype=np.float64, std=0.5)


@pytest.mark.parametrize("count", [3, 9, 12, 21])
def test_mean_loss_by_hand(count):
    model = gpt()
    ids = np.random.default_rng(0).integers(0, 5, size=count)
    loss = metrics.mean_loss(model, ids, length=4, batch_size=2)
    assert model.training
    model.eval()
    total = 0.0
    for i in range(1, count):  # each id but the first, given those before it in its block of four
        start = (i - 1) // 4 * 4
        logits = model(ids[start:i]).data[-1]
        total -= logits[ids[i]] - np.log(np.exp(logits).sum())
    assert loss == pytest.approx(total / (count - 1), rel=1e-12)


def test_mean_loss_of_some_batches():
    model = gpt()
    ids = np.random.default_rng(0).integers(0, 5, size=50)
    some = metrics.mean_loss(model, ids, length=4, batch_size=2, batches=2)
    rows = [ids[i : i + 5] for i in (0, 12, 28, 44)]  # of the starts 0, 4, …, 44
    parts = [metrics.mean_loss(model, row, length=4) for row in rows]
    assert some == pytest.approx(np.mean(parts), rel=1e-12)


def test_evaluation_gives_each_module_its_mode_back():
    model = gpt()
    model.transformer.drop.eval()
    modes = [m.training for m in model.modules()]
    with contextlib.suppress(KeyError), metrics.evaluation(model):
        assert not any(m.training for m in model.modules())
        raise KeyError
    assert [m.training for m in model.modules()] == modes


def test_loss_per_character_and_byte():
    text = "语言 model"  # 8 characters, 12 bytes
    loss = np.log(10.0)
    assert metrics.loss_per_character(loss, tokens=4, text=text) == pytest.approx(loss / 2)
    assert metrics.loss_per_byte(loss, tokens=4, text=text) == pytest.approx(loss / 3)
    assert metrics.bits(np.log(8.0)) == pytest.approx(3, rel=1e-15)
    whole = metrics.perplexity(loss) ** 4  # of the text, however it is cut
    per_character = metrics.perplexity(metrics.loss_per_character(loss, tokens=4, text=text))
    assert per_character**8 == pytest.approx(whole, rel=1e-12)
    for tokens, piece in [(0, "a"), (3, "")]:
        with pytest.raises(ValueError, match="at least 1"):
            metrics.loss_per_byte(loss, tokens=tokens, text=piece)
