"""The middlewares: sizes, times, ids, browsers, and a stop."""

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest

from gateway.http.middleware.context import UNMATCHED
from testing.servers.edge_app import client_of, make_app

URL = "/v1/completions"


async def chunks(size: int, count: int, pause: float = 0) -> AsyncIterator[bytes]:
    for _ in range(count):
        await asyncio.sleep(pause)
        yield b"x" * size


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413)])
@pytest.mark.parametrize("chunked", [False, True])
async def test_the_limit_is_exact_with_and_without_a_length(size: int, status: int, *, chunked: bool) -> None:
    app, _, _ = make_app(max_body_bytes=1000)
    async with client_of(app) as client:
        answer = await client.post(URL, content=chunks(size, 1) if chunked else b"x" * size)
    assert answer.status_code == status
    if status == 413:
        assert answer.json()["error"]["code"] == "request_too_large"
        assert answer.headers["connection"] == "close"


async def test_gitlab_paths_get_the_refusal_in_gitlabs_shape() -> None:
    app, _, _ = make_app(max_body_bytes=10)
    async with client_of(app) as client:
        answer = await client.post("/v2/completions", content=b"x" * 11)
    assert answer.status_code == 413
    assert list(answer.json()) == ["detail"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, gzip"])
async def test_compressed_bodies_are_refused_unread(encoding: str) -> None:
    app, _, _ = make_app()
    async with client_of(app) as client:
        answer = await client.post(URL, content=b"x", headers={"Content-Encoding": encoding})
    assert answer.status_code == 415


@pytest.mark.parametrize("length", ["-1", "1e3", "٣", "0x10", " "])
async def test_a_length_that_is_no_number_is_400(length: str) -> None:
    app, _, _ = make_app()
    async with client_of(app) as client:
        raw = [(b"content-length", length.encode())]
        answer = await client.send(client.build_request("POST", URL, headers=raw))
    assert answer.status_code == 400


async def test_a_body_that_does_not_come_is_408() -> None:
    app, _, _ = make_app(body_timeout_s=0.1)
    async with client_of(app) as client:
        answer = await client.post(URL, content=chunks(1, 50, pause=0.05))
    assert answer.status_code == 408
    assert answer.headers["connection"] == "close"


async def test_work_may_take_longer_than_the_body_may() -> None:
    app, _, _ = make_app(body_timeout_s=0.1)
    async with client_of(app) as client:
        assert (await client.post(f"{URL}?sleep=0.2", content=b"x")).status_code == 200


@pytest.mark.parametrize("given", ["abc-1.2:3_4", "x" * 128])
async def test_a_sound_request_id_comes_back(given: str) -> None:
    app, _, _ = make_app()
    async with client_of(app) as client:
        answer = await client.post(URL, headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == given
    assert float(answer.headers["x-process-time"]) >= 0
    assert answer.headers["openai-processing-ms"].isdigit()


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", "a\tb", '"}'])
async def test_an_unsound_request_id_is_replaced(given: str) -> None:
    app, _, _ = make_app()
    async with client_of(app) as client:
        answer = await client.post(URL, headers=[(b"x-request-id", given.encode())])
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_a_refusal_carries_a_request_id_too() -> None:
    app, _, _ = make_app(max_body_bytes=1)
    async with client_of(app) as client:
        answer = await client.post(URL, content=b"xx", headers={"X-Request-ID": "mine"})
    assert answer.headers["x-request-id"] == "mine"


async def test_an_accident_is_a_500_in_the_envelope_with_an_id() -> None:
    app, _, _ = make_app()

    async def fail() -> None:
        raise ValueError("prompt canary")

    app.add_api_route("/fail", fail)
    async with client_of(app) as client:
        answer = await client.get("/fail")
    assert answer.status_code == 500
    assert "canary" not in answer.text
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]


PREFLIGHT = {
    "Origin": "web.mydomain.fr",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "Authorization",
}


@pytest.mark.parametrize("path", ["/completions", "/v1/completions", "/nowhere"])
async def test_a_preflight_is_answered_on_every_path(path: str) -> None:
    app, _, _ = make_app()
    async with client_of(app) as client:
        answer = await client.options(path, headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-headers"] == "*"
    assert answer.headers["access-control-allow-methods"] == "GET, POST"


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"auth": "none"}, None),
        ({"auth": "gitlab"}, "web.mydomain.fr"),
        ({"auth": "gitlab", "cors_origins": "none"}, None),
        ({"auth": "none", "cors_origins": "*"}, "web.mydomain.fr"),
        ({"auth": "none", "cors_origins": "https://a.example, web.mydomain.fr"}, "web.mydomain.fr"),
        ({"auth": "none", "cors_origins": "https://a.example"}, None),
    ],
)
async def test_only_allowed_origins_are_named(settings: dict[str, str], allowed: str | None) -> None:
    app, _, _ = make_app(**settings)
    async with client_of(app) as client:
        preflight = await client.options(URL, headers=PREFLIGHT)
        used = await client.post(URL, headers={"Origin": "web.mydomain.fr"})
    assert preflight.headers.get("access-control-allow-origin") == allowed
    assert used.headers.get("access-control-allow-origin") == allowed


