"""An operator takes one of several Tritons away: it gets nothing new, and what it has begun is finished."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from testing.doubles.fake_triton import FakeTritonThread
from testing.servers.gateway_process import Gateway
from testing.until import until
from tests.integration.faults.conftest import StartGateway

# What is promised: a change of the file counts for every call that begins this much later.
LOOK_S = 0.25

Two = tuple[FakeTritonThread, FakeTritonThread]


@pytest.fixture
def tritons() -> Iterator[Two]:
    """Run two engines that compute nothing."""
    both = FakeTritonThread(), FakeTritonThread()
    yield both
    for each in both:
        each.close()


@pytest.fixture
def drained(tmp_path: Path) -> Path:
    """Name the file of the servers that are being taken away; it does not exist yet."""
    return tmp_path / "drained"


@pytest.fixture
def gateway(tritons: Two, drained: Path, start_gateway: StartGateway) -> Gateway:
    """Start a gateway in front of both engines."""
    addresses = ",".join(each.address for each in tritons)
    started = start_gateway(f"ipv4:{addresses}", drained_file=drained, engine_wait_s=600, deadline_s=600)
    started.until_ready()
    return started


@pytest.fixture
def prompts(gateway: Gateway, tritons: Two) -> list[str]:
    """Return a prompt for each engine: the same one goes to the same engine."""
    found: dict[int, str] = {}
    numbers = count()

    def complete() -> bool:
        prompt, before = f"def f{next(numbers)}(x):", [each.fake.served for each in tritons]
        assert gateway.complete(prompt).status_code == 200
        (served,) = [at for at, each in enumerate(tritons) if each.fake.served > before[at]]
        found.setdefault(served, prompt)
        return len(found) == len(tritons)

    until(complete)
    return [found[at] for at in range(len(tritons))]


def test_a_drained_server_gets_no_new_request_and_finishes_those_it_has(
    gateway: Gateway, tritons: Two, drained: Path, prompts: list[str]
) -> None:
    gone, stays = tritons
    gone.fake.fault = stays.fake.fault = "held"
    with ThreadPoolExecutor(8) as pool:
        begun = [pool.submit(gateway.complete, prompt) for prompt in prompts for _ in range(4)]
        until(lambda: gone.fake.running + stays.fake.running == 8)
        assert gone.fake.running > 0
        stays.fake.fault = ""
        drained.write_text(gone.address + "\n")
        until(lambda: stays.fake.running == 0)
        before = gone.fake.served
        time.sleep(LOOK_S)
        later = [gateway.complete(prompts[0]) for _ in range(10)]
        assert gone.fake.served == before
        gone.fake.fault = ""
        answers = [each.result() for each in begun]
    assert {answer.status_code for answer in answers + later} == {200}
    drained.unlink()
    served = gone.fake.served
    until(lambda: gateway.complete(prompts[0]).status_code == 200 and gone.fake.served > served)


def test_requests_wait_while_every_server_is_drained(gateway: Gateway, tritons: Two, drained: Path) -> None:
    drained.write_text("\n".join(each.address for each in tritons))
    until(lambda: gateway.status("/ready") == 503)
    with ThreadPoolExecutor(4) as pool:
        held = [pool.submit(gateway.complete) for _ in range(4)]
        until(lambda: gateway.metric("vllm:num_requests_running") == 4)
        assert not any(each.done() for each in held)
        drained.unlink()
        assert {each.result().status_code for each in held} == {200}


def test_a_file_that_names_strangers_drains_nobody(
    gateway: Gateway, tritons: Two, drained: Path, prompts: list[str]
) -> None:
    drained.write_bytes(b"10.1.2.3:8001\n\xff\xfe\n")
    time.sleep(LOOK_S)
    served = [each.fake.served for each in tritons]
    assert {gateway.complete(prompt).status_code for prompt in prompts} == {200}
    assert all(each.fake.served > before for each, before in zip(tritons, served, strict=True))
