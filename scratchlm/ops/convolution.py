"""Convolution of pictures: a small linear map, the same at every place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..backend import Array, array_namespace
from ..registry import op
from ._checks import integers
from ._types import Vjp

Pair = int | tuple[int, int]


@op("y = Σ x[stride · place + dilation · offset] W[offset] + b")
def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> tuple[Array, Vjp]:
    """Every patch of x times every filter.

    Shapes, with C channels in, O out, filters of ``kh × kw``::

        x [B, C, H, W]   weight [O, C / groups, kh, kw]   bias [O] or None   ->   y [B, O, H', W']
        H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1, and W' alike

    With x̄ for x between ``padding`` zeros on each side, s the stride and δ the dilation::

        y[b, o, p, q] = bias[o] + sum_cij x̄[b, c, s p + δ i, s q + δ j] W[o, c, i, j]

    As in PyTorch, the filter is not turned round: in mathematics this is a cross-correlation. With
    ``groups``, the channels fall into that many groups, and each output sees those of its own.

    The patches, laid side by side as columns ``X [C kh kw, B H' W']``, make it one matrix product,
    ``Y = W X``, and its backward two::

        dW = dY Xᵀ       dX = Wᵀ dY       db = sum of dy over b, p and q

    A pixel lies in several patches (as its place i, j in each), and dx adds up what all of them
    send back. Written out, with s = 1, that sum is a convolution again, of dy with the filters
    turned by half a circle and O and C exchanged::

        dx̄[b, c, u, v] = sum_oij dy[b, o, u - δ i, v - δ j] W[o, c, i, j]

    Forward copies ``kh kw`` shifted views of x side by side, and backward adds to the same views:
    slices alone, so that it runs on every device. The columns are kept for dW; they are about
    ``kh kw / s²`` times as large as x.

    Args:
        x: pictures ``[B, C, H, W]``.
        weight: filters ``[O, C / groups, kh, kw]``.
        bias: one number for each output channel, or None.
        stride: from one patch to the next; one number, or (down, right), as in all of these.
        padding: rows and columns of zeros on each side.
        dilation: from one pixel of a patch to the next.
        groups: divides C and O.

    Raises:
        ValueError: shapes that do not fit, a filter larger than the padded picture, a stride,
            dilation or number of groups below 1, a padding below 0.
        TypeError: an option that is no integer.

    Source: LeCun et al. 1989, §3 and 1998, §II; Goodfellow et al. 2016, eq. 9.6. D1 §2.2.2 names
    it, without a formula. Columns: Chellapilla et al. 2006.
    """
    (s, t), (up, left), (δ, ε), groups = _options(stride, padding, dilation, groups)
    _check_shapes(x, weight, bias, groups)
    B, C, H, W = x.shape
    O, _, kh, kw = weight.shape
    rows = _places("height", x, weight, H + 2 * up, kh, s, δ)
    columns = _places("width", x, weight, W + 2 * left, kw, t, ε)
    xp = array_namespace(x, weight, bias)
    middle = (..., slice(up, up + H), slice(left, left + W))

    def windows() -> Iterator[tuple[Any, ...]]:
        """For each pixel of the filter, where it falls as the filter goes over the picture."""
        for i in range(kh):
            for j in range(kw):
                down = slice(i * δ, i * δ + (rows - 1) * s + 1, s)
                right = slice(j * ε, j * ε + (columns - 1) * t + 1, t)
                yield (..., down, right)

    padded = xp.zeros((C, B, H + 2 * up, W + 2 * left), dtype=x.dtype, device=x.device)
    padded[middle] = xp.permute_dims(x, (1, 0, 2, 3))
    patches = xp.stack([padded[w] for w in windows()], axis=1)  # [C, kh kw, B, H', W']
    whole = patches.shape
    X = xp.reshape(patches, (groups, C // groups * kh * kw, B * rows * columns))
    Wm = xp.reshape(weight, (groups, O // groups, C // groups * kh * kw))
    y = xp.reshape(Wm @ X, (O, B, rows, columns))  # [O, C kh kw] [C kh kw, B H' W']
    if bias is not None:
        y = y + xp.reshape(bias, (O, 1, 1, 1))

    def vjp(dy: Array) -> tuple[Array | None, ...]:
        dyo = xp.permute_dims(dy, (1, 0, 2, 3))  # [O, B, H', W']
        dY = xp.reshape(dyo, (groups, O // groups, B * rows * columns))
        # Y = W X   =>   dW = dY Xᵀ,  dX = Wᵀ dY
        dweight = xp.reshape(dY @ xp.matrix_transpose(X), weight.shape)
        dpatches = xp.reshape(xp.matrix_transpose(Wm) @ dY, whole)
        # patches[:, k] = padded[window k]   =>   each window adds what comes back to it
        dpadded = xp.zeros((C, B, H + 2 * up, W + 2 * left), dtype=x.dtype, device=x.device)
        for k, window in enumerate(windows()):
            dpadded[window] += dpatches[:, k, ...]
        dx = xp.permute_dims(dpadded[middle], (1, 0, 2, 3))
        return dx, dweight, None if bias is None else xp.sum(dyo, axis=(1, 2, 3))

    return xp.permute_dims(y, (1, 0, 2, 3)), vjp


def _options(
    stride: Any, padding: Any, dilation: Any, groups: Any
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
    """Each as (down, right), in its range."""
    pairs = []
    for name, value, least in [
        ("stride", stride, 1),
        ("padding", padding, 0),
        ("dilation", dilation, 1),
        ("groups", groups, 1),
    ]:
        several = integers("conv2d", name, value)
        if len(several) not in ((1,) if name == "groups" else (1, 2)) or min(several) < least:
            kind = "one integer" if name == "groups" else "one integer or (down, right)"
            raise ValueError(f"conv2d: {name}={value!r}; it must be {kind}, of at least {least}")
        pairs.append((several[0], several[-1]))
    return pairs[0], pairs[1], pairs[2], pairs[3][0]


def _check_shapes(x: Array, weight: Array, bias: Array | None, groups: int) -> None:
    shapes = f"conv2d: x {tuple(x.shape)}, weight {tuple(weight.shape)}"
    if x.ndim != 4 or weight.ndim != 4:
        raise ValueError(
            f"{shapes}: x must be (batch, channels, height, width), weight (out channels, channels "
            "/ groups, height, width); a single picture needs a batch axis: x[None]"
        )
    if not x.shape[1] or x.shape[1] % groups or weight.shape[0] % groups:
        raise ValueError(
            f"{shapes}: groups={groups} must divide the channels of x, {x.shape[1]}, and the "
            f"filters, {weight.shape[0]}"
        )
    if weight.shape[1] != x.shape[1] // groups:
        raise ValueError(
            f"{shapes}: each filter sees {x.shape[1] // groups} channels of x ({x.shape[1]} in "
            f"{groups} group{'s' if groups > 1 else ''}), so axis 1 of weight must be that long"
        )
    if bias is not None and bias.shape != (weight.shape[0],):
        raise ValueError(
            f"{shapes}, bias {tuple(bias.shape)}: bias must be ({weight.shape[0]},), one for each "
            "filter"
        )


def _places(
    name: str, x: Array, weight: Array, size: int, kernel: int, stride: int, dilation: int
) -> int:
    """How many places the filter has along one axis."""
    span = dilation * (kernel - 1) + 1
    if kernel < 1 or span > size:
        raise ValueError(
            f"conv2d: x {tuple(x.shape)}, weight {tuple(weight.shape)}: along the {name} the "
            f"filter spans {max(span, 0)} pixels, the padded picture {size}: it must have a pixel "
            "and fit once; add padding, or take a smaller filter or dilation"
        )
    return (size - span) // stride + 1
