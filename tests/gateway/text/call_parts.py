"""What a reader of tool calls makes of an answer that comes in parts."""

from typing import Any

from gateway.text.tool_calls import CallArguments, CallStart, Content, ToolCallReader


def read(reader: ToolCallReader, parts: list[str]) -> tuple[str, list[tuple[str, str]], list[Any]]:
    """Return the text, each call's name and arguments, and what the reader gave for the parts."""
    sent = [part for piece in parts for part in reader.push(piece)] + reader.end()
    calls: list[list[str]] = []
    for part in sent:
        if isinstance(part, CallStart):
            assert part.index == len(calls)
            calls.append([part.name, ""])
        elif isinstance(part, CallArguments):
            calls[part.index][1] += part.text
    text = "".join(part.text for part in sent if isinstance(part, Content))
    return text, [(name, arguments) for name, arguments in calls], sent
