"""The environment variables of each process, derived from the resolved stack, the same on every target."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stackfile.resolved import ResolvedStack
from stackfile.version import VERSION

# The gateway's settings that a worker needs too: the engine, the model, and the limits of one item.
_WORKER = frozenset(
    {
        "ASSIST_ENGINE", "ASSIST_ENGINE_URL", "TRITON_HOST", "TRITON_PORT", "ASSIST_MODEL",
        "ASSIST_MODEL_DIR", "ASSIST_CONTEXT_LENGTH", "ASSIST_FIM_TEMPLATE", "ASSIST_MAX_TOKENS_CAP",
        "ASSIST_MAX_N", "ASSIST_DEADLINE_S", "ASSIST_METRICS_HOST",
    }
)  # fmt: skip


@dataclass(frozen=True)
class GatewayPaths:
    """The paths of a target: the model's directory and the file of hashed keys."""

    model_dir: Path
    keys_file: Path


def gateway_environment(stack: ResolvedStack, paths: GatewayPaths) -> dict[str, str]:
    """Return the gateway's environment, without secrets; the variables are those of ``gateway.settings``."""
    limits, gateway, auth = stack.limits, stack.gateway, stack.auth
    environment = {
        "API_EXTERNAL_PORT": gateway.port,
        "ASSIST_HOST": gateway.host,
        "ASSIST_METRICS_HOST": gateway.metrics_host,
        "ASSIST_METRICS_PORT": gateway.metrics_port,
        "ASSIST_METRICS_USERS": stack.monitoring.users,
        "ASSIST_OTLP_ENDPOINT": stack.monitoring.traces,
        "ASSIST_RELEASE": VERSION,
        "ASSIST_ENGINE": stack.engine.kind,
        "ASSIST_ENGINE_URL": stack.engine.url,
        "TRITON_HOST": stack.triton.host,
        "TRITON_PORT": stack.triton.grpc_port,
        "ASSIST_MODEL": stack.model.id,
        "ASSIST_MODEL_REVISION": stack.model.revision,
        "ASSIST_MODEL_DIR": paths.model_dir,
        "ASSIST_CONTEXT_LENGTH": stack.context_length,
        "ASSIST_FIM_TEMPLATE": stack.model.fim.model_dump_json() if stack.model.fim else "none",
        "ASSIST_AUTH": auth.mode,
        "ASSIST_KEYS_FILE": paths.keys_file,
        "ASSIST_GITLAB_URL": auth.gitlab_url,
        "GITLAB_API_URL": auth.gitlab_api_url,
        "ASSIST_GITLAB_CHECK_PATH": auth.gitlab_check_path,
        "ASSIST_GITLAB_CHECK_JSON": auth.gitlab_check_json,
        "USE_LOCAL_CACHE": json.dumps(stack.cache.kind == "local"),
        "ASSIST_MAX_BODY_BYTES": limits.max_body_bytes,
        "ASSIST_MAX_IN_FLIGHT": limits.max_in_flight,
        "ASSIST_MAX_QUEUE": limits.max_queue,
        "ASSIST_QUEUE_TIMEOUT_S": limits.queue_timeout_s,
        "ASSIST_DEADLINE_S": limits.deadline_s,
        "ASSIST_ENGINE_WAIT_S": limits.engine_wait_s,
        "ASSIST_GRACE_S": limits.grace_s,
        "ASSIST_MAX_TOKENS_CAP": limits.max_tokens,
        "ASSIST_MAX_N": limits.max_choices,
        "ASSIST_DEFAULT_RPM": limits.requests_per_minute,
        "ASSIST_DEFAULT_TPM": limits.tokens_per_minute,
        "ASSIST_DEFAULT_CONCURRENCY": limits.concurrency,
    }
    return _as_text(environment) | _jobs_environment(stack)


def worker_environment(stack: ResolvedStack, paths: GatewayPaths, index: int = 0) -> dict[str, str]:
    """Return the environment of a host's ``index``-th worker (``python -m gateway.worker``), without secrets.

    A worker completes and scores as the gateway does, with the same settings. Each worker of a host has its
    own metrics port.
    """
    variables = gateway_environment(stack, paths)
    shared = {
        name: value
        for name, value in variables.items()
        if name in _WORKER or name in _jobs_environment(stack)
    }
    return shared | {"ASSIST_JOBS_METRICS_PORT": str(stack.jobs.metrics_port + index)}


def _jobs_environment(stack: ResolvedStack) -> dict[str, str]:
    """Return the settings that gateway and worker share; empty where jobs are off."""
    jobs = stack.jobs
    if not jobs.enabled:
        return {}
    return _as_text(
        {
            "ASSIST_JOBS_QUEUE": jobs.queue,
            "ASSIST_JOBS_RESULT_TTL_S": jobs.result_ttl_s,
            "ASSIST_JOBS_MAX_PER_KEY": jobs.max_per_key,
            "ASSIST_JOBS_MAX_WAITING": jobs.max_waiting,
            "ASSIST_JOBS_MAX_ITEMS": jobs.max_items,
            "ASSIST_JOBS_MAX_BYTES": jobs.max_bytes,
            "ASSIST_JOBS_MAX_RUNTIME_S": jobs.max_runtime_s,
            "ASSIST_JOBS_CONCURRENCY": jobs.concurrency,
        }
    )


def _as_text(environment: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in environment.items() if value is not None}
