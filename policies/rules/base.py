"""The types of rules. Rules do not import Pulumi, so that they can also check manifests."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Resource:
    """One resource: its Pulumi type token, its name, the stack it belongs to and its inputs."""

    type: str
    name: str
    stack: str
    props: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """The last part of the type, e.g. ``Deployment``."""
        return self.type.rpartition(":")[2]

    @property
    def production(self) -> bool:
        """Whether the stack is for production, by its name, such as ``gke-prod``."""
        return self.stack == "prod" or self.stack.endswith("-prod")

    @property
    def metadata(self) -> Mapping[str, Any]:
        """A Kubernetes object's metadata; empty for other resources."""
        return self.props.get("metadata") or {}


Enforcement = Literal["mandatory", "advisory"]


@dataclass(frozen=True)
class Rule:
    """A rule on one resource. ``check`` yields the violations, each with its remedy."""

    name: str
    description: str
    check: Callable[[Resource], Iterator[str]]
    enforcement: Enforcement = "mandatory"


@dataclass(frozen=True)
class StackRule:
    """A rule on all resources together. ``check`` yields the violations, each with its remedy."""

    name: str
    description: str
    check: Callable[[Sequence[Resource]], Iterator[str]]
    enforcement: Enforcement = "mandatory"


def pod_spec(resource: Resource) -> Mapping[str, Any] | None:
    """Return the pod specification of a workload; None for a resource without pods."""
    if not resource.type.startswith("kubernetes:"):
        return None
    spec = resource.props.get("spec") or {}
    if resource.kind == "Pod":
        return dict(spec)
    if resource.kind == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    template = spec.get("template") if isinstance(spec, Mapping) else None
    return template.get("spec") if isinstance(template, Mapping) else None


def containers(resource: Resource) -> Iterator[Mapping[str, Any]]:
    """Yield every container of a workload, init containers first."""
    pod = pod_spec(resource) or {}
    yield from pod.get("initContainers") or ()
    yield from pod.get("containers") or ()
