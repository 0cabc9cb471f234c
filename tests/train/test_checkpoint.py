"""Whatever happens to a save, the checkpoint before it is whole."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from scratchlm import models
from scratchlm.train import checkpoint as module
from scratchlm.train import load_checkpoint, load_model, save_checkpoint

pytest.importorskip("safetensors")


def arrays(value=0.0):
    rng = np.random.default_rng(0)
    return {
        "model": {"a": rng.normal(size=(3, 4)) + value, "b": np.float32(rng.normal(size=5))},
        "optimizer": {"0.m": rng.normal(size=(3, 4))},
    }


def save(folder, step, value=0.0, **options):
    return save_checkpoint(folder, step, arrays(value), {"note": "注意"}, **options)


def test_saved_and_loaded(tmp_path):
    folder = tmp_path / "ru n 文"
    path = save(folder, 20)
    assert path == folder / "checkpoint-000020"
    for place in (folder, path):
        loaded = load_checkpoint(place)
        assert loaded.path == path
        assert (loaded.state["step"], loaded.state["note"]) == (20, "注意")
        for kind, group in arrays().items():
            for name, array in group.items():
                assert loaded.arrays[kind][name].dtype == array.dtype
                np.testing.assert_array_equal(loaded.arrays[kind][name], array)


CONFIGS = {
    "BERTConfig": {"vocab_size": 9, "block_size": 8, "n_layer": 1, "n_head": 2, "n_embd": 4},
    "EncoderDecoderConfig": {"source_vocab_size": 9, "target_vocab_size": 8, "n_embd": 16},
    "GPTConfig": {"vocab_size": 9, "block_size": 8, "n_layer": 1, "n_head": 2, "n_embd": 4},
    "LlamaConfig": {"vocab_size": 9, "n_layer": 1, "n_head": 2, "n_kv_head": 1, "n_embd": 8},
    "RecurrentEncoderDecoderConfig": {
        "source_vocab_size": 9, "target_vocab_size": 8, "kind": "gru", "n_embd": 4,
    },
    "RecurrentLMConfig": {"vocab_size": 9, "kind": "rnn", "n_embd": 4},
    "T5Config": {"vocab_size": 9, "n_layer": 1, "n_head": 2, "n_embd": 8},
}  # fmt: skip


@pytest.mark.parametrize("kind", module.CONFIGS)
def test_every_kind_of_model_comes_back(tmp_path, kind):
    config = getattr(models, module.CONFIGS[kind])
    sizes = CONFIGS[config.__name__]
    model = getattr(models, kind)(config(**sizes), rng=1, dtype=np.float64)
    about = {"kind": kind, "config": model.config.to_dict(), "dtype": "float64"}
    save_checkpoint(tmp_path, 1, {"model": model.state_dict()}, {"model": about})
    again, vocabulary, _ = load_model(tmp_path)
    assert (type(again), again.config, vocabulary) == (type(model), model.config, None)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)


def test_a_model_of_another_kind_is_named(tmp_path):
    about = {"model": {"kind": "Mine", "config": None, "dtype": "float32"}}
    save_checkpoint(tmp_path, 1, {"model": {}}, about)
    with pytest.raises(ValueError, match="holds a Mine; make one in Python"):
        load_model(tmp_path)


def test_views_are_saved_as_they_look(tmp_path):
    x = np.arange(24.0).reshape(2, 3, 4)
    views = {"t": x.T, "slice": x[:, ::2, 1:], "scalar": np.array(3.0), "empty": x[:, :0]}
    save_checkpoint(tmp_path, 1, {"model": views}, {})
    for name, array in load_checkpoint(tmp_path).arrays["model"].items():
        assert array.shape == views[name].shape
        np.testing.assert_array_equal(array, views[name])


def test_the_newest_is_read_and_old_ones_go(tmp_path):
    for step in (9, 10, 100_000, 1_000_000):
        save(tmp_path, step, value=step, keep=3)
    assert [p.name for p in module.checkpoints(tmp_path)] == [
        "checkpoint-000010", "checkpoint-100000", "checkpoint-1000000",
    ]  # fmt: skip
    assert load_checkpoint(tmp_path).state["step"] == 1_000_000


def test_a_step_saved_twice_leaves_the_first_alone(tmp_path):
    first = save(tmp_path, 5)
    second = save(tmp_path, 5, value=1.0)
    assert first != second
    assert load_checkpoint(tmp_path).path == second
    np.testing.assert_array_equal(
        load_checkpoint(first).arrays["model"]["a"], arrays()["model"]["a"]
    )


DAMAGE = {
    "cut off": lambda p: (p / "model.safetensors").write_bytes(
        (p / "model.safetensors").read_bytes()[:-7]
    ),
    "empty": lambda p: (p / "model.safetensors").write_bytes(b""),
    "one bit": lambda p: (p / "optimizer.safetensors").write_bytes(
        (p / "optimizer.safetensors").read_bytes()[:-1] + b"\xff"
    ),
    "gone": lambda p: (p / "model.safetensors").unlink(),
    "no state": lambda p: (p / "state.json").unlink(),
    "half a state": lambda p: (p / "state.json").write_bytes((p / "state.json").read_bytes()[:100]),
    "another state": lambda p: (p / "state.json").write_text("[]", encoding="utf-8"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_read(tmp_path, damage):
    good, bad = save(tmp_path, 1), save(tmp_path, 2, value=1.0)
    DAMAGE[damage](bad)
    with pytest.raises(
        ValueError, match=r"checkpoint-000002 is damaged: .*; the one before is .*1$"
    ):
        load_checkpoint(bad)
    with pytest.warns(UserWarning, match="checkpoint-000002 is damaged.* going back"):
        assert load_checkpoint(tmp_path).path == good


def test_all_damaged(tmp_path):
    DAMAGE["cut off"](save(tmp_path, 1))
    with pytest.raises(ValueError, match="it is cut off; there is no earlier one"):
        load_checkpoint(tmp_path)


def test_a_format_from_the_future(tmp_path):
    path = save(tmp_path, 1)
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    (path / "state.json").write_text(json.dumps({**state, "format": 3}), encoding="utf-8")
    with pytest.raises(ValueError, match="has format 3, this version reads 1 and 2"):
        load_checkpoint(path)


def test_the_first_format_had_no_checksum_of_its_state(tmp_path):
    path = save(tmp_path, 1)
    about = json.loads((path / "state.json").read_text(encoding="utf-8"))
    del about["crc32"]
    about["format"] = 1
    (path / "state.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    loaded = load_checkpoint(path)
    assert loaded.state["note"] == "注意"
    np.testing.assert_array_equal(loaded.arrays["model"]["a"], arrays()["model"]["a"])


def test_any_byte_of_the_state_that_changes_is_noticed(tmp_path):
    path = save(tmp_path, 1)
    good = (path / "state.json").read_bytes()
    for place in range(len(good)):
        for bit in (0, 3):
            changed = bytearray(good)
            changed[place] ^= 1 << bit
            (path / "state.json").write_bytes(changed)
            with pytest.raises(ValueError, match=r"is damaged|has format"):
                load_checkpoint(path)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "model.pkl", ""])
def test_no_other_file_is_read(tmp_path, name):
    path = save(tmp_path, 1)
    about = json.loads((path / "state.json").read_text(encoding="utf-8"))
    about["files"] = {name: about["files"]["model.safetensors"]}
    del about["crc32"]
    (path / "state.json").write_bytes(module._sealed(about))
    with pytest.raises(ValueError, match=r"it names a file .* which no checkpoint has"):
        load_checkpoint(path)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no checkpoint, and holds none"):
        load_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("at", [1, 2, 3])  # each of the three files
def test_a_full_disk_keeps_the_old_one(tmp_path, monkeypatch, at):
    old = save(tmp_path, 1)
    calls = []

    def full(path, raw, write=module._write):
        calls.append(path)
        if len(calls) == at:
            path.write_bytes(raw[: len(raw) // 2])
            raise OSError(28, "No space left on device")
        write(path, raw)

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(OSError, match=r"No space left on device; .*checkpoint-000001 is intact"):
        save(tmp_path, 2)
    assert load_checkpoint(tmp_path).path == old
    assert sorted(p.name for p in tmp_path.iterdir()) == [old.name]  # no half-written rest


KILLED = """
import sys, time
from pathlib import Path
from scratchlm.train import checkpoint
import numpy as np

