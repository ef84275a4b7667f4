"""The real Pulumi engine on a copy of the project, with a state, a home and a kubeconfig of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from stackfile.catalogue import ROOT
from testing import tools

PARTS = ("infra", "stackfile", "serving", "catalogue", "stacks", "Pulumi.yaml")
KITS = ("pulumi", "pulumi-kubernetes", "kubernetes")
LABEL = "app.kubernetes.io/part-of=ai-assist"
KINDS = (
    "namespaces,persistentvolumes,priorityclasses,deployments,jobs,services,secrets,persistentvolumeclaims,"
    "networkpolicies,poddisruptionbudgets,horizontalpodautoscalers,resourcequotas,limitranges,ingresses"
)


def missing() -> str | None:
    """Return why the engine can't run against a cluster here, with the remedy; None where it can."""
    return tools.missing(*KITS, "openssl")


@dataclass
class Workspace:
    """A copy of the project in ``folder`` and a Pulumi backend beside it."""

    folder: Path
    kubeconfig: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        project = self.folder / "project"
        ignore = shutil.ignore_patterns("__pycache__", "Pulumi.*.yaml")
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, project / part, ignore=ignore)
            else:
                project.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, project / part)
        environment = project / ".run/venvs/infra"
        environment.parent.mkdir(parents=True)
        environment.symlink_to(sys.prefix)
        self.backend.mkdir()

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def backend(self) -> Path:
        return self.folder / "state"

    @property
    def environment(self) -> dict[str, str]:
        return tools.environment() | {
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.folder / "kubectl"),
            "PULUMI_BACKEND_URL": f"file://{self.backend}",
            "PULUMI_HOME": str(self.folder / "home"),
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_ERROR_OUTPUT_STRING": "1",
            **self.variables,
        }

    def stack(self, name: str, secrets: dict[str, str] | None = None, **settings: Any) -> None:
        """Write ``stacks/<name>.yaml`` where settings are given, make the stack and set its secrets."""
        if settings:
            document = {"name": name, "target": "kubernetes", "model": "tiny-codegen"} | settings
            (self.project / f"stacks/{name}.yaml").write_text(yaml.safe_dump(document))
        disabled = {"config": {"pulumi:disable-default-providers": ["gcp", "kubernetes"]}}
        (self.project / f"stacks/Pulumi.{name}.yaml").write_text(yaml.safe_dump(disabled))
        assert self.pulumi("stack", "init", name).returncode == 0
        given = {"keys": '{"keys":[]}'} if secrets is None else secrets
        options = [part for key, value in given.items() for part in ("--secret", f"{key}={value}")]
        if options:
            # All at once: each run of the command takes seconds where the machine is busy.
            done = self.pulumi("config", "set-all", *options, "--stack", name)
            assert done.returncode == 0, done.stderr

    def pulumi(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self.project,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )

    def killed_up(self, name: str, after: str, patience_s: float = 120) -> None:
        """Start ``pulumi up`` and SIGKILL it and its children as soon as its output has ``after``."""
        with self._begun_up(name, after, patience_s) as process:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)

    def interrupted_up(self, name: str, after: str, patience_s: float = 300) -> str:
        """Start ``pulumi up``, interrupt it as soon as its output has ``after``; return all that it says."""
        with self._begun_up(name, after, patience_s) as process:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)
        return self._log.read_text()

    @property
    def _log(self) -> Path:
        return self.folder / "up.log"

    @contextmanager
    def _begun_up(self, name: str, after: str, patience_s: float) -> Iterator[subprocess.Popen[bytes]]:
        with self._log.open("w") as output:
            process = subprocess.Popen(
                ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", name],
                cwd=self.project,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            deadline = time.monotonic() + patience_s
            while (
                after not in self._log.read_text() and process.poll() is None and time.monotonic() < deadline
            ):
                time.sleep(0.05)
            yield process
        assert after in self._log.read_text(), self._log.read_text()

    def restore_state(self, name: str) -> None:
        """Put the last whole state back where the kill came in the middle of writing it, as the runbook says.

        The state, the copy that the backend makes of it first and what it notes of either can be cut off.
        """
        state = self.backend / f".pulumi/stacks/ai-assist/{name}.json"
        for noted in state.parent.glob("*.attrs"):
            if not _is_json(noted):
                noted.unlink()
        backups = sorted((self.backend / ".pulumi/backups").rglob("*.json"), reverse=True)
        for candidate in (state, state.with_name(f"{name}.json.bak"), *backups):
            if candidate.exists() and _is_json(candidate):
                if candidate != state:
                    shutil.copy2(candidate, state)
                return

    def kubectl(self, *arguments: str) -> str:
        done = subprocess.run(
            ["kubectl", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        return done.stdout

    def left(self, patience_s: float = 120) -> list[str]:
        """Return what of ours the cluster still has when every deletion under way has had its time.

        The API answers a deletion before it is done: a claim's volume goes only after the claim has gone.
        """
        deadline = time.monotonic() + patience_s
        while (found := self._found()) and time.monotonic() < deadline:
            time.sleep(0.3)
        return found

    def _found(self) -> list[str]:
        """Return every object of ours, and every volume: those of claims carry none of our labels."""
        objects = self.kubectl("get", KINDS, "-A", "-l", LABEL, "-o", "name").split()
        volumes = json.loads(self.kubectl("get", "persistentvolumes", "-o", "json"))["items"]
        return objects + [item["metadata"]["name"] for item in volumes]


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text())
    except json.JSONDecodeError:
        return False
    return True
