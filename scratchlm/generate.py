"""Writing with a language model: one token at a time, each added to what the next one sees."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterator, Sequence, Set
from typing import Any

import numpy as np

from . import beams as beam
from . import sampling
from .backend import check_ids, to_host
from .reader import Cache, Reader
from .tensor import Tensor

NOT_FINITE = (
    "generate: the model's logits are not finite, so there is no probability to draw from; "
    "were its weights damaged in training?"
)


def next_token_probabilities(
    logits: np.ndarray,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> np.ndarray:
    """``softmax(logits / temperature)`` over those that the rules leave, float64.

    The rules are those of :mod:`scratchlm.sampling`, in this order: temperature, top-k, top-p,
    min-p; each sees what the one before it left. Temperature 0 is the limit: all on the largest
    logit (the first one, if several are equal).

    Shapes: ``logits`` ``(..., V)`` → ``(..., V)``.

    Raises:
        ValueError: an option out of range.
        FloatingPointError: a logit is NaN or +inf.
    """
    sampling.check(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
        vocab_size=logits.shape[-1],
    )  # fmt: skip
    logits = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(logits.max(-1)).all():  # a NaN is the maximum where there is one
        raise FloatingPointError(NOT_FINITE)
    logits = sampling.temperature(logits - logits.max(-1, keepdims=True), temperature)
    if top_k is not None:
        logits = sampling.top_k(logits, top_k)
    if top_p is not None:
        logits = sampling.top_p(logits, top_p)
    if min_p is not None:
        logits = sampling.min_p(logits, min_p)
    return sampling.probabilities(logits)


def generate(
    model: Any,
    ids: Any,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    greedy: bool = False,
    beams: int = 1,
    length_penalty: float = 1.0,
    length_offset: float = 0.0,
    eos_id: int | Collection[int] | None = None,
    cache: bool = True,
    rng: np.random.Generator | None = None,
    seed: int | None = None,
) -> Any:
    """The ids with at most ``max_new_tokens`` more behind them.

    The model is given the last ``block_size`` ids, in evaluation mode; its mode is restored. With a
    cache each new token costs one row, as long as all fits into ``block_size``; beyond, positions
    move with every token, and nothing of the past can be kept: each costs a full pass. (A recurrent
    model has no ``block_size``.)

    Args:
        model: ``model(ids)`` gives logits ``(B, T, V)``; ``model.config.block_size`` limits ``T``,
            where there is one. It may take part in caching: ``model(ids, cache=, last_only=)``, as
            :class:`scratchlm.models.GPT` does; ``model.new_cache(padding)``, where there is
            one, makes what it keeps, if not keys and values.
        ids: the prompt, ``(T,)`` or ``(B, T)``, at least one id for each row; or a list of prompts
            of unequal lengths, each of which is continued as it would be alone.
        max_new_tokens: how many to append at most.
        temperature: below 1 sharper, above 1 flatter; 0 always takes the likeliest.
        top_k: draw among this many likeliest only.
        top_p: draw among the fewest likeliest that have this share of probability.
        min_p: draw among those at least this share as likely as the likeliest.
        repetition_penalty: above 1, what was read or written already becomes less likely.
        greedy: always take the likeliest (temperature 0).
        beams: above 1, search for the likeliest continuation as a whole, keeping so many
            (:func:`scratchlm.beams.search`); nothing is drawn.
        length_penalty: of the search; how much longer continuations are favored.
        length_offset: of the search; 5 is what Wu et al. 2016 have.
        eos_id: the id that ends a text (or several); it is kept as the last one.
        cache: keep keys and values, or states; False reads everything again for every token.
        rng: where the chance comes from.
        seed: instead of ``rng``; the same seed writes the same text.

    Returns:
        ``(T + n,)`` or ``(B, T + n)``, int64; in a batch, n is that of the longest row, and rows
        that ended are filled up with ``eos_id``. For a list of unequal prompts, a list of ``(T +
        n,)``, without anything behind the end.

    Raises:
        ValueError: an empty prompt, or an option out of range, or without effect.
        IndexError: an id outside the model's vocabulary.
        FloatingPointError: the model's logits are NaN.
    """
    rules: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
    }
    prompts = _prompts(ids)
    if isinstance(beams, bool) or beams != int(beams) or beams < 1:
        raise ValueError(f"generate: beams={beams} must be a whole number, at least 1")
    if beams == 1:
        if length_penalty != 1 or length_offset != 0:
            raise ValueError(
                "generate: length_penalty and length_offset are for beam search; give beams=, too"
            )
        steps = stream(
            model, ids, max_new_tokens, **rules, repetition_penalty=repetition_penalty,
            greedy=greedy, eos_id=eos_id, cache=cache, rng=rng, seed=seed,
        )  # fmt: skip
        columns = [np.atleast_1d(column) for column in steps]
        new = list(np.stack(columns, axis=-1)) if columns else [np.zeros(0, int)] * len(prompts)
    else:
        drawn = temperature != 1 or greedy or rng is not None or seed is not None
        if drawn or any(rules[name] is not None for name in ("top_k", "top_p", "min_p")):
            raise ValueError(
                f"generate: beams={beams} searches and draws nothing, so greedy, temperature, "
                "top_k, top_p, min_p, rng and seed would have no effect; leave them out"
            )
        sampling.check(repetition_penalty=repetition_penalty)
        if not math.isfinite(length_penalty) or not 0 <= length_offset < math.inf:
            raise ValueError(
                f"generate: length_penalty={length_penalty} must be finite, and "
                f"length_offset={length_offset} finite and not negative"
            )
        reader = _reader(model, prompts, max_new_tokens, cache)
        new = beam.search(
            reader, max_new_tokens, int(beams), eos=_ends(eos_id, model),
            length_penalty=length_penalty, length_offset=length_offset,
            repetition_penalty=repetition_penalty,
        )  # fmt: skip
    return _joined(ids, prompts, new, _ends(eos_id, model))


def stream(
    model: Any,
    ids: Any,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    greedy: bool = False,
    eos_id: int | Collection[int] | None = None,
    cache: bool | Cache = True,
    rng: np.random.Generator | None = None,
    seed: int | None = None,
) -> Iterator[np.ndarray]:
    """Like :func:`generate`, but yields each new id (``()`` or ``(B,)``) as soon as it is drawn.

    ``cache`` may be a :class:`scratchlm.nn.KVCache`, or a ``StateCache``, that has read the first
    of ``ids`` already, of one prompt or of a batch without padding: only the rest is read, and it
    is kept there. At the end it holds all but the last id.
    """
    if rng is not None and seed is not None:
        raise ValueError("generate: give rng or seed, not both")
    if greedy and (temperature != 1 or any(rule is not None for rule in (top_k, top_p, min_p))):
        raise ValueError(
            "generate: greedy takes the likeliest token, so temperature, top_k, top_p and min_p "
            "would have no effect; leave them out"
        )
    temperature = 0.0 if greedy else temperature
    sampling.check(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
        repetition_penalty=repetition_penalty, vocab_size=_vocab_size(model),
    )  # fmt: skip
    reader = _reader(model, _prompts(ids), max_new_tokens, cache)
    rng = np.random.default_rng(seed) if rng is None else rng
    if temperature == 0:
        choose = _likeliest
    else:
        choose = functools.partial(
            _drawn, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p
        )
    steps = _stream(reader, max_new_tokens, choose, repetition_penalty, _ends(eos_id, model), rng)
    return steps if _is_batch(ids) else (column[0] for column in steps)


def stream_text(
    model: Any,
    vocabulary: Any,
    prompt: str,
    max_new_tokens: int,
    *,
    stop: str | Sequence[str] = (),
    eos_id: int | Collection[int] | None = None,
    **options: Any,
) -> Iterator[str]:
    """Like :func:`stream`, but from text to pieces of text; together they are what is new.

    A piece is held back while it may be the beginning of a ``stop`` string, or of a character whose
    last bytes are still to come.

    Args:
        model: that of :func:`stream`.
        vocabulary: has ``encode`` and ``decode``.
        prompt: what to go on from.
        max_new_tokens: how many to write at most.
        stop: the first of these strings to appear ends the text, and is left out.
        eos_id: the id that ends the text, and is left out.
        **options: all others of :func:`stream`.

    Raises:
        ValueError: an empty stop string, and whatever :func:`stream` raises.
    """
    stops = [stop] if isinstance(stop, str) else list(stop)
    if not all(stops):
        raise ValueError(f"generate: stop={stop!r} must be strings that are not empty")
    ends = _ends(eos_id, model)
    steps = stream(model, vocabulary.encode(prompt), max_new_tokens, eos_id=eos_id, **options)
    return pieces((int(step) for step in steps), vocabulary, stops, ends)


def pieces(
    ids: Iterator[int], vocabulary: Any, stops: Sequence[str] = (), ends: Collection[int] = ()
) -> Iterator[str]:
    """The text of ids as they come, until one of ``ends``, or a text of ``stops``, which is left
    out; a character is held back while its last bytes are still to come.
    """
    held, pending = "", []  # text that may be the beginning of a stop; ids of half a character
    try:
        for token in ids:
            if token in ends:
                break
            pending.append(token)
            text = vocabulary.decode(pending)
            if text.endswith("\ufffd"):
                continue
            held, pending = held + text, []
            first = min((at for s in stops if (at := held.find(s)) >= 0), default=None)
            if first is not None:
                held = held[:first]
                break
            kept = max((_overlap(held, s) for s in stops), default=0)
            if len(held) > kept:
                yield held[: len(held) - kept]
                held = held[len(held) - kept :]
        else:
            held += vocabulary.decode(pending) if pending else ""
    except KeyboardInterrupt:  # what was written is kept
        if held:
            yield held
        raise
    if held:
        yield held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of ``text`` that ``stop`` begins with."""
    return max(n for n in range(min(len(stop), len(text) + 1)) if text.endswith(stop[:n]))


