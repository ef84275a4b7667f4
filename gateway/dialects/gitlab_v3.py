"""GitLab's ``/v3/code/completions`` and ``/v4/code/suggestions``: suggestions requested in components."""

import time
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.body import UnprocessableError, parse_gitlab, read_gitlab, request_schema
from gateway.caller import Caller
from gateway.completion.service import CompletionResult, CompletionService
from gateway.dialects import gitlab
from gateway.dialects.deps import CallerDep, ServiceDep
from gateway.dialects.gitlab_body import ComponentsBody, ContextComponent, EditorComponent
from gateway.dialects.openai import ended_by
from gateway.errors import ApiError
from gateway.text.output_sequence import Delta

router = APIRouter()
_SCHEMA = request_schema(ComponentsBody)
_CONTEXT = "code_context"


@router.post("/v3/code/completions", openapi_extra=_SCHEMA)
async def completions(http: Request, caller: CallerDep, service: ServiceDep) -> Response:
    """Suggest code from prompt components; a stream is plain text."""
    return await _suggest(http, caller, service, framed=False)


@router.post("/v4/code/suggestions", openapi_extra=_SCHEMA)
async def suggestions(http: Request, caller: CallerDep, service: ServiceDep) -> Response:
    """Suggest code from prompt components; a stream has named events."""
    return await _suggest(http, caller, service, framed=True)


async def _suggest(http: Request, caller: Caller, service: CompletionService, *, framed: bool) -> Response:
    editor, suggestion = _suggestion(parse_gitlab(ComponentsBody, await read_gitlab(http)))
    request = gitlab.to_request(http, service, suggestion)
    card = gitlab.model_card(service, suggestion.language)

    def metadata() -> dict[str, Any]:
        return {"model": card, "timestamp": int(time.time())}

    if editor.payload.stream and framed:
        writer = NamedEvents(metadata())
        return await service.stream(http, caller, request, writer, {"X-Streaming-Format": "sse"})
    if editor.payload.stream:
        return await service.stream(http, caller, request, gitlab.RawText())
    cut = not suggestion.generation

    def render(result: CompletionResult) -> dict[str, Any]:
        return {"choices": gitlab.choices_of(result, cut=cut), "metadata": metadata()}

    return await service.complete(http, caller, request, render)


def _suggestion(body: ComponentsBody) -> tuple[EditorComponent, gitlab.Suggestion]:
    """Return the first editor component and its suggestion, with the context components as other files.

    Raises GitLab's 422 where no component is the editor's.
    """
    files, editors = [], []
    for component in body.prompt_components:
        document = {"type": component.type, "payload": component.payload}
        if component.type == _CONTEXT:
            item = parse_gitlab(ContextComponent, document).payload
            files.append((item.name, item.content))
        else:
            editors.append(parse_gitlab(EditorComponent, document))
    if not editors:
        detail = [
            {
                "type": "value_error",
                "loc": ["body", "prompt_components"],
                "msg": "One component must be code_editor_completion or code_editor_generation",
            }
        ]
        raise UnprocessableError(422, "No editor component.", detail=detail)
    editor = editors[0]
    generation = editor.type == "code_editor_generation"
    return editor, gitlab.of_payload(editor.payload, files, generation=generation)


class NamedEvents:
    """``stream_start``, ``content_chunk`` and ``stream_end``, the ``event:`` line first."""

    def __init__(self, metadata: dict[str, Any]) -> None:
        self._metadata: dict[str, Any] | None = metadata

    def chunk(self, delta: Delta, result: CompletionResult) -> bytes:  # noqa: ARG002  -- the same for every dialect
        """Return a chunk's event, after the start event for the first."""
        start = self._start()
        if not delta.text:
            return start
        choice = {"delta": {"content": delta.text}, "index": delta.row}
        return start + _event("content_chunk", {"choices": [choice]})

    def end(self, result: CompletionResult) -> bytes:
        """Return the end event."""
        return self._start() + _event("stream_end", ended_by(result) or None)

    def failure(self, error: ApiError) -> bytes:
        """Return an error event and the end event."""
        return self._start() + _event("error", {"detail": error.message}) + _event("stream_end", None)

    def _start(self) -> bytes:
        """Return the start event once."""
        metadata, self._metadata = self._metadata, None
        return b"" if metadata is None else _event("stream_start", {"metadata": metadata})


def _event(name: str, data: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
