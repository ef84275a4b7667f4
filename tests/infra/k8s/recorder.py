"""Pulumi's mocks as a recorder: deploy the workloads without an engine, then look at what was registered."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import yaml
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks
from pulumi.runtime.rpc import _special_sig_key

from infra.credentials import Secrets
from infra.k8s.workloads import Workloads
from stackfile import ResolvedStack, load_stack

BASE = {"name": "s", "target": "kubernetes", "model": "tiny-codegen"}
T4 = {
    "model": "codegen-350M-mono",
    "accelerator": {"kind": "t4"},
    "kubernetes": {"triton": {"node_selector": {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}}},
}


@dataclass
class Recorder(Mocks):
    """Every registration, and the URN of each, which tells its parents."""

    resources: list[MockResourceArgs] = field(default_factory=list)
    handles: dict[str, pulumi.Resource] = field(default_factory=dict)
    urns: dict[str, str] = field(default_factory=dict)

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.resources.append(args)
        args.inputs = _plain(args.inputs)
        return f"{args.name}-id", dict(args.inputs)

    def call(self, args: MockCallArgs) -> dict[str, Any]:
        return {}

    def note(self, args: pulumi.ResourceTransformationArgs) -> None:
        self.handles[f"{args.type_} {args.name}"] = args.resource

    def objects(self) -> list[dict[str, Any]]:
        """Return the inputs of every Kubernetes object."""
        return [r.inputs for r in self.resources if r.typ.startswith("kubernetes:")]

    def all(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the objects of a kind by name."""
        found = [item for item in self.objects() if item.get("kind") == kind]
        return {item["metadata"]["name"]: item for item in found}

    def pod(self, name: str) -> dict[str, Any]:
        """Return the pod of the Deployment or Job whose name starts with ``name``."""
        workloads = self.all("Deployment") | self.all("Job")
        (found,) = [item for key, item in workloads.items() if key.startswith(name)]
        return found["spec"]["template"]["spec"]

    def container(self, name: str) -> dict[str, Any]:
        """Return the one container of that pod."""
        (found,) = self.pod(name)["containers"]
        return found


def _plain(value: Any) -> Any:
    """Return a value with its secrets taken out of the envelope in which they travel."""
    if isinstance(value, dict):
        return (
            _plain(value["value"]) if _special_sig_key in value else {k: _plain(v) for k, v in value.items()}
        )
    return [_plain(item) for item in value] if isinstance(value, list) else value


def stack(tmp_path: Path, **settings: Any) -> ResolvedStack:
    """Return the service of a stack file with these settings."""
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(BASE | settings))
    return load_stack(file)


def given(**values: str) -> Secrets:
    """Return secrets with these values, and keys, for they are the default."""
    return Secrets(**{name: pulumi.Output.secret(value) for name, value in ({"keys": "{}"} | values).items()})


def deploy(service: ResolvedStack, secrets: dict[str, str] | None = None) -> Recorder:
    """Deploy the workloads against a recorder; ``secrets`` None leaves the Secrets to others.

    A loop and mocks of its own each time: registrations would otherwise leak between tests (pulumi 24338).
    """
    recorder = Recorder()
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(recorder, project="ai-assist", stack=service.name, preview=False)

    def program() -> pulumi.Output[None]:
        provider = k8s.Provider("cluster", kubeconfig="k", cluster_identifier="c")
        opts = pulumi.ResourceOptions(providers=[provider], transformations=[recorder.note])
        Workloads(service.name, service, secrets=None if secrets is None else given(**secrets), opts=opts)
        urns = {key: resource.urn for key, resource in recorder.handles.items()}
        return pulumi.Output.all(**urns).apply(recorder.urns.update)

    pulumi.runtime.test(program)()
    return recorder