folder, at = Path(sys.argv[1]), int(sys.argv[2])
arrays = {"model": {"a": np.ones(1000)}, "optimizer": {"m": np.ones(1000)}}
checkpoint.save_checkpoint(folder, 1, arrays, {})
calls = []

def slow(path, raw, write=checkpoint._write):
    calls.append(path)
    if len(calls) == at:
        path.write_bytes(raw[:len(raw) // 2])
        print("half", flush=True)
        time.sleep(60)
    write(path, raw)

checkpoint._write = slow
arrays["model"]["a"] = np.zeros(1000)
checkpoint.save_checkpoint(folder, 2, arrays, {}, keep=1)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("at", [1, 3])
def test_kill_9_in_the_middle_of_a_save(tmp_path, at):
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(at)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.glob(".saving-*"))  # it was in the middle
    loaded = load_checkpoint(tmp_path)
    assert loaded.state["step"] == 1
    np.testing.assert_array_equal(loaded.arrays["model"]["a"], 1)
    save(tmp_path, 2)
    assert not list(tmp_path.glob(".saving-*"))  # the next save clears away


def test_without_safetensors_nothing_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(RuntimeError, match="pip install safetensors"):
        module.check_writable(tmp_path)


def test_an_output_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match=r"cannot write to the output folder .*run.*--out"):
        module.check_writable(tmp_path / "file" / "run")

    def denied(path, raw):
        raise PermissionError(13, "Permission denied")

    assert module.check_writable(tmp_path / "new" / "run").is_dir()
    assert not list((tmp_path / "new" / "run").iterdir())
    monkeypatch.setattr(module, "_write", denied)
    with pytest.raises(OSError, match="Permission denied; choose another"):
        module.check_writable(tmp_path / "new" / "run")
