"""The latencies of requests: equal for every engine, by model, dialect, kind and outcome."""

import contextlib
import itertools
from collections.abc import AsyncIterator

import grpc
import httpx
import pytest
from fastapi import FastAPI
from tritonclient.grpc import service_pb2_grpc

from gateway.app import create_app
from gateway.engine.openai import OpenAIEngine
from gateway.engine.triton import TritonEngine
from gateway.errors import ApiError
from gateway.telemetry.latency import SECONDS
from gateway.telemetry.measurement import outcome_of
from tests.gateway.conftest import settings
from tests.gateway.dialects.test_chat import model_folder
from tests.gateway.engine.test_openai import choice, sse
from tests.gateway.scripted_triton import FakeTriton, Script

DURATION = "gen_ai_server_request_duration_seconds"
FIRST = "gen_ai_server_time_to_first_token_seconds"
TOKEN = "gen_ai_server_time_per_output_token_seconds"
QUEUE = "assist_queue_duration_seconds"
FIM = "<p>{prefix}<s>{suffix}<m>"
ASKED = {"prompt": "def f(x):", "max_tokens": 3, "temperature": 0.5}
FILE = {"file_name": "a.py", "content_above_cursor": "def f():\n", "content_below_cursor": "\n"}
# path, body, dialect, kind
REQUESTS = [
    ("/v1/completions", ASKED, "openai", "completion"),
    ("/v1/completions", {**ASKED, "suffix": "\n"}, "openai", "infill"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 3}, "openai", "chat"),
    ("/v1/fim/completions", {**ASKED, "suffix": "\n"}, "mistral", "infill"),
    ("/v1/engines/codegen/completions", ASKED, "fauxpilot", "completion"),
    ("/v2/code/completions", {"current_file": FILE, "prompt_version": 1}, "gitlab", "infill"),
    ("/v2/code/generations", {"current_file": FILE, "prompt_version": 1}, "gitlab", "generation"),
    ("/completion", {"prompt": "def f(x):", "n_predict": 3}, "llamacpp", "completion"),
    ("/infill", {"input_prefix": "def f(x):", "input_suffix": "\n", "n_predict": 3}, "llamacpp", "infill"),
]  # fmt: skip


@contextlib.asynccontextmanager
async def app_of(engine, folder, **changes) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    app = create_app(settings(model_dir=folder, model="m", fim_template=FIM, **changes), engine)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield app, client
    await engine.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("chat"))


