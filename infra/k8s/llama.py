"""llama.cpp's server: the engine of stacks whose ``engine.kind`` is ``openai`` and who name no address."""

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment, DeploymentSpecArgs
from pulumi_kubernetes.core.v1 import (
    ContainerArgs,
    ContainerPortArgs,
    LifecycleArgs,
    LifecycleHandlerArgs,
    PodTemplateSpecArgs,
    Service,
    ServicePortArgs,
    ServiceSpecArgs,
    SleepActionArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget, PodDisruptionBudgetSpecArgs

from infra import naming
from infra.k8s import pods, rollout
from infra.k8s.context import Scope
from stackfile.kubernetes import LLAMA_PORT, LlamaPods

NAME = "llama"
# What kube-proxies take to forget a pod that ends; it serves meanwhile.
LEAVE_S = 5
# What it lets its slots end in, and a little more to go.
DRAIN_S = 30
_MARGIN_S = 10
_PROBE_S = 5


class LlamaServer(pulumi.ComponentResource):
    """llama.cpp's server with one GGUF model from the store, behind the Service ``llama``."""

    def __init__(
        self,
        name: str,
        scope: Scope,
        settings: LlamaPods,
        *,
        priority_class: pulumi.Input[str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:LlamaServer", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.service = _service(name, scope, child)
        self.deployment = _deployment(name, scope, settings, priority_class, self)
        self.budget = PodDisruptionBudget(
            name,
            metadata=scope.metadata(NAME, NAME),
            spec=PodDisruptionBudgetSpecArgs(max_unavailable=1, selector=scope.selector(NAME)),
            opts=child,
        )
        self.register_outputs({"service": self.service.metadata.name})


def command(scope: Scope, settings: LlamaPods) -> list[str]:
    """Return the argv that serves the stack's model."""
    options = {
        "alias": scope.service.model.id,
        "host": "0.0.0.0",  # noqa: S104 -- in a pod, NetworkPolicies decide who connects
        "port": LLAMA_PORT,
        "slots": settings.slots,
        "context-length": scope.service.context_length,
        "threads": scope.service.serving.intra_threads or max(1, -(-settings.cpu_m // 1000)),
        "drain-s": DRAIN_S,
    }
    argv = ["python", "-m", "serving.llama_server", pods.model_dir(scope)]
    return argv + [f"--{name}={value}" for name, value in options.items()]


def _deployment(
    name: str,
    scope: Scope,
    settings: LlamaPods,
    priority_class: pulumi.Input[str] | None,
    parent: pulumi.Resource,
) -> Deployment:
    deadline_s = settings.startup_s + scope.kubernetes.loader.wait_s
    return Deployment(
        name,
        metadata=scope.metadata(NAME, NAME),
        spec=DeploymentSpecArgs(
            replicas=settings.replicas,
            strategy=rollout.one_more(),
            progress_deadline_seconds=deadline_s,
            revision_history_limit=3,
            selector=scope.selector(NAME),
            template=_template(scope, settings, priority_class),
        ),
        opts=pulumi.ResourceOptions(parent=parent, custom_timeouts=pods.timeouts(deadline_s + 60)),
    )


def _template(
    scope: Scope, settings: LlamaPods, priority_class: pulumi.Input[str] | None
) -> PodTemplateSpecArgs:
    image, resources = scope.kubernetes.images.triton, pods.size(settings.cpu_m, settings.memory_mib)
    return PodTemplateSpecArgs(
        metadata=ObjectMetaArgs(labels=scope.labels(NAME) | pods.STORE_LABEL),
        spec=pods.pod(
            scope,
            [_container(scope, settings)],
            init_containers=[pods.wait_for_model(scope, image, resources)],
            volumes=[pods.store_volume(read_only=True)],
            priority_class_name=priority_class,
            termination_grace_period_seconds=LEAVE_S + DRAIN_S + _MARGIN_S,
            **pods.placement(scope, gpu=False),
        ),
    )


def _container(scope: Scope, settings: LlamaPods) -> ContainerArgs:
    return pods.container(
        NAME,
        # Triton's image for CPUs has llama.cpp as one of its runtimes.
        scope.kubernetes.images.triton,
        pods.size(settings.cpu_m, settings.memory_mib),
        command=command(scope, settings),
        ports=[ContainerPortArgs(name="http", container_port=LLAMA_PORT)],
        volume_mounts=[pods.store_mount(read_only=True)],
        startup_probe=pods.http_probe(
            "/health", "http", period_s=_PROBE_S, failures=-(-settings.startup_s // _PROBE_S)
        ),
        # No liveness probe: /health waits behind the work, and a busy model must not get its server killed.
        readiness_probe=pods.http_probe("/health", "http", period_s=_PROBE_S, failures=6, timeout_s=5),
        lifecycle=LifecycleArgs(pre_stop=LifecycleHandlerArgs(sleep=SleepActionArgs(seconds=LEAVE_S))),
    )


def _service(name: str, scope: Scope, child: pulumi.ResourceOptions) -> Service:
    return Service(
        name,
        # Pulumi would wait for ready pods here, before it has even made the Deployment.
        metadata=scope.metadata(NAME, NAME, {"pulumi.com/skipAwait": "true"}),
        spec=ServiceSpecArgs(
            selector=naming.selector(scope.service, NAME),
            ports=[ServicePortArgs(name="http", port=LLAMA_PORT, target_port="http", app_protocol="http")],
        ),
        opts=child,
    )
