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
    Service,
    ServicePortArgs,
    ServiceSpecArgs,
    SleepActionArgs,
    TopologySpreadConstraintArgs,
    VolumeArgs,
    VolumeMountArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget, PodDisruptionBudgetSpecArgs

from infra import naming
from infra.k8s import pods, rollout
from infra.k8s.context import Scope
from infra.k8s.secrets import KEYS_SECRET, SETTINGS_SECRET
from stackfile.environment import GatewayPaths, gateway_environment

NAME = "gateway"
KEYS_DIR = "/etc/ai-assist"
# What kube-proxies and load balancers take to forget a pod that ends; it serves meanwhile.
LEAVE_S = 5
_MARGIN_S = 10
# An engine at an address of its own runs already.
_ELSEWHERE_S = 300


class Gateway(pulumi.ComponentResource):
    """What editors talk to. ``settings`` are environment variables that the Secret of that name holds."""

    def __init__(
        self,
        name: str,
        scope: Scope,
        *,
        settings: tuple[str, ...] = (),
        priority_class: pulumi.Input[str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:Gateway", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.service = _service(name, scope, child)
        self.deployment = _deployment(name, scope, _template(scope, settings, priority_class), self)
        self.budget = _budget(name, scope, child)
        self.autoscaler = _autoscaler(name, scope, child) if scales(scope) else None
        self.register_outputs({"service": self.service.metadata.name})


def scales(scope: Scope) -> bool:
    """Return whether an autoscaler sets the replicas: the Deployment must not (pulumi-kubernetes 2491)."""
    return scope.kubernetes.gateway.max_replicas > scope.kubernetes.gateway.replicas


def environment(scope: Scope) -> dict[str, str]:
    """Return the gateway's environment without its secrets."""
    paths = GatewayPaths(Path(pods.model_dir(scope)), Path(KEYS_DIR) / "keys.json")
    return gateway_environment(scope.service, paths)


def _deployment(
    name: str, scope: Scope, template: PodTemplateSpecArgs, parent: pulumi.Resource
) -> Deployment:
    kubernetes = scope.kubernetes
    # It is ready when its engine is: a gateway that can complete nothing must get no requests.
    deadline_s = _engine_startup_s(scope) + kubernetes.loader.wait_s
    return Deployment(
        name,
        metadata=scope.metadata(NAME, NAME),
        spec=DeploymentSpecArgs(
            replicas=None if scales(scope) else kubernetes.gateway.replicas,
            strategy=rollout.one_more(),
            progress_deadline_seconds=deadline_s,
            revision_history_limit=3,
            selector=scope.selector(NAME),
            template=template,
        ),
        opts=pulumi.ResourceOptions(parent=parent, custom_timeouts=pods.timeouts(deadline_s + 60)),
    )


def _engine_startup_s(scope: Scope) -> int:
    if scope.service.engine.kind == "triton":
        return scope.kubernetes.triton.startup_s
    llama = scope.kubernetes.llama
    return llama.startup_s if llama else _ELSEWHERE_S


def _template(
    scope: Scope, settings: tuple[str, ...], priority_class: pulumi.Input[str] | None
) -> PodTemplateSpecArgs:
    gateway, image = scope.kubernetes.gateway, scope.kubernetes.images.gateway
    resources = pods.size(gateway.cpu_m, gateway.memory_mib)
    grace_s = LEAVE_S + round(scope.service.limits.grace_s) + _MARGIN_S
    keys = [_keys_volume()] if scope.service.auth.mode == "keys" else []
    return PodTemplateSpecArgs(
        metadata=ObjectMetaArgs(labels=scope.labels(NAME) | pods.STORE_LABEL),
        spec=pods.pod(
            scope,
            [_container(scope, settings)],
            init_containers=[pods.wait_for_model(scope, image, resources)],
            volumes=[pods.store_volume(read_only=True), *keys],
            priority_class_name=priority_class,
            termination_grace_period_seconds=grace_s,
            topology_spread_constraints=[_spread(scope, key) for key in ("hostname", "zone")],
            **pods.placement(scope, gpu=False),
        ),
    )


def _keys_volume() -> VolumeArgs:
    secret = SecretVolumeSourceArgs(secret_name=KEYS_SECRET, default_mode=0o440)
    return VolumeArgs(name="keys", secret=secret)


def _spread(scope: Scope, key: str) -> TopologySpreadConstraintArgs:
    prefix = "kubernetes.io" if key == "hostname" else "topology.kubernetes.io"
    return TopologySpreadConstraintArgs(
        max_skew=1,
        topology_key=f"{prefix}/{key}",
        when_unsatisfiable="ScheduleAnyway",
        label_selector=scope.selector(NAME),
    )


def _container(scope: Scope, settings: tuple[str, ...]) -> ContainerArgs:
    gateway, kubernetes = scope.service.gateway, scope.kubernetes
    mounts = [pods.store_mount(read_only=True)]
    if scope.service.auth.mode == "keys":
        mounts.append(VolumeMountArgs(name="keys", mount_path=KEYS_DIR, read_only=True))
    return pods.container(
        NAME,
        kubernetes.images.gateway,
        pods.size(kubernetes.gateway.cpu_m, kubernetes.gateway.memory_mib),
        command=["python", "-m", "gateway"],
        env=[EnvVarArgs(name=name, value=value) for name, value in environment(scope).items()]
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


def _service(name: str, scope: Scope, child: pulumi.ResourceOptions) -> Service:
    gateway = scope.service.gateway
    ports = {"http": gateway.port, "metrics": gateway.metrics_port}
    return Service(
        name,
        # Pulumi would wait for ready pods here, before it has even made the Deployment.
        metadata=scope.metadata(NAME, NAME, {"pulumi.com/skipAwait": "true"}),
        spec=ServiceSpecArgs(
            selector=naming.selector(scope.service, NAME),
            ports=[
                ServicePortArgs(name=key, port=port, target_port=key, app_protocol="http")
                for key, port in ports.items()
            ],
        ),
        opts=child,
    )


def _budget(name: str, scope: Scope, child: pulumi.ResourceOptions) -> PodDisruptionBudget:
    return PodDisruptionBudget(
        name,
        metadata=scope.metadata(NAME, NAME),
        spec=PodDisruptionBudgetSpecArgs(max_unavailable=1, selector=scope.selector(NAME)),
        opts=child,
    )


def _autoscaler(name: str, scope: Scope, child: pulumi.ResourceOptions) -> HorizontalPodAutoscaler:
    gateway = scope.kubernetes.gateway
    use = MetricTargetArgs(type="Utilization", average_utilization=gateway.cpu_percent)
    return HorizontalPodAutoscaler(
        name,
        metadata=scope.metadata(NAME, NAME),
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
