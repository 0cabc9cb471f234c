"""Recurrent layers: one step (``LSTMCell``) or whole sequences in several layers (``LSTM``).

Names, shapes, defaults, gate order and initial distributions are those of ``torch.nn``, so weights
go from one to the other by ``state_dict``. In place of packed sequences there is ``lengths``.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from .. import functional as F
from ..tensor import Tensor
from .layers import Rng, probability, uniform
from .module import Module, Parameter


class _Recurrent(Module):
    """What cells and layers share: sizes, options of the op, and weights by name."""

    parts: ClassVar[int]  # how many gates and candidates the rows of a weight hold
    states: ClassVar[int] = 1
    op: ClassVar[Any]  # of one step in a cell, of a sequence in a layer

    def __init__(self, input_size: int, hidden_size: int, **options: Any) -> None:
        name = type(self).__name__
        if input_size < 1 or hidden_size < 1:
            raise ValueError(
                f"{name}: input_size={input_size} and hidden_size={hidden_size} must be 1 or more"
            )
        if options.get("nonlinearity", "tanh") not in ("tanh", "relu"):
            raise ValueError(
                f"{name}: nonlinearity is {options['nonlinearity']!r}; it may be 'tanh' or 'relu'"
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.options = options

    def _make_weights(
        self, input_size: int, bias: bool, suffix: str, rng: np.random.Generator, dtype: Any
    ) -> None:
        """Uniform in ±1/sqrt(hidden_size), the biases too."""
        rows = self.parts * self.hidden_size
        bound = 1 / math.sqrt(self.hidden_size)
        for name, shape in (
            ("weight_ih", (rows, input_size)),
            ("weight_hh", (rows, self.hidden_size)),
            ("bias_ih", (rows,)),
            ("bias_hh", (rows,)),
        ):
            made = bias or name.startswith("weight")
            value = uniform(rng, shape, bound, dtype) if made else None
            setattr(self, name + suffix, value)

    def _weights(self, suffix: str = "") -> list[Parameter | None]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [getattr(self, name + suffix) for name in names]

    def _given(self, hx: Any) -> list[Any]:
        """The states of ``hx``, each None if there is none."""
        if hx is None:
            return [None] * self.states
        if self.states == 1:
            if isinstance(hx, tuple | list):
                raise TypeError(
                    f"{type(self).__name__} has one state: pass h itself, not a "
                    f"{type(hx).__name__} of {len(hx)}"
                )
            return [hx]
        if not isinstance(hx, tuple | list) or len(hx) != self.states:
            raise TypeError(f"{type(self).__name__} has two states: pass the tuple (h, c)")
        return list(hx)

    def extra_repr(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{self.input_size}, {self.hidden_size}{options}"


class _Cell(_Recurrent):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        rng: Rng = None,
        dtype: Any = np.float32,
        **options: Any,
    ) -> None:
        super().__init__(input_size, hidden_size, **options)
        self._make_weights(input_size, bias, "", np.random.default_rng(rng), dtype)

    def forward(self, x: Any, hx: Any = None) -> Any:
        """The new states, from x (..., input_size) and states (..., hidden_size), 0 by default."""
        return type(self).op(x, *self._given(hx), *self._weights(), **self.options)


class RNNCell(_Cell):
    """``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``: ``cell(x, h) -> h'``.

    ``nonlinearity`` is "tanh" or "relu".

    Source: Elman 1990.
    """

    parts, op = 1, F.rnn_cell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        **more: Any,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, nonlinearity=nonlinearity, **more)


class LSTMCell(_Cell):
    """Long short-term memory: ``cell(x, (h, c)) -> (h', c')``. The parts of a weight: i, f, g, o.

    Source: Hochreiter & Schmidhuber 1997; Gers et al. 2000.
    """

    parts, states, op = 4, 2, F.lstm_cell


class GRUCell(_Cell):
    """Gated recurrent unit: ``cell(x, h) -> h'``. The parts of a weight: r, z, n.

    ``reset_after=False`` puts the reset gate before the product, as published; PyTorch, and the
    default here, put it after.

    Source: Cho et al. 2014.
    """

    parts, op = 3, F.gru_cell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        reset_after: bool = True,
        **more: Any,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, reset_after=reset_after, **more)


class _Layers(_Recurrent):
    """Cells over sequences, in ``num_layers`` layers, each in one direction or in both.

    Args:
        input_size, hidden_size: the last axes of x and, in each direction, of y.
        num_layers: each reads the y of the one below.
        bias: two biases in each layer and direction, or none.
        batch_first: x and y are (B, T, ·) in place of (T, B, ·); the states are not.
        dropout: probability of dropping an element between two layers, in training.
        bidirectional: a second set of weights (``..._reverse``) reads from the end; y has both
            results, the reverse one last.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        rng: Rng = None,
        dtype: Any = np.float32,
        **options: Any,
    ) -> None:
        super().__init__(input_size, hidden_size, **options)
        name = type(self).__name__
        if num_layers < 1:
            raise ValueError(f"{name}: num_layers={num_layers} must be 1 or more")
        if dropout and num_layers == 1:
            raise ValueError(
                f"{name}: dropout={dropout} acts between layers, and num_layers is 1; put an "
                "nn.Dropout behind it if the result should be dropped"
            )
        rng = np.random.default_rng(rng)
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = probability(dropout, f"{name}: dropout")
        self.bidirectional = bidirectional
        self.rng = rng
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                ins = input_size if layer == 0 else hidden_size * self.directions
                self._make_weights(ins, bias, suffix, rng, dtype)

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.directions]

    def forward(self, x: Any, hx: Any = None, *, lengths: Any = None) -> Any:
        """``(y, states)``: the result of the last layer at each time, and the last states.

        Shapes, with L ``num_layers``, D 2 if ``bidirectional`` and else 1::

            x [T, B, input_size]   h, c [L D, B, hidden_size]   ->   y [T, B, D hidden_size]

        or all without B, for one sequence. ``states`` is h, or ``(h, c)`` of an LSTM; layer l in
        direction d is at ``l D + d``. ``hx`` is the same, before the first time; 0 by default.

        ``lengths`` [B] says how many times of each sequence are real. The rest is padding: y is 0
        there, the states are those at each sequence's own end, and the reverse direction begins
        there.

        Raises:
            ValueError: shapes that do not fit, lengths outside [1, T].
            TypeError: ``hx`` that is not one state, or not two for an LSTM; lengths that are no
                integers.
        """
        name = type(self).__name__
        x, given = _tensor(x), [None if s is None else _tensor(s) for s in self._given(hx)]
        batched = x.ndim == 3
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            axes = "batch, time" if self.batch_first else "time, batch"
            raise ValueError(
                f"{name}: x has shape {x.shape}; it must be ({axes}, {self.input_size}), or "
                f"(time, {self.input_size}) for one sequence"
            )
        if self.batch_first and batched:
            x = x.transpose(0, 1)
        layers = self.num_layers * self.directions
        expected = (layers, *x.shape[1:-1], self.hidden_size)
        for what, state in zip("hc", given, strict=False):
            if state is not None and state.shape != expected:
                raise ValueError(
                    f"{name}: {what} has shape {state.shape}; it must be {expected}, for "
                    f"num_layers={self.num_layers}, bidirectional={self.bidirectional} and this x"
                )
        if not batched:
            x = x.reshape(len(x), 1, self.input_size)
            given = [s if s is None else s.reshape(layers, 1, self.hidden_size) for s in given]
        y, last = self._run(x, given, lengths)
        if not batched:
            y, last = y[:, 0], [s[:, 0] for s in last]
        elif self.batch_first:
            y = y.transpose(0, 1)
        return y, last[0] if self.states == 1 else tuple(last)

    def _run(self, x: Tensor, given: list[Any], lengths: Any) -> tuple[Tensor, list[Tensor]]:
        """All layers over ``x`` [T, B, ·]: the last one's y, and each state's last values."""
        last: list[list[Tensor]] = [[] for _ in given]
        for layer in range(self.num_layers):
            if layer and self.training and self.dropout:
                x = F.dropout(x, p=self.dropout, rng=self.rng)
            ys = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                before = [s if s is None else s[layer * self.directions + direction] for s in given]
                options = {**self.options, "lengths": lengths, "reverse": direction == 1}
                y, *after = type(self).op(x, *before, *self._weights(suffix), **options)
                ys.append(y)
                for states, state in zip(last, after, strict=True):
                    states.append(state)
            x = ys[0] if len(ys) == 1 else F.concatenate(*ys, axis=-1)
        return x, [F.stack(*states) for states in last]

    def extra_repr(self) -> str:
        text = super().extra_repr()
        for name, default in (
            ("num_layers", 1),
            ("batch_first", False),
            ("dropout", 0.0),
            ("bidirectional", False),
        ):
            value = getattr(self, name)
            text += f", {name}={value}" if value != default else ""
        return text


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(x)


