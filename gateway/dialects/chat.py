"""OpenAI's chat completions, for models with a chat template."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.body import parse, read_json, request_schema
from gateway.completion.service import CompletionResult
from gateway.completion.types import Choice
from gateway.dialects.chat_body import ChatBody, to_request
from gateway.dialects.chat_tools import Structure, no_tools, structure
from gateway.dialects.deps import CallerDep, NamesDep, ServiceDep
from gateway.dialects.openai import CompletionWriter, Meta, ended_by, usage_of
from gateway.dialects.sampling_body import StreamOptions
from gateway.responses import sse
from gateway.text.chat import ChatTemplate
from gateway.text.output_sequence import Delta, TokenEntry
from gateway.text.tool_calls import CallArguments, CallStart, Content, Part, ToolCallReader

router = APIRouter()
_SCHEMA = request_schema(ChatBody)


@router.post("/v1/chat/completions", openapi_extra=_SCHEMA)
async def chat(http: Request, caller: CallerDep, service: ServiceDep, names: NamesDep) -> Response:
    """Complete a chat. Raises ``ApiError`` 400 for a request that cannot be done."""
    body = parse(ChatBody, await read_json(http))
    name = names.resolve(body.model)
    template: ChatTemplate | None = http.app.state.chat_template
    syntax = template.tool_syntax if template else None
    if syntax is None and any(turn.uses_tools for turn in body.messages):
        raise no_tools(service.settings.model, "messages")
    asked = structure(body, syntax, service.settings.model)
    request = to_request(body, service.settings, service.metrics, asked)
    meta = ChatMeta(
        name,
        logprobs=body.logprobs,
        id="chatcmpl-" + secrets.token_hex(15),
        with_alternatives=bool(body.top_logprobs),
        structure=asked,
    )
    if body.stream:
        return await service.stream(http, caller, request, ChatWriter(meta, body.stream_options))
    return await service.complete(http, caller, request, lambda result: _document(meta, result))


@dataclass(frozen=True)
class ChatMeta(Meta):
    """``with_alternatives``: list each token's alternatives, of which the engine reports the chosen one.

    ``structure``: what the answer has to be, and so how it is read.
    """

    with_alternatives: bool = False
    structure: Structure = field(default_factory=Structure)


def _document(meta: ChatMeta, result: CompletionResult) -> dict[str, Any]:
    return meta.head("chat.completion") | {
        "choices": [_choice(meta, choice) for choice in result.choices],
        "usage": usage_of(result),
    }


def _choice(meta: ChatMeta, choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    reason: str | None = choice.finish_reason
    if reader := meta.structure.reader():
        parts = [*reader.push(choice.text), *reader.end()]
        calls: list[dict[str, Any]] = []
        for part in parts:
            if isinstance(part, CallStart):
                calls.append(_call(part))
            elif isinstance(part, CallArguments):
                calls[part.index]["function"]["arguments"] += part.text
        message["content"] = "".join(part.text for part in parts if isinstance(part, Content)) or None
        if calls:
            message["tool_calls"] = calls
        elif message["content"] is None:
            message["content"] = ""
        reason = _reason(reason, reader)
    return {
        "index": choice.index,
        "message": message,
        "finish_reason": reason,
        "logprobs": _logprobs(meta, choice.entries),
    }


def _call(start: CallStart) -> dict[str, Any]:
    function = {"name": start.name, "arguments": ""}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


def _reason(reason: str | None, reader: ToolCallReader) -> str | None:
    """Return the reason for the end: an answer that is cut keeps its own."""
    return "tool_calls" if reason == "stop" and reader.calls else reason


def _logprobs(meta: ChatMeta, entries: list[TokenEntry]) -> dict[str, Any] | None:
    if not meta.logprobs:
        return None
    content = []
    for entry in entries:
        token = {"token": entry.text, "logprob": entry.logprob, "bytes": list(entry.text.encode())}
        content.append(token | {"top_logprobs": [token] if meta.with_alternatives else []})
    return {"content": content, "refusal": None}


class ChatWriter(CompletionWriter):
    """A stream of chat chunks; the first one of each choice has the role."""

    def __init__(self, meta: ChatMeta, options: StreamOptions | None = None) -> None:
        super().__init__(meta, options, kind="chat.completion.chunk")
        self._chat = meta
        self._readers: dict[int, ToolCallReader | None] = {}

    def chunk(self, delta: Delta, result: CompletionResult) -> bytes:
        """Return the events of a delta, or nothing while it holds text back."""
        if not delta:
            return b""
        messages, reason = self._messages(delta)
        usage = usage_of(result) if self._usage_so_far else None
        events = []
        for position, message in enumerate(messages):
            last = position == len(messages) - 1
            choice = {
                "index": delta.row,
                "delta": message,
                "finish_reason": reason if last else None,
                "logprobs": _logprobs(self._chat, delta.entries if last else []),
            }
            ended = ended_by(delta) if last else {}
            events.append(sse(self._head() | {"choices": [choice], "usage": usage} | ended))
        return b"".join(events)

    def _messages(self, delta: Delta) -> tuple[list[dict[str, Any]], str | None]:
        """Return the messages of a delta's events, the first of a choice with its role, and the reason."""
        if delta.row not in self._readers:
            self._readers[delta.row] = self._chat.structure.reader()
        reader, reason = self._readers[delta.row], delta.finish_reason
        if reader is None:
            ends = not delta.text and reason is not None
            messages: list[dict[str, Any]] = [{} if ends else {"content": delta.text}]
            return self._with_role(delta.row, messages), reason
        parts = reader.push(delta.text) + (reader.end() if reason else [])
        messages = [_message(part) for part in parts]
        if reason or (not messages and self._chat.logprobs):
            messages.append({})
        return self._with_role(delta.row, messages), _reason(reason, reader)

    def _with_role(self, row: int, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if row not in self._started and messages:
            self._started.add(row)
            empty = None if "tool_calls" in messages[0] else ""
            messages[0] = {"role": "assistant", "content": empty} | messages[0]
        return messages


def _message(part: Part) -> dict[str, Any]:
    if isinstance(part, Content):
        return {"content": part.text}
    if isinstance(part, CallStart):
        return {"tool_calls": [{"index": part.index} | _call(part)]}
    return {"tool_calls": [{"index": part.index, "function": {"arguments": part.text}}]}
