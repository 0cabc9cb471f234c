"""The benchmarks compare like with like and report what they measured; no speed is tested."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

benchmarks = pytest.importorskip("benchmarks", reason="the benchmarks come with the checkout only")
from benchmarks import (  # noqa: E402
    chart,
    decode,
    language_models,
    memory,
    ops,
    timing,
    tokenizer,
    train_step,
    transfer,
)
from scratchlm.data import Corpus  # noqa: E402
from scratchlm.data.labelled import Labelled  # noqa: E402
from scratchlm.metrics import perplexity  # noqa: E402
from scratchlm.models import GPTConfig, LlamaConfig, NGram  # noqa: E402
from scratchlm.text import CharVocab, WordPiece  # noqa: E402
from scratchlm.train import MaskedLM  # noqa: E402

SMALL = train_step.Size(vocab=11, length=6, width=12, heads=3, layers=2, batch=2)
ROOT = Path(benchmarks.__file__).parents[1]


def test_every_candidate_has_its_turn_in_every_round_and_the_order_turns_around():
    calls: list[str] = []
    candidates = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    first, second = timing.in_turns(candidates, rounds=3, repeat=2)
    turn_a, turn_b = ["a"] * 3, ["b"] * 3  # one call that does not count, and two that do
    assert calls == ["a", "b", *turn_a, *turn_b, *turn_b, *turn_a, *turn_a, *turn_b]
    assert len(first.seconds) == len(second.seconds) == 3
    assert first.ratios == [1.0] * 3
    assert second.ratios == [b / a for a, b in zip(first.seconds, second.seconds, strict=True)]


def test_the_ratio_is_the_median_of_the_rounds_ratios():
    drifting = timing.Timing("b", [2.0, 20.0, 400.0], [2.0, 2.0, 4.0])
    assert drifting.ratio == 2.0
    assert drifting.milliseconds == 20_000


@pytest.mark.parity
@pytest.mark.parametrize(
    ("module", "label", "make"),
    [
        ("torch", "PyTorch eager", train_step._torch),
        ("jax", "JAX jit", train_step._jax),
        ("autograd", "HIPS autograd", train_step._autograd),
    ],
)
def test_the_rival_trains_the_same_model(module, label, make):
    pytest.importorskip(module)
    train_step._agree({"scratchlm": train_step._scratchlm, label: make}, SMALL)


def test_a_rival_that_trains_another_model_is_refused():
    def another(size):
        step = train_step._scratchlm(size)
        return lambda: step() + 2e-4

    with pytest.raises(RuntimeError, match="another does not train the same model: step 0"):
        train_step._agree({"scratchlm": train_step._scratchlm, "another": another}, SMALL)


def test_the_command_prints_tables_and_writes_the_figures(tmp_path):
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks", "imports", "--rounds", "2", "--json", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Import time" in done.stdout
    rows = json.loads(out.read_text(encoding="utf-8"))["imports"]["rows"]
    assert {"scratchlm", "numpy"} <= {row["module"] for row in rows}
    assert all(np.isfinite(row["ms"]) for row in rows)


def test_an_unknown_part_is_named():
    command = [sys.executable, "-m", "benchmarks", "attension"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "unknown: attension" in done.stderr
    assert "train_step" in done.stderr


ROWS = [
    {"threads": "all", "name": "scratchlm", "ms": 2.0, "ratio": 1.0, "low": 1.0, "high": 1.0},
    {"threads": "all", "name": "another", "ms": 5.0, "ratio": 2.5, "low": 2.25, "high": 3.0},
]


def test_the_picture_shows_every_figure(tmp_path):
    results = {
        "ops": {"rows": [row | {"op": "gelu"} for row in ROWS]},
        "memory": {"attention": [{"length": n, "name": "scratchlm", "mb": n / 64} for n in (1, 2)]},
    }
    path = chart.draw(results, tmp_path / "figures.svg")
    text = path.read_text(encoding="utf-8")
    for words in ("gelu: another", "2.50  (5 ms)", "all threads, wall time", "length N"):
        assert words in text


def test_a_picture_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        chart.draw({"imports": {"rows": []}}, tmp_path / "figures.svg")


@pytest.mark.parametrize("case", ops.CASES, ids=lambda case: case.op)
def test_the_compared_ops_agree(case, monkeypatch):
    """On a few rows; with PyTorch, where it is installed, as with each other."""
    rows = [tuple(3 if n == ops.ROWS else n for n in shape) for shape in case.shapes]
    small = ops.Case(case.op, tuple(rows), case.torch, case.options, case.ids)
    calls = ops._calls(small)  # refuses a rival that does not agree
    first, *others = (call() for call in calls.values())
    first = [g for g in (first if isinstance(first, tuple) else (first,)) if g is not None]
    for other in others:
        other = [g for g in (other if isinstance(other, tuple) else (other,)) if g is not None]
        for a, b in zip(first, other, strict=True):
            np.testing.assert_allclose(a, np.asarray(b), rtol=1e-3, atol=1e-3)


def test_a_rival_op_that_differs_is_refused():
    pytest.importorskip("torch")
    wrong = ops.Case("softmax", ((3, 5),), lambda F, x: F.log_softmax(x, dim=-1))
    with pytest.raises(AssertionError):
        ops._calls(wrong)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no peak of resident memory here")
def test_memory_is_measured_in_a_process_of_its_own():
    """The composed op holds at least the weights and their gradient: 2 x 12 N² float32."""
    n = 1024
    composed = memory._child("attention", "composed", n)
    assert composed > 2 * 12 * n * n * 4 / 1e6
    with pytest.raises(RuntimeError, match="KeyError"):
        memory._child("step", "nobody", 0)


WRITING = {
    "gpt": GPTConfig(vocab_size=11, block_size=16, n_layer=2, n_head=3, n_embd=12),
    "llama": LlamaConfig(
        vocab_size=11, block_size=16, n_layer=2, n_head=3, n_kv_head=1, n_embd=12, n_inner=20
    ),
}


@pytest.mark.parametrize("kind", WRITING)
def test_decoding_compares_writers_of_the_same_text(kind, monkeypatch):
    """With transformers, where it is installed."""
    size = decode.Size(WRITING[kind], prompt=3, tokens=4, long_prompt=7, no_cache=True)
    monkeypatch.setattr(decode, "SIZES", {"small": size})
    result = decode.run(rounds=2)
    assert {"scratchlm"} <= {row["name"] for row in result["memory"]}
    assert all(row["mb"] >= 0 for row in result["memory"])
    rows = result["rows"]
    decoded = [row for row in rows if row["what"] == "decode" and row["threads"] == 1]
    assert {"scratchlm", decode.WITHOUT, "products alone"} <= {row["name"] for row in decoded}
    for row in rows:
        assert row["tokens_per_second"] == pytest.approx(1e3 / row["ms"])


def test_a_writer_of_another_text_is_refused():
    def other(ids, count):
        return np.append(ids, [0] * count)

    writers = {"scratchlm": lambda ids, n: np.append(ids, [1] * n), "other": other}
    with pytest.raises(RuntimeError, match="other does not write the same"):
        decode.agree(writers, np.array([3]), 2)


@pytest.mark.parity
def test_tokenizers_encode_and_learn_the_same_before_they_are_timed(monkeypatch):
    pytest.importorskip("tokenizers")
    monkeypatch.setattr(tokenizer, "BYTES", 20_000)
    monkeypatch.setattr(tokenizer, "MERGES", 200)
    result = tokenizer.run(rounds=2)
    assert {row["name"] for row in result["rows"]} == {"scratchlm", "tokenizers"}
    for row in result["rows"]:
        np.testing.assert_allclose(row["speed"] * row["ms"] / 1e3, row["megabytes"])
    with pytest.raises(ValueError, match="differ"):
        tokenizer._same([[1, 2]], [[1, 3]])


RECIPES = {
    "LSTM": language_models.Recipe(1, 8, batch=2, length=6, lr=1e-2, dropout=0.1),
    "GPT": language_models.Recipe(1, 8, batch=2, length=6, lr=1e-2, dropout=0.1, heads=2),
}


@pytest.fixture
def counting():
    """Sentences of numbers: validation goes on where training ends."""
    text = " ".join(f"{i} is {i % 7} and not {i % 5}." for i in range(120))
    vocabulary = CharVocab(text)
    ids = vocabulary.encode(text)
    return Corpus(ids[:-203], ids[-203:], vocabulary)


def log_p(model, context, token):
    logits = np.asarray(model(context).data[-1], np.float64)
    return logits[token] - np.log(np.exp(logits - logits.max()).sum()) - logits.max()


def test_each_validation_token_is_judged_once_with_what_stands_before_it(counting):
    """Beside one call of the model for each token: all before it for the LSTM, which carries a
    state, and the last 3 to 6 for the GPT of 6 positions."""
    text = np.concatenate([counting.train, counting.validation])
    first = len(counting.train)
    gpt, lstm = (RECIPES[name].model(len(counting.vocabulary)).eval() for name in ("GPT", "LSTM"))
    losses = language_models.model_losses(lstm, counting, 6)
    assert len(losses) == 203
    for t in (0, 1, 7, 100, 202):
        want = -log_p(lstm, text[first - 6 : first + t], text[first + t])
        assert abs(losses[t] - want) < 1e-5  # float32, and the order of sums
    losses = language_models.model_losses(gpt, counting, 6)
    assert len(losses) == 203
    for t in (0, 1, 7, 100, 202):
        at = first + t
        possible = [-log_p(gpt, text[at - n : at], text[at]) for n in range(4, 7)]
        assert min(abs(losses[t] - want) for want in possible) < 1e-5
    counted = NGram(counting.train, 4, len(counting.vocabulary))
    losses = language_models.ngram_losses(counted, counting)
    assert len(losses) == 203
    for t in (0, 1, 100):
        p = counted.next_token_probabilities(text[: first + t])
        assert abs(losses[t] + np.log(p[text[first + t]])) < 1e-12


def test_language_models_are_compared_on_one_text_and_drawn(tmp_path, monkeypatch):
    source = tmp_path / "数.txt"
    lines = [f"{i} 加 {i % 9} 是 {i + i % 9}。" for i in range(300)]
    source.write_text("\n\n".join(lines), encoding="utf-8")
    texts = {"Chinese": language_models.Text(str(source), None, RECIPES)}
    monkeypatch.setattr(language_models, "ORDERS", range(1, 4))
    result = language_models.run(0.002, texts)
    (found,) = result.values()
    assert [row["name"] for row in found["rows"]] == ["1-gram", "2-gram", "3-gram", "LSTM", "GPT"]
    assert found["bytes"] > found["characters"]
    for row in found["rows"]:
        assert row["per_bytes"] * found["bytes"] == pytest.approx(
            row["per_characters"] * found["characters"]
        )
        assert 1 < perplexity(row["per_bytes"]) < perplexity(row["per_characters"])
    for name in RECIPES:
        (row,) = [row for row in found["rows"] if row["name"] == name]
        assert found["curves"][name][-1][0] == pytest.approx(row["minutes"])
    drawn = chart.draw({"language_models": result}, tmp_path / "curves.png")
    assert drawn.read_bytes().startswith(b"\x89PNG")


KIND_WORDS = (
    "goal match team",
    "bank share price",
    "film song award",
    "vote law party",
    "web chip code",
)


@pytest.fixture
def small_news(tmp_path, monkeypatch):
    """Sixty articles of five kinds, each of five words of its kind; three steps of reading."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(KIND_WORDS[i % 5].split(), 5)) + f" no{i}" for i in range(60)]
    news = Labelled(tuple(texts), np.arange(60) % 5, ("a", "b", "c", "d", "e"), "small")
    monkeypatch.setenv("SCRATCHLM_CACHE", str(tmp_path))
    monkeypatch.setattr(transfer, "labelled", lambda name: news)
    reading = dataclasses.replace(
        transfer.READING, steps=3, batch_size=4, eval_every=1, save_every=1, log_every=1
    )
    monkeypatch.setattr(transfer, "READING", reading)
    monkeypatch.setattr(transfer, "SIZES", {10: (2, 2), None: (3, 1)})
    return news


