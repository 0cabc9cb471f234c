"""The contract, as a type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Vjp = Callable[..., Any]
