"""OpenAI's chat completions, for models that come with a chat template."""

import secrets
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.body import parse, read_json, request_schema
from gateway.completion.service import CompletionResult
from gateway.dialects.chat_body import ChatBody, to_request
from gateway.dialects.deps import CallerDep, GatewayDep, NamesDep
from gateway.dialects.openai import CompletionWriter, Meta, usage_of
from gateway.dialects.sampling_body import StreamOptions
from gateway.responses import sse
from gateway.text.output_sequence import Delta, TokenEntry

router = APIRouter()
_SCHEMA = request_schema(ChatBody)


@router.post("/v1/chat/completions", openapi_extra=_SCHEMA)
async def chat(http: Request, caller: CallerDep, gateway: GatewayDep, names: NamesDep) -> Response:
    """Answer a chat."""
    body = parse(ChatBody, await read_json(http))
    request = to_request(body, gateway.settings, gateway.metrics)
    meta = ChatMeta(
        names.resolve(body.model),
        logprobs=body.logprobs,
        id="chatcmpl-" + secrets.token_hex(15),
        listed=bool(body.top_logprobs),
    )
    if body.stream:
        return await gateway.streamed(http, caller, request, ChatWriter(meta, body.stream_options))
    return await gateway.whole(http, caller, request, lambda answer: _document(meta, answer))


@dataclass(frozen=True)
class ChatMeta(Meta):
    """``listed`` says whether each token's alternatives are wanted; the chosen one is all there is."""

    listed: bool = False


def _document(meta: ChatMeta, answer: CompletionResult) -> dict[str, Any]:
    choices = [
        {
            "index": choice.index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "finish_reason": choice.finish_reason,
            "logprobs": _logprobs(meta, choice.entries),
        }
        for choice in answer.choices
    ]
    return meta.head("chat.completion") | {"choices": choices, "usage": usage_of(answer)}


def _logprobs(meta: ChatMeta, entries: list[TokenEntry]) -> dict[str, Any] | None:
    if not meta.logprobs:
        return None
    content = []
    for entry in entries:
        token = {"token": entry.text, "logprob": entry.logprob, "bytes": list(entry.text.encode())}
        content.append(token | {"top_logprobs": [token] if meta.listed else []})
    return {"content": content, "refusal": None}


class ChatWriter(CompletionWriter):
    """A stream of chat chunks; the first of each choice says whose turn it is."""

    def __init__(self, meta: ChatMeta, options: StreamOptions | None = None) -> None:
        super().__init__(meta, options, kind="chat.completion.chunk")
        self._chat = meta

    def chunk(self, delta: Delta, answer: CompletionResult) -> bytes:
        """Return one event, or nothing while a delta holds text back."""
        if not delta:
            return b""
        said: dict[str, Any] = {"content": delta.text} if delta.text or delta.finish_reason is None else {}
        if delta.row not in self._begun:
            self._begun.add(delta.row)
            said = {"role": "assistant", "content": delta.text}
        choice = {
            "index": delta.row,
            "delta": said,
            "finish_reason": delta.finish_reason,
            "logprobs": _logprobs(self._chat, delta.entries),
        }
        usage = usage_of(answer) if self._usage_so_far else None
        return sse(self._head() | {"choices": [choice], "usage": usage})
