"""Reads tool calls with an element for each parameter: the syntax ``parameters``.

The arguments become JSON as they come: strings piece by piece, and values of other types once they are whole.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from gateway.text import parameter_types
from gateway.text.tool_calls import ToolCallReader, held_back
from gateway.text.tool_syntax import ToolSyntax

_FUNCTION, _PARAMETER = "<function=", "<parameter="
_END_FUNCTION, _END_PARAMETER = "</function>", "</parameter>"
_LONGEST_NAME = 256
_NAME = re.compile(rf"([^<>\n]{{1,{_LONGEST_NAME}}})>")


class ParameterCallReader(ToolCallReader):
    """Reads one answer. A call may lack its outer tag, as Qwen3-Coder often leaves it out.

    Args:
        syntax: how the model writes calls.
        functions: the schema of each function's arguments.
        begun: whether the prompt ends with the outer tag.
        single: whether all calls but the first are dropped.
    """

    def __init__(
        self,
        syntax: ToolSyntax,
        functions: Mapping[str, Mapping[str, Any]],
        *,
        begun: bool = False,
        single: bool = False,
    ) -> None:
        openings = (syntax.opening, _FUNCTION)
        super().__init__(openings, "head" if begun else "text", single=single or syntax.single)
        self._syntax = syntax
        self._functions = functions
        self._schema: Mapping[str, Any] = {}
        self._types: frozenset[str] = frozenset()
        self._seen: set[str] = set()
        self._key = ""
        self._fresh = False

    def _finish(self) -> None:
        if self._state == "head":
            self._add_text(self._opened + self._held)
        elif self._state == "text":
            self._add_rest()

    def _read_head(self) -> bool:
        """Begin the call of a known function; anything else after the tag is text."""
        text = self._held.lstrip()
        if not self._opened.endswith(_FUNCTION):
            if len(text) < len(_FUNCTION) and _FUNCTION.startswith(text):
                return False
            if not text.startswith(_FUNCTION):
                return self._take_for_text()
            text = text.removeprefix(_FUNCTION)
        head = _NAME.match(text)
        if head is None:
            unfinished = len(text) <= _LONGEST_NAME and not re.search(r"[<>\n]", text)
            return False if unfinished else self._take_for_text()
        if head[1] not in self._functions:
            return self._take_for_text()
        self._begin(head[1])
        self._schema, self._seen = self._functions[head[1]], set()
        self._held, self._state = text[head.end() :], "members"
        return True

    def _take_for_text(self) -> bool:
        self._add_text(self._opened)
        self._opened, self._state = "", "text"
        return True

    def _read_members(self) -> bool:
        """Go on to the next parameter or the end of the call; what stands between them is dropped."""
        start = self._held.find("<")
        self._held = self._held[start:] if start >= 0 else ""
        for end in (_END_FUNCTION, self._syntax.closing):
            if self._held.startswith(end):
                self._add_arguments("}" if self._seen else "{}")
                self._end_call()
                self._held, self._state = self._held[len(end) :], "tail"
                return True
        if self._held.startswith(_PARAMETER):
            name = _NAME.match(self._held, len(_PARAMETER))
            if name:
                self._begin_value(name[1])
                self._held = self._held[name.end() :]
            return name is not None or self._skip(len(self._held) > _LONGEST_NAME + len(_PARAMETER))
        tags = (_END_FUNCTION, self._syntax.closing, _PARAMETER)
        return self._skip(not any(tag.startswith(self._held) for tag in tags))

    def _skip(self, needed: bool) -> bool:
        """Drop a character that begins nothing known, where that is certain."""
        self._held = self._held[1:] if needed else self._held
        return needed

    def _begin_value(self, key: str) -> None:
        """Begin a parameter; of two with the same name the first one counts."""
        self._types = parameter_types.types(parameter_types.property_of(key, self._schema), self._schema)
        self._key, self._fresh = key, True
        is_text = self._types == {"string"}
        self._state = "repeated" if key in self._seen else "string" if is_text else "value"
        if is_text and key not in self._seen:
            self._add_member('"')

    def _add_member(self, text: str) -> None:
        """Add the current parameter's name and the first text of its value."""
        before = ", " if self._seen else "{"
        self._seen.add(self._key)
        self._add_arguments(f"{before}{json.dumps(self._key, ensure_ascii=False)}: {text}")

    def _trim_start(self) -> None:
        """Drop the line break that the syntax has before a value."""
        if self._fresh and self._held:
            self._held, self._fresh = self._held.removeprefix("\n"), False

    def _read_string(self) -> bool:
        """Pass a string on up to its end; return whether it was reached."""
        self._trim_start()
        text, tag, rest = self._held.partition(_END_PARAMETER)
        if tag:
            self._add_arguments(_escaped(text.removesuffix("\n")) + '"')
            self._held, self._state = rest, "members"
            return True
        ready = len(text) - held_back(text, ("\n" + _END_PARAMETER, _END_PARAMETER))
        self._add_arguments(_escaped(text[:ready]))
        self._held = text[ready:]
        return False

    def _read_value(self) -> bool:
        """Take a whole value of another type."""
        self._trim_start()
        text, tag, rest = self._held.partition(_END_PARAMETER)
        if not tag:
            return False
        found = parameter_types.value(text.removesuffix("\n"), self._types)
        self._add_member(json.dumps(found, ensure_ascii=False))
        self._held, self._state = rest, "members"
        return True

    def _read_repeated(self) -> bool:
        """Drop a parameter that the call has already."""
        _, tag, rest = self._held.partition(_END_PARAMETER)
        if tag:
            self._held, self._state = rest, "members"
        return bool(tag)

    def _read_tail(self) -> bool:
        """Drop the outer closing tag, which a call without the opening one may have, too."""
        text, closing = self._held.lstrip(), self._syntax.closing
        if closing.startswith(text) and text != closing:
            return False
        self._held, self._state = text.removeprefix(closing), "text"
        return True


def _escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
