"""Triton: the Deployment that serves the model, its headless Service and its disruption budget."""

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment, DeploymentSpecArgs
from pulumi_kubernetes.core.v1 import (
    ContainerArgs,
    ContainerPortArgs,
    LifecycleArgs,
    LifecycleHandlerArgs,
    PodTemplateSpecArgs,
    ResourceRequirementsArgs,
    SleepActionArgs,
    VolumeMountArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra.k8s import pods, rollout, services
from infra.k8s.context import Context

NAME = "triton"
# The repository is built beside its final path and then renamed, so the volume is the folder above.
VOLUME = "/triton"
REPOSITORY = f"{VOLUME}/repository"
# Seconds within which the gateway's gRPC channel resolves the headless Service again and drops this pod.
LEAVE_S = 10
# Seconds to unload the model, after the time for running requests.
_UNLOAD_S = 15
_PROBE_S = 5


class TritonServer(pulumi.ComponentResource):
    """Triton with one model from the store. Its Service is headless, so that gRPC balances over every pod."""

    def __init__(
        self,
        name: str,
        context: Context,
        *,
        priority_class: pulumi.Input[str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:TritonServer", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        triton = context.stack.triton
        ports = {"grpc": triton.grpc_port, "http": triton.http_port, "metrics": triton.metrics_port}
        host = triton.host.split(".")[0]
        self.service = services.service(name, context, NAME, ports, child, headless_as=host)
        self.deployment = _deployment(name, context, priority_class, self)
        self.budget = services.disruption_budget(name, context, NAME, child)
        self.register_outputs({"service": self.service.metadata.name})


def _deployment(
    name: str, context: Context, priority_class: pulumi.Input[str] | None, parent: pulumi.Resource
) -> Deployment:
    triton, loader = context.kubernetes.triton, context.kubernetes.loader
    deadline_s = triton.startup_timeout_s + loader.wait_timeout_s
    return Deployment(
        name,
        metadata=context.metadata(NAME, NAME),
        spec=DeploymentSpecArgs(
            replicas=triton.replicas,
            strategy=rollout.engine_strategy(context.stack),
            progress_deadline_seconds=deadline_s,
            revision_history_limit=3,
            selector=context.selector(NAME),
            template=_template(context, priority_class),
        ),
        opts=pulumi.ResourceOptions(parent=parent, custom_timeouts=pods.timeouts(deadline_s + 60)),
    )


def _template(context: Context, priority_class: pulumi.Input[str] | None) -> PodTemplateSpecArgs:
    settings, memory_mib = context.kubernetes.triton, context.stack.memory.engine_mib
    accelerator, image = context.stack.accelerator, context.kubernetes.images.triton
    resources = pods.size(settings.cpu_m, memory_mib, accelerator.count if accelerator.is_gpu else 0)
    preparing = pods.size(settings.cpu_m, memory_mib)
    return PodTemplateSpecArgs(
        metadata=ObjectMetaArgs(labels=context.labels(NAME) | pods.STORE_LABEL),
        spec=pods.pod(
            context,
            [_container(context, resources)],
            init_containers=[pods.wait_for_model(context, image, preparing), _repository(context, preparing)],
            volumes=[
                pods.store_volume(read_only=True),
                pods.memory_volume("repository", 64, medium=None),
                pods.memory_volume("shm", settings.shm_mib),
            ],
            priority_class_name=priority_class,
            termination_grace_period_seconds=LEAVE_S + round(context.stack.limits.grace_s) + _UNLOAD_S,
            **pods.placement(context, gpu=accelerator.is_gpu),
        ),
    )


def repository_command(context: Context) -> list[str]:
    """Return the argv that writes the model repository for this stack."""
    stack, serving = context.stack, context.stack.serving
    gpus = stack.accelerator.count if stack.accelerator.is_gpu else 0
    options = {
        "model-dir": pods.model_dir(context),
        "runtime": stack.runtime,
        "precision": stack.precision,
        "context-length": stack.context_length,
        "max-batch-size": serving.max_batch_size,
        "slots": serving.slots,
        "instances": serving.instances,
        "gpus": gpus,
        # Without a setting in the stack: the container's share of the CPUs, rounded up.
        "intra-threads": serving.intra_threads or max(1, -(-context.kubernetes.triton.cpu_m // 1000)),
        "max-queue-delay-us": serving.max_queue_delay_us,
        "max-queue-size": serving.max_queue_size,
    }
    argv = ["python", "-m", "serving.model_repository", REPOSITORY]
    return argv + [f"--{name}={value}" for name, value in options.items()]


def server_command(context: Context) -> list[str]:
    """Return the argv that starts Triton on that repository."""
    triton = context.stack.triton
    argv = ["python", "-m", "serving.tritonserver", REPOSITORY, "--host=0.0.0.0"]
    argv += [f"--http-port={triton.http_port}", f"--grpc-port={triton.grpc_port}"]
    argv += [f"--metrics-port={triton.metrics_port}"]
    argv += [f"--exit-timeout-s={round(context.stack.limits.grace_s)}"]
    return argv + (["--gpu"] if context.stack.accelerator.is_gpu else [])


def _repository(context: Context, resources: ResourceRequirementsArgs) -> ContainerArgs:
    mounts = [pods.store_mount(read_only=True), VolumeMountArgs(name="repository", mount_path=VOLUME)]
    command = repository_command(context)
    image = context.kubernetes.images.triton
    return pods.container("repository", image, resources, command=command, volume_mounts=mounts)


def _container(context: Context, resources: ResourceRequirementsArgs) -> ContainerArgs:
    triton, kubernetes = context.stack.triton, context.kubernetes
    ports = {"http": triton.http_port, "grpc": triton.grpc_port, "metrics": triton.metrics_port}
    return pods.container(
        NAME,
        kubernetes.images.triton,
        resources,
        command=server_command(context),
        ports=[ContainerPortArgs(name=name, container_port=port) for name, port in ports.items()],
        volume_mounts=[
            pods.store_mount(read_only=True),
            VolumeMountArgs(name="repository", mount_path=VOLUME, read_only=True),
            VolumeMountArgs(name="shm", mount_path="/dev/shm"),  # noqa: S108 -- where Triton's backend shares memory
        ],
        startup_probe=pods.http_probe(
            "/v2/health/ready",
            "http",
            period_s=_PROBE_S,
            failures=-(-kubernetes.triton.startup_timeout_s // _PROBE_S),
        ),
        readiness_probe=pods.http_probe("/v2/health/ready", "http", period_s=_PROBE_S, failures=2),
        # Triton's HTTP front end alone responds; a busy server must not be killed.
        liveness_probe=pods.http_probe("/v2/health/live", "http", period_s=10, failures=6, timeout_s=10),
        lifecycle=LifecycleArgs(pre_stop=LifecycleHandlerArgs(sleep=SleepActionArgs(seconds=LEAVE_S))),
    )
