"""llama.cpp's own server routes: ``/completion`` (also ``/completions``) and ``/infill``.

``/completions`` without ``/v1`` belongs to llama.cpp here, as in its server; OpenAI's clients use
``/v1/completions``.
"""

import time
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from gateway.body import parse, read_json, request_schema
from gateway.completion.service import CompletionResult
from gateway.completion.types import Choice, CompletionRequest
from gateway.dialects.deps import CallerDep, GatewayDep, NamesDep
from gateway.dialects.llamacpp_body import CompletionBody, InfillBody, NativeBody, prompts_of, to_request
from gateway.errors import ApiError
from gateway.responses import json_response, sse
from gateway.text.output_sequence import Delta, TokenEntry
from gateway.text.prompt import Prompt

router = APIRouter()


@router.post("/completion", openapi_extra=request_schema(CompletionBody))
@router.post("/completions", openapi_extra=request_schema(CompletionBody))
async def completion(http: Request, caller: CallerDep, gateway: GatewayDep, names: NamesDep) -> Response:
    """Complete a prompt in llama.cpp's shape; a list of prompts gives a list of answers."""
    body = parse(CompletionBody, await read_json(http))
    names.resolve(body.model)
    prompts, several = prompts_of(body.prompt, gateway.settings)
    request = to_request(body, prompts, gateway.settings)
    shape = _Shape(body, names.served, request, several)
    if body.stream:
        return await gateway.streamed(http, caller, request, NativeWriter(shape))
    return await gateway.whole(http, caller, request, shape.documents)


@router.post("/infill", openapi_extra=request_schema(InfillBody))
async def infill(http: Request, caller: CallerDep, gateway: GatewayDep, names: NamesDep) -> Response:
    """Fill in between prefix and suffix; ``n_predict`` 0 warms a cache, which this engine has no use for."""
    body = parse(InfillBody, await read_json(http))
    names.resolve(body.model)
    files = [(extra.filename, extra.text) for extra in body.input_extra]
    prompt = Prompt(text=body.input_prefix + body.prompt, suffix=body.input_suffix, files=files)
    request = to_request(body, [prompt], gateway.settings)
    shape = _Shape(body, names.served, request, several=False)
    if request.max_tokens == 0 and not body.stream:
        return json_response(shape.selected(shape.document(Choice(0, finish_reason="length"), None)))
    if body.stream:
        return await gateway.streamed(http, caller, request, NativeWriter(shape))
    return await gateway.whole(http, caller, request, shape.documents)


def _nested(document: dict[str, Any], path: str) -> Any:  # noqa: ANN401  -- whatever stands there
    """Return the member at a path such as ``timings/prompt_n``; ``KeyError`` when there is none."""
    found: Any = document
    for key in path.split("/"):
        found = found[int(key)] if isinstance(found, list) and key.isdigit() else found[key]
    return found


@dataclass(frozen=True)
class _Shape:
    """How the answers to one request look."""

    body: NativeBody
    model: str
    request: CompletionRequest
    several: bool

    def documents(self, answer: CompletionResult) -> object:
        """Return one answer, or a list where the client sent a list."""
        found = [self.selected(self.document(choice, answer)) for choice in answer.choices]
        return found if self.several else found[0]

    def selected(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return only the ``response_fields``, under the paths they were asked by.

        Unknown paths are left out.
        """
        fields = self.body.response_fields
        if not fields:
            return document
        chosen = {}
        for path in fields[:64]:
            try:
                chosen[path] = _nested(document, path)
            except (KeyError, IndexError, TypeError):
                continue
        return chosen

    def document(self, choice: Choice, answer: CompletionResult | None) -> dict[str, Any]:
        """Return llama.cpp's result object."""
        prompt = answer.plan.prompts[choice.index] if answer else None
        evaluated = len(prompt.ids) if prompt else 0
        found = {
            "index": choice.index,
            "content": choice.text,
            "tokens": self.tokens(choice),
            "id_slot": 0,
            "stop": True,
            "model": self.model,
            "tokens_predicted": choice.tokens,
            "tokens_evaluated": evaluated,
            "tokens_cached": 0,
            "truncated": bool(prompt and prompt.truncated),
            "has_new_line": "\n" in choice.text,
            "stop_type": _stop_type(choice),
            "stopping_word": choice.stop or "",
            "generation_settings": self._settings(),
            "prompt": self.request.prompts[choice.index].text or "",
            "timings": self._timings(choice, evaluated, answer),
        }
        if self.body.n_probs:
            found["completion_probabilities"] = [_probability(entry) for entry in choice.entries]
        return found

    def tokens(self, piece: Choice | Delta) -> list[int]:
        """Return the generated ids where they were asked for."""
        return [entry.id for entry in piece.entries] if self.body.return_tokens else []

    def _settings(self) -> dict[str, Any]:
        sampling = self.request.sampling
        return {
            "n_predict": self.request.max_tokens,
            "seed": -1 if self.request.seed is None else self.request.seed,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "repeat_penalty": sampling.repetition_penalty,
            "stop": list(self.request.stops),
            "stream": self.body.stream,
        }

    def _timings(self, choice: Choice, evaluated: int, answer: CompletionResult | None) -> dict[str, float]:
        """Return counts, and the time of both phases together: the engine does not report them apart."""
        spent = (answer.engine_s or time.perf_counter() - answer.started) * 1000 if answer else 0.0
        return {
            "prompt_n": evaluated,
            "predicted_n": choice.tokens,
            "predicted_ms": spent,
            "predicted_per_token_ms": spent / choice.tokens if choice.tokens else 0.0,
            "predicted_per_second": choice.tokens / spent * 1000 if spent else 0.0,
        }


def _stop_type(choice: Choice) -> str:
    if choice.finish_reason == "length":
        return "limit"
    return "word" if choice.stop else "eos"


def _probability(entry: TokenEntry) -> dict[str, Any]:
    chosen = {
        "id": entry.id,
        "token": entry.text,
        "bytes": list(entry.text.encode()),
        "logprob": entry.logprob,
    }
    return {**chosen, "top_logprobs": [chosen]}


class NativeWriter:
    """llama.cpp's stream: ``content`` with ``stop: false``, then a result with ``stop: true``.

    Unlike OpenAI's it has no ``[DONE]``.
    """

    def __init__(self, shape: _Shape) -> None:
        self._shape = shape

    def chunk(self, delta: Delta, answer: CompletionResult) -> bytes:  # noqa: ARG002  -- the same for every dialect
        """Return one event for new text."""
        if not delta.text:
            return b""
        found: dict[str, Any] = {
            "index": delta.row,
            "content": delta.text,
            "tokens": self._shape.tokens(delta),
            "stop": False,
        }
        if self._shape.body.n_probs:
            found["completion_probabilities"] = [_probability(entry) for entry in delta.entries]
        return sse(found)

    def end(self, answer: CompletionResult) -> bytes:
        """Return the result objects, without the text that has been sent already."""
        return b"".join(
            sse({**self._shape.document(choice, answer), "content": "", "tokens": []})
            for choice in answer.choices
        )

    def failure(self, error: ApiError) -> bytes:
        """Return an error event."""
        return sse(error.envelope())
