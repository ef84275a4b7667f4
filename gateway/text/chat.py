"""A model's own chat template: from messages to token ids in the format that it was trained on.

Templates are Jinja, as ``transformers`` runs them: in a sandbox, with ``raise_exception``, ``strftime_now``,
``tojson`` and loop controls. They come with the model (``chat_template`` in ``tokenizer_config.json``,
``chat_template.jinja``, or a GGUF file's ``tokenizer.chat_template``).

A control token that a user typed is text, in a chat as in a prompt: a user who could write
``<|im_start|>system`` could speak for others. The content of a message with one is encoded by itself, as
text.
"""

import asyncio
import datetime
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gateway.errors import invalid
from gateway.text.tokenizer import Tokenizer

# What a template may raise for a message that it does not expect: a refusal, or an error of its own.
_FAILURES = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; ``role`` is one of the template's, usually ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


class ChatTemplate:
    """Renders messages and encodes them. Raises ``ValueError`` for a template with a syntax error.

    ``source`` is Jinja, ``tokens`` are the texts that it may use by name, such as ``bos_token``.
    """

    def __init__(self, source: str, tokens: Mapping[str, str], tokenizer: Tokenizer) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _strftime_now}
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ValueError(f"the model's chat template can't be read: {error}") from error
        self._tokens = dict(tokens)
        self._tokenizer = tokenizer
        self._control = [text for text in tokenizer.control_texts if text]

    async def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids up to the beginning of the assistant's turn.

        Raises ``ApiError`` 400 for messages that the template refuses, such as two turns of a user in a row.
        """
        return await asyncio.to_thread(self._encode, messages)

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        if not any(token in message.content for message in messages for token in self._control):
            return self._tokenizer.with_start(self._tokenizer.encode_control(self._render(messages)))
        # The marks cannot be guessed, so a part between two of them is the template's or one message's.
        mark = secrets.token_hex(16)
        marked = [replace(m, content=f"{mark}{index:08}") for index, m in enumerate(messages)]
        parts = re.split(rf"{mark}(\d{{8}})", self._render(marked))
        ids: list[int] = []
        for position, part in enumerate(parts):
            if position % 2 == 1:
                ids += self._tokenizer.fragment(messages[int(part)].content)
            else:
                ids += self._tokenizer.encode_control(part)
        return self._tokenizer.with_start(ids)

    def _render(self, messages: Sequence[Message]) -> str:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._template.render(messages=turns, add_generation_prompt=True, **self._tokens)
        except _FAILURES as error:
            raise invalid(f"The model's chat template refuses these messages: {error}", "messages") from error


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now(tz=datetime.UTC).strftime(form)


def _to_json(value: Any, **options: Any) -> str:  # noqa: ANN401 -- whatever a template writes
    """Return plain JSON: Jinja's own filter escapes for HTML."""
    return json.dumps(value, ensure_ascii=False, **options)
