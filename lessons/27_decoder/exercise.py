"""Exercise 27: attention from one sequence to another, and its gradients."""

import math

import numpy as np


def cross_attention(x, memory, wq, wk, wv, wo, *, padding=None):
    """Each position of x asks, and the memory answers: one head.

    q = x wqᵀ,   k = memory wkᵀ,   v = memory wvᵀ,   y = softmax(q kᵀ / √E) v woᵀ

    x: [..., T, C], the decoder's stream, T positions
    memory: [..., S, D], the encoder's result, S positions; the leading axes are texts, as in x
    wq: [E, C]    wk, wv: [E, D]    wo: [C, E]    rows are outputs, as in lesson 04
    padding: None, or boolean [..., S], True where the memory is padding: no query sees that key.
        A text of padding alone gives y = 0. There is no causal mask: the source is known.

    Returns (y, vjp): y [..., T, C]; vjp(dy) -> (dx, dmemory, dwq, dwk, dwv, dwo), with the shapes
    of the inputs.  float32 in, float32 out; no NaN; inputs and dy stay as they are.
    """
    raise NotImplementedError
