"""Weights that others trained: folders as Hugging Face's hub has them, and GGUF files.

A folder holds ``config.json``, which says what the model is, and its weights in the safetensors
format, which is numbers and their names. Files that are pickled Python objects are not read:
loading one runs whatever code is in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import check_head, safetensors
from ..nn import Module, skip_init
from ..text import BPE, Tokenizer, WordPiece, load_tokenizer
from ..text.gguf import read_gguf, tokenizer_of
from ..text.jsonfile import read_json
from . import bert
from .bert import BERT
from .checkpoints import (
    BERT_ALONE,
    BERT_FILLS_GAPS,
    BERT_HEADS,
    GPT2,
    LLAMA,
    T5_LAYOUT,
    Layout,
    check_sizes,
    config_from_hf,
    config_to_hf,
    from_hf_state,
    to_hf_state,
)
from .gguf import llama_of
from .gpt import GPT
from .llama import Llama
from .t5 import T5

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TABLES = [("id2label",), ("label2id",), ("weight_map",)]  # of these files, as long as they like


@dataclass(frozen=True)
class Published:
    """A model here, and what it is called in a ``config.json``."""

    architecture: str
    model: type[Any]
    layout: Layout
    also: tuple[str, ...] = ()  # other architectures whose weights it can use


# of each model_type, the first is taken where a config.json names no architecture
PUBLISHED = (
    Published("GPT2LMHeadModel", GPT, GPT2, ("GPT2Model",)),
    Published("BertModel", BERT, BERT_ALONE),
    Published("BertForMaskedLM", bert.BERTForMaskedLM, BERT_FILLS_GAPS, ("BertForPreTraining",)),
    Published("BertForSequenceClassification", bert.BERTForSequenceClassification, BERT_HEADS),
    Published("BertForTokenClassification", bert.BERTForTokenClassification, BERT_HEADS),
    Published("T5ForConditionalGeneration", T5, T5_LAYOUT, ("T5WithLMHeadModel",)),
    Published("LlamaForCausalLM", Llama, LLAMA),
)


def load_pretrained(source: str | os.PathLike[str], *, dtype: Any = np.float32) -> Any:
    """The model whose weights are in ``source``, in evaluation mode (no dropout).

    Args:
        source: a folder with ``config.json`` and ``model.safetensors`` (or several files and
            their index), of GPT-2, BERT, T5 or Llama; a ``.gguf`` file of Llama; or the name of
            what ``scratchlm fetch`` has brought, such as ``"minilm"`` or ``"smollm2"``.
        dtype: of the weights, float32 or float64; what is stored in fewer bits is converted.

    Raises:
        FileNotFoundError: no such folder, file or name, or not fetched yet; the message says what
            to do.
        ValueError: a model that is not here, an option that it has not, weights that are missing,
            not known or of another shape, damaged files.
        RuntimeError: a package that is needed is not installed.
    """
    return _loaded(source, dtype, tokenizer=False)[0]


def load_with_tokenizer(
    source: str | os.PathLike[str], *, dtype: Any = np.float32
) -> tuple[Any, Tokenizer]:
    """A model and the tokenizer that belongs to it: from text to ids, to the model, and back::

        model, tokenizer = load_with_tokenizer("smollm2")
        ids = generate(model, tokenizer.encode("The capital of France is"), 8)

    Where the files say so, the tokenizer has the ``eos_id`` that ends a text and the
    ``chat_template`` (:class:`scratchlm.text.ChatTemplate`).

    Args:
        source: as of :func:`load_pretrained`; a folder holds ``tokenizer.json``, too, or, for
            BERT, ``vocab.txt``.
        dtype: of the weights.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: as :func:`load_pretrained`; or the tokenizer
            is missing, damaged or of a kind that is not here.
    """
    return _loaded(source, dtype, tokenizer=True)


def _loaded(source: str | os.PathLike[str], dtype: Any, *, tokenizer: bool) -> tuple[Any, Any]:
    path = _found(source)
    if path.is_dir():
        return _folder_model(path, dtype), _folder_tokenizer(path) if tokenizer else None
    if path.suffix != ".gguf":
        raise ValueError(
            f"load_pretrained: {path} is a file; give the folder that {CONFIG} and {WEIGHTS} "
            "are in, or a .gguf file"
        )
    try:
        about, stored = read_gguf(path)
        vocabulary = tokenizer_of(about, path) if tokenizer else None
        return llama_of(about, stored, path, dtype=dtype), vocabulary
    except (ValueError, RuntimeError) as error:
        raise type(error)(f"load_pretrained: {error}") from error


def _folder_model(path: Path, dtype: Any) -> Any:
    values = _json(path / CONFIG)
    kind = _published(values, path)
    state = from_hf_state(_weights(path), kind.layout)
    try:
        config = config_from_hf(values, kind.layout)
        check_sizes(config, kind.layout, sum(array.size for array in state.values()))
    except (ValueError, TypeError) as error:  # JSON has numbers where they do not belong, too
        raise ValueError(f"load_pretrained: {path}: {error}") from error
    return _filled(skip_init(kind.model, config, rng=0, dtype=dtype), state, path)


def _folder_tokenizer(path: Path) -> Tokenizer:
    if (path / "tokenizer.json").exists():
        tokenizer = load_tokenizer(path / "tokenizer.json")
    elif (path / "vocab.txt").exists():
        tokenizer = WordPiece.from_vocab(path / "vocab.txt")
    else:
        raise FileNotFoundError(f"load_with_tokenizer: {path} has no tokenizer.json or vocab.txt")
    if isinstance(tokenizer, BPE):
        about = path / "tokenizer_config.json"
        said = _json(about).get("chat_template") if about.exists() else None
        alone = path / "chat_template.jinja"
        said = alone.read_text(encoding="utf-8") if alone.exists() else said
        tokenizer.chat_template = said if isinstance(said, str) else None
        tokenizer.eos_id = _end(_json(path / CONFIG).get("eos_token_id"), len(tokenizer))
    return tokenizer


def _end(said: Any, size: int) -> int | None:
    """The id that ends a text: a file may name several, the first of which is meant."""
    first = said[0] if isinstance(said, list) and said else said
    return first if type(first) is int and 0 <= first < size else None


def save_pretrained(model: Module, folder: str | os.PathLike[str]) -> Path:
    """Write ``config.json`` and ``model.safetensors``, as transformers loads them.

    Each file is written under another name and renamed, so an interrupted save leaves what was
    there. What else is in the folder stays.

    Raises:
        TypeError: a model that transformers has not.
        ValueError: an option that a ``config.json`` of its kind can not say.
        OSError: the folder can't be written.
    """
    kind = next((each for each in PUBLISHED if type(model) is each.model), None)
    if kind is None:
        names = ", ".join(each.model.__name__ for each in PUBLISHED)
        raise TypeError(
            f"save_pretrained: {type(model).__name__} has no published form; these have: {names} "
            "(scratchlm.train.save_checkpoint keeps any model)"
        )
    values = {"architectures": [kind.architecture], **config_to_hf(model.config, kind.layout)}  # type: ignore[attr-defined]
    state = to_hf_state(model.state_dict(), kind.layout)
    raw = safetensors("published weights").numpy.save(
        {name: np.ascontiguousarray(array) for name, array in state.items()},
        metadata={"format": "pt"},  # says (out, in), and that it is no state of another framework
    )
    values["torch_dtype"] = str(next(iter(state.values())).dtype)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    for name, content in ((WEIGHTS, raw), (CONFIG, text.encode())):
        temporary = folder / f".{name}.{os.getpid()}"
        try:
            temporary.write_bytes(content)
            temporary.replace(folder / name)
        finally:
            temporary.unlink(missing_ok=True)
    return folder


def _found(source: str | os.PathLike[str]) -> Path:
    """The folder or the file that ``source`` means."""
    path = Path(source).expanduser()
    if path.exists():
        return path
    from ..downloads import locate, packages

    name = os.fspath(source)
    if name not in packages():
        raise FileNotFoundError(
            f"load_pretrained: there is no folder or file {name}, and nothing that can be fetched "
            "is called so; `scratchlm fetch --list` names what can"
        )
    folder = locate(name)
    if (folder / CONFIG).exists():
        return folder
    files = sorted(folder.rglob("*.gguf"))
    if not files:
        raise ValueError(f"load_pretrained: {name} holds no model that this reads ({folder})")
    return files[0]


def _published(values: Mapping[str, Any], path: Path) -> Published:
    """Which model a ``config.json`` speaks of."""
    said = values.get("model_type")
    family = [each for each in PUBLISHED if each.layout.model_type == said]
    if not family:
        types = ", ".join(dict.fromkeys(each.layout.model_type for each in PUBLISHED))
        raise ValueError(
            f"load_pretrained: {path} holds a model of type {said!r}; models here are of {types}"
        )
    named = values.get("architectures") or family[0].architecture
    first = named[0] if isinstance(named, list) else named
    for each in family:
        if first in (each.architecture, *each.also):
            return each
    raise ValueError(
        f"load_pretrained: {path} holds a {first}; of {said!r} there are here "
        f"{', '.join(each.architecture for each in family)}"
    )


def _filled(model: Any, state: Mapping[str, Any], path: Path) -> Any:
    try:
        model.load_state_dict(state)
    except ValueError as error:
        raise ValueError(f"load_pretrained: {path}: {error}") from error
    return model.eval()


def _json(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path, vocabulary=TABLES)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"load_pretrained: {path.parent} has no {path.name}; a model's folder holds {CONFIG} "
            f"and {WEIGHTS}"
        ) from None
    except ValueError as error:
        raise ValueError(f"load_pretrained: {error}") from error
    if isinstance(values, dict):
        return values
    raise ValueError(f"load_pretrained: {path} holds a {type(values).__name__}, not names")


def _weights(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a folder, from one file or from those that its index names."""
    if (folder / WEIGHTS).exists():
        return _read(folder / WEIGHTS)
    if (folder / INDEX).exists():
        names = _json(folder / INDEX).get("weight_map")
        if not isinstance(names, dict) or not all(
            isinstance(file, str) and Path(file).name == file for file in names.values()
        ):
            raise ValueError(f"load_pretrained: {folder / INDEX} names no files in this folder")
        state: dict[str, np.ndarray] = {}
        for file in sorted(set(names.values())):
            state |= _read(folder / file)
        return state
    pickled = [path.name for path in folder.glob("*.bin")]
    why = (
        f"; {pickled[0]} is a pickle, which could run any code, and is not read: "
        "save it again as safetensors"
        if pickled
        else ""
    )
    raise FileNotFoundError(f"load_pretrained: {folder} has no {WEIGHTS}{why}")


# bfloat16, the upper half of a float32, is none of NumPy's
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8"}


def _read(path: Path) -> dict[str, np.ndarray]:
    package = safetensors("published weights")
    try:
        check_head(path)
        entries = package.deserialize(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"load_pretrained: {error}") from error
    except (OSError, package.SafetensorError) as error:
        raise ValueError(f"load_pretrained: {path} is no safetensors file ({error})") from error
    state = {}
    for name, about in entries:
        if about["dtype"] not in DTYPES:
            raise ValueError(
                f"load_pretrained: {path}: {name} is stored as {about['dtype']}; this reads "
                f"{', '.join(DTYPES)}"
            )
        array = np.frombuffer(about["data"], DTYPES[about["dtype"]])
        if about["dtype"] == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        state[name] = array.reshape(about["shape"])
    return state
