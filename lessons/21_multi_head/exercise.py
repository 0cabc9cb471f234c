"""Exercise 21: attention with several heads, and its gradients."""

import numpy as np


def split_heads(x, *, heads):
    """y[h, n, i] = x[n, h d + i]: the columns of x in `heads` parts of d columns each.

    x: [..., N, E], where E is heads times d
    Returns (y, vjp): y [..., heads, N, d]; vjp(dy) -> dx with the shape of x.
    """
    raise NotImplementedError


def multi_head(x, wq, wk, wv, wo, *, heads, causal=False):
    """y = Concat(head_1, ..., head_H) woᵀ,   head_h = softmax(q_h k_hᵀ / √d) v_h

    q_h, k_h, v_h are part h of the columns of q = x wqᵀ, k = x wkᵀ, v = x wvᵀ, d columns each.

    x: [..., N, C], N words of a text; the leading axes are texts
    wq, wk, wv: [E, C], rows are outputs, as in lesson 04; E is heads times d
    wo: [C', E]
    causal: word n sees words 0 to n only

    Returns (y, vjp): y [..., N, C']; vjp(dy) -> (dx, dwq, dwk, dwv, dwo), with the shapes of the
    inputs. float32 in, float32 out.
    """
    raise NotImplementedError
