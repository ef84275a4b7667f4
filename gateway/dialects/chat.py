"""OpenAI's chat completions, for models with a chat template."""

import secrets
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.body import parse, read_json, request_schema
from gateway.completion.service import CompletionResult
from gateway.dialects.chat_body import ChatBody, to_request
from gateway.dialects.deps import CallerDep, NamesDep, ServiceDep
from gateway.dialects.openai import CompletionWriter, Meta, ended_by, usage_of
from gateway.dialects.sampling_body import StreamOptions
from gateway.responses import sse
from gateway.text.output_sequence import Delta, TokenEntry

router = APIRouter()
_SCHEMA = request_schema(ChatBody)


@router.post("/v1/chat/completions", openapi_extra=_SCHEMA)
async def chat(http: Request, caller: CallerDep, service: ServiceDep, names: NamesDep) -> Response:
    """Complete a chat. Raises ``ApiError`` 400 for a request that cannot be done."""
    body = parse(ChatBody, await read_json(http))
    request = to_request(body, service.settings, service.metrics)
    meta = ChatMeta(
        names.resolve(body.model),
        logprobs=body.logprobs,
        id="chatcmpl-" + secrets.token_hex(15),
        with_alternatives=bool(body.top_logprobs),
    )
    if body.stream:
        return await service.stream(http, caller, request, ChatWriter(meta, body.stream_options))
    return await service.complete(http, caller, request, lambda result: _document(meta, result))


@dataclass(frozen=True)
class ChatMeta(Meta):
    """``with_alternatives``: list each token's alternatives, of which the engine reports the chosen one."""

    with_alternatives: bool = False


def _document(meta: ChatMeta, result: CompletionResult) -> dict[str, Any]:
    choices = [
        {
            "index": choice.index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "finish_reason": choice.finish_reason,
            "logprobs": _logprobs(meta, choice.entries),
        }
        for choice in result.choices
    ]
    return meta.head("chat.completion") | {"choices": choices, "usage": usage_of(result)}


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

    def chunk(self, delta: Delta, result: CompletionResult) -> bytes:
        """Return one event, or nothing while a delta holds text back."""
        if not delta:
            return b""
        message: dict[str, Any] = {}
        if delta.row not in self._started:
            self._started.add(delta.row)
            message = {"role": "assistant", "content": delta.text}
        elif delta.text or delta.finish_reason is None:
            message = {"content": delta.text}
        choice = {
            "index": delta.row,
            "delta": message,
            "finish_reason": delta.finish_reason,
            "logprobs": _logprobs(self._chat, delta.entries),
        }
        usage = usage_of(result) if self._usage_so_far else None
        return sse(self._head() | {"choices": [choice], "usage": usage} | ended_by(delta))
