"""G12, G13, G19: slow clients, clients that leave, and no file descriptors left."""

import json
import resource
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from testing.doubles.fake_triton import FakeTritonThread
from testing.servers.gateway_process import COMPLETIONS, Gateway, read_all, request_bytes
from testing.until import until
from tests.integration.faults.conftest import StartGateway

BODY = json.dumps({"prompt": "def f(x):", "max_tokens": 8, "temperature": 0}).encode()


# Limits that this file's tests leave alone, so that nothing but the limit under test ends anything.
NEVER: dict[str, object] = {
    "body_timeout_s": 3600,
    "deadline_s": 3600,
    "header_timeout_s": 3600,
    "keep_alive_s": 3600,
    "queue_timeout_s": 3600,
    "write_timeout_s": 3600,
}


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1/comp", b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-A: "],
    ids=["none", "line", "head"],
)
def test_a_client_that_does_not_finish_its_head_is_closed(
    fake_triton: FakeTritonThread, start_gateway: StartGateway, sent: bytes
) -> None:
    gateway = start_gateway(fake_triton.address, **NEVER | {"header_timeout_s": 1})
    connection = gateway.connect()
    connection.sendall(sent)
    assert read_all(connection) == b""


def test_a_second_request_on_a_kept_connection_has_a_head_time_out_too(
    fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(fake_triton.address, **NEVER | {"header_timeout_s": 1})
    connection = gateway.connect()
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HT")
    assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_a_client_that_does_not_finish_its_body_gets_408(
    fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(fake_triton.address, **NEVER | {"body_timeout_s": 1})
    connection = gateway.connect()
    connection.sendall(request_bytes(BODY[:5], length=len(BODY)))
    answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()


def test_a_client_that_does_not_read_its_stream_is_given_up(
    fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    limits = NEVER | {"write_timeout_s": 1, "max_rows": 2048, "max_n": 64}
    gateway = start_gateway(fake_triton.address, **limits)
    gateway.until_ready()
    # Each of 2048 rows begins with its prompt, so that few events fill what the kernel holds for a slow reader.
    prompts = ["def f(x):\n" * 300] * 32
    body = json.dumps({"prompt": prompts, "max_tokens": 2, "n": 64, "echo": True, "stream": True}).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", gateway.port))
        connection.sendall(request_bytes(body))
        # From then on the request is at the engine: it may be given up before anybody sees it run.
        until(lambda: fake_triton.fake.served)
        until(lambda: gateway.metric("vllm:num_requests_running") == 0)
        assert gateway.complete().status_code == 200


def test_200_clients_that_leave_cost_no_capacity(
    fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    fake = fake_triton.fake
    gateway = start_gateway(fake_triton.address, **NEVER, max_in_flight=8, max_queue=256)
    gateway.until_ready()
    assert gateway.complete().status_code == 200
    fake.fault = "hang"
    connections = [gateway.connect() for _ in range(200)]
    for number, connection in enumerate(connections):
        body = BODY if number % 2 else BODY.replace(b"}", b', "stream": true}')
        connection.sendall(request_bytes(body))
    until(lambda: fake.running == 8 and gateway.metric("vllm:num_requests_waiting") == 192)
    for connection in connections:
        connection.close()
    waiting, running = "vllm:num_requests_waiting", "vllm:num_requests_running"
    until(lambda: gateway.metric(waiting) == gateway.metric(running) == fake.running == 0)
    fake.fault = "held"
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(gateway.complete) for _ in range(8)]
        until(lambda: fake.running == 8)
        fake.fault = ""
        assert {answer.result().status_code for answer in answers} == {200}


@pytest.mark.parametrize("stream", [False, True])
def test_the_engines_work_ends_when_its_client_leaves(
    fake_triton: FakeTritonThread, start_gateway: StartGateway, *, stream: bool
) -> None:
    gateway = start_gateway(fake_triton.address, **NEVER)
    gateway.until_ready()
    gateway.complete()
    fake_triton.fake.fault = "hang"
    connection = gateway.connect()
    connection.sendall(request_bytes(BODY.replace(b"}", b', "stream": %s}' % str(stream).lower().encode())))
    until(lambda: fake_triton.fake.running == 1)
    connection.close()
    until(lambda: fake_triton.fake.cancelled == 1)


def test_without_file_descriptors_it_sheds_and_comes_back(
    tmp_path: Path, fake_triton: FakeTritonThread
) -> None:
    gateway = Gateway(fake_triton.address, tmp_path / "gateway.log", **NEVER)
    gateway.start("/ready")
    try:
        used = gateway.process.num_fds()
        resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, (used + 20, used + 20))
        held = [gateway.connect() for _ in range(60)]
        until(lambda: gateway.process.num_fds() >= used + 19)
        assert gateway.process.is_running()
        for connection in held:
            connection.close()
        until(lambda: _completes(gateway))
    finally:
        gateway.kill()


def _completes(gateway: Gateway) -> bool:
    try:
        return httpx.post(gateway.url + COMPLETIONS, content=BODY, timeout=60).status_code == 200
    except httpx.HTTPError:
        return False
