"""The same stack on Kubernetes and on hosts: the same settings reach the same programs, which answer alike."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.auth.keys import create_key
from stackfile.catalogue import ROOT
from testing.doubles.fake_triton import FakeTritonThread
from testing.servers.gateway_process import MODEL_DIR, Gateway
from tests.integration.parity import deployments

# What differs because a pod and a host are different places; every other setting must be equal.
PLACES = {
    "ASSIST_HOST": "a pod listens for its Service, a host's gateway for NGINX",
    "ASSIST_METRICS_HOST": "the same",
    "TRITON_HOST": "a Service's name; hosts name every Triton in ASSIST_ENGINE_URL",
    "ASSIST_ENGINE_URL": "the addresses of the GPU hosts",
    "ASSIST_MODEL_DIR": "where the store is mounted, or lies",
    "ASSIST_KEYS_FILE": "where the Secret is mounted, or the file lies",
    "ASSIST_DRAINED_FILE": "an update of hosts drains by it; Kubernetes has endpoints",
    "--model-dir": "where the store is mounted, or lies",
    "--intra-threads": "a pod's share of its node's cores; a host's runtime counts them itself",
}
# The queue is a part of hosts; a cluster's gateways say so with 404.
JOBS = "ASSIST_JOBS_"
TABLE = ROOT / "docs/parity.md"
Answers = dict[str, tuple[int, Any]]


def kubernetes() -> dict[str, str]:
    """Return every setting of the gateway and of Triton's models on Kubernetes."""
    triton = deployments.repository_on_kubernetes()
    return deployments.gateway_on_kubernetes() | {f"--{name}": value for name, value in triton.items()}


def hosts() -> dict[str, str]:
    """Return the same on hosts, but for the queue."""
    triton = deployments.repository_on_hosts()
    found = deployments.gateway_on_hosts() | {f"--{name}": value for name, value in triton.items()}
    return {name: value for name, value in found.items() if not name.startswith(JOBS)}


def test_every_setting_that_is_no_place_is_equal():
    equal = {name: value for name, value in kubernetes().items() if name not in PLACES}
    assert {name: value for name, value in hosts().items() if name not in PLACES} == equal
    assert {
        "ASSIST_MODEL",
        "ASSIST_ENGINE_WAIT_S",
        "ASSIST_DEADLINE_S",
        "--runtime",
        "--precision",
    } <= equal.keys()


def test_no_setting_is_called_a_place_that_is_equal_on_both():
    assert not {name for name in PLACES if kubernetes().get(name) == hosts().get(name)}


def test_the_loader_fetches_the_same_model_revision_runtime_and_precision():
    assert deployments.loader_on_hosts() == deployments.loader_on_kubernetes()


def test_the_table_in_the_documents_names_every_setting_that_is_equal_and_no_other():
    listed = set(re.findall(r"^\| `([^`]+)`", TABLE.read_text(), re.MULTILINE))
    assert listed == {name for name in kubernetes() if name not in PLACES}


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[Gateway], str]]:
    """Run a gateway with each target's settings, in places of this machine, in front of one engine."""
    folder = tmp_path_factory.mktemp("parity")
    _, key = create_key(folder / "keys.json", "somebody")
    engine = FakeTritonThread()
    with ExitStack() as stack:
        stack.callback(engine.close)
        started = []
        for name, environment in (
            ("kubernetes", deployments.gateway_on_kubernetes()),
            ("hosts", deployments.gateway_on_hosts()),
        ):
            gateway = Gateway(engine.address, folder / f"{name}.log")
            ours = gateway.environment
            places = {"ASSIST_KEYS_FILE": str(folder / "keys.json"), "ASSIST_MODEL_DIR": str(MODEL_DIR)}
            settings = {n: v for n, v in environment.items() if n not in PLACES and not n.startswith(JOBS)}
            for ports in ("API_EXTERNAL_PORT", "ASSIST_METRICS_PORT"):
                settings.pop(ports)
            ours.pop("ASSIST_AUTH")
            gateway.environment = ours | settings | places
            gateway.start()
            stack.callback(gateway.kill)
            gateway.until_ready()
            started.append(gateway)
        yield started, key


def contract(gateway: Gateway, key: str) -> Answers:
    """Ask what clients ask, rightly and wrongly; return the answers without ids and times."""
    good = {"prompt": "def f(x):", "max_tokens": 8, "temperature": 0, "seed": 1}
    limit = int(deployments.gateway_on_hosts()["ASSIST_MAX_BODY_BYTES"])
    with httpx.Client(
        base_url=gateway.url, headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False
    ) as client:
        completions = "/v1/completions"
        return {
            "completion": _seen(client.post(completions, json=good)),
            "stream": _seen(client.post(completions, json=good | {"stream": True})),
            "several choices": _seen(client.post(completions, json=good | {"n": 16})),
            "too many choices": _seen(client.post(completions, json=good | {"n": 17})),
            "too many tokens": _seen(client.post(completions, json=good | {"max_tokens": 1025})),
            "no JSON": _seen(client.post(completions, content=b"{")),
            "too large": _seen(client.post(completions, json=good | {"prompt": "x" * limit})),
            "a stranger": _seen(client.post(completions, json=good, headers={"Authorization": "Bearer x"})),
            "models": _seen(client.get("/v1/models")),
            "ready": _seen(client.get("/ready")),
            "metrics": _metric_names(gateway),
        }


def _seen(answer: httpx.Response) -> tuple[int, Any]:
    text = re.sub(r'"(id|created|request_id)": ?("[^"]*"|\d+),?', "", answer.text)
    return answer.status_code, text


def _metric_names(gateway: Gateway) -> tuple[int, Any]:
    answer = httpx.get(f"http://127.0.0.1:{gateway.metrics_port}/metrics", timeout=10, trust_env=False)
    return answer.status_code, sorted(set(re.findall(r"^# TYPE (\S+)", answer.text, re.MULTILINE)))


def test_both_answer_the_same_contract_alike(gateways: tuple[list[Gateway], str]) -> None:
    (cluster, host), key = gateways
    expected = contract(cluster, key)
    assert contract(host, key) == expected
    assert {name: status for name, (status, _) in expected.items()} == {
        "completion": 200, "stream": 200, "several choices": 200, "too many choices": 400,
        "too many tokens": 200, "no JSON": 400, "too large": 413, "a stranger": 401, "models": 200,
        "ready": 200, "metrics": 200,
    }  # fmt: skip


def test_the_same_program_serves_on_both() -> None:
    unit = Path(ROOT / "ansible/roles/gateway/templates/ai-assist-gateway.service.j2").read_text()
    assert re.search(r"^ExecStart=.*python -P -m gateway$", unit, re.MULTILINE)
    image = (ROOT / "images/gateway.Containerfile").read_text()
    assert re.search(r'^(CMD|ENTRYPOINT) \[.*"-m", "gateway"\]', image, re.MULTILINE)
