"""The real service, and a real Prometheus that scrapes it."""

import json
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
from stackfile.resolve import load_stack
from stackfile.resolved import ResolvedStack
from testing.needs import program
from testing.ports import free_ports
from testing.servers.gateway_process import Gateway
from testing.servers.redis_server import redis_server
from testing.servers.triton import ROOT, Triton, running_triton
from testing.until import until

__all__ = ["redis_server"]
NAME = "tiny"
# One client for all: each new one loads the certificate store.
_CLIENT = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=60, trust_env=False)


@dataclass
class Live:
    """The service, its stack, and the Prometheus that scrapes it."""

    stack: ResolvedStack
    gateway: Gateway
    secret: str
    url: str

    def api(self, path: str, **query: str) -> Any:
        answer = _CLIENT.get(f"{self.url}/api/v1/{path}", params=query).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, expression: str, **at: str) -> list[Any]:
        """Evaluate an expression, now or at the Unix ``time``."""
        return self.api("query", query=expression, **at)["result"]

    def load(self) -> None:
        """Send one request of each kind, whole and as a stream, and one that fails."""
        headers = {"Authorization": f"Bearer {self.secret}"}
        for stream in (False, True):
            for body in ({}, {"suffix": "\n"}):
                self.gateway.complete(headers=headers, stream=stream, **body)
            path, body = "/completion", {"prompt": "def f(x):", "n_predict": 4, "stream": stream}
            _CLIENT.post(self.gateway.url + path, json=body, headers=headers)


@pytest.fixture(scope="module")
def served(tiny_int8: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """Run Triton on a model folder as the store has it, with a manifest."""
    work = tmp_path_factory.mktemp("monitored")
    model = work / "model"
    shutil.copytree(tiny_int8, model)
    manifest = {"model": "tiny-codegen", "revision": revision()}
    (model / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with running_triton(work, model, runtime="ctranslate2", precision="int8", context_length=2048) as server:
        yield server


def revision() -> str:
    return load_stack(ROOT / f"stacks/{NAME}.yaml").model.revision


@pytest.fixture
def beside() -> list[scrape.Target]:
    """Return what to scrape beside the service; a test's file may have its own."""
    return []


@pytest.fixture
def live(served: Triton, redis_server, beside: list[scrape.Target], tmp_path: Path) -> Iterator[Live]:
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
    configuration = scrape.configuration(
        found, [*scrape.local_targets(found), *beside], [str(rule_file)], "1s"
    )
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
        return _CLIENT.get(f"{url}/-/ready").is_success
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
