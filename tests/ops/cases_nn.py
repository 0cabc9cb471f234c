"""Cases of activations, softmax, losses, norms, embedding, dropout, linear and attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ops.cases import Call, Case, Sampler, case

CASES: list[Case] = []


def generator(s: Sampler) -> np.random.Generator:
    return np.random.default_rng(s.integer(0, 2**31))


def reduction(s: Sampler) -> str:
    return s.choice("mean", "sum", "none")


# -- activations -----------------------------------------------------------------------------------


@case(CASES, "sigmoid", torch=lambda t, x: t.sigmoid(x))
def sigmoid(s: Sampler) -> Call:
    return (s.array(*s.shape(), low=-6, high=6),), {}


@case(CASES, "tanh", torch=lambda t, x: t.tanh(x))
def tanh(s: Sampler) -> Call:
    return (s.array(*s.shape(), low=-3, high=3),), {}


@case(CASES, "relu", torch=lambda t, x: t.relu(x), note="the kink at 0")
def relu(s: Sampler) -> Call:
    return (s.array(*s.shape(), away_from=(0.0,)),), {}


@case(CASES, "silu", torch=lambda t, x: t.nn.functional.silu(x))
def silu(s: Sampler) -> Call:
    return (s.array(*s.shape(), low=-6, high=6),), {}


@case(CASES, "swiglu", torch=lambda t, a, b: t.nn.functional.silu(a) * b)
def swiglu(s: Sampler) -> Call:
    return tuple(s.broadcastable(2, low=-6, high=6)), {}


# PyTorch's softplus is x itself above its threshold; 1e3 puts that out of the way
@case(CASES, "softplus", torch=lambda t, x: t.nn.functional.softplus(x, threshold=1e3))
def softplus(s: Sampler) -> Call:
    return (s.array(*s.shape(), low=-6, high=6),), {}


@case(CASES, "gelu", torch=lambda t, x, **o: t.nn.functional.gelu(x, **o))
def gelu_exact(s: Sampler) -> Call:
    return (s.array(*s.shape(), low=-6, high=6),), s.choice({}, {"approximate": "none"})


@case(CASES, "gelu", torch=lambda t, x, **o: t.nn.functional.gelu(x, **o))
def gelu_tanh(s: Sampler) -> Call:
    return (s.array(*s.shape(), low=-4, high=4),), {"approximate": "tanh"}


# -- softmax ---------------------------------------------------------------------------------------


@case(CASES, "softmax", torch=lambda t, x, axis=-1: t.softmax(x, axis))
def softmax(s: Sampler) -> Call:
    x = s.array(*s.shape(min_dims=1, min_side=1))
    return (x,), s.choice({}, {"axis": s.axis(x.ndim)})


@case(CASES, "log_softmax", torch=lambda t, x, axis=-1: t.log_softmax(x, axis))
def log_softmax(s: Sampler) -> Call:
    x = s.array(*s.shape(min_dims=1, min_side=1))
    return (x,), s.choice({}, {"axis": s.axis(x.ndim)})


@case(
    CASES,
    "logsumexp",
    torch=lambda t, x, axis=-1, keepdims=False: t.logsumexp(x, axis, keepdim=keepdims),
)
def logsumexp(s: Sampler) -> Call:
    x = s.array(*s.shape(min_dims=1, min_side=1))
    return (x,), {"axis": s.axis(x.ndim), "keepdims": s.choice(True, False)}


# -- losses ----------------------------------------------------------------------------------------


def torch_cross_entropy(t: Any, logits: Any, target: Any, **options: Any) -> Any:
    """PyTorch's, with the classes last, and 0 for the mean over nothing, where it gives NaN."""
    weight = options.get("weight")
    counted = target[target != options.get("ignore_index", -100)]
    mass = counted.numel() if weight is None else float(weight[counted].sum())
    if options.get("reduction", "mean") == "mean" and mass == 0:
        return (logits * 0.0).sum()
    rows = math.prod(target.shape)
    flat = logits.reshape(rows, logits.shape[-1])
    loss = t.nn.functional.cross_entropy(flat, target.reshape(rows), **options)
    return loss.reshape(target.shape) if options.get("reduction") == "none" else loss


