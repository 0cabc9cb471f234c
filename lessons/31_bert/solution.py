"""Solution 31: what BERT reads, and what it is asked."""

import numpy as np


def mask_tokens(ids, lots, fate, other, *, mask_id, special, share=0.15):
    """(inputs, targets): 80 % of the chosen become [MASK], 10 % another word, 10 % stay.  [B, T]"""
    ordinary = ~np.isin(ids, special)  # [B, T]
    n = ordinary.sum(axis=-1, keepdims=True)  # [B, 1]
    wanted = np.minimum(np.maximum(np.rint(share * n), 1), n)  # [B, 1]

    lots = np.where(ordinary, lots, np.inf)  # [B, T], special tokens draw the worst lot
    rank = lots.argsort(axis=-1).argsort(axis=-1)  # [B, T], 0 for the smallest lot of the text
    chosen = rank < wanted  # [B, T]

    inputs = np.where(chosen & (fate < 0.9), other, ids)  # [B, T], 90 % of them change
    inputs = np.where(chosen & (fate < 0.8), mask_id, inputs)  # [B, T], most of those to [MASK]
    targets = np.where(chosen, ids, -100)  # [B, T], all of the chosen are asked, the kept ones too
    return inputs, targets


def masked_lm_loss(h, table, bias, targets):
    """The mean of -ln p(targets) where a target is.  h [B, T, C], table [V, C], bias [V].

    Returns (loss, vjp): loss []; vjp(dy) -> (dh [B, T, C], dtable [V, C], dbias [V], None).
    """
    asked = targets != -100  # [B, T]
    x = h[asked]  # [N, C], the other vectors are in no term of the loss
    t = targets[asked][:, None]  # [N, 1]
    N = max(len(t), 1)  # nothing asked: 0/1 is 0, where 0/0 is NaN

    z = x @ table.T + bias  # [N, C] [C, V] -> [N, V]
    z = z - z.max(axis=-1, keepdims=True)  # [N, V], no exponent above 0
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))  # [N, V]
    loss = -np.take_along_axis(log_p, t, axis=-1).sum() / N  # []

    def vjp(dy):
        dz = np.exp(log_p)  # [N, V], softmax(z): a new array at every call
        np.put_along_axis(dz, t, np.take_along_axis(dz, t, axis=-1) - 1, axis=-1)  # p - onehot
        dz *= dy / N
        # z = x tableᵀ + bias
        dx = dz @ table  # [N, V] [V, C] -> [N, C]
        dtable = dz.T @ x  # [V, N] [N, C] -> [V, C]
        dbias = dz.sum(axis=0)  # [V], one bias for all places
        # x = h[asked]: the places that were not asked get nothing
        dh = np.zeros_like(h)  # [B, T, C]
        dh[asked] = dx
        return dh, dtable, dbias, None

    return loss, vjp
