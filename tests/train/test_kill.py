"""``kill -9``, twenty times, whenever it comes: the run ends as if nothing had happened."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from scratchlm.train import load_checkpoint
from scratchlm.train.checkpoint import checkpoints

pytest.importorskip("safetensors")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's"),
]
ROOT = Path(__file__).parents[2]
SAVE_EVERY, KILLS = 5, 20
SIZES = {
    "steps": 400, "layers": 1, "heads": 2, "width": 8, "length": 8, "batch": 2, "dropout": 0.1,
    "save-every": SAVE_EVERY,
}  # fmt: skip


def start(*options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "scratchlm", "train", *map(str, options)], cwd=ROOT,
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def newest(run):
    """The step of the newest checkpoint that is whole, -1 without any."""
    return load_checkpoint(run).state["step"] if checkpoints(run) else -1


def wait_for(what, process, seconds=60):
    end = time.monotonic() + seconds
    while not what() and process.poll() is None:
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.0005)


def kill_somewhen(process, run, how, rng):
    """In the middle of a save, some moment after one, or while it is still getting ready."""
    if how == "getting ready":
        time.sleep(rng.uniform(0.1, 2.0))
    else:
        before = checkpoints(run)
        wait_for(lambda: checkpoints(run) != before, process)
        if how == "saving":
            wait_for(lambda: list(run.glob(".saving-*")), process)
            time.sleep(rng.uniform(0, 0.01))
        else:
            time.sleep(rng.uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    process.communicate()


def read_log(run):
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    timed = {"seconds", "tokens_per_second"}
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]


def test_killed_twenty_times(tmp_path):
    rng = random.Random(0)
    text, run = tmp_path / "text.txt", tmp_path / "killed"
    text.write_text("\n\n".join(f"{i} and {i} is {2 * i}." for i in range(300)), encoding="utf-8")
    sizes = [word for name, size in SIZES.items() for word in (f"--{name}", size)]

    whole = start(text, "--out", tmp_path / "whole", *sizes)
    said, _ = whole.communicate(timeout=120)
    assert whole.returncode == 0, said

    def options():
        return ["--resume", "--out", run] if newest(run) >= 0 else [text, "--out", run, *sizes]

    ways = ["saving"] * 9 + ["getting ready"] * 3 + ["training"] * 8
    rng.shuffle(ways)
    assert len(ways) == KILLS
    halves = 0
    while ways:
        saved = newest(run)
        process = start(*options())
        kill_somewhen(process, run, ways[-1], rng)
        if process.returncode == 0:  # a quick machine: it was done before the blow came
            assert_same_run(run, tmp_path / "whole")
            shutil.rmtree(run)
            continue
        assert process.returncode == -signal.SIGKILL
        ways.pop()
        halves += bool(list(run.glob(".saving-*/")))
        assert newest(run) >= saved  # what was saved stays saved
        records = read_log_of_killed(run)
        if records:  # and at most the steps since then are lost
            assert records[-1]["step"] <= newest(run) + SAVE_EVERY
    assert halves > 3  # some did hit a save

    last = start(*options())
    said, _ = last.communicate(timeout=120)
    assert last.returncode == 0, said
    assert_same_run(run, tmp_path / "whole")


def assert_same_run(run, whole):
    a, b = load_checkpoint(whole), load_checkpoint(run)
    assert a.state["step"] == b.state["step"] == SIZES["steps"]
    for kind, group in a.arrays.items():
        assert group.keys() == b.arrays[kind].keys()
        for name, array in group.items():
            np.testing.assert_array_equal(array, b.arrays[kind][name], err_msg=name)
    assert a.state["rng"] == b.state["rng"]
    # each step once, with the same figures to the last digit
    assert read_log(run) == read_log(whole)
    assert not list(run.glob(".saving-*"))


def read_log_of_killed(run):
    """A line may have been cut."""
    if not (run / "log.jsonl").exists():
        return []
    records = []
    for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records
