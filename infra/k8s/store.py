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
from infra.k8s.context import Context
from infra.k8s.pods import STORE_CLAIM

# A class without a provisioner, so that the claim binds to our own volume instead of waiting for a new one.
_NO_CLASS = ""


class ModelStore(pulumi.ComponentResource):
    """The claim ``model-store``, and for ``host_path`` the volume behind it.

    Pods never mount a host path themselves, which Pod Security ``restricted`` refuses.
    """

    def __init__(self, name: str, context: Context, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("ai-assist:k8s:ModelStore", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.volume = (
            _host_volume(name, context, child) if context.kubernetes.store.kind == "host_path" else None
        )
        self.claim = _claim(name, context, self.volume, child)
        self.register_outputs({"claim": self.claim.metadata.name})


def _host_volume(name: str, context: Context, child: pulumi.ResourceOptions) -> PersistentVolume:
    store = context.kubernetes.store
    return PersistentVolume(
        name,
        metadata=ObjectMetaArgs(
            name=f"{naming.PROJECT}-{context.stack.name}-store", labels=context.labels("store")
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
    name: str, context: Context, volume: PersistentVolume | None, child: pulumi.ResourceOptions
) -> PersistentVolumeClaim:
    store = context.kubernetes.store
    return PersistentVolumeClaim(
        name,
        # A class that binds at first use binds when the loader starts, so `up` must not wait here.
        metadata=context.metadata(STORE_CLAIM, "store", {"pulumi.com/skipAwait": "true"}),
        spec=PersistentVolumeClaimSpecArgs(
            access_modes=[store.access_mode],
            resources=VolumeResourceRequirementsArgs(requests={"storage": f"{store.size_gib}Gi"}),
            storage_class_name=_NO_CLASS if volume else store.storage_class,
            volume_name=volume.metadata.name if volume else None,
        ),
        opts=child,
    )
