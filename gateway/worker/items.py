"""The items of a job and their results: a text's scores, or a prompt's completions."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from gateway.body import parse
from gateway.completion.completer import best
from gateway.completion.types import CompletionRequest
from gateway.dialects.jobs import for_jobs
from gateway.dialects.openai import ended_by, logprobs_of
from gateway.dialects.openai_body import CompletionBody, to_request
from gateway.engine.base import ScoreRequest
from gateway.errors import invalid
from gateway.jobs.models import Kind
from gateway.telemetry.metrics import Metrics
from gateway.wiring import Components

Item = Callable[[float], Awaitable[dict[str, Any]]]
"""Processes one item within the given seconds and returns its result; raises ``ApiError``."""


def items(
    components: Components, metrics: Metrics, job_id: str, kind: Kind, request: dict[str, Any]
) -> Sequence[Item]:
    """Return a job's items; raises ``ApiError`` 400 for a request that cannot be read."""
    if kind == "score":
        return [_score_item(components, job_id, item) for item in request["items"]]
    body = parse(CompletionBody, request)
    completion = to_request(
        body, for_jobs(components.settings), metrics, legacy=False, has_fim=components.has_fim
    )
    return [
        _completion_item(components, job_id, replace(completion, prompts=[prompt]))
        for prompt in completion.prompts
    ]


def _score_item(components: Components, job_id: str, item: dict[str, str]) -> Item:
    async def work(seconds: float) -> dict[str, Any]:
        return await score(components, job_id, item["prompt"], item["text"], seconds)

    return work


def _completion_item(components: Components, job_id: str, request: CompletionRequest) -> Item:
    async def work(seconds: float) -> dict[str, Any]:
        return await complete(components, job_id, request, seconds)

    return work


async def score(
    components: Components, job_id: str, prompt: str, text: str, seconds: float
) -> dict[str, Any]:
    """Return the log probabilities of a text's tokens after a prompt; raises 400 for one that is too long.

    Prompt and text are tokenised separately, so that no token of the prompt is scored. Without a prompt the
    first token has null, as with OpenAI's ``echo``.
    """
    before = await components.tokenizer.encode_async(prompt) if prompt else []
    ids = await (
        components.tokenizer.encode_fragment(text) if before else components.tokenizer.encode_async(text)
    )
    start = max(1, len(before))
    if len(before) + len(ids) > components.context_length:
        raise invalid(
            f"Prompt and text have {len(before) + len(ids)} tokens and the model's context "
            f"{components.context_length}. Shorten the prompt, or split the text.",
            code="context_length_exceeded",
        )
    whole = [*before, *ids]
    scores: list[float | None] = [None] * (start - len(before))
    if len(whole) > start:
        scores += await components.engine.score(ScoreRequest(whole, start, seconds, job_id))
    sum_logprob = sum(value for value in scores if value is not None)
    return {
        "tokens": [components.tokenizer.decode_one(token) for token in ids],
        "token_logprobs": scores,
        "sum_logprob": sum_logprob,
        "usage": {"prompt_tokens": len(before), "text_tokens": len(ids), "total_tokens": len(whole)},
    }


async def complete(
    components: Components, job_id: str, request: CompletionRequest, seconds: float
) -> dict[str, Any]:
    """Return the choices for one prompt, in the format of ``/v1/completions``."""
    plan = await components.completer.plan(request, seconds, job_id, None)
    generated = await components.completer.run(plan)
    tokens = sum(choice.tokens for choice in generated)
    ended = next((ended_by(choice) for choice in generated if choice.expired), {})
    choices = [
        {
            "text": choice.text,
            "index": choice.index,
            "finish_reason": choice.finish_reason,
            "logprobs": logprobs_of(choice.entries) if request.logprobs is not None else None,
        }
        for choice in best(generated, request.n, request.rows)
    ]
    return {
        "choices": choices,
        "usage": {
            "prompt_tokens": plan.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": plan.prompt_tokens + tokens,
        },
        **ended,
    }