async def test_the_number_of_time_series_does_not_depend_on_what_clients_send() -> None:
    app, edge, _ = make_app()

    def series() -> int:
        return sum(len(metric.samples) for metric in edge.metrics.registry.collect())

    async with client_of(app) as client:
        await client.get("/first-unknown-path")
        await client.request("BREW", "/pot")
        await client.post(URL)
        before = series()
        for number in range(50):
            await client.get(
                f"/random/{number}", headers={"X-Request-ID": f"id-{number}", "User-Agent": f"{number}"}
            )
            await client.request(f"BREW{number}", "/pot")
        assert series() == before
    exported = {
        sample.labels.get("handler")
        for metric in edge.metrics.registry.collect()
        for sample in metric.samples
    }
    assert exported == {None, UNMATCHED, URL}


async def test_liveness_never_asks_the_engine_and_readiness_does_at_most_once_a_second() -> None:
    app, _, switch = make_app()
    async with client_of(app) as client:
        for path in ("/health", "/monitoring/healthz", "/health/liveliness"):
            assert (await client.get(path)).status_code == 200
        assert switch.checks == 0
        answers = await asyncio.gather(*(client.get("/ready") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert switch.checks == 1


@pytest.mark.parametrize("path", ["/ready", "/monitoring/ready", "/health/readiness", "/monitoring/tritonz"])
async def test_readiness_is_503_while_the_engine_is_not_ready(path: str) -> None:
    app, _, switch = make_app()
    switch.ready = False
    async with client_of(app) as client:
        answer = await client.get(path)
        assert (await client.get("/health")).status_code == 200
    assert answer.status_code == 503
    assert answer.json()["error"] == {"code": 503, "message": "Loading model", "type": "unavailable_error"}


async def test_a_stopping_gateway_is_alive_not_ready_and_refuses_new_work() -> None:
    app, edge, switch = make_app()
    async with client_of(app) as client:
        running = asyncio.create_task(client.post(f"{URL}?until_finish=1"))
        await switch.working.wait()
        assert edge.metrics.registry.get_sample_value("assist_draining") == 0
        edge.drain.begin()
        assert edge.metrics.registry.get_sample_value("assist_draining") == 1
        ready, served = await client.get("/ready"), await client.post(URL)
        assert (ready.status_code, served.status_code) == (503, 200)
        assert served.headers["connection"] == "close"
        edge.drain.refuse()
        refused = await client.post(URL)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["connection"] == "close"
        assert (await client.get("/health")).status_code == 200
        assert not await edge.drain.wait_until_idle(0.01)
        switch.finish.set()
        assert (await running).status_code == 200
        assert await edge.drain.wait_until_idle(1)


async def test_metrics_and_usage_are_on_a_port_of_their_own() -> None:
    import httpx

    app, edge, _ = make_app(metrics_port=0)
    async with client_of(app) as client, httpx.AsyncClient() as outside:
        await client.post(URL, content=b"1234")
        assert edge.metrics_server is not None
        base = f"http://127.0.0.1:{edge.metrics_server.port}"
        text = (await outside.get(f"{base}/metrics")).text
        usage = json.loads((await outside.get(f"{base}/usage")).text)
        assert (await outside.get(f"{base}/else")).status_code == 404
        assert (await client.get("/metrics")).status_code == 404
    assert 'http_requests_total{handler="/v1/completions",method="POST",status="200"} 1.0' in text
    assert "vllm:num_requests_running 0.0" in text
    assert "llamacpp:requests_deferred 0.0" in text
    assert usage["callers"]["127.0.0.1"]["tokens"] == 4


async def test_a_metrics_port_in_use_stops_the_start_with_the_remedy() -> None:
    from gateway.telemetry.metrics_server import MetricsPortError

    app, edge, _ = make_app(metrics_port=0)
    async with client_of(app):
        assert edge.metrics_server is not None
        other, _, _ = make_app(metrics_port=edge.metrics_server.port)
        with pytest.raises(MetricsPortError, match="ASSIST_METRICS_PORT"):
            async with client_of(other):
                pass
