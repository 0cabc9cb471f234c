"""Lesson 09, written otherwise."""

import numpy as np


def conv2d__loops(x, weight, bias, *, stride=1, padding=0):
    """Place by place: forward reads a patch, backward adds to it."""
    p, (B, _, H, W), (O, _, kh, kw) = padding, x.shape, weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    rows, columns = (padded.shape[2] - kh) // stride + 1, (padded.shape[3] - kw) // stride + 1
    y = np.empty((B, O, rows, columns), x.dtype)
    for b, o, r, c in np.ndindex(*y.shape):
        top, left = stride * r, stride * c
        patch = padded[b, :, top : top + kh, left : left + kw]
        y[b, o, r, c] = bias[o] + (patch * weight[o]).sum()

    def vjp(dy):
        dpadded, dweight, dbias = (np.zeros_like(a) for a in (padded, weight, bias))
        for b, o, r, c in np.ndindex(*y.shape):
            top, left = stride * r, stride * c
            g = dy[b, o, r, c]
            dbias[o] += g
            dweight[o] += g * padded[b, :, top : top + kh, left : left + kw]
            dpadded[b, :, top : top + kh, left : left + kw] += g * weight[o]
        return dpadded[:, :, p : p + H, p : p + W].copy(), dweight, dbias

    return y, vjp


def conv2d__einsum(x, weight, bias, *, stride=1, padding=0):
    """Sliding windows and einsum; dx as a convolution of the spread-out dy with turned filters."""
    p, s, (B, _, H, W), (_, _, kh, kw) = padding, stride, x.shape, weight.shape

    def windows(a, kh, kw):
        return np.lib.stride_tricks.sliding_window_view(a, (kh, kw), axis=(2, 3))

    padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    seen = windows(padded, kh, kw)[:, :, ::s, ::s]
    y = np.einsum("bcpqij,ocij->bopq", seen, weight) + bias[:, None, None]

    def vjp(dy):
        O, rows, columns = dy.shape[1:]
        height, width = padded.shape[2:]
        spread = np.zeros((B, O, height + kh - 1, width + kw - 1), dy.dtype)
        spread[:, :, kh - 1 : kh - 1 + s * rows : s, kw - 1 : kw - 1 + s * columns : s] = dy
        turned = weight[:, :, ::-1, ::-1]
        dpadded = np.einsum("bouvij,ocij->bcuv", windows(spread, kh, kw), turned)
        dweight = np.einsum("bopq,bcpqij->ocij", dy, seen)
        return dpadded[:, :, p : p + H, p : p + W], dweight, np.einsum("bopq->o", dy)

    return y, vjp
