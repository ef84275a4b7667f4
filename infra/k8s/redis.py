"""Redis, where the stack shares its limits and caches between gateways. Nothing in it needs to outlive it."""

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment, DeploymentSpecArgs, DeploymentStrategyArgs
from pulumi_kubernetes.core.v1 import (
    ContainerArgs,
    ContainerPortArgs,
    PodTemplateSpecArgs,
    ProbeArgs,
    Secret,
    SecretVolumeSourceArgs,
    Service,
    ServicePortArgs,
    ServiceSpecArgs,
    TCPSocketActionArgs,
    VolumeArgs,
    VolumeMountArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra import naming
from infra.k8s import pods
from infra.k8s.context import Scope
from infra.k8s.quota import REDIS_CPU_M, REDIS_MEMORY_MIB

NAME = "redis"
PORT = 6379
CONFIG_SECRET = "redis-config"  # noqa: S105 -- the Secret's name, not a secret
# Commands that list, flush or reconfigure are for nobody: a leaked password costs a cache, not the server.
_CONFIG = """port {port}
save ""
appendonly no
maxmemory {maxmemory}mb
maxmemory-policy allkeys-lru
user default on >{password} ~* &* +@all -@admin -@dangerous
"""


class Redis(pulumi.ComponentResource):
    """One Redis in memory; ``url`` is for the gateway. Without ``password`` others make its Secret."""

    def __init__(
        self,
        name: str,
        scope: Scope,
        *,
        password: pulumi.Input[str] | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:Redis", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.url = None if password is None else url(password)
        self.secret = None if password is None else _secret(name, scope, password, child)
        self.deployment = _deployment(name, scope, child)
        self.service = _service(name, scope, child)
        self.register_outputs({"service": self.service.metadata.name})


def url(password: pulumi.Input[str]) -> pulumi.Output[str]:
    """Return the secret address of this Redis."""
    return pulumi.Output.secret(password).apply(lambda text: f"redis://:{text}@{NAME}:{PORT}/0")


def _secret(name: str, scope: Scope, password: pulumi.Input[str], child: pulumi.ResourceOptions) -> Secret:
    # Half of the memory limit: a fork or a burst of clients must not end in the kernel's OOM killer.
    facts = {"port": PORT, "maxmemory": REDIS_MEMORY_MIB // 2}
    config = pulumi.Output.secret(password).apply(lambda text: _CONFIG.format(password=text, **facts))
    return Secret(
        name,
        metadata=scope.metadata(CONFIG_SECRET, NAME),
        type="Opaque",
        string_data={"redis.conf": config},
        opts=child,
    )


def _deployment(name: str, scope: Scope, child: pulumi.ResourceOptions) -> Deployment:
    config = SecretVolumeSourceArgs(secret_name=CONFIG_SECRET, default_mode=0o440)
    spec = pods.pod(scope, [_container(scope)], volumes=[VolumeArgs(name="config", secret=config)])
    return Deployment(
        name,
        metadata=scope.metadata(NAME, NAME),
        spec=DeploymentSpecArgs(
            replicas=1,
            # Two at once would count limits apart.
            strategy=DeploymentStrategyArgs(type="Recreate"),
            revision_history_limit=3,
            selector=scope.selector(NAME),
            template=PodTemplateSpecArgs(metadata=ObjectMetaArgs(labels=scope.labels(NAME)), spec=spec),
        ),
        opts=child,
    )


def _container(scope: Scope) -> ContainerArgs:
    probe = TCPSocketActionArgs(port="redis")
    return pods.container(
        NAME,
        scope.kubernetes.images.redis,
        pods.size(REDIS_CPU_M, REDIS_MEMORY_MIB),
        command=["redis-server", "/etc/redis/redis.conf"],
        ports=[ContainerPortArgs(name="redis", container_port=PORT)],
        volume_mounts=[VolumeMountArgs(name="config", mount_path="/etc/redis", read_only=True)],
        readiness_probe=ProbeArgs(tcp_socket=probe, period_seconds=3, failure_threshold=2),
        liveness_probe=ProbeArgs(tcp_socket=probe, period_seconds=10, failure_threshold=6),
    )


def _service(name: str, scope: Scope, child: pulumi.ResourceOptions) -> Service:
    return Service(
        name,
        metadata=scope.metadata(NAME, NAME, {"pulumi.com/skipAwait": "true"}),
        spec=ServiceSpecArgs(
            selector=naming.selector(scope.service, NAME),
            ports=[ServicePortArgs(name="redis", port=PORT, target_port="redis", app_protocol="redis")],
        ),
        opts=child,
    )
