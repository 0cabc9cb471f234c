"""Between published checkpoints and the models here: which names, and which layout, as data.

A published state (name → array, as in a safetensors file) becomes one that ``load_state_dict``
takes, and back. Names here are the checkpoints' already; a :class:`Layout` holds what is left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backend import to_host
from ..tensor import Tensor
from .gpt import GPTConfig


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a family of checkpoints differs from the names and shapes here."""

    prefix: str  # some files leave it out
    roots: tuple[str, ...]  # names that start so have had the prefix left out
    transposed: tuple[str, ...]  # names that end so are stored (in, out); Linear has (out, in)
    ignored: tuple[str, ...]  # names that end so are no weights
    config: Mapping[str, str]  # their name of a size: ours
    fixed: Mapping[str, tuple[Any, ...]]  # options that a model here has at one value only


# GPT-2 was trained with 1-wide convolutions ("Conv1D"), whose weights are stored transposed. A
# square one (attn.c_proj) would load either way, so the list, not the shape, must decide.
GPT2 = Layout(
    prefix="transformer.",
    roots=("wte.", "wpe.", "h.", "ln_f."),
    transposed=(
        ".attn.c_attn.weight",
        ".attn.c_proj.weight",
        ".mlp.c_fc.weight",
        ".mlp.c_proj.weight",
    ),
    ignored=(".attn.bias", ".attn.masked_bias"),  # the causal mask, kept as a buffer by older files
    config={
        "vocab_size": "vocab_size",
        "n_positions": "block_size",
        "n_layer": "n_layer",
        "n_head": "n_head",
        "n_embd": "n_embd",
        "layer_norm_epsilon": "eps",
        "resid_pdrop": "dropout",
        "tie_word_embeddings": "tie_weights",
    },
    fixed={
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "n_inner": (None,),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
)


def from_hf_state(state: Mapping[str, Any], layout: Layout = GPT2) -> dict[str, np.ndarray]:
    """A published state (arrays of NumPy or PyTorch, or Tensors) for ``load_state_dict``."""
    result = {}
    for name, value in state.items():
        if name.endswith(layout.ignored):
            continue
        array = to_host(value.data if isinstance(value, Tensor) else value)
        name = layout.prefix + name if name.startswith(layout.roots) else name
        result[name] = _swapped(name, array, layout)
    return result


def to_hf_state(state: Mapping[str, np.ndarray], layout: Layout = GPT2) -> dict[str, np.ndarray]:
    """A model's ``state_dict``, with the names and the layout of the published checkpoints."""
    return {name: _swapped(name, value, layout) for name, value in state.items()}


def _swapped(name: str, array: np.ndarray, layout: Layout) -> np.ndarray:
    # a contiguous copy, since safetensors writes the memory of a transposed view, not its values
    return np.ascontiguousarray(array.T) if name.endswith(layout.transposed) else array


def gpt_config_from_hf(values: Mapping[str, Any]) -> GPTConfig:
    """The GPTConfig for the values of a published ``config.json`` of GPT-2.

    Raises:
        ValueError: an option with a value that GPT does not have here.
    """
    for name, accepted in GPT2.fixed.items():
        if values.get(name, accepted[0]) not in accepted:
            raise ValueError(
                f"GPT: the checkpoint has {name}={values[name]!r}, and GPT here has "
                f"{' or '.join(map(repr, accepted))} only"
            )
    return GPTConfig(
        **{ours: values[theirs] for theirs, ours in GPT2.config.items() if theirs in values}
    )
