"""OpenAI's completions API, FauxPilot's engine routes, and Mistral's fill-in-the-middle format."""

import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.body import parse, read_json, request_schema
from gateway.caller import Caller
from gateway.completion.service import CompletionResult, CompletionService
from gateway.completion.types import Choice
from gateway.dialects.deps import CallerDep, NamesDep, ServiceDep
from gateway.dialects.openai_body import CompletionBody, to_request
from gateway.dialects.sampling_body import StreamOptions
from gateway.errors import ApiError
from gateway.model_names import LEGACY_NAME, ModelNames
from gateway.responses import DONE, json_response, sse
from gateway.text.output_sequence import Delta, TokenEntry

router = APIRouter()
_SCHEMA = request_schema(CompletionBody)


def new_id() -> str:
    """Return an id in FauxPilot's format: ``cmpl-`` and 29 letters or digits."""
    return "cmpl-" + secrets.token_hex(15)[:29]


@router.post("/v1/completions", openapi_extra=_SCHEMA)
async def completions(http: Request, caller: CallerDep, service: ServiceDep, names: NamesDep) -> Response:
    """Complete a prompt, as OpenAI's legacy completions endpoint."""
    body = parse(CompletionBody, await read_json(http))
    name = names.resolve_for_fauxpilot(body.model)
    return await _complete(http, caller, service, body, name, legacy=False)


@router.post("/v1/engines/codegen/completions", openapi_extra=_SCHEMA)
@router.post("/v1/engines/copilot-codex/completions", openapi_extra=_SCHEMA)
async def engine_completions(http: Request, caller: CallerDep, service: ServiceDep) -> Response:
    """Complete a prompt, as FauxPilot does on the routes for Copilot, whose URL names the model."""
    body = parse(CompletionBody, await read_json(http))
    return await _complete(http, caller, service, body, LEGACY_NAME, legacy=True)


@router.post("/v1/fim/completions", openapi_extra=_SCHEMA)
async def fim_completions(http: Request, caller: CallerDep, service: ServiceDep, names: NamesDep) -> Response:
    """Fill in the middle, in Mistral's format, which Continue reads: choices with ``delta.content``."""
    body = parse(CompletionBody, await read_json(http))
    request = to_request(
        body, service.settings, service.metrics, legacy=False, has_fim=http.app.state.has_fim
    )
    request = replace(request, dialect="mistral")
    meta = Meta(names.resolve(body.model), logprobs=False)
    if body.stream:
        return await service.stream(http, caller, request, FimWriter(meta))
    return await service.complete(http, caller, request, lambda result: _fim_document(meta, result))


@router.get("/v1/models")
async def models(http: Request, _: CallerDep, names: NamesDep) -> Response:
    """List the served model."""
    return json_response(model_list(http, names))


def model_list(http: Request, names: ModelNames) -> dict[str, Any]:
    """Return OpenAI's list, which holds the one served model."""
    return {"object": "list", "data": [_model_card(http, names.served)]}


@router.get("/v1/models/{name:path}")
async def model(http: Request, name: str, _: CallerDep, names: NamesDep) -> Response:
    """Describe a model by name or alias; 404 for others."""
    if not names.includes(name):
        names.resolve(name)
    return json_response(_model_card(http, name))


def _model_card(http: Request, name: str) -> dict[str, Any]:
    state = http.app.state
    return {
        "id": name,
        "object": "model",
        "created": state.created,
        "owned_by": "assist",
        "max_model_len": state.context_length,
    }


async def _complete(
    http: Request,
    caller: Caller,
    service: CompletionService,
    body: CompletionBody,
    name: str,
    *,
    legacy: bool,
) -> Response:
    request = to_request(
        body, service.settings, service.metrics, legacy=legacy, has_fim=http.app.state.has_fim
    )
    meta = Meta(
        name,
        logprobs=request.logprobs is not None,
        token_ids=request.token_ids,
        name_ids=body.return_tokens_as_token_ids,
    )
    if not body.stream:
        return await service.complete(http, caller, request, lambda result: document(meta, result))
    return await service.stream(http, caller, request, CompletionWriter(meta, body.stream_options))


@dataclass(frozen=True)
class Meta:
    """The members that every object of one response repeats, and what its choices contain."""

    model: str
    logprobs: bool = False
    token_ids: bool = False
    name_ids: bool = False
    id: str = field(default_factory=new_id)
    created: int = field(default_factory=lambda: int(time.time()))

    def head(self, kind: str = "text_completion") -> dict[str, Any]:
        """Return the members before the choices, in FauxPilot's order."""
        return {"id": self.id, "model": self.model, "object": kind, "created": self.created}


