"""The stack and the namespace of every component, and the names and labels of their objects."""

from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs

from infra import naming
from stackfile import ResolvedStack
from stackfile.kubernetes import Kubernetes

PULL_SECRET = "gitlab-registry"  # noqa: S105 -- the Secret's name, not a secret


@dataclass(frozen=True)
class Context:
    """The stack and its namespace, an output of the Namespace object where that is ours."""

    stack: ResolvedStack
    namespace: pulumi.Input[str]

    @property
    def kubernetes(self) -> Kubernetes:
        """Return the stack's settings for a cluster. Raises ValueError for a target without a cluster."""
        if self.stack.kubernetes is None:
            target = self.stack.target
            raise ValueError(
                f"target {target} has no cluster; set target: kubernetes or gke in the stack file"
            )
        return self.stack.kubernetes

    def labels(self, component: str) -> dict[str, str]:
        """Return the labels of one component."""
        return naming.labels(self.stack, component)

    def selector(self, component: str) -> LabelSelectorArgs:
        """Return the selector of one component's pods."""
        return LabelSelectorArgs(match_labels=naming.selector(self.stack, component))

    def metadata(
        self, name: str, component: str, annotations: dict[str, str] | None = None
    ) -> ObjectMetaArgs:
        """Return an object's metadata, with a fixed name, to which other objects refer."""
        return ObjectMetaArgs(
            name=name, namespace=self.namespace, labels=self.labels(component), annotations=annotations
        )
