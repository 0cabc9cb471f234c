"""Tasks of separate examples: texts to be restored, labelled, tagged, translated, answered.

Each takes its examples as people have them (texts, labels), or as ids. In a batch they are padded,
and ``"mask"`` says where a token is; models that take an ``attention_mask`` are given it.
"""

from __future__ import annotations

import functools
import inspect
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .. import functional as F
from ..data import Epochs, mask_tokens, pad
from ..data.masking import IGNORED
from ..metrics import accuracy, entity_f1, f1
from ..nn import Module
from .tasks import Batch, Task

Example = dict[str, np.ndarray]  # as a batch, of one example, its arrays 1-D
Tokenize = Any  # a tokenizer, or None where examples are ids already


class Examples(Task):
    """A task of separate examples, each once in an epoch, those of a batch about equally long.

    Subclasses encode an example to a dictionary of 1-D arrays, and make a batch of some of them.

    Args:
        train, validation: what the subclass says an example is.
        tokenizer: what it says.
        pool: batches that are sorted by length together (:func:`scratchlm.data.buckets`).
        options: as :class:`Task`.

    Raises:
        ValueError: no examples; one without a token, or without anything to predict (named).
    """

    def __init__(
        self,
        train: Sequence[Any],
        validation: Sequence[Any] = (),
        tokenizer: Tokenize = None,
        *,
        pool: int = 50,
        **options: Any,
    ) -> None:
        super().__init__(tokenizer, **options)
        self.train = self._all(train, "training")
        self.validation = self._all(validation, "validation")
        if not self.train:
            raise ValueError(f"{type(self).__name__}: there are no examples to train on")
        self.epochs = Epochs([self._length(example) for example in self.train], pool=pool)

    def encode(self, example: Any) -> Example:
        """An example as 1-D arrays of integers."""
        raise NotImplementedError

    def collate(self, examples: list[Example], rng: np.random.Generator) -> Batch:
        """A batch of encoded examples."""
        raise NotImplementedError

    def sample(self, n: int, rng: np.random.Generator) -> Batch:
        return self.collate([self.train[i] for i in self.epochs.take(n, rng)], rng)

    def held_out(self, batch_size: int, batches: int | None) -> Iterator[Batch]:
        order = np.argsort([self._length(example) for example in self.validation], kind="stable")
        if batches is not None and len(order) > batches * batch_size:
            order = order[np.linspace(0, len(order) - 1, batches * batch_size).astype(int)]
        rng = np.random.default_rng(0)  # the same questions each time
        for i in range(0, len(order), batch_size):
            some = [self.validation[j] for j in order[i : i + batch_size]]
            yield self.collate(some, rng)

    def fingerprint(self) -> str:
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        checksum = 0
        for example in self.train:
            for name, array in example.items():
                checksum = zlib.crc32(name.encode(), checksum)
                checksum = zlib.crc32(np.asarray(array, "<i8").tobytes(), checksum)
        return f"{checksum:08x}-{len(self.train)}"

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epochs.load_state_dict(state["epochs"])

    def check(self, model: Module) -> None:
        longest = max(map(self._length, [*self.train, *self.validation]))
        tokens = 1 + max(int(e["ids"].max()) for e in [*self.train, *self.validation])
        self._check_sizes(model, longest, max(tokens, len(self.tokenizer or ())))

    def _all(self, examples: Sequence[Any], which: str) -> list[Example]:
        encoded = []
        for number, example in enumerate(examples):
            try:
                arrays = self.encode(example)
                self._check_example(arrays)
            except (ValueError, TypeError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"{type(self).__name__}: {which} example {number}: {error}") from error
            encoded.append(arrays)
        return encoded

    def _check_example(self, example: Example) -> None:
        if not len(example["ids"]):
            raise ValueError("it has no token")
        if "targets" in example and (np.asarray(example["targets"]) == IGNORED).all():
            raise ValueError("nothing is to be predicted in it")

    def _length(self, example: Example) -> int:
        return len(example["ids"])


