"""What a job's items are and what comes of each: a text's scores, or a prompt's completions."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from gateway.body import parse
from gateway.completion.completer import best
from gateway.completion.types import CompletionRequest
from gateway.dialects.jobs import for_jobs
from gateway.dialects.openai import logprobs_of
from gateway.dialects.openai_body import CompletionBody, to_request
from gateway.engine.base import ScoreRequest
from gateway.errors import invalid
from gateway.jobs.models import Kind
from gateway.telemetry.metrics import Metrics
from gateway.wiring import Components

Item = Callable[[float], Awaitable[dict[str, Any]]]
"""Works on one item for at most so many seconds; raises ``ApiError``."""


def items(
    parts: Components, metrics: Metrics, job_id: str, kind: Kind, request: dict[str, Any]
) -> Sequence[Item]:
    """Return the work of a job, item by item; raises ``ApiError`` 400 for a request that cannot be read."""
    if kind == "score":
        return [_score_item(parts, job_id, item) for item in request["items"]]
    body = parse(CompletionBody, request)
    found = to_request(body, for_jobs(parts.settings), metrics, legacy=False, has_fim=parts.has_fim)
    return [_completion_item(parts, job_id, replace(found, prompts=[prompt])) for prompt in found.prompts]


def _score_item(parts: Components, job_id: str, item: dict[str, str]) -> Item:
    async def work(seconds: float) -> dict[str, Any]:
        return await score(parts, job_id, item["prompt"], item["text"], seconds)

    return work


def _completion_item(parts: Components, job_id: str, request: CompletionRequest) -> Item:
    async def work(seconds: float) -> dict[str, Any]:
        return await complete(parts, job_id, request, seconds)

    return work


async def score(parts: Components, job_id: str, prompt: str, text: str, seconds: float) -> dict[str, Any]:
    """Return the log probabilities of a text's tokens after a prompt; raises 400 for one that is too long.

    Prompt and text are tokenised apart, so that what is scored is the text and nothing of the prompt. Without
    a prompt the first token has null, as OpenAI's ``echo`` has it.
    """
    before = await parts.tokenizer.encode_async(prompt) if prompt else []
    ids = await (parts.tokenizer.encode_fragment(text) if before else parts.tokenizer.encode_async(text))
    start = max(1, len(before))
    if len(before) + len(ids) > parts.context_length:
        raise invalid(
            f"Prompt and text have {len(before) + len(ids)} tokens and the model's context "
            f"{parts.context_length}. Shorten the prompt, or split the text.",
            code="context_length_exceeded",
        )
    whole = [*before, *ids]
    scores: list[float | None] = [None] * (start - len(before))
    if len(whole) > start:
        scores += await parts.engine.score(ScoreRequest(whole, start, seconds, job_id))
    known = [value for value in scores if value is not None]
    return {
        "tokens": [parts.tokenizer.decode_one(token) for token in ids],
        "token_logprobs": scores,
        "sum_logprob": sum(known),
        "usage": {"prompt_tokens": len(before), "text_tokens": len(ids), "total_tokens": len(whole)},
    }


async def complete(
    parts: Components, job_id: str, request: CompletionRequest, seconds: float
) -> dict[str, Any]:
    """Return the choices for one prompt, each as ``/v1/completions`` has it."""
    plan = await parts.completer.plan(request, seconds, job_id, None)
    made = await parts.completer.run(plan)
    tokens = sum(choice.tokens for choice in made)
    choices = [
        {
            "text": choice.text,
            "index": choice.index,
            "finish_reason": choice.finish_reason,
            "logprobs": logprobs_of(choice.entries) if request.logprobs is not None else None,
        }
        for choice in best(made, request.n, request.rows)
    ]
    return {
        "choices": choices,
        "usage": {
            "prompt_tokens": plan.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": plan.prompt_tokens + tokens,
        },
    }
