"""The secrets of a stack, from Pulumi's encrypted configuration. Stack files never hold one."""

from dataclasses import dataclass

import pulumi

from stackfile import ResolvedStack

Secret = pulumi.Output[str] | None


@dataclass(frozen=True)
class Secrets:
    """Every secret of a deployment; None for those that the stack does not use."""

    deploy_token_user: Secret = None
    deploy_token: Secret = None
    keys: Secret = None
    redis_password: Secret = None
    engine_key: Secret = None
    hub_token: Secret = None


class MissingError(Exception):
    """Required secrets are not set; the message has the commands that set them."""


_HOW = {
    "deploy_token_user": "deployTokenUser -- USERNAME   (GitLab: Settings > Repository > Deploy tokens)",
    "deploy_token": "deployToken   (the token of that deploy token, scope read_registry)",
    "keys": "keys < keys.json   (made by: assist keys add USER --file keys.json)",
    "redis_password": 'redisPassword -- "$(openssl rand -hex 24)"',
}
_NAMES = {
    "deploy_token_user": "deployTokenUser",
    "deploy_token": "deployToken",
    "keys": "keys",
    "redis_password": "redisPassword",
    "engine_key": "engineKey",
    "hub_token": "hubToken",
}


def read(stack: ResolvedStack, config: pulumi.Config) -> Secrets:
    """Return the stack's secrets. Raises MissingError with each missing one and its command.

    Only ``get_secret`` is used: ``require`` would leave the plain value in the state for ever.
    """
    values = {field: config.get_secret(name) for field, name in _NAMES.items()}
    missing = [field for field in _needed(stack) if values[field] is None]
    if missing:
        commands = "\n".join(f"  pulumi config set --secret {_HOW[field]}" for field in missing)
        raise MissingError(f"secrets are missing; nothing was changed. Set the secrets with:\n{commands}")
    return Secrets(**values)


def _needed(stack: ResolvedStack) -> list[str]:
    needed = []
    if stack.kubernetes and stack.kubernetes.registry:
        needed += ["deploy_token_user", "deploy_token"]
    if stack.auth.mode == "keys":
        needed.append("keys")
    if stack.cache.kind == "redis":
        needed.append("redis_password")
    return needed
