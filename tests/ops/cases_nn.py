"""Cases of activations, softmax, losses, norms, embedding, dropout, linear and attention."""

from __future__ import annotations

from ops.cases import Case

CASES: list[Case] = []
