"""A host with one GPU: requests wait while Triton is replaced, and are refused when it takes too long."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from testing.doubles.fake_triton import FakeTritonThread
from testing.servers.gateway_process import Gateway
from testing.servers.triton import Triton
from testing.until import until
from tests.integration.faults.conftest import StartGateway


@contextmanager
def constant_load(gateway: Gateway, clients: int = 4) -> Iterator[list[httpx.Response]]:
    """Ask without a pause, whole and streamed, for as long as the block lasts; gives every answer."""
    stop, answers = threading.Event(), list[httpx.Response]()

    def ask(number: int) -> None:
        while not stop.is_set():
            answers.append(gateway.complete(stream=number % 2 == 0, max_tokens=16))

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(ask, number) for number in range(clients)]
        try:
            yield answers
        finally:
            stop.set()
        for each in running:
            each.result()


def after_its_engine_went(start_gateway: StartGateway, **settings: object) -> tuple[Gateway, str]:
    """Return a gateway that was ready and whose engine is gone, and the address that it was at."""
    engine = FakeTritonThread()
    try:
        gateway = start_gateway(engine.address, **settings)
        gateway.until_ready()
    finally:
        engine.close()
    return gateway, engine.address


def served(answers: list[httpx.Response], more: int) -> None:
    """Wait until ``more`` further answers came."""
    wanted = len(answers) + more
    until(lambda: len(answers) >= wanted, within_s=180)


def whole(answer: httpx.Response) -> bool:
    """Return whether a response is complete: a stream ends with its last event, without an error."""
    streamed = answer.headers["content-type"].startswith("text/event-stream")
    ended = answer.text.endswith("data: [DONE]\n\n") and '"error"' not in answer.text
    return answer.status_code == 200 and (ended or not streamed)


@pytest.mark.triton
def test_no_request_fails_while_triton_is_replaced_in_its_own_way(
    triton: Triton, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(triton.grpc, engine_wait_s=100, deadline_s=110)
    gateway.until_ready()
    with constant_load(gateway) as answers:
        served(answers, 20)
        try:
            triton.stop()
        finally:
            triton.start()
        served(answers, 20)
    assert [answer.text for answer in answers if not whole(answer)] == []


def test_a_held_request_is_refused_with_retry_after_once_the_hold_is_over(
    start_gateway: StartGateway,
) -> None:
    gateway, _ = after_its_engine_went(start_gateway, engine_wait_s=2)
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: gateway.complete(), range(4)))
    assert time.monotonic() - started >= 2
    assert {answer.status_code for answer in answers} == {503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
    assert {answer.json()["error"]["code"] for answer in answers} == {"upstream_unavailable"}


def test_a_request_is_never_held_past_its_own_deadline(start_gateway: StartGateway) -> None:
    gateway, _ = after_its_engine_went(start_gateway, engine_wait_s=3600, deadline_s=1)
    answer = gateway.complete()
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


def test_what_is_held_stays_within_the_bounds_of_admission(start_gateway: StartGateway) -> None:
    patient = {"engine_wait_s": 3600, "deadline_s": 3600, "queue_timeout_s": 3600}
    gateway, address = after_its_engine_went(start_gateway, **patient, max_in_flight=2, max_queue=2)
    with ThreadPoolExecutor(4) as pool:
        held = [pool.submit(gateway.complete) for _ in range(4)]
        until(lambda: gateway.metric("vllm:num_requests_running") == 2)
        until(lambda: gateway.metric("vllm:num_requests_waiting") == 2)
        more = [gateway.complete() for _ in range(4)]
        assert not any(each.done() for each in held)
        engine = FakeTritonThread(address)
        try:
            assert {each.result().status_code for each in held} == {200}
        finally:
            engine.close()
    assert {answer.status_code for answer in more} == {503}
    assert {answer.json()["error"]["code"] for answer in more} == {"overloaded"}