def logits_and_targets(s: Sampler, min_side: int = 0) -> tuple[np.ndarray, np.ndarray]:
    shape, classes = s.shape(max_dims=3, min_side=min_side, max_side=3), s.integer(1, 6)
    return s.array(*shape, classes), s.ids(*shape, size=classes)


@case(CASES, "cross_entropy", torch=torch_cross_entropy)
def cross_entropy(s: Sampler) -> Call:
    logits, target = logits_and_targets(s)
    return (logits, target), s.choice({}, {"reduction": reduction(s)})


@case(CASES, "cross_entropy", torch=torch_cross_entropy)
def cross_entropy_ignoring(s: Sampler) -> Call:
    """Some targets ignored, sometimes all; the ignored id may also be a class."""
    logits, target = logits_and_targets(s)
    ignored = s.choice(-100, -1, 0, logits.shape[-1] - 1)
    target = np.where(s.rng.random(target.shape) < s.choice(0.3, 0.3, 1.0), ignored, target)
    return (logits, target), {"ignore_index": ignored, "reduction": reduction(s)}


@case(CASES, "cross_entropy", torch=torch_cross_entropy)
def cross_entropy_weighted(s: Sampler) -> Call:
    logits, target = logits_and_targets(s)
    weight = s.array(logits.shape[-1], low=0.2, high=2.0)
    return (logits, target), {"weight": weight, "reduction": reduction(s)}


@case(CASES, "cross_entropy", torch=torch_cross_entropy)
def cross_entropy_smoothed(s: Sampler) -> Call:
    logits, target = logits_and_targets(s)
    options = {"label_smoothing": s.choice(0.0, 0.1, 0.5, 1.0), "reduction": reduction(s)}
    return (logits, target), options


@case(CASES, "cross_entropy", torch=torch_cross_entropy)
def cross_entropy_with_everything(s: Sampler) -> Call:
    """Weights (of which some are 0), smoothing and ignored targets together."""
    logits, target = logits_and_targets(s)
    weight = s.array(logits.shape[-1], low=0.2, high=2.0)
    weight[s.rng.random(weight.shape) < 0.2] = 0.0
    target = np.where(s.rng.random(target.shape) < 0.3, -100, target)
    return (logits, target), {
        "weight": weight,
        "label_smoothing": s.choice(0.1, 0.5, 1.0),
        "reduction": reduction(s),
    }


@case(CASES, "mse", torch=lambda t, x, y, **o: t.nn.functional.mse_loss(x, y, **o))
def mse(s: Sampler) -> Call:
    shape = s.shape(min_side=1)
    return (s.array(*shape), s.array(*shape)), s.choice({}, {"reduction": reduction(s)})


def torch_bce(t: Any, x: Any, target: Any, pos_weight: Any = None, **options: Any) -> Any:
    if isinstance(pos_weight, float):
        pos_weight = t.tensor(pos_weight, dtype=x.dtype)
    return t.nn.functional.binary_cross_entropy_with_logits(
        x, target, pos_weight=pos_weight, **options
    )


@case(CASES, "binary_cross_entropy_with_logits", torch=torch_bce)
def binary_cross_entropy_with_logits(s: Sampler) -> Call:
    shape = s.shape(min_side=1)
    options = s.choice({}, {"reduction": reduction(s)})
    # away from 0, where PyTorch's max(-x, 0) has no derivative by itself and the sum of terms has
    return (s.array(*shape, low=-6, high=6), s.array(*shape, low=0, high=1)), options