@contextlib.asynccontextmanager
async def triton_engine(tokenizer) -> AsyncIterator[TritonEngine]:
    names = ("fastertransformer", "fastertransformer_stream")
    script = Script(text="return x", models=names, decoupled=names[1:], row_streams=True)
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(FakeTriton(script, tokenizer), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield TritonEngine(f"127.0.0.1:{port}", 50256)
    await server.stop(None)


BODY = sse(choice("return"), choice(" x"), choice("", "stop"))


def openai_engine(*, status: int = 200, body: bytes = BODY, seen: list | None = None) -> OpenAIEngine:
    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(dict(request.headers))
        return httpx.Response(status, content=body)

    return OpenAIEngine("http://server/v1", "m", transport=httpx.MockTransport(answer))


def counts(app: FastAPI, name: str) -> dict[tuple[str, ...], float]:
    registry = app.state.edge.metrics.registry
    family = next(each for each in registry.collect() if each.name == name)
    return {
        tuple(each.labels[label] for label in ("model", "dialect", "kind", "outcome")): each.value
        for each in family.samples
        if each.name.endswith("_count")
    }


async def ask_all(client: httpx.AsyncClient, *, stream: bool) -> None:
    for path, body, _, _ in REQUESTS:
        answer = await client.post(path, json={**body, "stream": stream})
        assert answer.status_code == 200, (path, answer.text)


async def test_every_dialect_is_measured_alike_with_triton_and_with_an_openai_server(folder):
    seen = []
    async with contextlib.AsyncExitStack() as stack:
        app, client = await stack.enter_async_context(app_of(openai_engine(), folder, recent_answers_s=0))
        tokenizer = app.state.completion_service.completer.tokenizer
        engine = await stack.enter_async_context(triton_engine(tokenizer))
        other = await stack.enter_async_context(app_of(engine, folder, recent_answers_s=0))
        for this_app, this_client in ((app, client), other):
            await ask_all(this_client, stream=False)
            await ask_all(this_client, stream=True)
            seen.append({name: counts(this_app, name) for name in (DURATION, FIRST, TOKEN, QUEUE)})
    assert seen[0] == seen[1]
    expected = {("m", dialect, kind, "ok") for _, _, dialect, kind in REQUESTS}
    for name in (DURATION, FIRST, TOKEN, QUEUE):
        assert set(seen[0][name]) == expected
    both = seen[0][DURATION][("m", "llamacpp", "infill", "ok")]
    assert (both, seen[0][FIRST][("m", "llamacpp", "infill", "ok")]) == (
        2,
        1,
    )  # a whole answer has no first token


async def test_a_failed_engine_a_bad_request_and_a_full_queue_have_outcomes_of_their_own(folder):
    async with app_of(openai_engine(status=500), folder) as (app, client):
        assert (await client.post("/v1/completions", json=ASKED)).status_code == 502
        long = {**ASKED, "prompt": [1] * 100_000, "truncate_prompt_tokens": None}
        await client.post("/v1/completions", json=long)
        assert counts(app, DURATION)[("m", "openai", "completion", "unavailable")] >= 1
        assert counts(app, FIRST) == {}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ApiError(400, ""), "invalid"),
        (ApiError(429, ""), "limited"),
        (ApiError(499, ""), "replaced"),
        (ApiError(502, ""), "unavailable"),
        (ApiError(503, "", code="overloaded"), "overloaded"),
        (ApiError(503, "", code="timeout"), "timeout"),
        (ApiError(503, "", code="upstream_unavailable"), "unavailable"),
        (ApiError(504, ""), "timeout"),
        (ApiError(500, ""), "error"),
        (ValueError(), "error"),
        (GeneratorExit(), "cancelled"),
    ],
)
def test_each_failure_has_its_outcome(error, outcome):
    assert outcome_of(error) == outcome


async def test_an_exemplar_carries_the_request_id_in_openmetrics_alone(folder):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with (
        app_of(openai_engine(), folder, metrics_port=0) as (app, client),
        app.router.lifespan_context(app),
    ):
        headers = {"x-request-id": "find-me-1", "traceparent": trace}
        await client.post("/v1/completions", json={**ASKED, "stream": True}, headers=headers)
        await client.post("/v1/completions", json=ASKED, headers={"x-request-id": "x" * 128})
        url = f"http://127.0.0.1:{app.state.edge.metrics_server.port}/metrics"
        async with httpx.AsyncClient() as outside:
            plain = (await outside.get(url)).text
            asked = {"accept": "application/openmetrics-text; version=1.0.0"}
            answer = await outside.get(url, headers=asked)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert "find-me-1" not in plain
    lines = [line for line in answer.text.splitlines() if "find-me-1" in line]
    assert any(line.startswith(f"{FIRST}_bucket") for line in lines)
    assert all('trace_id="0af7651916cd43dd8448eb211c80319c"' in line for line in lines)
    assert answer.text.endswith("# EOF\n")
    for text in (plain, answer.text):  # the same names in both
        assert "\nvllm:num_requests_running 0.0\n" in text
    assert "_created" not in answer.text


def test_the_bounds_resolve_20_ms_to_60_s():
    assert (SECONDS[0], SECONDS[-1]) == (0.02, 60.0)
    assert all(upper / lower <= 2 for lower, upper in itertools.pairwise(SECONDS) if lower < 5)
    assert sum(bound <= 0.3 for bound in SECONDS) >= 8
