"""The doctor of this machine tells the truth, also when nothing runs."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from assist import doctor, probe, speeds
from assist.client_env import ensure
from assist.deployment import Overrides, resolve
from assist.doctor import local, model
from assist.doctor.local import Local
from assist.findings import Finding, exit_status
from assist.paths import SOURCE, Paths
from model_loader.download.hashing import hash_file
from model_loader.plan import WantedFile
from model_loader.store.store import Manifest
from testing import needs


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
    (finding,) = doctor.examine(Local(layout))
    assert (finding.status, finding.remedy) == ("problem", "make up")


def test_a_service_that_is_down_is_called_down_and_asked_nothing(layout):
    _started(layout)
    ensure(layout, "http://127.0.0.1:1")
    findings = doctor.examine(Local(layout))
    service = next(finding for finding in findings if finding.id == "service")
    assert "is down" in service.cause
    assert exit_status(findings) == 1
    assert not any(finding.id in {"completion", "gateway ready"} for finding in findings)


def test_a_stack_that_went_bad_is_neither_up_nor_down(layout, tmp_path):
    _started(layout)
    layout.gateway_env.write_text(
        layout.gateway_env.read_text().replace("stacks/tiny.yaml", "stacks/gone.yaml")
    )
    findings = doctor.examine(Local(layout))
    assert exit_status(findings) == 2
    assert "gone.yaml" in findings[0].cause


def test_a_completion_is_the_measurement_of_the_model_s_speed(layout, monkeypatch):
    monkeypatch.setattr(probe, "complete", lambda _deployment: probe.Completion("text", "", 16, 2.0))
    deployment = resolve("local", layout)
    assert doctor.completion(deployment).status == "ok"
    stack = deployment.stack
    measured = speeds.Speed(8.0, stack.runtime, stack.precision)
    assert speeds.read(layout.speeds) == {stack.model.id: measured}


@pytest.fixture
def stored(layout):
    """Return a deployment whose model has one file, of nine bytes."""
    _started(layout)
    folder = layout.store / "tiny-codegen" / "1.ctranslate2-int8"
    folder.mkdir(parents=True)
    file = folder / "model.bin"
    file.write_bytes(b"123456789")
    file.chmod(0o644)
    files = (WantedFile("model.bin", 9, hash_file(file)),)
    (folder / "manifest.json").write_bytes(Manifest("tiny-codegen", "1", "here", files, {}).to_json())
    deployment = resolve("tiny", layout)
    deployment.model_link.symlink_to(folder.name)
    return deployment


def test_every_byte_of_the_model_is_compared_and_the_remedy_names_the_stack(stored):
    assert model.check(stored).status == "ok"
    (stored.model_dir / "model.bin").write_bytes(b"123456780")
    found = model.check(stored)
    assert found.fault == "model-damaged"
    assert "model.bin (sha256)" in found.cause
    assert found.since
    assert found.remedy.endswith("--repair && make up STACK=tiny")
    assert model.check(stored, quick=True).status == "ok"


def test_a_model_file_cut_short_is_found_in_the_quick_check_too(stored):
    (stored.model_dir / "model.bin").write_bytes(b"1234")
    for quick in (False, True):
        assert model.check(stored, quick=quick).fault == "model-damaged"


def test_a_link_that_points_nowhere_is_a_missing_model(stored):
    stored.model_link.unlink()
    stored.model_link.symlink_to("gone")
    assert model.check(stored).fault == "model-missing"


def test_keys_that_others_can_read_are_a_problem_with_the_command_that_mends_it(layout):
    ensure(layout, "http://127.0.0.1:1")
    layout.keys.chmod(0o644)
    finding = local.keys(resolve("tiny", layout))
    assert (finding.status, finding.fault) == ("problem", "keys-open")
    assert finding.remedy == f"chmod 600 {layout.keys}"


def test_the_next_start_makes_keys_private_that_others_can_read(layout):
    ensure(layout, "http://127.0.0.1:1")
    layout.keys.chmod(0o644)
    assert ensure(layout, "http://127.0.0.1:1")
    assert layout.keys.stat().st_mode & 0o077 == 0
    assert not ensure(layout, "http://127.0.0.1:1")


@pytest.mark.parametrize(("mib", "fault"), [(32, "disk-full"), (200, "disk-low")])
def test_a_disk_that_is_full_or_nearly_so_is_named(tmp_path, mib, fault):
    if os.geteuid():
        pytest.skip(needs.reason("root alone can mount a small disk", needs.AS_ROOT))
    home = tmp_path / "run"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}M", "tmpfs", home], check=True)
    try:
        layout = Paths(SOURCE, home)
        layout.config.mkdir(parents=True)
        _started(layout)
        assert fault in {one.fault for one in Local(layout).findings()}
    finally:
        subprocess.run(["umount", home], check=True)


@pytest.mark.parametrize(
    ("statuses", "code"), [(["ok"], 0), (["ok", "unknown"], 2), (["unknown", "problem"], 1)]
)
def test_the_exit_status_says_well_wrong_or_unknown(statuses, code):
    assert exit_status([Finding("x", status, "") for status in statuses]) == code
