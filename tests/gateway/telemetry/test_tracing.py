"""Traces: off by default, never with text, and never in the way of a request."""

import contextlib
import gzip
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from gateway.telemetry.tracing import Tracing
from testing.until import until_async
from tests.gateway.engine.test_openai import choice, sse
from tests.gateway.telemetry.test_latency import ASKED, REQUESTS, app_of, folder, openai_engine

__all__ = ["folder"]
SECRET = "hunter2-secret-canary"
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector:
    """An OTLP collector that keeps what it gets."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        received = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                received.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def spans(self) -> list:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def with_secret(value: object) -> object:
    """Return a body with the secret in each of its texts that a client writes, beside the code."""
    if isinstance(value, dict):
        return {key: item if key in {"role"} else with_secret(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_secret(item) for item in value]
    return f"{SECRET} {value}" if isinstance(value, str) else value


async def test_no_span_has_any_text_of_a_prompt_an_answer_or_a_stop(folder, collector):
    engine = openai_engine(body=sse(choice(SECRET), choice(" x"), choice("", "stop")))
    async with (
        app_of(engine, folder, otlp_endpoint=collector.url, recent_answers_s=0) as (app, client),
        app.router.lifespan_context(app),
    ):
        for path, body, _, _ in REQUESTS:
            for stream in (False, True):
                planted = {**with_secret(body), "stream": stream}
                if path.startswith("/v1"):
                    planted |= {"stop": [SECRET[::-1]], "user": SECRET}
                answer = await client.post(path, json=planted, params={"q": SECRET})
                assert answer.status_code == 200, answer.text
                assert stream or SECRET in answer.text
    roots = [span for span in collector.spans if not span.parent_span_id]
    assert len(roots) == 2 * len(REQUESTS)
    sent = b"".join(collector.bodies)
    for text in (SECRET, SECRET[::-1], "def f"):
        assert text.encode() not in sent


async def test_a_span_has_the_callers_trace_the_conventions_attributes_and_the_requests_parts(
    folder, collector
):
    seen: list[dict] = []
    async with (
        app_of(openai_engine(seen=seen), folder, otlp_endpoint=collector.url) as (app, client),
        app.router.lifespan_context(app),
    ):
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "find-me"}
        await client.post("/v1/completions", json=ASKED, headers=headers)
    by_name = {span.name: span for span in collector.spans}
    root = by_name["text_completion m"]
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, "b7ad6b7169203331")
    attributes = {each.key: each.value.string_value or each.value.int_value for each in root.attributes}
    assert attributes["gen_ai.operation.name"] == "text_completion"
    assert attributes["gen_ai.request.model"] == "m"
    assert attributes["assist.request_id"] == "find-me"
    assert attributes["gen_ai.usage.input_tokens"] > 0
    assert set(by_name) == {"text_completion m", "queue", "tokenize", "generate"}
    for name in ("queue", "tokenize", "generate"):
        part = by_name[name]
        assert part.parent_span_id == root.span_id
        assert root.start_time_unix_nano <= part.start_time_unix_nano <= part.end_time_unix_nano
    assert seen[0]["traceparent"] == f"00-{TRACE}-{root.span_id.hex()}-01"


async def test_a_failure_has_its_outcome_as_the_error_type(folder, collector):
    engine = openai_engine(status=500)
    async with (
        app_of(engine, folder, otlp_endpoint=collector.url) as (app, client),
        app.router.lifespan_context(app),
    ):
        await client.post("/v1/completions", json=ASKED)
    (root,) = [span for span in collector.spans if not span.parent_span_id]
    values = {each.key: each.value.string_value for each in root.attributes}
    assert values["error.type"] == values["assist.outcome"] == "unavailable"


async def test_a_collector_that_never_answers_delays_no_request_and_is_left_at_the_end(folder):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with (
            app_of(openai_engine(), folder, otlp_endpoint=endpoint) as (app, client),
            app.router.lifespan_context(app),
        ):
            connected = []
            silent.settimeout(0)

            def accepted() -> bool:
                with contextlib.suppress(BlockingIOError):
                    connected.append(silent.accept()[0])
                return bool(connected)

            await client.post("/v1/completions", json=ASKED)
            await until_async(accepted)
            for _ in range(20):  # the sender hangs now
                assert (await client.post("/v1/completions", json=ASKED)).status_code == 200
    for each in connected:
        each.close()


def test_without_an_endpoint_nothing_is_sent_and_no_sender_exists():
    code = (
        "import sys, threading; from gateway.edge import Edge; from gateway.settings import Settings\n"
        "edge = Edge(Settings(auth='none', metrics_port=None))\n"
        "assert edge.tracing.start('x', None, 0.0).span is None\n"
        "assert 'opentelemetry.exporter' not in sys.modules, 'loaded'\n"
        "assert threading.active_count() == 1, threading.enumerate()"
    )
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_without_the_packages_an_endpoint_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ValueError, match=r"requirements/tracing\.txt"):
        Tracing("http://127.0.0.1:1")
