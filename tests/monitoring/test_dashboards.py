"""The committed dashboards: current, as Grafana's schema has them, without what a plain Grafana lacks."""

import importlib.util
import itertools
import json
import re
import subprocess
import sys
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring import rules
from stackfile.catalogue import ROOT
from stackfile.resolve import load_stack
from testing.needs import program
from tests.monitoring import elsewhere
from tests.monitoring.committed import SELECTOR, documents, panels, shown

DOCUMENTS = documents()
PLAIN = {"stat", "timeseries", "heatmap", "table", "row"}
OF_GRAFANA = {"__rate_interval"}


def test_the_committed_files_are_those_that_the_code_makes():
    done = subprocess.run(
        [sys.executable, "scripts/dashboards.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_there_is_a_dashboard_for_each_question_and_each_has_panels():
    assert set(DOCUMENTS) == {"service", "engine", "capacity", "users", "updates", "host", "pod"}
    assert all(len(list(panels(document))) >= 9 for document in DOCUMENTS.values())
    assert len({document["uid"] for document in DOCUMENTS.values()}) == len(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_grafanas_schema_reads_a_dashboard_and_writes_the_same(name):
    register_default_plugins()
    document = DOCUMENTS[name]
    read = Dashboard.from_json(json.loads(json.dumps(document)))
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == document


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_dashboard_needs_nothing_but_a_prometheus_that_the_reader_chooses(name):
    document = DOCUMENTS[name]
    variables = {each["name"]: each for each in document["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert all(each["datasource"] == chosen for each in variables.values() if each["type"] == "query")
    for panel in panels(document):
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen for target in panel["targets"])
    assert {panel["type"] for panel in (*document["panels"], *panels(document))} <= PLAIN
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(document["panels"]))) - {"datasource"}
    assert used <= (variables.keys() | OF_GRAFANA)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_panels_have_ids_and_places_of_their_own(name):
    placed = DOCUMENTS[name]["panels"]
    assert len({panel["id"] for panel in placed}) == len(placed)
    for one, other in itertools.combinations([panel["gridPos"] for panel in placed], 2):
        assert not _overlap(one, other), (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in placed)


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


def test_prometheus_parses_every_expression(tmp_path):
    program("promtool")
    values = {"stack": "s", "host": "h", "namespace": "n", "pod": "p", "price": "1", "__rate_interval": "1m"}
    listed = [
        {"record": f"shown:{number}", "expr": each.filled(values)} for number, each in enumerate(shown())
    ]
    file = tmp_path / "shown.yml"
    file.write_text(rules.to_yaml({"groups": [{"name": "shown", "rules": listed}]}), "utf-8")
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(listed)} rules found" in done.stdout


def test_metrics_that_only_other_targets_have_are_shown_and_are_those_of_the_alerts_and_exporters():
    read = {metric for each in shown() for metric in each.selectors()}
    assert set(elsewhere.METRICS) <= read
    gpus = importlib.util.spec_from_file_location(
        "gpus", ROOT / "ansible/roles/monitoring/files/gpu_metrics.py"
    )
    assert gpus is not None
    assert gpus.loader is not None
    module = importlib.util.module_from_spec(gpus)
    gpus.loader.exec_module(module)
    assert set(elsewhere.EXPORTERS["dcgm-exporter"]) <= {metric for _, metric, _ in module.FIELDS}
    alerts = rules.rule_file(load_stack(ROOT / "stacks/gke-prod.yaml"))["groups"]
    alerted = {
        metric for group in alerts for rule in group["rules"] for metric, _ in SELECTOR.findall(rule["expr"])
    }
    assert {"kubelet_volume_stats_available_bytes", "kube_pod_status_unschedulable"} <= alerted
