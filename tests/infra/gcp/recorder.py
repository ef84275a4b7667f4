"""Pulumi's mocks as a recorder: deploy a stack without an engine, then look at what was registered."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks

from infra.gcp import driver_installer
from infra.gcp.platform import Platform
from stackfile.resolved import ResolvedStack

# Pulumi leaves tasks behind on a loop, so it can be neither shared nor closed nor dropped while tests run.
LOOPS: list[asyncio.AbstractEventLoop] = []
ENDPOINTS = {"dnsEndpointConfig": {"endpoint": "gke-1.us-central1.gke.goog"}}


@dataclass
class Recorder(Mocks):
    """Every registration by type; ``options`` are the resource options by logical name, as a child has them."""

    resources: list[MockResourceArgs] = field(default_factory=list)
    options: dict[str, pulumi.ResourceOptions] = field(default_factory=dict)

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.resources.append(args)
        outputs = dict(args.inputs)
        if args.typ == "gcp:container/cluster:Cluster":
            outputs |= {
                "endpoint": "192.0.2.1",
                "masterVersion": "1.33.5-gke.1080000",
                "masterAuth": {"clusterCaCertificate": "Q0E="},
                "selfLink": f"https://container.googleapis.com/{args.name}",
            }
            outputs["controlPlaneEndpointsConfig"] = args.inputs["controlPlaneEndpointsConfig"] | ENDPOINTS
            outputs["privateClusterConfig"] = args.inputs["privateClusterConfig"] | {
                "privateEndpoint": "172.16.80.2"
            }
        if args.typ == "gcp:serviceaccount/account:Account":
            email = f"{args.inputs['accountId']}@demo-project.iam.gserviceaccount.com"
            outputs |= {"email": email, "member": f"serviceAccount:{email}"}
        return f"{args.name}-id", outputs

    def call(self, args: MockCallArgs) -> dict[str, Any]:
        return {}

    def note(self, args: pulumi.ResourceTransformationArgs) -> None:
        self.options[f"{args.type_}:{args.name}"] = args.opts

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the inputs of every resource of a type such as ``container/nodePool``, by logical name."""
        return {r.name: r.inputs for r in self.resources if r.typ.startswith(f"gcp:{kind}:")}

    def one(self, kind: str) -> dict[str, Any]:
        (inputs,) = self.of(kind).values()
        return inputs


def deploy(service: ResolvedStack, config: dict[str, str] | None = None) -> tuple[Recorder, dict[str, Any]]:
    """Deploy the Google half of a stack against a recorder; return it and the resolved outputs.

    A loop and mocks of its own each time: registrations would otherwise leak between tests (pulumi 24338).
    """
    recorder, outputs = Recorder(), {}
    LOOPS.append(asyncio.new_event_loop())
    asyncio.set_event_loop(LOOPS[-1])
    pulumi.runtime.set_mocks(recorder, project="ai-assist", stack=service.name, preview=False)
    pulumi.runtime.set_all_config(
        {"gcp:project": "demo-project", "gcp:region": "us-central1"} if config is None else config
    )

    def program() -> Any:
        opts = pulumi.ResourceOptions(transformations=[recorder.note])
        platform = Platform(service.name, service, pulumi.Config(), opts=opts)
        provider = k8s.Provider("cluster", kubeconfig=platform.provider_kubeconfig)
        driver_installer.install(service, provider)
        found = platform.outputs | {"provider_kubeconfig": platform.provider_kubeconfig}
        return pulumi.Output.all(**found).apply(outputs.update)

    pulumi.runtime.test(program)()
    return recorder, outputs