class RNN(_Layers):
    """``h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)`` over sequences: ``rnn(x, h) -> y, h``.

    ``nonlinearity`` is "tanh" or "relu". The other arguments are those of ``torch.nn.RNN``:
    layers, directions and their order, ``batch_first``, dropout between the layers.

    Source: Elman 1990.
    """

    parts, op = 1, F.rnn

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args: Any,
        **more: Any,
    ) -> None:
        more["nonlinearity"] = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, *args, **more)


class LSTM(_Layers):
    """Long short-term memory over sequences: ``lstm(x, (h, c)) -> y, (h, c)``.

    The arguments are those of ``torch.nn.LSTM``: layers, directions and their order,
    ``batch_first``, dropout between the layers. The parts of a weight: i, f, g, o.

    Source: Hochreiter & Schmidhuber 1997; Gers et al. 2000.
    """

    parts, states, op = 4, 2, F.lstm


class GRU(_Layers):
    """The gated recurrent unit over sequences: ``gru(x, h) -> y, h``.

    ``reset_after=False`` is the published form (and not PyTorch's). The other arguments are those
    of ``torch.nn.GRU``: layers, directions and their order, ``batch_first``, dropout between the
    layers. The parts of a weight: r, z, n.

    Source: Cho et al. 2014.
    """

    parts, op = 3, F.gru

    def __init__(
        self, input_size: int, hidden_size: int, *args: Any, reset_after: bool = True, **more: Any
    ) -> None:
        super().__init__(input_size, hidden_size, *args, reset_after=reset_after, **more)
