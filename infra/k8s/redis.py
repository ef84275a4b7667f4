"""Redis, in which gateways share limits and caches. Its content is disposable."""

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment, DeploymentSpecArgs, DeploymentStrategyArgs
from pulumi_kubernetes.core.v1 import (
    ContainerArgs,
    ContainerPortArgs,
    PodTemplateSpecArgs,
    ProbeArgs,
    Secret,
    SecretVolumeSourceArgs,
    TCPSocketActionArgs,
    VolumeArgs,
    VolumeMountArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra.k8s import pods, services
from infra.k8s.context import Context
from infra.k8s.quota import REDIS_CPU_M, REDIS_MEMORY_MIB

NAME = "redis"
PORT = 6379
CONFIG_SECRET = "redis-config"  # noqa: S105 -- the Secret's name, not a secret
# Without commands that list, flush or reconfigure: a leaked password exposes a cache, not the server.
_CONFIG = """port {port}
save ""
appendonly no
maxmemory {maxmemory}mb
maxmemory-policy allkeys-lru
user default on >{password} ~* &* +@all -@admin -@dangerous
"""


class Redis(pulumi.ComponentResource):
    """One Redis in memory; ``url`` is for the gateway. Without ``password``, its Secret exists already."""

    def __init__(
        self,
        name: str,
        context: Context,
        *,
        password: pulumi.Input[str] | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:Redis", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.url = None if password is None else url(password)
        self.secret = None if password is None else _secret(name, context, password, child)
        self.deployment = _deployment(name, context, child)
        self.service = services.service(name, context, NAME, {"redis": PORT}, child)
        self.register_outputs({"service": self.service.metadata.name})


def url(password: pulumi.Input[str]) -> pulumi.Output[str]:
    """Return the secret address of this Redis."""
    return pulumi.Output.secret(password).apply(lambda text: f"redis://:{text}@{NAME}:{PORT}/0")


def _secret(
    name: str, context: Context, password: pulumi.Input[str], child: pulumi.ResourceOptions
) -> Secret:
    # Half of the memory limit: a fork or a burst of clients must not end in the kernel's OOM killer.
    facts = {"port": PORT, "maxmemory": REDIS_MEMORY_MIB // 2}
    config = pulumi.Output.secret(password).apply(lambda text: _CONFIG.format(password=text, **facts))
    return Secret(
        name,
        metadata=context.metadata(CONFIG_SECRET, NAME),
        type="Opaque",
        string_data={"redis.conf": config},
        opts=child,
    )


def _deployment(name: str, context: Context, child: pulumi.ResourceOptions) -> Deployment:
    config = SecretVolumeSourceArgs(secret_name=CONFIG_SECRET, default_mode=0o440)
    spec = pods.pod(context, [_container(context)], volumes=[VolumeArgs(name="config", secret=config)])
    return Deployment(
        name,
        metadata=context.metadata(NAME, NAME),
        spec=DeploymentSpecArgs(
            replicas=1,
            # Two servers at once would count limits separately.
            strategy=DeploymentStrategyArgs(type="Recreate"),
            revision_history_limit=3,
            selector=context.selector(NAME),
            template=PodTemplateSpecArgs(metadata=ObjectMetaArgs(labels=context.labels(NAME)), spec=spec),
        ),
        opts=child,
    )


def _container(context: Context) -> ContainerArgs:
    probe = TCPSocketActionArgs(port="redis")
    return pods.container(
        NAME,
        context.kubernetes.images.redis,
        pods.size(REDIS_CPU_M, REDIS_MEMORY_MIB),
        command=["redis-server", "/etc/redis/redis.conf"],
        ports=[ContainerPortArgs(name="redis", container_port=PORT)],
        volume_mounts=[VolumeMountArgs(name="config", mount_path="/etc/redis", read_only=True)],
        readiness_probe=ProbeArgs(tcp_socket=probe, period_seconds=3, failure_threshold=2),
        liveness_probe=ProbeArgs(tcp_socket=probe, period_seconds=10, failure_threshold=6),
    )
