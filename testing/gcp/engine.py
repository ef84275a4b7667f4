"""The real Pulumi engine on the Google half of the program, with the double for a provider, or Google's own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from stackfile.catalogue import ROOT
from testing.gcp.double import Google, limit_s

PROGRAM = Path(__file__).parent / "program"
PROJECT_NAME = "ai-assist-gcp-test"


@dataclass
class Workspace:
    """A copy of the program in ``folder``, with a Pulumi backend, a home and a stack of its own."""

    folder: Path
    google: Google
    stack: str
    variables: dict[str, str] = field(default_factory=dict)
    _started: list[subprocess.Popen[str]] = field(default_factory=list, init=False)

    @property
    def backend(self) -> Path:
        return self.folder / "state"

    @property
    def state(self) -> Path:
        return self.backend / f".pulumi/stacks/{PROJECT_NAME}/{self.stack}.json"

    @property
    def environment(self) -> dict[str, str]:
        theirs = self.google.environment
        return theirs | {
            "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), theirs["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "PULUMI_BACKEND_URL": f"file://{self.backend}",
            "PULUMI_HOME": str(self.folder / "home"),
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_ERROR_OUTPUT_STRING": "1",
            "HOME": str(self.folder),
            **self.variables,
        }

    def prepare(self, stack_file: Path, region: str = "us-central1") -> None:
        self.backend.mkdir()
        shutil.copytree(PROGRAM, self.folder / "program")
        self.expect(0, "stack", "init", self.stack)
        settings = {"gcp:project": self.google.project, "gcp:region": region, "test:stack": str(stack_file)}
        plain = [part for key, value in settings.items() for part in ("--plaintext", f"{key}={value}")]
        self.expect(0, "config", "set-all", *plain)
        self.expect(0, "config", "set", "--path", "pulumi:disable-default-providers[0]", "gcp")

    def command(self, *arguments: str) -> list[str]:
        return ["pulumi", *arguments, "--non-interactive"]

    def pulumi(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder / "program",
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=limit_s(400),
            check=False,
        )

    def expect(self, status: int, *arguments: str) -> str:
        done = self.pulumi(*arguments)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def up(self) -> str:
        return self.expect(0, "up", "--yes", "--skip-preview")

    def start_up(self) -> subprocess.Popen[str]:
        """Start ``up`` in a process group of its own; its output goes to ``up.log``."""
        with (self.folder / "up.log").open("w") as log:
            process = subprocess.Popen(
                self.command("up", "--yes", "--skip-preview"),
                cwd=self.folder / "program",
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def end(self) -> None:
        """End what a test that failed has left running."""
        for process in self._started:
            if process.poll() is None:
                _kill_session(process)

    def pending(self) -> list[str]:
        """Return the URNs of the operations that the state on disk shows as begun, none while it is written."""
        latest = (self._whole() or {"checkpoint": {"latest": {}}})["checkpoint"]["latest"]
        return [one["resource"]["urn"] for one in latest.get("pending_operations", [])]

    def wait_until(self, true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        """Return when it is true. Raises AssertionError when the process ends before, or after 200 s."""
        deadline = time.monotonic() + limit_s(200)
        while not (reached := true()) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert reached or true(), self.log

    @property
    def log(self) -> str:
        return (self.folder / "up.log").read_text()

    def kill(self, process: subprocess.Popen[str]) -> None:
        """SIGKILL a started ``up`` and its plugins, which have process groups of their own but its session.

        Pulumi does not write its state at one stroke (the document, then its attributes), so it is stopped where
        both are whole: a state that was cut off in the middle is another test's.
        """
        engine = psutil.Process(process.pid)
        while not self._stopped_between_writes(engine):
            engine.resume()
            time.sleep(0.02)
        _kill_session(process)

    def _stopped_between_writes(self, engine: psutil.Process) -> bool:
        engine.suspend()
        while engine.status() not in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}:
            time.sleep(0.005)
        return self._whole() is not None

    def _whole(self) -> dict[str, Any] | None:
        try:
            json.loads(self.state.with_name(f"{self.state.name}.attrs").read_text())
            return self.export()
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def export(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.state.read_text())
        return document

    def links(self) -> list[str]:
        """Return Google's address of everything in the state that has one."""
        resources = self.export()["checkpoint"]["latest"].get("resources", [])
        return [one["outputs"]["selfLink"] for one in resources if one.get("outputs", {}).get("selfLink")]


def _kill_session(leader: subprocess.Popen[str]) -> None:
    for entry in processes(leader.pid):
        with suppress(ProcessLookupError):
            os.kill(int(entry.name), signal.SIGKILL)
    leader.wait(timeout=30)


def processes(session: int) -> list[Path]:
    """Return the entries in /proc of a session's processes."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if os.getsid(int(entry.name)) == session:
                    found.append(entry)
    return found
