"""Convolution as a module."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import functional as F
from ..ops._checks import integers
from ..ops.convolution import Pair
from .layers import Rng, uniform
from .module import Module


class Conv2d(Module):
    """``y = x ⋆ W + b``, one small filter at every place: x (B, in_channels, H, W).

    Weight is (out_channels, in_channels / groups, kh, kw). Weight and bias start uniform in
    ±1/sqrt(in_channels / groups * kh * kw), one over the root of what a filter sees: PyTorch's
    default, as in :class:`Linear`.

    Args:
        in_channels: channels of x.
        out_channels: channels of y, one filter each.
        kernel_size: height and width of a filter, or one number for both.
        stride: from one place to the next.
        padding: zeros on each side.
        dilation: from one pixel of a patch to the next.
        groups: of channels that do not see each other.

    Raises:
        ValueError: ``groups`` does not divide the channels, or a size is below 1.

    Source: LeCun et al. 1989; the initial values He et al. 2015, as PyTorch chose.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d: groups={groups} must divide in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        size = integers("Conv2d", "kernel_size", kernel_size)
        if len(size) not in (1, 2) or min(*size, in_channels, out_channels) < 1:
            raise ValueError(
                f"Conv2d: in_channels={in_channels}, out_channels={out_channels}, "
                f"kernel_size={kernel_size}: each must be at least 1, kernel_size one integer or "
                "(height, width)"
            )
        rng = np.random.default_rng(rng)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = (size[0], size[-1])
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        self.weight = uniform(rng, shape, bound, dtype)
        self.bias = uniform(rng, (out_channels,), bound, dtype) if bias else None

    def forward(self, x: Any) -> Any:
        return F.conv2d(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"groups={self.groups}, bias={self.bias is not None}"
        )
