"""G15: a stop loses no request and waits for nobody who hangs."""

import json
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from testing.doubles.fake_triton import FakeTritonThread
from testing.servers.gateway_process import COMPLETIONS, Gateway, read_all, request_bytes
from testing.until import until
from tests.integration.faults.conftest import StartGateway
from tests.integration.faults.test_clients import BODY, NEVER


def stream(gateway: Gateway) -> list[str]:
    body = {"prompt": "a", "max_tokens": 4, "stream": True}
    with httpx.stream("POST", gateway.url + COMPLETIONS, json=body, timeout=120) as response:
        return [line for line in response.iter_lines() if line]


def idle(gateway: Gateway) -> socket.socket:
    """Return a kept connection on which one request has been answered."""
    connection = gateway.connect()
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(65536)
    return connection


def test_sigterm_loses_nothing_under_way_and_waits_for_no_half_body(
    fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    fake_triton.fake.fault = "held"
    gateway = start_gateway(fake_triton.address, **NEVER, grace_s=3600, max_in_flight=4)
    gateway.until_ready()
    half, idler, silent = gateway.connect(), idle(gateway), gateway.connect()
    half.sendall(request_bytes(BODY[:5], length=len(BODY)))
    with ThreadPoolExecutor(20) as pool:
        unary = [pool.submit(gateway.complete) for _ in range(4)]
        streams = [pool.submit(stream, gateway) for _ in range(4)]
        until(lambda: gateway.metric("vllm:num_requests_waiting") == 4)
        gateway.signal()
        until(lambda: gateway.status("/ready") == 503)
        assert gateway.status("/health") == 200
        # The main loop looks at the signal ten times a second; until then it serves.
        until(lambda: gateway.status("/v1/models") == 503)
        late = gateway.complete()
        assert (late.status_code, late.headers["connection"]) == (503, "close")
        assert int(late.headers["retry-after"]) >= 1
        fake_triton.fake.fault = ""
        assert {each.result().status_code for each in unary} == {200}
        assert all(each.result()[-1] == "data: [DONE]" for each in streams)
        assert all("error" not in json.loads(line[6:]) for each in streams for line in each.result()[:-1])
    assert gateway.wait(120) == 0
    assert b"503" in read_all(half).partition(b"\r\n")[0]
    assert read_all(idler) == b""
    assert read_all(silent) == b""


def test_while_the_load_balancer_catches_up_requests_are_still_served(
    fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(fake_triton.address, drain_delay_s=5)
    gateway.until_ready()
    served, failures = list[int](), list[int]()
    leaving = threading.Event()

    def client() -> None:
        while not leaving.is_set():
            status = gateway.complete().status_code
            (served if status == 200 else failures).append(status)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    gateway.signal()
    until(lambda: gateway.status("/ready") == 503)  # this is when a balancer stops sending
    before = len(served)
    until(lambda: failures or len(served) >= before + 8)
    leaving.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert gateway.wait(120) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_gateway_stops_at_once_and_with_status_zero(
    fake_triton: FakeTritonThread, start_gateway: StartGateway, number: int
) -> None:
    gateway = start_gateway(fake_triton.address, **NEVER, grace_s=3600)
    gateway.signal(number)
    assert gateway.wait(120) == 0


def test_what_does_not_finish_within_the_grace_is_cancelled(
    fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    fake_triton.fake.fault = "hang"
    gateway = start_gateway(fake_triton.address, **NEVER, grace_s=1)
    gateway.until_ready()
    connection = gateway.connect()
    connection.sendall(request_bytes(BODY))
    until(lambda: fake_triton.fake.running == 1)
    gateway.signal()
    assert gateway.wait(120) == 0
    assert not read_all(connection).startswith(b"HTTP/1.1 200")
    until(lambda: fake_triton.fake.running == 0)
