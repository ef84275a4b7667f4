"""An engine that is slower than the deadline: every dialect answers with what there is, and the engine stops."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client import generate_latest
from tritonclient.grpc import service_pb2_grpc

from gateway.app import create_app
from gateway.completion.service import CompletionResult
from gateway.engine.base import Engine
from gateway.engine.openai import OpenAIEngine
from gateway.engine.triton import TritonEngine
from testing.until import until_async
from tests.gateway.conftest import settings
from tests.gateway.dialects.test_chat import model_folder
from tests.gateway.engine.test_openai import choice, sse
from tests.gateway.scripted_triton import FakeTriton, Script

TEXT = "return left + right"
PROMPT = {"prompt": "def add(left, right):\n    "}
FILE = {"file_name": "a.py", "content_above_cursor": "def f():\n", "content_below_cursor": ""}
SUGGESTION = {"current_file": FILE, "prompt_version": 1}
COMPONENTS = {"prompt_components": [{"type": "code_editor_completion", "payload": FILE}]}


@dataclass
class Held:
    """An engine that generates ``tokens`` of TEXT for each request and then nothing more until it is stopped."""

    engine: Engine
    pieces: list[str]
    stopped: Callable[[], int]
    tokens: int = 3
    set_tokens: Callable[[int], None] = field(default=lambda _: None)

    @property
    def text(self) -> str:
        return "".join(self.pieces[: self.tokens])


class HeldServer:
    """An OpenAI-compatible server for ``OpenAIEngine``."""

    def __init__(self) -> None:
        self.pieces, self.tokens, self.stopped = ["return", " left", " +"], 3, 0

    async def _stream(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces[: self.tokens]:
                yield sse(choice(piece), done=False)
            await asyncio.Event().wait()
        finally:
            self.stopped += 1

    def answer(self, _: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=self._stream())


@pytest.fixture(params=["triton", "openai"])
async def held(request, tiny) -> AsyncIterator[Held]:
    if request.param == "openai":
        server = HeldServer()
        engine = OpenAIEngine("http://server/v1", "m", transport=httpx.MockTransport(server.answer))
        yield Held(
            engine, server.pieces, lambda: server.stopped,
            set_tokens=lambda count: setattr(server, "tokens", count),
        )  # fmt: skip
        return
    models = ("fastertransformer", "fastertransformer_stream")
    script = Script(TEXT, models=models, decoupled=models[1:], row_streams=True, held_after=3)
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(FakeTriton(script, tiny), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pieces = [tiny.decode_one(token) for token in tiny.encode(TEXT)]
    yield Held(
        TritonEngine(f"127.0.0.1:{port}", tiny.eos_id), pieces, lambda: script.cancelled,
        set_tokens=lambda count: setattr(script, "held_after", count),
    )  # fmt: skip
    await server.stop(None)


@pytest.fixture
def deadline_s() -> float:
    """Return seconds that three tokens without work behind them never need."""
    return 8.0


@pytest.fixture
async def client(held, deadline_s, tmp_path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings(model_dir=model_folder(tmp_path), deadline_s=deadline_s), held.engine)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://g", timeout=60) as made:
        made.app = app
        yield made
    await app.state.completion_service.completer.close()


def of_openai(answer: dict[str, Any]) -> tuple[str, str, int]:
    (only,) = answer["choices"]
    return only["text"], only["finish_reason"], answer["usage"]["completion_tokens"]


def of_chat(answer: dict[str, Any]) -> tuple[str, str, int]:
    (only,) = answer["choices"]
    return only["message"]["content"], only["finish_reason"], answer["usage"]["completion_tokens"]


def of_llama(answer: dict[str, Any]) -> tuple[str, str, int]:
    reason = {"limit": "length"}.get(answer["stop_type"], answer["stop_type"])
    return answer["content"], reason, answer["tokens_predicted"]


def of_gitlab(answer: dict[str, Any]) -> tuple[str, str, int]:
    (only,) = answer["choices"]
    return only["text"], only["finish_reason"], 3


CHAT = {"messages": [{"role": "user", "content": "A function that adds"}]}
LONG = PROMPT | {"max_tokens": 500}
WHOLE = {
    "/v1/completions": (LONG, of_openai),
    "/v1/engines/codegen/completions": (LONG, of_openai),
    "/v1/engines/copilot-codex/completions": (LONG, of_openai),
    "/v1/chat/completions": (CHAT, of_chat),
    "/v1/fim/completions": (LONG, of_chat),
    "/completion": (PROMPT, of_llama),
    "/infill": ({"input_prefix": "def add(left, right):\n", "input_suffix": ""}, of_llama),
    "/v2/completions": (SUGGESTION, of_gitlab),
    "/v2/code/completions": (SUGGESTION, of_gitlab),
    "/v2/code/generations": (SUGGESTION, of_gitlab),
    "/v3/code/completions": (COMPONENTS, of_gitlab),
    "/v4/code/suggestions": (COMPONENTS, of_gitlab),
}


def metric(client: httpx.AsyncClient, name: str) -> float:
    lines = generate_latest(client.app.state.completion_service.metrics.registry).decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


async def test_a_whole_answer_is_what_there_is_at_the_deadline(client, held):
    answers = await asyncio.gather(*(client.post(path, json=body) for path, (body, _) in WHOLE.items()))
    for (path, (_, read)), answer in zip(WHOLE.items(), answers, strict=True):
        assert answer.status_code == 200, (path, answer.text)
        assert read(answer.json()) == (held.text, "length", 3), path
        assert answer.headers["x-assist-ended-by"] == "deadline", path
    await until_async(lambda: held.stopped() == len(WHOLE))
    assert metric(client, "assist_completions_expired_total") == len(WHOLE)
    assert metric(client, "vllm:generation_tokens_total") == 3 * len(WHOLE)
    assert metric(client, "vllm:num_requests_running") == 0


def openai_end(text: str) -> tuple[str, list[str | None], dict[str, Any]]:
    """Return an event stream's text, its finish reasons, and the event that ended its choice."""
    *lines, done = text.strip().split("\n\n")
    assert done == "data: [DONE]"
    found = [json.loads(line.removeprefix("data: ")) for line in lines]
    parts = [event["choices"][0] for event in found if event["choices"]]
    said = "".join(part["text"] if "text" in part else part["delta"].get("content", "") for part in parts)
    return said, parts[-1]["finish_reason"], next(event for event in found if "ended_by" in event)


