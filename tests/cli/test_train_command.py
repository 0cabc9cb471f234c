"""``scratchlm train``: its options reach the training, and one run begins where another ended."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("safetensors")

from scratchlm.cli import main
from scratchlm.models import GPT, BERTConfig, BERTForMaskedLM, GPTConfig, save_pretrained
from scratchlm.text import BPE
from scratchlm.train import load_checkpoint, load_model

SIZES = {"layers": 1, "heads": 2, "width": 16, "length": 16}
TRAINING = {"steps": 30, "batch": 4, "eval-every": 10}


def words(**options):
    return [w for name, value in options.items() for w in (f"--{name}", str(value))]


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["train", *map(str, arguments)])
    return end.value.code or 0


def said(capsys):
    streams = capsys.readouterr()
    return " ".join((streams.out + streams.err).split())


def text(folder, name, first):
    path = folder / name
    lines = [f"{i} and {i} is {2 * i}." for i in range(first, first + 200)]
    path.write_text("\n\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    source = text(folder, "text.txt", 100)
    assert run(source, "--out", folder / "run", *words(**SIZES, **{**TRAINING, "steps": 150})) == 0
    return folder / "run"


def test_options_reach_the_training(tmp_path):
    options = {
        "accumulate": 2, "patience": 4, "save-every": 20, "warmup": 0.2, "lr": 0.01, "seed": 3,
    }  # fmt: skip
    source = text(tmp_path, "text.txt", 0)
    assert run(source, "--out", tmp_path / "run", *words(**SIZES, **TRAINING, **options)) == 0
    config = load_checkpoint(tmp_path / "run").state["config"]
    for name, value in {**options, "eval-every": 10, "steps": 30, "length": 16}.items():
        assert config[name.replace("-", "_")] == value
    assert load_checkpoint(tmp_path / "run" / "best").state["step"] in (10, 20, 30)


def test_it_says_that_it_stopped_early(tmp_path, capsys):
    source = text(tmp_path, "text.txt", 0)
    out = tmp_path / "run"
    far = {**TRAINING, "steps": 400, "lr": 1.0, "patience": 2}  # too large a step to get better
    assert run(source, "--out", out, *words(**SIZES, **far)) == 0
    words_ = said(capsys)
    best = load_checkpoint(out / "best").state
    assert "2 evaluations brought nothing better than that of step" in words_
    assert f"step {best['step']}, whose weights" in words_
    last = json.loads((out / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert last["best_step"] == best["step"] < last["step"] < 400


def test_a_run_begins_with_the_weights_of_another(trained, tmp_path, capsys):
    source = text(tmp_path, "other.txt", 400)
    still = {**TRAINING, "steps": 1, "lr": 1e-30, "weight-decay": 0}
    assert run(source, "--out", tmp_path / "a", "--from", trained, *words(**still)) == 0
    before, vocabulary, _ = load_model(trained)
    after, same, state = load_model(tmp_path / "a")
    assert same.characters == vocabulary.characters
    assert after.config == before.config
    assert state["config"]["length"] == 16  # as far as its positions go
    for (name, p), q in zip(before.named_parameters(), after.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data, err_msg=name)

    few = {**TRAINING, "steps": 10, "lr": 1e-3}
    assert run(source, "--out", tmp_path / "fine", "--from", trained, *words(**few)) == 0
    assert run(source, "--out", tmp_path / "new", *words(**SIZES, **few)) == 0
    losses = [
        json.loads((tmp_path / which / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])
        for which in ("fine", "new")
    ]
    assert losses[0]["loss"] < losses[1]["loss"] - 0.3
    capsys.readouterr()
    assert run("--resume", "--out", tmp_path / "fine", *words(steps=12)) == 0
    assert "going on after step 10" in said(capsys)


def test_dropout_for_fine_tuning(trained, tmp_path):
    source = text(tmp_path, "other.txt", 400)
    more = {**TRAINING, "steps": 2, "dropout": 0.25}
    assert run(source, "--out", tmp_path / "a", "--from", trained, *words(**more)) == 0
    assert load_model(tmp_path / "a")[0].config.dropout == 0.25


def test_published_weights(tmp_path):
    tokenizer = BPE.train("one and two is three. four and five is nine.", 270)
    gpt = GPT(GPTConfig(270, 12, n_layer=1, n_head=2, n_embd=8), rng=0)
    folder = save_pretrained(gpt, tmp_path / "published")
    tokenizer.save(folder / "tokenizer.json")
    source = text(tmp_path, "text.txt", 0)
    still = {**TRAINING, "steps": 1, "lr": 1e-30, "weight-decay": 0}
    assert run(source, "--out", tmp_path / "a", "--from", folder, *words(**still)) == 0
    after, vocabulary, _ = load_model(tmp_path / "a")
    assert vocabulary.encode("one").tolist() == tokenizer.encode("one").tolist()
    for p, q in zip(gpt.parameters(), after.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=0, atol=1e-30)  # a bias of 0 moves by lr


def test_what_can_not_be_begun_with(trained, tmp_path, capsys):
    source = text(tmp_path, "text.txt", 0)
    cases = {
        ("--from", trained, "--resume"): "choose one",
        ("--from", trained, "--layers", 2): "brings its own model and vocabulary",
        ("--from", trained, "--model", "lstm"): "brings its own model and vocabulary",
        ("--from", tmp_path / "nowhere"): "there is no run, no checkpoint and no model",
        ("--from", trained, "--length", 17): "positions for block_size=16",
        ("--model", "llama"): "choose gpt, lstm, gru or rnn",
        ("--patience", 0): "patience",
    }
    for number, (options, expected) in enumerate(cases.items()):
        assert run(source, "--out", tmp_path / str(number), *options) != 0
        assert expected in said(capsys), options
    bert = BERTForMaskedLM(
        BERTConfig(30, 12, n_layer=1, n_head=2, n_embd=8, n_inner=16, tie_weights=True), rng=0
    )
    folder = save_pretrained(bert, tmp_path / "bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxy"]
    (folder / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    assert run(source, "--out", tmp_path / "x", "--from", folder) != 0
    assert "is no model that writes a text on" in said(capsys)
    strange = text(tmp_path, "strange.txt", 0)
    strange.write_text(strange.read_text(encoding="utf-8") + "ß" * 3000, encoding="utf-8")
    assert run(strange, "--out", tmp_path / "y", "--from", trained) != 0
    assert "'ß'" in said(capsys)
