"""Recurrent layers over a sequence: weights packed once, and one walk for all that is no product.

The loop over time and the gradients of the weights are those of the composed op
(:mod:`scratchlm.ops.recurrent`), which takes the step as an argument: ``a`` is the projected input,
``b = W_hh h + b_hh``. One matrix serves all times, so it is copied into the panels of the product
(:mod:`.linear`) once for all of them.

The gates ``σ(x) = 1 / (1 + exp(-x))`` and ``tanh(x) = 2 σ(2x) - 1`` of ``a + b`` are kept for
backward, in one array; composed, they and their slopes are a dozen. A row is done in several loops,
each over few arrays: the compiler must prove that they do not overlap before it does several
numbers at a time, and gives up where there are many.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from scratchlm.ops import recurrent as ops

from .compiling import inline, kernel
from .linear import Packed
from .simd import exp
from .threads import share
from .waiting import take

ROWS = 4
SMALL = 1 << 18


@inline
def _sigmoid(x, one):
    return one / (one + exp(-x))


@inline
def _tanh(x, one):
    return (one + one) / (one + exp(-(x + x))) - one


# -- the plain cell --------------------------------------------------------------------------------


@kernel(lambda t: (t.counter, t.integer, *(t.dense(2),) * 2, t.own(2)))
def rnn_forward(counter, pieces, a, b, y):
    """Each piece: ROWS rows of ``y = tanh(a + b)``."""
    one = y.dtype.type(1)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        for r in range(piece * ROWS, min(y.shape[0], (piece + 1) * ROWS)):
            a_, b_, y_ = a[r], b[r], y[r]
            for j in range(y_.size):
                y_[j] = _tanh(a_[j] + b_[j], one)


@kernel(lambda t: (t.counter, t.integer, *(t.dense(2),) * 2, t.own(2)))
def rnn_backward(counter, pieces, y, dy, dz):
    """Each piece: ROWS rows of ``dz = dy (1 - y²)``."""
    one = dz.dtype.type(1)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        for r in range(piece * ROWS, min(y.shape[0], (piece + 1) * ROWS)):
            y_, dy_, dz_ = y[r], dy[r], dz[r]
            for j in range(y_.size):
                dz_[j] = dy_[j] * (one - y_[j] * y_[j])


def rnn_step(weight: Weight, a: Any, states: Any, *_: Any) -> Any:
    """``h' = tanh(a + W h + b)``."""
    (h,) = states
    run = _Rows(h)
    b = weight.times(h)
    y = run.new(1)
    run(rnn_forward, a, b, y)

    def back(dy: Any) -> Any:
        dz = run.new(1)
        run(rnn_backward, y, dy, dz)
        return dz, dz, (weight.back(dz),)

    return (y,), (h,), back


# -- LSTM ------------------------------------------------------------------------------------------


@kernel(lambda t: (t.counter, t.integer, *(t.dense(2),) * 3, *(t.own(2),) * 4))
def lstm_forward(counter, pieces, a, b, c, gates, new_c, t, h):
    """Each piece: ROWS rows of ``c' = f c + i g``, ``t = tanh(c')`` and ``h' = o t``."""
    n = c.shape[1]
    one = h.dtype.type(1)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        for r in range(piece * ROWS, min(h.shape[0], (piece + 1) * ROWS)):
            a_, b_, z = a[r], b[r], gates[r]
            for j in range(2 * n):
                z[j] = _sigmoid(a_[j] + b_[j], one)
            for j in range(2 * n, 3 * n):
                z[j] = _tanh(a_[j] + b_[j], one)
            for j in range(3 * n, 4 * n):
                z[j] = _sigmoid(a_[j] + b_[j], one)
            i, f, g, o = z[:n], z[n : 2 * n], z[2 * n : 3 * n], z[3 * n :]
            c_, new_, t_, h_ = c[r], new_c[r], t[r], h[r]
            for j in range(n):
                new_[j] = f[j] * c_[j] + i[j] * g[j]
            for j in range(n):
                t_[j] = _tanh(new_[j], one)
            for j in range(n):
                h_[j] = o[j] * t_[j]


@kernel(lambda t: (t.counter, t.integer, *(t.dense(2),) * 5, *(t.own(2),) * 2))
def lstm_backward(counter, pieces, gates, c, t, dh, dnew, dz, dc):
    """Each piece: ROWS rows of the gradients of ``a + b`` and of c."""
    n = c.shape[1]
    one = dc.dtype.type(1)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        for r in range(piece * ROWS, min(c.shape[0], (piece + 1) * ROWS)):
            z, dz_ = gates[r], dz[r]
            i, f, g, o = z[:n], z[n : 2 * n], z[2 * n : 3 * n], z[3 * n :]
            di, df, dg, do = dz_[:n], dz_[n : 2 * n], dz_[2 * n : 3 * n], dz_[3 * n :]
            c_, t_, dh_, dnew_, dc_ = c[r], t[r], dh[r], dnew[r], dc[r]
            for j in range(n):
                dc_[j] = dnew_[j] + dh_[j] * o[j] * (one - t_[j] * t_[j])
            for j in range(n):
                do[j] = dh_[j] * t_[j] * o[j] * (one - o[j])
            for j in range(n):
                di[j] = dc_[j] * g[j] * i[j] * (one - i[j])
            for j in range(n):
                df[j] = dc_[j] * c_[j] * f[j] * (one - f[j])
            for j in range(n):
                dg[j] = dc_[j] * i[j] * (one - g[j] * g[j])
            for j in range(n):
                dc_[j] *= f[j]


