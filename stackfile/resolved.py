"""The resolved stack: complete, with nothing left to default.

Pulumi, Ansible and the manifests all start from this one document, so they cannot disagree.
"""

from typing import Literal

from stackfile.catalogue import DeviceFacts, ModelFacts, Runtime
from stackfile.gke import Gke
from stackfile.hosts import Hosts
from stackfile.jobs import JobsSection
from stackfile.kubernetes import Kubernetes
from stackfile.memory import Memory
from stackfile.monitoring import MonitoringSection
from stackfile.stack import (
    AuthSection,
    CacheSection,
    EngineSection,
    GatewaySection,
    LimitsSection,
    ServingSection,
    Target,
    TritonSection,
)
from stackfile.validation import Strict


class ResolvedModel(ModelFacts):
    """The model to serve: its catalogue facts and the id that names it in the store and on the wire."""

    id: str


class ResolvedAccelerator(DeviceFacts):
    """The accelerator to run on, ``count`` devices a node. ``split`` is ``none`` for a single device."""

    kind: str
    count: int
    split: Literal["none", "replicate", "layers"]


class ResolvedStack(Strict):
    """Everything that a target needs to run one deployment, except secrets, which no stack contains."""

    name: str
    target: Target
    model: ResolvedModel
    accept_licence: str | None
    runtime: Runtime
    precision: str
    context_length: int
    memory: Memory
    accelerator: ResolvedAccelerator
    engine: EngineSection
    serving: ServingSection
    triton: TritonSection
    gateway: GatewaySection
    limits: LimitsSection
    auth: AuthSection
    cache: CacheSection
    jobs: JobsSection
    monitoring: MonitoringSection
    kubernetes: Kubernetes | None
    gke: Gke | None
    hosts: Hosts | None

    @property
    def variant(self) -> str:
        """The converted model's directory suffix in the store, e.g. ``ctranslate2-int8``."""
        return f"{self.runtime}-{self.precision}"
