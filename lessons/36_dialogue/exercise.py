"""Exercise 36: a conversation as ids, and the loss of its answers."""

import numpy as np

START, END = 256, 257  # the marks around a message; 0 to 255 are the bytes of UTF-8


def chat_ids(messages, *, system=None, ask=False):
    """A conversation as ids, and which of them the assistant says.

    messages: a list of at least one {"role": ..., "content": ...}, oldest first; the role is
              "system", "user" or "assistant"
    system:   a text: if the first message is not the system's own, one with this text goes before
    ask:      end with the beginning of an answer, START assistant <line break>

    Each message is

        START role <line break> content END <line break>

    where role, content and line breaks ("\\n", byte 10) are the bytes of their UTF-8.

    Returns (ids, said): ids [T], integers; said [T], bool, True for the content of each message of
    the assistant, and for the END behind it. All else is only read.
    """
    raise NotImplementedError


def answer_loss(logits, ids, said):
    """The mean of -ln p(a token), over the tokens that the assistant says.

    logits: [B, T, V]; the scores at position t are for the token at t + 1
    ids:    [B, T], the very tokens that the model has read
    said:   [B, T], bool, True for a token that is to be learned. Nothing predicts the first token,
            so said[:, 0] does not matter; somewhere behind it, said is True.

    Returns (loss, vjp): loss is one number; vjp(dy) -> (dlogits, None, None), where dlogits has the
    shape of logits.
    float32 in, float32 out.
    """
    raise NotImplementedError
