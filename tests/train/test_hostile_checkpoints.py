"""Checkpoints that were damaged, by chance or on purpose: a clear error, or the model; never a
crash, never code that runs, never more memory than the files can fill.
"""

from __future__ import annotations

import json
import random
import shutil
import tracemalloc
import zlib

import pytest
from task_cases import MAKE, config

from scratchlm.models import GPT, GPTConfig, RecurrentLM, RecurrentLMConfig
from scratchlm.train import Trainer, load_checkpoint, load_model
from scratchlm.train import checkpoint as module

pytest.importorskip("safetensors")

HEAD = 2500  # where names, sizes and places are, which say how the rest is read
CASE = MAKE["next token"][0]


def gpt(**options):
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "dropout": 0.1, **options}
    return GPT(GPTConfig(20, 16, **sizes), rng=0)


@pytest.fixture
def good(tmp_path):
    Trainer(gpt(), CASE(), config(steps=3), out=tmp_path / "run").fit(progress=False)
    (path,) = (tmp_path / "run").glob("checkpoint-*")
    return path


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """Cut off, some bytes changed, eight set to extremes, some taken out, put in or repeated."""
    new, head = bytearray(raw), min(len(raw), HEAD)
    place, way = rng.randrange(head), rng.randrange(6)
    if way == 0:
        return raw[: rng.randrange(len(raw))]
    if way == 1:
        for _ in range(rng.randint(1, 5)):
            new[rng.randrange(head)] = rng.randrange(256)
    elif way == 2:
        new[place : place + 8] = bytes(rng.choice((0, 48, 57, 127, 255)) for _ in range(8))
    elif way == 3:
        del new[place : place + rng.randint(1, 40)]
    elif way == 4:
        new[place:place] = rng.randbytes(rng.randint(1, 30))
    else:
        new[place:place] = new[place : place + 40] * rng.randint(1, 50)
    return bytes(new)


def seal(path, state: bytes | dict, **files: bytes) -> None:
    """Write files, and the checksums that belong to them, as whoever means harm would."""
    about = dict(state)
    for name, raw in files.items():
        (path / f"{name}.safetensors").write_bytes(raw)
        about["files"] = {
            **about["files"],
            f"{name}.safetensors": {"bytes": len(raw), "crc32": zlib.crc32(raw)},
        }
    (path / "state.json").write_bytes(module._sealed(about))


def attempts(path, run):
    """What reading it says: by all that read checkpoints. None: it was read."""
    size = sum(p.stat().st_size for p in path.iterdir())
    said = []
    for read in (load_checkpoint, load_model, run):
        tracemalloc.start()
        try:
            read(path)
            said.append(None)
        except ValueError as error:
            said.append(str(error))
            assert str(path) in said[-1] or "Trainer" in said[-1] or "TrainConfig" in said[-1]
        except MemoryError:
            pytest.fail("it asked for memory that no file can fill")
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        # the files as read and the arrays in them, or these and what is made of them; and objects
        assert peak < 2 * size + 1e6, read
    return said


def resume(path):
    Trainer(gpt(), CASE(), out=path.parent, resume=True)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_damaged_files(good, name):
    """170 of each; the checksum finds every one that is not as it was."""
    rng, raw = random.Random(name), (good / name).read_bytes()
    attempts(good, resume)  # what it imports is no part of the count
    for _ in range(170):
        changed = damaged(raw, rng)
        (good / name).write_bytes(changed)
        said = attempts(good, resume)
        if changed != raw:
            assert all(said), changed[:200]
            assert "is damaged" in said[0] or "has format" in said[0]


@pytest.mark.parametrize("name", ["model", "optimizer"])
def test_safetensors_with_a_right_checksum(good, name):
    state, rng = load_checkpoint(good).state, random.Random(name)
    raw = (good / f"{name}.safetensors").read_bytes()
    refused = 0
    for _ in range(100):
        seal(good, state, **{name: damaged(raw, rng)})
        refused += attempts(good, resume)[2] is not None
    assert refused > 70  # where numbers alone changed, they are other numbers


ODD = [-1, 0, 10**30, 0.5, 1e308, float("nan"), float("inf"), "x", [], {}, None, True, [[[]]]]


def places(value, way=()):
    """The way to every value in it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*way, key)
            yield from places(inner, (*way, key))


def put(value, way, new):
    if not way:
        return new
    return {**value, way[0]: put(value[way[0]], way[1:], new)}


def test_extremes_in_the_state(good):
    """Each value replaced by each that nobody would write, under a right checksum."""
    state = load_checkpoint(good).state
    rng, refused, tried = random.Random(0), 0, 0
    for way in places(state):
        if way[0] == "files":  # written anew
            continue
        for value in rng.sample(ODD, 2):
            seal(good, put(state, way, value))
            refused += any(attempts(good, resume))
            tried += 1
    assert tried > 80
    assert refused > tried / 2  # a learning rate of 0.5 is one, too


def test_more_layers_than_weights(good):
    """Sizes are looked at before the model is made."""
    state = load_checkpoint(good).state
    for name in ("vocab_size", "block_size", "n_layer", "n_embd"):
        for size in (10**5, 10**9, 10**15):
            seal(good, put(state, ("model", "config", name), size))
            said = attempts(good, lambda path: None)
            assert "numbers, the weights are" in said[1] or "does not split" in said[1]


def test_nesting_without_end(good):
    (good / "state.json").write_bytes(b'{"format": 1, "files": ' + b"[" * 100_000)
    with pytest.raises(ValueError, match="is damaged"):
        load_checkpoint(good)


def test_no_code_runs(good, tmp_path):
    """A pickle in place of weights is refused, not read."""
    import pickle

    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    seal(good, load_checkpoint(good).state, model=pickle.dumps(Harm()))
    assert all(attempts(good, resume))
    assert not (tmp_path / "harm").exists()
    state = json.loads((good / "state.json").read_text(encoding="utf-8"))
    for kind in ("os.system", "__init__", "load_pretrained", "NGram"):
        seal(good, put(state, ("model", "kind"), kind))
        with pytest.raises(ValueError, match=r"load_model|no safetensors"):
            load_model(good)


def test_every_model_here_has_room_for_itself(tmp_path):
    """The look at sizes refuses none that is whole."""
    nets = [gpt(), RecurrentLM(RecurrentLMConfig(20, n_layer=1, n_embd=3), rng=0)]
    for net in nets:
        Trainer(net, CASE(), config(steps=1), out=tmp_path / type(net).__name__).save()
        assert type(load_model(tmp_path / type(net).__name__)[0]) is type(net)
    for name, (make, model) in MAKE.items():
        folder = tmp_path / name
        Trainer(model(), make(), config(steps=1), out=folder).save()
        again, _, state = load_model(folder)
        assert state["task"] == type(make()).__name__
        assert again.num_parameters() == model().num_parameters()
        shutil.rmtree(folder)
