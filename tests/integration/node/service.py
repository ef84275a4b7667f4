"""A stack of the repository's own, deployed to the real node from the private registry."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from gateway.auth.keys import create_key
from testing.cluster.engine import Workspace
from testing.cluster.node_programs import PASSWORD, REGISTRY, USER
from tests.integration.node.cluster import Node, until

STACK = "kube-local"
NAMESPACE = "ai-assist"
EDITOR = Path(__file__).with_name("editor.py").read_text()
HOST, PORT = f"gateway.{NAMESPACE}.svc", 5000


class Deployed:
    """The stack, its key, and what a test changes in it."""

    def __init__(self, node: Node, references: dict[str, str], folder: Path, stack: str = STACK) -> None:
        self.node, self.stack = node, stack
        self.workspace = Workspace(folder, node.kubeconfig)
        self.file = self.workspace.project / f"stacks/{stack}.yaml"
        _, self.key = create_key(folder / "keys.json", "editor", rpm=0)
        self.change(kubernetes={"registry": REGISTRY, "images": references})
        keys = (folder / "keys.json").read_text()
        self.workspace.stack(stack, {"keys": keys, "deployTokenUser": USER, "deployToken": PASSWORD})

    @property
    def document(self) -> dict[str, Any]:
        return yaml.safe_load(self.file.read_text())

    def change(self, **settings: Any) -> None:
        """Merge settings into the stack file."""
        self.file.write_text(yaml.safe_dump(_merged(self.document, settings)))

    def pulumi(self, *arguments: str) -> str:
        done = self.workspace.pulumi(*arguments, "--stack", self.stack)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self, *options: str) -> str:
        return self.pulumi("up", "--yes", "--skip-preview", *options)

    def pods(self, component: str) -> dict[str, dict[str, Any]]:
        """Return the running pods of one part by their names."""
        label = f"app.kubernetes.io/name={component}"
        pods = self.node.get("-n", NAMESPACE, "pods", "-l", label)
        return {pod["metadata"]["name"]: pod for pod in pods if "deletionTimestamp" not in pod["metadata"]}

    def only_pod(self, component: str) -> dict[str, Any]:
        """Return the one pod of a part: `up` ends when a new one is ready, maybe before the old one is told."""
        until(f"one {component}", lambda: len(self.pods(component)) == 1)
        (pod,) = self.pods(component).values()
        return pod

    def edit(self, name: str, editors: int = 1, rest_s: float = 0.1, what: str = "complete") -> None:
        """Start ``editors`` that ask again and again, and return once they have been answered."""
        self.node.python("editors", name, EDITOR, HOST, str(PORT), self.key, str(editors), str(rest_s), what)
        until("the first answers", lambda: "answered" in self.node.kubectl("-n", "editors", "logs", name))

    def stop(self, name: str) -> dict[str, Any]:
        """End them and return what they got: answered, failed, texts."""
        self.node.kubectl("-n", "editors", "exec", name, "--", "touch", "/tmp/stop")
        self.node.kubectl(
            "-n",
            "editors",
            "wait",
            "--for=jsonpath={.status.phase}=Succeeded",
            f"pod/{name}",
            "--timeout=280s",
        )
        lines = self.node.kubectl("-n", "editors", "logs", name).splitlines()
        self.node.kubectl("-n", "editors", "delete", "pod", name, "--wait=false")
        return json.loads(lines[-1])

    def close(self) -> None:
        """Remove what a failed test may have left, as far as that goes: the cluster ends with the session."""
        subprocess.run(
            ["pulumi", "destroy", "--yes", "--skip-preview", "--non-interactive", "--stack", self.stack],
            cwd=self.workspace.project,
            env=self.workspace.environment,
            capture_output=True,
            timeout=1200,
            check=False,
        )


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(old[key], value) for key, value in new.items() if isinstance(value, dict) and key in old
    }
    return old | new | both
