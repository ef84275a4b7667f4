"""llama.cpp's own server routes: completions, infilling, and what its clients read about the model.

``/completions`` without ``/v1`` has llama.cpp's format, as in its server; OpenAI's clients use
``/v1/completions``.
"""

import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from gateway.body import Body, parse, read_json, request_schema
from gateway.completion.service import CompletionResult
from gateway.completion.types import Choice, CompletionRequest
from gateway.dialects.deps import CallerDep, NamesDep, ServiceDep, ids_prompt
from gateway.dialects.llamacpp_body import (
    InfillBody,
    NativeBody,
    NativeCompletionBody,
    prompts_of,
    to_request,
)
from gateway.dialects.openai import ended_by, model_list
from gateway.errors import ApiError, invalid
from gateway.responses import json_response, sse
from gateway.text.output_sequence import Delta, TokenEntry
from gateway.text.prompt import Prompt, no_fim
from gateway.text.tokenizer import in_thread

router = APIRouter()


class TokenizeBody(Body):
    """The body of ``/tokenize``."""

    content: str = ""
    with_pieces: bool = False


class DetokenizeBody(Body):
    """The body of ``/detokenize``."""

    tokens: Annotated[tuple[Any, ...], Field(max_length=262_144)] = ()


@router.post("/completion", openapi_extra=request_schema(NativeCompletionBody))
@router.post("/completions", openapi_extra=request_schema(NativeCompletionBody))
async def completion(http: Request, caller: CallerDep, service: ServiceDep, names: NamesDep) -> Response:
    """Complete a prompt in llama.cpp's format; a list of prompts gives a list of results."""
    body = parse(NativeCompletionBody, await read_json(http))
    names.resolve(body.model)
    prompts, several = prompts_of(body.prompt, service.settings)
    request = to_request(body, prompts, service.settings)
    results = _ResultFormat(body, names.served, request, several)
    if body.stream:
        return await service.stream(http, caller, request, NativeWriter(results))
    return await service.complete(http, caller, request, results.documents)


@router.post("/infill", openapi_extra=request_schema(InfillBody))
async def infill(http: Request, caller: CallerDep, service: ServiceDep, names: NamesDep) -> Response:
    """Fill in between prefix and suffix; ``n_predict`` 0, which warms llama.cpp's cache, does nothing.

    Raises 400 for a suffix that the model cannot use.
    """
    body = parse(InfillBody, await read_json(http))
    names.resolve(body.model)
    if body.input_suffix and not http.app.state.has_fim:
        raise no_fim("input_suffix")
    files = [(extra.filename, extra.text) for extra in body.input_extra]
    prompt = Prompt(text=body.input_prefix + body.prompt, suffix=body.input_suffix, files=files)
    request = to_request(body, [prompt], service.settings)
    results = _ResultFormat(body, names.served, request, several=False)
    if request.max_tokens == 0 and not body.stream:
        return json_response(results.selected(results.document(Choice(0, finish_reason="length"), None)))
    if body.stream:
        return await service.stream(http, caller, request, NativeWriter(results))
    return await service.complete(http, caller, request, results.documents)


@router.get("/models")
async def models(http: Request, names: NamesDep) -> Response:
    """List the served model, of which the name is public: no key is needed, as in llama.cpp's server."""
    return json_response(model_list(http, names))


@router.get("/props")
async def properties(http: Request, _: CallerDep, service: ServiceDep, names: NamesDep) -> Response:
    """Return the properties that llama.vscode and llama.vim read before their first request."""
    context: int = http.app.state.context_length
    return json_response(
        {
            "default_generation_settings": {"id": 0, "n_ctx": context, "is_processing": False},
            "total_slots": service.settings.max_in_flight,
            "model_path": names.served,
            "model_alias": names.served,
            "is_sleeping": False,
        }
    )


