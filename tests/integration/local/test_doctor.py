"""Each fault of a real local service is named, alone and as the cause of what follows, and its remedy heals."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from assist.doctor.faults import FAULTS
from testing.until import until
from tests.integration.local.test_local_target import Clone, pids

pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.timeout(1500)]

# Faults of the table whose tests are elsewhere, as they need no service or another one's course.
ELSEWHERE = {
    "change-failed": "test_switch.py",
    "disk-full": "tests/assist/doctor/test_local.py",
    "disk-low": "tests/assist/doctor/test_local.py",
    "log-errors": "tests/assist/doctor/test_logs.py",
}
# What is a cause only where its own cause cannot be seen: found below other faults.
SYMPTOMS = {"engine-not-ready", "gateway-not-ready"}
_HOLD = """
import socket, sys, time
held = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("holding", flush=True)
time.sleep(3600)
"""


class Service:
    """The running service of a clone, what broke it, and what the doctor says."""

    def __init__(self, clone: Clone) -> None:
        self.clone, self.layout, self.ends = clone, clone.layout, ExitStack()

    def control(self, *words: str) -> None:
        program = self.layout.python("control").with_name("supervisorctl")
        command = [program, "-c", self.layout.supervisor_config, *words]
        subprocess.run(command, capture_output=True, timeout=120, check=False)

    def doctor(self) -> tuple[int, list[dict[str, Any]]]:
        code, document = self.clone.assist("doctor", "--json")
        return code, document["findings"]

    def problems(self) -> list[dict[str, Any]]:
        return [one for one in self.doctor()[1] if one["status"] != "ok"]

    @property
    def variant(self) -> Path:
        return (self.layout.store / "tiny-codegen/current.ctranslate2-int8").resolve()

    def python(self, code: str) -> None:
        program = self.layout.python("control")
        subprocess.run([program, "-P", "-c", code], cwd=self.clone.root, check=True, timeout=60)


def _down(service: Service) -> None:
    service.clone.make("down")


def _lose_supervisor(service: Service) -> None:
    pid = int((service.layout.config / "supervisord.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=20)


def _stop_gateway(service: Service) -> None:
    service.control("stop", "gateway")


def _break_repository(service: Service) -> None:
    (config,) = service.layout.repository.glob("fastertransformer/config.pbtxt")
    config.write_text("name: [\n")
    os.kill(pids(service.clone)["triton"], signal.SIGKILL)


def _hang_triton(service: Service) -> None:
    os.kill(pids(service.clone)["triton"], signal.SIGSTOP)


def _take_port(service: Service) -> None:
    service.control("stop", "triton")
    port = json.loads(service.clone.stack.read_text().split("triton: ")[1])["http_port"]
    command = [sys.executable, "-c", _HOLD, str(port)]
    holder = service.ends.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    service.ends.callback(holder.kill)
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "holding"
    service.control("start", "triton")


def _change_stack(service: Service) -> None:
    text = service.clone.stack.read_text()
    service.clone.stack.write_text(text.replace("cache:", "limits: {max_queue: 23}\ncache:"))


def _remove_environment(service: Service) -> None:
    folder = service.layout.python("gateway").parents[1]
    folder.rename(folder.with_name("gateway-away"))


def _unlink_model(service: Service) -> None:
    (service.layout.store / "tiny-codegen/current.ctranslate2-int8").unlink()


def _flip_byte(service: Service) -> None:
    file = service.variant / "model.bin"
    file.chmod(0o644)
    with file.open("r+b") as stream:
        stream.seek(-40_000, os.SEEK_END)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 1]))


def _cut_file(service: Service) -> None:
    file = service.variant / "model.bin"
    file.chmod(0o644)
    os.truncate(file, file.stat().st_size - 1000)


def _damage_keys(service: Service) -> None:
    text = service.layout.keys.read_text()
    service.layout.keys.write_text(text[: len(text) - 20])


def _open_keys(service: Service) -> None:
    service.layout.keys.chmod(0o644)


def _revoke_keys(service: Service) -> None:
    listing = service.clone.assist("keys", "list", "--json")[1]
    for key in listing:
        service.python(f"from assist.paths import Paths; from gateway.auth.keys import revoke_key;"
                       f" revoke_key(Paths().keys, {key['id']!r})")  # fmt: skip


def _forget_key(service: Service) -> None:
    file = service.layout.client_env
    file.write_text(file.read_text().replace("ASSIST_KEY=", "ASSIST_KEY=no-"))


def _edit_settings(service: Service) -> None:
    file = service.layout.gateway_env
    lines = [line for line in file.read_text().splitlines() if not line.startswith("ASSIST_MAX_QUEUE")]
    file.write_text("\n".join([*lines, "ASSIST_MAX_QUEUE=3", ""]))
    os.kill(pids(service.clone)["gateway"], signal.SIGKILL)


def _interrupt_change(service: Service) -> None:
    service.python("from assist import snapshot; from assist.paths import Paths; snapshot.save(Paths())")


INJECTIONS: dict[str, list[Callable[[Service], None]]] = {
    "process-stopped": [_stop_gateway],
    "process-crashing": [_break_repository],
    "process-hung": [_hang_triton],
    "port-taken": [_take_port],
    "version-old": [_change_stack],
    "environment-missing": [_remove_environment],
    "model-missing": [_unlink_model],
    "model-damaged": [_flip_byte, _cut_file],
    "keys-damaged": [_damage_keys],
    "keys-missing": [_revoke_keys],
    "keys-open": [_open_keys],
    "completion-fails": [_forget_key],
    "settings-edited": [_edit_settings],
    "change-interrupted": [_interrupt_change],
    "supervisor-lost": [_lose_supervisor],
    "service-down": [_down],
}
CASES = [(fault, inject) for fault, injections in INJECTIONS.items() for inject in injections]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    root = tmp_path_factory.mktemp("clone") / "p"
    from assist.paths import SOURCE

    subprocess.run(["git", "clone", "--quiet", SOURCE, root], check=True)
    clone = Clone(root)
    try:
        clone.make("up")
        yield clone
    finally:
        clone.make("clean", check=False)


@pytest.fixture
def service(clone):
    service = Service(clone)
    if service.doctor()[0]:  # what a failed test left
        clone.make("down")
        clone.make("up")
        assert service.doctor()[0] == 0, service.problems()
    with service.ends:
        yield service


def _settled(service: Service, fault: str) -> bool:
    """Return whether the doctor has named the fault: a process needs its time to fail for good."""
    return any(one["fault"] == fault for one in service.problems())


@pytest.mark.parametrize(("fault", "inject"), CASES, ids=[f"{f}-{i.__name__.strip('_')}" for f, i in CASES])
def test_the_fault_is_named_as_the_one_cause_and_its_printed_remedy_heals(service, fault, inject):
    inject(service)
    until(lambda: _settled(service, fault), evidence=service.problems, pause_s=0.5)
    code, findings = service.doctor()
    roots = [one for one in findings if one["status"] == "problem"]
    assert [one["fault"] for one in roots] == [fault], [(one["fault"], one["cause"]) for one in roots]
    assert code == 1
    (root,) = roots
    assert root["cause"]
    assert root["runbook"] == f"docs/faults.md#{fault}"
    healed = subprocess.run(
        ["bash", "-c", root["remedy"]], cwd=service.clone.root, env=_environment(), capture_output=True,
        text=True, check=False, timeout=600,
    )  # fmt: skip
    assert healed.returncode == 0, root["remedy"] + healed.stdout + healed.stderr
    until(lambda: service.doctor()[0] == 0, evidence=service.problems, pause_s=1)


def _environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "ASSIST_"))
    }


def test_a_stack_that_cannot_be_read_is_neither_well_nor_wrong_and_is_named(service):
    text = service.clone.stack.read_text()
    service.clone.stack.write_text("model: [")
    code, (finding,) = service.doctor()
    assert (code, finding["fault"]) == (2, "stack-unreadable")
    service.clone.stack.write_text(text)
    assert service.doctor()[0] == 0


def test_make_up_makes_open_keys_private_and_refuses_damaged_ones_by_name(service):
    service.layout.keys.chmod(0o644)
    service.clone.make("up")
    assert service.layout.keys.stat().st_mode & 0o077 == 0
    text = service.layout.keys.read_text()
    service.layout.keys.write_text(text[:-20])
    refused = service.clone.make("up", check=False)
    assert refused.returncode != 0
    assert "assist keys repair" in refused.stderr
    service.layout.keys.write_text(text)


def test_every_fault_of_the_local_target_is_injected():
    named = {fault.name for fault in FAULTS if "local" in fault.targets}
    assert named == INJECTIONS.keys() | ELSEWHERE.keys() | SYMPTOMS | {"stack-unreadable"}
