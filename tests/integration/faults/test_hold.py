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
            each.result(60)


def after_its_engine_went(start_gateway: StartGateway, **settings: object) -> Gateway:
    """Return a gateway that was ready and whose engine is gone for good."""
    engine = FakeTritonThread()
    try:
        gateway = start_gateway(engine.address, **settings)
        gateway.until_ready()
    finally:
        engine.close()
    return gateway


def served(answers: list[httpx.Response], more: int) -> None:
    """Wait until ``more`` further answers came."""
    wanted, end = len(answers) + more, time.monotonic() + 60
    while len(answers) < wanted and time.monotonic() < end:
        time.sleep(0.05)
    assert len(answers) >= wanted


def whole(answer: httpx.Response) -> bool:
    """Say whether an answer is a complete one: a stream says so with its last event and has no error."""
    streamed = answer.headers["content-type"].startswith("text/event-stream")
    ended = answer.text.endswith("data: [DONE]\n\n") and '"error"' not in answer.text
    return answer.status_code == 200 and (ended or not streamed)


@pytest.mark.triton
def test_no_request_fails_while_triton_is_replaced_in_its_own_way(
    triton: Triton, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(triton.grpc, hold_s=60, deadline_s=90)
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
    gateway = after_its_engine_went(start_gateway, hold_s=2)
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: gateway.complete(), range(4)))
    assert time.monotonic() - started >= 2
    assert {answer.status_code for answer in answers} == {503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
    assert {answer.json()["error"]["code"] for answer in answers} == {"upstream_unavailable"}


def test_a_request_is_never_held_past_its_own_deadline(start_gateway: StartGateway) -> None:
    gateway = after_its_engine_went(start_gateway, hold_s=3600, deadline_s=1)
    answer = gateway.complete()
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


def test_what_is_held_stays_within_the_bounds_of_admission(start_gateway: StartGateway) -> None:
    gateway = after_its_engine_went(start_gateway, hold_s=5, max_in_flight=2, max_queue=2)
    with ThreadPoolExecutor(8) as pool:
        answers = [each.result(60) for each in [pool.submit(gateway.complete) for _ in range(8)]]
    codes = [answer.json()["error"]["code"] for answer in answers]
    assert codes.count("overloaded") >= 4
    assert {answer.status_code for answer in answers} == {503}
