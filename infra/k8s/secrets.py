"""The Secrets that pods read. Their values come from Pulumi's encrypted configuration only."""

import pulumi
from pulumi_kubernetes.core.v1 import Secret

from infra.k8s.context import Context
from infra.k8s.loader import HUB_SECRET

KEYS_SECRET = "gateway-keys"  # noqa: S105 -- the Secret's name, not a secret
SETTINGS_SECRET = "gateway-settings"  # noqa: S105 -- the Secret's name, not a secret


class ServiceSecrets(pulumi.ComponentResource):
    """The hashed API keys, the gateway's secret settings and the model hub's token, each if given."""

    def __init__(
        self,
        name: str,
        context: Context,
        *,
        keys: pulumi.Input[str] | None,
        settings: dict[str, pulumi.Input[str]],
        hub_token: pulumi.Input[str] | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai-assist:k8s:ServiceSecrets", name, None, opts)
        contents: dict[str, dict[str, pulumi.Input[str]]] = {
            KEYS_SECRET: {"keys.json": keys} if keys is not None else {},
            SETTINGS_SECRET: settings,
            HUB_SECRET: {"token": hub_token} if hub_token is not None else {},
        }
        for secret, data in contents.items():
            if data:
                self._secret(f"{name}-{secret}", context, secret, data)
        self.register_outputs({})

    def _secret(self, name: str, context: Context, secret: str, data: dict[str, pulumi.Input[str]]) -> None:
        Secret(
            name,
            metadata=context.metadata(secret, "secrets"),
            type="Opaque",
            string_data={key: pulumi.Output.secret(value) for key, value in data.items()},
            opts=pulumi.ResourceOptions(parent=self),
        )
