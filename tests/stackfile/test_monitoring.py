"""The section ``monitoring``: what it does to the processes, and what it refuses."""

from pathlib import Path

import pytest
import yaml

from assist.deployment import needed_locks
from stackfile import StackFileError, load_stack
from stackfile.environment import GatewayPaths, gateway_environment

LOCAL = {"name": "s", "target": "local", "model": "tiny-codegen"}
PATHS = GatewayPaths(Path("/model"), Path("/keys.json"))
COLLECTOR = "http://collector:4318"


def loaded(tmp_path: Path, **settings: object):
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(LOCAL | settings))
    return load_stack(file)


def test_without_traces_the_gateway_gets_no_endpoint_and_no_package_for_it(tmp_path):
    stack = loaded(tmp_path)
    assert "ASSIST_OTLP_ENDPOINT" not in gateway_environment(stack, PATHS)
    assert needed_locks(stack)["gateway"] == ["gateway.txt"]


def test_with_traces_the_gateway_gets_both(tmp_path):
    stack = loaded(tmp_path, monitoring={"traces": COLLECTOR, "users": 7})
    environment = gateway_environment(stack, PATHS)
    assert environment["ASSIST_OTLP_ENDPOINT"] == COLLECTOR
    assert environment["ASSIST_METRICS_USERS"] == "7"
    assert needed_locks(stack)["gateway"] == ["gateway.txt", "tracing.txt"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"monitoring": {"traces": "collector:4318"}}, "http(s) URL"),
        ({"monitoring": {"objectives": {"first_token_ms": 123}}}, "first_token_ms"),
        ({"monitoring": {"objectives": {"availability_percent": 100}}}, "less than 100"),
        ({"monitoring": {"traces": COLLECTOR}, "target": "kubernetes"}, "not available on clusters"),
    ],
)
def test_what_cannot_work_is_refused_with_its_key(tmp_path, settings, said):
    with pytest.raises(StackFileError) as caught:
        loaded(tmp_path, **settings)
    assert said in str(caught.value)
    assert "monitoring" in str(caught.value)
