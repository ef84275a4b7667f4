"""What every component needs to know of its surroundings, and what it names alike."""

from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs

from infra import naming
from stackfile import ResolvedStack
from stackfile.kubernetes import Kubernetes

PULL_SECRET = "gitlab-registry"  # noqa: S105 -- the Secret's name, not a secret


@dataclass(frozen=True)
class Scope:
    """The service and its namespace, which waits for the Namespace object where we make it."""

    service: ResolvedStack
    namespace: pulumi.Input[str]

    @property
    def kubernetes(self) -> Kubernetes:
        """Return the stack's settings for a cluster. Raises ValueError for a target that is none."""
        if self.service.kubernetes is None:
            target = self.service.target
            raise ValueError(
                f"target {target} is no cluster; set target: kubernetes or gke in the stack file"
            )
        return self.service.kubernetes

    def labels(self, component: str) -> dict[str, str]:
        """Return the labels of one part."""
        return naming.labels(self.service, component)

    def selector(self, component: str) -> LabelSelectorArgs:
        """Return what picks the pods of one part."""
        return LabelSelectorArgs(match_labels=naming.selector(self.service, component))

    def metadata(
        self, name: str, component: str, annotations: dict[str, str] | None = None
    ) -> ObjectMetaArgs:
        """Return an object's metadata. Names are fixed, not Pulumi's random ones: others refer to them."""
        return ObjectMetaArgs(
            name=name, namespace=self.namespace, labels=self.labels(component), annotations=annotations
        )
