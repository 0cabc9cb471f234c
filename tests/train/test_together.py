"""Processes that train one model together, over a real MPI."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from task_cases import MAKE

from scratchlm.train import load_checkpoint
from scratchlm.train import workers as module
from scratchlm.train.checkpoint import checkpoints

pytest.importorskip("safetensors")
BESIDE = Path(sys.executable).with_name("mpiexec")
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
SCRIPT = Path(__file__).with_name("together.py")
ROOT = Path(__file__).parents[2]

needs_mpi = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
    reason="no MPI: python -m pip install mpi4py mpich",
)


def launch(processes, *command):
    """Run it in N processes, with one thread each, and see that it ends."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    start = [sys.executable] if processes == 1 else [MPIEXEC, "-n", str(processes), sys.executable]
    # files, not pipes, which a process that hangs would keep open
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
    ):
        done = subprocess.run(
            [*start, *map(str, command)], cwd=ROOT, env=environment, timeout=120, stdout=out,
            stderr=err, check=False,
        )  # fmt: skip
        out.seek(0)
        err.seek(0)
        done.stdout, done.stderr = out.read(), err.read()
    return done


def train(out, processes, names, happens=None, **options):
    """Weights, and what each process has to say, of each case."""
    words = ",".join(names), out, json.dumps(options), json.dumps(happens or {})
    done = launch(processes, SCRIPT, *words)
    assert done.returncode == 0, done.stderr
    found = []
    for name in names:
        texts = [(out / name / f"rank-{r}.json").read_text("utf-8") for r in range(processes)]
        ranks = [json.loads(text) for text in texts]
        assert [r["size"] for r in ranks] == [processes] * processes
        with np.load(out / name / "weights.npz") as weights:
            found.append((dict(weights), ranks))
    return found


def compare(a, b, atol):
    """Equal up to ``atol``. A key's bias adds the same to all scores of a row, so its gradient is 0
    but for rounding (1e-17), which Adam divides by 1e-8 and makes steps of."""
    assert a.keys() == b.keys()
    for key in a:
        noise = 1e-9 if atol and key.endswith(("key.bias", "k_proj.bias")) else 0
        np.testing.assert_allclose(a[key], b[key], rtol=0, atol=atol + noise, err_msg=key)


STEPS = {"steps": 3, "batch_size": 7, "eval_every": 2, "log_every": 1}


@needs_mpi
def test_one_two_and_three_processes_make_the_same_weights(tmp_path):
    single = train(tmp_path / "1", 1, MAKE, **STEPS)
    for processes, parts in [(2, 1), (3, 1), (3, 2)]:
        where = tmp_path / f"{processes}-{parts}"
        several = train(where, processes, MAKE, accumulate=parts, **STEPS)
        for (alone, (one,)), (weights, ranks) in zip(single, several, strict=True):
            compare(weights, alone, atol=1e-12)
            for rank in ranks:
                assert rank["sum"] == ranks[0]["sum"]  # no two drift apart, not by a bit
                for ours, theirs in zip(rank["history"], one["history"], strict=True):
                    for key in ours.keys() - {"seconds", "tokens_per_second"}:
                        assert ours[key] == pytest.approx(theirs[key], rel=1e-11), key


@needs_mpi
def test_more_processes_than_examples(tmp_path):
    """Some have nothing to do, and all the same must take part."""
    options = {**STEPS, "batch_size": 2}
    ((alone, _),) = train(tmp_path / "1", 1, ["instructions"], **options)
    ((weights, _),) = train(tmp_path / "3", 3, ["instructions"], **options)
    compare(weights, alone, atol=1e-12)


@needs_mpi
def test_dropout_is_each_process_s_own_and_goes_on_bit_for_bit(tmp_path):
    options = {"steps": 8, "batch_size": 6, "save_every": 4, "keep": 9, "eval_every": 0}
    dropping = {"dropout": 0.3, "saved": True}
    ((straight, ranks),) = train(tmp_path / "a", 2, ["masked"], dropping, **options)
    assert ranks[0]["rng"] != ranks[1]["rng"]
    run = tmp_path / "b" / "masked" / "run"
    shutil.copytree(tmp_path / "a" / "masked" / "run", run)
    shutil.rmtree(checkpoints(run)[-1])
    assert load_checkpoint(run).state["step"] == 4
    again = {**dropping, "resume": True, "seed": 9}
    ((resumed, others),) = train(tmp_path / "b", 2, ["masked"], again, **options)
    compare(resumed, straight, atol=0)
    assert [r["rng"] for r in others] == [r["rng"] for r in ranks]
    log = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in log] == [5, 8, 8]  # written by one
    # another number of processes goes on, too, with another dropout
    fewer = tmp_path / "c" / "masked" / "run"
    shutil.copytree(run, fewer)
    shutil.rmtree(checkpoints(fewer)[-1])
    ((other, (alone,)),) = train(tmp_path / "c", 1, ["masked"], again, **options)
    assert alone["step"] == 8
    assert any((other[key] != straight[key]).any() for key in other)


@needs_mpi
@pytest.mark.parametrize(("when", "last"), [("ctrl-c", 3), ("late ctrl-c", 4)])
def test_ctrl_c_in_one_process_stops_all_after_the_same_step(tmp_path, when, last):
    happens = {"what": when, "rank": 1, "step": 2, "saved": True}
    ((_, ranks),) = train(tmp_path, 2, ["tags"], happens, steps=50, eval_every=0)
    assert [(r["step"], r["interrupted"]) for r in ranks] == [(last, True)] * 2
    assert load_checkpoint(tmp_path / "tags" / "run").state["step"] == last


