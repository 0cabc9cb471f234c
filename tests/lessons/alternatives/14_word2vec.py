"""Other right solutions of lesson 14."""

import math

import numpy as np


def skipgram_loss__loops(center, context, negatives):
    B, K, d = negatives.shape

    def surprise(s):
        """-ln σ(s), and its derivative."""
        small = math.exp(-abs(s))
        value = math.log1p(small) + max(0.0, -s)
        slope = -small / (1 + small) if s > 0 else -1 / (1 + small)
        return value, slope

    loss = 0.0
    grads = [np.zeros_like(each) for each in (center, context, negatives)]
    for b in range(B):
        rows = [(context[b], grads[1][b], 1)] + [
            (negatives[b, k], grads[2][b, k], -1) for k in range(K)
        ]
        for row, grad, sign in rows:
            s = sum(float(center[b, j]) * float(row[j]) for j in range(d))
            value, slope = surprise(sign * s)
            loss += value / B
            for j in range(d):
                grads[0][b, j] += sign * slope * row[j] / B
                grad[j] += sign * slope * center[b, j] / B

    def vjp(dloss):
        return tuple(grad * dloss for grad in grads)

    return center.dtype.type(loss), vjp


def skipgram_loss__one_product(center, context, negatives):
    """The context is row 0 of K + 1 rows, and a sign tells it from the noise."""
    rows = np.concatenate([context[:, None, :], negatives], axis=1)  # [B, 1 + K, d]
    sign = np.where(np.arange(rows.shape[1]) == 0, 1, -1).astype(center.dtype)
    s = sign * (rows @ center[:, :, None])[:, :, 0]  # [B, 1 + K]
    small = np.exp(-np.abs(s))
    loss = np.sum(np.log1p(small) + np.maximum(-s, 0)) / len(center)

    def vjp(dloss):
        slope = -np.where(s > 0, small, 1) / (1 + small)  # -σ(-s)
        ds = (sign * slope * dloss / len(center))[:, :, None]  # [B, 1 + K, 1]
        drows = ds * center[:, None, :]
        return (ds * rows).sum(axis=1), drows[:, 0], drows[:, 1:]

    return loss, vjp


def skipgram_loss__cross_entropy(center, context, negatives):
    """Each question is a softmax of two classes, with the scores 0 and s."""
    rows = np.concatenate([negatives, context[:, None, :]], axis=1)  # the context last
    target = np.zeros(rows.shape[:2], dtype=center.dtype)
    target[:, -1] = 1
    s = np.einsum("bkd,bd->bk", rows, center)
    top = np.maximum(s, 0)
    total = np.log(np.exp(-top) + np.exp(s - top)) + top  # ln(e^0 + e^s)
    loss = (total - target * s).sum(axis=1).mean()

    def vjp(dloss):
        # softmax minus target; for the context written so that nothing cancels
        yes = np.exp(s - total)
        ds = np.where(target == 1, -np.exp(-total), yes) * dloss / s.shape[0]
        drows = np.einsum("bk,bd->bkd", ds, center)
        return np.einsum("bk,bkd->bd", ds, rows), drows[:, -1], drows[:, :-1]

    return loss, vjp