class MaskedLM(Examples):
    """Which tokens were hidden: ``model(ids, attention_mask=…) -> logits`` (B, T, V).

    What is hidden is drawn anew each time a text is read (:func:`scratchlm.data.mask_tokens`); in
    evaluation it is always the same.

    Args:
        train, validation: texts, pairs of them, or 1-D arrays of ids.
        tokenizer: with ``inputs`` as BERT's, or any other; None if all examples are ids.
        mask_id, special_ids, pad_id: by default the tokenizer's ``[MASK]``, all its special tokens,
            and its ``[PAD]``.
        vocab_size: by default the tokenizer's.
        max_length: longer texts are cut.
        options: ``share``, ``mask_share`` and ``random_share`` of
            :func:`scratchlm.data.mask_tokens`; others as :class:`Examples`.

    Source: Devlin et al. 2019, §3.1.
    """

    def __init__(
        self,
        train: Sequence[Any],
        validation: Sequence[Any] = (),
        tokenizer: Tokenize = None,
        *,
        mask_id: int | None = None,
        special_ids: Sequence[int] | None = None,
        pad_id: int | None = None,
        vocab_size: int | None = None,
        max_length: int | None = None,
        share: float = 0.15,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        **options: Any,
    ) -> None:
        mask_id = _special(tokenizer, "[MASK]") if mask_id is None else mask_id
        pad_id = _special(tokenizer, "[PAD]") if pad_id is None else pad_id
        if mask_id is None or pad_id is None:
            raise ValueError(
                "MaskedLM: the tokenizer has no [MASK] or no [PAD]; say mask_id= and pad_id=, ids "
                "that stand for nothing else"
            )
        self.mask_id, self.pad_id = mask_id, pad_id
        if special_ids is None:
            special_ids = list(getattr(getattr(tokenizer, "added", None), "ids", {}).values())
        self.special_ids = sorted({*special_ids, self.mask_id, self.pad_id})
        if vocab_size is None:
            if tokenizer is None:
                raise ValueError("MaskedLM: say vocab_size=, there is no tokenizer to ask")
            vocab_size = max(len(tokenizer), 1 + self.special_ids[-1])
        self.vocab_size = vocab_size
        self.shares = {"share": share, "mask_share": mask_share, "random_share": random_share}
        self.max_length = max_length
        super().__init__(train, validation, tokenizer, **options)

    def encode(self, example: Any) -> Example:
        return _inputs(self.tokenizer, example, self.max_length)

    def collate(self, examples: list[Example], rng: np.random.Generator) -> Batch:
        batch = _padded(examples, self.pad_id)
        batch["ids"], batch["targets"] = mask_tokens(
            batch["ids"],
            rng,
            mask_id=self.mask_id,
            special_ids=self.special_ids,
            vocab_size=self.vocab_size,
            **self.shares,
        )
        return batch

    def loss(self, model: Module, batch: Mapping[str, Any]) -> Any:
        if "at" not in _parameters(type(model).forward):
            return super().loss(model, batch)
        asked = batch["targets"] != IGNORED
        logits = read(model, batch, at=asked)  # [N, V], the others would not count
        targets = batch["targets"][asked]
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)

    def logits(self, model: Module, batch: Mapping[str, Any]) -> Any:
        return read(model, batch)  # [B, T] -> [B, T, V]

    def check(self, model: Module) -> None:
        super().check(model)
        self._check_sizes(model, 0, self.vocab_size)

    def _check_example(self, example: Example) -> None:
        super()._check_example(example)
        if np.isin(example["ids"], self.special_ids).all():
            raise ValueError("it has special tokens only, so nothing can be hidden")


