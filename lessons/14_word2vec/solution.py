"""Solution 14: skip-gram with negative sampling."""

import numpy as np


def softplus(s):
    """ln(1 + exp(s)) = -ln σ(-s), without overflow."""
    return np.logaddexp(0, s)


def sigmoid(s):
    """1 / (1 + exp(-s)), without overflow."""
    return np.exp(-softplus(-s))


def skipgram_loss(center, context, negatives):
    """L = mean of -ln σ(v·u) - sum_k ln σ(-v·u_k).  [B, d], [B, d], [B, K, d] -> a number."""
    near = (center * context).sum(axis=1)  # [B], v·u
    noise = np.einsum("bd,bkd->bk", center, negatives)  # [B, K], v·u_k
    loss = (softplus(-near) + softplus(noise).sum(axis=1)).mean()

    def vjp(dloss):
        share = dloss / len(center)  # each pair's part of the mean
        dnear = -sigmoid(-near) * share  # [B]; softplus' = sigmoid
        dnoise = sigmoid(noise) * share  # [B, K]
        # v·u: each factor gets the other one; v has K + 1 partners
        dcenter = dnear[:, None] * context + np.einsum("bk,bkd->bd", dnoise, negatives)  # [B, d]
        dcontext = dnear[:, None] * center  # [B, d]
        dnegatives = dnoise[:, :, None] * center[:, None, :]  # [B, K, d]
        return dcenter, dcontext, dnegatives

    return loss, vjp
