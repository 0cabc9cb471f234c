"""Further right solutions of lesson 31, written in other ways."""

import numpy as np


def mask_tokens__token_by_token(ids, lots, fate, other, *, mask_id, special, share=0.15):
    inputs, targets = ids.copy(), np.full_like(ids, -100)
    for b in range(len(ids)):
        free = [(lots[b, t], t) for t, i in enumerate(ids[b]) if i not in special]
        wanted = max(1, round(share * len(free)))
        for _, t in sorted(free)[:wanted]:
            targets[b, t] = ids[b, t]
            if fate[b, t] < 0.8:
                inputs[b, t] = mask_id
            elif fate[b, t] < 0.9:
                inputs[b, t] = other[b, t]
    return inputs, targets


def mask_tokens__the_last_lot_that_wins(ids, lots, fate, other, *, mask_id, special, share=0.15):
    """The lots of a row, sorted: whoever drew no more than the last winner is chosen."""
    ordinary = np.ones(ids.shape, bool)
    for each in special:
        ordinary &= ids != each
    draw = np.where(ordinary, lots, 2.0)
    n = ordinary.sum(axis=1)
    wanted = np.where(n > 0, np.clip(np.round(share * n), 1, None), 0).astype(int)
    limit = np.concatenate([np.full((len(ids), 1), -1.0), np.sort(draw, axis=1)], axis=1)
    chosen = draw <= limit[np.arange(len(ids)), wanted][:, None]
    piece = np.digitize(fate, [0.8, 0.9])
    picture = np.choose(piece, [np.full_like(ids, mask_id), other, ids])
    inputs = ids * ~chosen + picture * chosen
    return inputs, ids * chosen - 100 * ~chosen


def masked_lm_loss__weights(h, table, bias, targets):
    """Nothing is taken out: the places that are not asked weigh 0."""
    weight = (targets != -100).astype(h.dtype)
    weight /= max(weight.sum(), 1)
    hot = (targets[..., None] == np.arange(len(table))).astype(h.dtype)
    z = np.einsum("btc,vc->btv", h, table) + bias
    z = z - z.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))

    def vjp(dy):
        dz = dy * weight[..., None] * (np.exp(log_p) - hot)
        return dz @ table, np.einsum("btv,btc->vc", dz, h), dz.sum(axis=(0, 1)), None

    return -np.einsum("bt,btv,btv->", weight, hot, log_p), vjp


def masked_lm_loss__place_by_place(h, table, bias, targets):
    places = list(zip(*np.nonzero(targets + 100), strict=True))
    gradients = [np.zeros_like(each) for each in (h, table, bias)]
    loss = h.dtype.type(0)
    for place in places:
        z = table @ h[place] + bias
        e = np.exp(z - z.max())
        loss += (np.log(e.sum()) - (z - z.max())[targets[place]]) / len(places)
        dz = e / e.sum() / len(places)
        dz[targets[place]] -= 1 / len(places)
        gradients[0][place] = table.T @ dz
        gradients[1] += np.outer(dz, h[place])
        gradients[2] += dz
    return loss, lambda dy: (*(dy * each for each in gradients), None)
