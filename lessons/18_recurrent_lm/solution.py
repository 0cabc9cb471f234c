"""Solution 18: a recurrent language model on one window of its text."""

import numpy as np


def lm_window(h, table, weight_ih, weight_hh, bias, *, ids, targets):
    """The mean loss on a window, and the state after it.  h [B, C], table [V, C], ids [B, T].

    Returns ((loss, last), vjp): vjp(dloss, dlast) -> (dh, dtable, dweight_ih, dweight_hh, dbias).
    """
    B, T = ids.shape
    rows, loss = np.arange(B), table.dtype.type(0)
    states, errors = [h], []
    for t in range(T):
        # h_t = tanh(x_t W_ihᵀ + h_(t-1) W_hhᵀ + b), x_t a row of the table
        x = table[ids[:, t]]  # [B] -> [B, C]
        new = np.tanh(x @ weight_ih.T + states[t] @ weight_hh.T + bias)  # [B, C]
        logits = new @ table.T  # [B, C] [C, V] -> [B, V]
        logits = logits - logits.max(axis=1, keepdims=True)  # softmax does not change
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))  # [B, V]
        loss = loss - log_p[rows, targets[:, t]].sum() / (B * T)
        # what cross-entropy sends back to the logits: softmax - onehot, for the mean
        error = np.exp(log_p)  # [B, V]
        error[rows, targets[:, t]] -= 1
        states.append(new)
        errors.append(error / (B * T))

    def vjp(dloss, dlast):
        dtable, dbias = np.zeros_like(table), np.zeros_like(bias)
        dweight_ih, dweight_hh = np.zeros_like(weight_ih), np.zeros_like(weight_hh)
        dh = dlast  # the window after has used the last state, too
        for t in reversed(range(T)):
            dlogits = dloss * errors[t]  # [B, V]
            # logits = h_t tableᵀ
            dtable += dlogits.T @ states[t + 1]  # [V, B] [B, C] -> [V, C]
            dnew = dlogits @ table + dh  # [B, C]: for the logits, and for the step after
            # h_t = tanh(z): the slope, from the output
            dz = dnew * (1 - states[t + 1] ** 2)  # [B, C]
            # z = x W_ihᵀ + h_(t-1) W_hhᵀ + b
            dweight_ih += dz.T @ table[ids[:, t]]  # [C, B] [B, C] -> [C, C]
            dweight_hh += dz.T @ states[t]  # [C, C]
            dbias += dz.sum(axis=0)  # [C]
            dh = dz @ weight_hh  # [B, C]
            # x = table[ids_t]: an id that stands twice adds twice
            np.add.at(dtable, ids[:, t], dz @ weight_ih)
        return dh, dtable, dweight_ih, dweight_hh, dbias

    return (loss, states[T]), vjp
