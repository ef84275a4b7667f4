"""How a model writes tool calls, found by rendering some with its own chat template.

Known are four forms, each by its shape alone:

- ``object``: a JSON object between two tags, as Qwen, Hermes and their followers write it:
  ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, or without tags as the whole answer, as Llama 3.
- ``list``: a tag and a JSON list of objects, as Mistral writes it: ``[TOOL_CALLS] [{"name": …}, …]``.
- ``named``: a tag, the name, perhaps another tag, and the arguments, as later models of Mistral:
  ``[TOOL_CALLS]name[ARGS]{…}``.
- ``parameters``: an element for each parameter, as Qwen3-Coder writes it:
  ``<tool_call><function=name><parameter=key>value</parameter></function></tool_call>``.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from jinja2 import TemplateError

# What a template may raise for a message that it does not expect: a refusal, or an error of its own.
FAILURES = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

_NAME, _KEY, _VALUE = "probe_function", "probe_key", "probe_value"
_SHORT_ID, _LONG_ID = "probe0000", "call_0123456789abcdef"
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {_KEY: {"type": "string"}}, "required": [_KEY]},
    },
}
_QUESTION = {"role": "user", "content": "A question."}
_TAG = r"[<\[][\w|]{1,40}[>\]]"
_OPENING = re.compile(r"<([\w|]{1,40})>\s*\Z")
_CLOSING = re.compile(r"\s*</([\w|]{1,40})>")
_LIST_OPENING = re.compile(rf"({_TAG}\s*)\[\s*\Z")
_LIST_CLOSING = re.compile(r"\s*\]")
_NAMED = re.compile(rf"({_TAG}){_NAME}(?:\[CALL_ID\]{_SHORT_ID})?({_TAG})?\Z")
_PARAMETERS = re.compile(
    rf"(<(\w+)>\s*)<function={_NAME}>\s*<parameter={_KEY}>\s*{_VALUE}\s*</parameter>\s*</function>(\s*</\2>)"
)
# Llama may write this control token before a call, although its template does not.
_OPTIONAL = "<|python_tag|>"
Turns = Sequence[Mapping[str, Any]]
Form = Literal["object", "list", "named", "parameters"]


class Render(Protocol):
    """Renders turns and tools; ``prompted``: up to the begin of the answer. Raises one of ``FAILURES``."""

    def __call__(self, turns: Turns, tools: Sequence[Any], *, prompted: bool) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class ToolSyntax:
    """A call is ``before``, what the ``form`` says, and ``after``.

    ``before`` and ``after`` are the tags ``opening`` and ``closing`` with the space inside them. ``name`` and
    ``arguments`` are the members of a call's object; ``separator`` is the tag between a name and its
    arguments; ``optional`` is a tag that may stand before a call without tags. ``single``: an answer has one
    call at most. ``short_ids``: the template takes ids of nine letters and digits only. ``tokens``: the tags
    that are control tokens, with their ids.
    """

    before: str
    after: str
    name: str = "name"
    arguments: str = "arguments"
    form: Form = "object"
    separator: str = ""
    optional: str = ""
    single: bool = False
    short_ids: bool = False
    tokens: Mapping[str, int] = field(default_factory=dict)

    @property
    def opening(self) -> str:
        """The tag by which a call begins; empty where there is none."""
        return self.before.rstrip()

    @property
    def closing(self) -> str:
        """The tag by which a call ends; empty where there is none."""
        return self.after.lstrip()

    @property
    def tags(self) -> list[str]:
        """The tags that have to be in the model's text."""
        return [tag for tag in (self.opening, self.closing, self.separator) if tag]

    @property
    def begin(self) -> str:
        """What a prompt ends with to begin a call; a last space would be a part of the next token."""
        return self.before.rstrip(" ")


def find(render: Render) -> ToolSyntax | None:
    """Return a template's syntax; ``None`` for a template without tools, or with another syntax.

    What ``render`` raises for a question and one call is passed on.
    """
    if _NAME not in render([_QUESTION], [_TOOL], prompted=False):
        return None
    text = render([_QUESTION, _turn(_SHORT_ID)], [_TOOL], prompted=False)
    found = _in_parameters(text) or next(filter(None, _in_json(text, render)), None)
    if found is None:
        return None
    before, after, members = found
    return ToolSyntax(
        before,
        after,
        **members,
        single=_refuses(render, _turn(_SHORT_ID, "probe0001")),
        short_ids=_refuses(render, _turn(_LONG_ID), _result(_LONG_ID)),
    )


_Found = tuple[str, str, dict[str, Any]]


def _turn(*ids: str) -> dict[str, Any]:
    function = {"name": _NAME, "arguments": {_KEY: _VALUE}}
    calls = [{"id": each, "type": "function", "function": function} for each in ids]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def _result(call: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call, "name": _NAME, "content": "A result."}


def _refuses(render: Render, *turns: Mapping[str, Any]) -> bool:
    try:
        render([_QUESTION, *turns], [_TOOL], prompted=False)
    except FAILURES:
        return True
    return False


def _in_parameters(text: str) -> _Found | None:
    found = _PARAMETERS.search(text)
    return (found[1], found[3], {"form": "parameters"}) if found else None


def _in_json(text: str, render: Render) -> Iterator[_Found | None]:
    """Yield what each JSON object of a text says of the syntax."""
    for start, end, members in _objects(text):
        before = text[:start]
        if members == {_KEY: _VALUE} and (named := _NAMED.search(before)):
            yield named[1], "", {"form": "named", "separator": named[2] or ""}
        keys = {json.dumps(value): key for key, value in members.items()}
        name, arguments = keys.get(json.dumps(_NAME)), keys.get(json.dumps({_KEY: _VALUE}))
        if not name or not arguments:
            continue
        names = {"name": name, "arguments": arguments}
        opening, closing = _OPENING.search(before), _CLOSING.match(text, end)
        if opening and closing and opening[1] == closing[1]:
            yield opening[0], closing[0], names
        elif (opening := _LIST_OPENING.search(before)) and _LIST_CLOSING.match(text, end):
            yield opening[1], "", names | {"form": "list"}
        elif before.rstrip() == render([_QUESTION], [_TOOL], prompted=True).rstrip():
            yield "", "", names | {"optional": _OPTIONAL}


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
