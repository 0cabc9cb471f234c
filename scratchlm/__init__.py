"""scratchlm: a language model from scratch in NumPy, with every derivative in sight.

Importing it loads NumPy and array-api-compat only; the parts below load when first used. The fused
kernels (``scratchlm_kernels``) are made known here, and load when first run.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from . import ops
from .gradcheck import GradcheckReport, assert_gradients, gradcheck
from .modes import debug, detect_anomaly, enable_grad, is_grad_enabled, no_grad
from .registry import all_ops, implementation, op, use
from .tensor import Tensor

if TYPE_CHECKING:
    from . import (
        cli,
        data,
        functional,
        generate,
        interpret,
        models,
        nn,
        optim,
        plot,
        text,
        train,
    )
    from .chat import Chat
    from .models import load_pretrained, load_with_tokenizer

__version__ = "0.1.0"

__all__ = [
    "Chat",
    "GradcheckReport",
    "Tensor",
    "all_ops",
    "assert_gradients",
    "cli",
    "data",
    "debug",
    "detect_anomaly",
    "enable_grad",
    "functional",
    "generate",
    "gradcheck",
    "implementation",
    "interpret",
    "is_grad_enabled",
    "load_pretrained",
    "load_with_tokenizer",
    "models",
    "nn",
    "no_grad",
    "op",
    "ops",
    "optim",
    "plot",
    "text",
    "train",
    "use",
]

# where to find what is not a part of its own
ELSEWHERE = {"Chat": "chat", "load_pretrained": "models", "load_with_tokenizer": "models"}


def __getattr__(name: str) -> Any:
    if name in ELSEWHERE:
        return getattr(importlib.import_module(f".{ELSEWHERE[name]}", __name__), name)
    if name in __all__:  # and not here yet: one of the parts that load when first used
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# `x.sum` is the op `sum`: help() shows the same words for both
for _name in ops.__all__:
    if _name in vars(Tensor) and not vars(Tensor)[_name].__doc__:
        vars(Tensor)[_name].__doc__ = getattr(ops, _name).__doc__

if importlib.util.find_spec("scratchlm_kernels") is not None:
    importlib.import_module("scratchlm_kernels")  # its kernels register themselves: names only
