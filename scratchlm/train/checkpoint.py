"""Checkpoints: a folder of safetensors and JSON that is there as a whole or not at all.

Everything is written into a folder under another name and forced onto the disk, and only then is
the folder renamed. A rename happens or does not, so whatever interrupts a save (a full disk,
``kill -9``, a power cut) the checkpoints before it stay as they were. Sizes and checksums tell a
damaged file from a good one. No pickle: loading a checkpoint runs no code.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import check_head, safetensors
from ..nn import skip_init
from ..text import Tokenizer, tokenizer_from_dict

STATE = "state.json"
FORMAT = 2  # since 2, the first line of state.json holds a checksum of the lines after it
READABLE = (1, 2)
# the models of `scratchlm.models` that their configuration alone can make again: model -> its class
CONFIGS = {
    "BERT": "BERTConfig",
    "BERTForMaskedLM": "BERTConfig",
    "BERTForSequenceClassification": "BERTConfig",
    "BERTForTokenClassification": "BERTConfig",
    "EncoderDecoder": "EncoderDecoderConfig",
    "GPT": "GPTConfig",
    "Llama": "LlamaConfig",
    "RecurrentEncoderDecoder": "RecurrentEncoderDecoderConfig",
    "RecurrentLM": "RecurrentLMConfig",
    "T5": "T5Config",
}
# products of their sizes, each of which is the number of weights in some part of the model
PARTS = (
    "vocab_size n_embd", "source_vocab_size n_embd", "target_vocab_size n_embd", "n_types n_embd",
    "n_layer n_embd", "n_decoder_layer n_embd", "n_layer n_embd n_inner", "num_buckets n_head",
    "n_decoder_layer n_embd n_inner", "n_layer n_embd n_head head_dim", "num_labels",
)  # fmt: skip
# and of those models whose heads make up the width, and whose places have vectors
SQUARE = ("n_layer n_embd n_embd", "block_size n_embd")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds: named groups of arrays, and a state for JSON."""

    path: Path
    arrays: dict[str, dict[str, np.ndarray]]
    state: dict[str, Any]

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """Inside, what is missing or of another kind than a checkpoint's is a ValueError.

        The checksums tell of damage; they do not keep anyone from writing nonsense.
        """
        try:
            yield
        except KeyError as error:
            raise ValueError(f"checkpoint {self.path} has no {error}") from error
        except (ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise ValueError(f"checkpoint {self.path}: {error}") from error


def save_checkpoint(
    folder: str | Path,
    step: int,
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    state: Mapping[str, Any],
    *,
    keep: int = 2,
) -> Path:
    """Write ``folder/checkpoint-<step>``, then remove all but the newest ``keep``.

    Args:
        folder: of the run; made if it is not there.
        step: how many updates were done.
        arrays: file name → array name → array; each becomes ``<file name>.safetensors``.
        state: what JSON can say.
        keep: how many checkpoints to leave, this one included.

    Raises:
        OSError: the disk is full, the folder cannot be written; the message names the checkpoint
            before, which is intact.
    """
    save = safetensors("checkpoints").numpy.save
    folder = Path(folder)
    name = _free_name(folder, step)
    temporary = folder / f".saving-{os.getpid()}-{name}"
    try:
        temporary.mkdir(parents=True)
        files = {}
        for kind, group in arrays.items():
            # safetensors writes the memory as it lies: a transposed view would come out scrambled
            raw = save({key: np.asarray(array, order="C") for key, array in group.items()})
            files[f"{kind}.safetensors"] = {"bytes": len(raw), "crc32": zlib.crc32(raw)}
            _write(temporary / f"{kind}.safetensors", raw)
        about = {"format": FORMAT, "step": step, "files": files, **state}
        _write(temporary / STATE, _sealed(about))
        _sync_folder(temporary)
        temporary.rename(folder / name)
        _sync_folder(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        former = checkpoints(folder)
        intact = f"{former[-1]} is intact" if former else "there is no earlier one"
        raise type(error)(
            f"could not save {folder / name}: {error.strerror or error}; {intact}"
        ) from error
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    for stray in folder.glob(".saving-*"):  # left by a process that was killed
        if stray.is_dir():
            shutil.rmtree(stray, ignore_errors=True)
        else:
            stray.unlink(missing_ok=True)
    return folder / name


def checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints of a run, oldest first (by step)."""
    found = [p for p in Path(folder).glob("checkpoint-*") if _number(p) is not None and p.is_dir()]
    return sorted(found, key=lambda p: _number(p) or (0, 0))


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint, or the newest good one of a run's folder.

    A damaged one is passed over with a warning that names it, and the one before is read.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the checkpoint named, or every one of the run, is damaged.
    """
    path = Path(path)
    if (path / STATE).exists() or _number(path) is not None:
        return _read(path)
    found = checkpoints(path)
    if not found:
        raise FileNotFoundError(
            f"load_checkpoint: {path} is no checkpoint, and holds none; name the folder that "
            "training wrote to, or a checkpoint-<step> in it"
        )
    for candidate in reversed(found):
        try:
            checkpoint = _read(candidate)
        except ValueError as error:
            if candidate is found[0]:
                raise
            warnings.warn(f"{error}; going back to the one before", stacklevel=2)
        else:
            return checkpoint
    raise AssertionError("unreachable")


def load_model(path: str | Path) -> tuple[Any, Tokenizer | None, dict[str, Any]]:
    """The model of a checkpoint (or of a run's folder), its vocabulary, and the saved state.

    Raises:
        FileNotFoundError, ValueError: as ``load_checkpoint``; or the model is of a kind that cannot
            be made from its configuration alone, or of other sizes than the weights.
    """
    from .. import models

    checkpoint = load_checkpoint(path)
    with checkpoint.read():
        about, weights = checkpoint.state["model"], checkpoint.arrays["model"]
        kind, dtype = about["kind"], about["dtype"]
        if kind not in CONFIGS:
            raise ValueError(
                f"load_model: {checkpoint.path} holds a {kind}; make one in Python, then "
                "model.load_state_dict(load_checkpoint(path).arrays['model'])"
            )
        if dtype not in ("float32", "float64"):
            raise ValueError(f"its weights are of dtype {dtype!r}")
        config = getattr(models, CONFIGS[kind]).from_dict(about["config"])
        _check_room(config, sum(array.size for array in weights.values()))
        model = skip_init(getattr(models, kind), config, rng=0, dtype=dtype)
        model.load_state_dict(weights)
        saved = checkpoint.state.get("vocabulary")
        vocabulary = tokenizer_from_dict(saved) if saved else None
    return model, vocabulary, checkpoint.state


def _check_room(config: Any, numbers: int) -> None:
    """Refuse sizes that no ``numbers`` weights can fill, before memory is asked for.

    Raises:
        ValueError: a part of the model alone has more.
    """
    for names in PARTS if hasattr(config, "head_dim") else PARTS + SQUARE:
        sizes: list[Any] = [getattr(config, name, None) for name in names.split()]
        if all(isinstance(size, int) for size in sizes) and math.prod(sizes) > numbers:
            raise ValueError(
                f"its configuration says {' × '.join(names.split())} = {math.prod(sizes):,} "
                f"numbers, the weights are {numbers:,} in all"
            )


def _read(path: Path) -> Checkpoint:
    package = safetensors("checkpoints")

    def damaged(why: str) -> ValueError:
        former = [p for p in checkpoints(path.parent) if (_number(p) or ()) < (_number(path) or ())]
        hint = f"; the one before is {former[-1]}" if former else "; there is no earlier one"
        return ValueError(f"checkpoint {path} is damaged: {why}{hint}")

    try:
        sealed = (path / STATE).read_bytes()
        state = json.loads(sealed)
        form = state["format"]
        files = {
            str(name): (int(f["bytes"]), int(f["crc32"])) for name, f in state["files"].items()
        }
    except OSError as error:
        raise damaged(f"{STATE} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(f"{STATE} is cut off or no JSON of a checkpoint ({error})") from error
    if form not in READABLE:
        raise ValueError(
            f"checkpoint {path} has format {form}, this version reads "
            f"{' and '.join(map(str, READABLE))}; update scratchlm, or load it with the version "
            "that wrote it"
        )
    if (form > 1 or "crc32" in state) and not _unbroken(sealed):
        raise damaged(f"{STATE} was changed since it was written (its checksum differs)")
    state.pop("crc32", None)
    arrays = {}
    for name, (size, checksum) in files.items():
        if not re.fullmatch(r"\w+\.safetensors", name):
            raise damaged(f"it names a file {name!r}, which no checkpoint has")
        try:
            if (path / name).stat().st_size != size:
                given = (path / name).stat().st_size
                raise damaged(f"{name} has {given:,} bytes of {size:,}, it is cut off")
            raw = (path / name).read_bytes()
        except OSError as error:
            raise damaged(f"{name} cannot be read ({error.strerror})") from error
        if zlib.crc32(raw) != checksum:
            raise damaged(f"{name} was changed since it was written (its checksum differs)")
        try:
            check_head(path / name)
            arrays[name.removesuffix(".safetensors")] = package.numpy.load(raw)
        except (package.SafetensorError, ValueError, KeyError, TypeError) as error:
            raise damaged(f"{name} is no safetensors file ({error})") from error
    return Checkpoint(path, arrays, state)


def _sealed(about: Mapping[str, Any]) -> bytes:
    """JSON whose first line is a checksum of all bytes after that line."""
    rest = json.dumps(about, indent=1, ensure_ascii=False).removeprefix("{\n").encode()
    return b'{ "crc32": "%08x",\n' % zlib.crc32(rest) + rest


def _unbroken(sealed: bytes) -> bool:
    """Whether the checksum is the right one."""
    first, _, rest = sealed.partition(b"\n")
    return first == b'{ "crc32": "%08x",' % zlib.crc32(rest)


def check_writable(folder: str | Path) -> Path:
    """Make the folder if need be and try to write into it: before training, not after.

    Raises:
        OSError: it cannot be made, or written to; the message says why.
        RuntimeError: safetensors is not installed.
    """
    safetensors("checkpoints")
    folder = Path(folder)
    probe = folder / f".saving-{os.getpid()}-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(probe, b"scratchlm")
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink()
        raise type(error)(
            f"cannot write to the output folder {folder}: {error.strerror or error}; "
            "choose another one with --out",
        ) from error
    return folder


def _write(path: Path, raw: bytes) -> None:
    """Write a file and force it onto the disk."""
    with path.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Force the names in a folder onto the disk (Windows does so by itself, and can't be asked)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _number(path: Path) -> tuple[int, int] | None:
    """``checkpoint-000020`` → (20, 1), ``checkpoint-000020-2`` → (20, 2), anything else → None."""
    match = re.fullmatch(r"checkpoint-(\d+)(?:-(\d+))?", path.name)
    return (int(match[1]), int(match[2] or 1)) if match else None


def _free_name(folder: Path, step: int) -> str:
    """A name that is not taken: a step saved twice must not touch what was saved first."""
    taken = [n for p in folder.glob("checkpoint-*") if (n := _number(p)) and n[0] == step]
    again = max((n[1] for n in taken), default=0) + 1
    return f"checkpoint-{step:06d}" + (f"-{again}" if again > 1 else "")
