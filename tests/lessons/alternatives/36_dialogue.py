"""Further right solutions of lesson 36, written in other ways."""

import numpy as np


def chat_ids__text_first(messages, *, system=None, ask=False):
    """A text of code points, in which two that no text holds stand for the marks."""
    start, end = "\ud800", "\ud801"  # halves of a pair: never in a text
    messages = list(messages)
    if system is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    pieces, learned = [], []
    for each in messages:
        role, content = each["role"], each["content"]
        pieces += [f"{start}{role}\n", content + end, "\n"]
        learned += [0, role == "assistant", 0]
    if ask:
        pieces.append(start + "assistant\n")
        learned.append(0)
    marks = {start: [256], end: [257]}
    tokens = [[i for c in p for i in marks.get(c) or c.encode()] for p in pieces]
    said = np.repeat(np.array(learned, bool), [len(t) for t in tokens])
    return np.concatenate(tokens).astype(int), said


def chat_ids__one_message_at_a_time(messages, *, system=None, ask=False):
    def turn(role, content):
        head = np.frombuffer(f"{role}\n".encode(), np.uint8)
        body = np.frombuffer(content.encode(), np.uint8)
        ids = np.concatenate([[256], head, body, [257, 10]]).astype(np.int64)
        place = np.arange(len(ids))
        said = (place > len(head)) & (place <= len(head) + len(body) + 1)
        return ids, said & (role == "assistant")

    turns = [turn(m["role"], m["content"]) for m in messages]
    if system is not None and messages[0]["role"] != "system":
        turns = [turn("system", system)] + turns
    if ask:
        begun = turn("assistant", "")[0][:-2]
        turns += [(begun, np.zeros(len(begun), bool))]
    ids, said = zip(*turns, strict=True)
    return np.concatenate(ids), np.concatenate(said)


def answer_loss__only_the_rows_that_count(logits, ids, said):
    rows, columns = np.nonzero(said[:, 1:])
    x, t = logits[rows, columns], ids[rows, columns + 1]  # [N, V], [N]
    top = x.max(axis=1)
    log_sum = top + np.log(np.exp(x - top[:, None]).sum(axis=1))
    loss = (log_sum - x[np.arange(len(t)), t]).mean()

    def vjp(dy):
        p = np.exp(x - log_sum[:, None])
        p[np.arange(len(t)), t] -= 1
        dlogits = np.zeros_like(logits)
        dlogits[rows, columns] = p * (dy / len(t))
        return dlogits, None, None

    return loss, vjp


def answer_loss__loops(logits, ids, said):
    total, count, slope = 0, 0, np.zeros_like(logits)
    for b in range(len(ids)):
        for after in range(1, ids.shape[1]):
            if said[b, after]:
                x = logits[b, after - 1]
                e = np.exp(x - max(x))
                total += np.log(sum(e)) - (x[ids[b, after]] - max(x))
                slope[b, after - 1] = e / sum(e)
                slope[b, after - 1, ids[b, after]] -= 1
                count += 1
    loss = logits.dtype.type(total / count)
    return loss, lambda dy: (slope * slope.dtype.type(dy / count), None, None)
