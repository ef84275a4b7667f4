"""GitLab's code suggestions: ``/v2/completions`` of 2023 and ``/v2/code/*`` of today's gateway."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.body import UnprocessableError, parse_gitlab, read_gitlab, request_schema
from gateway.caller import Caller
from gateway.completion.service import CompletionResult, CompletionService
from gateway.completion.types import CompletionRequest
from gateway.dialects.deps import CallerDep, ServiceDep
from gateway.dialects.gitlab_body import EditorPayload, PromptMessage, SuggestionBody
from gateway.engine.base import Sampling
from gateway.errors import ApiError
from gateway.text.language import language_of, without_incomplete_line
from gateway.text.output_sequence import Delta
from gateway.text.prompt import Prompt

router = APIRouter()
# The sampling that GitLab sent to its CodeGen models in 2023.
_SAMPLING = Sampling(temperature=0.2, top_p=0.98)
_SCHEMA = request_schema(SuggestionBody)


@dataclass(frozen=True)
class Suggestion:
    """A request for suggestions in any of GitLab's versions: text at the cursor, number of choices."""

    file_name: str
    above: str
    below: str
    language: str | None
    raw: str | None = None
    files: Sequence[tuple[str, str]] = ()
    choices: int = 1
    generation: bool = False


@router.post("/v2/completions", openapi_extra=_SCHEMA)
@router.post("/v2/code/completions", openapi_extra=_SCHEMA)
async def completions(http: Request, caller: CallerDep, service: ServiceDep) -> Response:
    """Suggest code at the cursor."""
    body = parse_gitlab(SuggestionBody, await read_gitlab(http))
    return await _suggest(http, caller, service, body, generation=False)


@router.post("/v2/code/generations", openapi_extra=_SCHEMA)
async def generations(http: Request, caller: CallerDep, service: ServiceDep) -> Response:
    """Write a larger piece of code; versions 2 and 3 bring their own prompt, or get 422."""
    body = parse_gitlab(SuggestionBody, await read_gitlab(http))
    if body.prompt_version > 1 and not body.prompt:
        raise missing("prompt")
    return await _suggest(http, caller, service, body, generation=True)


def missing(name: str) -> UnprocessableError:
    """Return GitLab's 422 for a missing field."""
    detail = [{"type": "missing", "loc": ["body", name], "msg": "Field required"}]
    return UnprocessableError(422, f"{name} is missing.", detail=detail)


async def _suggest(
    http: Request, caller: Caller, service: CompletionService, body: SuggestionBody, *, generation: bool
) -> Response:
    file = body.current_file
    suggestion = Suggestion(
        file.file_name, file.content_above_cursor, file.content_below_cursor,
        language_of(file.file_name) or file.language_identifier,
        raw=raw_prompt(body.prompt) if body.prompt_version > 1 else None,
        files=[(item.name, item.content) for item in body.context or ()],
        choices=body.choices_count or 1,
        generation=generation,
    )  # fmt: skip
    request = to_request(http, service, suggestion)
    if body.stream:
        return await service.stream(http, caller, request, RawText())
    whole = not generation

    def render(result: CompletionResult) -> dict[str, Any]:
        return {
            "id": "id",
            "model": {**model_card(service, suggestion.language), "tokens_consumption_metadata": None},
            "experiments": [],
            "object": "text_completion",
            "created": int(time.time()),
            "choices": choices_of(result, cut=whole),
        }

    return await service.complete(http, caller, request, render)


def raw_prompt(prompt: str | list[PromptMessage] | None) -> str | None:
    """Return a prompt that the client wrote itself; chat messages are joined, for a completion model."""
    if prompt is None or isinstance(prompt, str):
        return prompt
    return "\n".join(message.content for message in prompt)


def of_payload(payload: EditorPayload, files: Sequence[tuple[str, str]], *, generation: bool) -> Suggestion:
    """Return the suggestion that a component of version 3 or 4 asks for."""
    return Suggestion(
        payload.file_name, payload.content_above_cursor, payload.content_below_cursor,
        language_of(payload.file_name) or payload.language_identifier,
        raw=raw_prompt(payload.prompt) if generation else None,
        files=files, choices=payload.choices_count or 1, generation=generation,
    )  # fmt: skip


def to_request(http: Request, service: CompletionService, suggestion: Suggestion) -> CompletionRequest:
    """Return the completion request.

    CodeGen's multi-language models were trained with the language as ``<python>`` before the text; models
    with a fill-in-the-middle template were not.
    """
    settings, has_fim = service.settings, http.app.state.has_fim
    generation = suggestion.generation
    ignored = []
    max_tokens = settings.gitlab_generation_max_tokens if generation else settings.gitlab_max_tokens
    if suggestion.raw is not None:
        prompt = Prompt(text=suggestion.raw)
    else:
        tagged = {"always": True, "never": False, "auto": not has_fim}[settings.language_prefix]
        language = language_of(suggestion.file_name)
        prompt = Prompt(
            text=suggestion.above, suffix=suggestion.below if has_fim else None,
            tag=f"<{language}>" if tagged and language else "", files=suggestion.files,
        )  # fmt: skip
        if suggestion.below and not has_fim:
            # As GitLab's own gateway of 2023: its editors send the text below whatever the model.
            ignored.append("suffix")
            service.metrics.ignored("suffix")
    return CompletionRequest(
        prompts=[prompt],
        max_tokens=min(max_tokens, settings.max_tokens_cap),
        sampling=_SAMPLING,
        n=min(suggestion.choices, settings.max_n),
        ignored=ignored,
        dialect="gitlab",
        generation=generation,
    )


def model_card(service: CompletionService, language: str | None) -> dict[str, Any]:
    """Return GitLab's description of the model."""
    return {"engine": "codegen", "name": service.settings.model, "lang": language}


def choices_of(result: CompletionResult, *, cut: bool) -> list[dict[str, Any]]:
    """Return the choices that have text; ``finish_reason`` is always "length", as GitLab's is.

    ``cut`` drops a last line that the token limit left incomplete, unless it is the only line.
    """
    texts = [without_incomplete_line(choice.text) if cut else choice.text for choice in result.choices]
    not_empty = [text for text in texts if text]
    return [{"text": text, "index": i, "finish_reason": "length"} for i, text in enumerate(not_empty)]


class RawText:
    """GitLab's stream of 2024: an event-stream header over plain text, without any framing."""

    def chunk(self, delta: Delta, result: CompletionResult) -> bytes:  # noqa: ARG002  -- the same for every dialect
        """Return the text itself."""
        return delta.text.encode()

    def end(self, result: CompletionResult) -> bytes:  # noqa: ARG002  -- the stream's end is the end
        """Return nothing: the connection's end is the only mark of the end."""
        return b""

    def failure(self, error: ApiError) -> bytes:  # noqa: ARG002  -- plain text has no place for an error
        """Return nothing, which breaks the connection: the editor would insert a message into the file."""
        return b""
