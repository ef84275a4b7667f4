"""G11: ten thousand generated requests over every dialect and no 5xx; G22: a short soak with random faults."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.app import create_app
from gateway.settings import Settings
from testing.doubles.fake_triton import FakeTritonThread
from testing.doubles.fault_proxy import FaultProxy, fault_proxy
from testing.doubles.instant_engine import InstantEngine
from testing.servers.gateway_process import COMPLETIONS, MODEL_DIR, Gateway
from testing.servers.triton import Triton
from testing.until import until
from tests.integration.faults.conftest import StartGateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Send = Callable[..., httpx.Response]
TEXT = st.text(max_size=30) | st.sampled_from(
    ["", "\x00", "\ufeff", "<|endoftext|>", "é" * 50, "\n" * 9, "🙂"]
)
NUMBER = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, -1, 1, 2, 0.5, 2**31, 2**63, 1e308])
LEAF = st.none() | st.booleans() | NUMBER | TEXT
ANY = st.recursive(
    LEAF, lambda of: st.lists(of, max_size=3) | st.dictionaries(TEXT, of, max_size=2), max_leaves=5
)
GOOD: dict[str, st.SearchStrategy[object]] = {
    "prompt": TEXT | st.lists(TEXT, max_size=3) | st.lists(st.integers(-5, 60_000), max_size=5),
    "max_tokens": st.integers(-1, 20),
    "n": st.integers(0, 4),
    "best_of": st.integers(0, 5),
    "temperature": st.floats(-1, 3),
    "top_p": st.floats(-1, 2),
    "stop": TEXT | st.lists(TEXT, max_size=6),
    "stream": st.booleans(),
    "echo": st.booleans(),
    "logprobs": st.integers(-1, 6),
    "suffix": TEXT,
    "seed": st.integers(-(2**63), 2**63),
    "model": TEXT | st.sampled_from(["codegen", "tiny-codegen"]),
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
    "logit_bias": st.dictionaries(st.text("0123456789", max_size=3), NUMBER, max_size=2),
    "messages": st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT}), max_size=3),
    "input_prefix": TEXT,
    "input_suffix": TEXT,
    "input_extra": st.lists(st.fixed_dictionaries({"filename": TEXT, "text": TEXT}), max_size=2),
    "n_predict": st.integers(-2, 20),
    "prompt_version": st.integers(0, 4),
    "project_path": TEXT,
    "project_id": st.integers(),
    "current_file": st.fixed_dictionaries(
        {"file_name": TEXT, "content_above_cursor": TEXT, "content_below_cursor": TEXT}
    ),
}
FIELD = st.sampled_from(sorted(GOOD)).flatmap(
    lambda name: st.tuples(st.just(name), st.one_of(GOOD[name], GOOD[name], ANY))
)
BODY = st.lists(FIELD, max_size=6).map(dict) | ANY
PATHS = [
    "/v1/completions", "/v1/engines/codegen/completions", "/v1/engines/copilot-codex/completions", "/v2/completions",
    "/v2/code/completions", "/infill", "/completion", "/completions", "/v1/models", "/copilot_internal/v2/token",
    "/v2/code/generations", "/v3/code/completions", "/fim/completions", "/v1/chat/completions", "/props", "/",
]  # fmt: skip


def _fuzz(send: Send, examples: int, paths: st.SearchStrategy[list[str]]) -> int:
    """Send generated bodies to each of the paths drawn; fail at the first 5xx, return the requests sent."""
    sent = 0

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(paths=paths, method=st.sampled_from(["POST"] * 8 + ["GET", "PUT"]), body=BODY)
    def one(paths: list[str], method: str, body: object) -> None:
        nonlocal sent
        for path in paths:
            sent += 1
            answer = send(method, path, content=json.dumps(body).encode())
            assert answer.status_code < 500, f"{method} {path} {body!r}: {answer.text}"

    one()
    return sent


def test_nine_thousand_requests_in_process_give_no_5xx() -> None:
    """Making a body costs more than answering it, so each goes to every dialect."""
    chosen = Settings(model_dir=MODEL_DIR, auth="none", metrics_port=None)
    transport = httpx.ASGITransport(create_app(chosen, InstantEngine()))
    with asyncio.Runner() as runner:
        client = httpx.AsyncClient(transport=transport, base_url="http://gateway")
        sent = _fuzz(
            lambda *given, **named: runner.run(client.request(*given, **named)),
            -(-9000 // len(PATHS)),
            st.just(PATHS),
        )
    assert sent >= 9000


@pytest.mark.triton
def test_a_thousand_requests_over_the_wire_to_the_real_triton_give_no_5xx(
    triton: Triton, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(triton.grpc)
    gateway.until_ready()
    with httpx.Client(base_url=gateway.url, timeout=120) as client:
        assert _fuzz(client.request, 1000, st.sampled_from(PATHS).map(lambda path: [path])) >= 1000
    assert gateway.status("/ready") == 200


def _torment(proxy: FaultProxy, ended: threading.Event) -> None:
    chance = random.Random(7)
    while not ended.wait(0.4):
        fault = chance.choice(["latency", "reset", "down", "hold", "limit"])
        if fault == "latency":
            proxy.latency_s = 0.05
        elif fault == "limit":
            proxy.limit(chance.randrange(2000))
        else:
            {"reset": proxy.reset, "down": proxy.down, "hold": proxy.hold}[fault]()
        ended.wait(0.2)
        if fault == "down":
            proxy.up()
        proxy.heal()


def _work(gateway: Gateway, ended: threading.Event, seen: set[int], seed: int) -> None:
    chance = random.Random(seed)
    with httpx.Client(base_url=gateway.url, timeout=120) as client:
        while not ended.is_set():
            body = {"prompt": "x" * chance.randrange(500), "max_tokens": 5, "stream": chance.random() < 0.4}
            if chance.random() < 0.1:
                body["prompt"] = None
            seen.add(client.post(COMPLETIONS, json=body).status_code)


def _run(gateway: Gateway, proxy: FaultProxy, seconds: float) -> set[int]:
    """Load the gateway and torment its engine's connection; return the statuses seen."""
    ended, seen = threading.Event(), set[int]()
    threads = [threading.Thread(target=_torment, args=(proxy, ended))]
    threads += [threading.Thread(target=_work, args=(gateway, ended, seen, seed)) for seed in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    ended.set()
    for thread in threads:
        thread.join()
    return seen


def test_memory_descriptors_and_threads_stay_flat_under_random_faults(
    fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    with fault_proxy(fake_triton.address) as proxy:
        gateway = start_gateway(proxy.address, deadline_s=2)
        gateway.until_ready()
        _run(gateway, proxy, 15)
        gateway.until_ready()
        process = gateway.process
        before = (process.memory_info().rss, process.num_fds(), process.num_threads())
        seen = _run(gateway, proxy, 30)
        gateway.until_ready()
        until(lambda: process.num_fds() <= before[1] + 6)
        until(lambda: process.num_threads() <= before[2] + 4)
        after = process.memory_info().rss
    assert 200 in seen
    assert 500 not in seen
    assert after < before[0] * 1.05 + 2 * 1024 * 1024
