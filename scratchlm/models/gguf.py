"""GGUF: one file with a model's sizes, vocabulary and weights, mostly of four to eight bits each.

The package ``gguf`` (the extra ``scratchlm[gguf]``) takes the file apart and makes floats of its
blocks of small integers. Here are the names; and one thing about order: these files store the rows
of q and k for rotations of *neighboring* features, so they are brought back into two halves.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ..nn import skip_init
from .checkpoints import LLAMA, check_sizes
from .llama import Llama, LlamaConfig

NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
SIZES = {
    "context_length": "block_size",
    "block_count": "n_layer",
    "attention.head_count": "n_head",
    "attention.head_count_kv": "n_kv_head",
    "embedding_length": "n_embd",
    "feed_forward_length": "n_inner",
    "attention.key_length": "head_dim",
    "rope.freq_base": "rope_base",
    "attention.layer_norm_rms_epsilon": "eps",
}
REQUIRED = ("context_length", "block_count", "attention.head_count", "embedding_length")


def llama_of(
    about: dict[str, Any], stored: dict[str, Any], path: Path, *, dtype: Any = np.float32
) -> Llama:
    """The Llama in a GGUF file that :func:`scratchlm.text.gguf.read_gguf` has taken apart, its
    weights as floats of ``dtype``, in evaluation mode.

    Raises:
        ValueError: a damaged file, or a model that is no Llama.
    """
    from gguf import quants

    try:
        config = _config(about, stored)
        check_sizes(config, LLAMA, sum(int(tensor.n_elements) for tensor in stored.values()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    heads = {"attn_q": config.n_head, "attn_k": config.n_kv_head}
    state = {}
    for name, tensor in stored.items():
        try:
            array = quants.dequantize(tensor.data, tensor.tensor_type).astype(dtype, copy=False)
        except Exception as error:
            kind = getattr(tensor.tensor_type, "name", tensor.tensor_type)
            raise ValueError(
                f"{path}: {name} is stored as {kind}: not readable ({error})"
            ) from error
        block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
        if block and block[2] in BLOCK_NAMES:
            if block[2] in heads and array.shape[0] == heads[block[2]] * config.head_dim:  # type: ignore[operator]
                array = in_halves(array, heads[block[2]])  # type: ignore[arg-type]
            name = f"model.layers.{block[1]}.{BLOCK_NAMES[block[2]]}.{block[3]}"
        state[NAMES.get(name, name)] = array
    model = skip_init(Llama, config, rng=0, dtype=dtype)
    try:
        model.load_state_dict(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    model.eval()
    return model


def in_halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head in the order 0, 2, 4 … 1, 3, 5 …: (2i, 2i + 1) to (i, i + d/2)."""
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])  # [H d, C] -> [H, d/2, 2, C]
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _config(about: dict[str, Any], stored: dict[str, Any]) -> LlamaConfig:
    architecture = about.get("general.architecture")
    if architecture != "llama":
        raise ValueError(
            f"it holds a model of type {architecture!r}; from GGUF files, only 'llama' is read"
        )
    missing = [name for name in REQUIRED if f"llama.{name}" not in about]
    missing += [name for name in ("token_embd.weight", "blk.0.ffn_up.weight") if name not in stored]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}")
    scaling = about.get("llama.rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in stored:
        raise ValueError(
            f"it has scaled rotary frequencies ({scaling}); from GGUF files, Llama is read with "
            "the plain ones only"
        )
    values: dict[str, Any] = {
        ours: about[f"llama.{theirs}"]
        for theirs, ours in SIZES.items()
        if f"llama.{theirs}" in about
    }
    values.setdefault("n_kv_head", None)
    values.setdefault("rope_base", 10000.0)
    values.setdefault("n_inner", int(stored["blk.0.ffn_up.weight"].shape[-1]))
    turned = about.get("llama.rope.dimension_count")
    config = LlamaConfig(
        **values,
        vocab_size=int(stored["token_embd.weight"].shape[-1]),
        tie_weights="output.weight" not in stored,
        bias="blk.0.attn_q.bias" in stored,
    )
    if turned not in (None, config.head_dim):
        raise ValueError(
            f"it turns {turned} features of {config.head_dim}, and Llama here turns all"
        )
    return config
