"""Triton: the Deployment that holds the model, its headless Service and its disruption budget."""

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment, DeploymentSpecArgs
from pulumi_kubernetes.core.v1 import (
    ContainerArgs,
    ContainerPortArgs,
    LifecycleArgs,
    LifecycleHandlerArgs,
    PodTemplateSpecArgs,
    ResourceRequirementsArgs,
    Service,
    ServicePortArgs,
    ServiceSpecArgs,
    SleepActionArgs,
    VolumeMountArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget, PodDisruptionBudgetSpecArgs

from infra import naming
from infra.k8s import pods, rollout
from infra.k8s.context import Scope

NAME = "triton"
# The repository is built beside its place and swapped in, so the volume is the folder above it.
VOLUME = "/triton"
REPOSITORY = f"{VOLUME}/repository"
# The gateway's gRPC channel looks the headless Service up again within this time and then asks us no more.
LEAVE_S = 10
# What Triton allows its requests to end (--exit-timeout-secs), and some more to unload the model.
EXIT_S = 30 + 15
_PROBE_S = 5


class TritonServer(pulumi.ComponentResource):
    """Triton with one model from the store. Its Service is headless: gRPC then balances over every pod."""

    def __init__(
        self,
        name: str,
        scope: Scope,
        *,
        priority_class: pulumi.Input[str] | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:TritonServer", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.service = _service(name, scope, child)
        self.deployment = _deployment(name, scope, priority_class, self)
        self.budget = _budget(name, scope, child)
        self.register_outputs({"service": self.service.metadata.name})


def _deployment(
    name: str, scope: Scope, priority_class: pulumi.Input[str] | None, parent: pulumi.Resource
) -> Deployment:
    triton, loader = scope.kubernetes.triton, scope.kubernetes.loader
    deadline_s = triton.startup_s + loader.wait_s
    return Deployment(
        name,
        metadata=scope.metadata(NAME, NAME),
        spec=DeploymentSpecArgs(
            replicas=triton.replicas,
            strategy=rollout.triton_strategy(scope.service),
            progress_deadline_seconds=deadline_s,
            revision_history_limit=3,
            selector=scope.selector(NAME),
            template=_template(scope, priority_class),
        ),
        opts=pulumi.ResourceOptions(parent=parent, custom_timeouts=pods.timeouts(deadline_s + 60)),
    )


def _template(scope: Scope, priority_class: pulumi.Input[str] | None) -> PodTemplateSpecArgs:
    settings = scope.kubernetes.triton
    accelerator, image = scope.service.accelerator, scope.kubernetes.images.triton
    resources = pods.size(settings.cpu_m, settings.memory_mib, accelerator.count if accelerator.is_gpu else 0)
    preparing = pods.size(settings.cpu_m, settings.memory_mib)
    return PodTemplateSpecArgs(
        metadata=ObjectMetaArgs(labels=scope.labels(NAME) | pods.STORE_LABEL),
        spec=pods.pod(
            scope,
            [_container(scope, resources)],
            init_containers=[pods.wait_for_model(scope, image, preparing), _repository(scope, preparing)],
            volumes=[
                pods.store_volume(read_only=True),
                pods.memory_volume("repository", 64, medium=None),
                pods.memory_volume("shm", settings.shm_mib),
            ],
            priority_class_name=priority_class,
            termination_grace_period_seconds=LEAVE_S + EXIT_S,
            **pods.placement(scope, gpu=accelerator.is_gpu),
        ),
    )


def repository_command(scope: Scope) -> list[str]:
    """Return the argv that writes the model repository for this service."""
    service, serving = scope.service, scope.service.serving
    gpus = service.accelerator.count if service.accelerator.is_gpu else 0
    options = {
        "model-dir": pods.model_dir(scope),
        "runtime": service.runtime,
        "precision": service.precision,
        "context-length": service.context_length,
        "max-batch-size": serving.max_batch_size,
        "instances": serving.instances,
        "gpus": gpus,
        "split": service.accelerator.count if service.accelerator.split == "tensor" else 1,
        # The container's share of the CPUs, rounded up, where the stack leaves the choice to us.
        "intra-threads": serving.intra_threads or max(1, -(-scope.kubernetes.triton.cpu_m // 1000)),
        "max-queue-delay-us": serving.max_queue_delay_us,
        "max-queue-size": serving.max_queue_size,
    }
    argv = ["python", "-m", "serving.model_repository", REPOSITORY]
    return argv + [f"--{name}={value}" for name, value in options.items()]


def server_command(scope: Scope) -> list[str]:
    """Return the argv that starts Triton on that repository."""
    triton = scope.service.triton
    argv = ["python", "-m", "serving.tritonserver", REPOSITORY, "--host=0.0.0.0"]
    argv += [f"--http-port={triton.http_port}", f"--grpc-port={triton.grpc_port}"]
    argv += [f"--metrics-port={triton.metrics_port}"]
    return argv + (["--gpu"] if scope.service.accelerator.is_gpu else [])


def _repository(scope: Scope, resources: ResourceRequirementsArgs) -> ContainerArgs:
    mounts = [pods.store_mount(read_only=True), VolumeMountArgs(name="repository", mount_path=VOLUME)]
    command = repository_command(scope)
    image = scope.kubernetes.images.triton
    return pods.container("repository", image, resources, command=command, volume_mounts=mounts)


def _container(scope: Scope, resources: ResourceRequirementsArgs) -> ContainerArgs:
    triton, kubernetes = scope.service.triton, scope.kubernetes
    ports = {"http": triton.http_port, "grpc": triton.grpc_port, "metrics": triton.metrics_port}
    return pods.container(
        NAME,
        kubernetes.images.triton,
        resources,
        command=server_command(scope),
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
            failures=-(-kubernetes.triton.startup_s // _PROBE_S),
        ),
        readiness_probe=pods.http_probe("/v2/health/ready", "http", period_s=_PROBE_S, failures=2),
        # Answered by the HTTP front end alone; a busy model must not get its server killed.
        liveness_probe=pods.http_probe("/v2/health/live", "http", period_s=10, failures=6, timeout_s=10),
        lifecycle=LifecycleArgs(pre_stop=LifecycleHandlerArgs(sleep=SleepActionArgs(seconds=LEAVE_S))),
    )


def _service(name: str, scope: Scope, child: pulumi.ResourceOptions) -> Service:
    triton = scope.service.triton
    ports = {"grpc": triton.grpc_port, "http": triton.http_port, "metrics": triton.metrics_port}
    return Service(
        name,
        # Pulumi would wait for ready pods here and so put the image pulls one after the other.
        metadata=scope.metadata(triton.host.split(".")[0], NAME, {"pulumi.com/skipAwait": "true"}),
        spec=ServiceSpecArgs(
            cluster_ip="None",
            selector=naming.selector(scope.service, NAME),
            ports=[
                ServicePortArgs(name=key, port=port, target_port=key, app_protocol=_protocol(key))
                for key, port in ports.items()
            ],
        ),
        opts=child,
    )


def _protocol(port: str) -> str:
    return "kubernetes.io/h2c" if port == "grpc" else "http"


def _budget(name: str, scope: Scope, child: pulumi.ResourceOptions) -> PodDisruptionBudget:
    return PodDisruptionBudget(
        name,
        metadata=scope.metadata(NAME, NAME),
        spec=PodDisruptionBudgetSpecArgs(max_unavailable=1, selector=scope.selector(NAME)),
        opts=child,
    )