@case(CASES, "binary_cross_entropy_with_logits", torch=torch_bce)
def binary_cross_entropy_with_logits_weighted(s: Sampler) -> Call:
    shape = s.shape(min_dims=1, min_side=1)
    per_class = s.array(shape[-1], low=0.3, high=3.0)
    options = {"reduction": reduction(s), "pos_weight": s.choice(2.5, per_class)}
    return (s.array(*shape, low=-6, high=6), s.array(*shape, low=0, high=1)), options


def torch_skipgram(t: Any, v: Any, u: Any, noise: Any, reduction: str = "mean") -> Any:
    logsigmoid = t.nn.functional.logsigmoid
    near, others = (v * u).sum(-1), (noise * v.unsqueeze(-2)).sum(-1)
    loss = -logsigmoid(near) - logsigmoid(-others).sum(-1)
    return {"mean": loss.mean, "sum": loss.sum, "none": lambda: loss}[reduction]()


@case(CASES, "skipgram_loss", torch=torch_skipgram)
def skipgram_loss(s: Sampler) -> Call:
    *pairs, d = s.shape(min_dims=1, max_dims=4, min_side=1)
    noise = s.array(*pairs, s.integer(0, 4), d)
    return (s.array(*pairs, d), s.array(*pairs, d), noise), s.choice(
        {}, {"reduction": reduction(s)}
    )


# -- norms -----------------------------------------------------------------------------------------


def rows_to_normalise(s: Sampler) -> np.ndarray:
    """Values at least 1 apart: with a small variance, a norm bends too much for central
    differences."""
    return s.distinct(*s.shape(max_dims=3, max_side=3), s.integer(1, 6), gap=1.0)


@case(
    CASES,
    "layer_norm",
    torch=lambda t, x, w, b, **o: t.nn.functional.layer_norm(x, x.shape[-1:], w, b, **o),
)
def layer_norm(s: Sampler) -> Call:
    x = rows_to_normalise(s)
    options = s.choice({}, {"eps": 0.1})
    return (x, s.array(x.shape[-1]), s.array(x.shape[-1])), options


@case(
    CASES,
    "layer_norm",
    torch=lambda t, x, w, b: t.nn.functional.layer_norm(x, x.shape[-1:], w, b),
)
def layer_norm_without_bias(s: Sampler) -> Call:
    x = rows_to_normalise(s)
    return (x, s.choice(None, s.array(x.shape[-1])), None), {}


@case(
    CASES,
    "rms_norm",
    torch=lambda t, x, w, eps=1e-6: t.nn.functional.rms_norm(x, x.shape[-1:], w, eps),
)
def rms_norm(s: Sampler) -> Call:
    x = rows_to_normalise(s)
    weight = s.choice(None, s.array(x.shape[-1]), s.array(x.shape[-1]))
    return (x, weight), s.choice({}, {"eps": 0.1})


# -- embedding, dropout, linear --------------------------------------------------------------------


@case(CASES, "embedding", torch=lambda t, ids, w: t.nn.functional.embedding(ids, w))
def embedding(s: Sampler) -> Call:
    """Few rows, so that most ids occur more than once."""
    size = s.integer(1, 4)
    return (s.ids(*s.shape(max_dims=3), size=size), s.array(size, s.integer(1, 4))), {}


def torch_dropout(t: Any, x: Any, p: float = 0.5, rng: Any = None, training: bool = True) -> Any:
    """PyTorch's arithmetic, under the mask that ``rng`` draws."""
    if not training or p == 0:
        return x
    keep = t.asarray(rng.random(tuple(x.shape), dtype=np.float32) >= p)
    return x * keep / (1 - p)


@case(CASES, "dropout", torch=torch_dropout)
def dropout(s: Sampler) -> Call:
    options = {"p": s.choice(0.1, 0.5, 0.9), "rng": generator(s)}
    return (s.array(*s.shape()),), options


@case(CASES, "dropout", torch=torch_dropout)
def dropout_switched_off(s: Sampler) -> Call:
    return (s.array(*s.shape()),), s.choice({"training": False}, {"p": 0.0})


