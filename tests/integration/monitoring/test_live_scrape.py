"""A real Prometheus on the real service: every metric and label of every rule exists, and nothing alerts."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.auth.keys import create_key
from monitoring import rules, scrape
from serving.model_repository import Repository, generate
from stackfile.resolve import load_stack
from stackfile.resolved import ResolvedStack
from testing.needs import program
from testing.ports import free_ports
from testing.servers.gateway_process import Gateway
from testing.servers.redis_server import redis_server
from testing.servers.triton import ROOT, Triton, require_triton
from testing.until import until

__all__ = ["redis_server"]
pytestmark = [pytest.mark.triton, pytest.mark.redis]
NAME = "tiny"
# A metric and its selectors, as in `up{job="gateway", stack="tiny"}`.
SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


@dataclass
class Live:
    """The service, its stack, and the Prometheus that scrapes it."""

    stack: ResolvedStack
    gateway: Gateway
    secret: str
    url: str

    def api(self, path: str, **query: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=query, timeout=60, trust_env=False).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, expression: str) -> list[Any]:
        return self.api("query", query=expression)["result"]

    def load(self) -> None:
        """Send one request of each kind, whole and as a stream, and one that fails."""
        headers = {"Authorization": f"Bearer {self.secret}"}
        for stream in (False, True):
            for body in ({}, {"suffix": "\n"}):
                self.gateway.complete(headers=headers, stream=stream, **body)
            path, body = "/completion", {"prompt": "def f(x):", "n_predict": 4, "stream": stream}
            httpx.post(self.gateway.url + path, json=body, headers=headers, timeout=60, trust_env=False)


@pytest.fixture(scope="module")
def served(tiny_int8: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """Run Triton on a model folder as the store has it, with a manifest."""
    require_triton()
    work = tmp_path_factory.mktemp("monitored")
    model = work / "model"
    shutil.copytree(tiny_int8, model)
    manifest = {"model": "tiny-codegen", "revision": revision()}
    (model / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    generate(
        work / "repository",
        Repository(model_dir=model, runtime="ctranslate2", precision="int8", context_length=2048),
    )
    server = Triton(work / "repository", model, work / "triton.log")
    server.start()
    yield server
    server.kill()


def revision() -> str:
    return load_stack(ROOT / f"stacks/{NAME}.yaml").model.revision


@pytest.fixture
def live(served: Triton, redis_server, tmp_path: Path) -> Iterator[Live]:
    program("prometheus")
    keys = tmp_path / "keys.json"
    _, secret = create_key(keys, "ada")
    gateway = Gateway(
        served.grpc, tmp_path / "gateway.log", auth="keys", keys_file=keys, redis_url=redis_server.url,
        jobs_redis_url=redis_server.url, model_revision=revision(), release="1", use_local_cache="false",
        recent_answers_s=0,
    )  # fmt: skip
    gateway.start("/ready")
    found = stack_of(gateway, served)
    port = free_ports(1)[0]
    rule_file = tmp_path / "rules.yml"
    rule_file.write_text(rules.to_yaml(rules.rule_file(found)), encoding="utf-8")
    configuration = scrape.configuration(found, scrape.local_targets(found), [str(rule_file)], "1s")
    (tmp_path / "prometheus.yml").write_text(rules.to_yaml(configuration), encoding="utf-8")
    argv = [
        "prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/series",
        f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage",
    ]  # fmt: skip
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        made = Live(found, gateway, secret, f"http://127.0.0.1:{port}")
        until(lambda: is_ready(made.url), evidence=(tmp_path / "prometheus.log").read_text)
        yield made
    finally:
        process.kill()
        process.wait()
        gateway.kill()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).is_success
    except httpx.HTTPError:
        return False


def stack_of(gateway: Gateway, served: Triton) -> ResolvedStack:
    """Return the stack with the ports of the running processes."""
    stack = load_stack(ROOT / f"stacks/{NAME}.yaml")
    ports = {"metrics_port": int(served.metrics.rpartition(":")[2])}
    return stack.model_copy(
        update={
            "gateway": stack.gateway.model_copy(update={"metrics_port": gateway.metrics_port}),
            "triton": stack.triton.model_copy(update=ports),
        }
    )


def selectors(stack: ResolvedStack) -> set[str]:
    """Return every metric of the rules with every label that they read, as a query that needs both."""
    found = set()
    for group in rules.rule_file(stack)["groups"]:
        for rule in group["rules"]:
            for metric, labels in SELECTOR.findall(rule["expr"]):
                names = sorted(set(LABEL.findall(re.sub(r'"[^"]*"', '""', labels))))
                wanted = (
                    [f'job="{job}"' for job in re.findall(r'job="(\w+)"', labels)] if metric == "up" else []
                )
                wanted += [f'{name}=~".+"' for name in names if not (metric == "up" and name == "job")]
                found.add(f"{metric}{{{', '.join(wanted)}}}")
    return found


def test_every_metric_and_label_of_every_rule_is_in_the_scrape_and_nothing_alerts(live):
    wanted = selectors(live.stack) - {each for each in selectors(live.stack) if 'job="worker"' in each}
    assert len(wanted) >= 12

    def unknown() -> list[str]:
        live.load()
        return [selector for selector in sorted(wanted) if not live.value(f"count({selector})")]

    until(lambda: unknown() == [], evidence=unknown)

    def recorded() -> bool:
        live.load()
        return bool(live.value('stack:assist_request_errors:ratio_rate5m{stack="tiny"}')) and bool(
            live.value('stack:assist_first_token_slow:ratio_rate5m{stack="tiny"}')
        )

    until(recorded)
    assert float(live.value('assist_engine_load_seconds{stack="tiny"}')[0]["value"][1]) > 0
    assert live.value('process_resident_memory_bytes{stack="tiny", job="gateway"}')
    evaluated = [rule for group in live.api("rules")["groups"] for rule in group["rules"]]
    assert len(evaluated) == sum(len(group["rules"]) for group in rules.rule_file(live.stack)["groups"])
    until(lambda: all(each["health"] != "unknown" for each in live.api("rules")["groups"][0]["rules"]))
    assert [rule for rule in evaluated if rule.get("lastError")] == []
    assert live.api("alerts")["alerts"] == []
    assert live.value('stack:assist_request_errors:ratio_rate5m{stack="tiny"}')[0]["value"][1] == "0"


def test_a_stopped_gateway_and_a_damaged_key_file_are_seen(live):
    keys = Path(live.gateway.environment["ASSIST_KEYS_FILE"])
    good = keys.read_text()
    until(lambda: live.value('assist_keys_readable{stack="tiny"} == 1'))
    keys.write_text("{")
    until(lambda: any(alert["labels"]["alertname"] == "KeyFileUnreadable" for alert in alerts(live)))
    keys.write_text(good)
    until(lambda: alerts(live) == [])
    live.gateway.kill()
    until(lambda: any(alert["labels"]["alertname"] == "GatewayDown" for alert in alerts(live)))


def alerts(live: Live) -> list[dict[str, Any]]:
    """Return the alerts that wait for their time or fire."""
    return live.api("alerts")["alerts"]


def test_exemplars_lead_from_the_latency_to_the_request(live):
    live.load()
    query = 'gen_ai_server_request_duration_seconds_bucket{stack="tiny"}'

    def exemplars() -> list[Any]:
        live.load()
        return live.api("query_exemplars", query=query, start="0", end="99999999999")

    until(exemplars)
    labels = exemplars()[0]["exemplars"][0]["labels"]
    assert len(labels["request_id"]) == 32
