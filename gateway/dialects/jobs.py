"""``/v1/jobs``: texts to score and prompts to complete, with results that the caller fetches later."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from gateway.body import Body, parse, read_json, request_schema
from gateway.completion.service import CompletionService
from gateway.dialects.deps import CallerDep, NamesDep, ServiceDep
from gateway.dialects.openai_body import CompletionBody, to_request
from gateway.errors import ApiError, invalid, too_large
from gateway.responses import json_response
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.jobs.service import JobService

router = APIRouter()
_ACCEPTED = 202


class ScoreItem(Body):
    """A text to score after a prompt; without a prompt the text's first token has no score."""

    prompt: str = ""
    text: Annotated[str, Field(min_length=1)]


class JobBody(Body):
    """A job: score ``items``, or complete ``request``, a body of ``/v1/completions``."""

    type: Literal["score", "completion"]
    items: list[ScoreItem] | None = None
    request: dict[str, Any] | None = None


_SCHEMA = request_schema(JobBody)


async def _job_service(request: Request) -> "JobService":
    service: JobService | None = request.app.state.job_service
    if service is None:
        raise ApiError(
            404,
            "Jobs are not enabled on this gateway. Send each text to /v1/completions, or ask the "
            "administrator to set jobs.enabled in the stack.",
            code="jobs_not_offered",
        )
    return service


JobServiceDep = Annotated["JobService", Depends(_job_service)]


@router.post("/v1/jobs", openapi_extra=_SCHEMA)
async def submit(
    http: Request, caller: CallerDep, job_service: JobServiceDep, service: ServiceDep, names: NamesDep
) -> Response:
    """Accept a job with 202 and its id. Raises ``ApiError`` 400, 413, 429 or 503 for one that it refuses."""
    await service.admission.admit(caller)
    settings = service.settings
    if len(await http.body()) > settings.jobs_max_bytes:
        raise too_large(settings.jobs_max_bytes)
    body = parse(JobBody, await read_json(http))
    if body.type == "score":
        items, request = _scores(body, settings)
    else:
        items, request = _completions(http, body, service)
        names.resolve(request["model"] if isinstance(request.get("model"), str) else None)
    document = await job_service.submit(caller.id, body.type, items, request)
    return json_response(document, _ACCEPTED, {"Location": f"/v1/jobs/{document['id']}"})


@router.get("/v1/jobs")
async def listed(caller: CallerDep, job_service: JobServiceDep) -> Response:
    """List the key's jobs, newest first."""
    return json_response(await job_service.list(caller.id))


@router.get("/v1/jobs/{job_id}")
async def job(job_id: str, caller: CallerDep, job_service: JobServiceDep) -> Response:
    """Return a job with the results so far."""
    return json_response(await job_service.get(caller.id, job_id))


@router.post("/v1/jobs/{job_id}/cancel")
async def cancel(job_id: str, caller: CallerDep, job_service: JobServiceDep) -> Response:
    """Stop a job; the results so far stay."""
    return json_response(await job_service.cancel(caller.id, job_id))


@router.delete("/v1/jobs/{job_id}")
async def delete(job_id: str, caller: CallerDep, job_service: JobServiceDep) -> Response:
    """Stop a job and delete all of it."""
    return json_response(await job_service.delete(caller.id, job_id))


def _scores(body: JobBody, settings: Settings) -> tuple[int, dict[str, Any]]:
    if body.request is not None:
        raise invalid("request belongs to type completion; a score job has items.", "request")
    if not body.items:
        raise invalid('items is missing. Send [{"prompt": "...", "text": "..."}].', "items")
    _check_count(len(body.items), "items", settings)
    return len(body.items), {"items": [item.model_dump() for item in body.items]}


def _completions(http: Request, body: JobBody, service: CompletionService) -> tuple[int, dict[str, Any]]:
    """Check the request as ``/v1/completions`` would, so that an error is reported now, not in the result."""
    if body.items is not None:
        raise invalid("items belongs to type score; a completion job has a request.", "items")
    if body.request is None:
        raise invalid('request is missing. Send the body of /v1/completions: {"prompt": [...]}.', "request")
    completion = parse(CompletionBody, body.request)
    if completion.stream:
        raise invalid("Jobs do not support streaming; remove `stream`.", "stream")
    settings = for_jobs(service.settings)
    request = to_request(completion, settings, service.metrics, legacy=False, has_fim=http.app.state.has_fim)
    _check_count(len(request.prompts) * request.rows, "request", settings)
    return len(request.prompts), body.request


def for_jobs(settings: Settings) -> Settings:
    """Return the settings with a job's limits on prompts and completions."""
    return settings.model_copy(
        update={"max_prompts": settings.jobs_max_items, "max_rows": settings.jobs_max_items}
    )


def _check_count(count: int, param: str, settings: Settings) -> None:
    if count > settings.jobs_max_items:
        raise invalid(
            f"A job may hold {settings.jobs_max_items} items and this has {count}. Send several jobs.", param
        )