def usage_of(result: CompletionResult) -> dict[str, int]:
    """Return OpenAI's usage: prompts once each, every generated token, with stop and end-of-text tokens."""
    return {
        "completion_tokens": result.completion_tokens,
        "prompt_tokens": result.prompt_tokens,
        "total_tokens": result.completion_tokens + result.prompt_tokens,
    }


def logprobs_of(entries: list[TokenEntry], *, name_ids: bool = False) -> dict[str, list[Any]]:
    """Return OpenAI's logprobs; ``name_ids`` writes tokens as vLLM does, ``token_id:5``.

    FasterTransformer scores the chosen token only, so only that one is listed.
    """
    names = [f"token_id:{entry.id}" if name_ids else entry.text for entry in entries]
    scored = zip(names, entries, strict=True)
    return {
        "token_logprobs": [entry.logprob for entry in entries],
        "top_logprobs": [None if e.logprob is None else {name: e.logprob} for name, e in scored],
        "tokens": names,
        "text_offset": [entry.offset for entry in entries],
    }


def ended_by(part: Choice | Delta | CompletionResult) -> dict[str, str]:
    """Return the member of a stream's last object that says the deadline ended it; clients ignore it."""
    return {"ended_by": "deadline"} if part.expired else {}


def _choice(part: Choice | Delta, index: int, meta: Meta) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "text": part.text,
        "index": index,
        "finish_reason": part.finish_reason,
        "logprobs": logprobs_of(part.entries, name_ids=meta.name_ids) if meta.logprobs else None,
    }
    if meta.token_ids:
        choice["token_ids"] = [entry.id for entry in part.entries]
    return choice


def document(meta: Meta, result: CompletionResult) -> dict[str, Any]:
    """Return the whole completion as OpenAI's document."""
    choices = [_choice(choice, choice.index, meta) for choice in result.choices]
    if meta.token_ids:
        for choice in choices:
            choice["prompt_token_ids"] = _prompt_ids(result, choice["index"])
    return meta.head() | {"choices": choices, "usage": usage_of(result)}


def _prompt_ids(result: CompletionResult, index: int) -> list[int]:
    return result.plan.prompts[index // result.plan.request.n].ids


class CompletionWriter:
    """A stream of completion objects, one choice each, ended by ``[DONE]``."""

    def __init__(
        self, meta: Meta, options: StreamOptions | None = None, kind: str = "text_completion"
    ) -> None:
        self._meta = meta
        self._kind = kind
        self._include_usage = bool(options and options.include_usage)
        self._usage_so_far = self._include_usage and bool(options and options.continuous_usage_stats)
        self._started: set[int] = set()

    def _head(self) -> dict[str, Any]:
        return self._meta.head(self._kind)

    def chunk(self, delta: Delta, result: CompletionResult) -> bytes:
        """Return one event, or nothing while a delta holds text back."""
        if not delta:
            return b""
        choice = _choice(delta, delta.row, self._meta)
        if self._meta.token_ids and delta.row not in self._started:
            self._started.add(delta.row)
            choice["prompt_token_ids"] = _prompt_ids(result, delta.row)
        usage = usage_of(result) if self._usage_so_far else None
        return sse(self._head() | {"choices": [choice], "usage": usage} | ended_by(delta))

    def end(self, result: CompletionResult) -> bytes:
        """Return the usage where the client asked for it, and the end mark."""
        if not self._include_usage:
            return DONE
        return sse(self._head() | {"choices": [], "usage": usage_of(result)}) + DONE

    def failure(self, error: ApiError) -> bytes:
        """Return the error as an event: OpenAI's clients raise it."""
        return sse(error.envelope()) + DONE


class FimWriter(CompletionWriter):
    """The same stream with ``delta.content``, as in chats."""

    def chunk(self, delta: Delta, result: CompletionResult) -> bytes:  # noqa: ARG002  -- the same for every dialect
        """Return one event, or nothing while a delta holds text back."""
        if not delta:
            return b""
        choice = {
            "index": delta.row,
            "delta": {"role": "assistant", "content": delta.text},
            "finish_reason": delta.finish_reason,
        }
        return sse(self._meta.head("chat.completion.chunk") | {"choices": [choice]} | ended_by(delta))


def _fim_document(meta: Meta, result: CompletionResult) -> dict[str, Any]:
    choices = [
        {
            "index": choice.index,
            "message": {"role": "assistant", "content": choice.text},
            "finish_reason": choice.finish_reason,
        }
        for choice in result.choices
    ]
    return meta.head("chat.completion") | {"choices": choices, "usage": usage_of(result)}
