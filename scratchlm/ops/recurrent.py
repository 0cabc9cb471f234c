"""Recurrent cells, one step or a whole sequence: the plain one, LSTM, GRU.

A cell makes a new state from an input ``x_t`` and the state before it. Each is written once, as a
**step**: a function from the projected input ``a = W_ih x + b_ih`` and the states to the new
states, and the way back through one time step. A ``*_cell`` op is one step; ``rnn``, ``lstm`` and
``gru`` run the step over a sequence, and its way back from the last time to the first:
backpropagation through time.

Over a sequence, what does not wait for the state before it is done for all times at once: one
matrix product projects every input, and one each gives the gradients of the weights,
``dW_hh = sum_t dz_tᵀ h_{t-1}``. Only ``h_{t-1} W_hhᵀ``, and ``dz_t W_hh`` on the way back, go step
by step.

Names, gate order and meaning are PyTorch's, which has two biases where one would do.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from ..backend import Array, arange_like, array_namespace, asarray_like
from ..registry import op
from ._types import Vjp

States = tuple[Array, ...]  # (h,), or the LSTM's (h, c)

# (a, states, weight_hh, bias_hh) -> (new states, operands, back), where ``operands`` are what
# weight_hh was multiplied by, one for each equal part of its rows (mostly one, h, for all), and
# ``back(*new states' cotangents) -> (da, db, states' cotangents)``, ``b`` being the product with
# weight_hh and its bias.
Step = Callable[..., tuple[States, States, Callable[..., tuple[Array, Array, States]]]]


def rnn_step(
    a: Array, states: States, weight_hh: Array, bias_hh: Array | None, *, nonlinearity: str
) -> Any:
    """``h' = tanh(a + W h + b)``, or relu."""
    (h,) = states
    xp = array_namespace(a, h)
    z = a + affine(h, weight_hh, bias_hh)
    if nonlinearity == "tanh":
        y = xp.tanh(z)
    else:
        y = xp.maximum(z, asarray_like(0.0, z, z.dtype))

    def back(dy: Array) -> tuple[Array, Array, States]:
        # y = f(z)   =>   dz = dy f'(z), with the slope from the output
        slope = 1.0 - y * y if nonlinearity == "tanh" else xp.astype(y > 0, y.dtype)
        dz = dy * slope
        # z = a + h Wᵀ + b   =>   dh = dz W
        return dz, dz, (dz @ weight_hh,)

    return (y,), (h,), back


def lstm_step(a: Array, states: States, weight_hh: Array, bias_hh: Array | None) -> Any:
    """``c' = f c + i g`` and ``h' = o tanh(c')``, from ``z = a + W h + b`` in four parts."""
    h, c = states
    xp = array_namespace(a, h)
    z = a + affine(h, weight_hh, bias_hh)
    n = h.shape[-1]
    i, f = sigmoid(z[..., :n]), sigmoid(z[..., n : 2 * n])  # write, keep
    g, o = xp.tanh(z[..., 2 * n : 3 * n]), sigmoid(z[..., 3 * n :])  # what to write; show
    new_c = f * c + i * g
    t = xp.tanh(new_c)

    def back(dh: Array, dc: Array) -> tuple[Array, Array, States]:
        # h' = o t, t = tanh(c')   =>   do = dh t,  dc' += dh o (1 - t²)
        dc = dc + dh * o * (1.0 - t * t)
        # c' = f c + i g   =>   di = dc' g,  df = dc' c,  dg = dc' i,  dc = dc' f
        # and through each gate, σ' = σ (1 - σ) and tanh' = 1 - tanh²
        dz = xp.concat(
            [
                dc * g * i * (1.0 - i),
                dc * c * f * (1.0 - f),
                dc * i * (1.0 - g * g),
                dh * t * o * (1.0 - o),
            ],
            axis=-1,
        )
        return dz, dz, (dz @ weight_hh, dc * f)

    return (o * t, new_c), (h,), back


