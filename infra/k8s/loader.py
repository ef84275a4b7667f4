"""The Job that fills the model store."""

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
from infra.k8s.context import Context

NAME = "model-loader-job"
HUB_SECRET = "model-hub"  # noqa: S105 -- the Secret's name, not a secret


class LoaderJob(pulumi.ComponentResource):
    """``model-loader`` as a Job: it resumes partial downloads, and ends at once where the model is complete.

    A Job's pods cannot be changed, so its name contains a digest of its specification: another model is
    another Job, made before the old one is deleted. The next ``up`` replaces a failed Job instead of waiting
    for it.
    """

    def __init__(
        self,
        name: str,
        context: Context,
        *,
        hub_token: bool = False,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:LoaderJob", name, None, opts)
        loader = context.kubernetes.loader
        self.job = Job(
            name,
            metadata=context.metadata(
                f"{NAME}-{_digest(context, hub_token=hub_token)}",
                "loader",
                {"pulumi.com/replaceUnready": "true"},
            ),
            spec=JobSpecArgs(backoff_limit=loader.retries, template=_template(context, hub_token=hub_token)),
            opts=pulumi.ResourceOptions(parent=self, custom_timeouts=pods.timeouts(loader.wait_timeout_s)),
        )
        self.register_outputs({"job": self.job.metadata.name})


def command(context: Context) -> list[str]:
    """Return the loader's argv for this stack."""
    stack = context.stack
    argv = ["model-loader", "fetch", stack.model.id, "--store", pods.STORE_PATH]
    argv += ["--revision", stack.model.revision]
    if stack.model.format != "gguf":
        argv += ["--runtime", stack.runtime, "--precision", stack.precision]
    if stack.accept_licence:
        argv += ["--accept-licence", stack.accept_licence]
    return argv


def _digest(context: Context, *, hub_token: bool) -> str:
    kubernetes = context.kubernetes
    facts = [
        command(context),
        [file.model_dump() for file in context.stack.model.files],
        kubernetes.images.loader,
        kubernetes.loader.model_dump(),
        context.stack.memory.loader_mib,
        kubernetes.store.model_dump(),
        kubernetes.engine.node_selector,
        kubernetes.registry,
        hub_token,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def _template(context: Context, *, hub_token: bool) -> PodTemplateSpecArgs:
    return PodTemplateSpecArgs(
        metadata=ObjectMetaArgs(labels=context.labels("loader") | pods.STORE_LABEL),
        spec=pods.pod(
            context,
            [_container(context, hub_token=hub_token)],
            restart_policy="OnFailure",
            volumes=[pods.store_volume(read_only=False)],
            **pods.placement(context, gpu=False),
        ),
    )


def _container(context: Context, *, hub_token: bool) -> ContainerArgs:
    loader = context.kubernetes.loader
    proxies = {"HTTPS_PROXY": loader.https_proxy, "NO_PROXY": loader.no_proxy}
    addresses = proxies | {"PIP_INDEX_URL": loader.package_index}
    environment = [EnvVarArgs(name=name, value=value) for name, value in addresses.items() if value]
    if hub_token:
        reference = SecretKeySelectorArgs(name=HUB_SECRET, key="token")
        environment.append(EnvVarArgs(name="HF_TOKEN", value_from=EnvVarSourceArgs(secret_key_ref=reference)))
    return pods.container(
        "loader",
        context.kubernetes.images.loader,
        pods.size(loader.cpu_m, context.stack.memory.loader_mib),
        command=command(context),
        env=environment,
        volume_mounts=[pods.store_mount(read_only=False)],
    )
