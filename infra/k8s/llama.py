"""llama.cpp's server: the engine of stacks with ``engine.kind: openai`` and no ``engine.url``."""

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment, DeploymentSpecArgs
from pulumi_kubernetes.core.v1 import (
    ContainerArgs,
    ContainerPortArgs,
    LifecycleArgs,
    LifecycleHandlerArgs,
    PodTemplateSpecArgs,
    SleepActionArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra.k8s import pods, rollout, services
from infra.k8s.context import Context
from stackfile.kubernetes import LLAMA_PORT, LlamaPods

NAME = "llama"
# Seconds for kube-proxies to forget a terminating pod, which still serves meanwhile.
LEAVE_S = 5
# Seconds for the exit, after the time for the requests in the slots.
_MARGIN_S = 10
_PROBE_S = 5


class LlamaServer(pulumi.ComponentResource):
    """llama.cpp's server with one GGUF model from the store, behind the Service ``llama``."""

    def __init__(
        self,
        name: str,
        context: Context,
        settings: LlamaPods,
        *,
        priority_class: pulumi.Input[str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:LlamaServer", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.service = services.service(name, context, NAME, {"http": LLAMA_PORT}, child, metrics="http")
        self.deployment = _deployment(name, context, settings, priority_class, self)
        self.budget = services.disruption_budget(name, context, NAME, child)
        self.register_outputs({"service": self.service.metadata.name})


def command(context: Context, settings: LlamaPods) -> list[str]:
    """Return the argv that serves the stack's model."""
    options = {
        "alias": context.stack.model.id,
        "host": "0.0.0.0",  # noqa: S104 -- in a pod, NetworkPolicies decide who connects
        "port": LLAMA_PORT,
        "slots": context.stack.serving.slots,
        "context-length": context.stack.context_length,
        "threads": context.stack.serving.intra_threads or max(1, -(-settings.cpu_m // 1000)),
        "drain-s": round(context.stack.limits.grace_s),
    }
    argv = ["python", "-m", "serving.llama_server", pods.model_dir(context)]
    return argv + [f"--{name}={value}" for name, value in options.items()]


def _deployment(
    name: str,
    context: Context,
    settings: LlamaPods,
    priority_class: pulumi.Input[str] | None,
    parent: pulumi.Resource,
) -> Deployment:
    deadline_s = settings.startup_timeout_s + context.kubernetes.loader.wait_timeout_s
    return Deployment(
        name,
        metadata=context.metadata(NAME, NAME),
        spec=DeploymentSpecArgs(
            replicas=settings.replicas,
            strategy=rollout.one_more(),
            progress_deadline_seconds=deadline_s,
            revision_history_limit=3,
            selector=context.selector(NAME),
            template=_template(context, settings, priority_class),
        ),
        opts=pulumi.ResourceOptions(parent=parent, custom_timeouts=pods.timeouts(deadline_s + 60)),
    )


def _template(
    context: Context, settings: LlamaPods, priority_class: pulumi.Input[str] | None
) -> PodTemplateSpecArgs:
    image, resources = (
        context.kubernetes.images.triton,
        pods.size(settings.cpu_m, context.stack.memory.engine_mib),
    )
    return PodTemplateSpecArgs(
        metadata=ObjectMetaArgs(labels=context.labels(NAME) | pods.STORE_LABEL),
        spec=pods.pod(
            context,
            [_container(context, settings)],
            init_containers=[pods.wait_for_model(context, image, resources)],
            volumes=[pods.store_volume(read_only=True)],
            priority_class_name=priority_class,
            termination_grace_period_seconds=LEAVE_S + round(context.stack.limits.grace_s) + _MARGIN_S,
            **pods.placement(context, gpu=False),
        ),
    )


def _container(context: Context, settings: LlamaPods) -> ContainerArgs:
    return pods.container(
        NAME,
        # Triton's image for CPUs contains llama.cpp, one of its runtimes.
        context.kubernetes.images.triton,
        pods.size(settings.cpu_m, context.stack.memory.engine_mib),
        command=command(context, settings),
        ports=[ContainerPortArgs(name="http", container_port=LLAMA_PORT)],
        volume_mounts=[pods.store_mount(read_only=True)],
        startup_probe=pods.http_probe(
            "/health", "http", period_s=_PROBE_S, failures=-(-settings.startup_timeout_s // _PROBE_S)
        ),
        # No liveness probe: /health waits behind requests, and a busy server must not be killed.
        readiness_probe=pods.http_probe("/health", "http", period_s=_PROBE_S, failures=6, timeout_s=5),
        lifecycle=LifecycleArgs(pre_stop=LifecycleHandlerArgs(sleep=SleepActionArgs(seconds=LEAVE_S))),
    )