class Classification(Examples):
    """Which class a text, or a pair of texts, is of: ``model(ids, attention_mask=…)`` → (B, K).

    Measured by accuracy, and by ``f1``, the mean over the classes.

    Args:
        train, validation: ``(text, label)``, where a text may be a pair of texts, or a 1-D array of
            ids. Labels may be anything that JSON knows.
        tokenizer: None if all texts are ids.
        labels: all of them, in the order of the model's classes; by default those of the training
            part, sorted.
        pad_id: by default the tokenizer's ``[PAD]``, or 0; the mask hides it.
        max_length: longer texts are cut.
        options: as :class:`Examples`.

    Source: Devlin et al. 2019, §4.1.
    """

    def __init__(
        self,
        train: Sequence[Any],
        validation: Sequence[Any] = (),
        tokenizer: Tokenize = None,
        *,
        labels: Sequence[Any] | None = None,
        pad_id: int | None = None,
        max_length: int | None = None,
        **options: Any,
    ) -> None:
        train, validation = list(train), list(validation)
        self.labels = sorted({y for _, y in train}) if labels is None else list(labels)
        self.max_length = max_length
        self.pad_id = pad_id if pad_id is not None else _special(tokenizer, "[PAD]") or 0
        super().__init__(train, validation, tokenizer, **options)

    def encode(self, example: Any) -> Example:
        text, label = example
        return {
            **_inputs(self.tokenizer, text, self.max_length),
            "targets": np.array(_number(self.labels, label)),
        }

    def collate(self, examples: list[Example], rng: np.random.Generator) -> Batch:
        batch = _padded(examples, self.pad_id)
        batch["targets"] = np.array([example["targets"] for example in examples])
        return batch

    def logits(self, model: Module, batch: Mapping[str, Any]) -> Any:
        return read(model, batch)  # [B, T] -> [B, K]

    def scores(self, truths: list[np.ndarray], guesses: list[np.ndarray]) -> dict[str, float]:
        return {
            "accuracy": accuracy(truths, guesses),
            "f1": float(f1(truths, guesses, average="macro")),
        }

    def check(self, model: Module) -> None:
        super().check(model)
        _check_labels(self, model, self.labels)

    def about(self) -> dict[str, Any]:
        return {**super().about(), "labels": self.labels}