def test_reading_is_compared_with_nothing_read_and_drawn(small_news, tmp_path):
    result = transfer.run()
    assert [stage["step"] for stage in result["stages"]] == [0, 1, 2, 3]
    assert [(row["labels"], row["seed"]) for row in result["rows"]][:2] == [(10, 0), (10, 1)]
    assert result["rows"][2]["labels"] == result["parts"]["train"]
    last = result["stages"][-1]["accuracies"]  # as in the table: the same weights, labels, seeds
    assert last == [row["pre-trained"] for row in result["rows"][:2]]
    again = transfer.run()  # goes on from what is kept: nothing is read twice
    assert again["rows"] == result["rows"]
    assert again["stages"] == result["stages"]
    drawn = chart.draw({"transfer": result}, tmp_path / "transfer.png")
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_labels_are_chosen_evenly_and_by_seed(small_news):
    pairs = list(small_news)
    some = transfer.choose(pairs, 12, 0)
    counts = Counter(label for _, label in some)
    assert sorted(counts.values()) == [2, 2, 2, 3, 3]
    assert some == transfer.choose(pairs, 12, 0) != transfer.choose(pairs, 12, 1)
    assert transfer.choose(pairs, None, 0) == pairs


def test_naive_bayes_counts_words(small_news):
    pairs = list(small_news)
    words = WordPiece.of_words((text for text, _ in pairs), most=30)
    assert transfer.naive_bayes(words, pairs[:40], pairs[40:]) == 1.0
    shuffled = [(text, (label + 1) % 5) for text, label in pairs[:40]]  # each kind misnamed
    assert transfer.naive_bayes(words, shuffled, pairs[40:]) == 0.0


def test_reading_starts_from_uniform_guesses_and_fine_tuning_from_what_was_read(small_news):
    words = WordPiece.of_words(small_news.texts, most=30)
    task = MaskedLM(list(small_news.texts), list(small_news.texts), words)
    blank = transfer.new_reader(words)
    # ln V; 64 products of weights of 0.06 and numbers of 0.5 make logits that spread by 0.24
    assert task.evaluate(blank)["validation_loss"] == pytest.approx(np.log(len(words)), abs=0.24)
    weights = {k: w + 1 for k, w in blank.state_dict().items()}
    seen = {}

    class Spy(transfer.BERTForSequenceClassification):
        def load_state_dict(self, state, **options):
            seen.update(state)
            super().load_state_dict(state, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "BERTForSequenceClassification", Spy)
        pairs = list(small_news)
        transfer.fine_tune(weights, words, pairs, pairs, steps=1, lr=1e-3, seed=0)
    encoder = [name for name in seen if name.startswith("bert.") and name in weights]
    assert len(encoder) > 30
    for name in encoder:
        np.testing.assert_array_equal(seen[name], weights[name])
