"""Reads tool calls whose arguments are JSON: the syntaxes ``object``, ``list`` and ``named``."""

import json
import re
from collections.abc import Collection

from gateway.text.tool_calls import ToolCallReader
from gateway.text.tool_syntax import ToolSyntax

_STRING = r'"(?:[^"\\]|\\.)*"'
# Other members of a call's object, such as its id.
_OTHERS = rf"(?:{_STRING}\s*:\s*{_STRING}\s*,\s*)*?"
_CALL_ID = r"(?:\[CALL_ID\]\w*)?"
# A function's name has 64 characters at most, and two members' names stand around it.
_LONGEST_HEAD = 256


class JsonCallReader(ToolCallReader):
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
        self._between = "start" if bare or not syntax.opening else "text"
        openings = [syntax.opening] if syntax.opening else []
        super().__init__(openings, "head" if begun else self._between, single=single or syntax.single)
        self._syntax = syntax
        self._names = frozenset(names)
        self._head = self._head_pattern(syntax)
        self._depth, self._in_string, self._escaped = 0, False, False
        self._in_list = False

    @staticmethod
    def _head_pattern(syntax: ToolSyntax) -> re.Pattern[str]:
        if syntax.form == "named":
            return re.compile(rf"\s*([\w.-]{{1,64}}){_CALL_ID}{re.escape(syntax.separator)}\s*(?=\{{)")
        name, arguments = re.escape(syntax.name), re.escape(syntax.arguments)
        return re.compile(
            rf'\s*\{{\s*{_OTHERS}"{name}"\s*:\s*({_STRING})\s*,\s*{_OTHERS}"{arguments}"\s*:\s*(?=\{{)'
        )

    def _finish(self) -> None:
        if self._state in {"head", "bare"}:
            self._close_head(self._held, "")
        elif self._state in {"start", "text"}:
            self._add_rest()

    def _read_start(self) -> bool:
        """Choose between text and a call without tags, by the first character that is no space."""
        text = self._held.lstrip()
        optional = self._syntax.optional
        if not text or (optional.startswith(text) and text != optional):
            return False
        if optional and text.startswith(optional):
            self._held = text[len(optional) :]
            return True
        self._state, self._opened = ("bare", "") if text[0] == "{" else ("text", "")
        return True

    def _read_bare(self) -> bool:
        """Begin a call without tags, or take it for text; return whether that is certain."""
        match = self._head.match(self._held, 0, _LONGEST_HEAD)
        if self._begun_by(match):
            return True
        if match is None and len(self._held) < _LONGEST_HEAD:
            return False
        self._state = "text"
        return True

    def _begun_by(self, head: re.Match[str] | None) -> bool:
        """Begin the call whose name a head has; return whether it is one."""
        name = self._name(head[1]) if head else None
        if head is None or name not in self._names:
            return False
        self._begin(name)
        self._depth, self._in_string, self._escaped = 0, False, False
        self._held, self._state = self._held[head.end() :], "arguments"
        return True

    def _name(self, text: str) -> str | None:
        if self._syntax.form == "named":
            return text
        try:
            name = json.loads(text)
        except ValueError:
            return None
        return name if isinstance(name, str) else None

    def _read_head(self) -> bool:
        """Begin the call once its name is known; return whether the state has changed."""
        if self._syntax.form == "list" and not self._in_list and not self._opens_list():
            return self._state == "text"
        if self._begun_by(self._head.match(self._held)):
            return True
        closing = self._syntax.closing
        body, tag, rest = self._held.partition(closing) if closing else (self._held, "", "")
        if not tag:
            return False
        self._close_head(body, tag)
        self._state, self._held = "text", rest
        return True

    def _opens_list(self) -> bool:
        """Take the bracket of a list; anything else is text."""
        text = self._held.lstrip()
        if not text:
            return False
        if text[0] != "[":
            self._add_text(self._opened)
            self._state = "text"
            return False
        self._opened += self._held[: len(self._held) - len(text) + 1]
        self._held, self._in_list = text[1:], True
        return True

    def _close_head(self, body: str, tag: str) -> None:
        """Take whole calls, with their members in any order; anything else is text."""
        try:
            found = json.loads(f"[{body}" if self._in_list else body)
        except (ValueError, RecursionError):
            found = None
        calls = found if self._in_list else [found]
        if not calls or not all(map(self._is_call, calls)):
            self._add_text(self._opened + body + tag)
            return
        for call in calls:
            self._begin(call[self._syntax.name])
            self._add_arguments(json.dumps(call[self._syntax.arguments], ensure_ascii=False))
            self._end_call()

    def _is_call(self, value: object) -> bool:
        if not isinstance(value, dict):
            return False
        name, arguments = value.get(self._syntax.name), value.get(self._syntax.arguments)
        return isinstance(name, str) and name in self._names and isinstance(arguments, dict)

    def _read_arguments(self) -> bool:
        """Pass arguments on up to their end; return whether it was reached."""
        closing = self._syntax.closing[:1]
        for position, character in enumerate(self._held):
            # Outside of a string no JSON has the first character of a tag.
            ended = character == closing and not self._in_string
            if not ended:
                self._scan(character)
            if ended or not self._depth:
                end = position + (not ended)
                self._add_arguments(self._held[:end])
                self._end_call()
                self._held = self._held[end:]
                self._state = {"list": "rest", "named": "text"}.get(self._syntax.form, "tail")
                return True
        self._add_arguments(self._held)
        self._held = ""
        return False

    def _scan(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = self._in_string
        elif character == '"':
            self._in_string = not self._in_string
        elif not self._in_string:
            self._depth += (character in "{[") - (character in "}]")

    def _read_rest(self) -> bool:
        """Drop the other members of a list's object, up to the next object or the list's end."""
        for position, character in enumerate(self._held):
            self._scan(character)
            if self._in_string or self._depth > -1 or character not in ",]":
                continue
            self._in_list = character == ","
            self._opened, self._state = "", "head" if self._in_list else "text"
            self._held = self._held[position + 1 :]
            return True
        self._held = ""
        return False

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