@case(CASES, "linear", torch=lambda t, x, w, b: t.nn.functional.linear(x, w, b))
def linear(s: Sampler) -> Call:
    ins, outs = s.integer(0, 4), s.integer(0, 4)
    x = s.array(*s.shape(max_dims=3, max_side=3), ins)
    return (x, s.array(outs, ins), s.array(outs)), {}


@case(CASES, "linear", torch=lambda t, x, w, b: t.nn.functional.linear(x, w, b))
def linear_without_bias(s: Sampler) -> Call:
    ins, outs = s.integer(1, 4), s.integer(1, 4)
    return (s.array(*s.shape(max_dims=3, max_side=3), ins), s.array(outs, ins), None), {}


# -- convolution -----------------------------------------------------------------------------------


def torch_conv2d(t: Any, x: Any, w: Any, b: Any, **options: Any) -> Any:
    return t.nn.functional.conv2d(x, w, b, **options)


def pictures_and_filters(s: Sampler, groups: int = 1, reach: int = 1) -> tuple[np.ndarray, ...]:
    """Pictures that a filter spread by ``reach`` fits into, of odd sides."""
    kh, kw = s.integer(1, 3), s.integer(1, 3)
    size = [reach * (k - 1) + 1 + s.integer(0, 3) for k in (kh, kw)]
    batch = s.choice(1, 2, 2, 0)
    x = s.array(batch, groups * s.integer(1, 2), *size)
    return x, s.array(groups * s.integer(1, 2), x.shape[1] // groups, kh, kw)


@case(CASES, "conv2d", torch=torch_conv2d)
def conv2d(s: Sampler) -> Call:
    x, w = pictures_and_filters(s)
    return (x, w, s.choice(None, s.array(w.shape[0]))), s.choice({}, {"stride": 2})


@case(CASES, "conv2d", torch=torch_conv2d)
def conv2d_in_groups(s: Sampler) -> Call:
    groups = s.integer(2, 3)
    x, w = pictures_and_filters(s, groups)
    return (x, w, s.array(w.shape[0])), {"groups": groups, "padding": s.integer(0, 1)}


@case(CASES, "conv2d", torch=torch_conv2d)
def conv2d_with_everything(s: Sampler) -> Call:
    """Stride, padding and dilation, each its own down and right, or one for both."""
    groups, most = s.integer(1, 2), 2
    x, w = pictures_and_filters(s, groups, reach=most)

    def pair(low: int, high: int) -> Any:
        return s.choice(s.integer(low, high), (s.integer(low, high), s.integer(low, high)))

    options = {"stride": pair(1, 3), "padding": pair(0, 2), "dilation": pair(1, most)}
    return (x, w, s.array(w.shape[0])), {**options, "groups": groups}


# -- attention -------------------------------------------------------------------------------------


def torch_allowed(t: Any, scores: Any, mask: Any, causal: bool) -> Any:
    """What is added to the scores, ``mask`` and ``causal`` together."""
    n, m = scores.shape[-2:]
    bias = t.zeros(scores.shape, dtype=scores.dtype)
    if mask is not None:
        bias = bias.masked_fill(~mask, -math.inf) if mask.dtype == t.bool else bias + mask
    if causal:
        bias = bias.masked_fill(~t.ones(n, m, dtype=t.bool).tril(m - n), -math.inf)
    return bias


def splitmix(state: int, count: int) -> list[int]:
    """The first numbers of SplitMix64, as a generator with a state."""
    numbers = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        numbers.append(z ^ z >> 31)
    return numbers


def torch_attention(
    t: Any,
    q: Any,
    k: Any,
    v: Any,
    added: Any = None,
    *,
    mask: Any = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    rng: Any = None,
    return_weights: bool = False,
) -> Any:
    """Written out in PyTorch, and checked there against its own fused function."""
    groups = q.shape[-3] // k.shape[-3] if q.ndim > 2 else 1
    if groups != 1:
        k, v = (t.repeat_interleave(x, groups, dim=-3) for x in (k, v))
    scores = q @ k.mT * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    bias = torch_allowed(t, scores, mask, causal)
    blind = (bias == -math.inf).all(-1, keepdim=True)
    if added is not None:
        bias = bias + added
    # a row of -inf has no softmax: give it one, and then take it away
    weights = t.softmax(scores + bias.masked_fill(blind, 0.0), -1).masked_fill(blind, 0.0)
    used = weights
    if dropout_p:
        numbers = splitmix(int(rng.integers(2**64, dtype=np.uint64)), weights.numel())
        kept = np.array([z >= dropout_p * 2**64 for z in numbers], bool)
        keep = t.from_numpy(kept.reshape(tuple(weights.shape)))
        used = weights * keep / (1 - dropout_p)
    y = used @ v
    if not dropout_p and y.numel() and not blind.any():
        fused = t.nn.functional.scaled_dot_product_attention(q, k, v, bias, scale=scale)
        t.testing.assert_close(y, fused, rtol=1e-10, atol=1e-10)
    return (y, weights) if return_weights else y


def queries_keys_values(
    s: Sampler, *, groups: int = 1, keys: tuple[int, int] = (1, 4)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batch = s.choice((), (1,), (2,), (0,), (1, 2))
    heads, n, m = s.integer(1, 2), s.integer(1, 4), s.integer(*keys)
    d, e = s.integer(1, 3), s.integer(1, 3)
    return (
        s.array(*batch, heads * groups, n, d),
        s.array(*batch, heads, m, d),
        s.array(*batch, heads, m, e),
    )


def mask_shape(s: Sampler, q: np.ndarray, k: np.ndarray) -> tuple[int, ...]:
    """A shape that broadcasts to the weights'."""
    whole = (*q.shape[:-1], k.shape[-2])
    kept = whole[s.integer(0, len(whole) - 1) :]
    return tuple(1 if s.integer(0, 3) == 0 else side for side in kept)


@case(CASES, "attention", torch=torch_attention)
def attention(s: Sampler) -> Call:
    return queries_keys_values(s), s.choice({}, {"scale": 0.7})


@case(CASES, "attention", torch=torch_attention)
def attention_of_matrices(s: Sampler) -> Call:
    n, m, d, e = (s.integer(1, 4) for _ in range(4))
    options = s.choice({}, {"causal": True}, {"mask": s.rng.random((n, m)) < 0.6})
    return (s.array(n, d), s.array(m, d), s.array(m, e)), options


@case(CASES, "attention", torch=torch_attention)
def attention_causal(s: Sampler) -> Call:
    return queries_keys_values(s), {"causal": True}


@case(CASES, "attention", torch=torch_attention)
def attention_boolean_mask(s: Sampler) -> Call:
    """Among the rows are some that may attend to nothing."""
    q, k, v = queries_keys_values(s)
    mask = s.layout(s.rng.random(mask_shape(s, q, k)) < 0.6)
    return (q, k, v), {"mask": mask, "causal": s.choice(False, False, True)}


@case(CASES, "attention", torch=torch_attention)
def attention_additive_mask(s: Sampler) -> Call:
    q, k, v = queries_keys_values(s)
    mask = s.array(*mask_shape(s, q, k))
    mask[s.rng.random(mask.shape) < 0.3] = -math.inf
    return (q, k, v), {"mask": mask, "causal": s.choice(False, False, True)}


@case(CASES, "attention", torch=torch_attention)
def attention_grouped(s: Sampler) -> Call:
    q, k, v = queries_keys_values(s, groups=s.integer(2, 3))
    mask = s.rng.random(mask_shape(s, q, k)) < 0.7
    return (q, k, v), s.choice({}, {"causal": True}, {"mask": mask})


@case(CASES, "attention", torch=torch_attention)
def attention_bias(s: Sampler) -> Call:
    """Learned, and broadcast over any of the axes; beside every other option."""
    q, k, v = queries_keys_values(s, groups=s.integer(1, 2))
    bias = s.array(*mask_shape(s, q, k))
    options: dict[str, Any] = {"causal": s.choice(False, True)}
    options |= s.choice({}, {"return_weights": True}, {"dropout_p": 0.4, "rng": generator(s)})
    if s.choice(False, True):
        options["mask"] = s.rng.random(mask_shape(s, q, k)) < 0.7
    return (q, k, v, bias), options


@case(CASES, "attention", torch=torch_attention)
def attention_dropout(s: Sampler) -> Call:
    q, k, v = queries_keys_values(s, groups=s.integer(1, 2), keys=(2, 4))
    options = {"dropout_p": s.choice(0.2, 0.5), "rng": generator(s)}
    return (q, k, v), {**options, "causal": s.choice(False, True)}


@case(CASES, "attention", torch=torch_attention)
def attention_weights(s: Sampler) -> Call:
    """Both results carry cotangents, or one of them."""
    q, k, v = queries_keys_values(s, groups=s.integer(1, 2))
    options: dict[str, Any] = {"return_weights": True, "causal": s.choice(False, True)}
    if s.choice(False, True):
        options |= {"dropout_p": 0.4, "rng": generator(s)}
    return (q, k, v), options


# -- positions -------------------------------------------------------------------------------------


def torch_rope(
    t: Any,
    x: Any,
    *,
    positions: Any = None,
    offset: int = 0,
    base: float = 10000.0,
    rotary_dim: int | None = None,
    interleaved: bool = True,
    frequencies: Any = None,
) -> Any:
    """A pair is a complex number, and a rotation a product with ``e^(i p θ)``."""
    r = x.shape[-1] if rotary_dim is None else rotary_dim
    if positions is None:
        positions = t.arange(x.shape[-2])
    pairs = x[..., :r].unflatten(-1, (-1, 2) if interleaved else (2, -1))
    z = t.complex(*pairs.unbind(-1 if interleaved else -2))
    theta = base ** (-t.arange(0, r, 2, dtype=t.float64) / max(r, 1))
    if frequencies is not None:
        theta = t.tensor(frequencies, dtype=t.float64)
    z = z * t.exp(1j * (positions + offset)[..., None] * theta)
    y = t.stack([z.real, z.imag], -1 if interleaved else -2).flatten(-2)
    return t.cat([y, x[..., r:]], -1)


# float32: the angle itself is float64, and a turn adds two products
@case(CASES, "rope", torch=torch_rope)
def rope(s: Sampler) -> Call:
    d = 2 * s.integer(0, 3)
    x = s.array(*s.shape(min_dims=1, max_dims=3, max_size=12), d)
    options: dict[str, Any] = {"interleaved": s.choice(True, False)}
    options |= s.choice({}, {"offset": s.integer(-3, 5000)}, {"base": s.choice(7.0, 5e5)})
    if s.choice(True, False):
        return (x,), options | {"frequencies": s.rng.random(d // 2).tolist()}
    return (x,), options | s.choice({}, {"rotary_dim": 2 * s.integer(0, d // 2)})


@case(CASES, "rope", torch=torch_rope)
def rope_at_positions(s: Sampler) -> Call:
    """Of one sequence, or of each of several, the heads sharing them."""
    B, H, N, d = s.integer(1, 2), s.integer(1, 2), s.integer(1, 4), s.integer(2, 5)
    shape = s.choice((N,), (B, 1, N), (1, N), (H, N), (B, H, 1))
    positions = s.layout(s.rng.integers(-9, 100, shape))
    options = {"positions": positions, "rotary_dim": d - d % 2, "offset": s.choice(0, 3)}
    return (s.array(B, H, N, d),), options | {"interleaved": s.choice(True, False)}
