"""Between published checkpoints and the models here: which names, and which layout, as data.

A published state (name → array, as in a safetensors file) becomes one that ``load_state_dict``
takes, and back; so do the values of a ``config.json``. Names here are the checkpoints' already; a
:class:`Layout` holds what is left.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from ..backend import to_host
from ..tensor import Tensor
from .bert import BERTConfig
from .gpt import GPTConfig
from .llama import LlamaConfig
from .t5 import T5Config


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a family of checkpoints differs from the names, shapes and options here."""

    model_type: str  # its name in config.json
    model: str  # and in messages
    config_class: type
    config: Mapping[str, str]  # their name of a size: ours; of several for one, the first counts
    prefix: str = ""  # some files leave it out
    roots: tuple[str, ...] = ()  # names that start so have had the prefix left out
    surplus: str = ""  # a prefix that some files have, and names here do not
    transposed: tuple[str, ...] = ()  # names that end so are stored (in, out); Linear has (out, in)
    endings: Mapping[str, str] = field(default_factory=dict)  # of names in older files: now
    ignored: tuple[str, ...] = ()  # patterns of names that are no weights, or of no use here
    # options that a model here has at some values only
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    words: Mapping[str, Mapping[Any, Any]] = field(default_factory=dict)  # ours: {theirs: ours}
    # our options: the values they know
    ours_only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    harmless: tuple[str, ...] = ()  # options that do not change what a model computes
    # our sizes, whose products are numbers that a checkpoint holds
    products: tuple[str, ...] = ()


ACTIVATION = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}

