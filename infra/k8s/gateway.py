"""The gateway: Deployment, Service, autoscaler and disruption budget."""

from pathlib import Path

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment, DeploymentSpecArgs
from pulumi_kubernetes.autoscaling.v2 import (
    CrossVersionObjectReferenceArgs,
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpecArgs,
    MetricSpecArgs,
    MetricTargetArgs,
    ResourceMetricSourceArgs,
)
from pulumi_kubernetes.core.v1 import (
    ContainerArgs,
    ContainerPortArgs,
    EnvVarArgs,
    EnvVarSourceArgs,
    LifecycleArgs,
    LifecycleHandlerArgs,
    PodTemplateSpecArgs,
    SecretKeySelectorArgs,
    SecretVolumeSourceArgs,
    SleepActionArgs,
    TopologySpreadConstraintArgs,
    VolumeArgs,
    VolumeMountArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra.k8s import pods, rollout, services
from infra.k8s.context import Context
from infra.k8s.secrets import KEYS_SECRET, SETTINGS_SECRET
from stackfile.environment import GatewayPaths, gateway_environment

NAME = "gateway"
KEYS_DIR = "/etc/ai-assist"
# Seconds for kube-proxies and load balancers to forget a terminating pod, which still serves meanwhile.
LEAVE_S = 5
_MARGIN_S = 10
# An external engine is running already.
_EXTERNAL_ENGINE_S = 300


class Gateway(pulumi.ComponentResource):
    """The gateway, which editors call. ``settings`` are the environment variables in the settings' Secret."""

    def __init__(
        self,
        name: str,
        context: Context,
        *,
        settings: tuple[str, ...] = (),
        priority_class: pulumi.Input[str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:Gateway", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        gateway = context.stack.gateway
        ports = {"http": gateway.port, "metrics": gateway.metrics_port}
        self.service = services.service(name, context, NAME, ports, child)
        self.deployment = _deployment(name, context, _template(context, settings, priority_class), self)
        self.budget = services.disruption_budget(name, context, NAME, child)
        self.autoscaler = _autoscaler(name, context, child) if scales(context) else None
        self.register_outputs({"service": self.service.metadata.name})


def scales(context: Context) -> bool:
    """Return whether an autoscaler sets the replicas instead of the Deployment (pulumi-kubernetes 2491)."""
    return context.kubernetes.gateway.max_replicas > context.kubernetes.gateway.replicas


def environment(context: Context) -> dict[str, str]:
    """Return the gateway's environment without its secrets."""
    paths = GatewayPaths(Path(pods.model_dir(context)), Path(KEYS_DIR) / "keys.json")
    return gateway_environment(context.stack, paths)


def _deployment(
    name: str, context: Context, template: PodTemplateSpecArgs, parent: pulumi.Resource
) -> Deployment:
    kubernetes = context.kubernetes
    # The gateway is ready when its engine is: without an engine it must not get requests.
    deadline_s = _engine_startup_s(context) + kubernetes.loader.wait_timeout_s
    return Deployment(
        name,
        metadata=context.metadata(NAME, NAME),
        spec=DeploymentSpecArgs(
            replicas=None if scales(context) else kubernetes.gateway.replicas,
            strategy=rollout.one_more(),
            progress_deadline_seconds=deadline_s,
            revision_history_limit=3,
            selector=context.selector(NAME),
            template=template,
        ),
        opts=pulumi.ResourceOptions(parent=parent, custom_timeouts=pods.timeouts(deadline_s + 60)),
    )


def _engine_startup_s(context: Context) -> int:
    if context.stack.engine.kind == "triton":
        return context.kubernetes.triton.startup_timeout_s
    llama = context.kubernetes.llama
    return llama.startup_timeout_s if llama else _EXTERNAL_ENGINE_S


def _template(
    context: Context, settings: tuple[str, ...], priority_class: pulumi.Input[str] | None
) -> PodTemplateSpecArgs:
    gateway, image = context.kubernetes.gateway, context.kubernetes.images.gateway
    resources = pods.size(gateway.cpu_m, context.stack.memory.gateway_mib)
    grace_s = LEAVE_S + round(context.stack.limits.grace_s) + _MARGIN_S
    keys = [_keys_volume()] if context.stack.auth.mode == "keys" else []
    return PodTemplateSpecArgs(
        metadata=ObjectMetaArgs(labels=context.labels(NAME) | pods.STORE_LABEL),
        spec=pods.pod(
            context,
            [_container(context, settings)],
            init_containers=[pods.wait_for_model(context, image, resources)],
            volumes=[pods.store_volume(read_only=True), *keys],
            priority_class_name=priority_class,
            termination_grace_period_seconds=grace_s,
            topology_spread_constraints=[_spread(context, key) for key in ("hostname", "zone")],
            **pods.placement(context, gpu=False),
        ),
    )


def _keys_volume() -> VolumeArgs:
    secret = SecretVolumeSourceArgs(secret_name=KEYS_SECRET, default_mode=0o440)
    return VolumeArgs(name="keys", secret=secret)


def _spread(context: Context, key: str) -> TopologySpreadConstraintArgs:
    prefix = "kubernetes.io" if key == "hostname" else "topology.kubernetes.io"
    return TopologySpreadConstraintArgs(
        max_skew=1,
        topology_key=f"{prefix}/{key}",
        when_unsatisfiable="ScheduleAnyway",
        label_selector=context.selector(NAME),
    )


def _container(context: Context, settings: tuple[str, ...]) -> ContainerArgs:
    gateway, kubernetes = context.stack.gateway, context.kubernetes
    mounts = [pods.store_mount(read_only=True)]
    if context.stack.auth.mode == "keys":
        mounts.append(VolumeMountArgs(name="keys", mount_path=KEYS_DIR, read_only=True))
    return pods.container(
        NAME,
        kubernetes.images.gateway,
        pods.size(kubernetes.gateway.cpu_m, context.stack.memory.gateway_mib),
        command=["python", "-m", "gateway"],
        env=[EnvVarArgs(name=name, value=value) for name, value in environment(context).items()]
        + [_from_secret(name) for name in settings],
        ports=[
            ContainerPortArgs(name="http", container_port=gateway.port),
            ContainerPortArgs(name="metrics", container_port=gateway.metrics_port),
        ],
        volume_mounts=mounts,
        startup_probe=pods.http_probe("/health/liveliness", "http", period_s=2, failures=60),
        readiness_probe=pods.http_probe("/ready", "http", period_s=3, failures=2),
        liveness_probe=pods.http_probe("/health/liveliness", "http", period_s=10, failures=6, timeout_s=5),
        lifecycle=LifecycleArgs(pre_stop=LifecycleHandlerArgs(sleep=SleepActionArgs(seconds=LEAVE_S))),
    )


def _from_secret(name: str) -> EnvVarArgs:
    reference = SecretKeySelectorArgs(name=SETTINGS_SECRET, key=name)
    return EnvVarArgs(name=name, value_from=EnvVarSourceArgs(secret_key_ref=reference))


def _autoscaler(name: str, context: Context, child: pulumi.ResourceOptions) -> HorizontalPodAutoscaler:
    gateway = context.kubernetes.gateway
    use = MetricTargetArgs(type="Utilization", average_utilization=gateway.cpu_percent)
    return HorizontalPodAutoscaler(
        name,
        metadata=context.metadata(NAME, NAME),
        spec=HorizontalPodAutoscalerSpecArgs(
            scale_target_ref=CrossVersionObjectReferenceArgs(
                api_version="apps/v1", kind="Deployment", name=NAME
            ),
            min_replicas=gateway.replicas,
            max_replicas=gateway.max_replicas,
            metrics=[
                MetricSpecArgs(type="Resource", resource=ResourceMetricSourceArgs(name="cpu", target=use))
            ],
        ),
        opts=child,
    )
