"""The whole service on one cluster: every component in order."""

import pulumi

from infra.credentials import Secrets
from infra.k8s.context import Context
from infra.k8s.gateway import Gateway
from infra.k8s.ingress import GatewayIngress
from infra.k8s.llama import LlamaServer
from infra.k8s.loader import LoaderJob
from infra.k8s.namespace import ServiceNamespace
from infra.k8s.network import NetworkPolicies
from infra.k8s.redis import Redis
from infra.k8s.registry import PullSecret
from infra.k8s.secrets import ServiceSecrets
from infra.k8s.service_monitors import ServiceMonitors
from infra.k8s.store import ModelStore
from infra.k8s.triton import TritonServer
from stackfile import ResolvedStack


class Workloads(pulumi.ComponentResource):
    """Everything in the namespace. Without ``secrets``, the pods refer to Secrets made by other means."""

    def __init__(
        self,
        name: str,
        stack: ResolvedStack,
        *,
        secrets: Secrets | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:Workloads", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        home = ServiceNamespace(name, stack, child)
        context = Context(stack, home.namespace)
        NetworkPolicies(name, context, child)
        ModelStore(name, context, child)
        redis = _redis(name, context, secrets, child)
        settings = _secrets(name, context, secrets, redis, child) if secrets else _secret_settings(stack)
        LoaderJob(name, context, hub_token=bool(secrets and secrets.hub_token), opts=child)
        priority = home.priority_class
        if stack.engine.kind == "triton":
            TritonServer(f"{name}-triton", context, priority_class=priority, opts=child)
        elif context.kubernetes.llama:
            LlamaServer(
                f"{name}-llama", context, context.kubernetes.llama, priority_class=priority, opts=child
            )
        Gateway(f"{name}-gateway", context, settings=settings, priority_class=priority, opts=child)
        self.url = _url(name, context, child)
        _monitors(name, context, child)
        self.register_outputs({"url": self.url})


def _redis(
    name: str, context: Context, secrets: Secrets | None, child: pulumi.ResourceOptions
) -> pulumi.Output[str] | None:
    if context.stack.cache.kind != "redis":
        return None
    password = secrets.redis_password if secrets else None
    return Redis(f"{name}-redis", context, password=password, opts=child).url


def _secret_settings(stack: ResolvedStack) -> tuple[str, ...]:
    return ("ASSIST_REDIS_URL",) if stack.cache.kind == "redis" else ()


def _secrets(
    name: str,
    context: Context,
    secrets: Secrets,
    redis: pulumi.Output[str] | None,
    child: pulumi.ResourceOptions,
) -> tuple[str, ...]:
    """Make the Secrets; return the names of the gateway's settings in them."""
    settings: dict[str, pulumi.Input[str]] = {} if redis is None else {"ASSIST_REDIS_URL": redis}
    if (
        secrets.deploy_token_user is not None
        and secrets.deploy_token is not None
        and context.kubernetes.registry
    ):
        PullSecret(
            f"{name}-registry",
            context,
            user=secrets.deploy_token_user,
            token=secrets.deploy_token,
            opts=child,
        )
    if context.stack.engine.kind == "openai" and secrets.engine_key is not None:
        settings["ASSIST_ENGINE_KEY"] = secrets.engine_key
    keys = secrets.keys if context.stack.auth.mode == "keys" else None
    ServiceSecrets(name, context, keys=keys, settings=settings, hub_token=secrets.hub_token, opts=child)
    return tuple(settings)


def _url(name: str, context: Context, child: pulumi.ResourceOptions) -> pulumi.Output[str]:
    if context.kubernetes.ingress:
        return pulumi.Output.from_input(GatewayIngress(name, context, context.kubernetes.ingress, child).url)
    port = context.stack.gateway.port
    return pulumi.Output.format("http://gateway.{0}.svc:{1}", context.namespace, port)


def _monitors(name: str, context: Context, child: pulumi.ResourceOptions) -> None:
    if context.kubernetes.monitoring.service_monitor:
        triton = {"triton": "metrics"} if context.stack.engine.kind == "triton" else {}
        llama = {"llama": "http"} if context.kubernetes.llama else {}
        ServiceMonitors(name, context, {"gateway": "metrics", **triton, **llama}, child)
