"""The tour, the training and the writing from the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

for package in ("typer", "rich", "safetensors", "matplotlib"):
    pytest.importorskip(package)

ENVIRONMENT = {
    **os.environ,
    "PYTHONIOENCODING": "utf-8",
    "COLUMNS": "80",
    "OPENBLAS_NUM_THREADS": "1",
}


def command(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "scratchlm", *map(str, arguments)],
        cwd=cwd, env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder whose name has a space and a Chinese character."""
    return tmp_path_factory.mktemp("a 文")


@pytest.fixture(scope="module")
def trained(folder):
    (folder / "text.txt").write_text(
        "\n\n".join(f"{i} and {i + 1} make {2 * i + 1}." for i in range(300)), encoding="utf-8"
    )
    sizes = ("--layers", 1, "--heads", 2, "--width", 16, "--length", 16, "--batch", 4)
    run = command("train", "text.txt", "--out", "run", "--steps", 30, *sizes, cwd=folder)
    assert run.returncode == 0, run.stderr
    assert "validation loss" in run.stdout
    return folder / "run"


def test_the_tour_twice_in_a_row(folder):
    for _ in range(2):
        run = command("tour", "--seconds", 1, cwd=folder)
        assert run.returncode == 0, run.stderr
        assert run.stderr == ""
        out = folder / "scratchlm-tour"
        for picture in ("loss.png", "attention.png"):
            assert (out / picture).read_bytes().startswith(b"\x89PNG")
            assert picture in run.stdout
        for words in ("attention", "layer_norm", "diagonal only", "bigram model", "read 1"):
            assert words in run.stdout
        assert run.stdout.count("right") >= 6
        assert len(re.findall(r"\bwrong\b", run.stdout)) == 1
        assert max(map(len, run.stdout.splitlines()[:20])) <= 80
    log = (out / "model" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert "validation_loss" in json.loads(log[-1])


@pytest.mark.skipif(os.name != "posix", reason="a signal to another process")
def test_ctrl_c_saves_the_tour_and_says_how_to_resume(tmp_path):
    log = tmp_path / "tour" / "model" / "log.jsonl"
    arguments = ["-m", "scratchlm", "tour", "--seconds", "100", "--out", "tour"]
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=tmp_path, env=ENVIRONMENT,
        stdout=subprocess.PIPE, encoding="utf-8",
    ) as process:  # fmt: skip
        while process.poll() is None and not (log.exists() and log.read_text("utf-8")):
            time.sleep(0.05)  # until ten steps are done
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
    assert process.returncode == 130
    assert re.search(r"Stopped after \d+ steps; all is saved", said)
    assert "train --resume --out tour/model" in said
    run = command("train", "--resume", "--out", "tour/model", "--seconds", 1, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "going on after step" in run.stdout


def test_an_unwritable_folder_is_said_before_training(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    run = command("tour", "--out", "file/tour", "--seconds", 100, cwd=tmp_path)
    assert run.returncode == 1
    assert "cannot write to the output folder" in run.stderr
    assert "Traceback" not in run.stderr


def test_training_goes_on(trained):
    run = command("train", "--resume", "--out", "run", "--steps", 40, cwd=trained.parent)
    assert run.returncode == 0, run.stderr
    assert "going on after step 30" in run.stdout
    steps = [json.loads(r)["step"] for r in (trained / "log.jsonl").read_text("utf-8").splitlines()]
    assert steps == sorted(steps)
    assert steps[-1] == 40


def test_a_run_is_not_overwritten_by_accident(trained):
    run = command("train", "text.txt", "--out", "run", cwd=trained.parent)
    assert run.returncode == 1
    assert "already holds a run" in run.stderr
    assert "--overwrite" in run.stderr


def test_it_writes(trained):
    options = ("--prompt", "12 and", "--tokens", 50, "--seed", 1)
    first = command("generate", "run", *options, cwd=trained.parent)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("12 and")
    assert first.stdout == command("generate", "run", *options, cwd=trained.parent).stdout
    slow = command("generate", "run", *options, "--no-cache", cwd=trained.parent)
    assert slow.stdout == first.stdout
    stop = first.stdout[10:13]
    short = command("generate", "run", *options, "--stop", stop, cwd=trained.parent)
    written = first.stdout[len("12 and") :]
    assert short.stdout == "12 and" + written[: written.index(stop)] + "\n"


def test_it_searches_for_the_likeliest(trained):
    options = ("--prompt", "12 and", "--tokens", 20)
    found = command("generate", "run", *options, "--beams", 3, cwd=trained.parent)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("12 and")
    assert len(found.stdout) == len("12 and") + 20 + 1


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_a_recurrent_model_is_trained_goes_on_and_writes(trained, kind):
    folder = trained.parent
    sizes = ("--model", kind, "--layers", 2, "--width", 16, "--dropout", 0.1, "--length", 16)
    run = command("train", "text.txt", "--out", kind, "--steps", 20, *sizes, cwd=folder)
    assert run.returncode == 0, run.stderr
    assert {"lstm": "an LSTM", "gru": "a GRU", "rnn": "a plain RNN"}[kind] in run.stdout
    run = command("train", "--resume", "--out", kind, "--steps", 30, cwd=folder)
    assert run.returncode == 0, run.stderr
    assert "going on after step 20" in run.stdout
    options = ("--prompt", "12 and", "--tokens", 30, "--seed", 1)
    first = command("generate", kind, *options, cwd=folder)
    assert first.returncode == 0, first.stderr
    assert len(first.stdout) == len("12 and") + 30 + 1
    assert command("generate", kind, *options, "--no-cache", cwd=folder).stdout == first.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", "nowhere"), "there is no run, no checkpoint and no model nowhere"),
        (("generate", "run", "--prompt", "文"), "character '文'"),
        (("generate", "run", "--temperature", "-1"), "temperature=-1"),
        (("generate", "run", "--top-k", "0"), "top_k=0"),
        (("generate", "run", "--top-p", "1.5"), "top_p=1.5 lies outside (0, 1]"),
        (("generate", "run", "--beams", "2", "--top-k", "3"), "so --top-k would do nothing"),
        (("generate", "run", "--beams", "2", "--seed", "3"), "so --seed would do nothing"),
        (("generate", "run", "--beams", "2", "--stop", "."), "knows no --stop"),
        (("generate", "run", "--length-penalty", "2"), "give --beams, too"),
        (("generate", "run", "--stop", ""), "must be strings that are not empty"),
        (("train", "nowhere.txt"), "no file or folder 'nowhere.txt'"),
        (("train", "--resume"), "--resume needs --out"),
        (("train", "text.txt", "--out", "new", "--heads", "3"), "n_head=3"),
        (("train", "text.txt", "--model", "elman"), "--model elman is not known"),
        (("train", "text.txt", "--model", "lstm", "--heads", "2"), "--heads is for a GPT"),
        (("train", "text.txt", "--out", "new", "--layers", "0"), "n_layer=0 is below 1"),
        (("train", "text.txt", "--tokenizer", "words"), "--tokenizer words is not known"),
        (("train", "text.txt", "--vocabulary-size", "300"), "give --tokenizer bpe"),
        (("train", "text.txt", "--out", "new", "--schedule", "up"), "schedule='up'"),
    ],
)
def test_errors_are_said_in_a_line(trained, arguments, words):
    run = command(*arguments, cwd=trained.parent)
    assert run.returncode != 0
    assert words in " ".join(run.stderr.split())
    assert "Traceback" not in run.stderr
