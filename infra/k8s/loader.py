"""The job that fills the model store."""

import hashlib
import json

import pulumi
from pulumi_kubernetes.batch.v1 import Job, JobSpecArgs
from pulumi_kubernetes.core.v1 import (
    ContainerArgs,
    EnvVarArgs,
    EnvVarSourceArgs,
    PodTemplateSpecArgs,
    SecretKeySelectorArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra.k8s import pods
from infra.k8s.context import Scope

NAME = "model-loader-job"
HUB_SECRET = "model-hub"  # noqa: S105 -- the Secret's name, not a secret


class LoaderJob(pulumi.ComponentResource):
    """``model-loader`` as a Job: it resumes what a killed one had fetched; where all is there, it ends.

    A Job's pods cannot be changed, so its name carries a digest of what it runs: another model is another
    Job, made before the last one goes. A failed Job is replaced at the next ``up``, not waited for again.
    """

    def __init__(
        self, name: str, scope: Scope, *, hub_token: bool = False, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("ai-assist:k8s:LoaderJob", name, None, opts)
        loader = scope.kubernetes.loader
        self.job = Job(
            name,
            metadata=scope.metadata(
                f"{NAME}-{_digest(scope, hub_token=hub_token)}",
                "loader",
                {"pulumi.com/replaceUnready": "true"},
            ),
            spec=JobSpecArgs(backoff_limit=loader.retries, template=_template(scope, hub_token=hub_token)),
            opts=pulumi.ResourceOptions(parent=self, custom_timeouts=pods.timeouts(loader.wait_s)),
        )
        self.register_outputs({"job": self.job.metadata.name})


def command(scope: Scope) -> list[str]:
    """Return the loader's argv for this service."""
    service = scope.service
    argv = ["model-loader", "fetch", service.model.id, "--store", pods.STORE_PATH]
    argv += ["--revision", service.model.revision]
    if service.model.format != "gguf":
        argv += ["--runtime", service.runtime, "--precision", service.precision]
    return argv


def _digest(scope: Scope, *, hub_token: bool) -> str:
    kubernetes = scope.kubernetes
    facts = [
        command(scope),
        [file.model_dump() for file in scope.service.model.files],
        kubernetes.images.loader,
        kubernetes.loader.model_dump(),
        kubernetes.store.model_dump(),
        kubernetes.triton.node_selector,
        kubernetes.registry,
        hub_token,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def _template(scope: Scope, *, hub_token: bool) -> PodTemplateSpecArgs:
    return PodTemplateSpecArgs(
        metadata=ObjectMetaArgs(labels=scope.labels("loader") | pods.STORE_LABEL),
        spec=pods.pod(
            scope,
            [_container(scope, hub_token=hub_token)],
            restart_policy="OnFailure",
            volumes=[pods.store_volume(read_only=False)],
            **pods.placement(scope, gpu=False),
        ),
    )


def _container(scope: Scope, *, hub_token: bool) -> ContainerArgs:
    loader = scope.kubernetes.loader
    proxies = {"HTTPS_PROXY": loader.https_proxy, "NO_PROXY": loader.no_proxy}
    environment = [EnvVarArgs(name=name, value=value) for name, value in proxies.items() if value]
    if hub_token:
        reference = SecretKeySelectorArgs(name=HUB_SECRET, key="token")
        environment.append(EnvVarArgs(name="HF_TOKEN", value_from=EnvVarSourceArgs(secret_key_ref=reference)))
    return pods.container(
        "loader",
        scope.kubernetes.images.loader,
        pods.size(loader.cpu_m, loader.memory_mib),
        command=command(scope),
        env=environment,
        volume_mounts=[pods.store_mount(read_only=False)],
    )
