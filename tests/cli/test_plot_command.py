"""``scratchlm plot``: the pictures of a run, and what is said when there are none to draw."""

from __future__ import annotations

import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("matplotlib")
pytest.importorskip("safetensors")

from scratchlm.cli import main
from scratchlm.cli import plot as command
from scratchlm.data import corpus
from scratchlm.models import (
    GPT,
    BERTConfig,
    BERTForSequenceClassification,
    GPTConfig,
    RecurrentLM,
    RecurrentLMConfig,
)
from scratchlm.text import WordPiece
from scratchlm.train import Classification, TrainConfig, load_model, train
from scratchlm.train.trainer import read_log


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("my 模型")
    data = corpus("topics")
    sizes = GPTConfig(len(data.vocabulary), 16, n_layer=2, n_head=2, n_embd=8)
    config = TrainConfig(steps=4, batch_size=2, length=8, log_every=1, eval_batches=1)
    train(GPT(sizes, rng=0), data, config, out=folder, progress=False)
    return folder


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["plot", *map(str, arguments)])
    return end.value.code or 0


def said(capsys):
    """What was printed on the error stream, without the line breaks of the console's width."""
    return " ".join(capsys.readouterr().err.split())


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_the_pictures_of_a_run_lie_beside_it(run_folder, capsys):
    assert run(run_folder) == 0
    assert names(run_folder / "plots") == ["attention.png", "loss.png", "metrics.png"]
    assert str(run_folder / "plots" / "loss.png") in capsys.readouterr().out


def test_a_checkpoint_finds_the_log_of_its_run(run_folder, tmp_path):
    (checkpoint,) = run_folder.glob("checkpoint-*")
    assert run(checkpoint, "--text", "a list", "--head", "1.0", "--out", tmp_path / "new") == 0
    assert names(tmp_path / "new") == ["attention-1.0.png", "loss.png", "metrics.png"]


def test_the_loss_curve_is_the_log(run_folder, tmp_path):
    def curve(path):
        return command._loss_curve(read_log(path), 100)

    (axes,) = curve(run_folder / "log.jsonl").figure.axes
    curves = {line.get_label(): line for line in axes.lines}
    assert list(curves["training"].get_xdata()) == [1, 2, 3, 4]
    assert list(curves["validation"].get_xdata()) == [4]
    cut = tmp_path / "log.jsonl"
    whole = (run_folder / "log.jsonl").read_text(encoding="utf-8")
    cut.write_text(whole.splitlines()[0] + '\n{"step": 2, "lo', encoding="utf-8")
    assert len(curve(cut).lines[0].get_xdata()) == 1
    cut.write_text("", encoding="utf-8")
    assert curve(cut) is None


def test_every_other_number_of_the_log_has_a_panel(run_folder):
    records = read_log(run_folder / "log.jsonl")
    records += [{"step": 4, "f1": 0.5, "stopped": "no better", "best_step": 2, "new": 7}]
    panels = {ax.get_title("left"): ax.lines[0] for ax in command._metric_curves(records).axes}
    assert set(list(panels)[:3]) == {"accuracy", "f1", "new"}
    assert list(panels)[3:5] == ["gradient norm", "lr"]
    assert list(panels["gradient norm"].get_ydata()) == [
        r["gradient_norm"] for r in records if "gradient_norm" in r
    ]
    assert panels["gradient norm"].axes.get_yscale() == "log"
    assert command._metric_curves([]) is None
    assert command._metric_curves([{"step": 1, "loss": 2.0}]) is None


def test_models_that_do_not_write(tmp_path, capsys):
    pieces = {p: i for i, p in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "one", "two"])}
    task = Classification([("one two", "x"), ("two", "y")] * 2, [("one", "x")], WordPiece(pieces))
    sizes = BERTConfig(len(pieces), 9, n_layer=1, n_head=2, n_embd=8, n_inner=8)
    net = BERTForSequenceClassification(sizes, rng=0)
    config = TrainConfig(steps=2, batch_size=2, log_every=1)
    train(net, task, config, out=tmp_path / "bert", progress=False)
    assert run(tmp_path / "bert") == 0
    assert names(tmp_path / "bert" / "plots") == ["attention.png", "loss.png", "metrics.png"]

    data = corpus("topics")
    lstm = RecurrentLM(RecurrentLMConfig(len(data.vocabulary), n_layer=1, n_embd=4), rng=0)
    config = TrainConfig(steps=2, batch_size=2, length=8, log_every=1, eval_batches=1)
    train(lstm, data, config, out=tmp_path / "lstm", progress=False)
    capsys.readouterr()
    assert run(tmp_path / "lstm") == 0
    assert "no attention maps: RecurrentLM has none" in " ".join(capsys.readouterr().out.split())
    assert names(tmp_path / "lstm" / "plots") == ["loss.png", "metrics.png"]
    assert run(tmp_path / "lstm", "--text", "a") == 1
    assert "leave out --text" in said(capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--head", "2.0"], "2 layers of 2 heads"),
        (["--head", "first"], "--head 0.3"),
        (["--text", "x" * 17], "reads 1 to 16"),
        (["--text", ""], "give it some text"),
        (["--text", "\U0001f642"], "not among"),
    ],
)
def test_what_cannot_be_drawn_is_said(run_folder, tmp_path, capsys, arguments, words):
    assert run(run_folder, *arguments, "--out", tmp_path / "new") == 1
    assert words in said(capsys)
    assert not (tmp_path / "new").exists()


def test_no_checkpoint_and_no_folder_are_said(run_folder, tmp_path, capsys):
    assert run(tmp_path / "nothing") == 1
    assert "no checkpoint" in said(capsys)
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert run(run_folder, "--text", "a", "--out", tmp_path / "file") == 1
    assert "plot.save: can't write" in said(capsys)


def test_a_model_of_pieces_of_words(tmp_path, capsys):
    data = corpus("topics", bpe=300)
    sizes = GPTConfig(len(data.vocabulary), 16, n_layer=1, n_head=2, n_embd=8)
    config = TrainConfig(steps=2, batch_size=2, length=8, log_every=1, eval_batches=1)
    train(GPT(sizes, rng=0), data, config, out=tmp_path, progress=False)
    assert run(tmp_path) == 0
    assert names(tmp_path / "plots") == ["attention.png", "loss.png", "metrics.png"]
    assert load_model(tmp_path)[1].as_dict() == data.vocabulary.as_dict()
