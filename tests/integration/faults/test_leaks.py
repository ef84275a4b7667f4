"""G21: what a user typed and the keys they hold appear in no log, metric, cache or environment."""

from pathlib import Path

import httpx
import pytest

from gateway.auth.keys import create_key
from testing.doubles.fake_gitlab import FakeGitLab
from testing.doubles.fake_triton import FakeTritonThread
from testing.servers.gateway_process import COMPLETIONS, Gateway
from testing.servers.redis_server import RedisServer
from tests.integration.faults.conftest import StartGateway

CLIENT = httpx.Client(timeout=120, limits=httpx.Limits(max_keepalive_connections=0), trust_env=False)
PROMPT, TOKEN = "canary-prompt-7f3a", "canary-token-91c2"


def provoke(gateway: Gateway, fake: FakeTritonThread, secret: str) -> None:
    """Send the canaries down every path that might write them somewhere."""
    headers = {"Authorization": f"Bearer {secret}"}
    assert gateway.complete(PROMPT, headers=headers, user=PROMPT).status_code == 200
    for fault in ("error", "garbage", "nan", "shape"):
        fake.fake.fault = fault
        gateway.complete(PROMPT, headers=headers, logprobs=1)
    fake.fake.fault = ""
    for extra in (
        {"temperature": PROMPT},
        {"model": PROMPT},
        {"stop": [[PROMPT]]},
        {"stream": True},
        {"n": PROMPT},
    ):
        gateway.complete(PROMPT, headers=headers, **extra)
    for path in (COMPLETIONS, "/v2/completions", "/v2/code/completions", "/infill", "/completion"):
        CLIENT.post(gateway.url + path, content=b'{"prompt": "%s' % PROMPT.encode(), headers=headers)
        CLIENT.post(gateway.url + path, json={"prompt": PROMPT, "input_prefix": PROMPT}, headers=headers)
        CLIENT.post(f"{gateway.url}{path}?q={PROMPT}&key={secret}", json={"prompt": PROMPT}, headers=headers)
    for scheme in (f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN):
        gateway.complete(PROMPT, headers={"Authorization": scheme})
    CLIENT.post(gateway.url + COMPLETIONS, content=PROMPT.encode() * 400_000, headers=headers)


def traces(gateway: Gateway) -> dict[str, str]:
    """Return everything that the gateway left where others can read it."""
    metrics = f"http://127.0.0.1:{gateway.metrics_port}"
    pid = gateway.process.pid
    return {
        "log": gateway.log.read_text(),
        "metrics": CLIENT.get(f"{metrics}/metrics").text,
        "usage": CLIENT.get(f"{metrics}/usage").text,
        "environment": Path(f"/proc/{pid}/environ").read_text(),
        "command line": Path(f"/proc/{pid}/cmdline").read_text(),
    }


def test_with_keys_nothing_leaks(
    tmp_path: Path, fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    _, secret = create_key(tmp_path / "keys.json", "ann")
    gateway = start_gateway(fake_triton.address, auth="keys", keys_file=tmp_path / "keys.json")
    gateway.until_ready()
    provoke(gateway, fake_triton, secret)
    for where, text in {**traces(gateway), "key file": (tmp_path / "keys.json").read_text()}.items():
        for canary in (PROMPT, TOKEN, secret):
            assert canary not in text, f"{canary} is in the {where}"
    requests = [line for line in gateway.lines() if line.get("event") == "request"]
    assert len(requests) > 20
    assert {"request_id", "status_code", "duration_s", "client_ip", "caller"} <= set(requests[0])


@pytest.mark.redis
def test_with_gitlab_and_redis_nothing_leaks(
    gitlab: FakeGitLab, redis_server: RedisServer, fake_triton: FakeTritonThread, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(
        fake_triton.address,
        auth="gitlab",
        gitlab_api_url=gitlab.url,
        redis_url=redis_server.url,
        default_rpm=1000,
    )
    gateway.until_ready()
    provoke(gateway, fake_triton, TOKEN)
    admin = redis_server.admin()
    stored = repr([(key, admin.dump(key)) for key in admin.scan_iter()])
    assert "assist:auth" in stored
    for where, text in {**traces(gateway), "Redis": stored}.items():
        assert PROMPT not in text, f"the prompt is in the {where}"
        assert TOKEN not in text, f"the token is in the {where}"


def test_a_prompt_never_appears_in_an_error_body(shared_gateway: Gateway) -> None:
    for body in (
        {"prompt": [PROMPT, 1]},
        {"prompt": {PROMPT: 1}},
        {"prompt": PROMPT, "temperature": [PROMPT]},
    ):
        answer = CLIENT.post(shared_gateway.url + COMPLETIONS, json=body)
        assert answer.status_code == 400
        assert PROMPT not in answer.text


def test_time_series_do_not_grow_with_what_clients_send(shared_gateway: Gateway) -> None:
    def series() -> int:
        text = CLIENT.get(f"http://127.0.0.1:{shared_gateway.metrics_port}/metrics").text
        return sum(not line.startswith("#") for line in text.splitlines())

    def random_requests(first: int, last: int) -> None:
        with httpx.Client(base_url=shared_gateway.url, timeout=120) as client:
            for number in range(first, last):
                client.get(f"/path/{number}")
                client.request(f"VERB{number}", "/x")
                client.get(f"/v1/models/model-{number}")
                client.post(f"/v1/engines/engine-{number}/completions", json={"prompt": "a"})
                body = {"prompt": "a", "max_tokens": 1, "model": f"m{number}", f"field{number}": 1}
                client.post(COMPLETIONS, json=body, headers={"User-Agent": f"agent/{number}"})
                client.post(COMPLETIONS, json={"prompt": "a", "max_tokens": 1, "user": f"user-{number}"})

    random_requests(0, 3)
    before = series()
    random_requests(3, 60)
    assert series() == before