@router.post("/tokenize")
async def tokenize(http: Request, _: CallerDep, service: ServiceDep) -> Response:
    """Return a text's token ids; control tokens in it are encoded as text."""
    body = parse(TokenizeBody, await read_json(http))
    tokenizer = service.completer.tokenizer
    ids = await tokenizer.encode_async(body.content) if body.content else []
    if not body.with_pieces:
        return json_response({"tokens": ids})
    # A million tokens take a second.
    pieces = await in_thread(lambda: [{"id": token, "piece": tokenizer.decode_one(token)} for token in ids])
    return json_response({"tokens": pieces})


@router.post("/detokenize")
async def detokenize(http: Request, _: CallerDep, service: ServiceDep) -> Response:
    """Return the text of token ids; raises 400 for ids that do not exist."""
    tokenizer = service.completer.tokenizer
    body = parse(DetokenizeBody, await read_json(http))
    ids = list(ids_prompt(list(body.tokens)).ids or ())
    if any(not 0 <= token < tokenizer.vocab_size for token in ids):
        raise invalid(f"Token ids go from 0 to {tokenizer.vocab_size - 1}.", "tokens")
    return json_response({"content": tokenizer.decode(ids)})


def _nested(document: dict[str, Any], path: str) -> Any:  # noqa: ANN401  -- whatever the member is
    """Return the member at a path such as ``timings/prompt_n``.

    Raises ``KeyError``, ``IndexError`` or ``TypeError`` where there is none.
    """
    member: Any = document
    for key in path.split("/"):
        member = member[int(key)] if isinstance(member, list) and key.isdigit() else member[key]
    return member


@dataclass(frozen=True)
class _ResultFormat:
    """The format of the results of one request; ``several``: the client sent a list of prompts."""

    body: NativeBody
    model: str
    request: CompletionRequest
    several: bool

    def documents(self, result: CompletionResult) -> object:
        """Return one result, or a list where the client sent a list."""
        documents = [self.selected(self.document(choice, result)) for choice in result.choices]
        return documents if self.several else documents[0]

    def selected(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return only the ``response_fields``, under the paths of the request, without unknown ones."""
        fields = self.body.response_fields
        if not fields:
            return document
        selected = {}
        for path in fields[:64]:
            try:
                selected[path] = _nested(document, path)
            except (KeyError, IndexError, TypeError):
                continue
        return selected

    def document(self, choice: Choice, result: CompletionResult | None) -> dict[str, Any]:
        """Return llama.cpp's result object."""
        prompt = result.plan.prompts[choice.index] if result else None
        evaluated = len(prompt.ids) if prompt else 0
        document = {
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
            "timings": self._timings(choice, evaluated, result),
        }
        if self.body.n_probs:
            document["completion_probabilities"] = [_probability(entry) for entry in choice.entries]
        return document

    def tokens(self, piece: Choice | Delta) -> list[int]:
        """Return the generated ids where the client asked for them."""
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

    def _timings(self, choice: Choice, evaluated: int, result: CompletionResult | None) -> dict[str, float]:
        """Return counts, and the time of both phases together: the engine does not report them separately."""
        spent = (result.engine_s or time.perf_counter() - result.started) * 1000 if result else 0.0
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

    Unlike OpenAI's stream it has no ``[DONE]``.
    """

    def __init__(self, results: _ResultFormat) -> None:
        self._results = results

    def chunk(self, delta: Delta, result: CompletionResult) -> bytes:  # noqa: ARG002  -- the same for every dialect
        """Return one event for new text."""
        if not delta.text:
            return b""
        event: dict[str, Any] = {
            "index": delta.row,
            "content": delta.text,
            "tokens": self._results.tokens(delta),
            "stop": False,
        }
        if self._results.body.n_probs:
            event["completion_probabilities"] = [_probability(entry) for entry in delta.entries]
        return sse(event)

    def end(self, result: CompletionResult) -> bytes:
        """Return the result objects, without the text, which has been sent already."""
        return b"".join(
            sse({**self._results.document(choice, result), "content": "", "tokens": [], **ended_by(choice)})
            for choice in result.choices
        )

    def failure(self, error: ApiError) -> bytes:
        """Return an error event."""
        return sse(error.envelope())