class Tagging(Examples):
    """The label of each word: ``model(ids, attention_mask=…) -> logits`` (B, T, K).

    A word that the tokenizer cuts into pieces is labelled at its first. Measured by accuracy, and
    by the F1 of whole entities (``entity_f1``) if the labels are ``O``, ``B-…``, ``I-…``.

    Args:
        train, validation: ``(words, tags)``, lists of equal length; or an array of ids, and tags.
        tokenizer: cuts each word; None if all examples are ids.
        labels: all of them, in the order of the model's classes; by default those of the training
            part, sorted.
        pad_id: by default the tokenizer's ``[PAD]``, or 0; the mask hides it.
        max_length: longer sentences are cut.
        options: as :class:`Examples`.

    Source: Devlin et al. 2019, §5.3.
    """

    def __init__(
        self,
        train: Sequence[Any],
        validation: Sequence[Any] = (),
        tokenizer: Tokenize = None,
        *,
        labels: Sequence[str] | None = None,
        pad_id: int | None = None,
        max_length: int | None = None,
        **options: Any,
    ) -> None:
        train, validation = list(train), list(validation)
        if labels is None:
            labels = sorted({tag for _, tags in train for tag in tags})
        self.labels = list(labels)
        self.max_length = max_length
        self.pad_id = pad_id if pad_id is not None else _special(tokenizer, "[PAD]") or 0
        super().__init__(train, validation, tokenizer, **options)

    def encode(self, example: Any) -> Example:
        words, tags = example
        if len(words) != len(tags):
            raise ValueError(f"it has {len(words)} words and {len(tags)} tags; give one for each")
        numbers = [_number(self.labels, tag) for tag in tags]
        if isinstance(words, np.ndarray):
            ids, targets = list(words), numbers
        else:
            ids, targets = [], []
            for word, number in zip(words, numbers, strict=True):
                pieces = self._pieces(word)
                ids += pieces
                targets += [number, *[IGNORED] * (len(pieces) - 1)]
        first, last = (_special(self.tokenizer, name) for name in ("[CLS]", "[SEP]"))
        if first is None or last is None or isinstance(words, np.ndarray):
            ids, targets = ids[: self.max_length], targets[: self.max_length]
        else:
            room = None if self.max_length is None else max(0, self.max_length - 2)
            ids, targets = [first, *ids[:room], last], [IGNORED, *targets[:room], IGNORED]
        return {"ids": np.array(ids, np.int64), "targets": np.array(targets, np.int64)}

    def _pieces(self, word: str) -> list[int]:
        if self.tokenizer is None:
            raise ValueError("there is no tokenizer to make ids of words")
        pieces = self.tokenizer.encode(word).tolist()
        unknown = getattr(self.tokenizer, "unknown", None)
        if not pieces and unknown is not None:  # a word of control characters
            pieces = self.tokenizer.encode(unknown).tolist()
        if not pieces:
            raise ValueError(f"the tokenizer makes nothing of the word {word!r}")
        return pieces

    def collate(self, examples: list[Example], rng: np.random.Generator) -> Batch:
        batch = _padded(examples, self.pad_id)
        batch["targets"] = pad([example["targets"] for example in examples], IGNORED)
        return batch

    def logits(self, model: Module, batch: Mapping[str, Any]) -> Any:
        return read(model, batch)  # [B, T] -> [B, T, K]

    def scores(self, truths: list[np.ndarray], guesses: list[np.ndarray]) -> dict[str, float]:
        found = super().scores(truths, guesses)
        if all(label == "O" or label[:2] in ("B-", "I-", "E-", "S-") for label in self.labels):
            asked = [truth != IGNORED for truth in truths]
            named = [
                [
                    [self.labels[i] for i in row[where]]
                    for row, where in zip(rows, asked, strict=True)
                ]
                for rows in (truths, guesses)
            ]
            found["entity_f1"] = entity_f1(*named)
        return found

    def check(self, model: Module) -> None:
        super().check(model)
        _check_labels(self, model, self.labels)

    def about(self) -> dict[str, Any]:
        return {**super().about(), "labels": self.labels}


