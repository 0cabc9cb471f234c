"""Cases of the recurrent cells, one step and a whole sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
from ops.cases import Call, Case, Sampler, case

CASES: list[Case] = []
PARTS = {"rnn": 1, "lstm": 4, "gru": 3}


def weights(s: Sampler, kind: str, ins: int, size: int) -> list[np.ndarray | None]:
    """weight_ih, weight_hh, and the two biases, of which either may be left out."""
    rows = PARTS[kind] * size
    biases = [s.array(rows) if s.choice(True, True, False) else None for _ in range(2)]
    return [s.array(rows, ins), s.array(rows, size), *biases]


def states(s: Sampler, kind: str, *shape: int) -> list[np.ndarray | None]:
    """The state before, or each of the LSTM's two; None is 0."""
    return [
        s.array(*shape) if s.choice(True, True, False) else None
        for _ in range(2 if kind == "lstm" else 1)
    ]


def step(s: Sampler, kind: str) -> tuple[Any, ...]:
    ins, size = s.integer(1, 3), s.integer(1, 3)
    batch = s.shape(max_dims=2, max_side=3, max_size=4)
    return (s.array(*batch, ins), *states(s, kind, *batch, size), *weights(s, kind, ins, size))


def sequence(s: Sampler, kind: str, **options: Any) -> Call:
    ins, size = s.integer(1, 3), s.integer(1, 2)
    time, batch = s.integer(1, 4), s.integer(1, 3)
    arrays = (
        s.array(time, batch, ins),
        *states(s, kind, batch, size),
        *weights(s, kind, ins, size),
    )
    if s.choice(True, False):
        options["lengths"] = s.layout(s.rng.integers(1, time + 1, batch))
    return arrays, {**options, "reverse": s.choice(False, True)}


# -- PyTorch, written out: one step, and the loop over it ------------------------------------------


def affine(x: Any, weight: Any, bias: Any) -> Any:
    return x @ weight.mT + (0.0 if bias is None else bias)


def torch_step(t: Any, kind: str, nonlinearity: str = "tanh", reset_after: bool = True) -> Any:
    """``(x, states, weights) -> states``: PyTorch's own cell, where it has one that can do this."""

    def own(x: Any, states: Any, weights: Any) -> Any:
        cell = {"rnn": f"rnn_{nonlinearity}_cell", "lstm": "lstm_cell", "gru": "gru_cell"}[kind]
        w_ih, w_hh, *biases = weights
        # its cells take both biases or none, and one axis for the batch
        both = [w_ih.new_zeros(len(w_ih)) if b is None else b for b in biases]
        flat = [v.reshape(-1, v.shape[-1]) for v in (x, *states)]
        before = tuple(flat[1:]) if kind == "lstm" else flat[1]
        new = getattr(t._VF, cell)(flat[0], before, w_ih, w_hh, *both)
        new = new if kind == "lstm" else (new,)
        return tuple(v.reshape(s.shape) for v, s in zip(new, states, strict=True))

    def reset_before(x: Any, states: Any, weights: Any) -> Any:
        (h,) = states
        w_ih, w_hh, b_ih, b_hh = weights
        a_r, a_z, a_n = affine(x, w_ih, b_ih).chunk(3, -1)
        w = w_hh.chunk(3)
        b = (None,) * 3 if b_hh is None else b_hh.chunk(3)
        r, z = t.sigmoid(a_r + affine(h, w[0], b[0])), t.sigmoid(a_z + affine(h, w[1], b[1]))
        n = t.tanh(a_n + affine(r * h, w[2], b[2]))
        return ((1 - z) * n + z * h,)

    return own if reset_after else reset_before


def given(x: Any, states: Any, weight_hh: Any) -> Any:
    size = weight_hh.shape[1]
    return [x.new_zeros(*x.shape[:-1], size) if s is None else s for s in states]


def torch_cell(kind: str) -> Any:
    def run(t: Any, x: Any, *rest: Any, **options: Any) -> Any:
        states, weights = rest[:-4], rest[-4:]
        new = torch_step(t, kind, **options)(x, given(x, states, weights[1]), weights)
        return new if kind == "lstm" else new[0]

    return run


def torch_sequence(kind: str) -> Any:
    """Each sequence of the batch by itself, cut to its length."""

    def run(
        t: Any, x: Any, *rest: Any, lengths: Any = None, reverse: bool = False, **options: Any
    ) -> Any:
        weights = rest[-4:]
        initial = given(x[0], rest[:-4], weights[1])
        step = torch_step(t, kind, **options)
        ys, lasts = [], []
        for b in range(x.shape[1]):
            real = x.shape[0] if lengths is None else int(lengths[b])
            states = [s[b] for s in initial]
            y = [t.zeros_like(states[0])] * x.shape[0]
            for time in reversed(range(real)) if reverse else range(real):
                states = step(x[time, b], states, weights)
                y[time] = states[0]
            ys.append(t.stack(y))
            lasts.append(states)
        return t.stack(ys, 1), *(t.stack(last) for last in zip(*lasts, strict=True))

    return run


# -- the cases -------------------------------------------------------------------------------------


@case(CASES, "rnn_cell", torch=torch_cell("rnn"))
def rnn_cell(s: Sampler) -> Call:
    return step(s, "rnn"), s.choice({}, {"nonlinearity": "tanh"})


@case(CASES, "lstm_cell", torch=torch_cell("lstm"))
def lstm_cell(s: Sampler) -> Call:
    return step(s, "lstm"), {}


@case(CASES, "gru_cell", torch=torch_cell("gru"))
def gru_cell(s: Sampler) -> Call:
    return step(s, "gru"), s.choice({}, {"reset_after": True})


@case(CASES, "gru_cell", torch=torch_cell("gru"))
def gru_cell_reset_before(s: Sampler) -> Call:
    return step(s, "gru"), {"reset_after": False}


@case(CASES, "rnn", torch=torch_sequence("rnn"))
def rnn(s: Sampler) -> Call:
    return sequence(s, "rnn")


@case(CASES, "lstm", torch=torch_sequence("lstm"))
def lstm(s: Sampler) -> Call:
    return sequence(s, "lstm")


@case(CASES, "gru", torch=torch_sequence("gru"))
def gru(s: Sampler) -> Call:
    return sequence(s, "gru")


@case(CASES, "gru", torch=torch_sequence("gru"))
def gru_reset_before(s: Sampler) -> Call:
    return sequence(s, "gru", reset_after=False)


def relu_call(s: Sampler, arrays: tuple[Any, ...]) -> Call:
    """With small weights and a bias of ±6 no sum comes near the kink, and some units are off."""
    *first, weight_ih, weight_hh, _, bias_hh = arrays
    bias = np.where(s.rng.random(len(weight_hh)) < 0.8, 6.0, -6.0)
    bias_hh = None if bias_hh is None else 0.2 * bias_hh
    return (*first, 0.1 * weight_ih, 0.05 * weight_hh, bias, bias_hh), {"nonlinearity": "relu"}


@case(CASES, "rnn_cell", torch=torch_cell("rnn"), note="the kink at 0")
def rnn_cell_relu(s: Sampler) -> Call:
    return relu_call(s, step(s, "rnn"))


@case(CASES, "rnn", torch=torch_sequence("rnn"), note="the kink at 0")
def rnn_relu(s: Sampler) -> Call:
    arrays, options = sequence(s, "rnn")
    arrays, relu = relu_call(s, arrays)
    return arrays, {**options, **relu}