def gru_step(
    a: Array, states: States, weight_hh: Array, bias_hh: Array | None, *, reset_after: bool
) -> Any:
    """``h' = (1 - z) n + z h``; the reset gate r acts after the product in n, or before it."""
    (h,) = states
    xp = array_namespace(a, h)
    n2 = 2 * h.shape[-1]  # where the third part, n, begins
    rows = slice(None) if reset_after else slice(n2)  # of W: those that h itself is multiplied by
    b = affine(h, weight_hh[rows], None if bias_hh is None else bias_hh[rows])
    m = b[..., n2:]  # W_n h + b_n, or nothing yet
    gates = sigmoid(a[..., :n2] + b[..., :n2])
    r, z = gates[..., : n2 // 2], gates[..., n2 // 2 :]  # reset, keep
    if reset_after:
        n = xp.tanh(a[..., n2:] + r * m)
        operands: States = (h,)
    else:
        q = r * h
        n = xp.tanh(
            a[..., n2:] + affine(q, weight_hh[n2:], None if bias_hh is None else bias_hh[n2:])
        )
        operands = (h, h, q)

    def back(dy: Array) -> tuple[Array, Array, States]:
        # h' = (1 - z) n + z h   =>   dn = dy (1 - z),  dz = dy (h - n),  dh = dy z
        dn = dy * (1.0 - z) * (1.0 - n * n)  # through tanh
        dz = dy * (h - n) * z * (1.0 - z)  # through σ
        dh = dy * z
        if reset_after:
            # n = tanh(a_n + r m)   =>   dr = dn m,  dm = dn r
            dr = dn * m * r * (1.0 - r)
            db = xp.concat([dr, dz, dn * r], axis=-1)
            dh += db @ weight_hh
        else:
            # n = tanh(a_n + W_n (r h))   =>   dq = dn W_n,  dr = dq h,  dh += dq r
            dq = dn @ weight_hh[n2:]
            dr = dq * h * r * (1.0 - r)
            db = xp.concat([dr, dz, dn], axis=-1)
            dh += dq * r
            dh += db[..., :n2] @ weight_hh[:n2]
        return xp.concat([dr, dz, dn], axis=-1), db, (dh,)

    return (n + z * (h - n),), operands, back


def affine(x: Array, weight: Array, bias: Array | None) -> Array:
    """``x Wᵀ + b``."""
    y = x @ weight.T
    if bias is None:
        return y
    if bias.dtype != y.dtype:
        return y + bias
    y += bias  # y was made here
    return y


def sigmoid(x: Array) -> Array:
    """``σ(x) = (1 + tanh(x/2)) / 2``: stable, with one transcendental function.

    Far below 0 it is 0 up to rounding, not the exact ``exp(x)``: enough for a gate, which is added
    to or multiplied with numbers of size one.
    """
    y = array_namespace(x).tanh(0.5 * x)
    y *= 0.5
    y += 0.5
    return y


# -- one step --------------------------------------------------------------------------------------


@op("h' = tanh(W x + b + W' h + b')")
def rnn_cell(
    x: Array,
    h: Array | None,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    *,
    nonlinearity: str = "tanh",
) -> tuple[Array, Vjp]:
    """``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``: a state made of all inputs so far.

    Shapes: x ``[..., I]``, h ``[..., H]``, weight_ih ``[H, I]``, weight_hh ``[H, H]``, biases
    ``[H]`` -> h' ``[..., H]``. Without h (None) the state before is 0. ``nonlinearity`` is
    ``"tanh"`` or ``"relu"``.

    With ``z`` the sum in the parentheses, ``dz = dh' * (1 - h'²)``, and then as in a linear layer::

        dx = dz W_ih    dW_ih = dzᵀ x    db_ih = sum dz
        dh = dz W_hh    dW_hh = dzᵀ h    db_hh = sum dz

    Raises:
        ValueError: shapes that do not fit; another nonlinearity.

    Source: Elman 1990; D2 §3.2 (with a matrix for the bias).
    """
    _check_nonlinearity("rnn_cell", nonlinearity)
    step = functools.partial(rnn_step, nonlinearity=nonlinearity)
    (y,), back = one_step("rnn_cell", 1, step, x, (h,), weight_ih, weight_hh, bias_ih, bias_hh)
    return y, back


@op("c' = f c + i g,  h' = o tanh(c')")
def lstm_cell(
    x: Array,
    h: Array | None,
    c: Array | None,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
) -> tuple[tuple[Array, Array], Vjp]:
    """One step of long short-term memory: ``(h', c')``.

    ``z = W_ih x + b_ih + W_hh h + b_hh`` has four parts of length H, in PyTorch's order::

        i = σ(z_i)  f = σ(z_f)  g = tanh(z_g)  o = σ(z_o)
        c' = f c + i g          what is kept of the cell, and what is written to it
        h' = o tanh(c')         what of it is shown

    The cell passes on by a product and a sum, with no matrix and no nonlinearity between:
    ``dc = dc' f``. Where f is near 1, a gradient comes back from far away almost unchanged.

    Shapes: x ``[..., I]``, h and c ``[..., H]``, weight_ih ``[4H, I]``, weight_hh ``[4H, H]``,
    biases ``[4H]`` -> h' and c' ``[..., H]``. A state that is None is 0.

    Raises:
        ValueError: shapes that do not fit.

    Source: Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000 (the forget gate);
    D2 §3.3 (without the output gate and without the cell state).
    """
    return one_step("lstm_cell", 4, lstm_step, x, (h, c), weight_ih, weight_hh, bias_ih, bias_hh)  # type: ignore[return-value]


@op("h' = (1 - z) n + z h")
def gru_cell(
    x: Array,
    h: Array | None,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    *,
    reset_after: bool = True,
) -> tuple[Array, Vjp]:
    """One step of the gated recurrent unit, with ``a = W_ih x + b_ih`` and ``b = W_hh h + b_hh``.

    Both have three parts of length H, in PyTorch's order r, z, n::

        r = σ(a_r + b_r)          how much of the past the candidate may see
        z = σ(a_z + b_z)          how much of the state is kept
        n = tanh(a_n + r b_n)     the candidate
        h' = (1 - z) n + z h

    So the reset gate acts after the product with W_hh, which is then one for all parts (PyTorch's
    way). With ``reset_after=False`` it acts before, ``n = tanh(a_n + W_n (r h) + b_n)``, as
    published. The two are different functions, and weights trained for one are wrong in the other.

    Shapes: x ``[..., I]``, h ``[..., H]``, weight_ih ``[3H, I]``, weight_hh ``[3H, H]``, biases
    ``[3H]`` -> h' ``[..., H]``. Without h (None) the state before is 0.

    Raises:
        ValueError: shapes that do not fit.

    Source: Cho et al. 2014, eq. 5 to 8 (reset before); Chung et al. 2014 (z and 1 - z swapped);
    D2 §3.4 (without the update gate).
    """
    step = functools.partial(gru_step, reset_after=reset_after)
    (y,), back = one_step("gru_cell", 3, step, x, (h,), weight_ih, weight_hh, bias_ih, bias_hh)
    return y, back


def one_step(
    name: str,
    parts: int,
    step: Step,
    x: Array,
    initial: tuple[Array | None, ...],
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
) -> tuple[States, Vjp]:
    """One step, and its vjp."""
    _check(name, parts, x, initial, x.shape[:-1], weight_ih, weight_hh, bias_ih, bias_hh)
    xp = array_namespace(x, *initial, weight_ih, weight_hh, bias_ih, bias_hh)
    a = affine(x, weight_ih, bias_ih)
    states = _states(xp, a, initial, weight_hh.shape[1])
    new, operands, back = step(a, states, weight_hh, bias_hh)

    def vjp(*dnew: Array | None) -> tuple[Array | None, ...]:
        da, db, dstates = back(*_zeros_for_none(xp, dnew, new))
        given = (None if s is None else d for s, d in zip(initial, dstates, strict=True))
        weights = _weight_gradients(xp, x, da, operands, db, bias_ih, bias_hh)
        return da @ weight_ih, *given, *weights

    return new, vjp


# -- a sequence ------------------------------------------------------------------------------------


@op("hₜ = tanh(W xₜ + b + W' hₜ₋₁ + b')")
def rnn(
    x: Array,
    h: Array | None,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    *,
    nonlinearity: str = "tanh",
    lengths: Any = None,
    reverse: bool = False,
) -> tuple[tuple[Array, Array], Vjp]:
    """:func:`rnn_cell` at each time of a sequence: ``(y, h_n)``, every state and the last one.

    Shapes: x ``[T, B, I]``, h ``[B, H]`` or None -> y ``[T, B, H]``, h_n ``[B, H]``.

    ``lengths`` (``[B]`` integers) says how many times of each sequence are real. What comes after
    is padding, which no state and no gradient depends on: there y is 0, and h_n is the state at the
    last real time. ``reverse`` reads from the last (real) time to the first; h_n is then the state
    at time 0. ``nonlinearity`` is as for :func:`rnn_cell`.

    Backpropagation through time: with ``dh_t = dy_t + dz_{t+1} W_hh`` (plus dh_n at the last time),
    ``dz_t = dh_t * (1 - h_t²)``. One matrix serves all times: ``dW_hh = sum_t dz_tᵀ h_{t-1}``.

    Raises:
        ValueError: shapes that do not fit, no time at all, lengths outside ``[1, T]``.
        TypeError: lengths that are no integers.

    Source: Elman 1990; Werbos 1990 (backpropagation through time).
    """
    _check_nonlinearity("rnn", nonlinearity)
    step = functools.partial(rnn_step, nonlinearity=nonlinearity)
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    return all_steps("rnn", 1, step, x, (h,), *weights, lengths=lengths, reverse=reverse)  # type: ignore[return-value]


@op("cₜ = f cₜ₋₁ + i g,  hₜ = o tanh(cₜ)")
def lstm(
    x: Array,
    h: Array | None,
    c: Array | None,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    *,
    lengths: Any = None,
    reverse: bool = False,
) -> tuple[tuple[Array, Array, Array], Vjp]:
    """:func:`lstm_cell` at each time of a sequence: ``(y, h_n, c_n)``.

    Shapes: x ``[T, B, I]``, h and c ``[B, H]`` or None -> y ``[T, B, H]``, h_n and c_n ``[B, H]``.
    ``lengths``, ``reverse`` and errors are as for :func:`rnn`.

    Source: as :func:`lstm_cell`; Graves & Schmidhuber 2005 (the whole gradient, by
    backpropagation through time).
    """
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    return all_steps("lstm", 4, lstm_step, x, (h, c), *weights, lengths=lengths, reverse=reverse)  # type: ignore[return-value]


@op("hₜ = (1 - z) n + z hₜ₋₁")
def gru(
    x: Array,
    h: Array | None,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None = None,
    bias_hh: Array | None = None,
    *,
    reset_after: bool = True,
    lengths: Any = None,
    reverse: bool = False,
) -> tuple[tuple[Array, Array], Vjp]:
    """:func:`gru_cell` at each time of a sequence: ``(y, h_n)``.

    Shapes: x ``[T, B, I]``, h ``[B, H]`` or None -> y ``[T, B, H]``, h_n ``[B, H]``.
    ``reset_after`` is as for :func:`gru_cell`; ``lengths``, ``reverse`` and errors as for
    :func:`rnn`.

    Source: as :func:`gru_cell`.
    """
    step = functools.partial(gru_step, reset_after=reset_after)
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    return all_steps("gru", 3, step, x, (h,), *weights, lengths=lengths, reverse=reverse)  # type: ignore[return-value]


def all_steps(
    name: str,
    parts: int,
    step: Step,
    x: Array,
    initial: tuple[Array | None, ...],
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
    *,
    lengths: Any,
    reverse: bool,
) -> tuple[States, Vjp]:
    """The step at each time, and backpropagation through time."""
    if x.ndim != 3 or not x.shape[0]:
        raise ValueError(
            f"{name}: x has shape {tuple(x.shape)}; it must be (time, batch, features), with one "
            "time or more"
        )
    _check(name, parts, x, initial, x.shape[1:2], weight_ih, weight_hh, bias_ih, bias_hh)
    xp = array_namespace(x, *initial, weight_ih, weight_hh, bias_ih, bias_hh)
    T, B, _ = x.shape
    real = None if lengths is None else _real(name, lengths, x)  # [T, B, 1]
    if real is not None:
        x = xp.where(real, x, xp.zeros_like(x))  # whatever stands in the padding
    a = affine(_rows(xp, x), weight_ih, bias_ih)  # every time at once: [T B, I] -> [T B, parts H]
    a = xp.reshape(a, (T, B, a.shape[-1]))
    states = _states(xp, a[0], initial, weight_hh.shape[1])
    order = range(T - 1, -1, -1) if reverse else range(T)
    nothing: list[Any] = [None] * T
    y, operands, backs = nothing.copy(), nothing.copy(), nothing.copy()
    for t in order:
        new, operands[t], backs[t] = step(a[t], states, weight_hh, bias_hh)
        y[t] = new[0]
        if real is not None:  # in the padding, the state stays what it is
            y[t] = xp.where(real[t], new[0], xp.zeros_like(new[0]))
            new = tuple(xp.where(real[t], s, old) for s, old in zip(new, states, strict=True))
        states = new

    def vjp(dy: Array | None, *dlast: Array | None) -> tuple[Array | None, ...]:
        dstates = _zeros_for_none(xp, dlast, states)
        da, db = nothing.copy(), nothing.copy()
        for t in reversed(order):
            # the state is a result, y_t, and what the next step starts from: fan-out adds
            dnew = dstates if dy is None else (dstates[0] + dy[t], *dstates[1:])
            if real is not None:
                dnew = tuple(xp.where(real[t], d, xp.zeros_like(d)) for d in dnew)
            da[t], db[t], before = backs[t](*dnew)
            if real is not None:
                pairs = zip(before, dstates, strict=True)
                before = tuple(xp.where(real[t], d, later) for d, later in pairs)
            dstates = before
        # one set of weights serves all times: [T, B, ·] are T B rows of one matrix product
        das = xp.stack(da)
        dbs = das if da[0] is db[0] else xp.stack(db)
        seen = tuple(xp.stack(each) for each in zip(*operands, strict=True))
        dx = xp.reshape(_rows(xp, das) @ weight_ih, x.shape)
        given = (None if s is None else d for s, d in zip(initial, dstates, strict=True))
        return dx, *given, *_weight_gradients(xp, x, das, seen, dbs, bias_ih, bias_hh)

    return (xp.stack(y), *states), vjp


def _real(name: str, lengths: Any, x: Array) -> Array:
    """``[T, B, 1]``, True where sequence b is longer than t."""
    T, B, _ = x.shape
    lengths = asarray_like(lengths, x)
    xp = array_namespace(lengths)
    if not xp.isdtype(lengths.dtype, "integral"):
        raise TypeError(f"{name}: lengths must be integers, got {lengths.dtype}")
    if lengths.shape != (B,):
        raise ValueError(
            f"{name}: lengths has shape {tuple(lengths.shape)}; it must be ({B},), one for each "
            "sequence of the batch"
        )
    if B and not (int(xp.min(lengths)) >= 1 and int(xp.max(lengths)) <= T):
        raise ValueError(
            f"{name}: lengths lie between {int(xp.min(lengths))} and {int(xp.max(lengths))}; each "
            f"must be from 1 to {T}, the length of x"
        )
    return xp.reshape(arange_like(T, x), (T, 1, 1)) < xp.reshape(lengths, (1, B, 1))


# -- what both share -------------------------------------------------------------------------------


def _rows(xp: Any, x: Array) -> Array:
    """All axes but the last as one."""
    return xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _weight_gradients(
    xp: Any,
    x: Array,
    da: Array,
    operands: States,
    db: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
) -> tuple[Array | None, ...]:
    """Of weight_ih, weight_hh, bias_ih, bias_hh, as of two linear layers, x -> a and h -> b."""
    da, db = _rows(xp, da), _rows(xp, db)
    n = db.shape[1] // len(operands)
    dweight = [db[:, k * n : (k + 1) * n].T @ _rows(xp, h) for k, h in enumerate(operands)]
    return (
        da.T @ _rows(xp, x),
        dweight[0] if len(dweight) == 1 else xp.concat(dweight, axis=0),
        None if bias_ih is None else xp.sum(da, axis=0),
        None if bias_hh is None else xp.sum(db, axis=0),
    )


def _states(xp: Any, a: Array, initial: tuple[Array | None, ...], size: int) -> States:
    return tuple(xp.zeros_like(a[..., :size]) if s is None else s for s in initial)


def _zeros_for_none(xp: Any, cotangents: tuple[Array | None, ...], values: States) -> States:
    """A result that nothing used has the cotangent 0."""
    missing = (None,) * (len(values) - len(cotangents))
    pairs = zip((*cotangents, *missing), values, strict=True)
    return tuple(xp.zeros_like(v) if d is None else d for d, v in pairs)


def _check_nonlinearity(name: str, nonlinearity: str) -> None:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"{name}: nonlinearity is {nonlinearity!r}; it may be 'tanh' or 'relu'")