class Pairs(Examples):
    """A target sequence for a source: ``model(source, target) -> logits`` (B, T, V).

    Teacher forcing: the decoder reads a start token and the right target, and is asked at each
    place for what comes next, an end token last. For
    :class:`~scratchlm.models.EncoderDecoder`, whose ``pad_id`` must be this one, and
    :class:`~scratchlm.models.T5`.

    Args:
        train, validation: ``(source, target)``, texts or 1-D arrays of ids, without start and end.
        tokenizer: of the source, and of the target if that has none of its own.
        target_tokenizer: of the target.
        pad_id, start_id, end_id: of the target; a T5 has 0, 0 and 1. Padding fills up sources too,
            so no text may hold its id.
        source_end_id: ends each source, as T5's do; None: nothing does.
        max_length: longer sequences are cut, on either side.
        options: as :class:`Examples`.

    Source: Sutskever et al. 2014, §2; Williams & Zipser 1989 (teacher forcing).
    """

    def __init__(
        self,
        train: Sequence[Any],
        validation: Sequence[Any] = (),
        tokenizer: Tokenize = None,
        target_tokenizer: Tokenize = None,
        *,
        pad_id: int,
        start_id: int,
        end_id: int,
        source_end_id: int | None = None,
        max_length: int | None = None,
        **options: Any,
    ) -> None:
        self.target_tokenizer = tokenizer if target_tokenizer is None else target_tokenizer
        self.pad_id, self.start_id, self.end_id = pad_id, start_id, end_id
        self.source_end_id = source_end_id
        self.max_length = max_length
        self.tokenizer = tokenizer  # encode needs it
        super().__init__(train, validation, tokenizer, **options)

    def encode(self, example: Any) -> Example:
        source, target = example
        ids = self._ids(self.tokenizer, source, self.source_end_id)
        return {"ids": ids, "targets": self._ids(self.target_tokenizer, target, self.end_id)}

    def _ids(self, tokenizer: Tokenize, text: Any, end: int | None) -> np.ndarray:
        ids = _encoded(tokenizer, text)
        if (ids == self.pad_id).any():
            raise ValueError(
                f"a text holds the id {self.pad_id}, which pad_id says is padding; choose another"
            )
        room = None if self.max_length is None else max(0, self.max_length - (end is not None))
        return np.append(ids[:room], [] if end is None else [end]).astype(np.int64)

    def collate(self, examples: list[Example], rng: np.random.Generator) -> Batch:
        batch = _padded(examples, self.pad_id)
        targets = [example["targets"] for example in examples]
        shifted = [np.concatenate([[self.start_id], row[:-1]]) for row in targets]
        batch["decoder_ids"] = pad(shifted, self.pad_id)
        batch["targets"] = pad(targets, IGNORED)
        return batch

    def logits(self, model: Module, batch: Mapping[str, Any]) -> Any:
        return read(model, batch, batch["decoder_ids"])  # [B, S], [B, T] -> [B, T, V]

    def tokens(self, batch: Batch) -> int:
        return super().tokens(batch) + self.count(batch)

    def check(self, model: Module) -> None:
        sizes = getattr(model, "config", None)
        theirs = getattr(sizes, "pad_id", self.pad_id)
        if theirs != self.pad_id:
            raise ValueError(
                f"Pairs: pad_id={self.pad_id}, but the model's is {theirs}: it would read padding"
            )
        start = getattr(sizes, "start_id", self.start_id)
        if start != self.start_id:
            raise ValueError(f"Pairs: start_id={self.start_id}, but the model's is {start}")
        examples = [*self.train, *self.validation]
        longest = max(max(len(e["ids"]), len(e["targets"])) for e in examples)
        special = max(self.pad_id, self.start_id, self.end_id)
        for side, name in (("ids", "source_vocab_size"), ("targets", "target_vocab_size")):
            size = getattr(sizes, name, getattr(sizes, "vocab_size", None))
            least = special if side == "targets" else self.pad_id
            needed = 1 + max(least, *(int(e[side].max()) for e in examples))
            if size is not None and needed > size:
                raise ValueError(f"Pairs: there are ids up to {needed - 1}, but {name}={size}")
        self._check_sizes(model, longest, 0)

    def about(self) -> dict[str, Any]:
        own = self.target_tokenizer is not self.tokenizer
        about = super().about()
        if own:
            about["target_vocabulary"] = self.target_tokenizer.as_dict()
        return {**about, "special_ids": [self.pad_id, self.start_id, self.end_id]}

    def _length(self, example: Example) -> int:
        return len(example["ids"]) + len(example["targets"])


class Instructions(Examples):
    """The answer after a prompt, by a language model: ``model(ids) -> logits`` (B, T, V).

    Prompt, answer and an end token are one sequence; the loss asks for answer and end alone, since
    nobody wants a model that writes prompts. Padding stands at the right, where no token sees it.

    Args:
        train, validation: ``(prompt, answer)``, texts or 1-D arrays of ids.
        tokenizer: None if all examples are ids.
        end_id: ends the answer; by default the tokenizer's ``eos_id``, if it has one.
        max_length: of both together; the prompt loses its beginning, then the answer its end.
        options: as :class:`Examples`.

    Source: Ouyang et al. 2022, §3.5.
    """

    def __init__(
        self,
        train: Sequence[Any],
        validation: Sequence[Any] = (),
        tokenizer: Tokenize = None,
        *,
        end_id: int | None = None,
        max_length: int | None = None,
        **options: Any,
    ) -> None:
        self.end_id = getattr(tokenizer, "eos_id", None) if end_id is None else end_id
        self.max_length = max_length
        self.tokenizer = tokenizer
        super().__init__(train, validation, tokenizer, **options)

    def encode(self, example: Any) -> Example:
        prompt, answer = (_encoded(self.tokenizer, part) for part in example)
        if not len(prompt):
            raise ValueError("the prompt has no token, so nothing is before the answer's first")
        if self.end_id is not None:
            answer = np.append(answer, self.end_id)
        if self.max_length is not None:
            # the last token is only asked for, not read
            answer = answer[: self.max_length]
            prompt = prompt[-max(1, self.max_length + 1 - len(answer)) :]
        whole = np.concatenate([prompt, answer]).astype(np.int64)
        targets = whole[1:].copy()
        targets[: len(prompt) - 1] = IGNORED
        return {"ids": whole[:-1], "targets": targets}

    def collate(self, examples: list[Example], rng: np.random.Generator) -> Batch:
        batch = _padded(examples, 0)
        batch["targets"] = pad([example["targets"] for example in examples], IGNORED)
        return batch

    def logits(self, model: Module, batch: Mapping[str, Any]) -> Any:
        return model(batch["ids"])  # [B, T] -> [B, T, V]


