"""``scratchlm chat`` and ``scratchlm generate`` with weights that others trained; ``bench``."""

from __future__ import annotations

import builtins
import io
import json
import shutil

import pytest

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("safetensors")

from scratchlm import Chat
from scratchlm.cli import chat as command
from scratchlm.cli import main
from scratchlm.data import locate
from scratchlm.models import BERT, BERTConfig, Llama, LlamaConfig, save_pretrained
from scratchlm.text import BPE

TOKENIZER = BPE.train(
    "system user assistant \n what is it? tell me more " * 5,
    290,
    special_tokens=["<|im_start|>", "<|im_end|>"],
)
PROGRAM = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A very small model, as the hub has them; it answers nonsense."""
    config = LlamaConfig(
        len(TOKENIZER), 300, n_layer=1, n_head=2, n_kv_head=1, n_embd=16, n_inner=24
    )
    path = tmp_path_factory.mktemp("my 模型")
    save_pretrained(Llama(config, rng=1, std=0.3), path)
    TOKENIZER.save(path / "tokenizer.json")
    settings = json.dumps({"chat_template": PROGRAM})
    (path / "tokenizer_config.json").write_text(settings, encoding="utf-8")
    return path


@pytest.fixture
def run(folder, monkeypatch):
    def run(*arguments, stdin="", name="chat", model=folder):
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as end:
            main([name, str(model), "--max-tokens", "8", *arguments])
        return end.value.code or 0

    return run


@pytest.fixture
def answers(folder):
    chat = Chat.load(folder, max_tokens=8)
    return [chat.ask(question) for question in ("what is it?", "tell me more")]


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


def test_one_question(run, answers, capsys):
    assert run("--ask", "what is it?") == 0
    out = capsys.readouterr()
    assert out.out == answers[0].translate(command.UNPRINTABLE) + "\n"
    assert out.err == ""  # how fast it went is for people


def test_a_pipe_is_a_conversation(run, answers, capsys):
    assert run(stdin="what is it?\n\n  tell me more") == 0
    wanted = "".join(a.translate(command.UNPRINTABLE) + "\n" for a in answers)
    assert capsys.readouterr().out == wanted


def test_lines_that_go_on(run, folder, capsys):
    assert run(stdin="what \\\nis it?\n/exit\nnever read") == 0
    want = Chat.load(folder, max_tokens=8).ask("what \nis it?")
    assert capsys.readouterr().out == want.translate(command.UNPRINTABLE) + "\n"


def test_commands(run, answers, tmp_path, capsys):
    text, messages = tmp_path / "a talk.txt", tmp_path / "talk.json"
    lines = ["what is it?", "tell me more", f"/save {text}", "/reset", "what is it?"]
    lines += [f"/save {messages}", f"/save {messages}", f"/save {text}", "/save", "/what", "/help"]
    assert run("--system", "Be brief.", stdin="\n".join(lines)) == 0
    said = text.read_text(encoding="utf-8")
    assert said.startswith("system: Be brief.\n\nuser: what is it?\n\nassistant: ")
    kept = json.loads(messages.read_text(encoding="utf-8"))
    assert [m["role"] for m in kept] == ["system", "user", "assistant"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a talk.txt", "talk.json"]
    out = capsys.readouterr()
    assert "4 messages in" in out.out
    assert "/reset       forget" in out.out
    assert "/save needs the name" in out.err
    assert "no command /what" in out.err
    assert "is there already" not in out.err  # what this conversation saved, it may save again


def test_other_files_are_not_overwritten(run, tmp_path, capsys):
    path = tmp_path / "thesis.txt"
    path.write_text("years of work", encoding="utf-8")
    assert run(stdin=f"/save {path}\n/save {tmp_path}/no/where.txt\n") == 0
    assert path.read_text(encoding="utf-8") == "years of work"
    out = said(capsys)
    assert "is there already" in out
    assert "cannot be written" in out


def test_what_no_longer_fits_is_said(run, capsys):
    assert run("--context", "90", stdin="what is it?\n" * 6 + "tell me more " * 60 + "\nx\n") == 0
    out = said(capsys)
    assert "oldest turn was dropped" in out or "oldest turns were dropped" in out
    assert "there is room for 82" in out


def test_ctrl_c_stops_the_answer_only(run, folder, monkeypatch, capsys):
    pieces = Chat.answer

    def interrupted(self):
        for piece in pieces(self):
            yield piece
            raise KeyboardInterrupt

    monkeypatch.setattr(Chat, "answer", interrupted)
    assert run(stdin="what is it?\nx\n") == 0
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_ctrl_c_while_typing_throws_the_line_away(monkeypatch, capsys):
    typed = iter(["half \\", KeyboardInterrupt(), "whole", "open \\", EOFError(), EOFError()])

    def typing(prompt):
        what = next(typed)
        if isinstance(what, BaseException):
            raise what
        return what

    monkeypatch.setattr(builtins, "input", typing)
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    assert list(command._lines()) == ["whole", "open"]
    assert "Ctrl-D or /exit ends" in capsys.readouterr().out


def test_a_model_that_can_not_answer(run, folder, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "tokenizer_config.json").unlink()
    assert run(model=other) == 1
    assert "came without a chat template" in said(capsys)
    assert run("--chatml", "--ask", "x", model=other) == 0
    assert run("--context", "8", model=folder) == 1
    assert "must be at least 1 and less than context=8" in said(capsys)


def test_what_is_not_fetched_is_said(run, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SCRATCHLM_CACHE", str(tmp_path))
    assert run(model="smollm2") == 1
    assert "scratchlm fetch smollm2" in said(capsys)
    assert run(model="nothing") == 1
    assert "scratchlm fetch --list" in said(capsys)


def test_generate_takes_them_too(run, folder, capsys):
    with pytest.raises(SystemExit) as end:
        main(["generate", str(folder), "--prompt", "what is", "--tokens", "5", "--seed", "1"])
    assert not end.value.code
    assert capsys.readouterr().out.startswith("what is")


def test_its_attention_is_drawn(folder, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["plot", str(folder), "--text", "what is it?"])
    assert not end.value.code
    assert [p.name for p in (tmp_path / "plots").iterdir()] == ["attention.png"]
    assert "loss" not in capsys.readouterr().out


def test_a_model_that_does_not_write(tmp_path, capsys):
    config = BERTConfig(5, 16, n_layer=1, n_head=1, n_embd=8)
    save_pretrained(BERT(config, rng=0), tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        main(["generate", str(tmp_path), "--prompt", "a"])
    assert end.value.code == 1
    assert "holds a BERT, which does not write" in said(capsys)


def test_the_benchmarks(capsys, monkeypatch, tmp_path):
    with pytest.raises(SystemExit) as end:
        main(["bench", "--help"])
    assert not end.value.code
    assert "usage: scratchlm bench" in capsys.readouterr().out
    monkeypatch.setattr("scratchlm.__file__", str(tmp_path / "scratchlm" / "__init__.py"))
    with pytest.raises(SystemExit) as end:
        main(["bench"])
    assert end.value.code == 1
    assert "the benchmarks are not here" in said(capsys)


@pytest.mark.slow
def test_the_real_model(run, capsys):
    pytest.importorskip("gguf")
    try:
        locate("smollm2")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert run("--ask", "What is the capital of France?", model="smollm2") == 0
    assert "Paris" in capsys.readouterr().out
