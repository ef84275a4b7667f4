"""The pull secret of the private registry, from a deploy token."""

import base64
import json

import pulumi
from pulumi_kubernetes.core.v1 import Secret

from infra.k8s.context import PULL_SECRET, Context


class PullSecret(pulumi.ComponentResource):
    """The docker-registry Secret ``gitlab-registry``. ``user`` and ``token`` stay secret throughout."""

    def __init__(
        self,
        name: str,
        context: Context,
        *,
        user: pulumi.Input[str],
        token: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:PullSecret", name, None, opts)
        registry = context.kubernetes.registry
        login = pulumi.Output.all(user, pulumi.Output.secret(token)).apply(
            lambda pair: _docker_config(registry, *pair)
        )
        self.secret = Secret(
            name,
            metadata=context.metadata(PULL_SECRET, "registry"),
            type="kubernetes.io/dockerconfigjson",
            string_data={".dockerconfigjson": login},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def _docker_config(registry: str | None, user: str, token: str) -> str:
    auth = base64.b64encode(f"{user}:{token}".encode()).decode()
    return json.dumps({"auths": {registry: {"username": user, "password": token, "auth": auth}}})