def lstm_step(weight: Weight, a: Any, states: Any, *_: Any) -> Any:
    """``c' = f c + i g`` and ``h' = o tanh(c')``."""
    h, c = states
    run = _Rows(h)
    b = weight.times(h)
    gates, new_c, t, new_h = run.new(4), run.new(1), run.new(1), run.new(1)
    run(lstm_forward, a, b, c, gates, new_c, t, new_h)

    def back(dh: Any, dnew: Any) -> Any:
        dz, dc = run.new(4), run.new(1)
        run(lstm_backward, gates, c, t, dh, dnew, dz, dc)
        return dz, dz, (weight.back(dz), dc)

    return (new_h, new_c), (h,), back


# -- GRU -------------------------------------------------------------------------------------------


@kernel(lambda t: (t.counter, t.integer, *(t.dense(2),) * 3, *(t.own(2),) * 2))
def gru_forward(counter, pieces, a, b, h, gates, y):
    """Each piece: ROWS rows of ``n = tanh(a_n + r b_n)`` and ``h' = n + z (h - n)``."""
    n = h.shape[1]
    one = y.dtype.type(1)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        for row in range(piece * ROWS, min(h.shape[0], (piece + 1) * ROWS)):
            a_, b_, gates_ = a[row], b[row], gates[row]
            for j in range(2 * n):
                gates_[j] = _sigmoid(a_[j] + b_[j], one)
            r, z, new = gates_[:n], gates_[n : 2 * n], gates_[2 * n :]
            a_n, b_n, h_, y_ = a_[2 * n :], b_[2 * n :], h[row], y[row]
            for j in range(n):
                new[j] = _tanh(a_n[j] + r[j] * b_n[j], one)
            for j in range(n):
                y_[j] = new[j] + z[j] * (h_[j] - new[j])


@kernel(lambda t: (t.counter, t.integer, *(t.dense(2),) * 4, *(t.own(2),) * 3))
def gru_backward(counter, pieces, gates, b, h, dy, da, db, dh):
    """Each piece: ROWS rows of the gradients of a and b, and of h beside ``W_hh``."""
    n = h.shape[1]
    one = dh.dtype.type(1)
    while True:
        piece = take(counter)
        if piece >= pieces:
            break
        for row in range(piece * ROWS, min(h.shape[0], (piece + 1) * ROWS)):
            gates_, da_, db_ = gates[row], da[row], db[row]
            r, z, new = gates_[:n], gates_[n : 2 * n], gates_[2 * n :]
            dr, dz, dnew, m = da_[:n], da_[n : 2 * n], da_[2 * n :], b[row, 2 * n :]
            dm, h_, dy_, dh_ = db_[2 * n :], h[row], dy[row], dh[row]
            for j in range(n):
                dnew[j] = dy_[j] * (one - z[j]) * (one - new[j] * new[j])
            for j in range(n):
                dz[j] = dy_[j] * (h_[j] - new[j]) * z[j] * (one - z[j])
            for j in range(n):
                dr[j] = dnew[j] * m[j] * r[j] * (one - r[j])
            for j in range(n):
                dm[j] = dnew[j] * r[j]
            for j in range(2 * n):
                db_[j] = da_[j]
            for j in range(n):
                dh_[j] = dy_[j] * z[j]


def gru_step(weight: Weight, a: Any, states: Any, *_: Any) -> Any:
    """``h' = (1 - z) n + z h``, the reset gate acting after the product."""
    (h,) = states
    run = _Rows(h)
    b = weight.times(h)
    gates, y = run.new(3), run.new(1)
    run(gru_forward, a, b, h, gates, y)

    def back(dy: Any) -> Any:
        da, db, dh = run.new(3), run.new(3), run.new(1)
        run(gru_backward, gates, b, h, dy, da, db, dh)
        dh += weight.back(db)
        return da, db, (dh,)

    return (y,), (h,), back


class _Rows:
    """Arrays of as many rows as the state h, and kernels that run over them."""

    def __init__(self, h: np.ndarray) -> None:
        self.dtype, (self.count, self.width) = h.dtype, h.shape

    def new(self, parts: int) -> np.ndarray:
        return np.empty((self.count, parts * self.width), self.dtype)

    def __call__(self, kernel: Any, *arrays: np.ndarray) -> None:
        rows = [np.ascontiguousarray(x) for x in arrays]
        small = rows[-1].size < SMALL
        share(kernel[self.dtype], -(-self.count // ROWS), *rows, small=small)


class Weight:
    """``W_hh`` and its bias for all times of a sequence; packed when first used."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None) -> None:
        self.weight, self.bias = weight, bias

    @functools.cached_property
    def _forth(self) -> Packed:
        return Packed(self.weight, transposed=True)

    @functools.cached_property
    def _back(self) -> Packed:
        return Packed(self.weight)

    def times(self, h: np.ndarray) -> np.ndarray:
        """``h Wᵀ + b``."""
        return self._forth.product(h, self.bias)

    def back(self, dz: np.ndarray) -> np.ndarray:
        """``dz W``."""
        return self._back.product(dz)


def _sequence(name: str, parts: int, step: Callable[..., Any], states: int) -> Callable[..., Any]:
    def run(x: np.ndarray, *rest: Any, **options: Any) -> Any:
        initial, (weight_ih, weight_hh, *biases) = rest[:states], rest[states:]
        bias_ih, bias_hh = (*biases, None, None)[:2]
        return ops.all_steps(
            name, parts, functools.partial(step, Weight(weight_hh, bias_hh)),
            x, initial, weight_ih, weight_hh, bias_ih, bias_hh,
            lengths=options.get("lengths"), reverse=options.get("reverse", False),
        )  # fmt: skip

    return run


# nonlinearity="tanh" and reset_after=True only
rnn = _sequence("rnn", 1, rnn_step, 1)
lstm = _sequence("lstm", 4, lstm_step, 2)
gru = _sequence("gru", 3, gru_step, 1)
