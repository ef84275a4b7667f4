"""A second engine and gateway beside the running service: new settings serve here before they replace it.

Its processes have sessions of their own, so that they go on serving when the command that started them is
killed while they bridge a restart; the next ``make up`` or ``make down`` ends them.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import psutil
import yaml

from assist import causes, doctor, probe, processes
from assist.causes import Cause
from assist.client_env import client_env, ensure
from assist.deployment import Deployment
from assist.paths import Paths
from gateway.auth.keys import KeyFileError

_ENGINE_S = 900.0
_GATEWAY_S = 60.0
_STOP_S = 45.0
_LOOPBACK = "127.0.0.1"


class TrialError(Exception):
    """The new settings do not serve; ``cause`` says why."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.text)
        self.cause = cause


@dataclass
class Trial:
    """One attempt: the deployment on ports of its own, and the processes that were started for it."""

    deployment: Deployment
    own_engine: bool
    started: list[psutil.Process]

    def bridge(self, target: Deployment) -> bool:
        """Accept the connections of ``target``'s address, beside the gateway that serves it, and return True.

        False where the running gateway cannot share its listener, if an earlier release started it.
        """
        tried = self.deployment.gateway_environment()
        environment = {
            **target.gateway_environment(),
            "TRITON_HOST": tried["TRITON_HOST"],
            "TRITON_PORT": tried["TRITON_PORT"],
            "ASSIST_METRICS_PORT": str(_free_ports(1)[0]),
        }
        process = self._gateway(environment, "bridge")
        mine = target.layout.gateways / f"{process.pid}.sock"
        end = time.monotonic() + _GATEWAY_S
        while process.poll() is None and time.monotonic() < end:
            if mine.exists():
                return True
            time.sleep(0.05)
        return False

    def run(self) -> None:
        """Start what the settings need, and request a completion. Raises TrialError."""
        if self.own_engine:
            self._start_engine()
        environment = self.deployment.gateway_environment()
        del environment["ASSIST_HANDOVER_DIR"]
        process = self._gateway(environment, "gateway")
        self._wait(process, f"{self.deployment.url}/ready", self._log("gateway"), _GATEWAY_S)
        finding = doctor.completion(self.deployment)
        if finding.status != "ok":
            raise TrialError(causes.of(self._log("triton")) or Cause(finding.cause, finding.remedy))
        processes.end([self.started.pop()], _STOP_S)

    def _start_engine(self) -> None:
        layout, triton = self.deployment.layout, self.deployment.stack.triton
        repository = layout.trial / "triton"
        python = str(layout.python("serving"))
        settings = _repository_settings(layout, self.deployment.facts()["triton"])
        made = subprocess.run(
            [python, "-P", "-m", "serving.model_repository", str(repository), *settings],
            cwd=layout.source, env=_environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            last = (made.stderr.strip().splitlines() or ["the model repository cannot be made"])[-1]
            raise TrialError(Cause(last, "Correct the stack file, then: make up"))
        command = [
            python, "-m", "serving.tritonserver", str(repository), "--host", triton.host,
            "--http-port", str(triton.http_port), "--grpc-port", str(triton.grpc_port),
            "--metrics-port", str(triton.metrics_port),
            *(["--gpu"] if self.deployment.stack.accelerator.is_gpu else []),
        ]  # fmt: skip
        process = self._start(command, _environment(), self._log("triton"))
        self._wait(process, probe.triton_url(self.deployment), self._log("triton"), _ENGINE_S)

    def _gateway(self, environment: dict[str, str], name: str) -> subprocess.Popen[bytes]:
        command = [str(self.deployment.layout.python("gateway")), "-m", "gateway"]
        return self._start(command, _environment() | environment, self._log(name))

    def _start(self, command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=self.deployment.layout.source, env=environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.started.append(psutil.Process(process.pid))
        return process

    def _wait(self, process: "subprocess.Popen[bytes]", url: str, log: Path, patience_s: float) -> None:
        """Wait until ``url`` is ready. Raises TrialError as soon as the process ends or says it failed."""
        end = time.monotonic() + patience_s
        while probe.status(url) != 200:
            # An engine that lacks memory may say so and then neither serve nor end.
            code = process.poll()
            if (cause := causes.of(log, code=code)) and (code is not None or log == self._log("triton")):
                raise TrialError(cause)
            if code is not None or time.monotonic() > end:
                state = f"was not ready after {patience_s:.0f} s" if code is None else "ended at once"
                raise TrialError(Cause(f"{log.stem} {state}", f"For every line: assist logs {log.stem}"))
            time.sleep(0.1)

    def _log(self, name: str) -> Path:
        return self.deployment.layout.trial_log / f"trial-{name}.log"


@contextmanager
def beside(deployment: Deployment, *, own_engine: bool) -> Iterator[Trial]:
    """Yield a trial of ``deployment``; its processes end with the block, however that ends.

    ``own_engine``: start an engine, too; without it the trial uses the running one. Raises TrialError.
    """
    layout = deployment.layout
    if deployment.stack.auth.mode == "keys":
        try:
            ensure(layout, client_env(layout).get("ASSIST_URL", deployment.url))
        except KeyFileError as error:
            raise TrialError(Cause(str(error), "Correct that, then: make up")) from error
    trial = Trial(_moved(deployment, own_engine=own_engine), own_engine, [])
    try:
        yield trial
    finally:
        for process in reversed(trial.started):  # a gateway finishes its requests before its engine ends
            processes.end([process], _STOP_S)


def _moved(deployment: Deployment, *, own_engine: bool) -> Deployment:
    """Return the deployment on free ports of this machine's own address."""
    ports = _free_ports(5)
    stack = deployment.stack
    gateway = {
        "host": _LOOPBACK, "port": ports[0], "metrics_host": _LOOPBACK, "metrics_port": ports[1],
    }  # fmt: skip
    changes: dict[str, Any] = {"gateway": stack.gateway.model_copy(update=gateway)}
    if own_engine:
        triton = dict(zip(("http_port", "grpc_port", "metrics_port"), ports[2:], strict=True))
        changes["triton"] = stack.triton.model_copy(update={"host": _LOOPBACK, **triton})
    return replace(deployment, stack=stack.model_copy(update=changes))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((_LOOPBACK, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _environment() -> dict[str, str]:
    """Return the environment that supervisord gives its programs: nothing of this shell's."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}


def _repository_settings(layout: Paths, triton: dict[str, Any]) -> list[str]:
    """Return the options of the model repository from the role that makes the real one."""
    text = (layout.source / "ansible/roles/triton/vars/main.yml").read_text(encoding="utf-8")
    template = jinja2.Template(yaml.safe_load(text)["triton_settings"], autoescape=False)
    return [f"--model-dir={triton['model_dir']}", *template.render(triton_service=triton).split()]