# GPT-2 was trained with 1-wide convolutions ("Conv1D"), whose weights are stored transposed. A
# square one (attn.c_proj) would load either way, so the list, not the shape, must decide.
GPT2 = Layout(
    model_type="gpt2",
    model="GPT",
    config_class=GPTConfig,
    prefix="transformer.",
    roots=("wte.", "wpe.", "h.", "ln_f."),
    transposed=(
        ".attn.c_attn.weight",
        ".attn.c_proj.weight",
        ".mlp.c_fc.weight",
        ".mlp.c_proj.weight",
    ),
    # the causal mask, kept as a buffer by older files
    ignored=("*.attn.bias", "*.attn.masked_bias"),
    config={
        "vocab_size": "vocab_size",
        "n_positions": "block_size",
        "n_layer": "n_layer",
        "n_head": "n_head",
        "n_embd": "n_embd",
        "layer_norm_epsilon": "eps",
        "resid_pdrop": "dropout",
        "embd_pdrop": "dropout",
        "attn_pdrop": "dropout",
        "tie_word_embeddings": "tie_weights",
    },
    fixed={
        "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
        "n_inner": (None,),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    ours_only={"bias": (True,)},
    harmless=("n_ctx", "reorder_and_upcast_attn", "summary_*", "task_specific_params"),
    products=("vocab_size n_embd", "block_size n_embd", "n_layer n_embd n_embd"),
)

BERT_HEADS = Layout(
    model_type="bert",
    model="BERT",
    config_class=BERTConfig,
    prefix="bert.",
    roots=("embeddings.", "encoder.", "pooler."),
    endings={".LayerNorm.gamma": ".LayerNorm.weight", ".LayerNorm.beta": ".LayerNorm.bias"},
    ignored=("*embeddings.position_ids",),
    config={
        "vocab_size": "vocab_size",
        "max_position_embeddings": "block_size",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "hidden_size": "n_embd",
        "intermediate_size": "n_inner",
        "type_vocab_size": "n_types",
        "num_labels": "num_labels",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "layer_norm_eps": "eps",
        "tie_word_embeddings": "tie_weights",
    },
    words={"activation": ACTIVATION},
    fixed={
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
        "classifier_dropout": (None,),
    },
    harmless=("gradient_checkpointing", "directionality", "pooler_*"),
    products=(
        "vocab_size n_embd",
        "block_size n_embd",
        "n_types n_embd",
        "num_labels n_embd",
        "n_layer n_embd n_embd",
        "n_layer n_inner n_embd",
    ),
)
# the encoder by itself: published without the prefix, and cut out of a model with a head with it
BERT_ALONE = dataclasses.replace(
    BERT_HEADS,
    prefix="",
    roots=(),
    surplus="bert.",
    ignored=(*BERT_HEADS.ignored, "cls.*", "classifier.*"),
)
# what was trained to fill gaps was often trained to tell if a sentence is the next one, too
BERT_FILLS_GAPS = dataclasses.replace(
    BERT_HEADS, ignored=(*BERT_HEADS.ignored, "bert.pooler.*", "pooler.*", "cls.seq_relationship.*")
)

T5_LAYOUT = Layout(
    model_type="t5",
    model="T5",
    config_class=T5Config,
    # a second table, in the oldest files, that was never read
    ignored=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
    config={
        "vocab_size": "vocab_size",
        "num_layers": "n_layer",
        "num_decoder_layers": "n_decoder_layer",
        "num_heads": "n_head",
        "d_model": "n_embd",
        "d_kv": "head_dim",
        "d_ff": "n_inner",
        "feed_forward_proj": "feed_forward",
        "relative_attention_num_buckets": "num_buckets",
        "relative_attention_max_distance": "max_distance",
        "dropout_rate": "dropout",
        "layer_norm_epsilon": "eps",
        # told by whether the result is scaled, for transformers 5 says "tied" of every T5
        "scale_decoder_outputs": "tie_weights",
        "tie_word_embeddings": "tie_weights",
        "pad_token_id": "pad_id",
        "decoder_start_token_id": "start_id",
    },
    fixed={"is_decoder": (False,)},
    harmless=(
        "classifier_dropout", "dense_act_fn", "initializer_factor", "is_gated_act", "n_positions",
        "output_past", "task_specific_params",
    ),
    products=(
        "vocab_size n_embd", "num_buckets n_head",
        "n_layer n_inner n_embd", "n_layer n_head head_dim n_embd",
        "n_decoder_layer n_inner n_embd", "n_decoder_layer n_head head_dim n_embd",
    ),
)  # fmt: skip

LLAMA = Layout(
    model_type="llama",
    model="Llama",
    config_class=LlamaConfig,
    prefix="model.",
    roots=("embed_tokens.", "layers.", "norm."),
    ignored=("*.rotary_emb.inv_freq",),
    config={
        "vocab_size": "vocab_size",
        "max_position_embeddings": "block_size",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "num_key_value_heads": "n_kv_head",
        "hidden_size": "n_embd",
        "intermediate_size": "n_inner",
        "head_dim": "head_dim",
        "rope_theta": "rope_base",
        "rope_scaling": "rope_scaling",
        "rms_norm_eps": "eps",
        "attention_bias": "bias",
        "mlp_bias": "mlp_bias",
        "attention_dropout": "dropout",
        "tie_word_embeddings": "tie_weights",
    },
    fixed={
        "hidden_act": ("silu",),
        "rope_type": ("default", "llama3"),
        "partial_rotary_factor": (1.0,),
    },
    harmless=("is_llama_config", "pretraining_tp", "rope_interleaved"),
    products=("vocab_size n_embd", "n_layer n_inner n_embd", "n_layer n_head head_dim n_embd"),
)

# the four numbers of rope_scaling
SCALING = (
    "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings",
)  # fmt: skip

HARMLESS = (
    "_*", "architectures", "*_token_id", "chunk_size_feed_forward", "dtype", "id2label",
    "initializer_range", "is_encoder_decoder", "label2id", "model_type", "num_labels",
    "output_attentions", "output_hidden_states", "problem_type", "return_dict", "torch_dtype",
    "transformers*", "use_cache",
)  # fmt: skip


def from_hf_state(state: Mapping[str, Any], layout: Layout = GPT2) -> dict[str, np.ndarray]:
    """A published state (arrays of NumPy or PyTorch, or Tensors) for ``load_state_dict``."""
    result = {}
    for name, value in state.items():
        if any(fnmatchcase(name, pattern) for pattern in layout.ignored):
            continue
        array = to_host(value.data if isinstance(value, Tensor) else value)
        name = layout.prefix + name if name.startswith(layout.roots) else name
        name = name.removeprefix(layout.surplus)
        for theirs, ours in layout.endings.items():
            if name.endswith(theirs):
                name = name.removesuffix(theirs) + ours
        result[name] = _swapped(name, array, layout)
    return result


def to_hf_state(state: Mapping[str, np.ndarray], layout: Layout = GPT2) -> dict[str, np.ndarray]:
    """A model's ``state_dict``, with the names and the layout of the published checkpoints."""
    return {name: _swapped(name, value, layout) for name, value in state.items()}


def _swapped(name: str, array: np.ndarray, layout: Layout) -> np.ndarray:
    # a contiguous copy, since safetensors writes the memory of a transposed view, not its values
    return np.ascontiguousarray(array.T) if name.endswith(layout.transposed) else array


def config_from_hf(values: Mapping[str, Any], layout: Layout) -> Any:
    """The configuration of a model here, for the values of a published ``config.json``.

    Options that are not known here are named in a warning.

    Raises:
        ValueError: an option with a value that the model does not have here.
    """
    values = _flat(values)
    for name, accepted in layout.fixed.items():
        if values.get(name, accepted[0]) not in accepted:
            raise ValueError(
                f"{layout.model}: the checkpoint has {name}={values[name]!r}, and {layout.model} "
                f"here has {' or '.join(map(repr, accepted))} only"
            )
    known = (*layout.config, *layout.fixed, *layout.harmless, *HARMLESS)
    unknown = [k for k in values if not any(fnmatchcase(k, pattern) for pattern in known)]
    if unknown:
        warnings.warn(
            f"{layout.model}: the checkpoint's configuration has {', '.join(map(repr, unknown))}, "
            "which nothing here reads; if one changes what the model computes, results differ",
            stacklevel=3,
        )
    found: dict[str, Any] = {}
    for theirs, ours in layout.config.items():
        if theirs in values and ours not in found:
            value, words = values[theirs], layout.words.get(ours)
            if words is not None and value not in words:
                raise ValueError(
                    f"{layout.model}: the checkpoint has {theirs}={value!r}, and {layout.model} "
                    f"here has {', '.join(map(repr, words))} only"
                )
            found[ours] = value if words is None else words[value]
    return layout.config_class(**found)


def config_to_hf(config: Any, layout: Layout) -> dict[str, Any]:
    """The values for a published ``config.json``, of the configuration of a model here.

    Raises:
        ValueError: an option with a value that the published models do not have.
    """
    for ours, accepted in layout.ours_only.items():
        if getattr(config, ours) not in accepted:
            raise ValueError(
                f"{layout.model}: {ours}={getattr(config, ours)!r} can't be said in a config.json "
                f"of {layout.model_type}; models published there have "
                f"{' or '.join(map(repr, accepted))}"
            )
    values = {}
    for theirs, ours in layout.config.items():
        value = getattr(config, ours)
        if ours in layout.words:
            value = next((t for t, o in layout.words[ours].items() if o == value), None)
            if value is None:
                raise ValueError(
                    f"{layout.model}: {ours}={getattr(config, ours)!r} can't be said in a "
                    f"config.json of {layout.model_type}"
                )
        values[theirs] = value
    if "rope_theta" in values:  # where transformers 5 looks; others look beside it
        rope = {"rope_type": "default", "rope_theta": values["rope_theta"]}
        scaling = values.pop("rope_scaling")
        if scaling is not None:
            rope |= {"rope_type": "llama3", **dict(zip(SCALING, scaling, strict=True))}
        values["rope_parameters"] = rope
    if "num_labels" in values:
        values["id2label"] = {str(i): f"LABEL_{i}" for i in range(values.pop("num_labels"))}
        values["label2id"] = {label: int(i) for i, label in values["id2label"].items()}
    return {"model_type": layout.model_type, **values}


def check_sizes(config: Any, layout: Layout, numbers: int) -> None:
    """Refuse sizes that no ``numbers`` numbers can fill, before memory is asked for.

    Raises:
        ValueError: a part of the model alone has more.
    """
    for product in layout.products:
        size = math.prod(getattr(config, name) for name in product.split())
        if size > numbers:
            raise ValueError(
                f"{layout.model}: the configuration says {product.replace(' ', ' × ')} = {size:,} "
                f"numbers, the weights are {numbers:,} in all: another model's, or damaged"
            )


def gpt_config_from_hf(values: Mapping[str, Any]) -> GPTConfig:
    """The GPTConfig for the values of a published ``config.json`` of GPT-2.

    Raises:
        ValueError: an option with a value that GPT does not have here.
    """
    return config_from_hf(values, GPT2)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is said in groups, or as a list of names, said by itself."""
    flat = {k: v for k, v in values.items() if k not in ("rope_parameters", "rope_scaling")}
    for group in ("rope_scaling", "rope_parameters"):
        said = values.get(group) or {}
        if not isinstance(said, Mapping):
            raise TypeError(f"{group} is {said!r}, and should be names with their values")
        for name, value in said.items():
            flat["rope_type" if name == "type" else name] = value
    if flat.get("rope_type") == "llama3":
        flat["rope_scaling"] = tuple(flat.pop(name, None) for name in SCALING)
    if values.get("id2label"):
        flat["num_labels"] = len(values["id2label"])
    return flat
