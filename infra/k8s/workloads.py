"""The whole service on one cluster, as a table of contents."""

import pulumi

from infra.credentials import Secrets
from infra.k8s.context import Scope
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
    """Everything in the namespace. Without ``secrets`` the pods refer to Secrets that somebody else makes."""

    def __init__(
        self,
        name: str,
        service: ResolvedStack,
        *,
        secrets: Secrets | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:Workloads", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        home = ServiceNamespace(name, service, child)
        scope = Scope(service, home.namespace)
        NetworkPolicies(name, scope, child)
        ModelStore(name, scope, child)
        redis = _redis(name, scope, secrets, child)
        settings = _secrets(name, scope, secrets, redis, child) if secrets else _secret_settings(service)
        LoaderJob(name, scope, hub_token=bool(secrets and secrets.hub_token), opts=child)
        priority = home.priority_class
        if service.engine.kind == "triton":
            TritonServer(f"{name}-triton", scope, priority_class=priority, opts=child)
        elif scope.kubernetes.llama:
            LlamaServer(f"{name}-llama", scope, scope.kubernetes.llama, priority_class=priority, opts=child)
        Gateway(f"{name}-gateway", scope, settings=settings, priority_class=priority, opts=child)
        self.url = _entry(name, scope, child)
        _monitors(name, scope, child)
        self.register_outputs({"url": self.url})


def _redis(
    name: str, scope: Scope, secrets: Secrets | None, child: pulumi.ResourceOptions
) -> pulumi.Output[str] | None:
    if scope.service.cache.kind != "redis":
        return None
    password = secrets.redis_password if secrets else None
    return Redis(f"{name}-redis", scope, password=password, opts=child).url


def _secret_settings(service: ResolvedStack) -> tuple[str, ...]:
    return ("ASSIST_REDIS_URL",) if service.cache.kind == "redis" else ()


def _secrets(
    name: str,
    scope: Scope,
    secrets: Secrets,
    redis: pulumi.Output[str] | None,
    child: pulumi.ResourceOptions,
) -> tuple[str, ...]:
    """Make the Secrets; return which of the gateway's settings are in one."""
    settings: dict[str, pulumi.Input[str]] = {} if redis is None else {"ASSIST_REDIS_URL": redis}
    if (
        secrets.deploy_token_user is not None
        and secrets.deploy_token is not None
        and scope.kubernetes.registry
    ):
        PullSecret(
            f"{name}-registry", scope, user=secrets.deploy_token_user, token=secrets.deploy_token, opts=child
        )
    if scope.service.engine.kind == "openai" and secrets.engine_key is not None:
        settings["ASSIST_ENGINE_KEY"] = secrets.engine_key
    keys = secrets.keys if scope.service.auth.mode == "keys" else None
    ServiceSecrets(name, scope, keys=keys, settings=settings, hub_token=secrets.hub_token, opts=child)
    return tuple(settings)


def _entry(name: str, scope: Scope, child: pulumi.ResourceOptions) -> pulumi.Output[str]:
    if scope.kubernetes.ingress:
        return pulumi.Output.from_input(GatewayIngress(name, scope, scope.kubernetes.ingress, child).url)
    port = scope.service.gateway.port
    return pulumi.Output.format("http://gateway.{0}.svc:{1}", scope.namespace, port)


def _monitors(name: str, scope: Scope, child: pulumi.ResourceOptions) -> None:
    if scope.kubernetes.monitoring.service_monitor:
        triton = ["triton"] if scope.service.engine.kind == "triton" else []
        ServiceMonitors(name, scope, ["gateway", *triton], child)
