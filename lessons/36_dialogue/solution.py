"""Solution 36: a conversation as ids, and the loss of its answers."""

import numpy as np

START, END = 256, 257  # the marks around a message; 0 to 255 are the bytes of UTF-8


def chat_ids(messages, *, system=None, ask=False):
    """START role <line break> content END <line break>, for each message.

    Returns (ids [T], said [T]).
    """
    if system is not None and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    ids, said = [], []

    def put(tokens, learned):
        ids.extend(tokens)
        said.extend([learned] * len(tokens))

    for message in messages:
        put([START, *message["role"].encode(), *b"\n"], False)
        # the END, too: or the model never learns to stop
        put([*message["content"].encode(), END], message["role"] == "assistant")
        put(b"\n", False)
    if ask:
        put([START, *b"assistant\n"], False)
    return np.array(ids), np.array(said)


def answer_loss(logits, ids, said):
    """The mean of -ln p(ids[:, t+1]) where said[:, t+1].  logits [B, T, V], ids, said [B, T].

    Returns (loss, vjp): loss []; vjp(dy) -> (dlogits [B, T, V], None, None).
    """
    x = logits[:, :-1]  # [B, T-1, V], every position that has a next token
    t = ids[:, 1:, None]  # [B, T-1, 1], the next tokens
    m = said[:, 1:, None]  # [B, T-1, 1], which of them are asked for: shifted as they are
    N = int(m.sum())  # predictions that count

    z = x - x.max(axis=-1, keepdims=True)  # [B, T-1, V], no exponent above 0
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))  # [B, T-1, V]
    at_target = np.take_along_axis(log_p, t, axis=-1)  # [B, T-1, 1]
    loss = -np.where(m, at_target, 0).sum() / N  # []

    def vjp(dy):
        dx = np.exp(log_p)  # [B, T-1, V], softmax(x): a new array at every call
        # at_target = log_p[t]: one-hot rows
        np.put_along_axis(dx, t, np.take_along_axis(dx, t, axis=-1) - 1, axis=-1)
        # loss = -sum of those with m / N: the others had no part in it
        dx *= m * (dy / N)
        # x = logits[:, :-1]: the last position has said nothing
        dlogits = np.zeros_like(logits)  # [B, T, V]
        dlogits[:, :-1] = dx
        return dlogits, None, None

    return loss, vjp
