"""What a masked language model reads, and what it is asked."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

IGNORED = -100  # a target that does not count


def mask_tokens(
    ids: np.ndarray,
    rng: np.random.Generator,
    *,
    mask_id: int,
    special_ids: Iterable[int],
    vocab_size: int,
    share: float = 0.15,
    mask_share: float = 0.8,
    random_share: float = 0.1,
) -> tuple[np.ndarray, np.ndarray]:
    """Hide some tokens of each row: ``(inputs, targets)``, both of the shape of ``ids``.

    In each row ``max(1, round(0.15 n))`` of its n ordinary tokens are chosen, all equally likely.
    Of these, 80 % become ``[MASK]``, 10 % another word, drawn from all ordinary ones, and 10 %
    stay what they are. Targets are the ids as they were where a token was chosen, and -100
    elsewhere.

    Why not always ``[MASK]``: no text that the model reads later will hold one. So it must be ready
    to be asked about any word, and to doubt any.

    Args:
        ids: (B, T) or (T,), padded with a special id.
        rng: decides all.
        mask_id: of ``[MASK]``.
        special_ids: never chosen, never drawn: padding, ``[CLS]``, ``[SEP]``, ``[MASK]`` itself.
        vocab_size: how many ids there are.
        share: of tokens that are chosen.
        mask_share: of the chosen ones, that become ``[MASK]``.
        random_share: of the chosen ones, that become another word.

    Raises:
        ValueError: shares outside [0, 1], no ordinary word to draw.

    Source: Devlin et al. 2019, §3.1 and appendix A.1; that each row has at least one and a fixed
    number is their published code's.
    """
    shares = {"share": share, "mask_share": mask_share, "random_share": random_share}
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"mask_tokens: {name}={value} must lie between 0 and 1")
    if mask_share + random_share > 1:
        raise ValueError(
            f"mask_tokens: mask_share={mask_share} and random_share={random_share} are more than "
            "all of the chosen ones"
        )
    special = np.unique([*special_ids, mask_id])
    words = np.setdiff1d(np.arange(vocab_size), special)
    if not len(words):
        raise ValueError(f"mask_tokens: all of the {vocab_size} ids are special")
    ordinary = ~np.isin(ids, special)
    wanted = np.rint(share * ordinary.sum(axis=-1, keepdims=True))
    wanted = np.minimum(np.maximum(wanted, 1), ordinary.sum(axis=-1, keepdims=True))
    lots = np.where(ordinary, rng.random(ids.shape), np.inf)
    rank = np.argsort(np.argsort(lots, axis=-1, kind="stable"), axis=-1)
    chosen = rank < wanted  # the tokens with the smallest lots
    fate = rng.random(ids.shape)
    other = words[rng.integers(len(words), size=ids.shape)]
    masked = chosen & (fate < mask_share)
    replaced = chosen & ~masked & (fate < mask_share + random_share)
    inputs = np.where(masked, mask_id, np.where(replaced, other, ids))
    return inputs, np.where(chosen, ids, IGNORED)
