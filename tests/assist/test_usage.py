"""`assist keys usage` shows what the metrics port counted."""

import json

from typer.testing import CliRunner

from assist import deployment
from assist.cli import app
from assist.paths import SOURCE, Paths
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.metrics_server import serve
from gateway.telemetry.usage import Usage


def test_usage_is_what_the_gateway_counted_since_it_started(tmp_path, monkeypatch):
    usage = Usage()
    usage.add("k1", "alice", requests=3, tokens=70)
    server = serve(Metrics(), usage, "127.0.0.1", 0)
    deployed = deployment.resolve("tiny", Paths(SOURCE, tmp_path))
    gateway = deployed.stack.gateway.model_copy(update={"metrics_port": server.port})
    here = deployment.Deployment(
        deployed.stack_file, deployed.stack.model_copy(update={"gateway": gateway}), deployed.layout
    )
    monkeypatch.setattr(deployment, "current", lambda _layout: here)
    try:
        done = CliRunner().invoke(app, ["keys", "usage", "--json"])
        shown = CliRunner().invoke(app, ["keys", "usage"])
    finally:
        server.close()
    assert json.loads(done.stdout)["k1"]["tokens"] == 70
    assert "alice" in shown.stdout


def test_usage_of_a_service_that_is_down_says_how_to_start_it(tmp_path, monkeypatch):
    here = deployment.resolve("tiny", Paths(SOURCE, tmp_path))
    gateway = here.stack.gateway.model_copy(update={"metrics_port": 9})
    down = deployment.Deployment(
        here.stack_file, here.stack.model_copy(update={"gateway": gateway}), here.layout
    )
    monkeypatch.setattr(deployment, "current", lambda _layout: down)
    done = CliRunner().invoke(app, ["keys", "usage"])
    assert done.exit_code == 1
    assert "make up" in done.output
