"""The volume that holds the model store."""

import pulumi
from pulumi_kubernetes.core.v1 import (
    HostPathVolumeSourceArgs,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpecArgs,
    PersistentVolumeSpecArgs,
    VolumeResourceRequirementsArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra import naming
from infra.k8s.context import Scope
from infra.k8s.pods import STORE_CLAIM

# A class that no provisioner serves, so that the claim binds to our own volume and waits for no other.
_NO_CLASS = ""


class ModelStore(pulumi.ComponentResource):
    """The claim ``model-store``, and for ``host_path`` the volume behind it.

    Pods never mount a host path themselves: Pod Security ``restricted`` refuses it, a volume is the owner's.
    """

    def __init__(self, name: str, scope: Scope, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ai-assist:k8s:ModelStore", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.volume = _host_volume(name, scope, child) if scope.kubernetes.store.kind == "host_path" else None
        self.claim = _claim(name, scope, self.volume, child)
        self.register_outputs({"claim": self.claim.metadata.name})


def _host_volume(name: str, scope: Scope, child: pulumi.ResourceOptions) -> PersistentVolume:
    store = scope.kubernetes.store
    return PersistentVolume(
        name,
        metadata=ObjectMetaArgs(
            name=f"{naming.PROJECT}-{scope.service.name}-store", labels=scope.labels("store")
        ),
        spec=PersistentVolumeSpecArgs(
            access_modes=[store.access_mode],
            capacity={"storage": f"{store.size_gib}Gi"},
            host_path=HostPathVolumeSourceArgs(path=store.path or "", type="DirectoryOrCreate"),
            persistent_volume_reclaim_policy="Retain",
            storage_class_name=_NO_CLASS,
        ),
        opts=child,
    )


def _claim(
    name: str, scope: Scope, volume: PersistentVolume | None, child: pulumi.ResourceOptions
) -> PersistentVolumeClaim:
    store = scope.kubernetes.store
    return PersistentVolumeClaim(
        name,
        # A class that binds at first use binds when the loader starts; `up` must not wait for that here.
        metadata=scope.metadata(STORE_CLAIM, "store", {"pulumi.com/skipAwait": "true"}),
        spec=PersistentVolumeClaimSpecArgs(
            access_modes=[store.access_mode],
            resources=VolumeResourceRequirementsArgs(requests={"storage": f"{store.size_gib}Gi"}),
            storage_class_name=_NO_CLASS if volume else store.storage_class,
            volume_name=volume.metadata.name if volume else None,
        ),
        opts=child,
    )