async def test_a_stream_ends_at_the_deadline_and_its_last_event_says_so(client, held):
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    bodies = {
        "/v1/completions": LONG | usage,
        "/v1/engines/codegen/completions": LONG | usage,
        "/v1/chat/completions": CHAT | usage,
        "/v1/fim/completions": LONG | {"stream": True},
    }
    native = {"/completion": PROMPT, "/infill": {"input_prefix": "x = ", "input_suffix": ""}}
    plain = {"/v2/code/generations": SUGGESTION | {"stream": True}}
    payload = {"type": "code_editor_completion", "payload": FILE | {"stream": True}}
    named = {"/v4/code/suggestions": {"prompt_components": [payload]}}
    streams = bodies | {path: body | {"stream": True} for path, body in native.items()} | plain | named
    sent = await asyncio.gather(*(client.post(path, json=body) for path, body in streams.items()))
    answers = dict(zip(streams, sent, strict=True))
    assert {answer.status_code for answer in sent} == {200}
    for path in bodies:
        said, reason, last = openai_end(answers[path].text)
        assert (said, reason, last["ended_by"]) == (held.text, "length", "deadline"), path
        if path != "/v1/fim/completions":
            assert '"completion_tokens":3,' in answers[path].text
    for path in native:
        *parts, last = [
            json.loads(line.removeprefix("data: ")) for line in answers[path].text.strip().split("\n\n")
        ]
        assert "".join(part["content"] for part in parts) == held.text
        assert (last["stop_type"], last["ended_by"], last["tokens_predicted"]) == ("limit", "deadline", 3)
    assert answers["/v2/code/generations"].text == held.text
    assert 'event: stream_end\ndata: {"ended_by":"deadline"}' in answers["/v4/code/suggestions"].text
    await until_async(lambda: held.stopped() == len(streams))
    assert metric(client, "assist_completions_expired_total") == len(streams)


@pytest.mark.parametrize("deadline_s", [0.5])
async def test_without_a_token_the_deadline_is_a_504_streamed_or_not(client, held):
    held.set_tokens(0)
    bodies = (LONG, LONG | {"stream": True}, LONG | {"prompt": ["a", "b"]}, LONG | {"echo": True})
    answers = await asyncio.gather(*(client.post("/v1/completions", json=body) for body in bodies))
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    assert metric(client, "assist_completions_expired_total") == 0


async def test_several_prompts_and_choices_all_end_together(client, held):
    several = LONG | {"prompt": ["def f(x):", "def g(x):"]}
    answer = await client.post("/v1/completions", json=several)
    assert [(each["text"], each["finish_reason"]) for each in answer.json()["choices"]] == [
        (held.text, "length")
    ] * 2
    assert answer.json()["usage"]["completion_tokens"] == 6


async def test_a_stream_that_ends_in_time_says_nothing_of_a_deadline(client):
    answer = await client.post("/v1/completions", json=LONG | {"stop": ["ft"], "stream": True})
    assert '"finish_reason":"stop"' in answer.text
    assert "ended_by" not in answer.text


async def test_a_client_that_leaves_a_whole_answer_is_charged_what_was_generated(client, held, monkeypatch):
    counted, count = [], CompletionResult.count
    monkeypatch.setattr(
        CompletionResult, "count", lambda result, tokens: counted.append(tokens) or count(result, tokens)
    )
    charged, admission = [], client.app.state.completion_service.admission
    monkeypatch.setattr(admission, "charge", lambda _, tokens: _charged(charged, tokens))
    asked = asyncio.create_task(client.post("/v1/completions", json=LONG))
    await until_async(lambda: sum(counted) == 3)
    asked.cancel()
    await until_async(lambda: metric(client, "assist_requests_cancelled_total") == 1)
    assert metric(client, "assist_tokens_wasted_total") == 3
    (tokens,) = charged
    assert tokens > 3
    await until_async(lambda: held.stopped() == 1)


async def _charged(charged: list[int], tokens: int) -> None:
    charged.append(tokens)
