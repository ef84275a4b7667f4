"""G1-G5: the real Triton is killed, black-holed, slowed and cut off; the gateway says so and recovers by itself."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from testing.doubles.fake_triton import FakeTritonThread
from testing.doubles.fault_proxy import FaultProxy
from testing.servers.gateway_process import COMPLETIONS, Gateway
from testing.servers.triton import Triton
from testing.until import until
from tests.integration.faults.conftest import StartGateway
from tests.integration.faults.test_clients import NEVER

pytestmark = pytest.mark.triton

DEADLINE_S = 5


# Less than a stream of 1500 tokens has, and more than its first ones.
PART = 20_000


def seconds_of(ask: Callable[[], object]) -> float:
    """Return how long ``ask`` takes."""
    started = time.monotonic()
    ask()
    return time.monotonic() - started


def at_once(gateway: Gateway) -> float:
    """Return what an answer that waits for nothing may take on this machine, as busy as it is now."""
    return 1 + 20 * max(seconds_of(lambda: gateway.status("/health")) for _ in range(5))


def events(gateway: Gateway, during: threading.Event | None = None, **fields: object) -> list[str]:
    """Return the data of a stream's events; set ``during`` once the first has come."""
    body = {"prompt": "def f(x):", "max_tokens": 1500, "temperature": 0, "stream": True, **fields}
    found = []
    with httpx.stream("POST", gateway.url + COMPLETIONS, json=body, timeout=120) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if line.startswith("data: "):
                found.append(line.removeprefix("data: "))
                if during is not None:
                    during.set()
    return found


def test_a_killed_triton_is_told_at_once_and_served_again_without_a_restart(
    triton: Triton, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(triton.grpc)
    gateway.until_ready()
    assert gateway.complete().status_code == 200
    pid = gateway.process.pid
    try:
        triton.kill()
        answers = [gateway.complete() for _ in range(5)]
        assert {answer.status_code for answer in answers} == {503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        assert all(answer.json()["error"]["code"] == "upstream_unavailable" for answer in answers)
        gateway.until_ready(503)
        assert gateway.status("/health") == 200
        quick = at_once(gateway)
        assert seconds_of(gateway.complete) < quick
        assert gateway.complete().status_code == 503
    finally:
        triton.start()
    gateway.until_ready()
    assert gateway.complete().status_code == 200
    assert gateway.process.pid == pid


def test_triton_killed_in_the_middle_of_a_stream_ends_it_with_an_error_event(
    triton: Triton, proxied_triton: FaultProxy, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(proxied_triton.address, **NEVER)
    gateway.until_ready()
    first = threading.Event()
    proxied_triton.hold(after=PART)  # or a quick model ends the stream before the kill
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(events, gateway, first)
        until(lambda: first.is_set() or running.done())
        try:
            triton.kill()
            found = running.result()
        finally:
            triton.start()
    assert found[-1] == "[DONE]"
    error = json.loads(found[-2])["error"]
    assert error["type"] == "server_error"
    finishes = [choice["finish_reason"] for event in found[:-2] for choice in json.loads(event)["choices"]]
    assert set(finishes) == {None}
    proxied_triton.heal()
    gateway.until_ready()
    assert gateway.complete().status_code == 200


@pytest.mark.parametrize("cut", ["reset", "limit"])
def test_a_connection_cut_in_the_middle_of_a_stream_never_looks_complete(
    proxied_triton: FaultProxy, start_gateway: StartGateway, cut: str
) -> None:
    gateway = start_gateway(proxied_triton.address, **NEVER)
    gateway.until_ready()
    gateway.complete()
    first = threading.Event()
    proxied_triton.pause(after=PART)  # or a quick model ends the stream before it is cut
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(events, gateway, first)
        until(lambda: first.is_set() or running.done())
        if cut == "reset":
            proxied_triton.reset()
        else:
            proxied_triton.limit(100)
        proxied_triton.resume()
        found = running.result()
    assert "error" in json.loads(found[-2])
    assert found[-1] == "[DONE]"


def test_a_black_hole_is_504_within_the_deadline_and_leaves_nothing_behind(
    proxied_triton: FaultProxy, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(proxied_triton.address, deadline_s=DEADLINE_S)
    gateway.until_ready()

    def eight() -> list[httpx.Response]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda _: gateway.complete(), range(8)))

    usual = seconds_of(eight)
    assert gateway.complete().status_code == 200
    proxied_triton.hold()
    answers: list[httpx.Response] = []
    assert seconds_of(lambda: answers.extend(eight())) < DEADLINE_S + 3 + 10 * usual
    assert {answer.status_code for answer in answers} <= {503, 504}
    assert 504 in {answer.status_code for answer in answers}
    until(lambda: gateway.metric("vllm:num_requests_running") == 0)
    assert gateway.status("/health") == 200
    gateway.until_ready(503)
    proxied_triton.heal()
    gateway.until_ready()
    assert gateway.complete().status_code == 200


def test_a_slow_triton_fills_a_bounded_queue_and_health_stays_quick(
    fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    fake_triton.fake.fault = "held"
    gateway = start_gateway(fake_triton.address, **NEVER, max_in_flight=4, max_queue=4)
    gateway.until_ready()
    quick = at_once(gateway)
    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(gateway.complete) for _ in range(40)]
        until(lambda: sum(each.done() for each in waiting) == 32)
        assert gateway.metric("vllm:num_requests_waiting") == 4
        assert seconds_of(lambda: gateway.status("/health")) < quick
        assert gateway.status("/health") == 200
        fake_triton.fake.fault = ""
        answers = [each.result() for each in waiting]
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(503)) == (8, 32)
    assert fake_triton.fake.peak == 4
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)


def test_readiness_asks_for_the_model_and_not_only_for_the_server(
    fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    fake_triton.fake.model_ready = False
    gateway = start_gateway(fake_triton.address)
    assert gateway.status("/ready") == 503
    fake_triton.fake.model_ready = True
    gateway.until_ready()


@pytest.mark.parametrize("fault", ["garbage", "shape", "nan", "huge", "ids", "empty", "error"])
def test_an_answer_that_can_not_be_true_is_an_error_and_no_text(
    fake_triton: FakeTritonThread, start_gateway: StartGateway, fault: str
) -> None:
    gateway = start_gateway(fake_triton.address)
    gateway.until_ready()
    assert gateway.complete().status_code == 200
    fake_triton.fake.fault = fault
    answer = gateway.complete(logprobs=1)
    assert answer.status_code in {502, 503}
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert "canary" not in answer.text
    fake_triton.fake.fault = ""
    assert gateway.complete().status_code == 200
