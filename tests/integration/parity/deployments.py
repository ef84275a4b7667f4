"""One stack on two targets: what the Kubernetes manifests tell each process, and what the units of hosts do."""

import re
import shlex
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import yaml
from jinja2.nativetypes import NativeEnvironment

from assist.deployment import resolve
from assist.hosts.inventory import Inventory
from assist.hosts.role_vars import RoleVars
from assist.paths import Paths
from infra.k8s import loader
from infra.k8s.context import Context
from stackfile import load_stack
from stackfile.catalogue import ROOT

STACK = "code-completion-cpu"
MANIFESTS = ROOT / "manifests/code-completion/cpu"
ROLES = ROOT / "ansible/roles"
Settings = dict[str, str]


@cache
def manifest(name: str) -> dict[str, Any]:
    """Return the pod of a committed manifest; tests/infra/k8s holds these equal to what the stack renders."""
    return yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text())["spec"]["template"]["spec"]


@cache
def facts() -> dict[str, Any]:
    """Return what the roles take for the same stack on a host that is gateway, GPU host and queue."""
    stack = yaml.safe_load((ROOT / f"stacks/{STACK}.yaml").read_text()) | {"target": "hosts"}
    del stack["kubernetes"]
    groups = {group: ["one"] for group in ("gateway", "gpu", "queue")}
    inventory = Inventory(groups, {"one": "192.0.2.1"})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{STACK}.yaml"
        file.write_text(yaml.safe_dump(stack))
        service = load_stack(file)
    return RoleVars(file, service, inventory, "one", "release").facts()


def gateway_on_kubernetes() -> Settings:
    """Return the gateway's environment in its pod, but for what comes from Secrets."""
    container = manifest("3-deployment-gateway")["containers"][0]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def gateway_on_hosts() -> Settings:
    """Return the environment of a host's first gateway, from both of its files."""
    variables = facts()["gateway_server"]
    lines = variables["files"][0]["content"].splitlines()
    return dict(variables["environment"]) | dict(line.split("=", 1) for line in lines)


def options(words: list[str]) -> Settings:
    """Return ``--name=value`` and ``--name value`` as a dictionary."""
    text = re.sub(r"(--[a-z-]+) (?!--)(\S+)", r"\1=\2", " ".join(words))
    return dict(
        word.removeprefix("--").split("=", 1)
        for word in text.split()
        if word.startswith("--") and "=" in word
    )


def repository_on_kubernetes() -> Settings:
    """Return how Triton's model repository is made in its pod."""
    steps = [step["command"] for step in manifest("3-deployment-triton")["initContainers"]]
    return options(next(command for command in steps if "serving.model_repository" in command))


def repository_on_hosts() -> Settings:
    """Return how a host's unit makes it."""
    template = yaml.safe_load((ROLES / "triton/vars/main.yml").read_text())["triton_settings"]
    rendered = jinja2.Template(template).render(triton_service=facts()["triton_server"])
    return options([f"--model-dir={facts()['model_store']['dir']}", *shlex.split(rendered)])


def loader_on_kubernetes() -> list[str]:
    """Return the loader's model, and its options but for where the store is."""
    return _fetched(manifest("3-job-loader")["containers"][0]["command"])


def loader_on_hosts() -> list[str]:
    """Return the same of the loader that a host runs."""
    return _fetched(["model-loader", "fetch", *_role_arguments(facts()["model_store"])])


def loader_of(file: Path, target: str) -> list[str]:
    """Return the arguments of the loader that a stack file's target would run."""
    if target == "kubernetes":
        return loader.command(Context(load_stack(file), "ai-assist"))
    if target == "hosts":
        inventory = Inventory({group: ["one"] for group in ("gateway", "gpu", "queue")}, {"one": "192.0.2.1"})
        return _role_arguments(RoleVars(file, load_stack(file), inventory, "one", "r").facts()["model_store"])
    return _role_arguments(resolve(str(file), Paths()).facts()["model_store"])


def _role_arguments(part: dict[str, Any]) -> list[str]:
    template = yaml.safe_load((ROLES / "model_store/vars/main.yml").read_text())["model_store_arguments"]
    variables = {"model_store_allow_unpinned": False, "model_store_source": ""}
    words = NativeEnvironment().from_string(template).render(model_store_service=part, **variables)
    return [str(word) for word in words]


def _fetched(command: list[str]) -> list[str]:
    words = command[command.index("fetch") + 1 :]
    if "--store" in words:
        at = words.index("--store")
        words = words[:at] + words[at + 2 :]
    return [str(word) for word in words]