# -- the loop --------------------------------------------------------------------------------------


def _stream(
    reader: Reader,
    count: int,
    choose: Any,
    penalty: float,
    ends: tuple[int, ...],
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    B = len(reader.ids)
    writing = np.arange(B)  # rows that have not ended
    for _ in range(count):
        logits = reader.logits()  # [rows, V]
        if penalty != 1:
            logits = sampling.repetition_penalty(logits, reader.ids, penalty)
        u = rng.random(B)[writing]  # for all, so that no row's chance depends on another's end
        drawn = choose(logits, u)
        reader.append(drawn)
        column = drawn
        if len(writing) < B:
            column = np.full(B, ends[0])
            column[writing] = drawn
        yield column
        if ends:
            going = np.flatnonzero(~np.isin(drawn, ends))
            if not len(going):
                return
            reader.select(going)
            writing = writing[going]


def _likeliest(logits: np.ndarray, u: np.ndarray) -> np.ndarray:
    ids = logits.argmax(-1)  # the first NaN, where there is one
    if not np.isfinite(np.take_along_axis(logits, ids[:, None], axis=-1)).all():
        raise FloatingPointError(NOT_FINITE)
    return ids


def _drawn(logits: np.ndarray, u: np.ndarray, **rules: Any) -> np.ndarray:
    return sampling.draw(next_token_probabilities(logits, **rules), u)


# -- what goes in and comes out --------------------------------------------------------------------


def _plain(ids: Any) -> Any:
    return ids.data if isinstance(ids, Tensor) else ids


def _is_ragged(ids: Any) -> bool:
    if not isinstance(ids, list | tuple):
        return False
    lengths = {np.shape(_plain(row)) for row in ids}
    return len(lengths) > 1


def _is_batch(ids: Any) -> bool:
    return _is_ragged(ids) or np.ndim(_plain(ids)) == 2


def _prompts(ids: Any) -> list[np.ndarray]:
    """The prompts as rows, each checked for its shape."""
    whole = [to_host(_plain(row)) for row in (ids if _is_ragged(ids) else [ids])]
    for prompt in whole:
        if prompt.ndim not in ((1,) if _is_ragged(ids) else (1, 2)) or not prompt.size:
            raise ValueError(
                f"generate: the prompt has shape {prompt.shape}, it must be (T,) or (B, T) with at "
                "least one id, or a list of (T,); begin with a newline if there is nothing to say"
            )
    return list(whole[0]) if whole[0].ndim == 2 else whole


def _reader(
    model: Any, prompts: list[np.ndarray], max_new_tokens: int, cache: bool | Cache
) -> Reader:
    if max_new_tokens < 0:
        raise ValueError(f"generate: max_new_tokens={max_new_tokens} must not be negative")
    for number, row in enumerate(prompts):
        what = "generate" if len(prompts) == 1 else f"generate: prompt {number}"
        check_ids(row, _vocab_size(model), what=what)
    return Reader(model, prompts, cache)


def _vocab_size(model: Any) -> Any:
    return getattr(getattr(model, "config", None), "vocab_size", math.inf)


def _ends(eos_id: int | Collection[int] | None, model: Any) -> tuple[int, ...]:
    if eos_id is None:
        return ()
    given = list(eos_id) if isinstance(eos_id, Set) else eos_id  # no array is made of a set
    ends = tuple(int(i) for i in np.atleast_1d(np.asarray(given)))
    size = _vocab_size(model)
    if not ends or not all(0 <= i < size for i in ends):
        raise ValueError(f"generate: eos_id={eos_id} must lie in the vocabulary, [0, {size})")
    return ends


def _joined(
    ids: Any, prompts: list[np.ndarray], new: list[np.ndarray], ends: tuple[int, ...]
) -> Any:
    """Prompts and what follows: arrays of one length, or a list for prompts that have none."""
    rows = [np.concatenate(pair).astype(np.int64) for pair in zip(prompts, new, strict=True)]
    if not _is_ragged(ids):
        longest = max(map(len, rows))
        rows = [np.pad(r, (0, longest - len(r)), constant_values=(ends or (0,))[0]) for r in rows]
        return np.stack(rows) if _is_batch(ids) else rows[0]
    if not ends:
        return rows
    whole = []
    for prompt, row in zip(prompts, rows, strict=True):
        at = np.flatnonzero(np.isin(row[len(prompt) :], ends))
        whole.append(row[: len(prompt) + at[0] + 1] if len(at) else row)
    return whole
