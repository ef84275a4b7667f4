"""Real engines that are slower than the deadline: what they have generated is the answer, and they stop."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from testing import needs
from testing.doubles.fault_proxy import FaultProxy, fault_proxy
from testing.servers.gateway_process import Gateway
from testing.servers.llama_server import running_llama
from testing.servers.triton import TINY, Triton
from testing.until import until
from tests.integration.faults.conftest import StartGateway
from tests.integration.faults.test_clients import NEVER

DEADLINE_S = 20
# Of the engine's answer, in bytes: more than its first token, and far less than 1900.
PART = 20_000
LONG = {"max_tokens": 1900}


def counts(gateway: Gateway) -> tuple[float, float]:
    return gateway.metric("assist_completions_expired_total"), gateway.metric("vllm:num_requests_running")


@pytest.mark.triton
@pytest.mark.parametrize("stream", [False, True])
def test_triton_goes_silent_in_the_middle_and_what_came_is_the_answer(
    triton: Triton, proxied_triton: FaultProxy, start_gateway: StartGateway, *, stream: bool
) -> None:
    gateway = start_gateway(proxied_triton.address, **NEVER | {"deadline_s": DEADLINE_S})
    gateway.until_ready()
    whole = gateway.complete(max_tokens=8, temperature=0).json()["choices"][0]["text"]
    proxied_triton.pause(after=PART)
    answer = gateway.complete(**LONG, stream=stream)
    assert answer.status_code == 200
    if stream:
        events = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]
        text = "".join(event["choices"][0]["text"] for event in events)
        reason, marked = events[-1]["choices"][0]["finish_reason"], events[-1]["ended_by"]
    else:
        (choice,) = answer.json()["choices"]
        text, reason, marked = choice["text"], choice["finish_reason"], answer.headers["x-assist-ended-by"]
        assert 8 < answer.json()["usage"]["completion_tokens"] < 1900
    assert text.startswith(whole)
    assert (reason, marked) == ("length", "deadline")
    until(lambda: counts(gateway) == (1, 0))
    proxied_triton.heal()
    gateway.until_ready()
    assert gateway.complete().status_code == 200


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    needs.package("xllamacpp")
    from serving.convert import convert

    folder = tmp_path_factory.mktemp("gguf")
    convert(TINY, folder, "llama_cpp", "Q8_0")
    with running_llama(folder, context=2048) as (address, _):
        until(lambda: _healthy(address))
        yield address


def _healthy(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def test_llama_cpps_server_goes_silent_in_the_middle(
    llama: str, start_gateway: StartGateway, tmp_path: Path
) -> None:
    with fault_proxy(llama.removeprefix("http://")) as proxy:
        url = f"http://{proxy.address}/v1"
        changes = NEVER | {"deadline_s": DEADLINE_S, "engine": "openai", "engine_url": url}
        gateway = start_gateway("", **changes)
        gateway.until_ready()
        proxy.pause(after=PART)
        answer = gateway.complete(max_tokens=1900)
        assert (answer.status_code, answer.headers["x-assist-ended-by"]) == (200, "deadline")
        assert answer.json()["choices"][0]["finish_reason"] == "length"
        assert 0 < answer.json()["usage"]["completion_tokens"] < 1900
        until(lambda: counts(gateway) == (1, 0))
        proxy.resume()
        # The server noticed that nobody reads: its one slot is free.
        assert gateway.complete().status_code == 200