@needs_mpi
def test_ctrl_c_in_the_terminal_saves_and_says_how_to_go_on(tmp_path):
    text, out = tmp_path / "text.txt", tmp_path / "run"
    text.write_text("\n\n".join(f"{i} and {i} is {2 * i}." for i in range(300)), encoding="utf-8")
    sizes = ["--layers", "1", "--heads", "2", "--width", "8", "--length", "8", "--save-every", "5"]
    command = [MPIEXEC, "-n", "2", sys.executable, "-m", "scratchlm", "train", text, "--out", out]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*map(str, command), *sizes, "--steps", "100000"], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        end = time.monotonic() + 60
        while not checkpoints(out) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        try:
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    step = load_checkpoint(out).state["step"]
    assert f"Stopped after step {step}; all is saved" in said
    assert said.count("train --resume --out") == 1


@needs_mpi
@pytest.mark.parametrize("rank", [0, 1])
def test_nan_in_one_process_stops_all(tmp_path, rank):
    happens = {"what": "nan", "rank": rank, "step": 2, "saved": True}
    options = {"steps": 50, "save_every": 1, "eval_every": 0}
    ((_, ranks),) = train(tmp_path, 2, ["tags"], happens, **options)
    assert [r["step"] for r in ranks] == [2, 2]
    for each in ranks:
        assert "FloatingPointError: training stopped at step 3" in each["said"]
        assert "The last good checkpoint" in each["said"]


@needs_mpi
def test_a_full_disk_in_the_first_process_stops_all(tmp_path):
    happens = {"what": "full disk", "rank": 0, "step": 2, "saved": True}
    options = {"steps": 50, "save_every": 2, "eval_every": 0}
    ((_, ranks),) = train(tmp_path, 2, ["tags"], happens, **options)
    assert "No space left on device" in ranks[0]["said"]
    assert "the first process failed: could not save" in ranks[1]["said"]
    assert load_checkpoint(tmp_path / "tags" / "run").state["step"] == 2


@needs_mpi
@pytest.mark.parametrize("rank", [0, 1])
def test_a_bug_in_one_process_ends_all(tmp_path, rank):
    happens = json.dumps({"what": "bug", "rank": rank, "step": 1})
    done = launch(2, SCRIPT, "tags", tmp_path, json.dumps({"steps": 50}), happens)
    assert done.returncode != 0
    assert "a bug in one process alone" in done.stderr
    assert f"process {rank} of 2 failed, which ends all" in done.stderr


@needs_mpi
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_outside_of_training_ends_all(tmp_path, rank):
    happens = json.dumps({"what": "outside", "rank": rank})
    done = launch(2, SCRIPT, "tags", tmp_path, json.dumps({"steps": 10**6}), happens)
    assert done.returncode != 0
    assert "a bug outside of training" in done.stderr


@needs_mpi
@pytest.mark.parametrize("rank", [0, 1])
def test_a_text_that_one_process_lacks_ends_all(tmp_path, rank):
    text = tmp_path / f"text-{1 - rank}.txt"
    text.write_text("\n\n".join(f"{i} and {i} is {2 * i}." for i in range(300)), encoding="utf-8")
    done = launch(
        2,
        "-c",
        f"""
from scratchlm.train.workers import workers
from scratchlm.cli import main
out = ["--out", {str(tmp_path / "run")!r}, "--steps", "100000"]
main(["train", {str(tmp_path)!r} + f"/text-{{workers().rank}}.txt", *out])
""",
    )
    assert done.returncode != 0
    assert "no file or folder" in done.stderr


@needs_mpi
def test_a_folder_that_is_taken_is_said_once(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"{i} and {i} is {2 * i}." for i in range(300)), encoding="utf-8")
    sizes = ["--layers", "1", "--heads", "2", "--width", "8", "--length", "8", "--steps", "1"]
    command = ["-m", "scratchlm", "train", text, "--out", tmp_path / "run", *sizes]
    assert launch(1, *command).returncode == 0
    done = launch(2, *command)
    assert done.returncode != 0
    assert done.stderr.count("--overwrite replaces it") == 1


@needs_mpi
def test_from_the_command_line(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"{i} and {i} is {2 * i}." for i in range(300)), encoding="utf-8")
    sizes = {"steps": 5, "layers": 1, "heads": 2, "width": 8, "length": 8, "batch": 5}
    options = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    runs = {}
    for processes in (1, 2):
        out = tmp_path / str(processes)
        done = launch(processes, "-m", "scratchlm", "train", text, "--out", out, *options)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("It writes with") == 1  # one of them speaks
        runs[processes] = load_checkpoint(out)
    for key, weights in runs[1].arrays["model"].items():
        if not key.endswith("c_attn.bias"):  # its third for the keys is noise, see above
            # float32, five steps of Adam at 2e-3
            np.testing.assert_allclose(runs[2].arrays["model"][key], weights, rtol=0, atol=1e-4)
    log = (tmp_path / "2" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(log) == 2


def test_alone_there_is_nothing_to_wait_for(monkeypatch):
    for name in module.LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    alone = module.workers()
    assert (alone.rank, alone.size) == (0, 1)
    assert alone.gather("x") == ["x"]
    with pytest.raises(KeyError), alone.bound():
        raise KeyError


def test_without_mpi_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(RuntimeError, match="pip install mpi4py mpich"):
        module.workers()
