"""Reads a model's tool calls from its text, as the text arrives.

What is sent depends on the text alone, not on its pieces. A call whose head (``{"name": "f", "arguments":``)
names no known function stays text. Arguments are sent as they come, as OpenAI does: where the engine does
not enforce the schema they are what the model wrote, valid or not.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from gateway.text.tool_syntax import ToolSyntax

_STRING = r'"(?:[^"\\]|\\.)*"'
# A function's name has 64 characters at most, and two members' names stand around it.
_LONGEST_HEAD = 256
_State = Literal["start", "bare", "text", "head", "arguments", "tail"]


@dataclass(frozen=True, slots=True)
class Content:
    """Text outside of calls."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """The begin of the call ``index``, counted from 0."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The next piece of a call's arguments: JSON text."""

    index: int
    text: str


Part = Content | CallStart | CallArguments


class ToolCallReader:
    """Reads one answer.

    Args:
        syntax: how the model writes calls.
        names: the functions that it may call.
        begun: whether the prompt ends with the begin of a call.
        single: whether all calls but the first are dropped.
        bare: whether a call without tags counts where an answer begins with one, as Qwen2.5-Coder writes it.
    """

    def __init__(
        self,
        syntax: ToolSyntax,
        names: Collection[str],
        *,
        begun: bool = False,
        single: bool = False,
        bare: bool = False,
    ) -> None:
        self._syntax = syntax
        self._names = frozenset(names)
        self._single = single
        self._head = re.compile(
            rf'\s*\{{\s*"{re.escape(syntax.name)}"\s*:\s*({_STRING})\s*,'
            rf'\s*"{re.escape(syntax.arguments)}"\s*:\s*(?=\{{)'
        )
        self._between: _State = "start" if bare else "text"
        self._state: _State = "head" if begun else self._between
        self._opened = "" if begun else syntax.opening
        self._held = ""
        self._parts: list[Part] = []
        self._depth, self._in_string, self._escaped = 0, False, False
        self._after_call = False
        self.calls = 0

    def push(self, text: str) -> list[Part]:
        """Add the next piece of text and return what is certain now."""
        self._held += text
        while self._held and getattr(self, f"_read_{self._state}")():
            pass
        return self._sent()

    def end(self) -> list[Part]:
        """Return what was held back, after the end of the text."""
        if self._state in {"head", "bare"}:
            self._close_head(self._held, "")
        elif self._state in {"start", "text"} and not (self._after_call and self._held.isspace()):
            self._add_text(self._held)
        self._held = ""
        return self._sent()

    def _sent(self) -> list[Part]:
        parts, self._parts = self._parts, []
        return parts

    def _add_text(self, text: str) -> None:
        if text:
            self._after_call = False
        if text and not (self._single and self.calls):
            self._parts.append(Content(text))

    def _read_start(self) -> bool:
        """Choose between text and a call without tags, by the first character that is no space."""
        text = self._held.lstrip()
        if not text:
            return False
        self._state, self._opened = ("bare", "") if text[0] == "{" else ("text", self._syntax.opening)
        return True

    def _read_bare(self) -> bool:
        """Begin a call without tags, or take it for text; return whether that is certain."""
        match = self._head.match(self._held, 0, _LONGEST_HEAD)
        if self._begun_by(match):
            return True
        if match is None and len(self._held) < _LONGEST_HEAD:
            return False
        self._state, self._opened = "text", self._syntax.opening
        return True

    def _begun_by(self, head: re.Match[str] | None) -> bool:
        """Begin the call whose name a head has; return whether it is one."""
        name = _name(head[1]) if head else None
        if head is None or name not in self._names:
            return False
        self._begin(name)
        self._held, self._state = self._held[head.end() :], "arguments"
        return True

    def _read_text(self) -> bool:
        """Pass text on up to the next call; return whether one has begun.

        Space before a tag is held back, because what surrounds calls is no content.
        """
        if self._after_call:
            self._held = self._held.lstrip()
        opening = self._syntax.opening
        before, tag, after = self._held.partition(opening)
        if tag:
            self._add_text(before.rstrip())
            self._state, self._held, self._opened = "head", after, before[len(before.rstrip()) :] + tag
            return True
        lengths = range(min(len(before), len(opening) - 1), 0, -1)
        part = next((n for n in lengths if opening.startswith(before[-n:])), 0)
        ready = before[: len(before) - part].rstrip()
        self._add_text(ready)
        self._held = before[len(ready) :]
        return False

    def _read_head(self) -> bool:
        """Begin the call once its name is known; return whether the state has changed."""
        if self._begun_by(self._head.match(self._held)):
            return True
        closing = self._syntax.closing
        body, tag, rest = self._held.partition(closing)
        if not tag:
            return False
        self._close_head(body, tag)
        self._state, self._held = "text", rest
        return True

    def _close_head(self, body: str, tag: str) -> None:
        """Take a whole call, with its members in any order; anything else is text."""
        try:
            call = json.loads(body)
        except (ValueError, RecursionError):
            call = None
        if isinstance(call, dict):
            name, arguments = call.get(self._syntax.name), call.get(self._syntax.arguments)
            if isinstance(name, str) and name in self._names and isinstance(arguments, dict):
                self._begin(name)
                self._add_arguments(json.dumps(arguments, ensure_ascii=False))
                self._end_call()
                return
        self._add_text(self._opened + body + tag)

    def _begin(self, name: str) -> None:
        if not (self._single and self.calls):
            self._parts.append(CallStart(self.calls, name))
        self._depth, self._in_string, self._escaped = 0, False, False

    def _add_arguments(self, text: str) -> None:
        if text and not (self._single and self.calls):
            self._parts.append(CallArguments(self.calls, text))

    def _read_arguments(self) -> bool:
        """Pass arguments on up to their end; return whether it was reached."""
        for position, character in enumerate(self._held):
            # Outside of a string no JSON has the first character of a tag.
            ended = character == self._syntax.closing[0] and not self._in_string
            if not ended:
                self._scan(character)
            if ended or not self._depth:
                end = position + (not ended)
                self._add_arguments(self._held[:end])
                self._end_call()
                self._held, self._state = self._held[end:], "tail"
                return True
        self._add_arguments(self._held)
        self._held = ""
        return False

    def _end_call(self) -> None:
        self.calls += 1
        self._after_call = True

    def _scan(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = self._in_string
        elif character == '"':
            self._in_string = not self._in_string
        elif not self._in_string:
            self._depth += (character in "{[") - (character in "}]")

    def _read_tail(self) -> bool:
        """Drop what follows the arguments up to the call's end; return whether it was reached."""
        if not self._opened and self._between == "start":
            if rest := self._held.lstrip():
                self._held, self._state = rest.removeprefix("}"), "start"
            return bool(rest)
        _, tag, rest = self._held.partition(self._syntax.closing)
        if tag:
            self._held, self._state = rest, "text"
        return bool(tag)


def _name(text: str) -> str | None:
    try:
        name = json.loads(text)
    except ValueError:
        return None
    return name if isinstance(name, str) else None
