"""Conversations as one text: how a chat model is told who said what.

A model that goes on with texts becomes one that answers by the form of its training texts: marks
around each message, and the role in front. The form is called a chat template. Files of weights
carry theirs as a program in the language Jinja, which is recognized here and not run: a program out
of a file can take any time and any memory, in a sandbox too.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ROLES = ("system", "user", "assistant")
Messages = Iterable[Mapping[str, str]]

# what published files have; of these, only the default system message differs
CHATML = re.compile(
    r"\{% for message in messages %\}"
    r"(?:\{% if loop\.first and messages\[0\]\['role'\] != 'system' %\}"
    r"\{\{ ?'<\|im_start\|>system\n(?P<system>[^'\\]*)<\|im_end\|>\n' ?\}\}\{% endif %\})?"
    r"\{\{ ?'<\|im_start\|>' \+ message\['role'\] \+ '\n' \+ message\['content'\] \+ "
    r"'<\|im_end\|>' \+ '\n' ?\}\}\{% endfor %\}"
    r"\{% if add_generation_prompt %\}\{\{ ?'<\|im_start\|>assistant\n' ?\}\}\{% endif %\}\n?"
)


@dataclass(frozen=True)
class ChatTemplate:
    r"""ChatML, the form of SmolLM2, Qwen and others::

        <|im_start|>system\n{system}<|im_end|>\n
        <|im_start|>user\n{question}<|im_end|>\n
        <|im_start|>assistant\n{answer}<|im_end|>\n

    (broken here after each message; the ``\n`` are the only line breaks). The messages are
    dictionaries with ``role``, one of ``ROLES``, and ``content``.

    Args:
        system: what is said in the name of the system where the conversation does not begin with a
            message of its own; None: nothing.
        start, end: the tokens around a message.

    Source: OpenAI's ChatML (2023); the text equals that of transformers' ``apply_chat_template``.
    """

    system: str | None = None
    start: str = "<|im_start|>"
    end: str = "<|im_end|>"

    @classmethod
    def from_jinja(cls, program: str) -> ChatTemplate:
        r"""The template that a file's program (``tokenizer.chat_template``) writes.

        Raises:
            ValueError: it is none that is known; it is not run to find out.
        """
        known = CHATML.fullmatch(program.replace("\\n", "\n"))
        if known is None:
            raise ValueError(
                f"a chat template that is not known here: {reprlib.repr(program)}; known is "
                "ChatML, as SmolLM2 has it. ChatTemplate() takes that form whatever the file says"
            )
        return cls(known["system"])

    def render(self, messages: Messages, *, add_generation_prompt: bool = False) -> str:
        """The text of a conversation.

        Args:
            messages: the conversation, its oldest message first.
            add_generation_prompt: end with the beginning of an answer, so that the model writes it.

        Raises:
            ValueError, TypeError: a message without role or content, or with another role.
        """
        return "".join(text for text, *_ in self._parts(messages, add_generation_prompt, False))

    def encode(
        self,
        messages: Messages,
        tokenizer: Any,
        *,
        add_generation_prompt: bool = False,
        follows: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """``(ids, said)``, each ``[T]``: the conversation, and which tokens the assistant says.

        The ids are those of ``render``, with one difference: a mark such as ``<|im_end|>`` inside
        a message is ordinary text. Else whoever writes a message could write the next ones too, in
        any role.

        ``said`` (bool) is True for the tokens of the assistant's messages and the marks that end
        them: what a model is trained to write. All others are only read.

        Args:
            messages: the conversation, its oldest message first.
            tokenizer: byte-level, with the tokens ``start`` and ``end``.
            add_generation_prompt: end with the beginning of an answer.
            follows: these messages come after others: put no system message before them.

        Raises:
            ValueError, TypeError: as ``render``, or the tokenizer has no such marks.
        """
        marks = {mark: tokenizer.added.ids.get(mark) for mark in (self.start, self.end)}
        if None in marks.values():
            raise ValueError(
                f"ChatTemplate: the tokenizer has no token {' or '.join(marks)}; this form is for "
                "models that were trained with it"
            )
        ids: list[int] = []
        said: list[bool] = []
        for text, is_mark, header in self._parts(messages, add_generation_prompt, follows):
            if is_mark:
                new = [marks[text]]
            else:
                new = tokenizer.encode(text, special_tokens=False).tolist()
            read = len(new) if header is None else self._length(header, tokenizer)
            ids += new
            said += [position >= read for position in range(len(new))]
        return np.array(ids, dtype=np.int64), np.array(said, dtype=bool)

    def _length(self, header: str, tokenizer: Any) -> int:
        return len(tokenizer.encode(header, special_tokens=False)) if header else 0

    def _parts(
        self, messages: Messages, add_generation_prompt: bool, follows: bool
    ) -> list[tuple[str, bool, str | None]]:
        """Texts in order; which are marks; of what the assistant says, what is only read of it."""
        said = [_checked(message) for message in messages]
        if not said:
            raise ValueError("ChatTemplate: a conversation without messages has no text")
        if self.system is not None and said[0][0] != "system" and not follows:
            said.insert(0, ("system", self.system))
        parts: list[tuple[str, bool, str | None]] = []
        for role, content in said:
            mine = role == "assistant"
            parts += [
                (self.start, True, None),
                (f"{role}\n{content}", False, f"{role}\n" if mine else None),
                (self.end, True, "" if mine else None),
                ("\n", False, None),
            ]
        if add_generation_prompt:
            parts += [(self.start, True, None), ("assistant\n", False, None)]
        return parts


def _checked(message: Any) -> tuple[str, str]:
    if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
        raise TypeError(
            f"ChatTemplate: {reprlib.repr(message)} is no message; it looks like "
            '{"role": "user", "content": "Hello"}'
        )
    if message["role"] not in ROLES:
        raise ValueError(
            f"ChatTemplate: no role {reprlib.repr(message['role'])}; there are {', '.join(ROLES)}"
        )
    if not isinstance(message["content"], str):
        raise TypeError(
            "ChatTemplate: the content of a message is text, not "
            f"{type(message['content']).__name__}"
        )
    return message["role"], message["content"]