def _check(
    name: str,
    parts: int,
    x: Array,
    initial: tuple[Array | None, ...],
    batch: tuple[int, ...],
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
) -> None:
    """Refuse shapes that do not fit, naming the one that was expected."""
    if weight_hh.ndim != 2 or not weight_hh.shape[1]:
        raise ValueError(
            f"{name}: weight_hh has shape {tuple(weight_hh.shape)}; it must be "
            f"({'hidden' if parts == 1 else f'{parts} hidden'}, hidden)"
        )
    H = weight_hh.shape[1]
    if not x.ndim:
        raise ValueError(f"{name}: x is 0-d; its last axis must hold the features")
    gates = "" if parts == 1 else f", {parts} parts of the hidden size {H}"
    for what, array, expected, why in (
        ("weight_hh", weight_hh, (parts * H, H), gates),
        ("weight_ih", weight_ih, (parts * H, x.shape[-1]), f" for x {tuple(x.shape)}{gates}"),
        ("bias_ih", bias_ih, (parts * H,), gates),
        ("bias_hh", bias_hh, (parts * H,), gates),
        *(
            (s, array, (*batch, H), f" for x {tuple(x.shape)} and the hidden size {H}")
            for s, array in zip("hc", initial, strict=False)
        ),
    ):
        if array is not None and array.shape != expected:
            raise ValueError(
                f"{name}: {what} has shape {tuple(array.shape)}; it must be {expected}{why}"
            )
