"""Every expression of every dashboard, evaluated by a real Prometheus on the real service and a host's exporter."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.auth.keys import create_key
from monitoring import scrape
from testing.needs import program
from testing.ports import free_ports
from testing.servers.triton import ROOT
from testing.until import until
from tests.monitoring import elsewhere
from tests.monitoring.committed import Shown, documents, shown

pytestmark = [pytest.mark.triton, pytest.mark.redis, pytest.mark.slow]
HOST = "machine"
FILES = ROOT / "ansible/roles/monitoring/files"
# What a GPU of nvidia-smi says, in the order in which the program asks for it.
GPU = "0, GPU-a, Tesla T4, 37, 4011, 11234, 61, 68.10, 0"


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[list[scrape.Target]]:
    """Run the exporter of a host with what our programs write there: a GPU's metrics, a certificate's end."""
    program("prometheus-node-exporter")
    programs, texts = tmp_path / "bin", tmp_path / "texts"
    programs.mkdir()
    texts.mkdir()
    (programs / "nvidia-smi").write_text(f"#!/bin/sh\necho '{GPU}'\n")
    (programs / "nvidia-smi").chmod(0o755)
    expires = f"assist_certificate_expires_timestamp_seconds {time.time() + 30 * 86400:.0f}\n"
    (texts / "certificate.prom").write_text(expires)
    (port,) = free_ports(1)
    exporter = [
        "prometheus-node-exporter",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--collector.textfile.directory={texts}",
    ]
    gpus = [sys.executable, "-I", str(FILES / "gpu_metrics.py"), str(texts / "gpus.prom"), "60", "1"]
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    with (tmp_path / "exporter.log").open("wb") as log:
        started = [
            subprocess.Popen(each, env=environment, stdout=log, stderr=log) for each in (exporter, gpus)
        ]
    try:
        yield [scrape.Target("node", f"127.0.0.1:{port}", HOST)]
    finally:
        for process in started:
            process.kill()
            process.wait()


def evaluated() -> list[Shown]:
    """Return the expressions whose metrics this machine has: all that no other target alone has."""
    here = []
    for each in shown():
        foreign = [elsewhere.has(metric, labels) for metric, labels in each.selectors().items()]
        assert foreign, f"no metric in {each}"
        # With vector(0) there is a value also where the metric is not.
        if not all(foreign) or each.expression.endswith("or vector(0)"):
            here.append(each)
    return here


def values() -> dict[str, str]:
    """Return what the reader chooses, and a window that a slow machine's load does not leave."""
    variables = documents()["capacity"]["templating"]["list"]
    (price,) = (each["query"] for each in variables if each["name"] == "price")
    return {"stack": "tiny", "host": HOST, "price": price, "__rate_interval": "5m"}


def load(live: Any, limited: str) -> None:
    """Send what succeeds, and what fails by its caller: a wrong key, one over its limit, a wrong request."""
    live.load()
    headers = {"Authorization": f"Bearer {limited}"}
    assert {live.gateway.complete(headers=headers).status_code for _ in range(2)} <= {200, 429}
    assert live.gateway.complete(headers={"Authorization": "Bearer no-key"}).status_code == 401
    wrong = live.gateway.complete(headers={"Authorization": f"Bearer {live.secret}"}, max_tokens=-1)
    assert 400 <= wrong.status_code < 500


def problem(live: Any, each: Shown, at: float) -> str:
    """Return what is wrong with the result of an expression; nothing if it is as its panel needs it."""
    result = live.value(each.filled(values()), time=str(at))
    if not any(math.isfinite(float(series["value"][1])) for series in result):
        return f"{each}: no value in {result}"
    lacking = [series["metric"] for series in result if not each.labels <= series["metric"].keys()]
    return f"{each}: {lacking} lack labels" if lacking else ""


def unknown(live: Any, wanted: list[Shown]) -> list[str]:
    """Return the labels of metrics that no series of the scrape has."""
    query = {"match[]": '{stack="tiny"}', "start": str(time.time() - 600)}
    there = {(series["__name__"], label) for series in live.api("series", **query) for label in series}
    read = {
        (metric, label)
        for each in wanted
        for metric, labels in each.selectors().items()
        if not elsewhere.has(metric, labels)
        for label in labels
    }
    return [f"{metric} has no label {label}" for metric, label in sorted(read - there)]


def test_every_expression_of_every_panel_has_values_with_the_labels_that_it_shows(live):
    wanted = evaluated()
    assert len(wanted) >= 0.75 * len(shown())
    _, limited = create_key(Path(live.gateway.environment["ASSIST_KEYS_FILE"]), "bob", rpm=1)
    headers = {"Authorization": f"Bearer {limited}"}
    until(lambda: live.gateway.complete(headers=headers).status_code != 401)

    def problems() -> list[str]:
        load(live, limited)
        # One time for all: however long the evaluation takes, the load is in the window.
        now = time.time()
        return [*unknown(live, wanted), *filter(None, (problem(live, each, now) for each in wanted))]

    until(lambda: problems() == [], evidence=lambda: "\n".join(problems()))


def test_what_a_reader_may_choose_is_there(live):
    """The variables' own queries find the stack and the host."""

    def names(query: str) -> list[str]:
        selector, _, label = query.removeprefix("label_values(").removesuffix(")").rpartition(", ")
        return live.api(f"label/{label}/values", **{"match[]": selector.replace("$stack", "tiny")})

    def found(query: str, expected: str) -> bool:
        return names(query) == [expected]

    for board, variable, expected in (("service", "stack", "tiny"), ("host", "host", HOST)):
        listed = documents()[board]["templating"]["list"]
        (query,) = (each["query"]["query"] for each in listed if each["name"] == variable)
        until(partial(found, query, expected), evidence=partial(names, query))
