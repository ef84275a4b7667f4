"""How a model writes tool calls, found by rendering one with its own chat template.

Known are the templates that write each call as a JSON object between two tags, as Qwen, Hermes and the many
that follow them: ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NAME, _KEY, _VALUE = "probe_function", "probe_key", "probe_value"
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {_KEY: {"type": "string"}}, "required": [_KEY]},
    },
}
_CALL = {
    "id": "probe0000",  # some templates want nine characters
    "type": "function",
    "function": {"name": _NAME, "arguments": {_KEY: _VALUE}},
}
_OPENING = re.compile(r"<([\w|]{1,40})>\s*\Z")
_CLOSING = re.compile(r"\s*</([\w|]{1,40})>")
Turns = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ToolSyntax:
    """A call is ``before``, a JSON object with the members ``name`` and ``arguments``, and ``after``.

    ``before`` and ``after`` are the tags ``opening`` and ``closing`` with the space inside them.
    """

    before: str
    after: str
    name: str = "name"
    arguments: str = "arguments"

    @property
    def opening(self) -> str:
        """The tag by which a call begins."""
        return self.before.rstrip()

    @property
    def closing(self) -> str:
        """The tag by which a call ends."""
        return self.after.lstrip()


def find(render: Callable[[Turns, Sequence[Any]], str]) -> ToolSyntax | None:
    """Return a template's syntax; ``None`` for a template without tools, or with another syntax.

    ``render`` renders turns and tools; what it raises is passed on.
    """
    question = {"role": "user", "content": "A question."}
    if _NAME not in render([question], [_TOOL]):
        return None
    call = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
    text = render([question, call], [_TOOL])
    for start, end, members in _objects(text):
        keys = {json.dumps(value): key for key, value in members.items()}
        name, arguments = keys.get(json.dumps(_NAME)), keys.get(json.dumps({_KEY: _VALUE}))
        opening, closing = _OPENING.search(text[:start]), _CLOSING.match(text, end)
        if name and arguments and opening and closing and opening[1] == closing[1]:
            return ToolSyntax(opening[0], closing[0], name, arguments)
    return None


def _objects(text: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield the JSON objects of a text that hold the probe's value, with their start and end."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", text):
        try:
            value, end = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        if _VALUE in text[match.start() : end]:
            yield match.start(), end, value