def read(model: Module, batch: Mapping[str, Any], *further: Any, **chosen: Any) -> Any:
    """``model(ids, *further)``, with the mask and the types of the tokens if it takes them."""
    takes = _parameters(type(model).forward)
    options = {
        name: batch[key]
        for name, key in (("attention_mask", "mask"), ("token_types", "types"))
        if key in batch and name in takes
    }
    return model(batch["ids"], *further, **options, **chosen)


def _parameters(function: Callable[..., Any]) -> Mapping[str, Any]:
    return inspect.signature(function).parameters


def _inputs(tokenizer: Tokenize, text: Any, max_length: int | None) -> Example:
    """``ids`` and, of a pair of texts, ``types``."""
    if isinstance(text, tuple):
        if len(text) != 2 or not hasattr(tokenizer, "inputs"):
            raise ValueError(
                "a pair of texts needs a tokenizer that puts [SEP] between them (WordPiece)"
            )
        ids, types = tokenizer.inputs(*text, max_length=max_length)
        return {"ids": ids, "types": types}
    if isinstance(text, str) and hasattr(tokenizer, "inputs"):
        return {"ids": tokenizer.inputs(text, max_length=max_length)[0]}
    return {"ids": _encoded(tokenizer, text)[:max_length]}


def _encoded(tokenizer: Tokenize, text: Any) -> np.ndarray:
    if isinstance(text, str):
        if tokenizer is None:
            raise ValueError("it is a text, and there is no tokenizer to make ids of it")
        return tokenizer.encode(text)
    ids = np.asarray(text)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise TypeError(
            f"it is neither a text nor a 1-D array of ids, but {type(text).__name__} "
            f"({ids.dtype}, shape {ids.shape})"
        )
    return ids.astype(np.int64)


def _padded(examples: list[Example], pad_id: int) -> Batch:
    """``ids`` and ``mask`` (True: a token), and ``types`` if any example has them."""
    rows = [example["ids"] for example in examples]
    lengths = np.array([len(row) for row in rows])
    batch = {"ids": pad(rows, pad_id)}
    batch["mask"] = np.arange(batch["ids"].shape[1]) < lengths[:, None]
    if any("types" in example for example in examples):
        empty = [example.get("types", np.zeros(len(example["ids"]), int)) for example in examples]
        batch["types"] = pad(empty, 0)
    return batch


def _special(tokenizer: Tokenize, token: str) -> int | None:
    return getattr(tokenizer, "vocabulary", {}).get(token)


def _number(labels: list[Any], label: Any) -> int:
    try:
        return labels.index(label)
    except ValueError:
        raise ValueError(
            f"the label {label!r} is none of the {len(labels)}: {labels!s:.80}"
        ) from None


def _check_labels(task: Task, model: Module, labels: list[Any]) -> None:
    classes = getattr(getattr(model, "config", None), "num_labels", len(labels))
    if classes != len(labels):
        raise ValueError(
            f"{type(task).__name__}: there are {len(labels)} labels ({labels!s:.60}), the model "
            f"has num_labels={classes}"
        )
