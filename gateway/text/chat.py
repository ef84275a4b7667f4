"""A model's own chat template: from messages to token ids in the format that it was trained on.

Templates are Jinja, as ``transformers`` runs them: in a sandbox, with ``raise_exception``, ``strftime_now``,
``tojson`` and loop controls. They come with the model (``chat_template`` in ``tokenizer_config.json``,
``chat_template.jinja``, or a GGUF file's ``tokenizer.chat_template``).

A control token that a user typed is text, in a chat as in a prompt: a user who could write
``<|im_start|>system`` could speak for others. The content of a message with one is encoded by itself, as
text; so is a control token in a role, a tool or a call.
"""

import datetime
import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gateway.errors import invalid
from gateway.text import tool_syntax
from gateway.text.tokenizer import Tokenizer, bounded, in_thread
from gateway.text.tool_syntax import FAILURES

# What a template that limits ids accepts.
_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; ``role`` is one of the template's, usually ``system``, ``user``, ``assistant`` or ``tool``.

    ``members`` are others that templates know, such as ``tool_calls`` and ``tool_call_id``.
    """

    role: str
    content: str
    members: Mapping[str, Any] = field(default_factory=dict)


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

    @cached_property
    def tool_syntax(self) -> tool_syntax.ToolSyntax | None:
        """How the model writes tool calls; ``None`` where it has none, or in no way that can be read here."""
        try:
            syntax = tool_syntax.find(self._rendered)
        except FAILURES:
            return None
        if syntax is None:
            return None
        tokens: dict[str, int] = {}
        for tag in [*syntax.tags, *filter(None, [syntax.optional])]:
            ids = self._tokenizer.encode_control(tag)
            if len(ids) == 1 and not self._tokenizer.bytes_of(ids[0]):
                tokens[tag] = ids[0]
            elif self._tokenizer.decode(ids) != tag:
                return None
        return replace(syntax, tokens=tokens)

    async def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        begin: str = "",
        *,
        most: int,
    ) -> list[int] | None:
        """Return the ids up to the beginning of the assistant's turn, and ``begin`` as its first text.

        Returns ``None`` for more than ``most`` ids, of which no more are made than are needed to know that.
        Raises ``ApiError`` 400 for messages that the template refuses, such as two turns of a user in a row.
        """
        return await in_thread(self._encode, messages, tools, begin, most)

    def _encode(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], begin: str, most: int
    ) -> list[int] | None:
        guard = _Guard(self._control)
        if self.tool_syntax and self.tool_syntax.short_ids:
            messages = [replace(message, members=_shortened(message.members)) for message in messages]
        turns = [
            guard.inside(message.members)
            | {"role": guard.inside(message.role), "content": guard.whole(message.content)}
            for message in messages
        ]
        guarded = [guard.inside(tool) for tool in tools]
        if not guard.needed:
            turns = [{**m.members, "role": m.role, "content": m.content} for m in messages]
            guarded = list(tools)
        try:
            text = self._rendered(turns, guarded, prompted=True) + begin
        except FAILURES as error:
            raise invalid(f"The model's chat template refuses these messages: {error}", "messages") from error
        ids: list[int] = []
        for part, is_text in guard.parts(text):
            encode = self._tokenizer.fragment if is_text else self._tokenizer.encode_control
            ids += bounded(encode, part, most)[0]
            if len(ids) > most:
                return None
        return self._tokenizer.with_start(ids)

    def _rendered(self, turns: Sequence[Mapping[str, Any]], tools: Sequence[Any], *, prompted: bool) -> str:
        return self._template.render(
            messages=turns, tools=list(tools) or None, add_generation_prompt=prompted, **self._tokens
        )


class _Guard:
    """Puts marks in the place of what a user wrote, so that it is encoded as text.

    The marks cannot be guessed, so a part between two of them is the template's. ``needed``: some text has a
    control token in it.
    """

    def __init__(self, control: Sequence[str]) -> None:
        longest_first = sorted(control, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._mark = secrets.token_hex(16)
        self._texts: list[str] = []
        self.needed = False

    def whole(self, text: str) -> str:
        """Return a mark for a text; an empty one stays, because templates ask for that."""
        self.needed = self.needed or self._control.search(text) is not None
        return self._marked(text) if text else text

    def inside(self, value: Any) -> Any:  # noqa: ANN401 -- any JSON
        """Return a JSON value with a mark for each control token in its texts."""
        if isinstance(value, str):
            self.needed = self.needed or self._control.search(value) is not None
            return self._control.sub(lambda match: self._marked(match[0]), value)
        if isinstance(value, Mapping):
            return {self.inside(key): self.inside(member) for key, member in value.items()}
        return [self.inside(each) for each in value] if isinstance(value, (list, tuple)) else value

    def parts(self, text: str) -> list[tuple[str, bool]]:
        """Return a rendered text in parts, each with whether it is a user's."""
        pieces = re.split(rf"{self._mark}(\d{{8}})", text)
        return [
            (self._texts[int(piece)], True) if position % 2 else (piece, False)
            for position, piece in enumerate(pieces)
        ]

    def _marked(self, text: str) -> str:
        self._texts.append(text)
        return f"{self._mark}{len(self._texts) - 1:08}"


def _shortened(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return a turn's members with ids of nine letters and digits, the same for the same id."""
    short = dict(members)
    if "tool_call_id" in short:
        short["tool_call_id"] = _short_id(short["tool_call_id"])
    if "tool_calls" in short:
        short["tool_calls"] = [call | {"id": _short_id(call["id"])} for call in short["tool_calls"]]
    return short


def _short_id(given: str) -> str:
    if _SHORT_ID.fullmatch(given):
        return given
    return hashlib.blake2b(given.encode(), digest_size=8).hexdigest()[:9]


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now(tz=datetime.UTC).strftime(form)


def _to_json(value: Any, **options: Any) -> str:  # noqa: ANN401 -- whatever a template writes
    """Return plain JSON: Jinja's own filter escapes for HTML."""
    return json.dumps(value, ensure_ascii=False, **options)
