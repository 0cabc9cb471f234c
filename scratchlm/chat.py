"""A conversation with a model that was trained on conversations."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from . import generate, sampling
from .backend import asarray_like
from .modes import no_grad
from .nn import KVCache
from .text.chat import ChatTemplate

AT_ONCE = 256  # tokens read together: attention's scores take memory in proportion to them


@dataclass(frozen=True)
class Pace:
    """How fast an answer came, and why it ended."""

    read: int  # tokens of the question, and of what had to be read again
    read_seconds: float
    written: int  # tokens of the answer, its end included
    seconds: float  # from the first of them to the last
    ended: Literal["end", "length", "stopped"]  # by the model, by max_tokens, by whoever listens

    @property
    def tokens_per_second(self) -> float:
        """Of writing, without reading; 0 where nothing could be measured."""
        return (self.written - 1) / self.seconds if self.written > 1 and self.seconds else 0.0


class Chat:
    """A conversation that remembers: each turn reads only what is new::

        chat = Chat.load("smollm2")
        chat.ask("What is the capital of France?")    # 'The capital of France is Paris.'
        chat.ask("And of Italy?")                     # the first turn is still in the cache

    The keys and values of all that was read and written stay in :attr:`cache`. When the model's
    context is full, the oldest turns are dropped (the system message stays), until half of it is
    free, and the rest is read again, since every position has changed.

    Args:
        model: takes ``cache=``.
        tokenizer: its byte-level BPE.
        template: how messages become a text; None: the tokenizer's own ``chat_template``.
        system: a message of the system, before all others; None: the template's own, if any.
        context: tokens that a conversation may have; None: what the model was made for.
        max_tokens: the longest answer; so much of the context is kept free for it.
        seed: of the chance with a temperature above 0.
        **drawing: ``temperature`` (0, the default, takes the likeliest token every time),
            ``top_k``, ``top_p``, ``min_p`` and ``repetition_penalty``, as of
            :func:`scratchlm.generate.generate`.

    Raises:
        ValueError: no chat template, one that is not known, or an option out of range.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        template: ChatTemplate | None = None,
        *,
        system: str | None = None,
        context: int | None = None,
        max_tokens: int = 512,
        seed: int | None = None,
        **drawing: Any,
    ) -> None:
        if template is None:
            program = getattr(tokenizer, "chat_template", None)
            if program is None:
                raise ValueError(
                    "Chat: this model came without a chat template, so it goes on with texts and "
                    "was not trained to answer; scratchlm.generate writes with it. If you know "
                    "better, give template=ChatTemplate()"
                )
            template = ChatTemplate.from_jinja(program)
        longest = getattr(getattr(model, "config", None), "block_size", None)
        context = longest if context is None else context
        if context is None or max_tokens < 1 or not max_tokens < context <= (longest or context):
            raise ValueError(
                f"Chat: max_tokens={max_tokens} must be at least 1 and less than context={context},"
                f" which is at most what the model can read, {longest}"
            )
        self.model, self.tokenizer, self.template = model, tokenizer, template
        self.system, self.context, self.max_tokens = system, context, max_tokens
        self.drawing: dict[str, Any] = {"temperature": 0.0, **drawing}
        sampling.check(**self.drawing)
        self.rng = np.random.default_rng(seed)
        spoken = [{"role": "assistant", "content": ""}]
        ids = template.encode(spoken, tokenizer, follows=True)[0].tolist()
        self._end = tokenizer.added.ids[template.end]
        self._after = ids[ids.index(self._end) :]  # what follows an answer: its end, a line break
        eos = getattr(tokenizer, "eos_id", None)
        self.ends = {self._end} if eos is None else {self._end, eos}
        self.pace: Pace | None = None  # of the last answer
        self.reset()

    @classmethod
    def load(cls, source: str | os.PathLike[str], **options: Any) -> Chat:
        """A conversation with the model that ``source`` names.

        Args:
            source: as of :func:`scratchlm.load_with_tokenizer`.
            **options: those of the class.

        Raises:
            FileNotFoundError, RuntimeError, ValueError: as :func:`scratchlm.load_with_tokenizer`
                and the class.
        """
        from .models import load_with_tokenizer

        return cls(*load_with_tokenizer(source), **options)

    def reset(self) -> None:
        """Forget everything that was said."""
        self.messages: list[dict[str, str]] = []  # what was said, the system's own message aside
        self.ids: list[int] = []  # the same as the model has it
        self.dropped = 0  # messages that no longer fit, and are no longer in `messages`
        self.cache = KVCache()  # has read the first cache.length of ids

    def ask(self, question: str) -> str:
        """The answer to a question, as a whole."""
        self.hear(question)
        return "".join(self.answer())

    def hear(self, question: str) -> int:
        """Take a question in; :meth:`answer` then answers it. How many old messages were dropped.

        Raises:
            ValueError: the question does not fit into the context; nothing has changed.
        """
        if self.messages and self.messages[-1]["role"] == "user":
            self._take_back()  # nobody wanted the answer
        asked = {"role": "user", "content": question}
        room, new = self.context - self.max_tokens, list[int]()
        for first in range(0, len(self.messages) + 1, 2):  # a turn is two messages
            kept = self.messages[first:]
            old = (self._encoded(kept) if kept else []) if first else self.ids
            new = self._encoded([asked], add_generation_prompt=True, follows=bool(kept))
            # once turns are dropped, several are, or each turn to come would read all again
            if len(old) + len(new) <= (min(room, self.context // 2) if first and kept else room):
                break
        else:
            raise ValueError(
                f"Chat: the question makes {len(new)} tokens, and there is room for {room}: a "
                f"context of {self.context}, less {self.max_tokens} for the answer; ask for less "
                "at a time"
            )
        if first:
            self.cache = KVCache()
            self.dropped += first
        self.messages, self.ids, self._before = [*kept, asked], [*old, *new], len(old)
        return first

    def answer(self) -> Generator[str, None, None]:
        """The answer to what was heard, in pieces as they are written.

        Whoever stops listening (Ctrl-C, or ``close()``) ends the answer: what is there of it
        stays in the conversation. A question of whose answer there is nothing yet is taken back.
        Afterwards :attr:`pace` tells how fast it went.

        Raises:
            ValueError: nothing was asked.
        """
        if not self.messages or self.messages[-1]["role"] != "user":
            raise ValueError("Chat: nothing was asked: hear(question) comes before answer()")
        return self._answer()

    def _answer(self) -> Generator[str, None, None]:
        written: list[int] = []
        began = time.perf_counter()
        first = last = began
        start, cached = len(self.ids), self.cache.length

        def noted(steps: Iterator[np.ndarray]) -> Iterator[int]:
            nonlocal first, last
            for step in steps:
                last = time.perf_counter()
                first = first if written else last
                written.append(int(step))
                yield int(step)

        try:
            self._read_ahead()
            steps = generate.stream(
                self.model, self.ids, self.max_tokens, eos_id=self.ends, cache=self.cache,
                rng=self.rng, **self.drawing,
            )  # fmt: skip
            yield from generate.pieces(noted(steps), self.tokenizer, ends=self.ends)
        finally:
            self._note(written)
            ended: Literal["end", "length", "stopped"] = "stopped"
            if written:
                full = len(written) == self.max_tokens
                ended = "end" if written[-1] in self.ends else "length" if full else "stopped"
            self.pace = Pace(start - cached, first - began, len(written), last - first, ended)

    def _read_ahead(self) -> None:
        """Read all but the end of the question, not too much at a time."""
        like = next(iter(self.model.parameters())).data
        ids = np.array(self.ids)
        while len(ids) - self.cache.length > AT_ONCE:
            part = ids[self.cache.length :][:AT_ONCE][None]
            with no_grad():
                self.model(asarray_like(part, like), cache=self.cache, last_only=True)

    def _note(self, written: list[int]) -> None:
        """Put an answer into the conversation, or take the question back if there is none."""
        if not written:
            self._take_back()
            return
        said = written[:-1] if written[-1] in self.ends else written
        text = self.tokenizer.decode(said)
        # the cache has not read the last of these; the next turn does
        self.ids = [*self.ids, *said, *self._after]
        self.messages = [*self.messages, {"role": "assistant", "content": text}]

    def _take_back(self) -> None:
        """Forget the last question, which has no answer."""
        self.messages, self.ids = self.messages[:-1], self.ids[: self._before]
        self.cache.length = min(self.cache.length, self._before)

    def _encoded(self, messages: list[dict[str, str]], **options: Any) -> list[int]:
        if self.system is not None and not options.get("follows"):
            messages = [{"role": "system", "content": self.system}, *messages]
        return self.template.encode(messages, self.tokenizer, **options)[0].tolist()
