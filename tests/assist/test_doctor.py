"""The doctor tells the truth, also when nothing runs."""

import socket
from pathlib import Path

import pytest

from assist import doctor, probe, speeds
from assist.client_env import ensure
from assist.deployment import Overrides, resolve
from assist.findings import Finding, exit_status
from assist.paths import SOURCE, Paths


@pytest.fixture
def layout(tmp_path: Path) -> Paths:
    layout = Paths(SOURCE, tmp_path / ".run")
    layout.config.mkdir(parents=True)
    return layout


def _started(layout: Paths) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = resolve("tiny", layout, Overrides(port=port)).gateway_environment()
    layout.gateway_env.write_text("".join(f"{name}='{value}'\n" for name, value in environment.items()))


def test_a_fresh_clone_is_down_and_make_up_is_the_remedy(layout):
    (finding,) = doctor.examine(layout)
    assert (finding.status, finding.remedy) == ("problem", "make up")


def test_a_service_that_is_down_is_called_down_and_asked_nothing(layout):
    _started(layout)
    ensure(layout, "http://127.0.0.1:1")
    findings = doctor.examine(layout)
    service = next(finding for finding in findings if finding.id == "service")
    assert "is down" in service.cause
    assert exit_status(findings) == 1
    assert not any(finding.id in {"completion", "gateway ready"} for finding in findings)


def test_a_stack_that_went_bad_is_neither_up_nor_down(layout, tmp_path):
    _started(layout)
    layout.gateway_env.write_text(
        layout.gateway_env.read_text().replace("stacks/tiny.yaml", "stacks/gone.yaml")
    )
    findings = doctor.examine(layout)
    assert exit_status(findings) == 2
    assert "gone.yaml" in findings[0].cause


def test_a_completion_is_the_measurement_of_the_model_s_speed(layout, monkeypatch):
    monkeypatch.setattr(probe, "complete", lambda _deployment: probe.Completion("text", "", 16, 2.0))
    deployment = resolve("local", layout)
    assert doctor.completion(deployment).status == "ok"
    stack = deployment.stack
    measured = speeds.Speed(8.0, stack.runtime, stack.precision)
    assert speeds.read(layout.speeds) == {stack.model.id: measured}


def test_a_model_file_cut_short_is_found(layout):
    _started(layout)
    deployment = resolve("tiny", layout)
    folder = layout.store / "tiny-codegen" / "1.ctranslate2-int8"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"files": [{"path": "model.bin", "size": 9}]}')
    (folder / "model.bin").write_bytes(b"123456789")
    deployment.model_link.symlink_to(folder.name)
    assert doctor._model(deployment).status == "ok"
    (folder / "model.bin").write_bytes(b"1234")
    assert "model.bin" in doctor._model(deployment).cause


def test_keys_that_others_can_read_are_a_problem_with_the_command_that_mends_it(layout):
    ensure(layout, "http://127.0.0.1:1")
    layout.keys.chmod(0o644)
    finding = doctor._keys(resolve("tiny", layout))
    assert finding.status == "problem"
    assert finding.remedy == f"chmod 600 {layout.keys}"


@pytest.mark.parametrize(
    ("statuses", "code"), [(["ok"], 0), (["ok", "unknown"], 2), (["unknown", "problem"], 1)]
)
def test_the_exit_status_says_well_wrong_or_unknown(statuses, code):
    assert exit_status([Finding("x", status, "") for status in statuses]) == code


def test_errors_in_a_log_are_a_warning_that_leaves_the_verdict_as_it_is(tmp_path):
    log = tmp_path / "gateway.log"
    log.write_text('{"level": "info"}\n{"level": "error", "event": "engine_down"}\n')
    finding = doctor._log("gateway", log, lambda line: '"error"' in line)
    assert finding.status == "warning"
    assert finding.remedy == "assist logs gateway"
    assert exit_status([finding]) == 0
