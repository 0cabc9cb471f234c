"""Looking inside a model: what it attends to."""

from .attention import attention_maps, record_attention

__all__ = ["attention_maps", "record_attention"]
