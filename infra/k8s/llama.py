"""llama.cpp's server: the engine of stacks with ``engine.kind: openai`` and no ``engine.url``.

On a CPU it is the one in our image, on GPUs llama.cpp's own image with CUDA, which has other options and does
not wait for running requests by itself.
"""

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment, DeploymentSpecArgs
from pulumi_kubernetes.core.v1 import (
    ContainerArgs,
    ContainerPortArgs,
    EnvVarArgs,
    ExecActionArgs,
    LifecycleArgs,
    LifecycleHandlerArgs,
    PodTemplateSpecArgs,
    ResourceRequirementsArgs,
    SleepActionArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra.k8s import pods, rollout, services
from infra.k8s.context import Context
from stackfile.kubernetes import LLAMA_PORT, LlamaPods
from stackfile.memory import DEFAULT_SLOTS

NAME = "llama"
# Seconds for kube-proxies to forget a terminating pod, which still serves meanwhile.
LEAVE_S = 5
# Seconds for the exit, after the time for the requests in the slots.
_MARGIN_S = 10
_PROBE_S = 5
# More than any model has.
_ALL_LAYERS = 999
# llama.cpp's server cuts running requests off at its end; the pod's grace period bounds the wait for them.
_DRAIN = (
    f"sleep {LEAVE_S}; while curl -fs http://127.0.0.1:{LLAMA_PORT}/metrics |"
    " grep -Eq '^llamacpp:requests_(processing|deferred) [1-9]'; do sleep 1; done"
)


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


def cuda_command(context: Context, settings: LlamaPods) -> list[str]:
    """Return the argv of llama.cpp's own image, with all layers on the GPUs."""
    stack, slots = context.stack, context.stack.serving.slots or DEFAULT_SLOTS
    file = min(each.path for each in stack.model.files if each.path.endswith(".gguf"))
    options: dict[str, object] = {
        "model": f"{pods.model_dir(context)}/{file}",
        "alias": stack.model.id,
        "host": "0.0.0.0",  # noqa: S104 -- in a pod, NetworkPolicies decide who connects
        "port": LLAMA_PORT,
        "parallel": slots,
        # The sum of all slots.
        "ctx-size": stack.context_length * slots,
        "threads": stack.serving.intra_threads or max(1, -(-settings.cpu_m // 1000)),
        "n-gpu-layers": _ALL_LAYERS,
        # What the computed memory does not have: caches beside the slots (docs/adr/0024).
        "cache-ram": 0,
        "ctx-checkpoints": 0,
        "split-mode": "layer" if stack.accelerator.split == "layers" else "none",
    }
    if stack.accelerator.split == "layers":
        options["tensor-split"] = ",".join(["1"] * stack.accelerator.count)
    argv = ["/app/llama-server"]
    for name, value in options.items():
        argv += [f"--{name}", str(value)]
    # /slots would show the prompts of all users to each of them.
    return [*argv, "--swa-full", "--metrics", "--no-slots"]


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
            strategy=rollout.engine_strategy(context.stack),
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
    memory_mib, accelerator = context.stack.memory.engine_mib, context.stack.accelerator
    preparing = pods.size(settings.cpu_m, memory_mib)
    resources = pods.size(settings.cpu_m, memory_mib, accelerator.count if accelerator.is_gpu else 0)
    return PodTemplateSpecArgs(
        metadata=ObjectMetaArgs(labels=context.labels(NAME) | pods.STORE_LABEL),
        spec=pods.pod(
            context,
            [_container(context, settings, resources)],
            init_containers=[pods.wait_for_model(context, _image(context), preparing)],
            volumes=[pods.store_volume(read_only=True)],
            priority_class_name=priority_class,
            termination_grace_period_seconds=LEAVE_S + round(context.stack.limits.grace_s) + _MARGIN_S,
            **pods.placement(context, gpu=accelerator.is_gpu),
        ),
    )


def _image(context: Context) -> str:
    """Return the image: llama.cpp's own for GPUs, or Triton's for CPUs, which has llama.cpp as a runtime."""
    images = context.kubernetes.images
    return images.llama_cuda or images.triton if context.stack.accelerator.is_gpu else images.triton


def _container(context: Context, settings: LlamaPods, resources: ResourceRequirementsArgs) -> ContainerArgs:
    is_gpu = context.stack.accelerator.is_gpu
    leave = (
        LifecycleHandlerArgs(exec_=ExecActionArgs(command=["sh", "-c", _DRAIN]))
        if is_gpu
        else LifecycleHandlerArgs(sleep=SleepActionArgs(seconds=LEAVE_S))
    )
    return pods.container(
        NAME,
        _image(context),
        resources,
        command=(cuda_command if is_gpu else command)(context, settings),
        # CUDA would write compiled code to a home folder, which this user has not.
        env=[EnvVarArgs(name="CUDA_CACHE_DISABLE", value="1")] if is_gpu else None,
        ports=[ContainerPortArgs(name="http", container_port=LLAMA_PORT)],
        volume_mounts=[pods.store_mount(read_only=True)],
        startup_probe=pods.http_probe(
            "/health", "http", period_s=_PROBE_S, failures=-(-settings.startup_timeout_s // _PROBE_S)
        ),
        # No liveness probe: /health waits behind requests, and a busy server must not be killed.
        readiness_probe=pods.http_probe("/health", "http", period_s=_PROBE_S, failures=6, timeout_s=5),
        lifecycle=LifecycleArgs(pre_stop=leave),
    )
