"""The Service document: a stack resolved with the catalogue, complete, with nothing left to default.

Pulumi, Ansible and the manifests all start from this one document, so they cannot disagree.
"""

from typing import Literal

from stackfile.catalogue import DeviceFacts, ModelFacts, Runtime
from stackfile.gke import Gke
from stackfile.hosts import Hosts
from stackfile.jobs import Jobs
from stackfile.kubernetes import Kubernetes
from stackfile.stack import Auth, Cache, Engine, Gateway, Limits, Serving, Target, Triton
from stackfile.validation import Strict


class Model(ModelFacts):
    """The model to serve: its catalogue facts and the id that names it in the store and on the wire."""

    id: str


class Accelerator(DeviceFacts):
    """The accelerator to run on, ``count`` devices a node. ``split`` is ``none`` for a single device."""

    kind: str
    count: int
    split: Literal["none", "replicate", "tensor"]


class ResolvedStack(Strict):
    """Everything a target needs to run one deployment, but for secrets, which never enter it."""

    name: str
    target: Target
    model: Model
    runtime: Runtime
    precision: str
    context_length: int
    accelerator: Accelerator
    engine: Engine
    serving: Serving
    triton: Triton
    gateway: Gateway
    limits: Limits
    auth: Auth
    cache: Cache
    jobs: Jobs
    kubernetes: Kubernetes | None
    gke: Gke | None
    hosts: Hosts | None

    @property
    def variant(self) -> str:
        """Name the converted model's directory suffix in the store, e.g. ``ctranslate2-int8``."""
        return f"{self.runtime}-{self.precision}"
