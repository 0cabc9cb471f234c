"""From text to ids and back."""

from .characters import CharVocab

__all__ = ["CharVocab"]
